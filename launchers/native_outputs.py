"""What a C function writes to or returns, and how it becomes a part of the answer."""

from collections.abc import Callable
from typing import Any

from ._native_abi import ffi
from .failures import BadValue
from .native_handles import HandleShape
from .native_library import NULL, CData, CType
from .native_memory import Memory, Shapes, Text
from .native_parameters import RETURNED, InOut, Length, Out
from .values import Value

type Release = Callable[[CData], object]


class Frame:
    """What one call works with, by the names that the mapping gives.

    Attributes:
        values: The inputs as C gets them.
        counts: The items of inputs, and of the room in buffers.
        cells: Memory that C writes to.
        lengths: Where C leaves how much there is of something, and how many of these units are one item.
        single: Inputs behind a pointer that were one item and no list.
        keep: Memory that must live as long as the call.
    """

    __slots__ = ("cells", "counts", "keep", "lengths", "single", "values")

    def __init__(self, counts: dict[str, int]) -> None:
        self.values: dict[str, Any] = {}
        self.counts = counts.copy()
        self.cells: dict[str, CData] = {}
        self.lengths: dict[str, tuple[CData, int]] = {}
        self.single: set[str] = set()
        self.keep: list[CData] = []

    def count(self, name: str) -> int | None:
        """Return how many items C says there are; None when it does not say.

        Raises:
            BadValue: It says a size that is no number of items.
        """
        if name not in self.lengths:
            return None
        cell, unit = self.lengths[name]
        size: int = cell[0]
        if size % unit:
            raise BadValue(f"the function reports {size} bytes in {name}, which has items of {unit}")
        return size // unit


class Output:
    """A part of the answer.

    Attributes:
        name: What it is called.
        kind: What callers see, for signatures.
        unit: Bytes of one item.
        count: Items that there are before the call, if that is always the same.
        by_result: What the function returns is their number.
    """

    count = 0
    by_result = False

    def __init__(self, name: str, kind: str, unit: int) -> None:
        self.name = name
        self.kind = kind
        self.unit = unit

    def supply(self, frame: Frame) -> CData:
        """Make the memory."""
        raise NotImplementedError

    def collect(self, frame: Frame, result: Any) -> Value:
        """Copy what the function has left there.

        Raises:
            BadValue: The function says that it filled more than there is.
        """
        raise NotImplementedError


class Buffer(Output):
    """Memory of some capacity that the function fills."""

    def __init__(self, out: Out, ctype: CType, shapes: Shapes, measured: bool) -> None:
        memory = shapes.memory(ctype)
        if memory is None:
            raise ValueError(f"{out.name} is a buffer and needs a pointer to its items, not {ctype.cname}")
        assert out.capacity is not None
        super().__init__(out.name, memory.several, memory.unit)
        self.capacity = out.capacity
        self.by_result = out.length == RETURNED
        self._memory = memory
        # Only memory of which everything is delivered has to be cleared first, and pointers in any case.
        clear = not isinstance(memory, Text) or not (self.by_result or measured)
        self._allocate = ffi.new_allocator(should_clear_after_alloc=clear)

    def supply(self, frame: Frame) -> CData:
        """See Output."""
        cell = frame.cells[self.name] = self._allocate(self._memory.array, frame.counts[self.name])
        return cell

    def collect(self, frame: Frame, result: Any) -> Value:
        """See Output."""
        cell, room = frame.cells[self.name], frame.counts[self.name]
        count = result if self.by_result else frame.count(self.name)
        if count is None:
            # SAFETY: the memory is ours, whole and cleared; a text ends with it at the latest.
            text = self._memory.kind == "str"
            return self._memory.read_ended(cell) if text else self._memory.copy(cell, room)
        if not 0 <= count <= room:
            unit = "bytes" if self.unit == 1 else "items"
            raise BadValue(f"the function reports {count} {unit} in {self.name}, which has room for {room}")
        # SAFETY: the memory is ours, and the length was compared with its size.
        return self._memory.copy(cell, count)


