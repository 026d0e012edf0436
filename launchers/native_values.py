"""Plain values and what stands for them in C: numbers, structs and arrays.

What is behind a pointer stands in native_memory.py.
"""

from typing import Any

import _cffi_backend as backend

from ._native_abi import ffi
from .failures import BadArguments, BadValue
from .native_library import CData, CType, bytes_of
from .values import Value

_FLOATS = ("float", "double", "long double")
_NO_INTEGERS = {
    "wchar_t",
    "char16_t",
    "char32_t",
    "float _Complex",
    "double _Complex",
    "_cffi_float_complex_t",
    "_cffi_double_complex_t",
}
BYTES = ("uint8_t", "int8_t", "unsigned char", "signed char")


class Shape:
    """The plain values of one C type; this very class is void, which has none.

    Attributes:
        kind: What callers see, for signatures and messages.
        ctype: The C type.
        can_be_null: None may be passed, for NULL.
    """

    kind = "None"
    can_be_null = False

    def __init__(self, ctype: CType) -> None:
        self.ctype = ctype

    def to_c(self, value: Value, name: str, keep: list[CData]) -> Any:
        """Turn an argument into what cffi passes on. That a number fits its type is checked by cffi.

        Args:
            value: The argument.
            name: What to call it in messages.
            keep: Takes the memory that must live as long as the call.

        Raises:
            BadArguments: The value is of another kind.
            OverflowError: By cffi: a number does not fit.
        """
        raise BadArguments(f"{name} can have no value")

    def from_c(self, value: Any) -> Value:
        """Turn a result into a plain value.

        Raises:
            BadValue: It is larger than the plugin may be.
        """
        return None

    def _refuse(self, value: Value, name: str) -> BadArguments:
        return BadArguments(f"{name} must be {self.kind}, not {type(value).__name__}")


class Int(Shape):
    """Integers of any width."""

    kind = "int"

    def to_c(self, value: Value, name: str, keep: list[CData]) -> int:
        """See Shape; a bool is an integer, as in C."""
        if isinstance(value, int):
            return value
        raise self._refuse(value, name)

    def from_c(self, value: Any) -> Value:
        """See Shape."""
        return int(value)


class Enum(Int):
    """An enum: its number, going in its name as well."""

    def to_c(self, value: Value, name: str, keep: list[CData]) -> int:
        """See Shape."""
        if isinstance(value, str):
            if value not in self.ctype.relements:
                names = ", ".join(list(self.ctype.relements)[:20])
                raise BadArguments(f"{name} is {value!r}; {self.ctype.cname} has: {names}")
            number: int = self.ctype.relements[value]
            return number
        return super().to_c(value, name, keep)


class Bool(Shape):
    """C's _Bool."""

    kind = "bool"

    def to_c(self, value: Value, name: str, keep: list[CData]) -> bool:
        """See Shape."""
        if isinstance(value, bool):
            return value
        raise self._refuse(value, name)

    def from_c(self, value: Any) -> Value:
        """See Shape."""
        return bool(value)


class Float(Shape):
    """Floating point numbers of any width."""

    kind = "float"

    def to_c(self, value: Value, name: str, keep: list[CData]) -> float:
        """See Shape."""
        if isinstance(value, int | float):
            return float(value)
        raise self._refuse(value, name)

    def from_c(self, value: Any) -> Value:
        """See Shape."""
        return float(value)


class Char(Shape):
    """One char: one byte of a text."""

    kind = "char"

    def to_c(self, value: Value, name: str, keep: list[CData]) -> bytes:
        """See Shape."""
        if not isinstance(value, str | bytes):
            raise self._refuse(value, name)
        encoded = value.encode() if isinstance(value, str) else value
        if len(encoded) != 1:
            raise BadArguments(f"{name} must be one byte, not {len(encoded)}")
        return encoded

    def from_c(self, value: Any) -> Value:
        """See Shape."""
        return text(value)


class Struct(Shape):
    """A struct as a dict; what is left out going in is zero."""

    def __init__(self, ctype: CType, members: dict[str, Shape]) -> None:
        super().__init__(ctype)
        self.kind = ctype.cname
        self._members = members
        self._pointer = backend.new_pointer_type(ctype)

    def to_c(self, value: Value, name: str, keep: list[CData]) -> CData:
        """See Shape; in memory of its own, because only that is cleared before members are set."""
        if not isinstance(value, dict):
            raise BadArguments(f"{name} must be a dict for {self.kind}, not {type(value).__name__}")
        members = self._members
        for key in value:
            if key not in members:
                raise BadArguments(f"{name} has no member {key!r}; {self.kind} has: {', '.join(members)}")
        given = {key: members[key].to_c(one, f"{name}.{key}", keep) for key, one in value.items()}
        struct: CData = ffi.new(self._pointer, given)[0]
        return struct

    def from_c(self, value: Any) -> Value:
        """See Shape."""
        return {key: shape.from_c(getattr(value, key)) for key, shape in self._members.items()}


class Array(Shape):
    """An array of a fixed length inside a struct: a text, bytes, or a list."""

    def __init__(self, ctype: CType, item: Shape) -> None:
        super().__init__(ctype)
        self._item = item
        is_text, is_bytes = ctype.item.cname == "char", ctype.item.cname in BYTES
        self.kind = "str" if is_text else "bytes" if is_bytes else f"[{item.kind}]"

    def to_c(self, value: Value, name: str, keep: list[CData]) -> Any:
        """See Shape; what is missing at the end is zero."""
        if self.kind in ("str", "bytes"):
            if not isinstance(value, str | bytes):
                raise self._refuse(value, name)
            items: Any = value.encode() if isinstance(value, str) else value
        elif isinstance(value, list):
            items = [self._item.to_c(one, f"{name}[{index}]", keep) for index, one in enumerate(value)]
        else:
            raise self._refuse(value, name)
        if len(items) > self.ctype.length:
            raise BadArguments(f"{name} has room for {self.ctype.length} items, not for {len(items)}")
        return items

    def from_c(self, value: Any) -> Value:
        """See Shape; a text ends at its NUL or with the array."""
        if self.kind == "str":
            # SAFETY: the memory is a whole array, and cffi looks no further than its end.
            return text(bytes_of(value))
        if self.kind == "bytes":
            # SAFETY: the memory is a whole array of the size that its type says.
            return bytes(ffi.buffer(value))
        return [self._item.from_c(one) for one in value]


def primitive(ctype: CType) -> Shape:
    """Return the shape of a number, an enum or void.

    Raises:
        ValueError: No plain value stands for the type.
    """
    if ctype.kind == "void":
        return Shape(ctype)
    if ctype.kind == "enum":
        return Enum(ctype)
    if ctype.cname in _NO_INTEGERS:
        raise ValueError(f"{ctype.cname} stands for no plain value")
    if ctype.cname in _FLOATS:
        return Float(ctype)
    return {"_Bool": Bool, "char": Char}.get(ctype.cname, Int)(ctype)


def text(data: bytes) -> str | bytes:
    """Return a C text as str, or as the bytes that it is when it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def bounded(size: int, limit: int, what: str) -> int:
    """Check the size of what the plugin says it returns.

    Raises:
        BadValue: It cannot be: more than the plugin may use, or less than nothing.
    """
    if not 0 <= size <= limit:
        raise BadValue(f"the function returned {what} of {size} bytes; the plugin may use {limit}")
    return size
