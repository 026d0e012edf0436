"""The conventions by which WebAssembly modules take and return values, one file each.

Every convention ("ABI") is a module with the face of ``Abi``; ``wasm.py`` asks them in order. What is
recognisable, but cannot be run yet, stands in ``foreign``.
"""

from collections.abc import Callable
from typing import Protocol

from ..artifact import Artifact, Value
from ..wasm_engine import Instance, Module
from ..wasm_wasi import Wasi

type Call = Callable[[list[Value]], Value]


class Function:
    """A callable export: the call itself, and its signature for people."""

    __slots__ = ("call", "signature")

    def __init__(self, call: Call, signature: str) -> None:
        self.call = call
        self.signature = signature


class Guest:
    """A started module and its surroundings: all that an ABI may need to bind functions.

    Attributes:
        artifact: The plugin it came from.
        module: The compiled module.
        instance: The instance that the bound functions run in.
        wasi: The host functions of WASI preview 1.
    """

    __slots__ = ("artifact", "instance", "module", "wasi")

    def __init__(self, artifact: Artifact, module: Module, instance: Instance, wasi: Wasi) -> None:
        self.artifact = artifact
        self.module = module
        self.instance = instance
        self.wasi = wasi


class Abi(Protocol):
    """What every module of this package offers.

    Attributes:
        FRESH_INSTANCE: Whether every call gets an instance of its own.
    """

    FRESH_INSTANCE: bool

    def recognises(self, module: Module) -> bool:
        """Decide from imports and exports alone."""

    def bind(self, guest: Guest) -> dict[str, Function]:
        """Make the exports of a fresh instance callable."""
