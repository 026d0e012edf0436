"""The module ``frys``, which a Python plugin imports to ask its host for something.

The host grants nothing by itself: what the plugin's policy does not grant raises ``Refused``. Every function
waits for the host's answer, in an ``async def`` as well. Outside of a plugin process there is no such module.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

type _Value = None | bool | int | float | str | bytes | list[Any] | tuple[Any, ...] | dict[str, Any]
type _Level = Literal["trace", "debug", "info", "warning", "error"]

class Refused(Exception):
    """The host did not do what it was asked for."""

    reason: Literal["permission", "invalid", "missing", "limit", "unavailable", "failed", "timeout", "cycle"]
    message: str

    def __init__(self, reason: str, message: str) -> None: ...

class _Log:
    """The host's log: ``frys.log.info("...")``."""

    def __call__(self, level: _Level, message: object) -> None: ...
    def trace(self, message: object) -> None: ...
    def debug(self, message: object) -> None: ...
    def info(self, message: object) -> None: ...
    def warning(self, message: object) -> None: ...
    def error(self, message: object) -> None: ...

class _Store:
    """The plugin's own keys and values, which outlive its process. None as a value is no value."""

    def get(self, key: str, default: Any = None) -> Any: ...
    def set(self, key: str, value: _Value) -> None: ...
    def delete(self, key: str) -> bool:
        """Tell whether the key was there."""

    def keys(self, prefix: str = "") -> list[str]: ...
    def __getitem__(self, key: str) -> Any: ...
    def __setitem__(self, key: str, value: _Value) -> None: ...
    def __delitem__(self, key: str) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...

log: Final[_Log]
kv: Final[_Store]

def config(key: str | None = None, default: Any = None) -> Any:
    """Give what the host has configured under a key, or all of it as a dict."""

def traceparent() -> str | None:
    """Give the trace that the call belongs to, as the header of that name, for a request of one's own."""

class Response:
    """An answer over HTTP; a status that stands for an error raises nothing."""

    status: int
    headers: dict[str, Any]
    """By their names in lower case; ``set-cookie`` is a list, everything else a str."""
    body: bytes

    def __init__(self, status: int, headers: dict[str, Any], body: bytes) -> None: ...
    @property
    def text(self) -> str: ...
    def json(self) -> Any: ...

def http(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    timeout: float | None = None,
) -> Response:
    """Send a request by the host's hand, to a host that the policy grants; ``timeout`` is in seconds."""

def call(plugin: str, function: str, *args: _Value) -> Any:
    """Call a function of another plugin."""

def emit(event_type: str, data: _Value = None) -> int:
    """Publish an event; gives how many will get it."""

def host(name: str, *args: _Value) -> Any:
    """Call a function that the host program offers."""
