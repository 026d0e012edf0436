"""The files and directories of cgroups: every access to them, with errors that say what to do."""

import errno
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE = 5.0
"""Seconds: a killed process leaves its cgroup within milliseconds, on a busy machine later."""

DELEGATE = (
    "start it with `systemd-run --user --scope -p Delegate=yes COMMAND` (as root without --user), "
    "or set Delegate=yes in the unit of the service"
)
WRITABLE = (
    "start the container with `docker run --security-opt writable-cgroups=true` (Docker 28 or newer), "
    "`podman run --security-opt unmask=/sys/fs/cgroup`, or --privileged"
)

_HINTS = {
    errno.ENOENT: "another program removed the cgroup; create it anew",
    errno.ENODEV: "another program removed the cgroup; create it anew",
    errno.EEXIST: "a cgroup of that name exists already; remove it or choose another name",
    errno.EACCES: "this process may not change it; `frys doctor` says how to get the right",
    errno.EPERM: "this process may not change it; `frys doctor` says how to get the right",
    errno.EROFS: WRITABLE,
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


class Gone(CgroupError):
    """The cgroup does not exist any more."""


class Exists(CgroupError):
    """The name is taken."""


_KINDS = {errno.ENOENT: Gone, errno.ENODEV: Gone, errno.EEXIST: Exists}


def error_of(what: str, path: str, error: OSError, hint: str = "") -> CgroupError:
    """What the kernel said, with what to do about it."""
    number = error.errno or 0
    hint = hint or _HINTS.get(number, "`frys doctor` shows what this machine gives")
    kind = _KINDS.get(number, CgroupError)
    return kind(f"cannot {what} {path}: {os.strerror(number)}; {hint}", path, number)


def open_file(path: str, flags: int) -> int:
    """A descriptor that no other program inherits."""
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise error_of("open", path, error) from error


def write(path: str, value: str, *, optional: bool = False) -> None:
    """Write a value; ``optional``: not every kernel has the file."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        if optional:
            return
        raise error_of("write", path, error) from error
    except OSError as error:
        raise error_of("write", path, error) from error
    try:
        os.write(fd, value.encode())
    except OSError as error:
        is_limit = error.errno == errno.EBUSY and "memory." in path
        hint = "more is in use than the new limit" if is_limit else ""
        raise error_of(f"write {value!r} to", path, error, hint) from error
    finally:
        os.close(fd)


def read(path: str, *, default: bytes | None = None) -> bytes:
    """What stands in a file, or the default where this kernel has no such file."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError as error:
        if default is not None:
            return default
        raise error_of("read", path, error) from error
    except OSError as error:
        raise error_of("read", path, error) from error


def field(path: str, name: bytes) -> int:
    """One value of a file of `name value` lines; 0 where this kernel does not count it."""
    return fields(path).get(name, 0)


def fields(path: str) -> dict[bytes, int]:
    """Every value of a file of `name value` lines."""
    return {name: int(value) for name, value in (line.split() for line in read(path).splitlines())}


def mkdir(path: str) -> None:
    """Make a cgroup."""
    try:
        os.mkdir(path)
    except OSError as error:
        raise error_of("create", path, error) from error


def subdirectories(directory: str) -> list[str]:
    """The cgroups directly below one; none where it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def remove_all(directories: "Iterable[str]", patience: float) -> None:
    """Remove cgroups, waiting in all for so many seconds; after a failure the others are removed, too."""
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
                raise error_of("remove", directory, error, hint) from error
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def pids_of(directory: str) -> list[int]:
    """The processes of a cgroup that this pid namespace can name."""
    return [pid for pid in map(int, read(f"{directory}/cgroup.procs").split()) if pid]
