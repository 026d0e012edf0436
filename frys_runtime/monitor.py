"""What a plugin uses, by the kernel's own counters: once, or again and again as a stream.

Nothing here runs in the plugin's process or waits for it: every figure is read from outside.
"""

import asyncio
import dataclasses
import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from .config import ResourceUsage
from .linux import process
from .linux.cgroup import Cgroup, CgroupUsage

LEAST_INTERVAL: Final = 0.01
"""Seconds between two samples."""

_FIGURES: Final = frozenset(field.name for field in dataclasses.fields(ResourceUsage)) - {"memory_private"}
_NOTHING: Final = CgroupUsage(*(None,) * len(CgroupUsage._fields))


def measure(pid: int, cgroup: Cgroup | None, *, private: bool) -> ResourceUsage:
    """Read what a plugin process uses, with all processes of its cgroup.

    Args:
        pid: The plugin's first process. Without a cgroup it stands for the whole plugin.
        cgroup: Its cgroup.
        private: Read ``memory_private``, too, which the plugin can feel.

    Raises:
        CgroupError: Somebody else removed the cgroup.
    """
    group = cgroup.usage() if cgroup is not None else _NOTHING
    # A plugin that cannot fork is one process; only a group of several is worth another look.
    pids = cgroup.processes() if cgroup is not None and group.pids != 1 else [pid]
    user, system = process.cpu_parts_ns(pid)
    read, written = map(sum, zip((0, 0), *map(process.storage_bytes, pids), strict=True))
    return ResourceUsage(
        memory_usage=group.memory or process.resident_memory(pid),
        memory_peak=group.memory_peak or 0,
        memory_private=process.private_memory(pid) if private else 0,
        cpu_time_used=(group.cpu_ns or process.cpu_ns(pid) or 0) / 1e6,
        cpu_user=(user if group.cpu_user_ns is None else group.cpu_user_ns) / 1e6,
        cpu_system=(system if group.cpu_system_ns is None else group.cpu_system_ns) / 1e6,
        cpu_throttled=(group.throttled_ns or 0) / 1e6,
        cpu_stalled=(group.cpu_stalled_ns or 0) / 1e6,
        memory_stalled=(group.memory_stalled_ns or 0) / 1e6,
        storage_stalled=(group.io_stalled_ns or 0) / 1e6,
        storage_read=read,
        storage_written=written,
        processes=len(pids),
        threads=group.pids or process.threads(pid),
        open_files=sum(map(process.open_files, pids)),
    )


class Thresholds:
    """Tells once that a figure has reached a value, and again only when it was below it meanwhile.

    Args:
        values: By the name of a field of ResourceUsage.

    Raises:
        ValueError: There is no such figure in a sample, or the value is not above 0.
    """

    def __init__(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if name not in _FIGURES:
                raise ValueError(
                    f"thresholds: {name!r} is no figure of a sample: {', '.join(sorted(_FIGURES))}"
                )
            if not 0 < value < math.inf:
                raise ValueError(f"thresholds: {name} must be above 0, not {value!r}")
        self._values = dict(values)
        self._reached: set[str] = set()

    def newly_reached(self, usage: ResourceUsage) -> list[tuple[str, float, float]]:
        """The figures that this sample is the first to show there: name, threshold, actual value."""
        now = {name for name, value in self._values.items() if getattr(usage, name) >= value}
        new, self._reached = now - self._reached, now
        return [(name, self._values[name], getattr(usage, name)) for name in sorted(new)]


async def stream(
    sample: Callable[[], ResourceUsage], interval: float, ended: "asyncio.Future[None]"
) -> AsyncIterator[ResourceUsage]:
    """Take a sample now and every ``interval`` seconds, until ``ended`` is done.

    A reader that is slower than the interval gets fewer samples, never old ones.
    """
    loop = asyncio.get_running_loop()
    due = loop.time()
    while not ended.done():
        yield sample()
        due = max(due + interval, loop.time())
        await asyncio.wait((ended,), timeout=due - loop.time())
