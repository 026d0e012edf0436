"""A circuit breaker for one plugin: after failures in a row its callers are told so at once, and one tries.

No clock runs here: every method is told the time, in seconds of any monotonic clock.
"""

from enum import StrEnum


class Circuit(StrEnum):
    """Whether calls come through."""

    CLOSED = "closed"
    """They do."""
    OPEN = "open"
    """They are refused for a moment."""
    HALF_OPEN = "half-open"
    """One is let through to see; the others are refused until it has ended."""


class Breaker:
    """Counts failures in a row.

    Args:
        most: How many open it; 0 for never.
        pause: Seconds for which it stays open.

    Attributes:
        circuit: Whether calls come through.
        failures: How many there were in a row.
    """

    def __init__(self, most: int, pause: float) -> None:
        self.circuit = Circuit.CLOSED
        self.failures = 0
        self._most, self._pause = most, pause
        self._until = 0.0

    def admit(self, now: float) -> float:
        """Whether a call may go through; the first one after the pause is the probe.

        Returns:
            0 when it may, otherwise the seconds after which it is worth another try.
        """
        if self.circuit is Circuit.CLOSED:
            return 0.0
        if self.circuit is Circuit.OPEN and now >= self._until:
            self.circuit = Circuit.HALF_OPEN
            return 0.0
        return max(self._until - now, 0.001) if self.circuit is Circuit.OPEN else self._pause

    def failed(self, now: float) -> None:
        """A call failed in a way that counts."""
        self.failures += 1
        if self.circuit is Circuit.HALF_OPEN or 0 < self._most <= self.failures:
            self.circuit, self._until = Circuit.OPEN, now + self._pause

    def succeeded(self) -> None:
        """A call was served."""
        self.circuit, self.failures = Circuit.CLOSED, 0

    def given_up(self, now: float) -> None:
        """The probe ended without telling anything: the next call is one."""
        if self.circuit is Circuit.HALF_OPEN:
            self.circuit, self._until = Circuit.OPEN, now
