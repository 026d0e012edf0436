"""Headers of wasi:http."""

from collections.abc import Callable
from typing import Any

HEADER_ERROR = "variant {invalid-syntax, forbidden, immutable}"
_NAME = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_FORBIDDEN = frozenset(
    ("connection", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
)
_MOST = 1000

type Answer = dict[str, Any]


class Fields:
    """Headers in order; a name may stand there several times.

    Attributes:
        items: Name and value of each.
        immutable: Whether they belong to a message.
    """

    def __init__(self, items: list[tuple[str, bytes]] | None = None) -> None:
        self.items: list[tuple[str, bytes]] = items if items is not None else []
        self.immutable = False

    def joined(self, without: tuple[str, ...]) -> dict[str, str]:
        """All as one text for each name, but for some names."""
        found: dict[str, str] = {}
        for name, value in self.items:
            name = name.lower()  # noqa: PLW2901
            if name not in without:
                text = value.decode("latin-1")
                found[name] = f"{found[name]}, {text}" if name in found else text
        return found

    def get(self, name: str) -> list[bytes]:
        """All values of a name."""
        return [value for one, value in self.items if one.lower() == name.lower()]

    def set(self, name: str, values: list[bytes]) -> Answer:
        """Give a name other values."""
        wrong = self._wrong([(name, value) for value in values] or [(name, b"")])
        if wrong is None:
            self.items = [item for item in self.items if item[0].lower() != name.lower()]
            self.items += [(name, value) for value in values]
        return wrong or {"ok": None}

    def delete(self, name: str) -> Answer:
        """Take a name away."""
        return self.set(name, [])

    def append(self, name: str, value: bytes) -> Answer:
        """Give a name one more value."""
        wrong = self._wrong([(name, value)])
        if wrong is None:
            self.items.append((name, value))
        return wrong or {"ok": None}

    def _wrong(self, items: list[tuple[str, bytes]]) -> Answer | None:
        return {"err": "immutable"} if self.immutable else _wrong(items, len(self.items))


def _wrong(items: list[tuple[str, bytes]], there: int) -> Answer | None:
    for name, value in items:
        if not name or not _NAME.issuperset(name) or any(bad in value for bad in (b"\r", b"\n", b"\0")):
            return {"err": "invalid-syntax"}
        if name.lower() in _FORBIDDEN:
            return {"err": "forbidden"}
    return {"err": "forbidden"} if len(items) + there > _MOST else None


def _from_list(entries: list[list[Any]]) -> Answer:
    items = [(name, value) for name, value in entries]
    return _wrong(items, 0) or {"ok": Fields(items)}


_SELF = "self: borrow<fields>"
_DONE = f"result<_, {HEADER_ERROR}>"
FIELDS: dict[str, tuple[str, Callable[..., Any]]] = {
    "[constructor]fields": ("func() -> own<fields>", Fields),
    "[static]fields.from-list": (
        f"func(entries: list<tuple<string, list<u8>>>) -> result<own<fields>, {HEADER_ERROR}>",
        _from_list,
    ),
    "[method]fields.get": (f"func({_SELF}, name: string) -> list<list<u8>>", Fields.get),
    "[method]fields.has": (
        f"func({_SELF}, name: string) -> bool",
        lambda fields, name: bool(fields.get(name)),
    ),
    "[method]fields.set": (f"func({_SELF}, name: string, value: list<list<u8>>) -> {_DONE}", Fields.set),
    "[method]fields.delete": (f"func({_SELF}, name: string) -> {_DONE}", Fields.delete),
    "[method]fields.append": (f"func({_SELF}, name: string, value: list<u8>) -> {_DONE}", Fields.append),
    "[method]fields.entries": (
        f"func({_SELF}) -> list<tuple<string, list<u8>>>",
        lambda fields: [list(item) for item in fields.items],
    ),
    "[method]fields.clone": (f"func({_SELF}) -> own<fields>", lambda fields: Fields(list(fields.items))),
}
