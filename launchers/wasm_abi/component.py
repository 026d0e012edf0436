"""Components (WIT): typed functions, called by the types that the component itself declares.

    name(arguments...) -> result          a function of the component, or of an interface that it exports
    run(stdin: bytes = b"", *arguments: str) -> stdout: bytes          of a command (wasi:cli/run)
    handle({"url", "method", "headers", "body"}) -> {"status", "headers", "body"}
                                          of a server (wasi:http/incoming-handler)
    thing.new, thing.method, thing.make, thing.drop                    of a resource

A function of an interface ``ns:pkg/iface`` is ``func`` where no other has that name, and always
``iface.func`` and ``ns:pkg/iface#func``. A ``result`` that comes back as ``err`` is the function's failure;
the instance lives on then. A resource is a number: what a constructor returns, and methods take first.

What a component imports is in ``launchers/wasi``; anything else is refused by its name.
"""

from ..artifact import Artifact, Value
from ..components import compiled
from ..components.binary import Binary
from ..components.definitions import FUNC, INSTANCE
from ..components.functions import AnyFunction
from ..components.handles import Objects
from ..components.linking import Exports, Linker
from ..components.machine import Machine
from ..components.types import OWN, RESULT, Refused, Resource, Signature, make, signature_text
from ..failures import BadArguments, BadArtifact, Failure, NoSuchFunction, PluginRaised
from ..wasi import http
from ..wasi.world import World
from ..wasm_engine import Engine
from ..wasm_module import Module
from ..wasm_program import Exit
from . import Declined
from .command import Streams

type Path = tuple[str, str]  # interface (empty for the component itself), and name of the function

_SHOWN = 20
_RUN, _HANDLER = "wasi:cli/run@0.2.", "wasi:http/incoming-handler@0.2."
_COMMANDS = ("run", "main", "_start")
_HANDLE = "(request: dict) -> dict"
_DROP = "[drop]"


def load(artifact: Artifact, engine: Engine, code: memoryview) -> "Plugin":
    """Compile a component and start an instance of it.

    Raises:
        BadArtifact: It is none, imports what is not offered, or exports nothing to call.
        Failure: Its start failed, or it asks for more memory than it may have.
    """
    world = World(artifact)
    try:
        return _load(artifact, engine, Binary(code), world)
    except BaseException:
        world.close()
        raise


def _load(artifact: Artifact, engine: Engine, binary: Binary, world: World) -> "Plugin":
    exports, missing = _outline(binary, world)
    if missing:
        named = ", ".join(missing[:_SHOWN])
        raise BadArtifact(f"the component imports what Frys does not offer: {named}")
    if not _functions(exports):
        raise BadArtifact("the component exports no function, so there is nothing to call")
    if artifact.compiled:
        modules = compiled.revive(engine, binary, artifact.compiled)
    else:
        modules = compiled.compile_modules(engine, binary)
    engine.trim()
    return Plugin(engine, binary, modules, world, artifact.memory_limit)


def compile_into(engine: Engine, code: memoryview, room: memoryview) -> int:
    """Compile a component into ``room``, and run nothing of it; how many bytes that took, or 0.

    Raises:
        BadArtifact: It is none.
    """
    return compiled.leave(compiled.compile_modules(engine, Binary(code)), room)


def facts(artifact: Artifact, code: memoryview) -> dict[str, Value]:
    """What a component is made of, for ``frys inspect``; the form is that of ``wasm_inspect.facts``.

    Raises:
        BadArtifact: It is none.
    """
    world = World(artifact)
    try:
        exports, missing = _outline(Binary(code), world)
    finally:
        world.close()
    imports: list[Value] = [
        {"module": name, "name": "", "type": "component import", "provided": name not in missing}
        for name in [*world.wanted, *(name for name in missing if name not in world.wanted)]
    ]
    shown: list[Value] = [
        {"name": _full(path), "type": signature_text(signature)}
        for path, signature in _signatures(exports).items()
    ]
    return {"abi": "component", "imports": imports, "exports": shown, "memories": {}}


def _outline(binary: Binary, world: World) -> tuple[Exports, list[str]]:
    """What a component exports, by its types alone, and what it imports that nobody offers."""
    exports = Linker(None, 0).run(binary.definitions, world.provide)
    missing, world.missing = world.missing, []
    return exports, missing


def _functions(exports: Exports) -> dict[Path, AnyFunction]:
    found: dict[Path, AnyFunction] = {}
    for name, (sort, thing) in exports.items():
        if sort == FUNC:
            found["", name] = thing
        elif sort == INSTANCE:
            for inner, (of, function) in thing.items():
                if of == FUNC:
                    found[name, inner] = function
    return found


def _resources(exports: Exports) -> dict[Path, Resource]:
    """The types of resources that a component exports."""
    found: dict[Path, Resource] = {}
    for name, (sort, thing) in exports.items():
        if isinstance(thing, Resource):
            found["", f"{_DROP}{name}"] = thing
        elif sort == INSTANCE:
            for inner, (_, of) in thing.items():
                if isinstance(of, Resource):
                    found[name, f"{_DROP}{inner}"] = of
    return {path: resource for path, resource in found.items() if resource.owner is not None}


def _signatures(exports: Exports) -> dict[Path, Signature]:
    found = {path: function.signature for path, function in _functions(exports).items()}
    for path, resource in _resources(exports).items():
        found[path] = Signature((("self", make(OWN, resource=resource)),), None, False)
    return found


