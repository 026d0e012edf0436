"""The files of a JavaScript plugin as modules: scripts, ES modules, CommonJS and JSON, and each in the other.

Which file an import means is decided in javascript_resolve; here it is read, compiled and, for a CommonJS or
JSON file that is imported, given to the engine as a module made by hand, which runs the file when its turn
comes and then hands out ``module.exports`` as ``default`` and the names that its text promised.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ._quickjs_abi import ffi
from .failures import BadArtifact, Failure
from .javascript_api import (
    EVAL_COMPILE_ONLY,
    EVAL_MODULE,
    EVAL_SCRIPT,
    EXCEPTION,
    MODULE,
    NULL,
    PROPERTY,
    UNDEFINED,
    JSValue,
    lib,
    text_from_utf8,
)
from .javascript_engine import Engine
from .javascript_errors import drop_exception
from .javascript_exports import MAX_NAMES, scan
from .javascript_natives import make_string, plugin_of, throw
from .javascript_resolve import COMMONJS, ESM, JSON, NOTHING, UNKNOWN, Package, Resolver
from .javascript_values import Converter

_MAX_NESTED_IMPORTS = 100
_MAX_PACKAGE_JSON = 1 << 20
_PENDING, _REJECTED = 0, 2  # JSPromiseStateEnum
_BROKEN = "imports in a circle what could not be loaded"
_BOM = b"\xef\xbb\xbf"
_UNESCAPED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/@!$&'()*+,;=:"


class Modules:
    """All files of one plugin.

    Args:
        engine: What compiles them.
        files: Their content by name.
        values: The engine's converter.
        conditions: Which conditions of a package's exports hold.

    Attributes:
        refused: Why the last import was refused; empty when none was.
    """

    def __init__(
        self,
        engine: Engine,
        files: Mapping[str, memoryview],
        values: Converter,
        conditions: Iterable[str],
    ) -> None:
        self.refused = ""
        self._engine = engine
        self._context = engine.context
        self._files = files
        self._values = values
        self._resolver = Resolver(files, self._read_json, conditions)
        self._nested_imports = 0
        self._kinds: dict[str, str] = {}
        self._compiled: dict[str, JSValue] = {}
        self._exports: dict[str, list[str]] = {}
        self._loaded: dict[str, Any] = {}
        self._running: set[str] = set()
        self._forbidden: frozenset[str] = frozenset()
        self._importers: dict[str, set[str]] = {}
        self._broken: set[str] = set()

    # reading

    def read(self, name: str) -> bytes:
        """Read a file of source text.

        Raises:
            BadArtifact: It is not UTF-8.
        """
        if name == NOTHING:
            return b""
        source = bytes(self._files[name]).removeprefix(_BOM)
        try:
            source.decode()
        except UnicodeDecodeError as error:
            line = source.count(b"\n", 0, error.start) + 1
            raise BadArtifact(f"{name}:{line}: not UTF-8 text, so not JavaScript") from None
        return source

    def _read_json(self, name: str) -> Package | None:
        """Read a package.json; one that is no JSON object says nothing."""
        content = self._files[name]
        if len(content) > _MAX_PACKAGE_JSON:
            return None
        parsed = self._parse_json(name, bytes(content))
        try:
            found = self._values.from_engine(parsed)
        except Failure:
            return None
        finally:
            lib.JS_FreeValue(self._context, parsed)
        return found if isinstance(found, dict) else None

    def _parse_json(self, name: str, source: bytes) -> JSValue:
        source = source.removeprefix(_BOM)
        # SAFETY: `bytes` end with a zero byte, as the parser demands; the engine keeps no pointer to them.
        return lib.JS_ParseJSON(self._context, source, len(source), name.encode())

    def compile(self, name: str, source: bytes, kind: int) -> JSValue:
        """Compile source text without running it; the caller owns the result, which may be EXCEPTION."""
        # SAFETY: as in _parse_json.
        return lib.JS_Eval(self._context, source, len(source), name.encode(), kind | EVAL_COMPILE_ONLY)

    def kind(self, name: str) -> str:
        """Say how a file is to be read; where nothing declares it, what parses as CommonJS is that."""
        if name not in self._kinds:
            declared = self._resolver.kind(name)
            self._kinds[name] = self._tried(name) if declared == UNKNOWN else declared
        return self._kinds[name]

    def declared_kind(self, name: str) -> str:
        """Say what is declared about a file, which may be nothing: ``UNKNOWN``."""
        return self._resolver.kind(name)

    def _tried(self, name: str) -> str:
        if self.compile_commonjs(name):
            return COMMONJS
        drop_exception(self._context)
        return ESM

    def compile_commonjs(self, name: str) -> bool:
        """Compile a CommonJS file and keep the code until it runs; False with an exception pending."""
        try:
            compiled = self._compile_function(name)
        except BadArtifact as problem:
            throw(self._context, problem.message)
            return False
        if compiled.tag == EXCEPTION:
            return False
        self._compiled[name] = compiled
        return True

    def _compile_function(self, name: str) -> JSValue:
        """Compile a CommonJS file: a function around it, beginning in its first line, so that lines stay."""
        source = self.read(name)
        if source.startswith(b"#!"):
            source = b"//" + source[2:]
        head = b"(function (exports, require, module, __filename, __dirname) {"
        return self.compile(name, head + source + b"\n})", EVAL_SCRIPT)

    # import

    def find(self, base: str, specifier: str) -> str:
        """Find the file that an ``import`` means.

        Raises:
            LookupError: There is none.
        """
        name = self._resolver.resolve(base, specifier, ESM)
        if self._nested_imports:
            self._importers.setdefault(name, set()).add(base)
        if name in self._broken:
            raise LookupError(f"{base} imports {specifier!r}, which {_BROKEN}")
        if name in self._forbidden:
            raise LookupError(
                f"{base} imports {specifier!r}, which waits for it: one of them needs the other by import, "
                "and the other way round it is require(), which cannot wait"
            )
        return name

    def load(self, name: str) -> Any:
        """Make the module of an imported file; NULL with an exception pending when that fails."""
        if self.kind(name) != ESM:
            return self._make_module(name)
        if name in self._broken:
            return self.refuse(f"{name} {_BROKEN}")
        # The engine compiles what a file imports before it has finished the file itself.
        if self._nested_imports == _MAX_NESTED_IMPORTS:
            return self.refuse(f"{name} is imported through more than {_MAX_NESTED_IMPORTS} other files")
        try:
            source = self.read(name)
        except BadArtifact as problem:
            return self.refuse(problem.message)
        self._nested_imports += 1
        try:
            compiled = self.compile(name, source, EVAL_MODULE)
        finally:
            self._nested_imports -= 1
        if compiled.tag == EXCEPTION:
            self._break(name)
        if not self._nested_imports:
            self._importers.clear()
        if compiled.tag == EXCEPTION:
            return ffi.NULL
        # SAFETY: the context's list of modules keeps the module; the value's own reference is given back.
        lib.JS_FreeValue(self._context, compiled)
        return self.adopt(name, compiled)

    def _break(self, name: str) -> None:
        """Never use again what imports a file that failed: the engine frees that one and still points to it.

        Only a file in a circle can have been compiled before one that it imports.
        """
        waiting = [name]
        while waiting:
            for importer in self._importers.pop(waiting.pop(), ()):
                waiting.append(importer)
                if self._loaded.pop(importer, None):
                    self._broken.add(importer)

    def adopt(self, name: str, compiled: JSValue) -> Any:
        """Note a compiled module, and tell it its address."""
        # SAFETY: the payload of a MODULE value is the module itself, which lives as long as its context.
        module = ffi.cast("JSModuleDef *", compiled.u)
        meta = lib.JS_GetImportMeta(self._context, module)
        path = f"/{name}"
        folder = path.rpartition("/")[0] or "/"
        for key, text in ((b"url", _url(path)), (b"filename", path), (b"dirname", folder)):
            value = make_string(self._context, text)
            # SAFETY: the engine takes over `value`, also when it fails.
            lib.JS_DefinePropertyValueStr(self._context, meta, key, value, PROPERTY)
        lib.JS_FreeValue(self._context, meta)
        self._loaded[name] = module
        self._running.add(name)
        return module

    def refuse(self, reason: str) -> Any:
        """Throw a TypeError in the engine and return NULL."""
        self.refused = reason
        throw(self._context, reason)
        return ffi.NULL

    def _make_module(self, name: str) -> Any:
        """Make the module that stands for a CommonJS or JSON file."""
        module = lib.JS_NewCModule(self._context, name.encode(), _on_turn)
        if not module:
            return module
        names = ["default", *(self._promised(name) if self.kind(name) == COMMONJS else ())]
        self._exports[name] = names
        self._running.add(name)
        for export in names:
            # SAFETY: the engine copies the name.
            if lib.JS_AddModuleExport(self._context, module, export.encode()) < 0:
                return ffi.NULL
        return module

    def _promised(self, name: str) -> list[str]:
        """The names that a CommonJS file will export, by its text and those of what it re-exports."""
        names: dict[str, None] = {}
        seen, waiting = {name}, [name]
        while waiting and len(names) < MAX_NAMES:
            file = waiting.pop()
            try:
                found, again = scan(self.read(file))
            except BadArtifact:
                continue
            names |= dict.fromkeys(one for one in found if one != "default" and "\0" not in one)
            for specifier in again:
                try:
                    other = self._resolver.resolve(file, specifier, COMMONJS)
                except LookupError:
                    continue
                if other not in seen and self.kind(other) == COMMONJS:
                    seen.add(other)
                    waiting.append(other)
        return list(names)[:MAX_NAMES]

    def take_turn(self, module: Any) -> bool:
        """Run the file that a module of ours stands for, and fill its exports; False: it threw."""
        atom = lib.JS_GetModuleName(self._context, module)
        name = self._atom_text(atom)
        lib.JS_FreeAtom(self._context, atom)
        exports = self.run(name)
        if exports.tag == EXCEPTION:
            return False
        for export in self._exports[name]:
            value = (
                self._member(exports, export)
                if export != "default"
                else lib.JS_DupValue(self._context, exports)
            )
            # SAFETY: the engine takes over `value`, also when it fails.
            lib.JS_SetModuleExport(self._context, module, export.encode(), value)
        lib.JS_FreeValue(self._context, exports)
        self._running.discard(name)
        return True

    def _member(self, holder: JSValue, name: str) -> JSValue:
        if holder.tag in (NULL, UNDEFINED):
            return 0, UNDEFINED
        found = lib.JS_GetPropertyStr(self._context, holder, name.encode())
        if found.tag == EXCEPTION:
            drop_exception(self._context)
            return 0, UNDEFINED
        return found

    def _atom_text(self, atom: int) -> str:
        size = ffi.new("size_t *")
        pointer = lib.JS_AtomToCStringLen(self._context, size, atom)
        # SAFETY: the engine owns the bytes until JS_FreeCString; they are copied before.
        data = ffi.buffer(pointer, size[0])[:] if pointer else b""
        lib.JS_FreeCString(self._context, pointer)
        return text_from_utf8(data)

    # require

    def run(self, name: str) -> JSValue:
        """Run a CommonJS or JSON file, once, and return its exports, which the caller owns."""
        argv = ffi.new("JSValue[]", 2)
        for index, text in enumerate((name, self.kind(name))):
            argv[index] = make_string(self._context, text)
        # SAFETY: argv holds two values, which are given back below.
        exports = lib.JS_Call(self._context, self._engine.load, (0, UNDEFINED), 2, argv)
        for value in argv:
            lib.JS_FreeValue(self._context, value)
        return exports

    def find_required(self, base: str, specifier: str) -> str:
        """Find the file that a ``require()`` means: its kind and name, or ``!`` and why there is none."""
        try:
            name = self._resolver.resolve(base, specifier, COMMONJS)
        except LookupError as problem:
            return f"!{problem}"
        return self.kind(name) + name

    def make(self, name: str, kind: str) -> JSValue:
        """Make what the prelude's ``require`` needs of a file: a function, parsed JSON, or a namespace."""
        try:
            if kind == JSON:
                return self._parse_json(name, self.read(name))
            if kind == ESM:
                return self._require_module(name)
            compiled = self._compiled.pop(name, None) or self._compile_function(name)
        except BadArtifact as problem:
            return throw(self._context, problem.message)
        # SAFETY: the engine takes over `compiled`.
        return compiled if compiled.tag == EXCEPTION else lib.JS_EvalFunction(self._context, compiled)

    def _require_module(self, name: str) -> JSValue:
        """Run an ES module at once, as Node does since version 22, and return its namespace."""
        if name in self._loaded and name in self._running:
            # The engine aborts when a module that is being run is run again.
            return throw(self._context, f"{name} cannot be required while it is still being imported")
        before = frozenset(self._running)
        try:
            return self._run_module(name, before)
        finally:
            self._running &= before

    def _run_module(self, name: str, running: frozenset[str]) -> JSValue:
        module = self._loaded.get(name)
        if module is None:
            self._forbidden = running
            module = self.load(name)
            self._forbidden = frozenset()
        if not module:
            return 0, EXCEPTION
        value = lib.JS_DupValue(self._context, (int(ffi.cast("uintptr_t", module)), MODULE))
        # SAFETY: the engine takes over `value`; the context's list keeps the module itself.
        promise = lib.JS_EvalFunction(self._context, value)
        if promise.tag == EXCEPTION:
            return promise
        state = lib.JS_PromiseState(self._context, promise)
        result = lib.JS_PromiseResult(self._context, promise)
        lib.JS_FreeValue(self._context, promise)
        if state == _REJECTED:
            return lib.JS_Throw(self._context, result)
        lib.JS_FreeValue(self._context, result)
        if state == _PENDING:
            return throw(self._context, f"{name} has a top-level await, so it can be imported, not required")
        return lib.JS_GetModuleNamespace(self._context, module)

    def settle(self) -> None:
        """Note that no module is being run: no JavaScript is."""
        self._running.clear()

    def close(self) -> None:
        """Give back what was compiled and never run."""
        for compiled in self._compiled.values():
            lib.JS_FreeValue(self._context, compiled)
        self._compiled.clear()


