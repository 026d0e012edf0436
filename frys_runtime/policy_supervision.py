"""What a policy says about processes over time: how many, when they start, what follows when they fail."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from .policy_file import COUNT, TIME, Node, in_units

_UP_TO: Final = "up to "
_MOST_INSTANCES: Final = 1024


class Instances(msgspec.Struct, frozen=True):
    """How many processes serve one plugin.

    Attributes:
        number: So many, or at most so many.
        asked: The plugin.json decides, up to the number; otherwise the policy does, and it is the number.
    """

    number: int = 1
    asked: bool = True

    def of(self, wish: int) -> int:
        """How many a plugin gets that asks for so many."""
        return min(wish, self.number) if self.asked else self.number

    def __str__(self) -> str:
        return f"{_UP_TO}{self.number}" if self.asked else f"{self.number}"


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """How a plugin's processes are kept.

    Attributes:
        instances: How many processes may serve calls at the same time: a number, or ``up to`` a number, which
            lets the plugin.json ask.
        max_queue: Calls that may wait for a process; the next one is refused.
        backoff: Milliseconds before the second restart in a row, doubled each time; the first comes at once.
        max_backoff: The longest of these pauses.
        max_crashes: Crashes in a row, within ``crash_window``, that put it into quarantine; 0 for never.
        crash_window: Milliseconds.
        quarantine: Milliseconds; ``None`` until somebody resumes it.
        max_failures: Calls in a row that cost it its process, or ran out of time, after which calls are
            refused for a moment (circuit breaker); 0 for never.
        failure_pause: Milliseconds of that moment; then one call tries.
        health_interval: Milliseconds between health checks; ``None`` for none.
        health_timeout: Milliseconds for the answer to one.
        idle_timeout: Milliseconds without a call after which a process is ended; ``None`` for never.
        lazy: Whether the first process starts with the first call, and not when it is loaded.
    """

    instances: Instances = Instances()
    max_queue: int = 10_000
    backoff: int = 100
    max_backoff: int = 30_000
    max_crashes: int = 10
    crash_window: int = 60_000
    quarantine: int | None = 300_000
    max_failures: int = 10
    failure_pause: int = 1000
    health_interval: int | None = None
    health_timeout: int = 1000
    idle_timeout: int | None = None
    lazy: bool = False


def _instances(node: Node) -> Instances:
    text = str(node.value)
    digits = text.removeprefix(_UP_TO)
    if isinstance(node.value, bool) or not digits.isdecimal() or not 1 <= int(digits[:9]) <= _MOST_INSTANCES:
        node.fail(f"is {node.value!r}; it must be a whole number from 1 to {_MOST_INSTANCES}, or 'up to' one")
    return Instances(int(digits), asked=text.startswith(_UP_TO))


def _count(node: Node) -> int:
    return node.amount(COUNT, 0)


def _time(node: Node) -> int:
    return node.amount(TIME, 1)


def _time_or_none(node: Node) -> int | None:
    return None if node.value == "none" else node.amount(TIME, 1)


READERS: Final[dict[str, Callable[[Node], Any]]] = {
    "instances": _instances,
    "max_queue": _count,
    "backoff": lambda node: node.amount(TIME, 0),
    "max_backoff": _time,
    "max_crashes": _count,
    "crash_window": _time,
    "quarantine": _time_or_none,
    "max_failures": _count,
    "failure_pause": _time,
    "health_interval": _time_or_none,
    "health_timeout": _time,
    "idle_timeout": _time_or_none,
    "lazy": Node.flag,
}
"""How each key below ``supervision`` is read."""

TIMES: Final = frozenset(
    {
        *("backoff", "max_backoff", "crash_window", "quarantine", "failure_pause"),
        *("health_interval", "health_timeout", "idle_timeout"),
    }
)
"""The keys that are times."""
MAY_BE_NONE: Final = frozenset({"quarantine", "health_interval", "idle_timeout"})
"""Those that can be ``none``."""


def said(key: str, value: Any) -> str:
    """A value as a file has it."""
    if value is None:
        return "none"
    if key in TIMES:
        return in_units(value, TIME)
    return str(value).lower() if isinstance(value, bool) else str(value)
