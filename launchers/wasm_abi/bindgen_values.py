"""Values of the host as wasm-bindgen's modules take and give them.

A type (see ``types``) has one or more shapes: the wasm types that it takes up, which changed over the years
and with the engine's features. The module's own function types tell which one it is.

Source: src/convert/{impls,slices,traits}.rs of https://github.com/wasm-bindgen/wasm-bindgen.
"""

import struct
from collections.abc import Sequence
from functools import cache

from ..artifact import Value
from ..failures import BadArguments, BadValue
from .bindgen_world import View
from .types import SIZES

type Shape = tuple[str, ...]  # wasm types
type Word = int | float

_PAIR: Shape = ("i32", "i32")
_REFERENCE: Shape = ("externref",)
HANDLES = ("list:str", "list:any")
"""Arrays of handles; where a declaration is all that says so, one handle of an array."""

_CHANGED: tuple[Shape, ...] = (
    ("i32", "i32", "externref"),
    ("i32", "i32", "i32"),
)  # with its JavaScript array
_WHOLE = ("number", "i8", "u8", "i16", "u16", "i32", "u32")
_RANGES = {
    "i8": (-(1 << 7), 1 << 7), "u8": (0, 1 << 8), "i16": (-(1 << 15), 1 << 15), "u16": (0, 1 << 16),
    "i32": (-(1 << 31), 1 << 31), "u32": (0, 1 << 32), "i64": (-(1 << 63), 1 << 63), "u64": (0, 1 << 64),
}  # fmt: skip
_BITS = {"i32": 32, "i64": 64}
_NO_SMALL = 0xFFFFFF  # None of an Option<bool>, Option<u16>, Option<char>
_NO_FLOAT = 4294967297.0  # None of an Option<u32> that travels as f64: 1 << 32 | 1


class Block:
    """Bytes that go into the module's memory, and travel as their address and a number of items."""

    __slots__ = ("data", "item")

    def __init__(self, data: bytes, item: int = 1) -> None:
        self.data = data
        self.item = item


class Held:
    """A value that the module gets by a handle or a reference."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


class Changed(Held):
    """What the module copies an array back into that it has changed."""

    __slots__ = ("_base", "_view")

    def __init__(self, base: str, data: bytes) -> None:
        self._base, self._view = base, View(len(data))
        self._view.write(0, data)
        super().__init__(self._view)

    def read(self) -> Value:
        """The array after the call."""
        data = self._view.read()
        return data if self._base == "bytes" else list_of(self._base[5:], data)


class Row:
    """Values that travel as an array of handles: the address and how many there are."""

    __slots__ = ("values",)

    def __init__(self, values: list[Value]) -> None:
        self.values = values


type Part = Word | Block | Held | Row


@cache
def shapes(kind: str) -> tuple[Shape, ...]:
    """Every shape that a type can have, the likelier ones first."""
    base = kind.removesuffix("?")
    optional = base != kind
    if kind == "none":  # the type of None, where nothing is declared
        return (_PAIR, ("i32", "i64"), ("i32", "f64"), ("i32", "f32"), ("f64",), ("i32",))
    if kind == "void":
        return ((),)
    if base.startswith("mut:"):
        return _CHANGED
    if base in HANDLES:
        return (_PAIR, _REFERENCE, ("i32",))
    if base == "bytes" or base.startswith("list:"):
        return (_PAIR, _CHANGED[0])
    if base == "str":
        return (_PAIR, ("i32",))
    if base == "any":
        return (_REFERENCE, ("i32",))
    plain = _plain_shapes(base)
    if not optional or base == "bool":
        return plain
    if base not in SIZES and base not in ("number", "bigint"):
        return plain  # a struct: 0 is none
    pairs = tuple(("i32", *shape) for shape in plain)
    return (*pairs, ("f64",), ("i32",)) if base in (*_WHOLE, "f32") else pairs


def _plain_shapes(base: str) -> tuple[Shape, ...]:
    if base == "number":
        return (("i32",), ("f64",), ("i64",), ("f32",))
    if base in ("bigint", "i64", "u64"):
        return (("i64",),)
    return ((base,),) if base in ("f32", "f64") else (("i32",),)


def lay_out(kinds: Sequence[str], wasm: Shape, *, guess: bool = False) -> list[Shape] | None:
    """Find a shape for each type so that together they are exactly ``wasm``; ``None`` if there is none.

    With ``guess`` the types are those of values, and any value may be wanted as a reference.
    """
    # reached[position]: the shapes that lead there with the types so far.
    reached: dict[int, list[Shape]] = {0: []}
    for kind in kinds:
        following: dict[int, list[Shape]] = {}
        for position, chosen in reached.items():
            for shape in (*shapes(kind), *([_REFERENCE] if guess else [])):
                end = position + len(shape)
                if wasm[position:end] == shape and end not in following:
                    following[end] = [*chosen, shape]
        reached = following
    return reached.get(len(wasm))


def type_of(value: Value) -> str:
    """The type that a value has where none is declared."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "bytes" if isinstance(value, bytes) else "str" if isinstance(value, str) else "any"


