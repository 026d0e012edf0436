"""The plugin's side of the buffer that carries large bytes beside its lane (docs/protocol.md)."""

import struct

from .failures import BadValue

TYPE_CHECKING = False  # importing typing would cost memory in every plugin
if TYPE_CHECKING:
    from typing import Any

LEAST = 1 << 13
_HEAD = b"\xd7\x01"  # the head of an extension of 8 bytes, of type 1
_PLACE = struct.Struct(">II")


class Bulk:
    """Memory that the host can read and write as well.

    Both ends speak in turn, so it holds the large bytes of one message at a time.

    Args:
        view: The mapped buffer.

    Attributes:
        used: Bytes of it that the message being packed takes.
    """

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.used = 0

    def put(self, data: bytes | bytearray | memoryview) -> bytes:
        """Lay bytes into it; the encoded place, or nothing when there is no room left."""
        size = len(data)
        if size > len(self.view) - self.used:
            return b""
        start = self.used
        self.used = start + size
        self.view[start : self.used] = data
        return _HEAD + _PLACE.pack(start, size)

    def get(self, data: memoryview, at: int) -> bytes:
        """Copy out what the extension at ``at`` names."""
        return bytes(self._find(data, at))

    def _find(self, data: memoryview, at: int) -> memoryview:
        if data[at] != 1:
            raise BadValue(f"an extension of type {data[at]} is no value")
        start, size = _PLACE.unpack_from(data, at + 1)
        return self.view[start : start + size]


class Lender(Bulk):
    """The same memory for who copies the bytes at once: they are lent, until the next message."""

    def get(self, data: memoryview, at: int) -> bytes:
        """Lend what the extension at ``at`` names."""
        lent: Any = self._find(data, at)
        return lent  # type: ignore[no-any-return]  # as good as bytes for who only copies them