class Plugin:
    """A loaded component; a trap ends its instance, and the next call starts afresh.

    Attributes:
        deadline: Set by the serving loop, and kept by the host alone.
    """

    __slots__ = (
        *("_binary", "_command", "_engine", "_exports", "_handler", "_machine", "_memory_limit"),
        *("_modules", "_names", "_objects", "_paths", "_signatures", "_world", "deadline"),
    )

    def __init__(
        self, engine: Engine, binary: Binary, modules: list[Module], world: World, memory_limit: int
    ) -> None:
        self.deadline = 0.0
        self._engine, self._binary, self._modules, self._world = engine, binary, modules, world
        self._memory_limit = memory_limit
        self._machine: Machine | None = None
        self._exports: dict[Path, AnyFunction | Resource] = {}
        self._objects = Objects()
        try:
            self._signatures = self._start()
        except BaseException:
            self._end()
            raise
        self._names = _names(list(self._signatures))
        self._command, self._handler = (
            next((path for path in self._signatures if path[0].startswith(start)), None)
            for start in (_RUN, _HANDLER)
        )

    def functions(self) -> dict[str, str]:
        """Return each callable function with its signature, under the shortest of its names."""
        shortest: dict[Path, str] = {}
        for name, path in self._names.items():
            shortest[path] = min(name, shortest.get(path, name), key=len)
        found = {name: signature_text(self._signatures[path]) for path, name in shortest.items()}
        if self._command is not None:
            found["run"] = Streams.SIGNATURE
        if self._handler is not None:
            found["handle"] = _HANDLE
        return found

    def __call__(self, function: str, args: list[Value]) -> Value:
        """Call one function.

        Raises:
            Failure: Any of them but ``BadArtifact``.
        """
        if self._command is not None and function in _COMMANDS:
            return self._run(args)
        if self._machine is None:
            self._start()
        path = self._names.get(function)
        if path is None:
            raise NoSuchFunction(function, list(self.functions()))
        try:
            return self._handled(path, args) if path == self._handler else self._called(path, args)
        except (BadArguments, Declined):
            raise
        except Failure as failure:
            self._end(failure)
            raise

    def close(self) -> None:
        """Free instance and component."""
        self._end()
        for module in self._modules:
            module.close()
        self._world.close()

    def _called(self, path: Path, args: list[Value]) -> Value:
        name, signature = path[1], self._signatures[path]
        if len(args) != len(signature.parameters):
            wanted = f"{len(signature.parameters)} arguments, {signature_text(signature)}"
            raise BadArguments(f"{name} takes {wanted}, not {len(args)}")
        found = self._exports[path]
        if isinstance(found, Resource):
            representation = self._objects.take(args[0], found, "self")
            if found.drop is not None:
                found.drop(representation)
            return None
        try:
            returned: Value = found.call(args, self._objects)
        except Refused as reason:
            raise BadArguments(f"{name} cannot be called: {reason}") from None
        fails = signature.result is not None and signature.result.kind == RESULT
        return _unpacked(returned) if fails else returned

    def _handled(self, path: Path, args: list[Value]) -> Value:
        try:
            (given,) = args
            request = http.request(given)
        except (TypeError, ValueError) as error:
            raise BadArguments(f"handle takes a request: {error}") from None
        handler, outparam = self._exports[path], http.Outparam()
        assert not isinstance(handler, Resource)
        handler.call([request, outparam])
        return http.response(outparam)

    def _run(self, args: list[Value]) -> Value:
        """Run a command from its beginning: every run has an instance of its own."""
        assert self._command is not None
        self._end()
        streams = Streams(self._world.first, args, self._memory_limit)
        self._start(streams)
        ended: dict[str, Value] = {"ok": None}
        try:
            run = self._exports[self._command]
            assert not isinstance(run, Resource)
            ended = run.call([])
        except Exit as end:
            if end.code:
                raise
        except Refused as reason:
            raise PluginRaised(f"run cannot be called: {reason}") from None
        except Failure as failure:
            self._world.explain(failure)
            raise
        finally:
            self._end()
        if "err" in ended:
            raise Exit(1, self._world.stderr_tail())
        return bytes(streams.output)

    def _start(self, streams: Streams | None = None) -> dict[Path, Signature]:
        self._world.begin(streams)
        self._machine = Machine(self._engine, self._modules, self._memory_limit)
        try:
            exports = Linker(self._machine, self._memory_limit).run(
                self._binary.definitions, self._world.provide
            )
        except BaseException:
            self._end()
            raise
        self._exports = {**_functions(exports), **_resources(exports)}
        self._objects = Objects()
        return _signatures(exports)

    def _end(self, failure: Failure | None = None) -> None:
        if failure is not None:
            self._world.explain(failure)
        if self._machine is not None:
            self._machine.close()
            self._machine = None
        self._world.end()


def _full(path: Path) -> str:
    return f"{path[0]}#{path[1]}" if path[0] else path[1]


def _names(paths: list[Path]) -> dict[str, Path]:
    """Every name of every function; a name that two would have is nobody's, unless one is its full name."""
    full = {_full(path): path for path in paths}
    short: dict[str, list[Path]] = {}
    for path in paths:
        interface, plain = path[0], _plain(path[1])
        spellings = {plain}
        if interface:
            spellings.add(f"{interface.rpartition('/')[2].partition('@')[0]}.{plain}")
        for spelling in spellings - {_full(path)}:
            short.setdefault(spelling, []).append(path)
    return {name: claims[0] for name, claims in short.items() if len(claims) == 1} | full


def _plain(name: str) -> str:
    """How a function of a resource is called: ``[method]thing.put`` is ``thing.put``."""
    what, _, rest = name.partition("]")
    if what == "[constructor":
        return f"{rest}.new"
    return f"{rest}.drop" if what == _DROP[:-1] else rest or name


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
