"""The calls of WASI preview 1 that are about files and folders, whatever these are made of.

``wasm_tree`` has the plugin's own files, ``wasm_granted`` the host's folders that its policy grants.

Specification: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md
"""

import struct
import time
from collections.abc import Callable, Iterator, Sequence

from .wasm_entry import (
    APPEND,
    BADF,
    DIRECTORY,
    INVAL,
    ISDIR,
    MFILE,
    NOTCAPABLE,
    NOTSUP,
    RIGHT_READ,
    RIGHT_WRITE,
    SUCCESS,
    Entry,
    Times,
    WasiError,
)
from .wasm_memory import Memory

type FileCall = Callable[..., int]
type Preopens = Sequence[tuple[bytes, Entry]]  # each folder with its name
type Buffers = Iterator[tuple[int, int]]

FIRST = 3
"""The descriptor of the first folder, as WASI programs look for them."""

MAX_ITEMS = 1024  # IOV_MAX of Linux; more buffers or subscriptions in one call are refused
_MOST_OPEN = 1024
_MAX_PATH = 4096
_SET_IT, _SET_NOW = 1, 2  # bits for the last access; two further for the last change
_DIRENT = struct.Struct("<QQIB3x")  # where the next begins, inode, length of the name, file type


class Descriptors:
    """What a program has open besides its streams.

    Attributes:
        opened: Each file and folder by its number.
    """

    def __init__(self, preopens: Preopens = ()) -> None:
        self._preopens = preopens
        self.opened: dict[int, Entry] = {FIRST + index: entry for index, (_, entry) in enumerate(preopens)}

    def name(self, fd: int) -> bytes:
        """The name of a folder that was there from the beginning and still is."""
        index = fd - FIRST
        if not 0 <= index < len(self._preopens) or self.opened.get(fd) is not self._preopens[index][1]:
            raise WasiError(BADF)
        return self._preopens[index][0]

    def get(self, fd: int) -> Entry:
        """What a number stands for."""
        found = self.opened.get(fd)
        if found is None:
            raise WasiError(BADF)
        return found

    def add(self, entry: Entry) -> int:
        """Give something that was opened a number."""
        if len(self.opened) >= _MOST_OPEN:
            entry.close()
            raise WasiError(MFILE)
        fd = next(number for number in range(FIRST, FIRST + _MOST_OPEN + 1) if number not in self.opened)
        self.opened[fd] = entry
        return fd

    def close(self) -> None:
        """Close everything: the program is over, and nobody is left to be told of an error."""
        while self.opened:
            try:
                self.opened.popitem()[1].close()
            except OSError:
                pass


def prestat_get(files: Descriptors, memory: Memory, fd: int, result: int) -> int:
    """Store that a descriptor is a folder which was there from the beginning."""
    memory.write(result, struct.pack("<II", 0, len(files.name(fd))))
    return SUCCESS


def prestat_dir_name(files: Descriptors, memory: Memory, fd: int, address: int, size: int) -> int:
    """Store the name of that folder."""
    name = files.name(fd)
    if size < len(name):
        return INVAL
    memory.write(address, name)
    return SUCCESS


def path_open(
    files: Descriptors, memory: Memory, fd: int, follow: int, address: int, size: int, how: int,
    rights: int, _inherited: int, flags: int, result: int,
) -> int:  # fmt: skip
    """Open a file or folder."""
    opened = files.get(fd).open_at(_path(memory, address, size), bool(follow & 1), how, rights, flags)
    memory.write(result, files.add(opened).to_bytes(4, "little"))
    return SUCCESS


def path_filestat_get(
    files: Descriptors, memory: Memory, fd: int, follow: int, address: int, size: int, result: int
) -> int:
    """Store the attributes of a path."""
    memory.write(result, files.get(fd).attributes_at(_path(memory, address, size), bool(follow & 1)))
    return SUCCESS


def path_readlink(
    files: Descriptors, memory: Memory, fd: int, address: int, size: int, to: int, room: int, result: int
) -> int:
    """Store where a link leads, or as much of it as there is room for."""
    target = files.get(fd).link_at(_path(memory, address, size))[:room]
    memory.write(to, target)
    memory.write(result, len(target).to_bytes(4, "little"))
    return SUCCESS


