"""The types in which plugins declare what they offer: written in ``plugin.json``, checked at the border.

    null bool int float number string bytes any     scalars; number is int or float; any is every value
    list<T>   map<T>                                a list of T; a map from string to T
    T?                                              T or null
    Name                                            a record, an enumeration or a variant of "types"

``"types": {"Point": {"x": "float", "y": "float"}, "Colour": ["red", "green"]}``: a record has exactly its
fields, and those whose type ends in ``?`` may be left out; an enumeration is one of its strings. A variant is
one of its cases: ``"Shape": ["nothing", {"circle": "float"}]`` is ``"nothing"`` or ``{"circle": 1.5}``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, override

from .errors import ConfigError
from .messages import MessageValue

_SCALARS: Final[dict[str, tuple[type, ...]]] = {
    "null": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "number": (int, float),
    "string": (str,),
    "bytes": (bytes,),
}
_ALIASES: Final = {
    "none": "null",
    "void": "null",
    "boolean": "bool",
    "integer": "int",
    "str": "string",
    "array": "list<any>",
    "list": "list<any>",
    "object": "map<any>",
    "map": "map<any>",
    "json": "any",
}
_MAX_DEPTH: Final = 16
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_SHOWN: Final = 16
"""Words of an enumeration in an error."""


class Type(NamedTuple):
    """A declared type; made by :class:`Types`, :func:`record` and so on.

    Attributes:
        text: As it was written.
        kind: ``any``, a scalar's name, ``list``, ``map``, ``optional``, ``record``, ``enum`` or ``variant``.
        inner: Of what a list, a map or an optional is.
        fields: A record's, or the cases of a variant that have a value, by name.
        words: An enumeration's, or the cases of a variant that have no value, in their order.
        required: The fields that a record may not lack.
        depth: How many types stand in one another.
    """

    text: str
    kind: str
    inner: "Type | None" = None
    fields: Mapping[str, "Type"] = {}
    words: Mapping[str, None] = {}
    required: tuple[str, ...] = ()
    depth: int = 1


def generic(text: str, kind: str, inner: Type) -> Type:
    """A ``list``, a ``map`` or an ``optional`` of a type."""
    return Type(text, kind, inner, depth=inner.depth + 1)


def record(text: str, fields: Mapping[str, Type]) -> Type:
    """A record with these fields."""
    required = tuple(name for name, kind in fields.items() if kind.kind != "optional")
    return Type(text, "record", fields=fields, required=required, depth=_depth(fields))


def enumeration(text: str, words: Iterable[str]) -> Type:
    """One of these words."""
    return Type(text, "enum", words=dict.fromkeys(words))


def variant(text: str, words: Iterable[str], fields: Mapping[str, Type]) -> Type:
    """One of these words, or a map with one of these fields."""
    return Type(text, "variant", fields=fields, words=dict.fromkeys(words), depth=_depth(fields))


def _depth(fields: Mapping[str, Type]) -> int:
    return 1 + max((kind.depth for kind in fields.values()), default=0)


class Function(NamedTuple):
    """A function that a plugin offers to others.

    Attributes:
        params: The types of its parameters.
        returns: The type of its result.
        names: The names of its parameters; empty where none are declared.
    """

    params: tuple[Type, ...]
    returns: Type
    names: tuple[str, ...] = ()

    @override
    def __str__(self) -> str:
        named = [f"{name}: " for name in self.names] or [""] * len(self.params)
        params = ", ".join(f"{name}{kind.text}" for name, kind in zip(named, self.params, strict=True))
        return f"({params}) -> {self.returns.text}"


class Interface(NamedTuple):
    """What a plugin offers to others, and what it publishes.

    Attributes:
        functions: By name.
        events: The types of their data, by name.
    """

    functions: Mapping[str, Function] = {}
    events: Mapping[str, Type] = {}


_MEANINGS: Final = (
    "must be a record {field: type, ...}, an enumeration [word, ...], "
    "or a variant, a list whose items may also be {word: type}"
)


class Types:
    """The types of one ``plugin.json``.

    Args:
        declared: Its ``types``: records, enumerations and variants by name.
        file: How to name it in errors.

    Raises:
        ConfigError: A declaration makes no sense.
    """

    def __init__(self, declared: Mapping[str, Any], file: str) -> None:
        self._declared, self._file = declared, file
        # Each is made once: without that, types that name each other twice take a time of 2 to the depth.
        self._made: dict[str, Type] = {}
        self._in_making: list[str] = []
        for name, meaning in declared.items():
            at = f"types.{name}"
            if not _NAME.match(name) or name in _SCALARS or name in _ALIASES or name == "any":
                raise self._wrong(
                    at, "is no name for a type: letters, digits and underscores, and none that exists"
                )
            if isinstance(meaning, list | tuple):
                self._check_cases(meaning, at)
            elif not (isinstance(meaning, dict) and all(isinstance(text, str) for text in meaning.values())):
                raise self._wrong(at, _MEANINGS)
            else:
                self._check_fields(meaning, at)
        for name in declared:
            self.parse(name, f"types.{name}")

    @property
    def named(self) -> Mapping[str, Type]:
        """The declared types, by name."""
        return self._made

    def _check_cases(self, cases: Iterable[Any], at: str) -> None:
        names: list[str] = []
        for case in cases:
            if isinstance(case, str):
                names.append(case)
            elif isinstance(case, dict) and len(case) == 1 and isinstance(next(iter(case.values())), str):
                self._check_fields(case, at)
                names += case
            else:
                raise self._wrong(at, _MEANINGS)
        if not names:
            raise self._wrong(at, _MEANINGS)
        if len(set(names)) < len(names):
            raise self._wrong(at, "has a word twice")

    def _check_fields(self, fields: Iterable[str], at: str) -> None:
        for field in fields:
            if not _FIELD.match(field):
                raise self._wrong(
                    at,
                    f"has the field {field[:40]!r}; use 1 to 64 letters, digits, underscores and dashes, the "
                    "first a letter or an underscore",
                )

    def parse(self, text: str, at: str) -> Type:
        """A type from its text.

        Args:
            text: Such as ``list<string>?``.
            at: The key where it stands, for errors.

        Raises:
            ConfigError: It is none.
        """
        return self._parse(text, text, at, 0)

    def _parse(self, text: str, whole: str, at: str, depth: int) -> Type:
        text = text.strip()
        if depth > _MAX_DEPTH:
            raise self._too_deep(at)
        if text.endswith("?"):
            made = generic(text, "optional", self._parse(text[:-1], whole, at, depth + 1))
        elif match := re.fullmatch(r"(list|map)<(.*)>", text):
            made = generic(text, match[1], self._parse(match[2], whole, at, depth + 1))
        elif text in self._declared:
            made = self._made[text] if text in self._made else self._make(text, at)
        else:
            if "<" in (meant := _ALIASES.get(text, text)) and meant != text:
                return self._parse(meant, whole, at, depth + 1)
            text = meant
            if text != "any" and text not in _SCALARS:
                known = ", ".join((*_SCALARS, "any", "list<T>", "map<T>", "T?", *self._declared))
                raise self._wrong(at, f"has the unknown type {whole[:80]!r}; known are {known[:400]}")
            made = Type(text, text)
        if made.depth > _MAX_DEPTH:
            raise self._too_deep(at)
        return made

    def _make(self, name: str, at: str) -> Type:
        if name in self._in_making or len(self._in_making) > _MAX_DEPTH:
            raise self._too_deep(at)
        self._in_making.append(name)
        meaning = self._declared[name]
        if isinstance(meaning, dict):
            made = record(name, self._members(name, meaning))
        else:
            words = [case for case in meaning if isinstance(case, str)]
            values = {key: text for case in meaning if isinstance(case, dict) for key, text in case.items()}
            made = variant(name, words, self._members(name, values)) if values else enumeration(name, words)
        self._in_making.pop()
        self._made[name] = made
        return made

    def _members(self, name: str, texts: Mapping[str, str]) -> dict[str, Type]:
        return {field: self._parse(text, text, f"types.{name}.{field}", 0) for field, text in texts.items()}

    def _too_deep(self, at: str) -> ConfigError:
        return self._wrong(
            at, f"has a type nested deeper than {_MAX_DEPTH} levels, or one that contains itself"
        )

    def _wrong(self, at: str, reason: str) -> ConfigError:
        return ConfigError(f"{self._file}: {at}", reason)


def check(declared: Type, value: MessageValue, path: str) -> None:
    """Refuse a value that is not of its declared type.

    Raises:
        TypeError: It is not; the message has the path, what was expected and what came.
    """
    if type(value) in _SCALARS.get(declared.kind, ()):
        return
    match declared.kind:
        case "any":
            return
        case "optional":
            if value is not None and declared.inner is not None:
                check(declared.inner, value, path)
        case "list" if type(value) is list and declared.inner is not None:
            if not _all_are(declared.inner, value):
                for index, item in enumerate(value):
                    check(declared.inner, item, f"{path}[{index}]")
        case "map" if type(value) is dict and declared.inner is not None:
            if not _all_are(declared.inner, value.values()):
                for key, item in value.items():
                    check(declared.inner, item, f"{path}[{key[:40]!r}]")
        case "record" if type(value) is dict:
            _check_record(declared, value, path)
        case "enum" if type(value) is str:
            _check_word(declared, value, path)
        case "variant" if type(value) is str:
            _check_word(declared, value, path)
        case "variant" if type(value) is dict and len(value) == 1:
            ((name, inner),) = value.items()
            if name not in declared.fields:
                cases = ", ".join([*declared.fields][:_SHOWN])
                what = f"the case {name[:40]!r}; those of {_written(declared)} with a value are {cases}"
                raise TypeError(f"{path} has {what}")
            check(declared.fields[name], inner, f"{path}.{name}")
        case _:
            raise TypeError(f"{path} must be {_written(declared)}, not {_name(value)}")


def _all_are(declared: Type, items: Iterable[MessageValue]) -> bool:
    """Whether all are of one scalar type: a million of them at once, without a path for each."""
    return declared.kind in _SCALARS and set(map(type, items)) <= set(_SCALARS[declared.kind])


def _check_word(declared: Type, value: str, path: str) -> None:
    if value not in declared.words:
        words = sorted([*declared.words, *(f"{{{name}: ...}}" for name in declared.fields)])
        more = [f"{len(words) - _SHOWN} more"] * (len(words) > _SHOWN)
        raise TypeError(f"{path} is {value[:40]!r}; it must be one of {', '.join([*words[:_SHOWN], *more])}")


def _check_record(declared: Type, value: dict[str, MessageValue], path: str) -> None:
    # Never more work than the value has items: a sender must not make the host count another's fields.
    for field, item in value.items():
        kind = declared.fields.get(field)
        if kind is None:
            raise TypeError(f"{path} has the field {field[:40]!r}, which {_written(declared)} does not have")
        check(kind, item, f"{path}.{field}")
    if lacking := next((field for field in declared.required if field not in value), None):
        raise TypeError(f"{path} lacks the field {lacking!r} of {_written(declared)}")


def _written(declared: Type) -> str:
    return declared.text if len(declared.text) <= 200 else f"{declared.text[:200]}..."


def check_arguments(params: Iterable[Type], args: list[MessageValue], function: str) -> None:
    """Refuse arguments that are not of their declared types; what is optional at the end may be left out.

    Raises:
        TypeError: They are not.
    """
    declared = tuple(params)
    if len(args) == len(declared) and _are_scalars(declared, args):
        return
    least = len(declared)
    while least and declared[least - 1].kind == "optional":
        least -= 1
    if not least <= len(args) <= len(declared):
        takes = f"{least} to {len(declared)}" if least < len(declared) else f"{least}"
        raise TypeError(f"{function} takes {takes} arguments, not {len(args)}")
    for index, (kind, value) in enumerate(zip(declared, args, strict=False)):
        check(kind, value, f"{function}: args[{index}]")


def usual_types(params: Iterable[Type]) -> tuple[type, ...] | None:
    """The Python types of arguments, where each can be of one only; ``None`` where one can be of several."""
    types = [_SCALARS.get(declared.kind, ()) for declared in params]
    return tuple(each[0] for each in types) if all(len(each) == 1 for each in types) else None


def _are_scalars(declared: Sequence[Type], args: list[MessageValue]) -> bool:
    for kind, value in zip(declared, args, strict=True):  # noqa: SIM110 - no generator on the way of every message
        if type(value) not in _SCALARS.get(kind.kind, ()):
            return False
    return True


def _name(value: MessageValue) -> str:
    names = {type(None): "null", str: "string", dict: "map"}
    return names.get(type(value), type(value).__name__)
