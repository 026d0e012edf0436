"""What happened to the processes of one plugin, and what its callers are told because of that."""

import asyncio
import hashlib
import math

from . import wire
from .breaker import Breaker, Circuit
from .errors import PluginError, Timeout, Unavailable
from .events import Events
from .messages import MessageValue
from .policy_supervision import Supervision
from .supervision import Fault, FaultKind, Restarts, kind_of
from .waits import line


class Faults:
    """Counts failures, and decides whether calls come through and when a process may start.

    Args:
        plugin_id: The plugin.
        rules: Its policy.
        execution_time: Milliseconds that a call may take.
        events: Where changes are told.

    Attributes:
        restarts: When the next process may start, and whether the plugin is in quarantine.
        are_recent: Whether a process failed since the last call that was served.
    """

    def __init__(self, plugin_id: str, rules: Supervision, execution_time: int, events: Events) -> None:
        self._plugin_id, self._execution_time, self._events = plugin_id, execution_time, events
        self.restarts = Restarts(rules)
        self._breaker = Breaker(rules.max_failures, rules.failure_pause / 1000)
        self._loop = asyncio.get_running_loop()
        self.are_recent = False

    @property
    def circuit(self) -> Circuit:
        """Whether calls come through."""
        return self._breaker.circuit

    def note(
        self, error: PluginError, function: str, args: tuple[MessageValue, ...] | None, *, outside: bool
    ) -> None:
        """A process is gone, or ran out of time."""
        if isinstance(error, Timeout) and error.timeout_ms < self._execution_time and line():
            return  # another plugin may be as impatient as it likes; that is no fault of this one
        digest = ""
        if args is not None:
            digest = hashlib.sha256(b"".join(wire.encode([function, args]))).hexdigest()
        self.count(Fault(kind_of(error, outside=outside), str(error), function, digest))

    def count(self, fault: Fault) -> None:
        """One more failure."""
        now = self._loop.time()
        self.are_recent = True
        self.restarts.failed(now, fault)
        if fault.kind is not FaultKind.OUTSIDE:
            was = self.circuit
            self._breaker.failed(now)
            self._tell(was, f"{self._breaker.failures} failures in a row, the last: {fault.reason}")

    def end(self) -> None:
        """A call was served: there was no failure since."""
        self.are_recent = False
        self.restarts.succeeded()
        self._close("a call was served")

    def forgive(self, why: str) -> None:
        """Begin anew, as if nothing had happened."""
        self.are_recent = False
        self.restarts.forgive()
        self._close(why)

    def _close(self, why: str) -> None:
        was = self.circuit
        self._breaker.succeeded()
        self._tell(was, why)

    def admit(self) -> bool:
        """Refuse a call while the circuit is open.

        Returns:
            Whether this call tries whether the plugin is well again; it must :meth:`end_probe`.

        Raises:
            Unavailable: It is.
        """
        was = self.circuit
        if wait := self._breaker.admit(self._loop.time()):
            reason = f"{self._breaker.failures} calls in a row cost it its process or ran out of time"
            when = math.ceil(wait * 1000)
            raise Unavailable(self._plugin_id, f"{reason}; try again in {when} ms", retry_after_ms=when)
        self._tell(was, "one call tries whether it is well again")
        return self.circuit is Circuit.HALF_OPEN

    def end_probe(self) -> None:
        """The call that tried has ended; where that told nothing, the next one tries."""
        was = self.circuit
        self._breaker.given_up(self._loop.time())
        self._tell(was, "the call that tried ended without telling anything")

    def _tell(self, was: Circuit, why: str) -> None:
        if was is not self.circuit:
            self._events.publish("circuit", self._plugin_id, old=str(was), new=str(self.circuit), why=why)

    def quarantined(self) -> Unavailable:
        """What callers are told in quarantine."""
        quarantine = self.restarts.quarantine
        assert quarantine is not None
        way_out = "resume() or a new version ends that"
        if quarantine.until == math.inf:
            reason = f"it is in quarantine: {quarantine.reason}; {way_out}"
            return Unavailable(self._plugin_id, reason, retryable=False)
        left = max(quarantine.until - self._loop.time(), 0)
        reason = f"it is in quarantine for {left:.0f} s more: {quarantine.reason}; {way_out} before"
        return Unavailable(self._plugin_id, reason, retry_after_ms=math.ceil(left * 1000))
