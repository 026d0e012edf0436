"""Handles: pointers that stay in this process, while callers get numbers that stand for them.

A number is drawn at random, so that none of an earlier process or of another caller fits by chance, and has
48 bits, which every format's integers can carry. It is never an address, and no address is made of it: it is
looked up, with its type.
"""

import os

from ._native_abi import ffi
from .failures import BadArguments, BadValue
from .native_library import CData, CType
from .native_values import Shape
from .values import Value

_MOST = 1 << 16
_BYTES = 6


class _Live:
    """One pointer that callers may speak of."""

    __slots__ = ("ctype", "parent", "pointer")

    def __init__(self, ctype: CType, pointer: CData, parent: int) -> None:
        self.ctype = ctype
        self.pointer = pointer
        self.parent = parent


class Handles:
    """The handles that are alive.

    Attributes:
        parents: For a type whose handles belong to those of another type: that type.
        passed: The handles of the current call by their type. Who starts a call clears it.
    """

    def __init__(self) -> None:
        self.parents: dict[CType, CType] = {}
        self.passed: dict[CType, int] = {}
        self._live: dict[int, _Live] = {}
        self._numbers: dict[tuple[CType, int], int] = {}

    def give(self, ctype: CType, pointer: CData) -> int:
        """Return the number of a pointer that is not NULL: the one that it has, or a new one.

        Raises:
            BadValue: There are too many already.
        """
        key = (ctype, _address(pointer))
        number = self._numbers.get(key)
        if number is None:
            if len(self._live) >= _MOST:
                raise BadValue(f"there are {_MOST} handles already; some have to be freed first")
            number = 0
            while not number or number in self._live:
                number = int.from_bytes(os.urandom(_BYTES))
            parent = self.passed.get(self.parents[ctype], 0) if ctype in self.parents else 0
            self._live[number] = _Live(ctype, pointer, parent)
            self._numbers[key] = number
        return number

    def knows(self, ctype: CType, pointer: CData) -> bool:
        """Tell whether a pointer has a number."""
        return (ctype, _address(pointer)) in self._numbers

    def take(self, ctype: CType, number: int, name: str) -> CData:
        """Return the pointer that a number stands for.

        Raises:
            BadArguments: It stands for none, or for one of another type.
        """
        live = self._live.get(number)
        if live is None:
            raise BadArguments(
                f"{name}: {number} is no handle of this plugin process; it was freed, or never given out"
            )
        if live.ctype != ctype:
            raise BadArguments(f"{name}: {number} is a handle of {named(live.ctype)}, not of {named(ctype)}")
        self.passed[ctype] = number
        return live.pointer

    def end(self, ctype: CType, pointer: CData) -> None:
        """Forget a pointer that was freed, and those that belong to it."""
        number = self._numbers.pop((ctype, _address(pointer)), 0)
        if not number:
            return
        del self._live[number]
        if ctype not in self.parents.values():
            return
        for live in [live for live in self._live.values() if live.parent == number]:
            self.end(live.ctype, live.pointer)


class HandleShape(Shape):
    """A pointer to a struct of which nothing is declared: its handle."""

    def __init__(self, ctype: CType, handles: Handles) -> None:
        super().__init__(ctype)
        self.kind = named(ctype)
        self._handles = handles

    def to_c(self, value: Value, name: str, keep: list[CData]) -> CData:
        """See Shape."""
        if value is None and self.can_be_null:
            return ffi.NULL
        if type(value) is not int:
            raise BadArguments(f"{name} must be a handle of {self.kind}, not {type(value).__name__}")
        return self._handles.take(self.ctype, value, name)

    def from_c(self, value: CData) -> Value:
        """See Shape; NULL is None."""
        return None if value == ffi.NULL else self._handles.give(self.ctype, value)


def named(ctype: CType) -> str:
    """Name what a pointer leads to, as people do."""
    name: str = ctype.item.cname
    return name.removeprefix("struct ")


def _address(pointer: CData) -> int:
    return int(ffi.cast("uintptr_t", pointer))
