"""What is behind a C pointer: texts, bytes, arrays, structs, and the types of all parameters and results."""

from typing import Any

import _cffi_backend as backend

from ._native_abi import ffi
from .failures import BadArguments, BadValue
from .native_handles import Handles, HandleShape
from .native_library import NULL, CData, CType, bytes_of
from .native_values import BYTES, Array, Shape, Struct, bounded, primitive, text
from .values import Value

_BYTES_POINTER = ffi.typeof("uint8_t *")


class Memory(Shape):
    """A pointer to items.

    Attributes:
        item: What it leads to.
        unit: Bytes of one item.
        several: What callers see of more than one item, for signatures.
        is_flat: Nothing in it leads anywhere else.
        ends: One can see in the memory where it ends, or it is one item.
    """

    is_flat = True
    ends = False

    def __init__(self, ctype: CType, item: Shape, limit: int) -> None:
        super().__init__(ctype)
        self.item = item
        self.unit = 1 if ctype.item.kind == "void" else ffi.sizeof(ctype.item)
        self.limit = limit
        self.kind = self.several = f"[{item.kind}]"
        pointer = _BYTES_POINTER if ctype.item.kind == "void" else ctype
        self.array = backend.new_array_type(pointer, None)

    def to_c(self, value: Value, name: str, keep: list[CData]) -> Any:
        """See Shape: a list becomes an array, one item an array of one, None is NULL."""
        if value is None and self.can_be_null:
            return NULL
        if not isinstance(value, list):
            return self.allocate([self.item.to_c(value, name, keep)], name)
        items = [self.item.to_c(one, f"{name}[{index}]", keep) for index, one in enumerate(value)]
        return self.allocate(items, name)

    def allocate(self, items: Any, name: str) -> CData:
        """Make an array of items; every size comes from the caller, so it is checked here."""
        if len(items) * self.unit > self.limit:
            raise BadArguments(
                f"{name} needs {len(items) * self.unit} bytes, and the plugin may use {self.limit}"
            )
        return ffi.new(self.array, items)

    def to_field(self, value: Value, name: str, keep: list[CData]) -> CData:
        """Turn a value into a pointer that stands in other memory, so that nothing else keeps it."""
        memory: CData = self.to_c(value, name, keep)
        keep.append(memory)
        return memory

    def count(self, memory: Any) -> int:
        """Count the items of what ``to_c`` returned."""
        return 0 if memory is NULL else len(memory)

    def from_c(self, value: Any) -> Value:
        """See Shape; only for what ``ends``."""
        return None if value == NULL else self.read_ended(value)

    def read_ended(self, pointer: CData) -> Value:
        """Copy what is at an address up to its end."""
        raise NotImplementedError

    def read(self, pointer: CData, count: int) -> Value:
        """Copy so many items from an address that the plugin gave.

        Raises:
            BadValue: There cannot be so many.
        """
        if pointer == NULL:
            if count:
                raise BadValue(f"the function returned {count} items at no address (NULL)")
            return None
        bounded(count * self.unit, self.limit, self.kind)
        return self.copy(pointer, count)

    def copy(self, pointer: CData, count: int) -> Value:
        """Copy so many items."""
        # SAFETY: the memory is ours, or the function says that it has so many items; the kernel ends this
        # process if that is not true.
        return [self.item.from_c(one) for one in ffi.unpack(pointer, count)]


class Text(Memory):
    """A pointer to char, to bytes or to void: a str or bytes."""

    def __init__(self, ctype: CType, limit: int) -> None:
        super().__init__(ctype, Shape(ctype), limit)
        self.kind = self.several = "str" if ctype.item.cname == "char" else "bytes"
        self.ends = ctype.item.kind != "void"

    def to_c(self, value: Value, name: str, keep: list[CData]) -> Any:
        """See Shape; the memory of the bytes themselves is what C sees."""
        if type(value) is bytes:
            return value
        if value is None and self.can_be_null:
            return NULL
        if not isinstance(value, str):
            raise self._refuse(value, name)
        if self.kind == "str" and "\0" in value:
            raise BadArguments(f"{name} contains the character NUL, which ends a text in C")
        return value.encode()

    def to_field(self, value: Value, name: str, keep: list[CData]) -> CData:
        """See Memory."""
        data = self.to_c(value, name, keep)
        keep.append(NULL if data is NULL else ffi.new("char[]", data))
        return keep[-1]

    def read_ended(self, pointer: CData) -> Value:
        """Copy a text without its end."""
        # SAFETY: that the pointer leads to a text is the claim of whoever wrote the declaration; a wrong one
        # ends this process, and only this one. The search for its end stops at the limit.
        found = bytes_of(pointer, self.limit + 1)
        if len(found) > self.limit:
            raise BadValue(f"the function returned a text of more than {self.limit} bytes")
        return text(found)

    def copy(self, pointer: CData, count: int) -> Value:
        """See Memory."""
        # SAFETY: as in Memory.copy.
        data = bytes(ffi.buffer(pointer, count))
        return text(data) if self.kind == "str" else data


class Structs(Memory):
    """A pointer to one struct or to several."""

    ends = True

    def __init__(self, ctype: CType, item: Shape, limit: int) -> None:
        super().__init__(ctype, item, limit)
        self.kind = item.kind

    def read_ended(self, pointer: CData) -> Value:
        """Copy one struct."""
        # SAFETY: that the pointer leads to such a struct is the claim of the declaration.
        return self.item.from_c(pointer[0])

    def copy(self, pointer: CData, count: int) -> Value:
        """See Memory."""
        # SAFETY: as in Memory.copy.
        return [self.item.from_c(pointer[index]) for index in range(count)]