class Cell(Output):
    """Memory for one value that the function sets: a number, a struct, a handle, or a pointer to more."""

    def __init__(self, out: Out, ctype: CType, shapes: Shapes, measured: bool) -> None:
        if ctype.kind != "pointer" or ctype.item.kind == "void":
            raise ValueError(f"{out.name} needs a pointer to one value, or a capacity, not {ctype.cname}")
        self.shape = shape = shapes.of(ctype.item)
        memory = shapes.memory(ctype.item)
        kind = memory.several if memory and (out.length or measured) else shape.kind
        super().__init__(out.name, kind, memory.unit if memory else ffi.sizeof(ctype.item))
        self.count = 0 if memory else 1
        self.by_result = out.length == RETURNED
        self._ctype = ctype
        self._length = out.length
        check_extent(out.name, self.shape, out.length, out.free, measured)

    def supply(self, frame: Frame) -> CData:
        """Make the memory, which is all zero."""
        cell = frame.cells[self.name] = ffi.new(self._ctype)
        return cell

    def collect(self, frame: Frame, result: Any) -> Value:
        """Copy the value, and what it leads to."""
        value = frame.cells[self.name][0]
        length = self._length
        count = result if self.by_result else length if isinstance(length, int) else frame.count(self.name)
        if count is None or not isinstance(self.shape, Memory):
            return self.shape.from_c(value)
        return self.shape.read(value, count)


class Exchange(Output):
    """Memory that holds an argument of the caller, and its part of the answer after the call."""

    def __init__(self, parameter: InOut, ctype: CType, shapes: Shapes) -> None:
        memory = shapes.memory(ctype)
        if memory is None:
            raise ValueError(f"{parameter.name} goes in and out and needs a pointer, not {ctype.cname}")
        if not memory.is_flat:
            raise ValueError(f"{parameter.name} goes in and out, which {ctype.cname} cannot")
        super().__init__(parameter.name, memory.kind, memory.unit)
        self._memory = memory

    def supply(self, frame: Frame) -> CData:
        """Copy the argument, because a value of Python must not change."""
        value = frame.values[self.name]
        cell = self._memory.allocate(value, self.name) if isinstance(value, bytes) else value
        frame.cells[self.name] = cell
        return cell

    def collect(self, frame: Frame, _result: Any) -> Value:
        """Copy as much as went in, or as much as C says there is now."""
        room, count = frame.counts[self.name], frame.count(self.name)
        if count is not None and not 0 <= count <= room:
            raise BadValue(f"the function reports {count} items in {self.name}, which has room for {room}")
        if frame.cells[self.name] is NULL:
            return None
        # SAFETY: the memory is ours, and no more is copied than went in.
        value = self._memory.copy(frame.cells[self.name], room if count is None else count)
        return value[0] if isinstance(value, list) and self.name in frame.single else value


class Returned:
    """What the function returns."""

    def __init__(self, ctype: CType, shapes: Shapes, length: Length, free: str, measured: bool) -> None:
        self.shape, memory = shapes.of(ctype), shapes.memory(ctype)
        self.kind = memory.several if memory and (length or measured) else self.shape.kind
        self.unit = memory.unit if memory else 0
        self._length = length
        check_extent("what it returns", self.shape, length, free, measured)

    def collect(self, frame: Frame, result: Any, count: int | None) -> Value:
        """Copy the value, and what it leads to; ``count`` is what another function says of its length."""
        if isinstance(self._length, int):
            count = self._length
        count = frame.count(RETURNED) if count is None else count
        if count is None or not isinstance(self.shape, Memory):
            return self.shape.from_c(result)
        return self.shape.read(result, count)


def check_extent(name: str, shape: object, length: Length, free: str, measured: bool) -> None:
    """Check that it is known how much a pointer leads to, and that only pointers are freed.

    Raises:
        ValueError: It is not, or they are not.
    """
    if not isinstance(shape, Memory):
        if length is not None or free or (measured and isinstance(shape, HandleShape)):
            raise ValueError(f"{name} is no pointer to items, so it has no length and nothing to free")
    elif length is None and not measured and not shape.ends:
        raise ValueError(
            f"{name} is {shape.ctype.cname}, and no length, size_of or count_of says how much it leads to"
        )
