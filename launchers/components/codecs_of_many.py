"""The canonical ABI of types that are made of others; see ``codecs``."""

from collections.abc import Callable
from itertools import zip_longest
from typing import override

from ..failures import BadArguments, PluginRaised
from ..values import Value
from .codecs import Bytes, Codec, List, Words, shown, simple
from .context import Context
from .types import ENUM, FLAGS, LIST, OPTION, RECORD, RESULT, TUPLE, VARIANT, Refused, Type

_MASK = 0xFFFFFFFF
_WORDS = {"i32": 0, "f32": 0, "i64": 1, "f64": 1}


def codec(kind: Type, path: str) -> Codec:
    """How values of a type cross.

    Args:
        kind: The type.
        path: Where a value stands, for messages.

    Raises:
        Refused: They cannot.
    """
    found = simple(kind, path)
    if found is not None:
        return found
    if kind.kind not in _MAKERS:
        raise Refused(f"{path} is a {kind.kind}, which cannot leave the component")
    return _MAKERS[kind.kind](kind, path)


def aligned(at: int, align: int) -> int:
    """The next multiple of an alignment."""
    return (at + align - 1) // align * align


class _Members(Codec):
    """Several values behind one another."""

    def __init__(self, members: list[Codec]) -> None:
        self._members, self._offsets, at = members, list[int](), 0
        for member in members:
            at = aligned(at, member.align)
            self._offsets.append(at)
            at += member.size
        self.align = max(member.align for member in members)
        self.size = aligned(at, self.align)
        self.flat = tuple(word for member in members for word in member.flat)

    @override
    def check(self, context: Context, value: Value) -> None:
        for member, item in zip(self._members, self._items(value), strict=True):
            member.check(context, item)

    @override
    def load(self, context: Context, data: bytes, at: int) -> Value:
        return self._made(
            [
                member.load(context, data, at + offset)
                for member, offset in zip(self._members, self._offsets, strict=True)
            ]
        )

    @override
    def store(self, context: Context, value: Value, data: bytearray, at: int) -> None:
        items = self._items(value)
        for member, offset, item in zip(self._members, self._offsets, items, strict=True):
            member.store(context, item, data, at + offset)

    @override
    def lift(self, context: Context, words: Words) -> Value:
        return self._made([member.lift(context, words) for member in self._members])

    @override
    def lower(self, context: Context, value: Value, words: list[int]) -> None:
        for member, item in zip(self._members, self._items(value), strict=True):
            member.lower(context, item, words)

    def _made(self, items: list[Value]) -> Value:
        raise NotImplementedError

    def _items(self, value: Value) -> list[Value]:
        raise NotImplementedError


class Tuple(_Members):
    """A tuple; also all parameters of a function."""

    def __init__(self, members: list[Codec], path: str) -> None:
        super().__init__(members)
        self._path = path

    @override
    def _made(self, items: list[Value]) -> Value:
        return items

    @override
    def _items(self, value: Value) -> list[Value]:
        if not isinstance(value, list) or len(value) != len(self._members):
            raise BadArguments(
                f"{self._path} takes a list of {len(self._members)} values, not {shown(value)}"
            )
        return value


class Record(_Members):
    """A record."""

    def __init__(self, kind: Type, path: str) -> None:
        super().__init__([_inner(kind, at, f"{path}.{name}") for at, name in enumerate(kind.names)])
        self._names, self._path = kind.names, path

    @override
    def _made(self, items: list[Value]) -> Value:
        return dict(zip(self._names, items, strict=True))

    @override
    def _items(self, value: Value) -> list[Value]:
        if not isinstance(value, dict) or value.keys() != set(self._names):
            raise BadArguments(
                f"{self._path} takes a dict with the fields {', '.join(self._names)}, not {shown(value)}"
            )
        return [value[name] for name in self._names]


class _Cases(Codec):
    """One of several cases, each with a value or without; the number of the case stands first."""

    def __init__(self, cases: list[Codec | None], path: str) -> None:
        self._cases, self._path = cases, path
        self._width = 1 if len(cases) <= 1 << 8 else 2 if len(cases) <= 1 << 16 else 4
        there = [case for case in cases if case is not None]
        inner = max((case.align for case in there), default=1)
        self.align = max(self._width, inner)
        self._payload = aligned(self._width, inner)
        self.size = aligned(self._payload + max((case.size for case in there), default=0), self.align)
        self.flat = ("i32", *(_joined(words) for words in zip_longest(*(case.flat for case in there))))

    @override
    def check(self, context: Context, value: Value) -> None:
        case, payload = self._taken(value)
        inner = self._cases[case]
        if inner is not None:
            inner.check(context, payload)

    @override
    def load(self, context: Context, data: bytes, at: int) -> Value:
        case = self._case(int.from_bytes(data[at : at + self._width], "little"))
        inner = self._cases[case]
        return self._made(case, None if inner is None else inner.load(context, data, at + self._payload))

    @override
    def store(self, context: Context, value: Value, data: bytearray, at: int) -> None:
        case, payload = self._taken(value)
        data[at : at + self._width] = case.to_bytes(self._width, "little")
        inner = self._cases[case]
        if inner is not None:
            inner.store(context, payload, data, at + self._payload)

    @override
    def lift(self, context: Context, words: Words) -> Value:
        case = self._case(next(words) & _MASK)
        inner, rest = self._cases[case], [next(words) for _ in self.flat[1:]]
        return self._made(case, None if inner is None else inner.lift(context, iter(rest)))

    @override
    def lower(self, context: Context, value: Value, words: list[int]) -> None:
        case, payload = self._taken(value)
        end = len(words) + len(self.flat)
        words.append(case)
        inner = self._cases[case]
        if inner is not None:
            inner.lower(context, payload, words)
        words += [0] * (end - len(words))

    def _case(self, number: int) -> int:
        if number >= len(self._cases):
            raise PluginRaised(f"the component hands over a value with the case {number}, which there is not")
        return number

    def _made(self, case: int, payload: Value) -> Value:
        raise NotImplementedError

    def _taken(self, value: Value) -> tuple[int, Value]:
        raise NotImplementedError


