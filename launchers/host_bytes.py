"""What plugins in C and WebAssembly ask their host: texts and bytes in, bytes or nothing out.

include/frys.h tells their authors the same. Values of any other kind travel as MessagePack, by ``ask``.
"""

from typing import Any

from .codec import pack, unpack
from .failures import BadValue, Failure, HostRefused
from .host import Host
from .values import Value

OK, INVALID, FAILED = 0, 2, 6
MAX_TEXT = 1 << 16

TEXTS = {
    "log": ("the level", "the message"),
    "config": ("the key",),
    "kv_get": ("the key",),
    "kv_set": ("the key",),
    "kv_delete": ("the key",),
    "kv_keys": ("the prefix",),
    "emit": ("the type",),
    "call": ("the plugin", "the function"),
    "host": ("the function",),
    "http": ("the method", "the URL"),
    "ask": ("the service",),
}
"""Each question, and how errors call the texts that it begins with."""

WITH_DATA = frozenset({"kv_set", "emit", "call", "host", "http", "ask"})
"""The questions that have bytes behind their texts."""

_REASONS = {
    "permission": 1,
    "invalid": INVALID,
    "missing": 3,
    "limit": 4,
    "unavailable": 5,
    "failed": FAILED,
    "timeout": 7,
    "cycle": 8,
}


class Questions:
    """The services of a host, for callers that have texts and bytes only.

    Every method raises ``HostRefused`` where the host refuses, and ``BadValue`` where the question makes no
    sense or the answer is neither bytes, nor a text, nor nothing.

    Args:
        host: Who answers.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def log(self, level: str, message: str) -> None:
        """Write a line."""
        self._host.ask("log", level, message)

    def config(self, key: str) -> bytes | None:
        """A setting that is a text."""
        return _as_bytes(self._host.ask("config", key))

    def kv_get(self, key: str) -> bytes | None:
        """The value of a key."""
        return _as_bytes(self._host.ask("kv.get", key))

    def kv_set(self, key: str, data: bytes) -> None:
        """Store a value."""
        self._host.ask("kv.set", key, data)

    def kv_delete(self, key: str) -> None:
        """Remove a key."""
        self._host.ask("kv.delete", key)

    def kv_keys(self, prefix: str) -> bytes:
        """The keys that begin with a prefix, in order, each with a NUL behind it."""
        keys: Any = self._host.ask("kv.keys", prefix)
        return b"".join(key.encode() + b"\0" for key in keys)

    def emit(self, event: str, data: bytes) -> None:
        """Tell everybody who listens."""
        self._host.ask("emit", event, data)

    def call(self, plugin: str, function: str, data: bytes) -> bytes | None:
        """Call a function of another plugin that takes bytes."""
        return _as_bytes(self._host.ask("call", plugin, function, [data]))

    def host(self, name: str, data: bytes) -> bytes | None:
        """Call a function of the host program that takes bytes."""
        return _as_bytes(self._host.ask("host", name, [data]))

    def http(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes | None]:
        """Send a request without headers of its own: the status and the body of what comes back."""
        request: dict[str, Value] = {"method": method, "url": url, "headers": {}, "body": body}
        response: Any = self._host.ask("http", request)
        return response["status"], _as_bytes(response["body"])

    def ask(self, service: str, arguments: bytes) -> bytes:
        """Any service; the array of its arguments and its answer are MessagePack."""
        try:
            values = unpack(memoryview(arguments))
        except Exception as error:
            # The decoder is made for what the host sends, and what it raises for an odd byte is its own.
            raise BadValue(f"the arguments are no MessagePack: {type(error).__name__}: {error}") from None
        if not isinstance(values, list):
            raise BadValue("the arguments have to be one array")
        return pack(self._host.ask(service, *values))


def refused(error: Exception) -> tuple[int, bytes]:
    """The number and the sentence for what a question raised."""
    if isinstance(error, HostRefused):
        code, message = _REASONS.get(error.reason, FAILED), error.message
    elif isinstance(error, Failure):
        code, message = INVALID, error.message
    else:
        code, message = FAILED, f"{type(error).__name__}: {error}"
    return code, message.encode("utf-8", "replace").replace(b"\0", b"?")


def _as_bytes(answer: Value) -> bytes | None:
    if answer is not None and not isinstance(answer, bytes | str):
        raise BadValue(f"the answer is of type {type(answer).__name__}; `ask` can return it")
    return answer.encode("utf-8", "replace") if isinstance(answer, str) else answer
