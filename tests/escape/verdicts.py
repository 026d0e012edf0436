"""How an attempt may end, each judged by what the host sees: typed errors, and answers where nothing else is.

A verdict never passes for another reason than its own: a refusal has its errno, a kill the call that was
announced, a limit the resource that ran out.
"""

import errno
import re
import signal
from dataclasses import dataclass

from frys_runtime import (
    ExecutionFailed,
    InvalidFormat,
    LoadFailed,
    ResourceLimitExceeded,
    SecurityViolation,
    Timeout,
)


@dataclass(frozen=True)
class Outcome:
    """What the host got: a value or an error."""

    value: object = None
    error: BaseException | None = None

    def __str__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}" if self.error else f"the answer {self.value!r}"


@dataclass(frozen=True)
class Killed:
    """The kernel announced one of these system calls, and the host killed for it."""

    calls: tuple[str, ...]

    @property
    def words(self) -> str:
        return f"killed, {' or '.join(f'`{call}`' for call in self.calls)} named"

    def holds(self, outcome: Outcome) -> bool:
        error = outcome.error
        return isinstance(error, SecurityViolation) and any(
            f"it called {call}(" in error.violation for call in self.calls
        )


def killed(*calls: str) -> Killed:
    """Killed for one of these calls; the C library decides which of several it makes."""
    return Killed(calls)


@dataclass(frozen=True)
class KilledByFilter:
    """The filter killed without an announcement."""

    words: str = "killed by the filter"

    def holds(self, outcome: Outcome) -> bool:
        return isinstance(outcome.error, SecurityViolation) and "the filter kills" in outcome.error.violation


@dataclass(frozen=True)
class Refused:
    """The kernel refused with one of these error numbers."""

    numbers: tuple[int, ...]

    @property
    def words(self) -> str:
        return f"refused, {' or '.join(errno.errorcode[number] for number in self.numbers)}"

    def holds(self, outcome: Outcome) -> bool:
        if isinstance(outcome.error, ExecutionFailed):
            told = re.search(r"\[Errno (\d+)\]", outcome.error.reason)
            return told is not None and int(told[1]) in self.numbers
        return outcome.error is None and outcome.value in [str(number).encode() for number in self.numbers]


def refused(*names: str) -> Refused:
    """Refused with one of these errors, such as ``EPERM``."""
    return Refused(tuple(getattr(errno, name) for name in names))


@dataclass(frozen=True)
class Limited:
    """A limit ended it, under the name of its resource and with numbers that fit.

    Attributes:
        resource: The limit's name.
        asked: The engine refused what would have been too much, so there is nothing to measure.
    """

    resource: str
    asked: bool = False

    @property
    def words(self) -> str:
        return f"ended by the {self.resource} limit"

    def holds(self, outcome: Outcome) -> bool:
        error = outcome.error
        return (
            isinstance(error, ResourceLimitExceeded)
            and error.resource == self.resource
            and (self.asked or error.actual >= error.limit * 0.9 > 0)
        )


@dataclass(frozen=True)
class Late:
    """The deadline ended it."""

    words: str = "ended by the deadline"

    def holds(self, outcome: Outcome) -> bool:
        return isinstance(outcome.error, Timeout)


@dataclass(frozen=True)
class Broken:
    """It broke the lane's rules, and the host killed for it."""

    rule: str = "protocol"
    words: str = "killed, protocol broken"

    def holds(self, outcome: Outcome) -> bool:
        return isinstance(outcome.error, SecurityViolation) and self.rule in outcome.error.violation


@dataclass(frozen=True)
class Crashed:
    """Only its own process crashed, with this signal."""

    signal: signal.Signals

    @property
    def words(self) -> str:
        return f"only it crashes, {self.signal.name}"

    def holds(self, outcome: Outcome) -> bool:
        error = outcome.error
        return isinstance(error, ExecutionFailed) and f"crashed ({self.signal.name})" in error.reason


@dataclass(frozen=True)
class Exited:
    """Its process ended with this status, which is all that the other program could do."""

    status: int
    words: str

    def holds(self, outcome: Outcome) -> bool:
        error = outcome.error
        return isinstance(error, ExecutionFailed) and f"exited with status {self.status} " in error.reason


@dataclass(frozen=True)
class Failed:
    """The engine or the launcher stopped it with an error of these words; its process may live on."""

    pattern: str
    words: str

    def holds(self, outcome: Outcome) -> bool:
        error = outcome.error
        return isinstance(error, ExecutionFailed) and re.search(self.pattern, str(error)) is not None


@dataclass(frozen=True)
class NotLoaded:
    """The plugin was refused while it was loaded."""

    pattern: str
    words: str

    def holds(self, outcome: Outcome) -> bool:
        error = outcome.error
        refusal = isinstance(error, LoadFailed | InvalidFormat)
        return refusal and re.search(self.pattern, str(error)) is not None


@dataclass(frozen=True)
class Found:
    """It works, and finds nothing of the host."""

    value: object
    words: str

    def holds(self, outcome: Outcome) -> bool:
        return outcome.error is None and outcome.value == self.value


@dataclass(frozen=True)
class Allowed:
    """Not stopped at this level, on purpose: the documentation says so."""

    value: object
    words: str

    def holds(self, outcome: Outcome) -> bool:
        return outcome.error is None and outcome.value == self.value


@dataclass(frozen=True)
class Either:
    """One of several ends, where a race between two honest limits decides."""

    ends: tuple["Verdict", ...]

    @property
    def words(self) -> str:
        return " or ".join(dict.fromkeys(end.words for end in self.ends))

    def holds(self, outcome: Outcome) -> bool:
        return any(end.holds(outcome) for end in self.ends)


def either(*ends: "Verdict") -> Either:
    """One of these."""
    return Either(ends)


type Verdict = (
    Killed
    | KilledByFilter
    | Refused
    | Limited
    | Late
    | Broken
    | Crashed
    | Exited
    | Failed
    | NotLoaded
    | Found
    | Allowed
    | Either
)
