"""An instance of a wasm-bindgen module, its allocator, and the objects inside it that callers hold."""

import struct

from ..artifact import Value
from ..failures import BadArguments, LimitReached
from ..wasm_instance import Entry
from . import Guest
from .bindgen_glue import Glue
from .bindgen_imports import as_object, plain
from .bindgen_results import UNTOUCHED

TYPE_CHECKING = False  # only annotations need what follows
if TYPE_CHECKING:
    from ..wasm_library import FunctionType
    from ..wasm_memory import Memory

_STRIPPED = "__wbindgen_export"
_COPIES_BACK = "wbindgencopytotypedarray"
_DROP_SLICE = "__externref_drop_slice"
_HANDLE = 4  # bytes
_MASK = 0xFFFFFFFF
AREA_WORDS = 8
"""Words of the return area; the longest result has six."""

_MOST_OBJECTS = 10_000
_handles = iter(range(1, 1 << 62))  # never twice in a process


class Objects:
    """A started instance.

    Attributes:
        instance: The instance.
        memory: Its memory.
        glue: The imports of every such module.
        world: The values of the host that this one holds.
        structs: The names of its structs, in lower case.
        made: By struct, the address of the object that methods without a handle work on.
        copies_back: Whether it imports what copies an array back to its host that it has changed.
    """

    def __init__(self, guest: Guest, glue: Glue) -> None:
        self.instance = guest.instance
        self.memory: Memory = guest.instance.memory()
        self.glue = glue
        self.world = glue.world
        self.structs = {
            name.removeprefix("__wbg_").removesuffix("_free")
            for name in guest.module.exports
            if name.startswith("__wbg_") and name.endswith("_free")
        }
        self._held: dict[int, tuple[str, int]] = {}
        self.made: dict[str, int] = {}
        self._area = 0
        self.copies_back = any(_COPIES_BACK in name.replace("_", "") for (_, name), _ in guest.module.imports)
        self._malloc, self._free, self._slot = _helpers(guest)
        dropped = guest.module.functions().get(_DROP_SLICE) == (("i32", "i32"), ())
        self._drop_slice = guest.instance.entry(_DROP_SLICE, (("i32", "i32"), ())) if dropped else None
        self.world.allocate = self.allocate
        self.world.program = guest.wasi.program
        self._tables = self.world.tables = [
            guest.instance.table(name)
            for name, kind in guest.module.exports.items()
            if kind == "table" and name.startswith(("__wbindgen_externrefs", _STRIPPED))
        ]

    def allocate(self, size: int, alignment: int = 1) -> int:
        """Allocate in the module.

        Raises:
            BadArguments: It has no allocator.
            LimitReached: It has no room.
        """
        if self._malloc is None:
            raise BadArguments("the module exports no allocator, so it can only take and return numbers")
        words = self._malloc.words
        words[0], words[2] = size, alignment
        self._malloc.run()
        address = int(words[0]) & _MASK
        if not address and size:
            raise LimitReached("memory", f"the plugin found no room for {size} bytes", len(self.memory))
        return address

    def release(self, address: int, size: int, alignment: int) -> None:
        """Give back what the module returned."""
        if self._free is not None and size:
            words = self._free.words
            words[0], words[2], words[4] = address, size, alignment
            self._free.run()

    def return_area(self) -> int:
        """Where functions of the older convention write their result."""
        if not self._area:
            self._area = self.allocate(4 * AREA_WORDS, 8)
        self.memory.write(self._area, UNTOUCHED.to_bytes(4, "little") * AREA_WORDS)
        return self._area

    def return_words(self) -> bytes:
        """What a function wrote there."""
        return self.memory.read(self._area, 4 * AREA_WORDS)

    def hand_out(self, owner: str, address: int) -> int:
        """Give a new object a handle.

        Raises:
            LimitReached: There are too many.
        """
        if len(self._held) >= _MOST_OBJECTS:
            raise LimitReached(
                "memory", f"more than {_MOST_OBJECTS} objects of the plugin are alive; free some"
            )
        handle = next(_handles)
        self._held[handle] = (owner, address)
        return handle

    def address(self, owner: str, handle: Value, where: str, *, end: bool = False) -> int:
        """Return where the object of a handle is.

        Raises:
            BadArguments: It is none of that class.
        """
        held = self._held.get(handle) if type(handle) is int else None
        if held is None or held[0] != owner.lower():
            raise BadArguments(
                f"{where} takes a handle of {owner}, as {owner}.new returns it; {str(handle)[:40]!r} "
                "is none, or its object is gone"
            )
        if end and type(handle) is int:
            del self._held[handle]
        return held[1]

    def give(self, value: object, held: list[tuple[int, object]]) -> int:
        """Hand the module a value by a number; 0 is no value. One of the heap is noted in ``held``."""
        if value is None:
            return 0
        if not self._tables:
            given = as_object(value)
            held.append((self.world.put(given), given))
            return held[-1][0]
        return self._give(value)

    def _give(self, value: object) -> int:
        if not self._tables:
            return self.world.put(as_object(value))
        if self._slot is None:
            raise BadArguments("the module exports nothing to hand it a value of its host with")
        self._slot.run()
        number = int(self._slot.words[0]) & _MASK
        self.glue.references.put(self.instance.context, self._tables[0], number, as_object(value))
        return number

    def give_all(self, values: list[Value]) -> int:
        """Hand the module an array of values, which it owns then; where it is.

        Raises:
            BadArguments: The module cannot have one.
            LimitReached: There is no room, or too many values.
        """
        numbers = [self._give(value) for value in values]
        address = self.allocate(_HANDLE * len(values), _HANDLE)
        self.memory.write(address, struct.pack(f"<{len(numbers)}I", *numbers))
        return address

    def take_all(self, address: int, length: int) -> Value:
        """The values of an array that the module hands over.

        Raises:
            BadValue: It lies outside of the memory.
        """
        data = self.memory.read(address, _HANDLE * length)
        values = [plain(self.take(number)) for number in struct.unpack(f"<{length}I", data)]
        if self._drop_slice is not None:
            self._drop_slice.words[0], self._drop_slice.words[2] = address, length
            self._drop_slice.run()
        self.release(address, len(data), _HANDLE)
        return values

    def gave(self, number: int) -> bool:
        """Whether the module holds a value under this number."""
        return self.world.holds(number) or (bool(self._tables) and self._in_table(number) is not None)

    def _in_table(self, number: int) -> object:
        for table in self._tables:
            found = self.glue.references.in_table(self.instance.context, table, number)
            if found is not None:
                return found
        return None

    def take(self, number: int) -> object:
        """Return a value that the module hands over by its number in heap or table."""
        found = self._in_table(number)
        if found is not None:
            return found
        value = self.world.get(number)
        self.world.drop(number)
        return value


def _helpers(guest: Guest) -> list[Entry | None]:
    """Find malloc, free, and what makes room in the table of references.

    Where names are stripped, their types tell them apart, and with them the two generations.
    """
    functions = guest.module.functions()
    stripped = {kind: name for name, kind in reversed(functions.items()) if name.startswith(_STRIPPED)}
    found: list[Entry | None] = []
    new: FunctionType = (("i32", "i32"), ("i32",))
    old: FunctionType = (("i32",), ("i32",))
    aligned = functions.get("__wbindgen_malloc", new if new in stripped else old) == new
    freed: FunctionType = (("i32",) * (3 if aligned else 2), ())
    for name, kind in (
        ("__wbindgen_malloc", new if aligned else old),
        ("__wbindgen_free", freed),
        ("__externref_table_alloc", ((), ("i32",))),
    ):
        chosen = name if functions.get(name) == kind else stripped.get(kind, "")
        # Three slots for each: callers set them all, whichever generation it is.
        found.append(guest.instance.entry(chosen, (("i32",) * 3, ("i32",))) if chosen else None)
    return found
