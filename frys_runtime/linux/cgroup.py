"""Kernel limits on memory, processes and CPU for a group of processes: cgroups.

The controllers that matter here (memory, pids, cpu) may each live on version 2, where one directory
tree carries all of them, or on version 1, where each has a tree of its own; a machine may mix the two
(the "hybrid" set-up). Version 2 also has io, under that name. The rest of this module sees *hierarchies*: a
directory that belongs to this process, the controllers that it carries, and its version. Nothing outside this
module opens a file there.

    <own cgroup>/                            in every hierarchy that carries a wanted controller
        supervisor/                          v2 only: where the host process moves, see below
        frys-<pidns>-<pid>-<start>-<n>/      one CgroupTree: named so that a later host can tell it is stale
            <name>/                          one Cgroup: the limits of one plugin process

Version 2 forbids processes in a cgroup that hands controllers to children (cgroups(7), "no internal
processes"), so the processes of the own cgroup move into the leaf ``supervisor`` first: not only the own
one, because one left behind is enough to make the kernel refuse. They stay below the same parent and
under the same limits. The leaf stays for as long as a process lives in it; the next tree reuses it.

Measured, and decisive: a group of four v1 hierarchies is made in 0.25 ms and gets other limits in 0.04 ms,
so nothing is pooled and no descriptor is kept; joining it after 50 ms of idleness costs 9 ms, nearly all of
it in the kernel waiting, so the child joins by itself, ahead of time.
"""

import errno
import itertools
import os
import re
import signal
import time
from contextlib import suppress
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal, NamedTuple

from . import mountinfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WANTED = ("memory", "pids", "cpu")
_USABLE = (*_WANTED, "io")
_LEAF = "supervisor"
_CPU_PERIOD_US = 100_000  # the kernel's default; its smallest quota is 1 ms of it
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PATIENCE = 5.0  # seconds: a killed process leaves its cgroup within milliseconds, on a busy machine later
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_TREE_NAME = re.compile(r"frys-(?P<pidns>\d+)-(?P<pid>\d+)-(?P<start>\d+)-\d+")

_serial = itertools.count(1)  # tells the trees of one process apart

_DELEGATE = (
    "start it with `systemd-run --user --scope -p Delegate=yes COMMAND` (as root without --user), "
    "or set Delegate=yes in the unit of the service"
)
_WRITABLE = (
    "start the container with `docker run --security-opt writable-cgroups=true` (Docker 28 or newer), "
    "`podman run --security-opt unmask=/sys/fs/cgroup`, or --privileged"
)
_HINTS = {
    errno.ENOENT: "another program removed the cgroup; create it anew",
    errno.ENODEV: "another program removed the cgroup; create it anew",
    errno.EEXIST: "a cgroup of that name exists already; remove it or choose another name",
    errno.EACCES: "this process may not change it; `frys doctor` says how to get the right",
    errno.EPERM: "this process may not change it; `frys doctor` says how to get the right",
    errno.EROFS: _WRITABLE,
    errno.EINVAL: "the kernel refuses this value here; a cgroup above it may allow less",
    errno.EAGAIN: "a cgroup above it has reached cgroup.max.descendants or cgroup.max.depth; raise it there",
    errno.ENOSPC: "the kernel has no cgroup number left; remove unused cgroups",
    errno.EOPNOTSUPP: "a cgroup above it is threaded; start from an ordinary one",
}


class CgroupError(Exception):
    """A cgroup cannot be made, changed, read or removed.

    Attributes:
        path: The file or directory that it is about; empty when the machine offers no cgroups.
        errno: The kernel's error number, 0 where there is none.
    """

    def __init__(self, message: str, path: str = "", number: int = 0) -> None:
        self.path, self.errno = path, number
        super().__init__(message)


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


class Missing(NamedTuple):
    """Controllers that this process cannot use."""

    controllers: tuple[str, ...]
    why: str
    how: str  # the way to get them


