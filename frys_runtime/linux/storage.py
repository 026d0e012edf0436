"""Which disks hold the files below a path: the kernel limits the bandwidth of disks, not of folders.

Source: the kernel's admin-guide/cgroup-v2, "IO Interface Files", and its ABI of /sys/dev/block.
"""

import os
from typing import TYPE_CHECKING, Final

from .mountinfo import mounts

if TYPE_CHECKING:
    from collections.abc import Iterable

_IN_MEMORY: Final = ("tmpfs", "ramfs", "devtmpfs")


class NoDisk(Exception):
    """Files lie where no disk is that the kernel could limit; the message says where."""


def disks(paths: "Iterable[str]") -> frozenset[str]:
    """The disks that hold these files and folders, and what is mounted below them.

    A file system in memory has none: what it holds is limited as memory. For a partition it is the disk that
    has it, because the kernel takes no other; a mapped device (LVM, dm-crypt, RAID) counts as a disk itself.

    Returns:
        Their numbers, as ``MAJOR:MINOR``.

    Raises:
        NoDisk: A file system has no block device of its own: overlay, btrfs, a network's.
    """
    table = mounts()
    kinds = {mount.device: mount.kind for mount in table}
    found: set[str] = set()
    for path in paths:
        try:
            place = os.path.realpath(path)
            own = os.stat(place).st_dev
        except FileNotFoundError:
            continue  # nothing is there to be read
        except OSError as error:
            raise NoDisk(f"{path} cannot be looked at ({error.strerror})") from error
        below = place.rstrip("/") + "/"
        devices = [mount.device for mount in table if mount.point.startswith(below)]
        for device in (f"{os.major(own)}:{os.minor(own)}", *devices):
            kind = kinds.get(device, "a file system")
            if kind in _IN_MEMORY:
                continue
            if (disk := _disk(device)) is None:
                raise NoDisk(f"{path} lies on {kind}, which has no disk of its own")
            found.add(disk)
    return frozenset(found)


def _disk(device: str) -> str | None:
    folder = os.path.realpath(f"/sys/dev/block/{device}")
    if os.path.exists(f"{folder}/partition"):
        folder = os.path.dirname(folder)
    try:
        with open(f"{folder}/dev", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None
