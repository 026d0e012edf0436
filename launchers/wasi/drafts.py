"""wasi:logging, wasi:config and wasi:keyvalue, as far as their drafts are in use: the host's services again.

Drafts change, so each is offered in just the version that is named here.
"""

from collections.abc import Callable
from typing import Any

from ..failures import HostRefused
from ..host import Host
from ..json_text import encode
from ..values import Value
from .interface import Interface

_LEVEL = "enum {trace, debug, info, warn, error, critical}"
_LEVELS = {"warn": "warning", "critical": "error"}
_CONFIG_ERROR = "variant {upstream: string, io: string}"
_STORE_ERROR = "variant {no-such-store, access-denied, other: string}"
_BUCKET = "bucket: borrow<bucket>"
_SELF = "self: borrow<bucket>"
_DEFAULT = ("", "default")
_MOST = (1 << 64) - 1

type Answer = dict[str, Any]
type _Functions = dict[str, tuple[str, str, Callable[..., Any]]]


class Bucket:
    """The plugin's own key-value store."""


class _Refused(Exception):
    """Why an operation on the store is not done: a case of its error."""

    def __init__(self, error: Any) -> None:
        super().__init__(error)
        self.error = error


def interfaces(host: Host) -> dict[str, Interface]:
    """What is offered; the host does it."""
    logging = Interface(
        {
            "log": (
                f"func(level: {_LEVEL}, context: string, message: string)",
                lambda level, context, message: _log(host, level, context, message),
            )
        }
    )
    settings = Interface(
        {
            "get": (
                f"func(key: string) -> result<option<string>, {_CONFIG_ERROR}>",
                lambda key: _settings(lambda: _text(host.ask("config", key))),
            ),
            "get-all": (
                f"func() -> result<list<tuple<string, string>>, {_CONFIG_ERROR}>",
                lambda: _settings(lambda: _all(host.ask("config"))),
            ),
        }
    )
    return {
        "wasi:logging/logging": logging,
        "wasi:logging/logging@0.1.0-draft": logging,
        "wasi:config/store@0.2.0-rc.1": settings,
        "wasi:config/runtime@0.2.0-draft": settings,
        **_keyvalue(host),
    }


def _keyvalue(host: Host) -> dict[str, Interface]:
    def get(_bucket: Bucket, key: str) -> bytes | None:
        found = host.ask("kv.get", key)
        if found is None or isinstance(found, bytes):
            return found
        return found.encode() if isinstance(found, str) else encode(found).encode()

    def exists(bucket: Bucket, key: str) -> bool:
        return get(bucket, key) is not None

    def put(_bucket: Bucket, key: str, value: bytes) -> None:
        host.ask("kv.set", key, value)

    def delete(_bucket: Bucket, key: str) -> None:
        host.ask("kv.delete", key)

    def keys(_bucket: Bucket, _cursor: int | None) -> dict[str, Any]:
        return {"keys": host.ask("kv.keys"), "cursor": None}

    def increment(bucket: Bucket, key: str, delta: int) -> int:
        before = get(bucket, key) or b"0"
        if not before.isdigit() or len(before) > len(str(_MOST)) or int(before) + delta > _MOST:
            raise _Refused({"other": f"the value of {key!r:.80} is no number that can be incremented"})
        put(bucket, key, str(int(before) + delta).encode())
        return int(before) + delta

    def get_many(bucket: Bucket, names: list[str]) -> list[Any]:
        found = ((name, get(bucket, name)) for name in names)
        return [None if value is None else [name, value] for name, value in found]

    def set_many(bucket: Bucket, items: list[list[Any]]) -> None:
        for name, value in items:
            put(bucket, name, value)

    def delete_many(bucket: Bucket, names: list[str]) -> None:
        for name in names:
            delete(bucket, name)

    response = "record {keys: list<string>, cursor: option<u64>}"
    pair = "tuple<string, list<u8>>"
    store: _Functions = {
        "open": ("identifier: string", "own<bucket>", _open),
        "[method]bucket.get": (f"{_SELF}, key: string", "option<list<u8>>", get),
        "[method]bucket.set": (f"{_SELF}, key: string, value: list<u8>", "_", put),
        "[method]bucket.delete": (f"{_SELF}, key: string", "_", delete),
        "[method]bucket.exists": (f"{_SELF}, key: string", "bool", exists),
        "[method]bucket.list-keys": (f"{_SELF}, cursor: option<u64>", response, keys),
    }
    batch: _Functions = {
        "get-many": (f"{_BUCKET}, keys: list<string>", f"list<option<{pair}>>", get_many),
        "set-many": (f"{_BUCKET}, key-values: list<{pair}>", "_", set_many),
        "delete-many": (f"{_BUCKET}, keys: list<string>", "_", delete_many),
    }
    return {
        "wasi:keyvalue/store@0.2.0-draft": Interface(_answering(store), {"bucket": None}),
        "wasi:keyvalue/atomics@0.2.0-draft": Interface(
            _answering({"increment": (f"{_BUCKET}, key: string, delta: u64", "u64", increment)})
        ),
        "wasi:keyvalue/batch@0.2.0-draft": Interface(_answering(batch)),
    }


def _answering(functions: _Functions) -> dict[str, tuple[str, Callable[..., Answer]]]:
    """Functions whose exceptions are errors of the store."""

    def answering(run: Callable[..., Any]) -> Callable[..., Answer]:
        def answer(*arguments: Any) -> Answer:
            try:
                return {"ok": run(*arguments)}
            except _Refused as refused:
                return {"err": refused.error}
            except HostRefused as refusal:
                denied = refusal.reason == "permission"
                return {"err": "access-denied" if denied else {"other": refusal.message}}
            except ValueError as error:
                return {"err": {"other": f"the value {error}"}}

        return answer

    return {
        name: (f"func({parameters}) -> result<{result}, {_STORE_ERROR}>", answering(run))
        for name, (parameters, result, run) in functions.items()
    }


def _open(identifier: str) -> Bucket:
    if identifier not in _DEFAULT:
        raise _Refused("no-such-store")
    return Bucket()


def _log(host: Host, level: str, context: str, message: str) -> None:
    try:
        host.ask("log", _LEVELS.get(level, level), f"{context}: {message}" if context else message)
    except HostRefused:
        pass  # the function has no way to say so


def _settings(ask: Callable[[], Any]) -> Answer:
    try:
        return {"ok": ask()}
    except HostRefused as refusal:
        return {"err": {"upstream": refusal.message}}
    except ValueError as error:
        return {"err": {"io": f"the setting {error}"}}


def _text(value: Value) -> str | None:
    return value if value is None or isinstance(value, str) else encode(value)


def _all(values: Value) -> list[list[str | None]]:
    assert isinstance(values, dict)  # the host answers so
    return [[name, _text(value) or ""] for name, value in values.items()]
