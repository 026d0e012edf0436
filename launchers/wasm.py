"""The launcher module for WebAssembly: finds out which ABI a module follows and calls into it.

``prepare()`` opens wasmtime and runs a tiny plugin once, so that forked children share the pages it
warmed. A child compiles its own plugin, inside the jail.
"""

from collections.abc import Callable
from functools import cache

from . import wasm_inspect
from .artifact import Artifact, Value
from .failures import BadArguments, BadArtifact, Failure, LimitReached, NoSuchFunction, PluginRaised
from .wasm_abi import (
    Abi,
    Declined,
    Function,
    Guest,
    assemblyscript,
    bindgen,
    command,
    component,
    extism,
    foreign,
    frys_bytes,
    numeric,
)
from .wasm_engine import Engine
from .wasm_extism import Extism
from .wasm_frys import FrysImports
from .wasm_inspect import Inspector, facts
from .wasm_instance import Instance
from .wasm_link import Linked
from .wasm_module import Module
from .wasm_program import Program, close, folders, surroundings
from .wasm_wasi import Wasi

_EXTISM = "Extism plugin"
_ABIS: dict[str, Abi] = {
    _EXTISM: extism,
    "WASI command": command,
    "Frys bytes ABI": frys_bytes,
    "wasm-bindgen": bindgen,
    "AssemblyScript": assemblyscript,
    "numeric functions": numeric,
}
_OPTIONS = ("arguments", "environ", "functions", extism.OPTION, wasm_inspect.FUNCTION)
_INITIALIZE = "_initialize"
# A trap at ``unreachable`` with less than this part of the memory limit left is what a failed
# allocation looks like: allocators ask for more than a page, and the compilers' runtimes abort so.
_NEARLY = 8

_WARM_UP = b"""(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (type $bytes (func (param i32 i32) (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 16) "frys")
  (table 1 funcref)
  (elem (i32.const 0) $echo)
  (global $next (mut i32) (i32.const 1024))
  (func (export "frys_alloc") (param $length i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get $length))))
  (func $echo (export "echo") (type $bytes)
    (drop (call $time (i32.const 1) (i64.const 0) (i32.const 8)))
    (drop (memory.grow (i32.const 1)))
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (func (export "trap") (type $bytes)
    (if (i32.load8_u (i32.const 16)) (then unreachable))
    (call_indirect (type $bytes) (local.get 0) (local.get 1) (i32.const 0)))
  (func (export "mean") (param f64 i32) (result f64)
    (f64.div (f64.add (local.get 0) (f64.convert_i32_s (local.get 1))) (f64.const 2))))
"""

_WARM_UP_EXTISM = b"""(module
  (import "extism:host/env" "input_length" (func $input_length (result i64)))
  (import "extism:host/env" "input_load_u64" (func $input_load (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
  (import "extism:host/env" "var_get" (func $var_get (param i64) (result i64)))
  (func $copy (result i64)
    (local $block i64)
    (local.set $block (call $alloc (call $input_length)))
    (call $store (local.get $block) (call $input_load (i64.const 0)))
    (local.get $block))
  (func (export "echo") (result i32)
    (drop (call $var_get (call $copy)))
    (call $output_set (call $copy) (call $input_length))
    (i32.const 0)))
"""


@cache
def _runtime() -> tuple[Engine, Wasi]:
    engine = Engine()
    bindgen.glue(engine)
    _frys(engine)
    return engine, Wasi(engine)


@cache
def _frys(engine: Engine) -> FrysImports:
    return FrysImports(engine)


@cache
def _extism() -> Extism:
    return Extism(_runtime()[0])


@cache
def _warm_up(text: bytes = _WARM_UP) -> memoryview:
    engine, _ = _runtime()
    return memoryview(engine.assemble(text))


