"""Files in memory that nobody can change any more (memfd_create(2), F_ADD_SEALS of fcntl(2))."""

import errno
import fcntl
import os
from typing import Final

from . import libc

_MFD_NOEXEC_SEAL: Final = 8
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def create(name: str) -> int:
    """A new, empty file in memory that cannot be made executable; the caller closes it."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)  # before Linux 6.3


def write(fd: int, data: bytes | memoryview) -> int:
    """Append all of some bytes; how many they were."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return len(data)


def seal(fd: int, *, writable: bool = False) -> None:
    """From here on it neither grows nor shrinks, nor changes unless it is ``writable``."""
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS & ~fcntl.F_SEAL_WRITE if writable else _SEALS)


def free(fd: int, start: int, size: int) -> None:
    """Give back the memory of a part, which reads as zeros from then on (FALLOC_FL_PUNCH_HOLE)."""
    if size > 0:
        libc.punch_hole(fd, start, size)
