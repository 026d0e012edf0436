"""What a WASI program can have open besides its streams, and how WASI says that something cannot be done.

Specification: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md
"""

import errno
import struct
from typing import NoReturn

SUCCESS, AGAIN, BADF, FAULT, ILSEQ, INVAL, IO, ISDIR, MFILE, NOENT = 0, 6, 8, 21, 25, 28, 29, 31, 33, 44
NOSYS, NOTDIR, NOTSOCK, NOTSUP, ROFS, SPIPE, NOTCAPABLE = 52, 54, 57, 58, 69, 70, 76
UNKNOWN, DIRECTORY, REGULAR, LINK = 0, 3, 4, 7
"""Types of files."""

CREATE, FOLDER_ONLY, EXCLUSIVE, TRUNCATE = 1, 2, 4, 8
"""How a path is opened."""

APPEND, DSYNC, _NONBLOCK, _RSYNC, SYNC = 1, 2, 4, 8, 16
"""Flags of an open file."""

RIGHT_READ, RIGHT_WRITE, RIGHT_LIST = 1 << 1, 1 << 6, 1 << 14
# read, seek, tell, advise, attributes, wait.
READ_FILE = sum(1 << bit for bit in (1, 2, 5, 7, 21, 27))
# sync data, flags, sync, write, allocate, size, times.
WRITE_FILE = sum(1 << bit for bit in (0, 3, 4, 6, 8, 22, 23))
# open, list, read links, attributes by path and by descriptor.
READ_FOLDER = sum(1 << bit for bit in (13, 14, 15, 18, 21))
# make folders and files, link from and to, rename from and to, times by path and by descriptor, make symbolic
# links, remove folders and files. Links are not for want of a right: they are not supported at all.
WRITE_FOLDER = sum(1 << bit for bit in (9, 10, 11, 12, 16, 17, 20, 23, 24, 25, 26))

type Times = tuple[int | None, int | None]
"""When something was last read and changed, in nanoseconds since 1970; ``None`` to leave that as it is."""

FDSTAT = struct.Struct("<BxHxxxxQQ")  # file type, flags, rights, rights of what it opens
FILESTAT = struct.Struct("<QQB7xQQQQQ")  # device, inode, file type, links, size, three times

_OF_LINUX = {
    errno.E2BIG: 1,
    errno.EACCES: 2,
    errno.EAGAIN: AGAIN,
    errno.EBADF: BADF,
    errno.EBUSY: 10,
    errno.EDQUOT: 19,
    errno.EEXIST: 20,
    errno.EFBIG: 22,
    errno.EINTR: 27,
    errno.EINVAL: INVAL,
    errno.EISDIR: ISDIR,
    errno.ELOOP: 32,
    errno.EMFILE: MFILE,
    errno.EMLINK: 34,
    errno.ENAMETOOLONG: 37,
    errno.ENFILE: 41,
    errno.ENODEV: 43,
    errno.ENOENT: NOENT,
    errno.ENOMEM: 48,
    errno.ENOSPC: 51,
    errno.ENOTDIR: NOTDIR,
    errno.ENOTEMPTY: 55,
    errno.ENOTSUP: NOTSUP,
    errno.ENXIO: 60,
    errno.EOVERFLOW: 61,
    errno.EPERM: 63,
    errno.EPIPE: 64,
    errno.EROFS: ROFS,
    errno.ESPIPE: SPIPE,
    errno.ESTALE: 72,
    errno.ETXTBSY: 74,
    errno.EXDEV: 75,
}


class WasiError(Exception):
    """What a call answers instead of doing it.

    Attributes:
        number: WASI's error number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def error_number(error: OSError) -> int:
    """The WASI error number of an error of the kernel's; IO for what WASI has no word for."""
    return _OF_LINUX.get(error.errno or 0, IO)


class Entry:
    """An open file or folder. What one of its kind cannot do at all is refused here.

    Every method raises ``WasiError`` or ``OSError`` when it cannot do what it is asked for.

    Attributes:
        kind: Its type.
        flags: The flags that it was opened with.
        rights: What may be done with it.
        inherited: What may at most be done with what is opened from it.
    """

    kind = UNKNOWN
    flags = 0
    rights = 0
    inherited = 0

    def close(self) -> None:
        """The program needs it no more."""

    def fdstat(self) -> bytes:
        """What ``fd_fdstat_get`` stores."""
        return FDSTAT.pack(self.kind, self.flags, self.rights, self.inherited)

    def attributes(self) -> bytes:
        """What ``fd_filestat_get`` stores."""
        raise WasiError(BADF)

    def read(self, _size: int, _offset: int | None) -> bytes | memoryview:
        """Read at most so many bytes, at its own position or at another."""
        raise WasiError(ISDIR)

    def write(self, _data: bytes, _offset: int | None) -> int:
        """Write at its own position or at another; how many bytes were taken."""
        raise WasiError(BADF)

    def seek(self, _offset: int, _whence: int) -> int:
        """Move its position; the new one."""
        raise WasiError(BADF)

    def resize(self, _size: int) -> None:
        """Cut it off, or fill it with zeros."""
        raise WasiError(BADF)

    def set_times(self, _times: Times) -> None:
        """Set when it was last read and changed."""
        raise WasiError(BADF)

    def sync(self) -> None:
        """Wait until what was written is kept."""

    def entries(self, _anew: bool) -> list[tuple[bytes, int, int]]:
        """Name, inode and type of what is in it; those of the last time unless they are wanted anew."""
        raise WasiError(NOTDIR)

    def open_at(self, _path: bytes, _follow: bool, _how: int, _rights: int, _flags: int) -> "Entry":
        """Open what is below it."""
        raise WasiError(NOTDIR)

    def attributes_at(self, _path: bytes, _follow: bool) -> bytes:
        """What ``path_filestat_get`` stores."""
        raise WasiError(NOTDIR)

    def set_times_at(self, _path: bytes, _follow: bool, _times: Times) -> None:
        """Set when what is below it was last read and changed."""
        raise WasiError(NOTDIR)

    def link_at(self, _path: bytes) -> bytes:
        """Where a symbolic link leads."""
        raise WasiError(NOTDIR)

    def make_folder_at(self, _path: bytes) -> None:
        """Make a folder below it."""
        raise WasiError(NOTDIR)

    def remove_folder_at(self, _path: bytes) -> None:
        """Remove an empty folder below it."""
        raise WasiError(NOTDIR)

    def remove_file_at(self, _path: bytes) -> None:
        """Remove a file below it."""
        raise WasiError(NOTDIR)

    def rename_at(self, _path: bytes, _folder: "Entry", _new_path: bytes) -> None:
        """Move what is below it to below another."""
        raise WasiError(NOTDIR)

    def refuse_link(self) -> NoReturn:
        """Say why no links are made below it."""
        raise WasiError(NOTDIR)
