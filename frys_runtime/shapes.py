"""What a value looks like, without its contents: ``{"name": string(12), "items": list(3) of int}``.

For people who watch traffic. Keys of a map may be data; they are shown only where a record is declared, or
where nothing is declared and they look like the names of fields.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .interfaces import Type
from .messages import MessageValue

_MAX_DEPTH: Final = 4
_MAX_FIELDS: Final = 16
_MAX_ITEMS: Final = 200
"""Values that are looked at, however many there are."""
_MAX_TEXT: Final = 500
_MAX_NAME: Final = 128
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}\Z")
_NAMES: Final[dict[type, str]] = {type(None): "null", bool: "bool", int: "int", float: "float"}
_ANY: Final = Type("any", "any")


def shape(value: MessageValue, declared: Type = _ANY) -> str:
    """The shape of a value in at most 500 characters.

    Args:
        value: It.
        declared: Its declared type.
    """
    return printable(_Shape().of(value, declared, 0), _MAX_TEXT)


def printable(text: str, most: int = _MAX_NAME) -> str:
    """Words of a plugin, fit for a terminal and a line of a log, and cut."""
    cut = text if len(text) <= most else f"{text[:most]}..."
    return cut if cut.isprintable() else ascii(cut)[1:-1]


class _Shape:
    """One look at a value, which may be as large and as deep as a plugin could make it."""

    def __init__(self) -> None:
        self._left = _MAX_ITEMS

    def of(self, value: MessageValue, declared: Type, depth: int) -> str:
        self._left -= 1
        while declared.kind == "optional" and declared.inner is not None:
            declared = declared.inner
        match value:
            case str():
                return declared.text if declared.kind in ("enum", "variant") else f"string({len(value)})"
            case bytes():
                return f"bytes({len(value)})"
            case list():
                return f"list({len(value)}){self._inside(value, declared, depth)}"
            case dict() if declared.kind in ("record", "variant") or _has_fields(value, declared):
                return self._record(value, declared.fields, depth)
            case dict():
                return f"map({len(value)}){self._inside(value.values(), declared, depth)}"
        return _NAMES.get(type(value), "?")

    def _record(self, value: dict[str, Any], fields: Mapping[str, Type], depth: int) -> str:
        parts: list[str] = []
        for name in fields or value:
            if name in value and depth < _MAX_DEPTH and len(parts) < _MAX_FIELDS:
                parts.append(f'"{name}": {self.of(value[name], fields.get(name, _ANY), depth + 1)}')
        return "{" + ", ".join(parts + ["..."] * (len(value) > len(parts))) + "}"

    def _inside(self, items: Iterable[Any], declared: Type, depth: int) -> str:
        inner = declared.inner if declared.inner is not None else _ANY
        kinds: dict[str, None] = {}
        for item in items:
            if depth >= _MAX_DEPTH or self._left <= 0:
                kinds["..."] = None
                break
            kinds[self.of(item, inner, depth + 1)] = None
        if len(kinds) > 1:  # what differs in length only is said once
            kinds = dict.fromkeys(re.sub(r"\([0-9]+\)", "", kind) for kind in kinds)
        if len(kinds) > 4:
            kinds = dict.fromkeys([*list(kinds)[:4], "..."])
        return f" of {'|'.join(kinds)}" if kinds else ""


def _has_fields(value: dict[str, Any], declared: Type) -> bool:
    return declared.kind == "any" and 0 < len(value) <= _MAX_FIELDS and all(map(_FIELD.match, value))
