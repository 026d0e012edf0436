"""Why a plugin's process ended, or gave no result: decided here, from trusted sources, the surest first.

The surest of all is what the host itself decided before it killed; who has that does not ask here. A
plugin's own words come last, and only name what the host then looks up for itself.
"""

import math
import re
import signal
from typing import Final

from .errors import (
    Crashed,
    InvalidFormat,
    LoadFailed,
    PluginError,
    ResourceLimitExceeded,
    SecurityViolation,
    Timeout,
)
from .launcher import Child, Exit
from .linux import process
from .linux.cgroup import Cgroup, CgroupError
from .loader import Bundle
from .policy_terms import Limits
from .wire import Failure

_CLD_EXITED: Final = 1
_SIGNALS: Final = frozenset(int(number) for number in signal.Signals)


def of_end(
    plugin_id: str, function: str, end: Exit | None, cgroup: Cgroup | None, limits: Limits
) -> PluginError:
    """Why a process ended that the host did not kill.

    Args:
        plugin_id: The plugin.
        function: What it was called for.
        end: What the kernel told its parent; ``None`` where that does not say.
        cgroup: Its cgroup, where it has one.
        limits: Its limits.
    """
    if (peak := _out_of_memory(cgroup, limits)) is not None:
        return ResourceLimitExceeded(plugin_id, "memory", limits.memory, peak)
    when = "during the call" if function else "between calls"
    if end is None:
        return Crashed(plugin_id, function, f"its process ended {when}, and its launcher does not say how")
    if end.code == _CLD_EXITED:
        return Crashed(plugin_id, function, f"its process exited with status {end.status} {when}")
    match end.status:
        case signal.SIGSYS:
            what = "it made a system call that the filter kills (a foreign architecture or a forbidden call)"
            return SecurityViolation(plugin_id, what)
        case signal.SIGXCPU:
            return ResourceLimitExceeded(plugin_id, "cpu", limits.cpu_time, limits.cpu_time)
        case signal.SIGXFSZ:
            return ResourceLimitExceeded(plugin_id, "file_size", limits.file_size, limits.file_size)
    name = signal.Signals(end.status).name if end.status in _SIGNALS else f"signal {end.status}"
    what = "was killed from outside" if end.status == signal.SIGKILL else "crashed"
    return Crashed(plugin_id, function, f"its process {what}{'' if function else ' between calls'} ({name})")


def was_killed(end: Exit) -> bool:
    """Whether a process died of SIGKILL; as process 1 of its jail, it cannot send that to itself."""
    return end.code != _CLD_EXITED and end.status == signal.SIGKILL


_REFAULT_SECONDS: Final = 1.0
_RESET: Final = re.compile(r"rt_sigaction\(0x([0-9a-f]+), 0x[0-9a-f]+, 0x0, 0x8\)")
_FAULTS: Final = frozenset({signal.SIGILL, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV})


def unhandled(call: str) -> signal.Signals | None:
    """The signal of a fault for which a forbidden call takes the handler away, if it does."""
    reset = _RESET.fullmatch(call)
    number = int(reset[1], 16) if reset is not None else 0
    return signal.Signals(number) if number in _FAULTS else None


class EngineFaults:
    """Tells a WASM engine that crashes from one that somebody else sends a signal.

    The engine handles the signals of faults, because some are traps of its code. For any other it takes its
    handler away and goes on, so that what faulted does so again, and ends the process. Neither is a forbidden
    act of the plugin. The handler is not taken away, which the engine does not notice: after a signal that
    was only sent, it goes on as before; after a fault, it is here again at once.
    """

    def __init__(self) -> None:
        self._latest = -math.inf

    def is_again(self, now: float) -> bool:
        """Whether one follows another at once, so that the engine has crashed.

        Args:
            now: In seconds of any monotonic clock.
        """
        latest, self._latest = self._latest, now
        return now - latest < _REFAULT_SECONDS


def _out_of_memory(cgroup: Cgroup | None, limits: Limits) -> int | None:
    """Bytes that were in use when the kernel killed for want of memory; ``None`` if it did not."""
    try:
        if cgroup is None or not cgroup.oom_kills():
            return None
        return cgroup.usage().memory_peak or limits.memory
    except CgroupError:
        return None  # somebody removed the group, and its counts with it


def of_limit(plugin_id: str, failure: Failure, child: Child, limits: Limits, timeout_ms: int) -> PluginError:
    """What a plugin says that it ran out of; the numbers are the host's own where it has them.

    Args:
        plugin_id: The plugin.
        failure: Its words.
        child: Its process.
        limits: Its limits.
        timeout_ms: The deadline of the call.
    """
    actual = max(failure.actual, 0)
    match failure.detail:
        case "time":
            return Timeout(plugin_id, timeout_ms)
        case "memory":
            peak = child.cgroup.usage().memory_peak if child.cgroup else None
            held = peak or process.resident_memory(child.pid)
            return ResourceLimitExceeded(plugin_id, "memory", limits.memory, max(held, actual))
        case "output":
            return ResourceLimitExceeded(plugin_id, "output", limits.output, actual)
        case "open_files":
            held = process.open_files(child.pid) or limits.open_files
            return ResourceLimitExceeded(plugin_id, "open_files", limits.open_files, held)
        case "file_size":
            return ResourceLimitExceeded(plugin_id, "file_size", limits.file_size, limits.file_size)
    return ResourceLimitExceeded(plugin_id, "stack", limits.stack, limits.stack)


def of_failed_load(bundle: Bundle, failure: Failure) -> PluginError:
    """Why a plugin could not be loaded, in its own words."""
    if failure.kind == "format":
        expected = f"a {bundle.metadata.format} plugin that can be loaded"
        return InvalidFormat(bundle.path, expected, failure.message)
    return LoadFailed(bundle.path, failure.message, failure.detail)
