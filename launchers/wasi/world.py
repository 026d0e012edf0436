"""The world of one plugin's component: what it may import, and the program that it is now."""

from collections.abc import Callable
from typing import Any

from ..artifact import Artifact
from ..components.definitions import FUNC, INSTANCE, TYPE
from ..components.functions import Offered
from ..components.types import Resource, Signature, resources, signature_text
from ..failures import BadArtifact, Failure, PluginRaised
from ..wasm_program import Program, close, folders, surroundings
from . import cli, drafts, files, frys, http, io, sockets
from .interface import Interface

TYPE_CHECKING = False  # only annotations need what follows
if TYPE_CHECKING:
    from ..wasm_abi.command import Streams

_WITHOUT_VERSION = ("wasi:logging/logging",)
_VERSIONS = {"wasi": "0.2.", "frys": "1.0."}


class World:
    """What a component finds around it.

    Attributes:
        first: The first arguments of a command.
        wanted: The names of what the component imports.
        missing: Of these, and of functions in them, what is not offered.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.first, self._environment = surroundings(artifact)
        self._folders = folders(artifact)
        self._program = Program([])
        self.wanted: dict[str, None] = {}
        self.missing: list[str] = []
        # What was found out for one instance holds for the next: it has nothing of the component's own.
        self._given: dict[str, dict[str, tuple[str, Any]]] = {}
        self._interfaces = io.INTERFACES | sockets.INTERFACES
        self._interfaces |= cli.interfaces(lambda: self._program, artifact.memory_limit)
        self._interfaces |= files.interfaces(lambda: self._program)
        self._interfaces |= http.interfaces(artifact.host, artifact.memory_limit)
        self._interfaces |= frys.interfaces(artifact.host)
        self._interfaces |= drafts.interfaces(artifact.host)
        self._resources = {
            name: Resource(name, None, drop)
            for interface in self._interfaces.values()
            for name, drop in interface.resources.items()
        }

    def begin(self, streams: "Streams | None") -> None:
        """A program starts; what the one before it left open is closed."""
        self.end()
        if streams is None:
            self._program = Program(self.first, environment=self._environment, preopens=self._folders)
        else:
            self._program = Program(
                streams.arguments,
                streams.stdin,
                streams.output,
                streams.most,
                self._environment,
                self._folders,
            )

    def end(self) -> None:
        """The program is over."""
        self._program.files.close()

    def close(self) -> None:
        """There will be no more programs."""
        self.end()
        close(self._folders)

    def stderr_tail(self) -> str:
        """The end of what the program wrote to stderr."""
        return self._program.stderr_tail.decode("utf-8", "replace")

    def explain(self, failure: Failure) -> None:
        """Add to a failure what the program wrote to stderr before it."""
        tail = self.stderr_tail()
        if type(failure) is PluginRaised and tail:
            failure.detail = f"{tail}\n{failure.detail}"

    def provide(self, name: str, sort: str, kind: Any) -> tuple[str, Any]:
        """What a component gets for one of its imports; what is not offered is noted in ``missing``.

        Raises:
            BadArtifact: It is of a kind that nobody can offer.
        """
        self.wanted[name] = None
        if sort == INSTANCE:
            if name not in self._given:
                self._given[name] = self._instance(name, kind.bind(self._resources))
            return sort, self._given[name]
        if sort == TYPE and kind is not None:
            return sort, kind
        self.missing.append(name)
        if sort == FUNC:
            return sort, self._offered(kind, _nobody(name))
        if sort == TYPE:
            return sort, Resource(name, None, None)
        raise BadArtifact(f"the component imports what Frys does not offer: the {sort} {name}")

    def _instance(self, name: str, wanted: dict[str, tuple[str, Any]]) -> dict[str, tuple[str, Any]]:
        interface = self._interface(name)
        found: dict[str, tuple[str, Any]] = {}
        for item, (sort, kind) in wanted.items():
            thing = kind
            if sort == TYPE:
                known = not isinstance(kind, Resource) or kind is self._resources.get(kind.name)
            else:
                run = self._run(interface, item, kind) if sort == FUNC else None
                known, thing = run is not None, self._offered(kind, run or _nobody(f"{name}#{item}"))
            if not known:
                whole = name if interface is None else f"{name}#{item}"
                if whole not in self.missing:
                    self.missing.append(whole)
            found[item] = sort, thing
        return found

    def _interface(self, name: str) -> Interface | None:
        if ("@" in name and name in self._interfaces) or name in _WITHOUT_VERSION:
            return self._interfaces[name]
        plain, _, version = name.partition("@")
        wanted = _VERSIONS.get(plain.partition(":")[0], " ")
        if not version.startswith(wanted) or not version.removeprefix(wanted).isdigit():
            return None
        return self._interfaces.get(plain)

    def _run(self, interface: Interface | None, name: str, wanted: Signature) -> Callable[..., Any] | None:
        if interface is None or not resources(wanted) <= set(self._resources.values()):
            return None
        if name in interface.functions:
            offered, run = interface.functions[name]
            return run if offered == signature_text(wanted) else None
        of = name.removeprefix("[method]").partition(".")[0]
        return _nobody(name) if of in interface.absent else None

    @staticmethod
    def _offered(wanted: Any, run: Callable[..., Any]) -> Any:
        return Offered(wanted, run) if isinstance(wanted, Signature) else wanted


def _nobody(name: str) -> Callable[..., Any]:
    def refuse(*_arguments: Any) -> Any:
        raise PluginRaised(f"the component calls {name}, which nobody offers")

    return refuse
