"""Components declare what they export by WIT; here that becomes types of :mod:`frys_runtime.interfaces`.

    bool; string, char                     bool; string
    s8 .. u64; f32, f64                    int; float
    list<u8>; list<T>                      bytes; list<T>
    tuple<A, B>                            list<A> where all are alike, else list<any>
    option<T>                              T?
    record {a: T}; enum {a, b}             a record; an enumeration
    flags {a, b}                           a list of words of an enumeration
    variant {a, b: T}                      a variant
    result<T, E>                           T as a function's whole result, for an error is its failure;
                                           elsewhere a variant of ok and err

What comes from a plugin's process are its own words about itself, in the form that launchers write:
``func(name: string, count: u32) -> list<u8>``. They are read under bounds, and what cannot be called with
plain values (handles, streams, an option in an option) is left out.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from .interfaces import Function, Interface, Type, enumeration, generic, record, variant
from .metadata import Format, Metadata, interface

_MAX_SIGNATURE: Final = 1 << 16
"""Characters of a signature; all together are a frame that the lane bounds."""
_MAX_FUNCTIONS: Final = 1000
_MAX_DEPTH: Final = 12
_TOKEN: Final = re.compile(r"\s*(->|[%A-Za-z][A-Za-z0-9-]*|[<>(){},:_])")
_INTEGERS: Final = frozenset(("s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"))
_SIMPLE: Final = {
    "bool": Type("bool", "bool"),
    "string": Type("string", "string"),
    "char": Type("string", "string"),
    "f32": Type("float", "float"),
    "f64": Type("float", "float"),
    **dict.fromkeys(_INTEGERS, Type("int", "int")),
}
_NULL: Final = Type("null", "null")
_BYTES: Final = Type("bytes", "bytes")


class Unreadable(ValueError):
    """A signature is none, or has types whose values cannot travel."""


def offered(metadata: Metadata, signatures: Mapping[str, str], file: str) -> Interface:
    """What a loaded plugin offers: what its ``plugin.json`` declares, else what a component exports.

    Args:
        metadata: Its metadata.
        signatures: Its functions, in its own words.
        file: How to name it in errors.

    Raises:
        ConfigError: A type of its metadata is unknown or makes no sense.
    """
    declared = interface(metadata, file)
    if metadata.exports or metadata.format != Format.WASM:
        return declared
    found: dict[str, Function] = {}
    for name, text in list(signatures.items())[:_MAX_FUNCTIONS]:
        if text.startswith(("func(", "async func(")):
            with suppress(Unreadable):
                found[name] = parse(text)
    return declared._replace(functions=found)


def parse(text: str) -> Function:
    """Read a signature.

    Raises:
        Unreadable: It is none, is too long, or its values cannot travel.
    """
    if len(text) > _MAX_SIGNATURE:
        raise Unreadable("it is too long")
    return _Reader(text).function()


class _Reader:
    """Reads a signature from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    def function(self) -> Function:
        if self._next() == "async":
            self._take()
        self._expect("func")
        self._expect("(")
        names, params = self._members(")", lambda: self._type(0))
        returns = _NULL
        if self._next() == "->":
            self._take()
            returns = self._result() if self._next() == "result" else self._type(0)
        self._expect("")
        if None in params:
            raise Unreadable("a parameter has no type")
        return Function(tuple(kind for kind in params if kind is not None), returns, tuple(names))

    def _result(self) -> Type:
        """A function's whole result: what is in ``ok``."""
        ok, _ = self._sides(0)
        return ok if ok is not None else _NULL

    def _sides(self, depth: int) -> tuple[Type | None, Type | None]:
        self._expect("result")
        if self._next() != "<":
            return None, None
        self._take()
        ok = self._or_nothing(depth)
        self._expect(",")
        err = self._or_nothing(depth)
        self._expect(">")
        return ok, err

    def _or_nothing(self, depth: int) -> Type | None:
        if self._next() == "_":
            self._take()
            return None
        return self._type(depth + 1)

    def _type(self, depth: int) -> Type:
        if depth > _MAX_DEPTH:
            raise Unreadable("it is nested too deeply")
        word = self._next()
        if word in _SIMPLE:
            self._take()
            return _SIMPLE[word]
        match word:
            case "list" | "option" | "tuple":
                return self._generic(word, depth)
            case "record" | "variant" | "enum" | "flags":
                return self._braced(word, depth)
            case "result":
                ok, err = self._sides(depth)
                return _variant([], {"ok": ok or _NULL, "err": err or _NULL})
        raise Unreadable(f"{word[:40]!r} cannot travel")

    def _generic(self, word: str, depth: int) -> Type:
        self._take()
        self._expect("<")
        is_byte = self._next() == "u8"
        inner = [self._type(depth + 1)]
        while self._next() == ",":
            self._take()
            inner.append(self._type(depth + 1))
        self._expect(">")
        if word == "tuple":
            alike = len({kind.text for kind in inner}) == 1
            one = inner[0] if alike else Type("any", "any")
            return generic(f"list<{one.text}>", "list", one)
        if len(inner) > 1 or (word == "option" and inner[0].kind == "optional"):
            raise Unreadable(f"{word} of that cannot travel")
        if word == "list":
            return _BYTES if is_byte else generic(f"list<{inner[0].text}>", "list", inner[0])
        return generic(f"{inner[0].text}?", "optional", inner[0])

    def _braced(self, word: str, depth: int) -> Type:
        self._take()
        self._expect("{")
        names, kinds = self._members("}", lambda: self._type(depth + 1))
        fields = {name: kind for name, kind in zip(names, kinds, strict=True) if kind is not None}
        words = [name for name, kind in zip(names, kinds, strict=True) if kind is None]
        match word:
            case "record" if fields and not words:
                text = ", ".join(f"{name}: {kind.text}" for name, kind in fields.items())
                made = record(f"{{{text}}}", fields)
                return made._replace(required=tuple(fields))  # an option is null there, and never left out
            case "variant" if fields:
                return _variant(words, fields)
            case "variant" | "enum" if words and not fields:
                return enumeration(f"({' | '.join(words)})", words)
            case "flags" if words and not fields:
                one = enumeration(f"({' | '.join(words)})", words)
                return generic(f"list<{one.text}>", "list", one)
        raise Unreadable(f"it has a {word} that is none")

    def _members(self, end: str, read: Callable[[], Type]) -> tuple[list[str], list[Type | None]]:
        names: list[str] = []
        kinds: list[Type | None] = []
        while self._next() != end:
            if names:
                self._expect(",")
            name = self._take()
            if not re.match(r"%?[A-Za-z]", name):
                raise Unreadable(f"{name!r} is no name")
            names.append(name.removeprefix("%"))
            if self._next() == ":":
                self._take()
                kinds.append(read())
            else:
                kinds.append(None)
        self._expect(end)
        if len(set(names)) < len(names):
            raise Unreadable("it has a name twice")
        return names, kinds

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1] if self._at <= len(self._tokens) else ""

    def _expect(self, word: str) -> None:
        if (found := self._take()) != word:
            raise Unreadable(f"{found!r} stands where {word or 'its end'!r} should")


def _variant(words: list[str], fields: Mapping[str, Type]) -> Type:
    cases = [*words, *(f"{name}: {kind.text}" for name, kind in fields.items())]
    return variant(f"({' | '.join(cases)})", words, fields)


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"{text[at : at + 20]!r} belongs to no type")
        found.append(match[1])
        at = match.end()
    return found
