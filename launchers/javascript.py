"""JavaScript plugins: scripts and ES modules in the quickjs-ng engine.

A function is a top-level function of a script or an export of a module; what it returns may be a
promise. Relative imports reach the plugin's own files, every other import is refused. The engine is
taken as escapable: the jail around this process is the boundary, and the limits here only make failures
kind, so that a plugin which runs out of memory or time gets an exception instead of a death.
"""

import time
from typing import Any

from ._quickjs_abi import ffi
from .artifact import Artifact, Value
from .failures import BadArtifact, Failure, LimitReached, NoSuchFunction, PluginRaised
from .javascript_engine import (
    EVAL_COMPILE_ONLY,
    EVAL_MODULE,
    EVAL_SCRIPT,
    EXCEPTION,
    NULL,
    OBJECT,
    STRING,
    STRING_ROPE,
    UNDEFINED,
    UNINITIALIZED,
    Engine,
    JSValue,
    lib,
    text_of,
)
from .javascript_source import bad_source, further, parameters, top_level_constants
from .javascript_values import Converter

_PENDING, _REJECTED, _NO_PROMISE = 0, 2, -1  # JSPromiseStateEnum
_MAX_MESSAGE = 4096
_MAX_STACK_TEXT = 32768
_MAX_ARGUMENTS = 64
_MAX_NESTED_IMPORTS = 100

_ready: Engine | None = None


def prepare() -> None:
    """Warm the engine up and leave one fresh context, which the children share copy-on-write.

    Raises:
        RuntimeError: The engine does not do what the binding expects of it.
    """
    global _ready  # noqa: PLW0603  # what the fork hands over
    source = (
        b"import { twice } from './twice.js';\n"
        b"export async function warm(data, more) {\n"
        b"  try { null.x } catch (error) { more.error = String(error) }\n"
        b"  more.local = new Date().getTimezoneOffset() !== undefined && /a+b/.test('aab');\n"
        b"  return [await twice(data), more, JSON.parse('[1.5]'), new TextDecoder().decode(data)] }\n"
        b"export function fail() { throw new Error('warm') }\n"
    )
    files = {"warm.mjs": memoryview(source), "twice.js": memoryview(b"export const twice = (data) => data")}
    plugin = load(Artifact("warm", "warm.mjs", files))
    plugin.functions()
    for _ in range(3):
        result = plugin("warm", [b"ab", {"text": "\u20ac", "half": 0.5, "big": 1 << 60, "none": None}])
        more = {"text": "\u20ac", "half": 0.5, "big": 1 << 60, "none": None, "local": True}
        more["error"] = "TypeError: cannot read property 'x' of null"
        if result != [b"ab", more, [1.5], "ab"]:
            raise RuntimeError(f"the JavaScript engine answered {result!r}: this build of it is not usable")
        try:
            plugin("fail", [])
        except PluginRaised:
            pass
    plugin.close()
    _ready = Engine()


def load(artifact: Artifact) -> "JavaScriptPlugin":
    """Compile and run a plugin's entry file.

    Raises:
        BadArtifact: It is not JavaScript, or it imports what it cannot have.
        PluginRaised: Its top level threw.
        LimitReached: It ran out of memory.
    """
    global _ready
    if artifact.options:
        raise BadArtifact(
            f'"javascript" in plugin.json has the unknown key {min(artifact.options)!r}; it has none'
        )
    # Used up: no two plugins share a context.
    engine, _ready = _ready or Engine(), None
    return JavaScriptPlugin(engine, artifact)


