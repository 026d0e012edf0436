"""The host's clocks for one call or load at a time: wall clock, CPU time and, without a cgroup, memory.

Nothing here trusts the plugin's engine: what runs over is killed from outside.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Final

from .errors import PluginError, ResourceLimitExceeded, SandboxError, Timeout
from .isolation import Confinement
from .launcher import Child
from .linux import process
from .linux.cgroup import Cgroup, CgroupError

_CPU_CHECK_SECONDS: Final = 0.005
_INTERRUPT_GRACE: Final = 0.05
_MEMORY_CHECK_SECONDS: Final = 0.05
"""How often memory is looked at where no cgroup limits it."""
_SHARED_MEMORY: Final = 32 << 20
"""What a plugin process shares with its fork server and would be counted against it by its RSS."""
_CORES: Final = os.cpu_count() or 1


@dataclass(slots=True)
class Watch:
    """What the host holds against one call or load.

    Attributes:
        child: The process.
        deadline: When it must have ended, by the event loop's clock.
        timeout_ms: How long that was.
        context: That of the caller; questions are answered in copies of it.
        asking: The same, from its first question on, with the instance in the line of those who wait.
        question: The answer to a question of the plugin, being made.
        verdict: Why the host ended it; decided before the kill, so that the explanation never has to guess.
        given_up: Nobody waits for the result any more.
    """

    child: Child
    deadline: float
    cpu_limit_ns: int
    cpu_start_ns: int | None
    timeout_ms: int
    context: Context
    asking: Context | None = None
    question: asyncio.Task[None] | None = None
    verdict: PluginError | None = None
    given_up: bool = False

    def condemn(self, verdict: PluginError) -> None:
        """Decide why it ends, unless that is decided already, and kill the process."""
        if self.verdict is None:
            self.verdict = verdict
        self.child.kill()


class Watchdog:
    """Watches one process; sleeps until the first moment at which a limit could be reached.

    Args:
        plugin_id: For errors.
        confinement: Whose limits it keeps.

    Attributes:
        watch: What is under way, if anything is.
    """

    def __init__(self, plugin_id: str, confinement: Confinement) -> None:
        self._plugin_id, self._room = plugin_id, confinement
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._parallel = min(_CORES, confinement.limits.tasks)
        self.watch: Watch | None = None

    def begin(self, child: Child, timeout_ms: int, cpu_ms: int) -> Watch:
        """Start the clocks of a call or a load."""
        now = self._loop.time()
        watch = self.watch = Watch(
            child=child,
            deadline=now + timeout_ms / 1000,
            cpu_limit_ns=cpu_ms * 1_000_000,
            # The clock of one process is a system call; a group's is a file, which a short call never reads.
            cpu_start_ns=None if self._room.may_fork else process.cpu_ns(child.pid) or 0,
            timeout_ms=timeout_ms,
            context=copy_context(),
        )
        self._look_again(watch, now, 0 if watch.cpu_start_ns is None else watch.cpu_limit_ns)
        return watch

    def end(self) -> None:
        """What was under way is over."""
        watch, self.watch = self.watch, None
        if watch is not None and watch.question is not None:
            watch.question.cancel()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self, watch: Watch, now: float, cpu_left_ns: int) -> None:
        pause = max(cpu_left_ns / 1e9 / self._parallel, _CPU_CHECK_SECONDS)
        if self._room.cgroup.memory is None:
            pause = min(pause, _MEMORY_CHECK_SECONDS)
        when = min(watch.deadline + _INTERRUPT_GRACE, now + pause)
        if self._timer is not None:
            if self._timer.when() <= when:
                return  # an earlier call's; it looks in time, and costs this one nothing
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer, watch = None, self.watch
        if watch is None:
            return
        now, limits = self._loop.time(), self._room.limits
        total = self._cpu_ns(watch.child)
        if watch.cpu_start_ns is None:
            watch.cpu_start_ns = total
        used = total - watch.cpu_start_ns
        if now >= watch.deadline:
            watch.condemn(Timeout(self._plugin_id, watch.timeout_ms))
        elif used >= watch.cpu_limit_ns:
            limit = watch.cpu_limit_ns // 1_000_000
            watch.condemn(ResourceLimitExceeded(self._plugin_id, "cpu", limit, used // 1_000_000))
        elif self._room.cgroup.memory is None and (
            (held := process.resident_memory(watch.child.pid)) > limits.memory + _SHARED_MEMORY
        ):
            watch.condemn(ResourceLimitExceeded(self._plugin_id, "memory", limits.memory, held))
        else:
            self._look_again(watch, now, watch.cpu_limit_ns - used)

    def _cpu_ns(self, child: Child) -> int:
        if self._room.may_fork and child.cgroup is not None:
            with suppress(CgroupError):  # somebody removed it
                return child.cgroup.cpu_ns() or 0
        return process.cpu_ns(child.pid) or 0


class MemoryAlarm:
    """Tells when the kernel kills in a cgroup for want of memory and lets the other processes live.

    Args:
        cgroup: The group.
        limit: What it may use, in bytes.
        on_alarm: Called with the most bytes that it ever used.

    Raises:
        SandboxError: The kernel would not tell.
    """

    def __init__(self, cgroup: Cgroup, limit: int, on_alarm: Callable[[int], None]) -> None:
        self._cgroup, self._limit, self._on_alarm = cgroup, limit, on_alarm
        self._loop = asyncio.get_running_loop()
        try:
            self._event = cgroup.oom_event()
        except CgroupError as error:
            raise SandboxError(f"running out of memory would go unnoticed: {error}") from error
        if self._event is not None:
            self._loop.add_reader(self._event, self._ring)

    def _ring(self) -> None:
        assert self._event is not None
        self._loop.remove_reader(self._event)
        try:
            peak = self._cgroup.usage().memory_peak or self._limit
        except CgroupError:
            return  # somebody removed the group, which wakes this, too
        self._on_alarm(peak)

    def close(self) -> None:
        """Listen no more."""
        if self._event is not None:
            self._loop.remove_reader(self._event)
            os.close(self._event)
            self._event = None
