"""All cgroups of one host: a directory in each hierarchy, by whose name a later host knows it is stale."""

import errno
import itertools
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from .files import (
    DELEGATE,
    PATIENCE,
    CgroupError,
    Exists,
    Gone,
    mkdir,
    pids_of,
    read,
    remove_all,
    subdirectories,
    write,
)
from .group import Cgroup, CgroupLimits, check
from .places import LEAF, USABLE, Hierarchy, discover, is_root

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_TREE_NAME = re.compile(r"frys-(?P<pidns>\d+)-(?P<pid>\d+)-(?P<start>\d+)-\d+")

_serial = itertools.count(1)  # tells the trees of one process apart


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
        self._hierarchies, missing = discover()
        if not self._hierarchies:
            reasons = "; ".join(f"{', '.join(m.controllers)}: {m.why}; {m.how}" for m in missing)
            raise CgroupError(f"no cgroup controller can be used: {reasons}")
        self.name = f"frys-{_pid_namespace()}-{os.getpid()}-{_start_time(os.getpid())}-{next(_serial)}"
        self.controllers = frozenset(c for h in self._hierarchies for c in h.controllers if c in USABLE)
        self._closed = False
        try:
            for hierarchy in self._hierarchies:
                self._plant(hierarchy)
        except CgroupError:
            with suppress(CgroupError):
                self.close()
            raise

    def _plant(self, hierarchy: Hierarchy) -> None:
        directory = f"{hierarchy.base}/{self.name}"
        if hierarchy.version == 1:
            mkdir(directory)
            return
        _enable_for_children(hierarchy.base, hierarchy.controllers)
        mkdir(directory)
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
        check(limits, self.controllers)
        made: list[str] = []
        try:
            for hierarchy, tree in zip(self._hierarchies, self.dirs(), strict=True):
                try:
                    mkdir(f"{tree}/{name}")
                except Gone:  # an empty tree may be tidied away by anybody with the right
                    if self._closed:
                        raise
                    self._plant(hierarchy)
                    mkdir(f"{tree}/{name}")
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
                    for directory in (*subdirectories(tree), tree):
                        os.rmdir(directory)
                    removed.append(tree)
        return removed

    def close(self) -> None:
        """Kill what still runs in this tree, and remove all of it. Closing twice is no error.

        Raises:
            CgroupError: A directory cannot be removed; all others are gone.
        """
        self._closed = True
        names = {os.path.basename(d) for tree in self.dirs() for d in subdirectories(tree)}
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
        remove_all(self.dirs(), PATIENCE)


def _enable_for_children(directory: str, controllers: frozenset[str]) -> None:
    """Hand controllers down, after moving processes out of the way where the kernel asks for it."""
    control = f"{directory}/cgroup.subtree_control"
    missing = controllers - set(read(control).decode().split())
    request = " ".join(f"+{controller}" for controller in sorted(missing))
    for attempts_left in reversed(range(10)):
        if not is_root(directory):
            _evacuate(directory)
        try:
            if request:
                write(control, request)
            return
        except CgroupError as error:
            if error.errno != errno.EBUSY:
                raise
            if not attempts_left:
                raise CgroupError(
                    f"{directory} keeps processes that cannot be moved (of another pid namespace, or ever "
                    f"new ones), so its controllers cannot be handed down; {DELEGATE}",
                    directory,
                    errno.EBUSY,
                ) from error


def _evacuate(directory: str) -> None:
    pids = pids_of(directory)
    if not pids:
        return
    leaf = f"{directory}/{LEAF}"
    with suppress(Exists):  # of an earlier tree, or made by another host at the same moment
        mkdir(leaf)
    for pid in pids:
        try:
            write(f"{leaf}/cgroup.procs", str(pid))
        except CgroupError as error:
            if error.errno != errno.ESRCH:  # it died in the meantime
                raise


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
    siblings = subdirectories(parent) if os.path.exists(f"{parent}/cgroup.procs") else []
    for directory in {base, *siblings}:
        for path in subdirectories(directory):
            tree = _TREE_NAME.fullmatch(os.path.basename(path))
            if tree is None or int(tree["pidns"]) != _pid_namespace():
                continue
            if _start_time(int(tree["pid"])) != int(tree["start"]):
                yield path
