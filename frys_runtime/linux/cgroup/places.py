"""Where this process may make cgroups, for which controllers, and what stands in the way of the others."""

import os
from pathlib import PurePath
from typing import Literal, NamedTuple

from .. import mountinfo
from .files import DELEGATE, WRITABLE, Gone, error_of, read

WANTED = ("memory", "pids", "cpu")
USABLE = (*WANTED, "io")
LEAF = "supervisor"


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


class Hierarchy(NamedTuple):
    """A tree of cgroups in which this process may make its own."""

    version: Literal[1, 2]
    base: str  # the directory in which this process may create cgroups
    controllers: frozenset[str]  # of memory, pids, cpu; cpuacct on v1, io on v2


def probe() -> Support:
    """Find out what this process may use, and why not the rest. Changes nothing.

    Sources: cgroups(7), the kernel's admin-guide/cgroup-v2, systemd's Control Group APIs and Delegation.
    """
    try:
        hierarchies, missing = discover()
    except Gone as error:
        return Support("none", frozenset(), (Missing(WANTED, str(error), "mount -t proc proc /proc"),))
    usable = frozenset(c for h in hierarchies for c in h.controllers if c in USABLE)
    if not usable:
        return Support("none", usable, missing)
    return Support("v1" if any(h.version == 1 for h in hierarchies) else "v2", usable, missing)


def discover() -> tuple[list[Hierarchy], tuple[Missing, ...]]:
    """The hierarchies that carry a usable controller, and the wanted controllers that none carries.

    Raises:
        CgroupError: /proc cannot be read.
    """
    found: dict[tuple[Literal[1, 2], str], set[str]] = {}
    missing: dict[_Obstacle, list[str]] = {}
    own = _own_cgroups()
    mounts = cgroup_mounts()
    for controller in (*WANTED, "cpuacct", "io"):
        place = _place(controller, own, mounts)
        if isinstance(place, _Obstacle):
            if controller in WANTED:
                missing.setdefault(place, []).append(controller)
            continue
        if controller in WANTED or place in found or (controller == "cpuacct" and found):
            found.setdefault(place, set()).add(controller)
    hierarchies = [Hierarchy(version, base, frozenset(names)) for (version, base), names in found.items()]
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
    for line in os.fsdecode(read("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    return own


def cgroup_mounts() -> list[_Mount]:
    """The cgroup file systems of this mount namespace; proc_pid_mountinfo(5)."""
    try:
        visible = {mount.point: mount for mount in mountinfo.mounts()}
    except OSError as error:
        raise error_of("read", "/proc/self/mountinfo", error) from error
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
    is_leaf = os.path.basename(directory) == LEAF and not is_root(directory)
    return parent if is_leaf and _may_write(parent, "cgroup.procs", "cgroup.subtree_control") else directory


def is_root(directory: str) -> bool:
    """Whether this is the v2 root, which is exempt from the rule of no internal processes."""
    return not os.path.exists(f"{directory}/cgroup.type")


def _may_write(directory: str, *files: str) -> bool:
    return all(
        os.access(path, os.W_OK, effective_ids=True)
        for path in (directory, *(f"{directory}/{file}" for file in files))
    )


def _is_enabled(controller: str) -> bool:
    """Whether the kernel could offer a controller if only something were mounted; cgroups(7)."""
    lines = (line.split() for line in read("/proc/cgroups", default=b"").decode().splitlines())
    return any(fields[0] == controller and fields[-1] == "1" for fields in lines)


def _obstacle_v1(directory: str) -> _Obstacle | None:
    if os.geteuid() != 0:
        return _Obstacle(
            "it is on cgroup v1 here, which cannot be handed to an ordinary user safely",
            f"run as root, or boot with systemd.unified_cgroup_hierarchy=1 and {DELEGATE}",
        )
    return None if _may_write(directory) else _not_writable(directory)


def _obstacle_v2(base: str, controller: str) -> _Obstacle | None:
    if not _may_write(base, "cgroup.procs", "cgroup.subtree_control"):
        return _not_writable(base)
    if service := _undelegated_service(base):
        return _Obstacle(
            f"systemd has not delegated {service}: its reload and stop commands could not start any more",
            DELEGATE,
        )
    if not is_root(base) and not read(f"{base}/cgroup.type").startswith(b"domain"):
        return _Obstacle(f"{base} is a threaded cgroup", "start in an ordinary one")
    if controller.encode() not in read(f"{base}/cgroup.controllers").split():
        if is_root(base):
            return _NOT_IN_KERNEL
        return _Obstacle(
            f"it is not handed down to {base}",
            "name it in Delegate= of the unit (a login session: `systemctl edit user@.service`, "
            "Delegate=cpu memory pids, then log in again)",
        )
    return None


def _not_writable(directory: str) -> _Obstacle:
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        return _Obstacle(f"{directory} is mounted read-only, as in most containers", WRITABLE)
    return _Obstacle(f"{directory} may not be written by this user", DELEGATE)


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