class Support(NamedTuple):
    """What this machine gives to this process."""

    version: Literal["v1", "v2", "none"]  # v1 as soon as one of the usable controllers is
    controllers: frozenset[str]  # of memory, pids, cpu, io
    missing: tuple[Missing, ...]  # of memory, pids, cpu those that it has not, with the reasons


class _Hierarchy(NamedTuple):
    version: Literal[1, 2]
    base: str  # the directory in which this process may create cgroups
    controllers: frozenset[str]  # of memory, pids, cpu; cpuacct on v1, io on v2


_UNLIMITED = CgroupLimits(None, None)


def probe() -> Support:
    """Find out what this process may use, and why not the rest. Changes nothing.

    Sources: cgroups(7), the kernel's admin-guide/cgroup-v2, systemd's Control Group APIs and Delegation.
    """
    try:
        hierarchies, missing = _discover()
    except _Gone as error:
        return Support("none", frozenset(), (Missing(_WANTED, str(error), "mount -t proc proc /proc"),))
    usable = frozenset(c for h in hierarchies for c in h.controllers if c in _USABLE)
    if not usable:
        return Support("none", usable, missing)
    return Support("v1" if any(h.version == 1 for h in hierarchies) else "v2", usable, missing)


class CgroupTree:
    """The cgroups of one plugin manager, below the cgroup that this process is in.

    Creating the tree may move this process, and those that share its cgroup, into a leaf below it (v2).

    Attributes:
        name: The name of the tree's directories.
        controllers: The limits that cgroups of this tree can enforce, of memory, pids, cpu, io.

    Raises:
        CgroupError: There is no usable controller, or the directories cannot be made.
    """

    def __init__(self) -> None:
        self._hierarchies, missing = _discover()
        if not self._hierarchies:
            reasons = "; ".join(f"{', '.join(m.controllers)}: {m.why}; {m.how}" for m in missing)
            raise CgroupError(f"no cgroup controller can be used: {reasons}")
        self.name = f"frys-{_pid_namespace()}-{os.getpid()}-{_start_time(os.getpid())}-{next(_serial)}"
        self.controllers = frozenset(c for h in self._hierarchies for c in h.controllers if c in _USABLE)
        try:
            for hierarchy in self._hierarchies:
                self._plant(hierarchy)
        except CgroupError:
            with suppress(CgroupError):
                self.close()
            raise

    def _plant(self, hierarchy: _Hierarchy) -> None:
        directory = f"{hierarchy.base}/{self.name}"
        if hierarchy.version == 1:
            _mkdir(directory)
            return
        _enable_for_children(hierarchy.base, hierarchy.controllers)
        _mkdir(directory)
        _enable_for_children(directory, hierarchy.controllers)

    def dirs(self) -> list[str]:
        """The tree's own directories: for who must remove them after a sudden death of this process."""
        return [f"{h.base}/{self.name}" for h in self._hierarchies]

    def create(self, name: str, limits: CgroupLimits) -> "Cgroup":
        """Make an empty cgroup with these limits.

        Raises:
            CgroupError: The name is taken, a limit has no controller here, or the kernel refuses.
            ValueError: The name or a limit makes no sense.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a cgroup: use letters, digits, '_', '.', '-'")
        _check(limits, self.controllers)
        made: list[str] = []
        try:
            for tree in self.dirs():
                _mkdir(f"{tree}/{name}")
                made.append(f"{tree}/{name}")
            cgroup = Cgroup(self._hierarchies, f"{self.name}/{name}")
            cgroup._start(limits)
        except CgroupError:
            for directory in made:
                with suppress(OSError):
                    os.rmdir(directory)
            raise
        return cgroup

    def sweep(self) -> list[str]:
        """Remove the trees of dead hosts of this pid namespace, in the own cgroup and its siblings.

        Kills nothing: a tree in which something still runs stays.

        Returns:
            The directories of the trees that are gone.
        """
        if os.readlink("/proc/self") != str(os.getpid()):
            return []  # /proc shows another pid namespace: every host would look dead
        removed = []
        for hierarchy in self._hierarchies:
            for tree in _trees_of_dead_hosts(hierarchy.base):
                with suppress(OSError):
                    for directory in (*_subdirectories(tree), tree):
                        os.rmdir(directory)
                    removed.append(tree)
        return removed

    def close(self) -> None:
        """Kill what still runs in this tree, and remove all of it. Closing twice is no error.

        Raises:
            CgroupError: A directory cannot be removed; all others are gone.
        """
        names = {os.path.basename(d) for tree in self.dirs() for d in _subdirectories(tree)}
        cgroups = [Cgroup(self._hierarchies, f"{self.name}/{name}") for name in names]
        failures: list[CgroupError] = []
        for step in (*(c.kill for c in cgroups), *(c.remove for c in cgroups), self._uproot):
            try:
                step()
            except CgroupError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _uproot(self) -> None:
        _remove(self.dirs(), _PATIENCE)


class Cgroup:
    """One group of processes with its limits; made by ``CgroupTree.create``.

    Every method raises CgroupError when somebody else removed the directories, except ``kill`` and
    ``remove``, which then have nothing to do.
    """

    def __init__(self, hierarchies: list[_Hierarchy], path: str) -> None:
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
            fds.extend(_open(f"{directory}/cgroup.procs", os.O_WRONLY) for directory in self.dirs())
        except CgroupError:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def _start(self, limits: CgroupLimits) -> None:
        if memory := self._dir("memory"):
            hierarchy, directory = memory
            if hierarchy.version == 2:
                _write(f"{directory}/memory.oom.group", "1")
                _write(f"{directory}/memory.swap.max", "0", optional=True)
            else:
                # Bounds swap where memory.memsw.* is missing (no swap accounting), spares the disk elsewhere.
                _write(f"{directory}/memory.swappiness", "0", optional=True)
        self.set_limits(limits)

    def set_limits(self, limits: CgroupLimits) -> None:
        """Replace the limits; writes only what differs from the present ones.

        Lowering memory below what is in use makes v2 kill in the group, and v1 refuse. After a CgroupError
        some limits may be new and some old: remove the group.

        Raises:
            CgroupError: A limit has no controller here, or (v1) more memory is in use than the new limit.
            ValueError: A limit makes no sense.
        """
        _check(limits, frozenset(c for h, _ in self._dirs for c in h.controllers))
        for hierarchy, directory in self._dirs:
            for file, value in _settings(hierarchy, self._limits, limits):
                # Without swap accounting the kernel has no memory.memsw files.
                _write(f"{directory}/{file}", value, optional=".memsw." in file)
        self._limits = limits

    def usage(self) -> CgroupUsage:
        """Read what the group uses now."""
        memory = peak = pids = None
        if found := self._dir("memory"):
            hierarchy, directory = found
            v2 = hierarchy.version == 2
            memory = int(_read(f"{directory}/{'memory.current' if v2 else 'memory.usage_in_bytes'}"))
            peak_file = f"{directory}/{'memory.peak' if v2 else 'memory.max_usage_in_bytes'}"
            peak = int(_read(peak_file, default=b"0")) or memory
        if found := self._dir("pids"):
            pids = int(_read(f"{found[1]}/pids.current"))
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
        return _pids(self._dirs[0][1])

    def cpu_ns(self) -> int | None:
        """CPU time of all processes that ever were in the group; None where nothing counts it."""
        for hierarchy, directory in self._dirs:
            if hierarchy.version == 2:  # counted in every cgroup, with or without the controller
                return 1000 * _field(f"{directory}/cpu.stat", b"usage_usec")
            if "cpuacct" in hierarchy.controllers:
                return int(_read(f"{directory}/cpuacct.usage"))
        return None

    def _cpu_parts(self) -> tuple[int | None, int | None]:
        for hierarchy, directory in self._dirs:
            if hierarchy.version == 2:
                stat = _fields(f"{directory}/cpu.stat")
                return 1000 * stat[b"user_usec"], 1000 * stat[b"system_usec"]
            if "cpuacct" in hierarchy.controllers:
                stat = _fields(f"{directory}/cpuacct.stat")
                return _TICK_NS * stat[b"user"], _TICK_NS * stat[b"system"]
        return None, None

    def _throttled_ns(self) -> int | None:
        if not (found := self._dir("cpu")):
            return None
        stat = _fields(f"{found[1]}/cpu.stat")
        return 1000 * stat.get(b"throttled_usec", 0) if found[0].version == 2 else stat[b"throttled_time"]

    def _stalled_ns(self, what: str) -> int | None:
        """Pressure stall information: version 2 only, and only in kernels that run with psi=1 (psi.rst)."""
        for hierarchy, directory in self._dirs:
            if hierarchy.version == 2:
                try:
                    lines = _read(f"{directory}/{what}.pressure", default=b"").splitlines()
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
        return _field(f"{directory}/{file}", b"oom_kill")

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
            control = _open(f"{found[1]}/memory.oom_control", os.O_RDONLY)
            try:
                _write(f"{found[1]}/cgroup.event_control", f"{event} {control}")
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
        return _field(f"{found[1]}/pids.events", b"max")

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
                with suppress(_Gone):  # of the whole cgroup, or only of this file before Linux 5.14
                    _write(f"{directory}/cgroup.kill", "1")
                    return
        if found := self._dir("pids"):
            with suppress(CgroupError):  # without forks the rest takes one or two rounds
                self._refused = self.pids_refused()
                _write(f"{found[1]}/pids.max", "0")
        for directory in self.dirs():
            with suppress(_Gone):
                _kill_each(directory)

    def remove(self, patience: float = _PATIENCE) -> None:
        """Remove the directories.

        Args:
            patience: For how many seconds to wait for processes that are still dying.

        Raises:
            CgroupError: Something still runs in it.
        """
        _remove(self.dirs(), patience)

    def _dir(self, controller: str) -> tuple[_Hierarchy, str] | None:
        return next((pair for pair in self._dirs if controller in pair[0].controllers), None)


# Limits


def _check(limits: CgroupLimits, controllers: frozenset[str]) -> None:
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


def _settings(
    hierarchy: _Hierarchy, before: CgroupLimits, after: CgroupLimits
) -> "Iterator[tuple[str, str]]":
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


# Which hierarchies there are


def _discover() -> tuple[list[_Hierarchy], tuple[Missing, ...]]:
    found: dict[tuple[Literal[1, 2], str], set[str]] = {}
    missing: dict[_Obstacle, list[str]] = {}
    own = _own_cgroups()
    mounts = _cgroup_mounts()
    for controller in (*_WANTED, "cpuacct", "io"):
        place = _place(controller, own, mounts)
        if isinstance(place, _Obstacle):
            if controller in _WANTED:
                missing.setdefault(place, []).append(controller)
            continue
        if controller in _WANTED or place in found or (controller == "cpuacct" and found):
            found.setdefault(place, set()).add(controller)
    hierarchies = [_Hierarchy(version, base, frozenset(names)) for (version, base), names in found.items()]
    return hierarchies, tuple(Missing(tuple(names), *obstacle) for obstacle, names in missing.items())


class _Obstacle(NamedTuple):
    why: str
    how: str


_NOT_IN_KERNEL = _Obstacle(
    "this kernel does not offer it",
    "remove it from cgroup_disable= on the kernel's command line (a Raspberry Pi also needs "
    "cgroup_enable=memory there), or use a kernel that was built with it",
)


class _Mount(NamedTuple):
    controllers: frozenset[str]  # empty for v2
    root: str  # the cgroup that is seen at the mount point
    point: str


def _own_cgroups() -> dict[str, str]:
    """Controller (empty for v2) > path of this process's cgroup; proc_pid_cgroup in cgroups(7)."""
    own = {}
    for line in os.fsdecode(_read("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    return own


def _cgroup_mounts() -> list[_Mount]:
    """The cgroup file systems of this mount namespace; proc_pid_mountinfo(5)."""
    try:
        visible = {mount.point: mount for mount in mountinfo.mounts()}
    except OSError as error:
        raise _error("read", "/proc/self/mountinfo", error) from error
    return [
        _Mount(mount.options if mount.kind == "cgroup" else frozenset(), mount.root, mount.point)
        for mount in visible.values()
        if mount.kind in ("cgroup", "cgroup2")
    ]


def _place(
    controller: str, own: dict[str, str], mounts: list[_Mount]
) -> tuple[Literal[1, 2], str] | _Obstacle:
    """Where this process may create cgroups for a controller, or what stands in the way."""
    version: Literal[1, 2] = 1 if controller in own else 2
    path = own.get(controller, own.get(""))
    candidates = [m for m in mounts if (controller in m.controllers if version == 1 else not m.controllers)]
    if path is None and not _is_enabled(controller):
        return _NOT_IN_KERNEL
    if path is None or not candidates:
        return _Obstacle(
            "no cgroup file system for it is mounted here",
            "run `mount -t cgroup2 none /sys/fs/cgroup`, or let the container have the mount",
        )
    directory = next(filter(None, (_below(m, path) for m in candidates)), None)
    if directory is None or not os.path.exists(f"{directory}/cgroup.procs"):
        return _Obstacle(
            f"the cgroup {path} of this process is not visible below {candidates[0].point}",
            "start the container with a cgroup namespace of its own (docker run --cgroupns=private)",
        )
    if version == 1:
        return _obstacle_v1(directory) or (1, directory)
    base = _base_v2(directory)
    return _obstacle_v2(base, controller) or (2, base)


def _below(mount: _Mount, path: str) -> str | None:
    """The directory at which a cgroup is seen through a mount.

    Seen from inside a cgroup namespace, what lies outside begins with "/..".
    """
    if path.startswith("/..") or mount.root.startswith("/.."):
        return None
    relative = os.path.relpath(path, mount.root)
    if relative == ".":
        return mount.point
    return None if relative.startswith("..") else f"{mount.point}/{relative}"


def _base_v2(directory: str) -> str:
    """The own cgroup, or its parent where this process is in the leaf already."""
    parent = os.path.dirname(directory)
    is_leaf = os.path.basename(directory) == _LEAF and not _is_root(directory)
    return parent if is_leaf and _may_write(parent, "cgroup.procs", "cgroup.subtree_control") else directory


def _is_root(directory: str) -> bool:
    """Whether this is the v2 root, which is exempt from the rule of no internal processes."""
    return not os.path.exists(f"{directory}/cgroup.type")


def _may_write(directory: str, *files: str) -> bool:
    return all(
        os.access(path, os.W_OK, effective_ids=True)
        for path in (directory, *(f"{directory}/{file}" for file in files))
    )


def _is_enabled(controller: str) -> bool:
    """Whether the kernel could offer a controller if only something were mounted; cgroups(7)."""
    lines = (line.split() for line in _read("/proc/cgroups", default=b"").decode().splitlines())
    return any(fields[0] == controller and fields[-1] == "1" for fields in lines)


def _obstacle_v1(directory: str) -> _Obstacle | None:
    if os.geteuid() != 0:
        return _Obstacle(
            "it is on cgroup v1 here, which cannot be handed to an ordinary user safely",
            f"run as root, or boot with systemd.unified_cgroup_hierarchy=1 and {_DELEGATE}",
        )
    return None if _may_write(directory) else _not_writable(directory)


def _obstacle_v2(base: str, controller: str) -> _Obstacle | None:
    if not _may_write(base, "cgroup.procs", "cgroup.subtree_control"):
        return _not_writable(base)
    if service := _undelegated_service(base):
        return _Obstacle(
            f"systemd has not delegated {service}: its reload and stop commands could not start any more",
            _DELEGATE,
        )
    if not _is_root(base) and not _read(f"{base}/cgroup.type").startswith(b"domain"):
        return _Obstacle(f"{base} is a threaded cgroup", "start in an ordinary one")
    if controller.encode() not in _read(f"{base}/cgroup.controllers").split():
        if _is_root(base):
            return _NOT_IN_KERNEL
        return _Obstacle(
            f"it is not handed down to {base}",
            "name it in Delegate= of the unit (a login session: `systemctl edit user@.service`, "
            "Delegate=cpu memory pids, then log in again)",
        )
    return None


def _not_writable(directory: str) -> _Obstacle:
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        return _Obstacle(f"{directory} is mounted read-only, as in most containers", _WRITABLE)
    return _Obstacle(f"{directory} may not be written by this user", _DELEGATE)


def _undelegated_service(base: str) -> str | None:
    """The systemd service that holds this directory, if systemd considers the inside its own.

    systemd starts ExecReload= and ExecStop= in the service's cgroup itself, which the kernel refuses once
    that hands controllers down; in a delegated one it uses a leaf. Scopes, such as login sessions, have no
    such commands. The limits hold in any case: systemd cannot withdraw controllers that a child hands on.

    Delegated units are marked by extended attributes: trusted.delegate, which only root can read, and since
    systemd 251 user.delegate. Before that, being allowed to write must do for an ordinary user; a mark
    further up, on the user manager's own unit, shows that this systemd sets them.
    """
    ancestors = [base, *map(str, PurePath(base).parents)]
    unit = next((d for d in ancestors if d.endswith((".service", ".scope"))), ".scope")
    if unit.endswith(".scope") or _has_mark(unit, "user.delegate") or _has_mark(unit, "trusted.delegate"):
        return None
    marks_are_visible = os.geteuid() == 0 or any(_has_mark(d, "user.delegate") for d in ancestors)
    return os.path.basename(unit) if marks_are_visible else None


def _has_mark(directory: str, name: str) -> bool:
    try:
        return os.getxattr(directory, name) == b"1"
    except OSError:
        return False


# Version 2: making room for children


def _enable_for_children(directory: str, controllers: frozenset[str]) -> None:
    """Hand controllers down, after moving processes out of the way where the kernel asks for it."""
    control = f"{directory}/cgroup.subtree_control"
    missing = controllers - set(_read(control).decode().split())
    request = " ".join(f"+{controller}" for controller in sorted(missing))
    for attempts_left in reversed(range(10)):
        if not _is_root(directory):
            _evacuate(directory)
        try:
            if request:
                _write(control, request)
            return
        except CgroupError as error:
            if error.errno != errno.EBUSY:
                raise
            if not attempts_left:
                raise CgroupError(
                    f"{directory} keeps processes that cannot be moved (of another pid namespace, or ever "
                    f"new ones), so its controllers cannot be handed down; {_DELEGATE}",
                    directory,
                    errno.EBUSY,
                ) from error


def _evacuate(directory: str) -> None:
    pids = _pids(directory)
    if not pids:
        return
    leaf = f"{directory}/{_LEAF}"
    with suppress(_Exists):  # of an earlier tree, or made by another host at the same moment
        _mkdir(leaf)
    for pid in pids:
        try:
            _write(f"{leaf}/cgroup.procs", str(pid))
        except CgroupError as error:
            if error.errno != errno.ESRCH:  # it died in the meantime
                raise


# Processes


def _pids(directory: str) -> list[int]:
    """The processes of a cgroup that this pid namespace can name."""
    return [pid for pid in map(int, _read(f"{directory}/cgroup.procs").split()) if pid]


def _kill_each(directory: str) -> None:
    """Send SIGKILL to all, and to those that they forked meanwhile.

    A signalled process forks no more, so a round that finds no new process ends it.
    """
    signalled: set[int] = set()
    deadline = time.monotonic() + _PATIENCE
    while new := [pid for pid in _pids(directory) if pid not in signalled]:
        if time.monotonic() >= deadline:
            raise CgroupError(
                f"the processes in {directory} fork faster than they can be killed; limit their number",
                directory,
            )
        handles = [(pid, fd) for pid in new if (fd := _pidfd(pid)) is not None]
        try:
            # Listed again after the descriptor was opened: it cannot stand for a stranger with a reused pid.
            present = set(_pids(directory))
            for pid, fd in handles:
                if pid in present:
                    with suppress(ProcessLookupError):
                        signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            for _, fd in handles:
                os.close(fd)
        signalled.update(new)


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def _start_time(pid: int) -> int | None:
    """When a process started (clock ticks since boot, field 22 of proc_pid_stat(5)); None if it is dead."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _trees_of_dead_hosts(base: str) -> "Iterator[str]":
    parent = os.path.dirname(base)
    siblings = _subdirectories(parent) if os.path.exists(f"{parent}/cgroup.procs") else []
    for directory in {base, *siblings}:
        for path in _subdirectories(directory):
            tree = _TREE_NAME.fullmatch(os.path.basename(path))
            if tree is None or int(tree["pidns"]) != _pid_namespace():
                continue
            if _start_time(int(tree["pid"])) != int(tree["start"]):
                yield path


# Files


class _Gone(CgroupError):
    """The cgroup does not exist any more."""


class _Exists(CgroupError):
    """The name is taken."""


_KINDS = {errno.ENOENT: _Gone, errno.ENODEV: _Gone, errno.EEXIST: _Exists}


def _error(what: str, path: str, error: OSError, hint: str = "") -> CgroupError:
    number = error.errno or 0
    hint = hint or _HINTS.get(number, "`frys doctor` shows what this machine gives")
    kind = _KINDS.get(number, CgroupError)
    return kind(f"cannot {what} {path}: {os.strerror(number)}; {hint}", path, number)


def _open(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise _error("open", path, error) from error


def _write(path: str, value: str, *, optional: bool = False) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if optional:
            return
        raise _error("write", path, error) from error
    except OSError as error:
        raise _error("write", path, error) from error
    try:
        os.write(fd, value.encode())
    except OSError as error:
        is_limit = error.errno == errno.EBUSY and "memory." in path
        hint = "more is in use than the new limit" if is_limit else ""
        raise _error(f"write {value!r} to", path, error, hint) from error
    finally:
        os.close(fd)


def _read(path: str, *, default: bytes | None = None) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError as error:
        if default is not None:
            return default
        raise _error("read", path, error) from error
    except OSError as error:
        raise _error("read", path, error) from error


def _field(path: str, name: bytes) -> int:
    """One value of a file of `name value` lines; 0 where this kernel does not count it."""
    return _fields(path).get(name, 0)


def _fields(path: str) -> dict[bytes, int]:
    return {name: int(value) for name, value in (line.split() for line in _read(path).splitlines())}


def _mkdir(path: str) -> None:
    try:
        os.mkdir(path)
    except OSError as error:
        raise _error("create", path, error) from error


def _subdirectories(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _remove(directories: "Iterable[str]", patience: float) -> None:
    deadline = time.monotonic() + patience
    failure: CgroupError | None = None
    for directory in directories:
        try:
            _rmdir(directory, deadline)
        except CgroupError as error:
            failure = failure or error
    if failure:
        raise failure


def _rmdir(directory: str, deadline: float) -> None:
    pause = 0.0005
    while True:
        try:
            return os.rmdir(directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                hint = "processes still run in it; kill it first" if error.errno == errno.EBUSY else ""
                raise _error("remove", directory, error, hint) from error
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