def _url(path: str) -> str:
    data = path.encode("utf-8", "replace")
    if not data.translate(None, _UNESCAPED):
        return f"file://{path}"
    return "file://" + "".join(chr(byte) if byte in _UNESCAPED else f"%{byte:02X}" for byte in data)


@ffi.callback("JSModuleInitFunc", error=-1)
def _on_turn(context: Any, module: Any) -> int:
    return 0 if plugin_of(context).modules.take_turn(module) else -1


@ffi.callback("JSModuleNormalizeFunc", error=ffi.NULL)
def on_normalize(context: Any, base: Any, name: Any, _opaque: Any) -> Any:
    """The engine asks which file an import means; it frees the copy that js_strdup makes."""
    modules: Modules = plugin_of(context).modules
    try:
        found = modules.find(_c_text(base), _c_text(name))
    except LookupError as problem:
        return modules.refuse(str(problem))
    return lib.js_strdup(context, found.encode())


@ffi.callback("JSModuleLoaderFunc", error=ffi.NULL)
def on_load_module(context: Any, name: Any, _opaque: Any) -> Any:
    """The engine asks for the module of a file that it does not know yet."""
    return plugin_of(context).modules.load(_c_text(name))


def _c_text(pointer: Any) -> str:
    # SAFETY: the engine passes a string that ends with a zero byte.
    text: Any = ffi.string(pointer)
    return str(text, "utf-8", "replace")
