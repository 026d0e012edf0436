"""A plugin's folder, read file by file without following a link; each file is opened once."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from .errors import LoadFailed

MAX_FILES: Final = 16384
MAX_SIZE: Final = 256 << 20
"""Bytes of all files of one plugin."""

MAX_DEPTH: Final = 32
"""Folders in folders."""

PLUGIN_JSON: Final = "plugin.json"
SPECIAL: Final = "it is neither a file nor a folder"

_CHUNK: Final = 1 << 20


def reason(error: OSError) -> str:
    """Why something could not be read, in words."""
    known = {
        errno.ENOENT: "there is no such file or folder",
        errno.EACCES: "this user may not read it",
        errno.ELOOP: "it is a symbolic link that leads nowhere",
        errno.ENOTDIR: "a part of the path is not a folder",
        errno.ENXIO: SPECIAL,
    }
    return known.get(error.errno or 0, f"it cannot be read: {error.strerror}")


def chunks(fd: int, limit: int) -> Iterator[bytes]:
    """What a descriptor gives, up to a limit in bytes."""
    while limit > 0 and (chunk := os.read(fd, min(_CHUNK, limit))):
        limit -= len(chunk)
        yield chunk


def is_left_out(name: str) -> bool:
    """Whether no plugin ever gets a file or folder of this name."""
    return name.startswith(".") or name == "__pycache__"


def _leave_none_out(_: str) -> bool:
    return False


def walk(
    name: str,
    folder: int,
    below: str = "",
    depth: int = 0,
    leave_out: Callable[[str], bool] = _leave_none_out,
) -> Iterator[tuple[str, int]]:
    """Every file but the ``plugin.json`` at the top, in a fixed order; links are never followed.

    Args:
        name: How to name the folder in errors.
        folder: Its descriptor.
        below: Where it lies in the plugin, with a ``/`` at the end.
        depth: How deep it lies there.
        leave_out: Tells by the path whether a file, or a folder with all in it, is skipped unread.

    Yields:
        The path in the plugin, and a descriptor that the caller closes.

    Raises:
        LoadFailed: Something there cannot be part of a plugin.
    """
    if depth > MAX_DEPTH:
        raise LoadFailed(name, f"folders are nested deeper than {MAX_DEPTH}")
    for entry in sorted(os.listdir(folder)):
        path = below + entry
        if is_left_out(entry) or path == PLUGIN_JSON or leave_out(path):
            continue
        if not path.isprintable() or "\\" in path:
            raise LoadFailed(
                name, f"the file name {path!r} has characters that a plugin's files may not have"
            )
        fd = open_inside(name, folder, entry, path)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            try:
                yield from walk(name, fd, f"{path}/", depth + 1, leave_out)
            finally:
                os.close(fd)
        else:
            yield path, fd


def open_inside(name: str, folder: int, entry: str, path: str) -> int:
    """Open what lies in a folder, if it is no link."""
    try:
        return os.open(entry, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        link = "it is a symbolic link, which could lead out of the folder; put the file itself there"
        raise LoadFailed(
            os.path.join(name, path), link if error.errno == errno.ELOOP else reason(error)
        ) from None


def open_below(name: str, folder: int, path: str) -> int:
    """Open a file below a folder; no part of its path may be a link."""
    *folders, file = path.split("/")
    fd = os.dup(folder)
    try:
        for part in folders:
            below = open_inside(name, fd, part, path)
            os.close(fd)
            fd = below
        return open_inside(name, fd, file, path)
    finally:
        os.close(fd)


def read_plugin_json(name: str, folder: int, most: int) -> bytes:
    """The ``plugin.json`` of a folder, up to one byte more than ``most``.

    Raises:
        LoadFailed: There is none that can be read.
    """
    file = os.path.join(name, PLUGIN_JSON)
    try:
        fd = os.open(PLUGIN_JSON, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        raise LoadFailed(
            name, "the folder has no plugin.json, which would name the plugin's format and entry"
        ) from None
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else reason(error)
        raise LoadFailed(file, why) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise LoadFailed(file, "it is not a file")
        return b"".join(chunks(fd, most + 1))
    except OSError as error:
        raise LoadFailed(file, reason(error)) from None
    finally:
        os.close(fd)
