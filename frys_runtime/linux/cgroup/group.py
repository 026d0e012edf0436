"""One group of processes: its limits, its counters, and its end."""

import errno
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from .. import process
from .files import PATIENCE, CgroupError, Gone, field, fields, open_file, pids_of, read, remove_all, write
from .places import Hierarchy

if TYPE_CHECKING:
    from collections.abc import Iterator

_CPU_PERIOD_US = 100_000  # the kernel's default; its smallest quota is 1 ms of it
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class StorageLimit(NamedTuple):
    """How fast one group of processes may read from one disk."""

    disk: str  # as MAJOR:MINOR, of a whole disk
    read: int  # bytes a second


class CgroupLimits(NamedTuple):
    """What one group of processes may use. None is no limit."""

    memory: int | None  # bytes, page cache and kernel memory included; no swap on top of it
    pids: int | None  # processes and threads
    cpu: float | None = None  # cores: 0.5 is half of one, 2.0 two; 0.01 is the least
    storage: tuple[StorageLimit, ...] = ()  # one for each disk that is limited


class CgroupUsage(NamedTuple):
    """What one group uses. None where the machine has no controller that counts it."""

    memory: int | None  # bytes now
    memory_peak: int | None  # bytes, the most there ever were; before Linux 5.19 on v2 the present ones
    cpu_ns: int | None  # nanoseconds, user and system, of all processes that ever were in the group
    cpu_user_ns: int | None  # its parts; on v1 in steps of a tick, so that they need not add up
    cpu_system_ns: int | None
    throttled_ns: int | None  # nanoseconds for which the CPU quota held threads back, summed over the cores
    cpu_stalled_ns: int | None  # nanoseconds in which at least one thread waited for a core
    memory_stalled_ns: int | None  # or for memory to be freed or read back
    io_stalled_ns: int | None  # or for storage
    pids: int | None  # processes and threads now


_UNLIMITED = CgroupLimits(None, None)


