"""The values of the host that a wasm-bindgen module holds: its side of JavaScript."""

from collections.abc import Callable

from ..failures import LimitReached
from ..wasm_memory import Memory
from ..wasm_program import STDERR, Program

TYPE_CHECKING = False  # only annotations need what follows
if TYPE_CHECKING:
    from ..wasm_library import Pointer

type Allocate = Callable[[int, int], int]

_MOST_VALUES = 1 << 15
_FIRST_FREE = 132  # JSIDX_RESERVED of wasm-bindgen: code is compiled with the numbers below it
_LINE = 1 << 14


class Undefined:
    """The type of JavaScript's ``undefined``; ``None`` is its ``null``."""

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED = Undefined()


class Thrown:
    """A JavaScript ``Error``, by its message."""

    def __init__(self, message: str) -> None:
        self.message = message

    def __repr__(self) -> str:
        return self.message


class Made(Thrown):
    """What ``new`` of JavaScript made: an object, an array or an error, as its use will show.

    Attributes:
        content: What was put in; ``None`` as long as nothing was.
    """

    def __init__(self) -> None:
        super().__init__("")
        self.content: dict[str, object] | list[object] | None = None

    def put(self, key: object, value: object) -> None:
        """Set a property or an element."""
        if isinstance(key, str):
            if self.content is None:
                self.content = {}
            if isinstance(self.content, dict):
                self.content[key] = value
        elif isinstance(key, int | float):
            if self.content is None:
                self.content = []
            if isinstance(self.content, list) and key == len(self.content):
                self.content.append(value)
            elif isinstance(self.content, list) and 0 <= key < len(self.content):
                self.content[int(key)] = value


class View:
    """A ``Uint8Array``: bytes of its own, or a window onto the module's memory."""

    def __init__(self, length: int, memory: Memory | None = None, start: int = 0) -> None:
        self.length = length
        self._memory = memory
        self._start = start
        self._own = bytearray(0 if memory is not None else length)

    def part(self, start: int, end: int) -> "View":
        """A window onto a part of it."""
        end = min(end, self.length)
        start = min(start, end)
        view = View(end - start, self._memory, self._start + start)
        if self._memory is None:
            view._own = self._own
            view._start = self._start + start
        return view

    def read(self) -> bytes:
        """Copy the bytes out."""
        if self._memory is not None:
            return self._memory.read(self._start, self.length)
        return bytes(self._own[self._start : self._start + self.length])

    def write(self, at: int, data: bytes) -> None:
        """Copy bytes in, as far as there is room."""
        data = data[: max(self.length - at, 0)]
        at += self._start
        if self._memory is not None:
            self._memory.write(at, data)
        else:
            self._own[at : at + len(data)] = data


class World:
    """The values that one instance holds, and what its imports need of it.

    Attributes:
        allocate: The module's allocator (size, alignment), once the instance has started.
        tables: Its tables, of which one may be that of its externrefs.
        program: Where its console is written to, once the instance has started.
        last_words: The last line that it wrote there, or paragraph of a panic.
        description: What ``__wbindgen_describe`` was told.
        memory_limit: Bytes that its values may have together.
    """

    def __init__(self, memory_limit: int) -> None:
        self.allocate: Allocate | None = None
        self.tables: list[Pointer] = []
        self.program = Program([])
        self.last_words = ""
        self.description: list[int] = []
        self.memory_limit = memory_limit
        reserved: list[object] = [UNDEFINED, None, True, False]
        # 32 is where the heap of versions before 0.2.83 begins.
        self._heap: dict[int, object] = {
            first + index: value for first in (32, _FIRST_FREE - 4) for index, value in enumerate(reserved)
        }
        self._reserved = len(self._heap)
        self._free: list[int] = []
        self._size = 0

    def put(self, value: object) -> int:
        """Give a value a number.

        Raises:
            LimitReached: The module holds too many, or too large ones.
        """
        self._size += _size(value)
        if len(self._heap) > _MOST_VALUES or self._size > self.memory_limit:
            raise LimitReached("memory", f"the plugin holds {len(self._heap)} values of its host", self._size)
        number = self._free.pop() if self._free else _FIRST_FREE + len(self._heap) - self._reserved
        self._heap[number] = value
        return number

    def get(self, number: int) -> object:
        """Return a value; ``undefined`` for a number that is none."""
        return self._heap.get(number, UNDEFINED)

    def holds(self, number: int) -> bool:
        """Whether a number stands for a value that the module was given."""
        return number >= _FIRST_FREE and number in self._heap

    def drop(self, number: int) -> None:
        """Forget a value."""
        if self.holds(number):
            self._size -= _size(self._heap.pop(number))
            self._free.append(number)

    def say(self, line: str) -> None:
        """Write a line to the plugin's log."""
        self.last_words = " ".join(line[:_LINE].partition("\n\nStack:")[0].split())
        try:
            self.program.write(STDERR, f"{line[:_LINE]}\n".encode("utf-8", "replace"))
        except OSError:
            pass


def _size(value: object) -> int:
    if isinstance(value, View):
        return value.length
    return len(value) if isinstance(value, str | bytes) else 64
