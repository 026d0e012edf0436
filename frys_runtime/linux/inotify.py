"""The kernel's notes of what changes in folders: inotify(7)."""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Self

from .libc import syscall

_NR_INIT1, _NR_ADD_WATCH, _NR_RM_WATCH = {"x86_64": (294, 254, 255), "aarch64": (26, 27, 28)}[
    os.uname().machine
]
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_Q_OVERFLOW, _IGNORED = 0x4000, 0x8000
_ONLYDIR = 0x1000000
_NOTED: Final = (
    _MODIFY
    | _ATTRIB
    | _CLOSE_WRITE
    | _MOVED_FROM
    | _MOVED_TO
    | _CREATE
    | _DELETE
    | _DELETE_SELF
    | _MOVE_SELF
    | _ONLYDIR
)
_EVENT: Final = struct.Struct("iIII")
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG})
_BYTES: Final = 1 << 16
_READS: Final = 16
"""In one turn; what comes faster waits in the kernel."""
_WAYS_OUT: Final = {
    errno.EMFILE: "too many open files, or too many watchers of this user (fs.inotify.max_user_instances)",
    errno.ENOSPC: "this user watches too many folders (fs.inotify.max_user_watches)",
}


class Inotify:
    """Watches folders, but not what is below them; a context, which gives everything back at its end.

    Raises:
        OSError: The kernel has no more to give.
    """

    def __init__(self) -> None:
        self._folders: dict[int, set[str]] = {}
        try:
            self._fd = syscall("inotify_init1", _NR_INIT1, os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _with_way_out(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        """Readable when there are notes."""
        return self._fd

    def follow(self, folders: Iterable[str]) -> None:
        """Watch these folders, and no others; what is no folder now, or may not be read, is left out.

        A path that leads to another folder than before is followed there.

        Raises:
            OSError: The kernel has no more to give.
        """
        found: dict[int, set[str]] = {}
        for folder in folders:
            path = ctypes.c_char_p(os.fsencode(folder))
            try:
                # SAFETY: path owns the string until the call returns; the kernel copies it.
                watch = syscall("inotify_add_watch", _NR_ADD_WATCH, self._fd, path, _NOTED)
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise _with_way_out(error) from None
            found.setdefault(watch, set()).add(folder)
        for watch in self._folders.keys() - found.keys():
            with suppress(OSError):  # the folder is gone, and its watch with it
                syscall("inotify_rm_watch", _NR_RM_WATCH, self._fd, watch)
        self._folders = found

    def read(self) -> list[str]:
        """The paths of which there are notes; all folders where some were lost."""
        paths: list[str] = []
        for _ in range(_READS):
            try:
                notes = os.read(self._fd, _BYTES)
            except BlockingIOError:
                break
            at = 0
            while at < len(notes):
                watch, mask, _, length = _EVENT.unpack_from(notes, at)
                name = notes[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                at += _EVENT.size + length
                if mask & _Q_OVERFLOW:
                    paths += [folder for folders in self._folders.values() for folder in folders]
                elif not mask & _IGNORED:
                    folders = self._folders.get(watch, ())
                    paths += [
                        os.path.join(folder, os.fsdecode(name)) if name else folder for folder in folders
                    ]
        return paths


def _with_way_out(error: OSError) -> OSError:
    return OSError(error.errno, _WAYS_OUT.get(error.errno or 0, error.strerror))