def prepare() -> None:
    """Open wasmtime, and load, call, trap and drop tiny plugins.

    Raises:
        RuntimeError: wasmtime is missing or has the wrong version.
    """
    plugin = load(Artifact("warm-up", "warm-up.wasm", {"warm-up.wasm": _warm_up()}))
    plugin("echo", [b"warm"])
    plugin("mean", [1.5, 2])
    try:
        plugin("trap", [b"warm"])
    except PluginRaised:
        pass
    plugin.close()
    code = _warm_up(_WARM_UP_EXTISM)
    plugin = load(Artifact("warm-up", "warm-up.wasm", {"warm-up.wasm": code}))
    plugin("echo", [b"8 bytes."])
    plugin.close()


def fingerprint() -> str:
    """What decides the compiled form of a module, besides the module and the processor."""
    engine, _ = _runtime()
    return engine.fingerprint


def park() -> None:
    """Touch in a waiting child the pages that compiling writes to; loading then takes half the time."""
    engine, _ = _runtime()
    Module.compile(engine, _warm_up()).close()


def compile_into(artifact: Artifact) -> int:
    """Compile a module or a component into the artifact's room, and run nothing of it.

    Returns:
        Bytes of the compiled form; 0 when it has no room there.

    Raises:
        BadArtifact: It is neither.
    """
    code = artifact.files[artifact.entry]
    foreign.refuse_header(code)
    engine, _ = _runtime()
    if foreign.is_component(code):
        return component.compile_into(engine, code, artifact.room)
    return Module.compile(engine, code).leave(artifact.room)


def load(artifact: Artifact) -> "Plugin | component.Plugin | Inspector":
    """Compile a module, start an instance of it, and bind what it exports.

    Raises:
        BadArtifact: It is no module, needs what Frys does not offer, follows an ABI that is not
            supported yet, or its start function failed; or ``plugin.json`` says what nobody understands.
        LimitReached: It asks for more memory than it may have.
    """
    code = artifact.files.get(artifact.entry)
    if code is None:
        raise BadArtifact(f"the entry file {artifact.entry!r} is not among the plugin's files")
    foreign.refuse_header(code)
    _refuse_unknown(artifact.options)
    engine, wasi = _runtime()
    inspects = artifact.options.get(wasm_inspect.FUNCTION) is True
    if foreign.is_component(code):
        if inspects:
            return Inspector(component.facts(artifact, code))
        return _started(lambda: component.load(artifact, engine, code))
    compiled = Module.revive(engine, artifact.compiled) if artifact.compiled else Module.compile(engine, code)
    foreign.refuse(compiled)
    name = _EXTISM if extism.OPTION in artifact.options else _recognise(compiled)
    abi = _ABIS.get(name)
    if abi is not None and hasattr(abi, "offer"):
        abi.offer(artifact, compiled)
    if inspects:
        return Inspector(facts(compiled, abi, name, _extism().offers() if abi is extism else {}))
    module: Module | Linked = compiled
    if abi is extism:
        module = extism.ExtismModule(engine, _extism(), artifact, compiled)
    missing = module.missing_imports()
    if missing:
        raise BadArtifact(f"the module imports what Frys does not offer: {', '.join(missing)}")
    if abi is None:
        raise BadArtifact("the module exports no function, so there is nothing to call")
    engine.trim()
    return _started(lambda: Plugin(artifact, abi, module, wasi))


def _started[T](start: Callable[[], T]) -> T:
    """Start a plugin; what its start function does wrong is the file's fault."""
    try:
        return start()
    except LimitReached as failure:
        if failure.resource == "memory":
            raise
        raise BadArtifact(f"start function trapped: {failure.message}") from None
    except PluginRaised as failure:
        raise BadArtifact(f"start function trapped: {failure.message}", failure.detail) from None


def _refuse_unknown(options: dict[str, Value]) -> None:
    unknown = min(options.keys() - set(_OPTIONS), default=None)
    if unknown is not None:
        known = ", ".join(key for key in _OPTIONS if key != wasm_inspect.FUNCTION)
        raise BadArtifact(f'"wasm" in plugin.json has the unknown key {unknown!r}; it may have: {known}')


