"""A cursor over a binary."""

from ..failures import BadArtifact

_MOST_ITEMS = 100_000


class Reader:
    """Reads a component's binary from its beginning; what is cut off or out of range is refused.

    Attributes:
        at: Where the next byte is read.
        end: Where it ends.
    """

    __slots__ = ("_data", "at", "end")

    def __init__(self, data: memoryview, at: int = 0, end: int | None = None) -> None:
        self._data, self.at = data, at
        self.end = len(data) if end is None else end

    def byte(self) -> int:
        """The next byte."""
        if self.at >= self.end:
            raise refuse("it is cut off")
        self.at += 1
        return self._data[self.at - 1]

    def peek(self) -> int:
        """The next byte, which stays the next one."""
        if self.at >= self.end:
            raise refuse("it is cut off")
        return self._data[self.at]

    def u32(self) -> int:
        """An unsigned LEB128 number."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 28:
                raise refuse("a number is too long")
        if value >> 32:
            raise refuse("a number is too large")
        return value

    def count(self) -> int:
        """How many items follow."""
        count = self.u32()
        if count > _MOST_ITEMS:
            raise refuse(f"it lists {count} things, and more than {_MOST_ITEMS} are not taken")
        return count

    def text(self) -> str:
        """A name."""
        size = self.u32()
        data = bytes(self._take(size))
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise refuse("a name is no UTF-8") from None

    def part(self, size: int) -> memoryview:
        """The next bytes as they are."""
        return self._take(size)

    def within(self, size: int) -> "Reader":
        """A cursor over the next bytes, which are behind this one then."""
        start = self.at
        self._take(size)
        return Reader(self._data, start, start + size)

    def _take(self, size: int) -> memoryview:
        if size > self.end - self.at:
            raise refuse("it is cut off")
        self.at += size
        return self._data[self.at - size : self.at]


def refuse(reason: str) -> BadArtifact:
    """Why a binary is refused."""
    return BadArtifact(f"this is no valid WebAssembly component: {reason}")
