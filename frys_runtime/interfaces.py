"""The types in which plugins declare what they offer: written in ``plugin.json``, checked at the border.

    null bool int float number string bytes any     scalars; number is int or float; any is every value
    list<T>   map<T>                                a list of T; a map from string to T
    T?                                              T or null
    Name                                            a record or an enumeration of the file's "types"

``"types": {"Point": {"x": "float", "y": "float"}, "Colour": ["red", "green"]}``: a record has exactly its
fields, and those whose type ends in ``?`` may be left out; an enumeration is one of its strings.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

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


class Type(NamedTuple):
    """A declared type.

    Attributes:
        text: As it was written.
        kind: ``any``, a scalar's name, ``list``, ``map``, ``optional``, ``record`` or ``enum``.
        inner: Of what a list, a map or an optional is.
        fields: A record's, by name.
        words: An enumeration's.
    """

    text: str
    kind: str
    inner: "Type | None" = None
    fields: Mapping[str, "Type"] = {}
    words: frozenset[str] = frozenset()


class Function(NamedTuple):
    """A function that a plugin offers to others."""

    params: tuple[Type, ...]
    returns: Type


class Interface(NamedTuple):
    """What a plugin offers to others, and what it publishes.

    Attributes:
        functions: By name.
        events: The types of their data, by name.
    """

    functions: Mapping[str, Function] = {}
    events: Mapping[str, Type] = {}


class Types:
    """The types of one ``plugin.json``.

    Args:
        declared: Its ``types``: records and enumerations by name.
        file: How to name it in errors.

    Raises:
        ConfigError: A declaration makes no sense.
    """

    def __init__(self, declared: Mapping[str, Any], file: str) -> None:
        self._declared, self._file = declared, file
        for name, meaning in declared.items():
            at = f"types.{name}"
            if not _NAME.match(name) or name in _SCALARS or name in _ALIASES or name == "any":
                raise self._wrong(
                    at, "is no name for a type: letters, digits and underscores, and none that exists"
                )
            words = meaning if isinstance(meaning, list | tuple) else ()
            if words and all(isinstance(word, str) for word in words):
                continue
            if not (isinstance(meaning, dict) and all(isinstance(text, str) for text in meaning.values())):
                raise self._wrong(at, "must be a record {field: type, ...} or an enumeration [word, ...]")
        for name in declared:
            self.parse(name, f"types.{name}")

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
            raise self._wrong(
                at, f"has a type nested deeper than {_MAX_DEPTH} levels, or one that contains itself"
            )
        if text.endswith("?"):
            return Type(text, "optional", self._parse(text[:-1], whole, at, depth + 1))
        if match := re.fullmatch(r"(list|map)<(.*)>", text):
            return Type(text, match[1], self._parse(match[2], whole, at, depth + 1))
        if text in self._declared:
            return self._named(text, at, depth)
        text = _ALIASES.get(text, text)
        if text == "any" or text in _SCALARS:
            return Type(text, text)
        if "<" in text:
            return self._parse(text, whole, at, depth + 1)
        known = ", ".join((*_SCALARS, "any", "list<T>", "map<T>", "T?", *self._declared))
        raise self._wrong(at, f"has the unknown type {whole!r}; known are {known}")

    def _named(self, name: str, at: str, depth: int) -> Type:
        meaning = self._declared[name]
        if isinstance(meaning, dict):
            fields = {
                field: self._parse(text, text, f"types.{name}.{field}", depth + 1)
                for field, text in meaning.items()
            }
            return Type(name, "record", fields=fields)
        return Type(name, "enum", words=frozenset(meaning))

    def _wrong(self, at: str, reason: str) -> ConfigError:
        return ConfigError(f"{self._file}: {at}", reason)


def check(declared: Type, value: MessageValue, path: str) -> None:
    """Refuse a value that is not of its declared type.

    Raises:
        TypeError: It is not; the message has the path, what was expected and what came.
    """
    match declared.kind:
        case "any":
            return
        case "optional":
            if value is not None and declared.inner is not None:
                check(declared.inner, value, path)
        case "list" if type(value) is list and declared.inner is not None:
            for index, item in enumerate(value):
                check(declared.inner, item, f"{path}[{index}]")
        case "map" if type(value) is dict and declared.inner is not None:
            for key, item in value.items():
                check(declared.inner, item, f"{path}[{key[:40]!r}]")
        case "record" if type(value) is dict:
            _check_record(declared, value, path)
        case "enum" if type(value) is str:
            if value not in declared.words:
                raise TypeError(
                    f"{path} is {value[:40]!r}; it must be one of {', '.join(sorted(declared.words))}"
                )
        case scalar if type(value) in _SCALARS.get(scalar, ()):
            return
        case _:
            raise TypeError(f"{path} must be {declared.text}, not {_name(value)}")


def _check_record(declared: Type, value: dict[str, MessageValue], path: str) -> None:
    for field, kind in declared.fields.items():
        if field in value:
            check(kind, value[field], f"{path}.{field}")
        elif kind.kind != "optional":
            raise TypeError(f"{path} lacks the field {field!r} of {declared.text}")
    if extra := value.keys() - declared.fields.keys():
        raise TypeError(f"{path} has the field {min(extra)[:40]!r}, which {declared.text} does not have")


def check_arguments(params: Iterable[Type], args: list[MessageValue], function: str) -> None:
    """Refuse arguments that are not of their declared types; what is optional at the end may be left out.

    Raises:
        TypeError: They are not.
    """
    declared = tuple(params)
    least = len(declared)
    while least and declared[least - 1].kind == "optional":
        least -= 1
    if not least <= len(args) <= len(declared):
        takes = f"{least} to {len(declared)}" if least < len(declared) else f"{least}"
        raise TypeError(f"{function} takes {takes} arguments, not {len(args)}")
    for index, (kind, value) in enumerate(zip(declared, args, strict=False)):
        check(kind, value, f"{function}: args[{index}]")


def _name(value: MessageValue) -> str:
    names = {type(None): "null", str: "string", dict: "map"}
    return names.get(type(value), type(value).__name__)