def _recognise(module: Module) -> str:
    return next((name for name, abi in _ABIS.items() if abi.recognises(module)), "")


class Plugin:
    """A loaded module.

    A call that fails inside it ends the instance and the next one starts afresh, because nothing
    unwinds the plugin's own stack or repairs what it was changing.

    Attributes:
        deadline: Set by the serving loop, and kept by the host alone.
    """

    __slots__ = (
        "_abi",
        "_artifact",
        "_folders",
        "_functions",
        "_instance",
        "_module",
        "_surroundings",
        "_wasi",
        "deadline",
    )

    def __init__(self, artifact: Artifact, abi: Abi, module: Module | Linked, wasi: Wasi) -> None:
        self.deadline = 0.0
        self._artifact = artifact
        self._abi = abi
        self._module = module
        self._wasi = wasi
        self._instance: Instance | None = None
        self._functions: dict[str, Function] = {}
        self._surroundings = surroundings(artifact)
        wanted = module.paths if isinstance(module, extism.ExtismModule) else None
        self._folders = folders(artifact, wanted)
        try:
            self._start()
        except BaseException:
            close(self._folders)
            raise

    @property
    def borrows(self) -> bool:
        """Whether the next call's bytes are copied first; a fresh instance runs code of its own before."""
        return self._abi.BORROWS and self._instance is not None

    def functions(self) -> dict[str, str]:
        """Return each callable function with its signature."""
        return {name: function.signature for name, function in self._functions.items()}

    def __call__(self, function: str, args: list[Value]) -> Value:
        """Call one function.

        Raises:
            Failure: Any of them but ``BadArtifact``.
        """
        instance = self._instance or self._start()
        found = self._functions.get(function)
        if found is None:
            raise NoSuchFunction(function, list(self._functions))
        try:
            result = found.call(args)
        except (BadArguments, Declined):
            if instance.spent:
                self._end()
            raise
        except Failure as failure:
            explained = self._explain(failure)
            self._end()
            raise explained from None
        if self._abi.FRESH_INSTANCE or instance.spent:
            self._end()
        return result

    def close(self) -> None:
        """Free instance and module."""
        self._end()
        self._module.close()
        close(self._folders)

    def _start(self) -> Instance:
        arguments, environment = self._surroundings
        self._wasi.begin(Program(arguments, environment=environment, preopens=self._folders))
        _frys(_runtime()[0]).begin(self._artifact.host)
        if hasattr(self._abi, "offer"):
            self._abi.offer(self._artifact, self._module)
        instance = self._module.instantiate(self._artifact.memory_limit)
        try:
            if self._abi not in (command, extism) and self._module.exports.get(_INITIALIZE) == ((), ()):
                instance.entry(_INITIALIZE, ((), ())).run()
            self._functions = self._abi.bind(Guest(self._artifact, self._module, instance, self._wasi))
        except BaseException:
            instance.close()
            raise
        self._instance = instance
        return instance

    def _end(self) -> None:
        if self._instance is not None:
            self._instance.close()
            self._instance = None
            self._wasi.program.files.close()

    def _explain(self, failure: Failure) -> Failure:
        if type(failure) is not PluginRaised:
            return failure
        size = self._memory_size()
        limit = self._artifact.memory_limit
        if "unreachable" in failure.message and size > limit - limit // _NEARLY:
            return LimitReached(
                "memory", f"the plugin gave up with its memory full ({failure.message})", size
            )
        stderr = self._wasi.program.stderr_tail.decode("utf-8", "replace")
        failure.detail = f"{stderr}\n{failure.detail}" if stderr else failure.detail
        return failure

    def _memory_size(self) -> int:
        return self._instance.largest_memory() if self._instance is not None else 0