def path_create_directory(files: Descriptors, memory: Memory, fd: int, address: int, size: int) -> int:
    """Make a folder."""
    files.get(fd).make_folder_at(_path(memory, address, size))
    return SUCCESS


def path_remove_directory(files: Descriptors, memory: Memory, fd: int, address: int, size: int) -> int:
    """Remove an empty folder."""
    files.get(fd).remove_folder_at(_path(memory, address, size))
    return SUCCESS


def path_unlink_file(files: Descriptors, memory: Memory, fd: int, address: int, size: int) -> int:
    """Remove a file."""
    files.get(fd).remove_file_at(_path(memory, address, size))
    return SUCCESS


def path_rename(
    files: Descriptors, memory: Memory, fd: int, address: int, size: int, new: int, to: int, length: int
) -> int:
    """Move a file or folder."""
    path, new_path = _path(memory, address, size), _path(memory, to, length)
    files.get(fd).rename_at(path, files.get(new), new_path)
    return SUCCESS


def readdir(
    files: Descriptors, memory: Memory, fd: int, address: int, size: int, cookie: int, result: int
) -> int:
    """Store the entries of a folder from the ``cookie``-th on, as many as there is room for."""
    out = bytearray()
    entries = files.get(fd).entries(not cookie)
    for index in range(min(cookie, len(entries)), len(entries)):
        name, inode, kind = entries[index]
        out += _DIRENT.pack(index + 1, inode, len(name), kind) + name
        if len(out) >= size:
            break
    del out[size:]
    memory.write(address, bytes(out))
    memory.write(result, len(out).to_bytes(4, "little"))
    return SUCCESS


def read(
    files: Descriptors, memory: Memory, fd: int, buffers: int, count: int, offset: int | None, result: int
) -> int:
    """Read from a file, at its position or from a place in it, into the listed buffers."""
    entry, total = _allowed(files, fd, RIGHT_READ), 0
    for address, size in listed(memory, buffers, count):
        part = entry.read(size, None if offset is None else offset + total)
        memory.write(address, part)
        total += len(part)
        if len(part) < size:
            break
    memory.write(result, total.to_bytes(4, "little"))
    return SUCCESS


def write(
    files: Descriptors, memory: Memory, fd: int, buffers: int, count: int, offset: int | None, result: int
) -> int:
    """Write the listed buffers to a file, at its position or to a place in it."""
    entry, total = _allowed(files, fd, RIGHT_WRITE), 0
    for address, size in listed(memory, buffers, count):
        taken = entry.write(memory.read(address, size), None if offset is None else offset + total)
        total += taken
        if taken < size:
            break
    memory.write(result, total.to_bytes(4, "little"))
    return SUCCESS


def seek(files: Descriptors, memory: Memory, fd: int, offset: int, whence: int, result: int) -> int:
    """Move the position of a file."""
    position = files.get(fd).seek(offset - (1 << 64) if offset >> 63 else offset, whence)
    memory.write(result, position.to_bytes(8, "little"))
    return SUCCESS


def _allowed(files: Descriptors, fd: int, right: int) -> Entry:
    entry = files.get(fd)
    if not entry.rights & right:
        raise WasiError(ISDIR if entry.kind == DIRECTORY else BADF)
    return entry


def listed(memory: Memory, address: int, count: int) -> Buffers:
    """Address and size of each buffer in a list.

    Raises:
        WasiError: The list is too long.
    """
    if count > MAX_ITEMS:
        raise WasiError(INVAL)
    return struct.iter_unpack("<II", memory.read(address, 8 * count))


def _pread(
    files: Descriptors, memory: Memory, fd: int, buffers: int, count: int, offset: int, result: int
) -> int:
    return read(files, memory, fd, buffers, count, offset, result)


def _pwrite(
    files: Descriptors, memory: Memory, fd: int, buffers: int, count: int, offset: int, result: int
) -> int:
    return write(files, memory, fd, buffers, count, offset, result)


