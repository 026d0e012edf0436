"""The mounts of this process's mount namespace (proc_pid_mountinfo(5))."""

import os
import re
from typing import NamedTuple


class Mount(NamedTuple):
    """One mount.

    Attributes:
        device: Of the file system, as ``MAJOR:MINOR``; the major number 0 stands for no block device.
        root: What of the file system is seen at the mount point.
        point: Where.
        kind: The file system's type.
        options: The file system's own options.
    """

    device: str
    root: str
    point: str
    kind: str
    options: frozenset[str]


def mounts() -> list[Mount]:
    """All of them; a later one at the same point hides an earlier one.

    Raises:
        OSError: /proc is not there.
    """
    with open("/proc/self/mountinfo", "rb") as file:
        return [_mount(line) for line in os.fsdecode(file.read()).splitlines()]


def _mount(line: str) -> Mount:
    fields, _, tail = line.partition(" - ")
    device, root, point = fields.split()[2:5]
    kind, _, options = tail.split(" ", 2)
    return Mount(device, _unescape(root), _unescape(point), kind, frozenset(options.split(",")))


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)
