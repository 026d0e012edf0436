"""Components (WIT): typed functions, called by the types that the component itself declares.

    name(arguments...) -> result          a function of the component, or of an interface that it exports

A function of an interface ``ns:pkg/iface`` is ``func`` where no other has that name, and always
``iface.func`` and ``ns:pkg/iface#func``. A ``result`` that comes back as ``err`` is the function's failure;
the instance lives on then.

A component that imports anything is refused. wasmtime's own WASI preview 2 starts threads and an epoll loop
(tokio) at the first write to stdout, which no plugin process may after loading; another is not there yet.
"""

from functools import partial

from ..artifact import Artifact, Value
from ..failures import BadArguments, BadArtifact, Failure, NoSuchFunction
from ..wasm_component import RESULT, Component, ComponentInstance, Signature
from ..wasm_engine import Engine, Pointer, ffi
from . import Call, Declined, Function
from .component_lift import lifting
from .component_lower import lowering
from .component_types import Refused, text

_SHOWN = 20


def load(artifact: Artifact, engine: Engine, code: memoryview) -> "Plugin":
    """Compile a component and start an instance of it.

    Raises:
        BadArtifact: It is none, imports something, or exports nothing to call.
        Failure: Its start failed, or it asks for more memory than it may have.
    """
    component = Component(engine, code, artifact.compiled)
    if component.imports:
        named = ", ".join(component.imports[:_SHOWN])
        raise BadArtifact(
            f"the component imports what Frys does not offer: {named}; this version runs components that "
            "import nothing, so build it without WASI"
        )
    if not component.exports:
        raise BadArtifact("the component exports no function, so there is nothing to call")
    engine.trim()
    return Plugin(engine, component, artifact.memory_limit)


def compile_into(engine: Engine, code: memoryview, room: memoryview) -> int:
    """Compile a component into ``room``, and run nothing of it; how many bytes that took, or 0.

    Raises:
        BadArtifact: It is none.
    """
    return Component(engine, code, memoryview(b"")).leave(room)


def facts(engine: Engine, code: memoryview) -> dict[str, Value]:
    """What a component is made of, for ``frys inspect``; the form is that of ``wasm_inspect.facts``.

    Raises:
        BadArtifact: It is none.
    """
    found = Component(engine, code, memoryview(b""))
    imports: list[Value] = [
        {"module": name, "name": "", "type": "component import", "provided": False} for name in found.imports
    ]
    exports: list[Value] = [
        {"name": f"{interface}#{name}" if interface else name, "type": _text(signature)}
        for (interface, name), signature in found.exports.items()
    ]
    return {"abi": "component", "imports": imports, "exports": exports, "memories": {}}


class Plugin:
    """A loaded component; a trap ends its instance, and the next call starts afresh.

    Attributes:
        deadline: Set by the serving loop, and kept by the host alone.
    """

    __slots__ = ("_component", "_engine", "_functions", "_instance", "_memory_limit", "_names", "deadline")

    def __init__(self, engine: Engine, component: Component, memory_limit: int) -> None:
        self.deadline = 0.0
        self._engine, self._component, self._memory_limit = engine, component, memory_limit
        self._names = _names(list(component.exports))
        self._instance: ComponentInstance | None = None
        self._functions: dict[tuple[str, str], Function] = {}
        self._start()

    def functions(self) -> dict[str, str]:
        """Return each callable function with its signature, under the shortest of its names."""
        shortest: dict[tuple[str, str], str] = {}
        for name, path in self._names.items():
            shortest[path] = min(name, shortest.get(path, name), key=len)
        return {name: _text(self._component.exports[path]) for path, name in shortest.items()}

    def __call__(self, function: str, args: list[Value]) -> Value:
        """Call one function.

        Raises:
            Failure: Any of them but ``BadArtifact``.
        """
        if self._instance is None:
            self._start()
        path = self._names.get(function)
        if path is None:
            raise NoSuchFunction(function, list(self.functions()))
        try:
            return self._functions[path].call(args)
        except (BadArguments, Declined):
            raise
        except Failure:
            self._end()
            raise

    def close(self) -> None:
        """Free instance and component."""
        self._end()
        self._component.close()

    def _start(self) -> None:
        instance = self._component.instantiate(self._memory_limit)
        self._instance = instance
        self._functions = {
            path: Function(partial(_bind, self._engine, instance, path, signature), "")
            for path, signature in self._component.exports.items()
        }

    def _end(self) -> None:
        if self._instance is not None:
            self._instance.close()
            self._instance = None


def _names(paths: list[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Every name of every function; a name that two would have is nobody's, unless one is its full name."""
    full = {f"{interface}#{name}" if interface else name: (interface, name) for interface, name in paths}
    short: dict[str, list[tuple[str, str]]] = {}
    for interface, name in paths:
        if interface:
            alone = interface.rpartition("/")[2].partition("@")[0]
            for spelling in (f"{alone}.{name}", name):
                short.setdefault(spelling, []).append((interface, name))
    return {name: claims[0] for name, claims in short.items() if len(claims) == 1} | full


def _text(signature: Signature) -> str:
    parameters = ", ".join(f"{name}: {text(kind)}" for name, kind in signature.parameters)
    returned = f" -> {text(signature.result)}" if signature.result is not None else ""
    return f"{'async ' if signature.is_async else ''}func({parameters}){returned}"


def _bind(engine: Engine, instance: ComponentInstance, path: tuple[str, str], signature: Signature) -> Call:
    name, lib = path[1], engine.lib
    if signature.is_async:
        return _refuse(f"{name} cannot be called: it is an async function, which this version does not run")
    try:
        lowers = [lowering(lib, kind, argument) for argument, kind in signature.parameters]
        lift = None if signature.result is None else lifting(signature.result, "its result")
    except Refused as reason:
        return _refuse(f"{name} cannot be called: {reason}")
    fails = signature.result is not None and signature.result.kind == RESULT
    function, count = instance.function(*path), len(lowers)

    def call(args: list[Value]) -> Value:
        if len(args) != count:
            raise BadArguments(f"{name} takes {count} arguments, {_text(signature)}, not {len(args)}")
        slots = ffi.new("wasmtime_component_val_t[]", max(count, 1))
        result = ffi.new("wasmtime_component_val_t *")
        try:
            for index, (lower, value) in enumerate(zip(lowers, args, strict=True)):
                lower(value, slots + index)
            instance.call(function, slots, count, result, lift is not None)
            returned = lift(result) if lift is not None else None
        finally:
            _free(lib, slots, count, result)
        return _unpacked(returned) if fails else returned

    return call


def _free(lib: Pointer, slots: Pointer, count: int, result: Pointer) -> None:
    # SAFETY: the slots are ours; one that is still zero is a bool and owns nothing.
    for index in range(count):
        lib.wasmtime_component_val_delete(slots + index)
    lib.wasmtime_component_val_delete(result)


def _unpacked(returned: Value) -> Value:
    """What a function's ``result`` holds.

    Raises:
        Declined: It is an ``err``.
    """
    assert isinstance(returned, dict)
    if "ok" in returned:
        return returned["ok"]
    error = returned["err"]
    raise Declined(error if isinstance(error, str) else f"the function returned the error {error!r}")


def _refuse(message: str) -> Call:
    def call(_args: list[Value]) -> Value:
        raise BadArguments(message)

    return call