def _set_size(files: Descriptors, _memory: Memory, fd: int, size: int) -> int:
    files.get(fd).resize(size)
    return SUCCESS


def _sync(files: Descriptors, _memory: Memory, fd: int) -> int:
    files.get(fd).sync()
    return SUCCESS


def set_flags(files: Descriptors, _memory: Memory, fd: int, flags: int) -> int:
    """Accept flags that change nothing here; what is open cannot become, or cease to be, for appending."""
    return NOTSUP if (files.get(fd).flags ^ flags) & APPEND else SUCCESS


def _set_times(files: Descriptors, _memory: Memory, fd: int, access: int, change: int, how: int) -> int:
    files.get(fd).set_times(_times(access, change, how))
    return SUCCESS


def path_filestat_set_times(
    files: Descriptors, memory: Memory, fd: int, follow: int, address: int, size: int,
    access: int, change: int, how: int,
) -> int:  # fmt: skip
    """Set when what is at a path was last read and changed."""
    path = _path(memory, address, size)
    files.get(fd).set_times_at(path, bool(follow & 1), _times(access, change, how))
    return SUCCESS


def _times(access: int, change: int, how: int) -> Times:
    now = time.time_ns()
    return _moment(access, how, now), _moment(change, how >> 2, now)


def _moment(given: int, how: int, now: int) -> int | None:
    if how & 3 == _SET_IT | _SET_NOW or given >> 63:
        raise WasiError(INVAL)
    return given if how & _SET_IT else now if how & _SET_NOW else None


def _set_rights(files: Descriptors, _memory: Memory, fd: int, rights: int, inherited: int) -> int:
    entry = files.get(fd)
    if rights & ~entry.rights or inherited & ~entry.inherited:
        raise WasiError(NOTCAPABLE)
    if entry.kind != DIRECTORY:  # a folder may be there for the next program, too
        entry.rights = rights
    return SUCCESS


def _nothing_to_do(files: Descriptors, _memory: Memory, fd: int, *_arguments: int) -> int:
    files.get(fd)
    return SUCCESS


def _not_done(files: Descriptors, _memory: Memory, fd: int, *_arguments: int) -> int:
    return BADF if files.get(fd).kind == DIRECTORY else NOTSUP


def _no_links(files: Descriptors, _memory: Memory, fd: int, *_arguments: int) -> int:
    files.get(fd).refuse_link()


def _no_symlinks(files: Descriptors, memory: Memory, _address: int, _size: int, fd: int, *_more: int) -> int:
    return _no_links(files, memory, fd)


def _path(memory: Memory, address: int, size: int) -> bytes:
    if size > _MAX_PATH:
        raise WasiError(INVAL)
    path = memory.read(address, size)
    path.decode()
    if b"\0" in path:
        raise WasiError(INVAL)
    return path


# i: i32, I: i64.
FUNCTIONS: dict[str, tuple[str, FileCall]] = {
    "fd_advise": ("iIIi", _nothing_to_do),
    "fd_allocate": ("iII", _not_done),
    "fd_datasync": ("i", _sync),
    "fd_fdstat_set_rights": ("iII", _set_rights),
    "fd_filestat_set_size": ("iI", _set_size),
    "fd_filestat_set_times": ("iIIi", _set_times),
    "fd_prestat_dir_name": ("iii", prestat_dir_name),
    "fd_prestat_get": ("ii", prestat_get),
    "fd_pwrite": ("iiiIi", _pwrite),
    "fd_readdir": ("iiiIi", readdir),
    "fd_sync": ("i", _sync),
    "path_create_directory": ("iii", path_create_directory),
    "path_filestat_get": ("iiiii", path_filestat_get),
    "path_filestat_set_times": ("iiiiIIi", path_filestat_set_times),
    "path_link": ("iiiiiii", _no_links),
    "path_open": ("iiiiiIIii", path_open),
    "path_readlink": ("iiiiii", path_readlink),
    "path_remove_directory": ("iii", path_remove_directory),
    "path_rename": ("iiiiii", path_rename),
    "path_symlink": ("iiiii", _no_symlinks),
    "path_unlink_file": ("iii", path_unlink_file),
}