class Variant(_Cases):
    """A variant, and a result within another value."""

    def __init__(self, kind: Type, names: tuple[str, ...], path: str) -> None:
        inner = [
            None if of is None else codec(of, f"{path}.{name}")
            for of, name in zip(kind.inner, names, strict=True)
        ]
        super().__init__(inner, path)
        self._names = names
        self._always = kind.kind == RESULT

    @override
    def _made(self, case: int, payload: Value) -> Value:
        name = self._names[case]
        return {name: payload} if self._always or self._cases[case] is not None else name

    @override
    def _taken(self, value: Value) -> tuple[int, Value]:
        if isinstance(value, str) and value in self._names:
            case = self._names.index(value)
            if self._cases[case] is None:
                return case, None
        if isinstance(value, dict) and len(value) == 1:
            name, payload = next(iter(value.items()))
            case = self._names.index(name) if name in self._names else -1
            if case >= 0 and (self._cases[case] is not None or payload is None):
                return case, payload
        known = ", ".join(
            name if case is None else f"{{{name}: ...}}"
            for name, case in zip(self._names, self._cases, strict=True)
        )
        raise BadArguments(f"{self._path} takes one of {known}, not {shown(value)}")


class Option(_Cases):
    """A value or None."""

    def __init__(self, kind: Type, path: str) -> None:
        inner = kind.inner[0]
        if inner is not None and inner.kind == OPTION:
            raise Refused(f"{path} is an option within an option, which None cannot tell apart")
        super().__init__([None, _inner(kind, 0, path)], path)

    @override
    def _made(self, case: int, payload: Value) -> Value:
        return payload if case else None

    @override
    def _taken(self, value: Value) -> tuple[int, Value]:
        return int(value is not None), value


class Enum(_Cases):
    """One of several words."""

    def __init__(self, kind: Type, path: str) -> None:
        super().__init__([None] * len(kind.names), path)
        self._names = kind.names

    @override
    def _made(self, case: int, payload: Value) -> Value:
        return self._names[case]

    @override
    def _taken(self, value: Value) -> tuple[int, Value]:
        if not isinstance(value, str) or value not in self._names:
            raise BadArguments(f"{self._path} takes one of {', '.join(self._names)}, not {shown(value)}")
        return self._names.index(value), None


class Flags(Codec):
    """Some of several words, at most 32."""

    def __init__(self, kind: Type, path: str) -> None:
        self._names, self._path = kind.names, path
        count = len(kind.names)
        self.size = self.align = 1 if count <= 8 else 2 if count <= 16 else 4

    @override
    def check(self, context: Context, value: Value) -> None:
        self._in(value)

    @override
    def load(self, context: Context, data: bytes, at: int) -> Value:
        return self._out(int.from_bytes(data[at : at + self.size], "little"))

    @override
    def store(self, context: Context, value: Value, data: bytearray, at: int) -> None:
        data[at : at + self.size] = self._in(value).to_bytes(self.size, "little")

    @override
    def lift(self, context: Context, words: Words) -> Value:
        return self._out(next(words))

    @override
    def lower(self, context: Context, value: Value, words: list[int]) -> None:
        words.append(self._in(value))

    def _out(self, bits: int) -> Value:
        return [name for at, name in enumerate(self._names) if bits >> at & 1]

    def _in(self, value: Value) -> int:
        if not isinstance(value, list) or not all(item in self._names for item in value):
            raise BadArguments(f"{self._path} takes a list of {', '.join(self._names)}, not {shown(value)}")
        return sum(1 << at for at, name in enumerate(self._names) if name in value)


def _inner(kind: Type, index: int, path: str) -> Codec:
    inner = kind.inner[index]
    assert inner is not None  # only cases and sides of results have none, and they are asked first
    return codec(inner, path)


def _joined(words: tuple[str | None, ...]) -> str:
    """The core type of a word that cases share."""
    there = {word for word in words if word is not None}
    if len(there) == 1:
        return there.pop()
    return "i64" if any(_WORDS[word] for word in there) else "i32"


def _list(kind: Type, path: str) -> Codec:
    inner = kind.inner[0]
    return (
        Bytes(path) if inner is not None and inner.kind == "u8" else List(_inner(kind, 0, f"{path}[]"), path)
    )


_MAKERS: dict[str, Callable[[Type, str], Codec]] = {
    LIST: _list,
    RECORD: Record,
    TUPLE: lambda kind, path: Tuple(
        [_inner(kind, at, f"{path}[{at}]") for at in range(len(kind.inner))], path
    ),
    VARIANT: lambda kind, path: Variant(kind, kind.names, path),
    RESULT: lambda kind, path: Variant(kind, ("ok", "err"), path),
    OPTION: Option,
    ENUM: Enum,
    FLAGS: Flags,
}