class Texts(Memory):
    """A pointer to texts; NULL ends them unless something counts them."""

    is_flat = False
    ends = True

    def to_c(self, value: Value, name: str, keep: list[CData]) -> Any:
        """See Memory; C gets a NULL behind the last one."""
        if value is None and self.can_be_null:
            return NULL
        if not isinstance(value, list):
            raise self._refuse(value, name)
        assert isinstance(self.item, Memory)
        cells = [self.item.to_field(one, f"{name}[{index}]", keep) for index, one in enumerate(value)]
        return self.allocate([*cells, NULL], name)

    def count(self, memory: Any) -> int:
        """See Memory; without the NULL behind them."""
        return max(0, super().count(memory) - 1)

    def read_ended(self, pointer: CData) -> Value:
        """Copy the texts before the NULL."""
        found: list[Value] = []
        # SAFETY: that a NULL comes is the claim of the declaration. What was found is bounded all the same.
        while pointer[len(found)] != NULL:
            self._add(found, pointer[len(found)])
        return found

    def copy(self, pointer: CData, count: int) -> Value:
        """See Memory; a NULL among them is None."""
        found: list[Value] = []
        for index in range(count):
            # SAFETY: as in Memory.copy.
            self._add(found, pointer[index])
        return found

    def _add(self, found: list[Value], pointer: CData) -> None:
        if len(found) * self.unit > self.limit // 8:
            raise BadValue(f"the function returned more than {len(found)} texts")
        found.append(self.item.from_c(pointer))


class _Member(Shape):
    """A pointer inside a struct: the text that it leads to."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory.ctype)
        self.kind = memory.kind
        self._memory = memory
        memory.can_be_null = True

    def to_c(self, value: Value, name: str, keep: list[CData]) -> CData:
        """See Shape."""
        return self._memory.to_field(value, name, keep)

    def from_c(self, value: CData) -> Value:
        """See Shape."""
        return self._memory.from_c(value)


class Shapes:
    """The shape of every type that a plugin declares.

    Args:
        limit: Bytes; nothing that comes from the plugin is larger.
        handles: The handles of the plugin.
    """

    def __init__(self, limit: int, handles: Handles) -> None:
        self._limit = limit
        self._handles = handles
        self._structs: dict[CType, Struct] = {}

    def of(self, ctype: CType) -> Shape:
        """Return the shape of a parameter or a result.

        Raises:
            ValueError: No plain value stands for the type; says why.
        """
        match ctype.kind:
            case "primitive" | "enum" | "void":
                return primitive(ctype)
            case "struct":
                return self._struct(ctype)
            case "pointer":
                return self._pointer(ctype)
            case "union":
                raise ValueError(f"{ctype.cname} is a union, and nothing tells which member counts")
            case "function":
                raise ValueError(f"{ctype.cname} is a function pointer, which function or callback can bind")
        raise ValueError(f"{ctype.cname} stands for no plain value")

    def memory(self, ctype: CType) -> Memory | None:
        """Return the shape of a pointer to items; None for any other type.

        Raises:
            ValueError: No plain value stands for the type; says why.
        """
        shape = self.of(ctype)
        return shape if isinstance(shape, Memory) else None

    def _pointer(self, ctype: CType) -> Shape:
        item = ctype.item
        if item.kind == "struct" and item.fields is None:
            return HandleShape(ctype, self._handles)
        if item.kind == "void" or item.cname == "char" or item.cname in BYTES:
            return Text(ctype, self._limit)
        if item.kind in ("primitive", "enum"):
            return Memory(ctype, primitive(item), self._limit)
        if item.kind == "struct":
            return Structs(ctype, self._struct(item), self._limit)
        if item.kind == "pointer" and (item.item.cname == "char" or item.item.cname in BYTES):
            return Texts(ctype, Text(item, self._limit), self._limit)
        if item.kind == "union":
            self.of(item)
        raise ValueError(f"{ctype.cname} stands for no plain value")

    def _struct(self, ctype: CType) -> Struct:
        found = self._structs.get(ctype)
        if found is None:
            if not ctype.fields:
                raise ValueError(f"{ctype.cname} has no members, so nothing can be counted in it")
            if ffi.sizeof(ctype) > self._limit:
                raise ValueError(f"{ctype.cname} has {ffi.sizeof(ctype)} bytes, more than the plugin may use")
            members = {name: self._member(ctype, name, field.type) for name, field in ctype.fields}
            _check_unions(ctype)
            found = self._structs[ctype] = Struct(ctype, members)
        return found

    def _member(self, owner: CType, name: str, ctype: CType) -> Shape:
        problem = f"{owner.cname} has the member {name}"
        try:
            if ctype.kind == "array":
                if ctype.length is None:
                    raise ValueError("its length is open")
                return Array(ctype, self._member(owner, f"{name}[]", ctype.item))
            if ctype.kind == "pointer" and ctype.item.cname == "char":
                return _Member(Text(ctype, self._limit))
            if ctype.kind == "pointer" and (ctype.item.kind != "struct" or ctype.item.fields is not None):
                raise ValueError(f"{ctype.cname} leads out of it, which only texts and handles may")
            return self.of(ctype)
        except ValueError as reason:
            raise ValueError(f"{problem}: {reason}") from None


def _check_unions(ctype: CType) -> None:
    """Refuse a union without a name: its members count as the struct's own, and lie over one another."""
    end = 0
    for name, field in ctype.fields:
        if field.bitsize >= 0:
            continue
        if field.offset < end:
            raise ValueError(
                f"{ctype.cname} has the member {name} in a union, and nothing tells which counts"
            )
        end = field.offset + ffi.sizeof(field.type)
