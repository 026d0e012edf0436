"""Entry points: addresses at which C can call functions of this process.

libffi writes them into memory that is executable. All of a plugin's are made while it loads, in the one phase
in which such memory can be had, and nothing can write there afterwards.
"""

import mmap
from collections.abc import Callable
from typing import Any

from ._native_abi import ffi
from .failures import BadArtifact
from .native_library import CData, CType, forbid_writing

_MOST = 64  # of the 70 or so that one page has room for
_SMALLEST = 32

_kept: list[CData] = []  # C may call an entry point as long as the process lives


class Entries:
    """The entry points of one plugin."""

    def __init__(self) -> None:
        self._made: list[CData] = []

    def make(self, ctype: CType, function: Callable[..., Any], otherwise: Any) -> CData:
        """Return the address at which C can call a function.

        Args:
            ctype: The type of the C function.
            function: What it does.
            otherwise: What C gets when the function raises.

        Raises:
            ValueError: There are too many.
            BadArtifact: The machine gives no executable memory.
        """
        if len(self._made) >= _MOST:
            raise ValueError(f"there can be {_MOST} callbacks")
        self._made.append(_entry(ctype, function, otherwise))
        return self._made[-1]

    def close(self) -> None:
        """Let nothing change the entry points.

        The rest of their page is taken as well, so that nobody is ever given one there. cffi hands them out
        from a page's end to its beginning.
        """
        if not self._made:
            return
        last = self._made[-1]
        for _ in range(mmap.PAGESIZE // _SMALLEST):
            if _address(last) % mmap.PAGESIZE == 0 or _page(last) != _page(self._made[-1]):
                break
            last = _entry(ffi.typeof("void(*)(void)"), lambda: None, None)
        for page in {_page(entry) for entry in self._made}:
            forbid_writing(page)


def _entry(ctype: CType, function: Callable[..., Any], otherwise: Any) -> CData:
    try:
        entry: Any = ffi.callback(ctype, function, error=otherwise)
    except MemoryError:
        raise BadArtifact("callbacks need memory that is executable, which this machine refuses") from None
    assert isinstance(entry, CData)
    _kept.append(entry)
    return entry


def _address(entry: CData) -> int:
    return int(ffi.cast("uintptr_t", entry))


def _page(entry: CData) -> int:
    return _address(entry) & -mmap.PAGESIZE