class Cgroup:
    """One group of processes with its limits; made by ``CgroupTree.create``.

    Every method raises CgroupError when somebody else removed the directories, except ``kill`` and
    ``remove``, which then have nothing to do.
    """

    def __init__(self, hierarchies: list[Hierarchy], path: str) -> None:
        self._dirs = [(h, f"{h.base}/{path}") for h in hierarchies]
        self._limits = _UNLIMITED
        self._refused: int | None = None  # what counted before kill() itself made forks fail

    def dirs(self) -> list[str]:
        """Its directories, one per hierarchy."""
        return [directory for _, directory in self._dirs]

    def procs_fds(self) -> list[int]:
        """Open the files that let processes in, one per hierarchy; close them after use.

        A process that writes ``b"0"`` to each joins. The kernel checks the rights of who opened them, so a
        child may join after it has dropped its own.
        """
        fds: list[int] = []
        try:
            fds.extend(open_file(f"{directory}/cgroup.procs", os.O_WRONLY) for directory in self.dirs())
        except CgroupError:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def _start(self, limits: CgroupLimits) -> None:
        if memory := self._dir("memory"):
            hierarchy, directory = memory
            if hierarchy.version == 2:
                write(f"{directory}/memory.oom.group", "1")
                write(f"{directory}/memory.swap.max", "0", optional=True)
            else:
                # Bounds swap where memory.memsw.* is missing (no swap accounting), spares the disk elsewhere.
                write(f"{directory}/memory.swappiness", "0", optional=True)
        self.set_limits(limits)

    def set_limits(self, limits: CgroupLimits) -> None:
        """Replace the limits; writes only what differs from the present ones.

        Lowering memory below what is in use makes v2 kill in the group, and v1 refuse. After a CgroupError
        some limits may be new and some old: remove the group.

        Raises:
            CgroupError: A limit has no controller here, or (v1) more memory is in use than the new limit.
            ValueError: A limit makes no sense.
        """
        check(limits, frozenset(c for h, _ in self._dirs for c in h.controllers))
        for hierarchy, directory in self._dirs:
            for file, value in _settings(hierarchy, self._limits, limits):
                # Without swap accounting the kernel has no memory.memsw files.
                write(f"{directory}/{file}", value, optional=".memsw." in file)
        self._limits = limits

    def usage(self) -> CgroupUsage:
        """Read what the group uses now."""
        memory = peak = pids = None
        if found := self._dir("memory"):
            hierarchy, directory = found
            v2 = hierarchy.version == 2
            memory = int(read(f"{directory}/{'memory.current' if v2 else 'memory.usage_in_bytes'}"))
            peak_file = f"{directory}/{'memory.peak' if v2 else 'memory.max_usage_in_bytes'}"
            peak = int(read(peak_file, default=b"0")) or memory
        if found := self._dir("pids"):
            pids = int(read(f"{found[1]}/pids.current"))
        user, system = self._cpu_parts()
        return CgroupUsage(
            memory=memory,
            memory_peak=peak,
            cpu_ns=self.cpu_ns(),
            cpu_user_ns=user,
            cpu_system_ns=system,
            throttled_ns=self._throttled_ns(),
            cpu_stalled_ns=self._stalled_ns("cpu"),
            memory_stalled_ns=self._stalled_ns("memory"),
            io_stalled_ns=self._stalled_ns("io"),
            pids=pids,
        )

    def processes(self) -> list[int]:
        """The processes of the group, by the numbers of this process's pid namespace."""
        return pids_of(self._dirs[0][1])

    def cpu_ns(self) -> int | None:
        """CPU time of all processes that ever were in the group; None where nothing counts it."""
        for hierarchy, directory in self._dirs:
            if hierarchy.version == 2:  # counted in every cgroup, with or without the controller
                return 1000 * field(f"{directory}/cpu.stat", b"usage_usec")
            if "cpuacct" in hierarchy.controllers:
                return int(read(f"{directory}/cpuacct.usage"))
        return None

    def _cpu_parts(self) -> tuple[int | None, int | None]:
        for hierarchy, directory in self._dirs:
            if hierarchy.version == 2:
                stat = fields(f"{directory}/cpu.stat")
                return 1000 * stat[b"user_usec"], 1000 * stat[b"system_usec"]
            if "cpuacct" in hierarchy.controllers:
                stat = fields(f"{directory}/cpuacct.stat")
                return _TICK_NS * stat[b"user"], _TICK_NS * stat[b"system"]
        return None, None

    def _throttled_ns(self) -> int | None:
        if not (found := self._dir("cpu")):
            return None
        stat = fields(f"{found[1]}/cpu.stat")
        return 1000 * stat.get(b"throttled_usec", 0) if found[0].version == 2 else stat[b"throttled_time"]

    def _stalled_ns(self, what: str) -> int | None:
        """Pressure stall information: version 2 only, and only in kernels that run with psi=1 (psi.rst)."""
        for hierarchy, directory in self._dirs:
            if hierarchy.version == 2:
                try:
                    lines = read(f"{directory}/{what}.pressure", default=b"").splitlines()
                except CgroupError as error:
                    if error.errno != errno.EOPNOTSUPP:  # of older kernels without psi=1
                        raise
                    return None
                some = (line for line in lines if line.startswith(b"some "))
                return next((1000 * int(line.rpartition(b"=")[2]) for line in some), None)
        return None

    def oom_kills(self) -> int:
        """How often the kernel killed in this group for want of memory; one process may count twice."""
        if not (found := self._dir("memory")):
            return 0
        hierarchy, directory = found
        file = "memory.events" if hierarchy.version == 2 else "memory.oom_control"
        return field(f"{directory}/{file}", b"oom_kill")

    def oom_event(self) -> int | None:
        """A descriptor that becomes readable when the group is out of memory; the caller closes it.

        For version 1, where the kernel then kills one process and lets the others live: kill the rest. It
        becomes readable, too, when the group is removed. None where memory is not limited, and on version 2,
        where memory.oom.group makes the kernel kill all of them.
        """
        found = self._dir("memory")
        if found is None or found[0].version == 2:
            return None
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = open_file(f"{found[1]}/memory.oom_control", os.O_RDONLY)
            try:
                write(f"{found[1]}/cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        except CgroupError:
            os.close(event)
            raise
        return event

    def pids_refused(self) -> int:
        """How many new processes or threads the pids limit refused."""
        if self._refused is not None:
            return self._refused
        if not (found := self._dir("pids")):
            return 0
        return field(f"{found[1]}/pids.events", b"max")

    def freeze(self) -> None:
        """Stop every process of the group where it is; returns when all have stopped.

        On version 2 by the kernel's freezer. That of version 1 would keep a killed process alive until
        somebody thaws it, also after the death of whoever could; there, SIGSTOP goes to each.

        Raises:
            CgroupError: The kernel refuses, or processes appear faster than they can be stopped.
        """
        if hierarchy := self._second():
            write(f"{hierarchy}/cgroup.freeze", "1")
            deadline = time.monotonic() + PATIENCE
            while not field(f"{hierarchy}/cgroup.events", b"frozen"):
                if time.monotonic() >= deadline:
                    raise CgroupError(f"{hierarchy} does not freeze", hierarchy)
                time.sleep(0.0005)
        else:
            _stop_each(self._dirs[0][1])

    def thaw(self) -> None:
        """Let them go on."""
        if hierarchy := self._second():
            write(f"{hierarchy}/cgroup.freeze", "0")
        else:
            signal_each(self._dirs[0][1], signal.SIGCONT)

    def _second(self) -> str:
        """Its directory in version 2, whose kernel can freeze (Linux 5.2); empty for none."""
        found = (directory for hierarchy, directory in self._dirs if hierarchy.version == 2)
        return next((path for path in found if os.path.exists(f"{path}/cgroup.freeze")), "")

    def let_die(self) -> None:
        """Lift what keeps a killed process from its end: its CPU quota, and its pace of reading."""
        if self._limits.cpu is not None or self._limits.storage:
            with suppress(CgroupError):
                self.set_limits(self._limits._replace(cpu=None, storage=()))

    def kill(self) -> None:
        """Send SIGKILL to every process of the group; returns before they are gone.

        Raises:
            CgroupError: The kernel refuses, or processes appear faster than they can be killed, which the
                pids controller rules out.
        """
        self.let_die()
        for hierarchy, directory in self._dirs:
            if hierarchy.version == 2:
                with suppress(Gone):  # of the whole cgroup, or only of this file before Linux 5.14
                    write(f"{directory}/cgroup.kill", "1")
                    return
        if found := self._dir("pids"):
            with suppress(CgroupError):  # without forks the rest takes one or two rounds
                self._refused = self.pids_refused()
                write(f"{found[1]}/pids.max", "0")
        for directory in self.dirs():
            with suppress(Gone):
                signal_each(directory, signal.SIGKILL)

    def remove(self, patience: float = PATIENCE) -> None:
        """Remove the directories.

        Args:
            patience: For how many seconds to wait for processes that are still dying.

        Raises:
            CgroupError: Something still runs in it.
        """
        remove_all(self.dirs(), patience)

    def _dir(self, controller: str) -> tuple[Hierarchy, str] | None:
        return next((pair for pair in self._dirs if controller in pair[0].controllers), None)


def check(limits: CgroupLimits, controllers: frozenset[str]) -> None:
    """Refuse limits that make no sense, or that none of these controllers enforces.

    Raises:
        CgroupError: A controller is missing.
        ValueError: A limit makes no sense.
    """
    wanted = [("memory", limits.memory, 1), ("pids", limits.pids, 1), ("cpu", limits.cpu, 0.01)]
    for controller, value, least in (*wanted, *(("io", limit.read, 1) for limit in limits.storage)):
        if value is None:
            continue
        if not least <= value < 2**62:
            raise ValueError(f"a {controller} limit of {value} makes no sense: the least is {least}")
        if controller not in controllers:
            raise CgroupError(
                f"{controller} cannot be limited: its cgroup controller is missing here; "
                "`frys doctor` says why and how to get it"
            )


def _settings(hierarchy: Hierarchy, before: CgroupLimits, after: CgroupLimits) -> "Iterator[tuple[str, str]]":
    """The files of this hierarchy that must change, in an order that the kernel accepts."""
    v2 = hierarchy.version == 2
    none = "max" if v2 else "-1"
    if "memory" in hierarchy.controllers and after.memory != before.memory:
        size = none if after.memory is None else str(after.memory)
        if v2:
            yield "memory.max", size
        else:
            # Memory with swap may at no moment be less than memory alone.
            files = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
            if before.memory is not None and (after.memory is None or after.memory > before.memory):
                files.reverse()
            yield from ((file, size) for file in files)
    if "pids" in hierarchy.controllers and after.pids != before.pids:
        yield "pids.max", "max" if after.pids is None else str(after.pids)
    if "cpu" in hierarchy.controllers and after.cpu != before.cpu:
        quota = none if after.cpu is None else str(round(after.cpu * _CPU_PERIOD_US))
        yield ("cpu.max", f"{quota} {_CPU_PERIOD_US}") if v2 else ("cpu.cfs_quota_us", quota)
    if "io" in hierarchy.controllers and after.storage != before.storage:
        for disk, read in ({limit.disk: none for limit in before.storage} | dict(after.storage)).items():
            yield "io.max", f"{disk} rbps={read}"


def signal_each(directory: str, number: int) -> None:
    """Send a signal to all, and to those that they forked meanwhile.

    A signalled process forks no more, so a round that finds no new process ends it.
    """
    signalled: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while new := [pid for pid in pids_of(directory) if pid not in signalled]:
        if time.monotonic() >= deadline:
            raise CgroupError(
                f"the processes in {directory} fork faster than they can be signalled; limit their number",
                directory,
            )
        handles = [(pid, fd) for pid in new if (fd := _pidfd(pid)) is not None]
        try:
            # Listed again after the descriptor was opened: it cannot stand for a stranger with a reused pid.
            present = set(pids_of(directory))
            for pid, fd in handles:
                if pid in present:
                    with suppress(ProcessLookupError):
                        signal.pidfd_send_signal(fd, number)
        finally:
            for _, fd in handles:
                os.close(fd)
        signalled.update(new)


def _stop_each(directory: str) -> None:
    """Send SIGSTOP to all and wait until no thread of them runs; a signalled process may run for a moment."""
    deadline = time.monotonic() + PATIENCE
    while True:
        signal_each(directory, signal.SIGSTOP)
        if all(map(process.is_stopped, pids_of(directory))):
            return
        if time.monotonic() >= deadline:
            raise CgroupError(f"the processes in {directory} do not stop", directory)
        time.sleep(0.0005)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