class JavaScriptPlugin:
    """A loaded plugin.

    Attributes:
        deadline: ``time.monotonic()`` seconds at which the engine interrupts the call; 0.0 for never.
    """

    def __init__(self, engine: Engine, artifact: Artifact) -> None:
        self.deadline = 0.0
        self._engine = engine
        self._context = engine.context
        self._files = artifact.files
        self._interrupted = False
        self._refused = ""
        self._nested_imports = 0
        self._functions: dict[str, JSValue] = {}
        self._argv = ffi.new("JSValue[]", _MAX_ARGUMENTS)
        self._job_context = ffi.new("JSContext **")
        self._values = Converter(engine, self._failure)
        # The callbacks find their plugin by this handle, which must live as long as the runtime.
        self._handle = ffi.new_handle(self)
        engine.start(artifact.memory_limit, artifact.stack_limit)
        lib.JS_SetInterruptHandler(engine.runtime, _on_interrupt, self._handle)
        lib.JS_SetModuleLoaderFunc(engine.runtime, _on_normalize, _on_load_module, self._handle)
        self._source = self._read(artifact.entry)
        self._namespace = self._run(artifact.entry)

    # loading

    def _read(self, name: str) -> bytes:
        source = bytes(self._files[name]).removeprefix(b"\xef\xbb\xbf")
        if not source.strip():
            raise BadArtifact(f"{name} is empty; a JavaScript plugin defines at least one function")
        try:
            source.decode()
        except UnicodeDecodeError as error:
            line = source.count(b"\n", 0, error.start) + 1
            raise BadArtifact(f"{name}:{line}: not UTF-8 text, so not JavaScript") from None
        return source

    def _run(self, entry: str) -> JSValue | None:
        """Run the entry file; the answer is the module's namespace, or None for a script."""
        compiled, is_module = self._compile_entry(entry)
        # SAFETY: the payload of a MODULE value is the module itself, which lives as long as its context.
        module = ffi.cast("JSModuleDef *", compiled.u)
        # SAFETY: the engine takes over `compiled`.
        result = lib.JS_EvalFunction(self._context, compiled)
        if result.tag == EXCEPTION:
            failure = self._failure()
            # A module that compiled but does not start could not be linked: an import names no export.
            raise bad_source(entry, failure) if is_module else failure
        settled = self._await(result, f"the top level of {entry}")
        lib.JS_FreeValue(self._context, settled)
        return lib.JS_GetModuleNamespace(self._context, module) if is_module else None

    def _compile_entry(self, entry: str) -> tuple[JSValue, bool]:
        """Compile as a script and, where that fails, as a module.

        When both fail, the parse that came further through the file says what the author meant.
        """
        first: Failure | None = None
        if not entry.endswith(".mjs"):
            compiled = self._compile(entry, self._source, EVAL_SCRIPT)
            if compiled.tag != EXCEPTION:
                return compiled, False
            first = self._failure()
        compiled = self._compile(entry, self._source, EVAL_MODULE)
        if compiled.tag != EXCEPTION:
            return compiled, True
        second = self._failure()
        if self._refused:
            raise BadArtifact(self._refused)
        raise bad_source(entry, second if first is None else further(first, second, entry))

    def _compile(self, name: str, source: bytes, kind: int) -> JSValue:
        # SAFETY: `bytes` end with a zero byte, as the parser demands; the engine keeps no pointer to them.
        return lib.JS_Eval(self._context, source, len(source), name.encode(), kind | EVAL_COMPILE_ONLY)

    def load_module(self, name: str) -> Any:
        """Compile an imported file; NULL with an exception pending when that fails."""
        try:
            source = self._read(name)
        except BadArtifact as problem:
            return self.refuse(problem.message)
        # The engine compiles what a file imports before it has finished the file itself.
        if self._nested_imports == _MAX_NESTED_IMPORTS:
            return self.refuse(f"{name} is imported through more than {_MAX_NESTED_IMPORTS} other files")
        self._nested_imports += 1
        try:
            compiled = self._compile(name, source, EVAL_MODULE)
        finally:
            self._nested_imports -= 1
        if compiled.tag == EXCEPTION:
            return ffi.NULL
        # SAFETY: the context's list of modules keeps the module; the value's own reference is given back.
        lib.JS_FreeValue(self._context, compiled)
        return ffi.cast("JSModuleDef *", compiled.u)

    def refuse(self, reason: str) -> Any:
        """Throw a TypeError in the engine, which shortens its text, and return NULL."""
        self._refused = reason
        lib.JS_ThrowTypeError(self._context, b"%s", ffi.new("char[]", reason.encode()))
        return ffi.NULL

    def resolve_import(self, base: str, name: str) -> str:
        """Turn the text of an import into the name of one of the plugin's files.

        Raises:
            LookupError: There is no such file, or the import does not name a file at all.
        """
        if not name.startswith(("./", "../")):
            raise LookupError(f"{base} imports {name!r}; a plugin imports its own files only, as './name.js'")
        path: list[str] = base.split("/")[:-1]
        for part in name.split("/"):
            if part == ".." and path:
                path.pop()
            elif part == "..":
                raise LookupError(f"{base} imports {name!r}, which lies outside of the plugin")
            elif part not in ("", "."):
                path.append(part)
        if "/".join(path) not in self._files:
            raise LookupError(f"{base} imports {name!r}, but the plugin has no file {'/'.join(path)!r}")
        return "/".join(path)

    # calling

    def __call__(self, function: str, args: list[Value]) -> Value:
        """Call a function and, if it returns a promise, run until that is settled.

        Raises:
            NoSuchFunction: The plugin has no function of this name.
            PluginRaised: It threw, or its promise was rejected or never settles.
            LimitReached: It ran out of time or memory.
            BadArguments: An argument cannot travel.
            BadValue: The result cannot travel.
        """
        self._interrupted = False
        target = self._functions.get(function) or self._find(function)
        count = len(args)
        argv = self._argv if count <= _MAX_ARGUMENTS else ffi.new("JSValue[]", count)
        made: list[JSValue] = []
        try:
            for index, arg in enumerate(args):
                value = self._values.to_engine(arg)
                argv[index] = value
                if type(value) is not tuple:
                    made.append(value)
            # SAFETY: argv holds `count` values, owned by `made` until the call is over.
            result = lib.JS_Call(self._context, target, (0, UNDEFINED), count, argv)
        finally:
            for value in made:
                lib.JS_FreeValue(self._context, value)
        if result.tag == EXCEPTION:
            raise self._failure()
        settled = self._await(result, f"{function}()")
        try:
            return self._values.from_engine(settled)
        finally:
            lib.JS_FreeValue(self._context, settled)

    def _await(self, result: JSValue, name: str) -> JSValue:
        """Run what is queued; where ``result`` is a promise, exchange it for what it was settled with."""
        try:
            if lib.JS_IsJobPending(self._engine.runtime):
                self._run_jobs()
            state = lib.JS_PromiseState(self._context, result) if result.tag == OBJECT else _NO_PROMISE
            if state == _NO_PROMISE:
                # SAFETY: a reference for the caller; that of `result` goes below.
                return lib.JS_DupValue(self._context, result)
            if state == _PENDING:
                if lib.JS_HasException(self._context):
                    raise self._failure()  # there was no memory to reject it
                raise PluginRaised(
                    f"{name} waits for a promise that nothing can settle any more: "
                    "no work is left to run, and there are no timers"
                )
            settled = lib.JS_PromiseResult(self._context, result)
        finally:
            lib.JS_FreeValue(self._context, result)
        if state == _REJECTED:
            try:
                raise self._describe(settled)
            finally:
                lib.JS_FreeValue(self._context, settled)
        return settled

    def _run_jobs(self) -> None:
        runtime = self._engine.runtime
        while lib.JS_IsJobPending(runtime):
            if lib.JS_ExecutePendingJob(runtime, self._job_context) < 0:
                raise self._failure()
            if self._late():
                raise self._out_of_time()

    def _late(self) -> bool:
        """Say whether the engine has to stop; it asks every few thousand steps."""
        if self.deadline and time.monotonic() > self.deadline:
            self._interrupted = True
        return self._interrupted

    # functions

    def _find(self, function: str) -> JSValue:
        """Look a function up and keep it: a name is bound at its first call."""
        found = self._look_up(function)
        if found is None:
            raise NoSuchFunction(function, list(self.functions()))
        self._functions[function] = found
        return found

    def _look_up(self, name: str) -> JSValue | None:
        """Find a function of the plugin, never one of the engine's own; the caller owns it."""
        if self._namespace is not None:
            return self._property(self._namespace, name)
        own = self._property(self._engine.global_object, name)
        if own is not None and name in self._names(self._engine.global_object):
            return own
        # A top-level const or let is no property; only code can read it, and only if it is a name.
        found = self._evaluate(name) if name.replace("$", "_").isidentifier() else None
        if own is not None:
            builtin = found is not None and lib.JS_IsStrictEqual(self._context, found, own)
            lib.JS_FreeValue(self._context, own)
            if builtin:
                lib.JS_FreeValue(self._context, found)
                return None
        return found

    def _names(self, value: JSValue) -> list[str]:
        try:
            return self._values.names(value)
        except Failure:
            return []

    def _property(self, holder: JSValue, name: str) -> JSValue | None:
        key = name.encode("utf-8", "replace")
        atom = lib.JS_NewAtomLen(self._context, key, len(key))
        value = lib.JS_GetProperty(self._context, holder, atom)
        lib.JS_FreeAtom(self._context, atom)
        return self._only_function(value)

    def _evaluate(self, name: str) -> JSValue | None:
        code = name.encode()
        return self._only_function(lib.JS_Eval(self._context, code, len(code), b"<frys>", EVAL_SCRIPT))

    def _only_function(self, value: JSValue) -> JSValue | None:
        if lib.JS_IsFunction(self._context, value):
            return value
        if value.tag == EXCEPTION:
            value = lib.JS_GetException(self._context)
        lib.JS_FreeValue(self._context, value)
        return None

    def functions(self) -> dict[str, str]:
        """Name the plugin's functions with their parameters as they stand in the source."""
        holder = self._engine.global_object if self._namespace is None else self._namespace
        found = {name: self._signature(name, self._property(holder, name)) for name in self._names(holder)}
        if self._namespace is None:
            for name in top_level_constants(self._source.decode()):
                found[name] = self._signature(name, self._look_up(name))
        return {name: signature for name, signature in found.items() if signature}

    def _signature(self, name: str, function: JSValue | None) -> str:
        """Describe a function, which is freed; empty for a class, which cannot be called."""
        if function is None:
            return ""
        source = text_of(self._context, function) or ""
        self._drop_exception()
        prefix = "async " if lib.JS_IsAsyncFunction(function) else ""
        lib.JS_FreeValue(self._context, function)
        return "" if source.startswith("class") else f"{prefix}{name}({parameters(source)})"

    # failures

    def _failure(self) -> Failure:
        """Take the engine's pending exception."""
        exception = lib.JS_GetException(self._context)
        try:
            return self._describe(exception)
        finally:
            lib.JS_FreeValue(self._context, exception)

    def _describe(self, thrown: JSValue) -> Failure:
        """Say what was thrown. Reading it may run the plugin's code, which may throw again or hang."""
        is_error = lib.JS_IsError(thrown)
        message = self._thrown_text(thrown, is_error)
        if self._interrupted:
            return self._out_of_time()
        # Without the memory for an exception the engine throws null, or nothing at all.
        if thrown.tag in (NULL, UNINITIALIZED) or (is_error and message == "InternalError: out of memory"):
            return self._out_of_memory()
        if not is_error:
            return PluginRaised(message)
        stack = lib.JS_GetPropertyStr(self._context, thrown, b"stack")
        trace = text_of(self._context, stack) if stack.tag in (STRING, STRING_ROPE) else ""
        lib.JS_FreeValue(self._context, stack)
        self._drop_exception()
        return PluginRaised(message, f"{message}\n{trace}"[:_MAX_STACK_TEXT].rstrip())

    def _thrown_text(self, thrown: JSValue, is_error: bool) -> str:
        text = None
        if thrown.tag == OBJECT and not is_error:
            json = lib.JS_JSONStringify(self._context, thrown, (0, UNDEFINED), (0, UNDEFINED))
            text = text_of(self._context, json) if json.tag in (STRING, STRING_ROPE) else None
            lib.JS_FreeValue(self._context, json)
        elif thrown.tag != UNINITIALIZED:
            text = text_of(self._context, thrown)
        self._drop_exception()
        return (text or "a thrown value that cannot be shown as text")[:_MAX_MESSAGE]

    def _drop_exception(self) -> None:
        lib.JS_FreeValue(self._context, lib.JS_GetException(self._context))

    def _out_of_time(self) -> LimitReached:
        return LimitReached("time", "the plugin was interrupted at its deadline")

    def _out_of_memory(self) -> LimitReached:
        return LimitReached("memory", "the plugin used up the memory of its JavaScript engine")

    def close(self) -> None:
        """Free the engine. A plugin process just ends instead; warming up and the tests use this."""
        if self._namespace is not None:
            lib.JS_FreeValue(self._context, self._namespace)
        for value in self._functions.values():
            lib.JS_FreeValue(self._context, value)
        self._functions.clear()
        self._engine.close()


