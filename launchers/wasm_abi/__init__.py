"""The conventions by which WebAssembly modules take and return values, one file each.

Every convention ("ABI") is a module with the face of ``Abi``; ``wasm.py`` asks them in order. What is
recognisable, but cannot be run yet, stands in ``foreign``.
"""

from collections.abc import Callable
from typing import Protocol

from ..artifact import Artifact, Value
from ..failures import BadArguments, PluginRaised
from ..wasm_instance import Instance
from ..wasm_link import Linked
from ..wasm_module import Module
from ..wasm_wasi import Wasi

type Call = Callable[[list[Value]], Value]
type Bind = Callable[[], Call]


class Declined(PluginRaised):
    """The plugin returned an error, as its functions may: its instance is well and lives on."""


class Function:
    """A callable export: the call itself, and its signature for people.

    A module may export thousands of functions, of which few are ever called: the first call makes
    what every call needs.

    Attributes:
        call: Takes the arguments and returns the result.
        signature: What ``frys inspect`` shows.
    """

    __slots__ = ("_bind", "call", "signature")

    def __init__(self, bind: Bind, signature: str) -> None:
        self._bind = bind
        self.call: Call = self._first_call
        self.signature = signature

    def _first_call(self, args: list[Value]) -> Value:
        self.call = self._bind()
        return self.call(args)


class Guest:
    """A started module and its surroundings: all that an ABI may need to bind functions.

    Attributes:
        artifact: The plugin it came from.
        module: The compiled module.
        linked: The same with modules beside it, where there are some.
        instance: The instance that the bound functions run in.
        wasi: The host functions of WASI preview 1.
    """

    __slots__ = ("artifact", "instance", "linked", "module", "wasi")

    def __init__(self, artifact: Artifact, module: Module | Linked, instance: Instance, wasi: Wasi) -> None:
        self.artifact = artifact
        self.module = module.main if isinstance(module, Linked) else module
        self.linked = module if isinstance(module, Linked) else None
        self.instance = instance
        self.wasi = wasi


class Abi(Protocol):
    """What every module of this package offers.

    ``offer(artifact, module)`` is there, too, where modules import more than WASI: it is called before each
    start of an instance, and defines what they import. ``provides(module, name, type)`` then tells which of
    these imports do more than fail with their name.

    Attributes:
        FRESH_INSTANCE: Whether every call gets an instance of its own.
        BORROWS: Whether a call copies its bytes into the instance before the plugin's functions run.
    """

    FRESH_INSTANCE: bool
    BORROWS: bool

    def recognises(self, module: Module) -> bool:
        """Decide from imports and exports alone."""

    def bind(self, guest: Guest) -> dict[str, Function]:
        """Make the exports of a fresh instance callable."""


def only_bytes(name: str, args: list[Value]) -> bytes | memoryview:
    """The argument of a function of bytes, which may be left out; a view is to be copied at once.

    Raises:
        BadArguments: It is none, or there are more.
    """
    if len(args) > 1:
        raise BadArguments(f"{name} takes one argument of bytes, not {len(args)} arguments")
    data = args[0] if args else b""
    if isinstance(data, str):
        return data.encode()
    if not isinstance(data, bytes | memoryview):
        raise BadArguments(f"{name} takes bytes (or str, as UTF-8), not {type(data).__name__}")
    return data
