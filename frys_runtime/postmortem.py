"""Why a process of an instance has ended or has to be: waits until it has, has that explained, tells it."""

import asyncio
from typing import Final, NamedTuple

from . import explanation
from .errors import (
    CommunicationError,
    Crashed,
    ExecutionFailed,
    PluginError,
    ResourceLimitExceeded,
    SecurityViolation,
    Timeout,
)
from .events import Events
from .isolation import Confinement
from .lane import HostOutOfMemory, LaneClosed
from .launcher import Child, Exit
from .linux import process
from .violations import Violations
from .watchdog import Watch
from .wire import Failure, ProtocolError

_EXIT_SECONDS: Final = 0.2
_REPORT_SECONDS: Final = 0.5
"""How long a caller waits to be told how a process ended; a frozen launcher says it later, or never."""


class Cause(NamedTuple):
    """Why a process is gone, or has to be replaced.

    Attributes:
        error: What callers are told.
        outside: It was killed by somebody who is neither the plugin nor its supervisor.
    """

    error: PluginError
    outside: bool = False


class Postmortem:
    """Examines the processes of one instance. What it finds is told when :meth:`publish` is called.

    Args:
        plugin_id: The plugin.
        confinement: Whose limits they had.
        events: Where it is told.
        violations: Where forbidden acts are counted.
    """

    def __init__(
        self, plugin_id: str, confinement: Confinement, events: Events, violations: Violations
    ) -> None:
        self._plugin_id, self._room = plugin_id, confinement
        self._events, self._violations = events, violations

    async def examine(self, watch: Watch, reason: BaseException, function: str) -> Cause:
        """Kill a process that served a call or a load, if it lives, and say why that had no answer.

        Args:
            watch: What was under way; gets a verdict where the way in which the lane ended is one.
            reason: How the lane ended: ``LaneClosed`` or ``ProtocolError``.
            function: What was called.
        """
        child = watch.child
        alive = not child.exited.done()
        if isinstance(reason, HostOutOfMemory) and watch.verdict is None:
            watch.verdict = CommunicationError(self._plugin_id, f"{reason}; its process was replaced")
        elif isinstance(reason, LaneClosed) and watch.verdict is None and alive:
            watch.verdict = await self._of_lane(child) or watch.verdict
        elif isinstance(reason, ProtocolError) and watch.verdict is None:
            watch.verdict = self.broken_protocol(reason)
        elif isinstance(watch.verdict, Crashed):
            watch.verdict = Crashed(self._plugin_id, function, watch.verdict.reason)
        end = await _end_of(child)
        return self._cause(child, function, end, watch.verdict)  # which it may have got in the meantime

    async def examine_idle(self, child: Child, verdict: PluginError | None) -> Cause:
        """The same for a process that ended between calls.

        Args:
            child: The process.
            verdict: Why the host killed it; ``None`` when its lane has ended.
        """
        if verdict is None:
            verdict = await self._of_lane(child)
        return self._cause(child, "", await _end_of(child), verdict)

    def broken_protocol(self, reason: ProtocolError) -> SecurityViolation:
        """What a plugin has done that sends something that does not belong on its lane."""
        return SecurityViolation(self._plugin_id, f"it broke the lane's protocol: {reason}")

    async def _of_lane(self, child: Child) -> SecurityViolation | None:
        """The verdict over a process that does not end with its lane; ``None`` where it does."""
        await asyncio.wait((child.exited,), timeout=_EXIT_SECONDS)
        if child.exited.done() or process.is_dead(child.pidfd):
            return None
        return SecurityViolation(self._plugin_id, "it closed its lane and went on")

    def _cause(self, child: Child, function: str, end: Exit | None, verdict: PluginError | None) -> Cause:
        if verdict is not None:
            return Cause(verdict)
        error = explanation.of_end(self._plugin_id, function, end, child.cgroup, self._room.limits)
        return Cause(error, outside=end is None or explanation.was_killed(end))

    def exhausted(self, watch: Watch, failure: Failure) -> Cause | None:
        """The limit that a process reached which gave a failure, and is unfit now; ``None`` where it is not.

        Args:
            watch: The call.
            failure: The plugin's words.
        """
        child, limits = watch.child, self._room.limits
        match failure.kind:
            case "arguments":
                return None
            case "limit":
                return Cause(explanation.of_limit(self._plugin_id, failure, child, limits, watch.timeout_ms))
        if child.cgroup is not None and self._room.may_fork and child.cgroup.pids_refused():
            return Cause(ResourceLimitExceeded(self._plugin_id, "processes", limits.tasks, limits.tasks))
        return None

    def publish(self, error: PluginError) -> None:
        """Tell why a process was stopped."""
        match error:
            case SecurityViolation():
                self._violations.count(error.violation, "kill")
            case ResourceLimitExceeded():
                self._events.publish(
                    "limit", self._plugin_id, resource=error.resource, limit=error.limit, actual=error.actual
                )
            case Timeout():
                self._events.publish("timeout", self._plugin_id, timeout_ms=error.timeout_ms)
            case ExecutionFailed():
                self._events.publish("crashed", self._plugin_id, reason=error.reason, function=error.function)


async def _end_of(child: Child) -> Exit | None:
    """Kill a process; how it ended, unless its launcher keeps that to itself."""
    child.kill()
    try:
        async with asyncio.timeout(_REPORT_SECONDS):
            return await child.end()
    except TimeoutError:
        return None