# Callbacks of the engine. What cffi allocates for them exists before any fork (see javascript_engine).


@ffi.callback("JSInterruptHandler", error=1)
def _on_interrupt(_runtime: Any, handle: Any) -> int:
    # SAFETY: the handle belongs to the plugin whose runtime asks; the plugin keeps it alive.
    return ffi.from_handle(handle)._late()  # type: ignore[no-any-return]


@ffi.callback("JSModuleNormalizeFunc", error=ffi.NULL)
def _on_normalize(context: Any, base: Any, name: Any, handle: Any) -> Any:
    # SAFETY: as in _on_interrupt; the engine frees the copy that js_strdup makes.
    plugin: JavaScriptPlugin = ffi.from_handle(handle)
    try:
        found = plugin.resolve_import(_c_text(base), _c_text(name))
    except LookupError as problem:
        return plugin.refuse(str(problem))
    return lib.js_strdup(context, found.encode())


@ffi.callback("JSModuleLoaderFunc", error=ffi.NULL)
def _on_load_module(_context: Any, name: Any, handle: Any) -> Any:
    # SAFETY: as in _on_interrupt.
    plugin: JavaScriptPlugin = ffi.from_handle(handle)
    return plugin.load_module(_c_text(name))


def _c_text(pointer: Any) -> str:
    # SAFETY: the engine passes a string that ends with a zero byte.
    text: Any = ffi.string(pointer)
    return str(text, "utf-8", "replace")
