"""What travels: values, checked at the sender, and the messages that carry them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

type MessageValue = None | bool | int | float | str | bytes | list[MessageValue] | dict[str, MessageValue]
"""What a function may take and return. Integers have 64 bits (``-2**63`` to ``2**64 - 1``)."""

MAX_DEPTH: Final = 64
INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 64) - 1

_SCALARS: Final = frozenset((type(None), bool, float, bytes))


def check_value(value: object, path: str, depth: int = 0) -> None:
    """Refuse what cannot travel, before a byte of it does.

    Args:
        value: Anything.
        path: How to name it in the message, such as ``args[0]``.
        depth: Nesting above this value.

    Raises:
        TypeError: A type that is not a ``MessageValue``.
        ValueError: An integer outside of 64 bits, a str that UTF-8 cannot carry, or nesting deeper
            than 64 levels (which a cycle is, too).
    """
    kind = type(value)
    if kind in _SCALARS:
        return
    if kind is str:
        _check_str(value, path)  # type: ignore[arg-type]
    elif kind is int:
        if not INT_MIN <= value <= INT_MAX:  # type: ignore[operator]
            raise ValueError(f"{path} is an integer outside of 64 bits; send it as str or bytes")
    elif kind is list or kind is dict:
        if depth >= MAX_DEPTH:
            raise ValueError(f"{path[:60]}... is nested deeper than {MAX_DEPTH} levels, or contains itself")
        _check_items(value, path, depth)  # type: ignore[arg-type]
    else:
        raise TypeError(
            f"{path} is of type {kind.__qualname__}, which cannot travel to a plugin; "
            "use None, bool, int, float, str, bytes, list or dict with str keys"
        )


def can_travel(values: tuple[object, ...]) -> bool:
    """Whether :func:`check_value` lets all of them pass."""
    if len(values) == 1 and type(values[0]) is bytes:
        return True
    try:
        check_value(list(values), "args")
    except (TypeError, ValueError):
        return False
    return True


def _check_str(value: str, path: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{path} is a str with lone surrogates, which UTF-8 cannot carry") from None


def _check_items(value: list[object] | dict[object, object], path: str, depth: int) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            check_value(item, f"{path}[{index}]", depth + 1)
        return
    for key, item in value.items():
        if type(key) is not str:
            raise TypeError(f"{path} has a key of type {type(key).__qualname__}; keys must be str")
        _check_str(key, f"a key of {path}")
        check_value(item, f"{path}[{key[:40]!r}]", depth + 1)


def check_timeout(timeout_ms: int | None) -> None:
    """Refuse a deadline of a call that is none.

    Raises:
        ValueError: It is no whole number of milliseconds, or not above 0, or has more than 64 bits.
    """
    if timeout_ms is not None and (type(timeout_ms) is not int or not 0 < timeout_ms <= INT_MAX):
        raise ValueError(f"timeout_ms must be a positive whole number of milliseconds, not {timeout_ms!r}")


type Reason = Literal[
    "permission",  # the policy does not grant it
    "invalid",  # the question makes no sense, or a value has the wrong type
    "missing",  # there is no such plugin, function or service
    "limit",  # too much, too large, too often
    "unavailable",  # cannot be had now; later it may
    "failed",  # it was tried, and failed
    "timeout",  # it took too long
    "cycle",  # it would wait for itself
]
"""Why a host did not do what a plugin asked for; docs/host-services.md."""


class Refused(Exception):
    """A plugin's question that gets no value; the plugin is told, and may go on.

    Attributes:
        reason: One word.
        message: One sentence: what, why, and what would help.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


MAX_CONFIG: Final = 1 << 16
_MAX_KEY: Final = 128


def pack_config(config: Mapping[str, object]) -> bytes:
    """What a plugin's ``frys.config`` reads, as MessagePack, once it is known to be able to travel.

    Raises:
        TypeError: A value is no ``MessageValue``.
        ValueError: A value cannot travel, a key has not 1 to 128 characters, or all together are longer than
            64 KiB.
    """
    for key, value in config.items():
        if not 0 < len(key) <= _MAX_KEY:
            raise ValueError(f"the key {key[:20]!r} has {len(key)} characters; use 1 to {_MAX_KEY}")
        check_value({key: value}, "config")
    packed = msgspec.msgpack.encode(config)
    if len(packed) > MAX_CONFIG:
        raise ValueError(f"all values together have {len(packed)} bytes; {MAX_CONFIG} are allowed")
    return packed


def check_name(name: object, what: str) -> None:
    """Refuse what is no name of a function or of a type of event.

    Raises:
        TypeError: It is no str.
        ValueError: UTF-8 cannot carry it.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    _check_str(name, what)


class PluginMessage:
    """The messages between plugins; each kind is a class of its own inside this one."""

    @dataclass(frozen=True, slots=True)
    class FunctionCall:
        """Call ``function`` of the target with ``args``.

        Raises:
            TypeError: That is no name, or those are no list.
        """

        function: str
        args: list[MessageValue]

        def __post_init__(self) -> None:
            check_name(self.function, "function")
            if not isinstance(self.args, list | tuple):
                raise TypeError(f"args must be a list, not {type(self.args).__name__}")

    @dataclass(frozen=True, slots=True)
    class FunctionResponse:
        """The answer to a call: its value. A call that has none raises what it ended with."""

        value: MessageValue = None

    @dataclass(frozen=True, slots=True)
    class Event:
        """Something that happened, for whoever subscribed to its type.

        Attributes:
            event_type: Its name.
            data: What is known about it.
            source: The plugin that published it; empty for the host program. The runtime sets it.

        Raises:
            TypeError: Its type is no name.
        """

        event_type: str
        data: MessageValue = None
        source: str = ""

        def __post_init__(self) -> None:
            check_name(self.event_type, "event_type")

    @dataclass(frozen=True, slots=True)
    class Heartbeat:
        """A sign of life, with the sender's own clock in nanoseconds."""

        timestamp_ns: int

    @dataclass(frozen=True, slots=True)
    class StatusUpdate:
        """A plugin is in another state.

        Attributes:
            plugin_id: The plugin.
            state: A word of :class:`frys_runtime.states.PluginState`.
        """

        plugin_id: str
        state: str
