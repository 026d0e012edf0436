"""What follows when a plugin's process fails: a pause that grows, and quarantine when it goes on.

No clock runs here: every method is told the time, in seconds of any monotonic clock.
"""

import math
import random
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from .errors import (
    CommunicationError,
    Crashed,
    InitializationFailed,
    PluginError,
    ResourceLimitExceeded,
    SandboxError,
    Timeout,
)
from .policy_supervision import Supervision

_LEAST_JITTER: Final = 0.5
"""The smallest part of a pause that is left by chance, so that many plugins do not come back as one."""


class FaultKind(StrEnum):
    """Whose doing it was that a process is gone."""

    CRASH = "crash"
    """The plugin's own: it died, broke a rule of its jail, or could not be loaded again."""
    UNHEALTHY = "unhealthy"
    """It failed a health check."""
    OVERRUN = "overrun"
    """It reached a limit, which may be its input's doing; its process was replaced."""
    OUTSIDE = "outside"
    """Not the plugin's: somebody killed it, its launcher died, or the machine could not start it."""


class Fault(NamedTuple):
    """One failure.

    Attributes:
        kind: Whose doing.
        reason: One sentence.
        function: What was called; empty between calls.
        digest: SHA-256 of function and arguments, in hexadecimal digits; empty between calls.
    """

    kind: FaultKind
    reason: str
    function: str = ""
    digest: str = ""


def kind_of(error: PluginError, *, outside: bool) -> FaultKind:
    """Whose doing a failure was.

    Args:
        error: What it was explained as.
        outside: The process was killed by somebody who is neither the plugin nor its supervisor.
    """
    ours = SandboxError | InitializationFailed | CommunicationError
    if isinstance(error, ours) or (outside and isinstance(error, Crashed)):
        return FaultKind.OUTSIDE
    return FaultKind.OVERRUN if isinstance(error, ResourceLimitExceeded | Timeout) else FaultKind.CRASH


class Quarantine(NamedTuple):
    """A plugin that takes no calls because it crashed too often.

    Attributes:
        reason: One sentence.
        until: When it ends by itself; infinity for never.
        function: What was called each time, if that was always the same with the same arguments.
        digest: SHA-256 of them.
    """

    reason: str
    until: float
    function: str = ""
    digest: str = ""


class Restarts:
    """When the next process of one plugin may start.

    Args:
        rules: The plugin's policy.
        chance: A number from 0 to 1, for the jitter.

    Attributes:
        not_before: No process is to be started before this time.
        quarantine: Set while the plugin is in quarantine.
    """

    def __init__(self, rules: Supervision, chance: Callable[[], float] = random.random) -> None:
        self._rules, self._chance = rules, chance
        self._in_a_row = 0
        self._crashes: deque[tuple[float, Fault]] = deque(maxlen=max(rules.max_crashes, 1))
        self.not_before = -math.inf
        self.quarantine: Quarantine | None = None

    def failed(self, now: float, fault: Fault) -> None:
        """Take note of a failure; sets ``not_before``, and ``quarantine`` when it was once too often."""
        if fault.kind is not FaultKind.OVERRUN:
            self._in_a_row += 1
        self.not_before = now + self._pause()
        if self._rules.max_crashes and fault.kind in (FaultKind.CRASH, FaultKind.UNHEALTHY):
            self._crashes.append((now, fault))
            oldest = now - self._rules.crash_window / 1000
            if len(self._crashes) == self._rules.max_crashes and self._crashes[0][0] >= oldest:
                self.quarantine = self._judge(now)

    def hold(self, until: float) -> None:
        """Start nothing before a time."""
        self.not_before = max(self.not_before, until)

    def _pause(self) -> float:
        """Seconds: none before the first restart in a row, then twice as long each time."""
        if self._in_a_row < 2:
            return 0.0
        doubled = self._rules.backoff * 2.0 ** min(self._in_a_row - 2, 60)
        longest = min(doubled, self._rules.max_backoff) / 1000
        return longest * (_LEAST_JITTER + (1 - _LEAST_JITTER) * self._chance())

    def _judge(self, now: float) -> Quarantine:
        count, seconds = len(self._crashes), now - self._crashes[0][0]
        faults = [fault for _, fault in self._crashes]
        first = faults[0]
        same = bool(first.digest) and all(fault.digest == first.digest for fault in faults)
        input_text = f", each time in {first.function} with the same arguments" if same else ""
        reason = (
            f"it crashed {count} times in a row in {seconds:.3g} s{input_text}, the last: {faults[-1].reason}"
        )
        lasts = self._rules.quarantine
        until = math.inf if lasts is None else now + lasts / 1000
        return Quarantine(reason, until, first.function if same else "", first.digest if same else "")

    def succeeded(self) -> None:
        """A process of it served a call: the next failure is the first of a new row."""
        self._in_a_row = 0
        self._crashes.clear()

    @property
    def is_shaken(self) -> bool:
        """Whether the last thing that happened was a failure."""
        return self._in_a_row > 0

    def forgive(self) -> None:
        """Forget every failure, and end the quarantine."""
        self._in_a_row = 0
        self._crashes.clear()
        self.not_before = -math.inf
        self.quarantine = None