def lower(kind: str, shape: Shape, value: Value, where: str) -> list[Part]:
    """Turn an argument into words of its shape; a block and a row stand for two.

    Raises:
        BadArguments: It is of another type; the message begins with ``where``.
    """
    base = kind.removesuffix("?").removeprefix("mut:")
    if base == "any" or (shape == _REFERENCE and base not in HANDLES):
        return [Held(value)]
    if value is None and (base != kind or kind == "none"):
        return _nothing(base, shape)
    if base in HANDLES:
        row = _row(base, value, where)
        return [row] if shape == _PAIR else [Held(row.values)]
    if base == "bytes" or base.startswith("list:") or (base == "str" and shape == _PAIR):
        listed = base.startswith("list:")
        block = _list(base[5:], value, where) if listed else Block(_bytes(base, value, where))
        return [block, Changed(base, block.data)] if shape in _CHANGED else [block]
    if base == "str":
        if not isinstance(value, str) or len(value) != 1:
            raise BadArguments(f"{where} takes a str of one character, not {_short(value)}")
        return [ord(value)]
    if base == "bool":
        if not isinstance(value, bool):
            raise BadArguments(f"{where} takes a bool, not {_short(value)}")
        return [int(value)]
    number = _number(base, shape[-1], value, where)
    return [1, *number] if len(shape) == 2 else number


def _nothing(base: str, shape: Shape) -> list[Part]:
    if shape == ("f64",):
        return [_NO_FLOAT]
    if shape == ("i32",) and base in ("bool", "str", *_WHOLE):
        return [_NO_SMALL]
    return [0] * len(shape)


def _bytes(base: str, value: Value, where: str) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise BadArguments(f"{where}: a str with lone surrogates is no UTF-8") from None
    if not isinstance(value, bytes):
        raise BadArguments(f"{where} takes {base}, not {_short(value)}")
    if base == "str":
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise BadArguments(f"{where} takes a str; these bytes are no UTF-8 at {error.start}") from None
    return value


def _row(base: str, value: Value, where: str) -> Row:
    wanted = "a list of str" if base == "list:str" else "a list"
    if not isinstance(value, list):
        raise BadArguments(f"{where} takes {wanted}, not {_short(value)}")
    if base == "list:str":
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise BadArguments(f"{where} takes {wanted}; at {index} there is {_short(item)}")
    return Row(value)


def _list(item: str, value: Value, where: str) -> Block:
    if item not in SIZES:
        raise BadArguments(f"{where} takes an array of {item}, which only JavaScript of its own could make")
    code = SIZES[item]
    size = struct.calcsize(code)
    if isinstance(value, bytes) and not len(value) % size:
        return Block(value, size)
    if not isinstance(value, list):
        raise BadArguments(f"{where} takes a list of {item}, not {_short(value)}")
    try:
        return Block(struct.pack(f"<{len(value)}{code}", *value), size)
    except (struct.error, OverflowError) as error:
        raise BadArguments(f"{where} takes a list of {item}: {error}") from None


def _number(base: str, wasm: str, value: Value, where: str) -> list[Part]:
    if not isinstance(value, int | float):
        raise BadArguments(f"{where} takes a number, not {_short(value)}")
    if wasm in ("f32", "f64"):
        return [float(value)]
    if isinstance(value, float):
        if not value.is_integer():
            raise BadArguments(f"{where} takes a whole number, not {value}")
        value = int(value)
    bits = _BITS[wasm]
    least, end = _RANGES.get(base, (-(1 << (bits - 1)), 1 << bits))
    if not least <= value < end:
        raise BadArguments(f"{where}: {value} does not fit into an {base if base in SIZES else wasm}")
    return [value & ((1 << bits) - 1)]


def _short(value: Value) -> str:
    return type(value).__name__ if not isinstance(value, int | float) else repr(value)


def lift(kind: str, shape: Shape, words: Sequence[int]) -> Value:
    """Turn the words of a result into a number, a bool or a character; other types need the instance."""
    base = kind.removesuffix("?")
    if base != kind and len(shape) == 2:
        if not words[0]:
            return None
        shape, words = shape[1:], words[1:]
    word, wasm = words[0], shape[0]
    if wasm in ("f32", "f64"):
        return _float(base, wasm, word, optional=base != kind)
    if base != kind and word & 0xFFFFFFFF == _NO_SMALL and base in ("bool", "str", *_WHOLE):
        return None
    if base == "bool":
        return bool(word & 0xFFFFFFFF)
    if base == "str":
        if word > 0x10FFFF:
            raise BadValue(f"the plugin returned {word} as a character")
        return chr(word)
    bits = _BITS[wasm]
    word &= (1 << bits) - 1
    unsigned = base in ("u8", "u16", "u32", "u64")
    return word if unsigned or not word >> (bits - 1) else word - (1 << bits)


def _float(base: str, wasm: str, word: int, *, optional: bool) -> Value:
    number: float = struct.unpack("<d" if wasm == "f64" else "<f4x", word.to_bytes(8, "little"))[0]
    if optional and wasm == "f64" and number == _NO_FLOAT:
        return None
    # Whole numbers that only travel as f64.
    return int(number) if base in _RANGES and number.is_integer() else number


def list_of(item: str, data: bytes) -> Value:
    """Unpack an array of sized numbers."""
    return list(struct.unpack(f"<{len(data) // struct.calcsize(SIZES[item])}{SIZES[item]}", data))
