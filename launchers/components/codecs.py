"""The canonical ABI: values into the memory and the parameters of a component, and out of them.

A codec knows one type. In a list, a record or a result that is too long, a value has its place in memory; as
a parameter or the one result it is words. Words are the bits of core values, an i32 in the lower half; where
the cases of a variant share a word of different types, bits are what the specification has them share.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any, override

from ..failures import BadArguments, PluginRaised
from ..values import Value
from .context import Context
from .types import BORROW, OWN, SCALARS, STRING, Type

type Words = Iterator[int]

_MASK = 0xFFFFFFFF
_UTF16 = 1 << 31
_LAST_CHARACTER = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
# Format in memory, and the core type of a word.
_FORMATS = {
    "bool": ("<B", "i32"), "s8": ("<b", "i32"), "u8": ("<B", "i32"), "s16": ("<h", "i32"),
    "u16": ("<H", "i32"), "s32": ("<i", "i32"), "u32": ("<I", "i32"), "s64": ("<q", "i64"),
    "u64": ("<Q", "i64"), "f32": ("<f", "f32"), "f64": ("<d", "f64"), "char": ("<I", "i32"),
}  # fmt: skip


class Codec:
    """How values of one type cross.

    Attributes:
        size: Bytes in memory.
        align: What its address there is a multiple of.
        flat: The core types of its words.
    """

    size = 4
    align = 4
    flat: tuple[str, ...] = ("i32",)

    def check(self, context: Context, value: Value) -> None:
        """Whether a caller's value is one of the type; nothing has happened in the component yet.

        Raises:
            BadArguments: It is none.
        """
        raise NotImplementedError

    def load(self, context: Context, data: bytes, at: int) -> Value:
        """A value out of memory that was copied."""
        raise NotImplementedError

    def store(self, context: Context, value: Value, data: bytearray, at: int) -> None:
        """A value into what will be copied to memory."""
        raise NotImplementedError

    def lift(self, context: Context, words: Words) -> Value:
        """A value out of words."""
        raise NotImplementedError

    def lower(self, context: Context, value: Value, words: list[int]) -> None:
        """A value into words."""
        raise NotImplementedError


class Scalar(Codec):
    """Numbers and truth values."""

    def __init__(self, kind: str, path: str) -> None:
        self._kind, self._path = kind, path
        self._is_float = kind[0] == "f"
        form, core = _FORMATS[kind]
        self.struct = struct.Struct(form)
        self.size = self.align = self.struct.size
        self.flat = (core,)
        self._wide = (1 << 8 * self.size) - 1
        self._as_number = struct.Struct({1: "<B", 2: "<H", 4: "<I", 8: "<Q"}[self.size])
        # A word of a small signed number is that of an i32.
        self._extend = _MASK if core == "i32" else self._wide

    @override
    def check(self, context: Context, value: Value) -> None:
        self.checked(value)

    @override
    def load(self, context: Context, data: bytes, at: int) -> Value:
        value: Value = self.struct.unpack_from(data, at)[0]
        return value

    @override
    def store(self, context: Context, value: Value, data: bytearray, at: int) -> None:
        self.struct.pack_into(data, at, self.checked(value))

    @override
    def lift(self, context: Context, words: Words) -> Value:
        value: Value = self.struct.unpack(self._as_number.pack(next(words) & self._wide))[0]
        return value

    @override
    def lower(self, context: Context, value: Value, words: list[int]) -> None:
        checked = self.checked(value)
        if self._is_float:
            words.append(self._as_number.unpack(self.struct.pack(checked))[0])
        else:
            words.append(checked & self._extend)

    def checked(self, value: Value) -> Any:
        """The value, if it is one of the type.

        Raises:
            BadArguments: It is none.
        """
        wanted = float | int if self._is_float else int
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise BadArguments(f"{self._path} takes {self._kind}, not {shown(value)}")
        try:
            self.struct.pack(value)
        except (struct.error, OverflowError):
            raise BadArguments(f"{self._path}: {value!r:.40} does not fit into {self._kind}") from None
        return value


class Bool(Scalar):
    """Whatever is not 0 is true."""

    @override
    def load(self, context: Context, data: bytes, at: int) -> Value:
        return bool(data[at])

    @override
    def lift(self, context: Context, words: Words) -> Value:
        return bool(next(words) & _MASK)

    @override
    def checked(self, value: Value) -> Any:
        if not isinstance(value, bool):
            raise BadArguments(f"{self._path} takes bool, not {shown(value)}")
        return value


class Char(Scalar):
    """One character."""

    @override
    def load(self, context: Context, data: bytes, at: int) -> Value:
        return self._character(self.struct.unpack_from(data, at)[0])

    @override
    def lift(self, context: Context, words: Words) -> Value:
        return self._character(next(words) & _MASK)

    @override
    def checked(self, value: Value) -> Any:
        if not isinstance(value, str) or len(value) != 1 or ord(value) in _SURROGATES:
            raise BadArguments(f"{self._path} takes char, not {shown(value)}")
        return ord(value)

    def _character(self, number: int) -> str:
        if number > _LAST_CHARACTER or number in _SURROGATES:
            raise PluginRaised(f"the component hands over {number}, which is no character")
        return chr(number)


class Handle(Codec):
    """A resource: the one who owns it gives it away, or lends it for the time of the call."""

    def __init__(self, kind: Type, path: str) -> None:
        assert kind.resource is not None
        self._resource, self._owned, self._path = kind.resource, kind.kind == OWN, path

    @override
    def check(self, context: Context, value: Value) -> None:
        if context.outside is not None:
            context.outside.look(value, self._resource, self._path)

    @override
    def load(self, context: Context, data: bytes, at: int) -> Value:
        found: Value = self._out(context, int.from_bytes(data[at : at + 4], "little"))
        return found

    @override
    def store(self, context: Context, value: Value, data: bytearray, at: int) -> None:
        data[at : at + 4] = self._in(context, value).to_bytes(4, "little")

    @override
    def lift(self, context: Context, words: Words) -> Value:
        found: Value = self._out(context, next(words) & _MASK)
        return found

    @override
    def lower(self, context: Context, value: Value, words: list[int]) -> None:
        words.append(self._in(context, value))

    def _out(self, context: Context, index: int) -> Any:
        handles, resource = context.inside.handles, self._resource
        if self._owned:
            found: Any = handles.remove(index, resource, must_own=True).representation
            return found if context.outside is None else context.outside.hold(resource, found)
        handle = handles.look(index, resource)
        context.scope.lend(handle)
        return handle.representation

    def _in(self, context: Context, value: Any) -> int:
        resource, outside = self._resource, context.outside
        if outside is not None:
            value = (outside.take if self._owned else outside.look)(value, resource, self._path)
        if not self._owned and resource.owner is context.inside:
            return int(value)
        if self._owned:
            return context.inside.handles.add(resource, value)
        context.scope.borrowed += 1
        return context.inside.handles.add(resource, value, False, context.scope)


class Pair(Codec):
    """What is an address and a length: strings and lists."""

    size = 8
    flat = ("i32", "i32")

    @override
    def load(self, context: Context, data: bytes, at: int) -> Value:
        return self._out(context, *struct.unpack_from("<II", data, at))

    @override
    def store(self, context: Context, value: Value, data: bytearray, at: int) -> None:
        struct.pack_into("<II", data, at, *self._in(context, value))

    @override
    def lift(self, context: Context, words: Words) -> Value:
        return self._out(context, next(words) & _MASK, next(words) & _MASK)

    @override
    def lower(self, context: Context, value: Value, words: list[int]) -> None:
        words += self._in(context, value)

    def _out(self, context: Context, address: int, length: int) -> Value:
        raise NotImplementedError

    def _in(self, context: Context, value: Value) -> tuple[int, int]:
        raise NotImplementedError


class String(Pair):
    """Text, in the encoding that the component says."""

    def __init__(self, path: str) -> None:
        self._path = path

    @override
    def check(self, context: Context, value: Value) -> None:
        if not isinstance(value, str):
            raise BadArguments(f"{self._path} takes string, not {shown(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadArguments(f"{self._path} has a surrogate, which no string can have") from None

    @override
    def _out(self, context: Context, address: int, length: int) -> Value:
        encoding, align, size = context.encoding, 1, length
        if encoding == "latin-1":
            align = 2
            if length & _UTF16:
                encoding, length = "utf-16-le", length ^ _UTF16
        if encoding == "utf-16-le":
            align, size = 2, 2 * length
        else:
            size = length
        context.charge(1, size)
        try:
            return context.read(address, size, align).decode(encoding)
        except UnicodeDecodeError:
            raise PluginRaised(f"the component hands over a string that is no {encoding}") from None

    @override
    def _in(self, context: Context, value: Value) -> tuple[int, int]:
        self.check(context, value)
        assert isinstance(value, str)
        encoding, tag = context.encoding, 0
        if encoding == "latin-1" and not all(map("\u0100".__gt__, value)):
            encoding, tag = "utf-16-le", _UTF16
        data = value.encode(encoding)
        length = len(data) // 2 if encoding == "utf-16-le" else len(data)
        return context.place(data, 1 if context.encoding == "utf-8" else 2), length | tag


class Bytes(Pair):
    """A list of u8."""

    def __init__(self, path: str) -> None:
        self._path = path

    @override
    def check(self, context: Context, value: Value) -> None:
        if not isinstance(value, bytes):
            raise BadArguments(f"{self._path} takes bytes, not {shown(value)}")

    @override
    def _out(self, context: Context, address: int, length: int) -> Value:
        context.charge(1, length)
        return context.read(address, length)

    @override
    def _in(self, context: Context, value: Value) -> tuple[int, int]:
        self.check(context, value)
        assert isinstance(value, bytes)
        return context.place(value, 1), len(value)


class List(Pair):
    """Other lists."""

    def __init__(self, element: Codec, path: str) -> None:
        self._element, self._path = element, path
        self._numbers = element.struct.format[1:] if type(element) is Scalar else ""

    @override
    def check(self, context: Context, value: Value) -> None:
        if not isinstance(value, list):
            raise BadArguments(f"{self._path} takes a list, not {shown(value)}")
        if self._packed(value) is None:
            for item in value:
                self._element.check(context, item)

    def _packed(self, value: list[Value]) -> bytes | None:
        """A list of numbers as it is in memory; ``None`` when it is none, or one by one is told why."""
        if not self._numbers or not all(type(item) is int or type(item) is float for item in value):
            return None
        try:
            return struct.pack(f"<{len(value)}{self._numbers}", *value)
        except (struct.error, OverflowError):
            return None

    @override
    def _out(self, context: Context, address: int, length: int) -> Value:
        element, size = self._element, self._element.size
        context.charge(length, length * size)
        data = context.read(address, length * size, element.align)
        if self._numbers:
            return list(struct.unpack(f"<{length}{self._numbers}", data))
        return [element.load(context, data, at) for at in range(0, length * size, size)]

    @override
    def _in(self, context: Context, value: Value) -> tuple[int, int]:
        if not isinstance(value, list):
            raise BadArguments(f"{self._path} takes a list, not {shown(value)}")
        packed, element, size = self._packed(value), self._element, self._element.size
        if packed is not None:
            return context.place(packed, element.align), len(value)
        data = bytearray(len(value) * size)
        for index, item in enumerate(value):
            element.store(context, item, data, index * size)
        return context.place(data, element.align), len(value)


def shown(value: Value) -> str:
    """A value for a message."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 40 else text[:40] + '...'}"


def simple(kind: Type, path: str) -> Codec | None:
    """The codec of a type that is made of no others."""
    if kind.kind in SCALARS:
        special: dict[str, Callable[[str, str], Codec]] = {"bool": Bool, "char": Char}
        return special.get(kind.kind, Scalar)(kind.kind, path)
    if kind.kind == STRING:
        return String(path)
    if kind.kind in (OWN, BORROW):
        return Handle(kind, path)
    return None
