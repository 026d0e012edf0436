"""The module ``frys`` of Python plugins: what a plugin may ask of its host.

types/frys.pyi tells editors and type checkers the same. Every question is the host's to grant; what it does
not grant is a ``Refused``. A question blocks until it is answered, in an ``async def`` as well.
"""

from .failures import HostRefused
from .host import Host
from .values import Value

TYPE_CHECKING = False  # importing the modules below costs memory in every plugin
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

__all__ = ["Refused", "Response", "call", "config", "emit", "host", "http", "kv", "log", "traceparent"]

_hosts = [Host()]


def bind(asked: Host) -> None:
    """Say whom the plugin of this interpreter asks."""
    _hosts[0] = asked


class Refused(Exception):
    """The host did not do what it was asked for.

    Attributes:
        reason: One word: ``permission``, ``invalid``, ``missing``, ``limit``, ``unavailable``, ``failed``,
            ``timeout`` or ``cycle``.
        message: What was refused, why, and what to do.
    """

    __module__ = "frys"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


def _ask(service: str, *args: Value) -> "Any":
    try:
        return _hosts[0].ask(service, *args)
    except HostRefused as refusal:
        raise Refused(refusal.reason, refusal.message) from None


class _Log:
    """Writes to the host's log: ``log("info", "...")`` or ``log.info("...")``."""

    def __call__(self, level: str, message: object) -> None:
        """Write one message; the level is trace, debug, info, warning or error."""
        _ask("log", level, str(message))

    def trace(self, message: object) -> None:
        """Write what only somebody who follows every step wants to read."""
        self("trace", message)

    def debug(self, message: object) -> None:
        """Write what helps to find a mistake."""
        self("debug", message)

    def info(self, message: object) -> None:
        """Write what is as it should be."""
        self("info", message)

    def warning(self, message: object) -> None:
        """Write what somebody should look at."""
        self("warning", message)

    def error(self, message: object) -> None:
        """Write what went wrong."""
        self("error", message)


class _Store:
    """The plugin's own keys and values, which outlive its process; a mapping, too."""

    def get(self, key: str, default: Value = None) -> Value:
        """Give the value of a key."""
        value: Value = _ask("kv.get", key)
        return default if value is None else value

    def set(self, key: str, value: Value) -> None:
        """Store a value."""
        _ask("kv.set", key, value)

    def delete(self, key: str) -> bool:
        """Remove a key; tells whether it was there."""
        return bool(_ask("kv.delete", key))

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys that begin with a prefix."""
        keys: list[str] = _ask("kv.keys", prefix)
        return keys

    def __getitem__(self, key: str) -> Value:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Value) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __iter__(self) -> "Iterator[str]":
        return iter(self.keys())


log = _Log()
kv = _Store()


def config(key: str | None = None, default: Value = None) -> Value:
    """Give what the host program has configured under a key, or all of it as a dict."""
    value: Value = _ask("config") if key is None else _ask("config", key)
    return default if value is None else value


def traceparent() -> str | None:
    """Give the trace that the call belongs to, as the header of that name."""
    header: str | None = _ask("trace")
    return header


class Response:
    """An answer over HTTP.

    Attributes:
        status: The status code; one that stands for an error raises nothing.
        headers: By their names in lower case; ``set-cookie`` is a list.
        body: The content.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: "dict[str, Any]", body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        """The content as text, in the character set that the answer names, else UTF-8."""
        _, _, charset = self.headers.get("content-type", "").partition("charset=")
        try:
            return self.body.decode(charset.partition(";")[0].strip(" \"'") or "utf-8", "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self) -> "Any":
        """The content as JSON.

        Raises:
            ValueError: It is none.
        """
        from json import loads

        return loads(self.body)


def http(
    method: str,
    url: str,
    *,
    headers: "Mapping[str, str] | None" = None,
    body: bytes | str | None = None,
    timeout: float | None = None,
) -> Response:
    """Send a request by the host's hand; ``timeout`` is in seconds."""
    request: dict[str, Value] = {"method": method, "url": url, "headers": dict(headers or {})}
    if body is not None:
        request["body"] = body.encode() if isinstance(body, str) else body
    if timeout is not None:
        request["timeout_ms"] = max(1, round(timeout * 1000))
    answer = _ask("http", request)
    return Response(answer["status"], answer["headers"], answer["body"])


def call(plugin: str, function: str, *args: Value) -> Value:
    """Call a function of another plugin."""
    value: Value = _ask("call", plugin, function, list(args))
    return value


def emit(event_type: str, data: Value = None) -> int:
    """Tell everybody who listens that something happened; gives how many that are."""
    count: int = _ask("emit", event_type, data)
    return count


def host(name: str, *args: Value) -> Value:
    """Call a function that the host program offers."""
    value: Value = _ask("host", name, list(args))
    return value
