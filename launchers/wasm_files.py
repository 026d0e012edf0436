"""The files that a WASI program sees: its plugin's own, read-only, as the folder ``/plugin``.

They are served out of the verified bytes that the host sent; no system call is made for them, so there is no
path, link or ``..`` that could lead anywhere else. Nothing can be created, changed or removed: such calls
answer "read-only file system".

Specification: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/docs.md
"""

import struct
from collections.abc import Callable, Mapping

from .wasm_engine import Memory

type FileCall = Callable[..., int]

ROOT = b"/plugin"
FIRST = 3
"""The descriptor of that folder, as WASI programs look for it."""

SUCCESS, BADF, ILSEQ, INVAL, ISDIR, MFILE, NOENT, NOTDIR, ROFS, NOTCAPABLE = (
    0,
    8,
    25,
    28,
    31,
    33,
    44,
    54,
    69,
    76,
)
_DIRECTORY, _REGULAR = 3, 4
_OPEN_CREATE, _OPEN_DIRECTORY, _OPEN_TRUNCATE = 1, 2, 8
_RIGHT_WRITE = 1 << 6
# read, seek, tell, advise, open, list, read links, attributes by path and by descriptor, wait.
_RIGHTS = sum(1 << bit for bit in (1, 2, 5, 7, 13, 14, 15, 18, 21, 27))
_MOST_OPEN = 1024
_MAX_PATH = 4096
_FDSTAT = struct.Struct("<BxHxxxxQQ")  # file type, flags, rights, rights of what it opens
_FILESTAT = struct.Struct("<QQB7xQQQQQ")  # device, inode, file type, links, size, three times
_DIRENT = struct.Struct("<QQIB3x")  # where the next begins, inode, length of the name, file type
_SET, _CURRENT, _END = range(3)
_OFFSET_LIMIT = 1 << 62


class Tree:
    """The plugin's files as folders.

    Attributes:
        folders: Path to the names in it; the root is the empty path.
        files: Path to content.
        numbers: Path to inode number.
    """

    def __init__(self, files: Mapping[str, memoryview]) -> None:
        self.files = files
        self.folders: dict[str, dict[str, None]] = {"": {}}
        for path in sorted(files):
            parts = path.split("/")
            for depth in range(len(parts)):
                folder = "/".join(parts[:depth])
                self.folders.setdefault(folder, {})[parts[depth]] = None
        self.numbers = {path: number for number, path in enumerate([*self.folders, *files], 1)}

    def resolve(self, folder: str, path: bytes) -> tuple[int, str]:
        """Follow a path from a folder on; returns an error number and the path from the root."""
        try:
            text = path.decode()
        except UnicodeDecodeError:
            return ILSEQ, ""
        if text.startswith("/"):
            return NOTCAPABLE, ""
        if not text:
            return NOENT, ""
        at = folder.split("/") if folder else []
        for part in text.split("/"):
            here = "/".join(at)
            if here not in self.folders:
                return (NOTDIR if here in self.files else NOENT), ""
            if part == "..":
                if not at:
                    return NOTCAPABLE, ""
                at.pop()
            elif part not in ("", "."):
                at.append(part)
        found = "/".join(at)
        return (SUCCESS if found in self.numbers else NOENT), found

    def attributes(self, path: str) -> bytes:
        """What ``fd_filestat_get`` stores."""
        kind, size = (_DIRECTORY, 0) if path in self.folders else (_REGULAR, len(self.files[path]))
        return _FILESTAT.pack(1, self.numbers[path], kind, 1, size, 0, 0, 0)


class Opened:
    """A file or folder that a program has open."""

    __slots__ = ("path", "position")

    def __init__(self, path: str) -> None:
        self.path = path
        self.position = 0


class Descriptors:
    """What a program has open besides its streams."""

    def __init__(self, tree: Tree | None) -> None:
        self.tree = tree if tree is not None else Tree({})
        self.opened: dict[int, Opened] = {FIRST: Opened("")} if tree is not None else {}

    def content(self, fd: int) -> memoryview | None:
        """The bytes of an open file; ``None`` for a folder."""
        return self.tree.files.get(self.opened[fd].path)

    def folder(self, fd: int) -> str | None:
        """The path of an open folder; ``None`` for anything else."""
        opened = self.opened.get(fd)
        return opened.path if opened is not None and opened.path in self.tree.folders else None

    def open(self, path: str) -> int:
        """Open a path and return its descriptor, or 0 when there are too many."""
        if len(self.opened) >= _MOST_OPEN:
            return 0
        fd = next(number for number in range(FIRST, FIRST + _MOST_OPEN + 1) if number not in self.opened)
        self.opened[fd] = Opened(path)
        return fd

    def read(self, fd: int, size: int, position: int | None = None) -> memoryview | None:
        """Read from a file, at its own position or another; ``None`` for a folder."""
        content, opened = self.content(fd), self.opened[fd]
        if content is None:
            return None
        start = opened.position if position is None else position
        part = content[start : start + size]
        if position is None:
            opened.position += len(part)
        return part


def _not_a_folder(files: Descriptors, fd: int) -> int:
    return NOTDIR if fd in files.opened else BADF


def prestat_get(files: Descriptors, memory: Memory, fd: int, result: int) -> int:
    """Store that a descriptor is a folder which was there from the beginning."""
    if fd != FIRST or files.folder(fd) != "":
        return BADF
    memory.write(result, struct.pack("<II", 0, len(ROOT)))
    return SUCCESS


def prestat_dir_name(files: Descriptors, memory: Memory, fd: int, address: int, size: int) -> int:
    """Store the name of that folder."""
    if fd != FIRST or files.folder(fd) != "":
        return BADF
    if size < len(ROOT):
        return INVAL
    memory.write(address, ROOT)
    return SUCCESS


def path_open(
    files: Descriptors, memory: Memory, fd: int, _follow: int, address: int, size: int, how: int,
    rights: int, _inherited: int, _flags: int, result: int,
) -> int:  # fmt: skip
    """Open a file or folder to read it."""
    error, path = _resolve(files, memory, fd, address, size)
    if error and not (error == NOENT and how & _OPEN_CREATE):
        return error
    if error or how & _OPEN_TRUNCATE:
        return ROFS
    is_folder = path in files.tree.folders
    if how & _OPEN_DIRECTORY and not is_folder:
        return NOTDIR
    if rights & _RIGHT_WRITE:
        return ISDIR if is_folder and not how & _OPEN_DIRECTORY else ROFS
    opened = files.open(path)
    if not opened:
        return MFILE
    memory.write(result, opened.to_bytes(4, "little"))
    return SUCCESS


def _resolve(files: Descriptors, memory: Memory, fd: int, address: int, size: int) -> tuple[int, str]:
    folder = files.folder(fd)
    if folder is None:
        return _not_a_folder(files, fd), ""
    return files.tree.resolve(folder, memory.read(address, size)) if size <= _MAX_PATH else (INVAL, "")


def path_filestat_get(
    files: Descriptors, memory: Memory, fd: int, _follow: int, address: int, size: int, result: int
) -> int:
    """Store the attributes of a path."""
    error, path = _resolve(files, memory, fd, address, size)
    if not error:
        memory.write(result, files.tree.attributes(path))
    return error


def path_readlink(
    files: Descriptors, memory: Memory, fd: int, address: int, size: int, _to: int, _room: int, _result: int
) -> int:
    """Refuse: nothing here is a link."""
    return _resolve(files, memory, fd, address, size)[0] or INVAL


def readdir(
    files: Descriptors, memory: Memory, fd: int, address: int, size: int, cookie: int, result: int
) -> int:
    """Store the entries of a folder from the ``cookie``-th on, as many as there is room for."""
    folder = files.folder(fd)
    if folder is None:
        return _not_a_folder(files, fd)
    out = bytearray()
    tree = files.tree
    names = [".", "..", *tree.folders[folder]]
    for index in range(min(cookie, len(names)), len(names)):
        name = names[index]
        path = folder if name in (".", "..") else f"{folder}/{name}".lstrip("/")
        kind = _DIRECTORY if path in tree.folders else _REGULAR
        text = name.encode()
        out += _DIRENT.pack(index + 1, tree.numbers[path], len(text), kind) + text
        if len(out) >= size:
            break
    del out[size:]
    memory.write(address, bytes(out))
    memory.write(result, len(out).to_bytes(4, "little"))
    return SUCCESS


def fdstat(files: Descriptors, fd: int) -> bytes:
    """What ``fd_fdstat_get`` stores."""
    kind = _DIRECTORY if files.folder(fd) is not None else _REGULAR
    return _FDSTAT.pack(kind, 0, _RIGHTS, _RIGHTS)


def seek(files: Descriptors, memory: Memory, fd: int, offset: int, whence: int, result: int) -> int:
    """Move the position of a file."""
    content, opened = files.content(fd), files.opened[fd]
    if content is None:
        return BADF
    if whence not in (_SET, _CURRENT, _END):
        return INVAL
    signed = offset - (1 << 64) if offset >> 63 else offset
    position = (0, opened.position, len(content))[whence] + signed
    if not 0 <= position < _OFFSET_LIMIT:
        return INVAL
    opened.position = position
    memory.write(result, position.to_bytes(8, "little"))
    return SUCCESS


def renumber(files: Descriptors, _memory: Memory, source: int, target: int) -> int:
    """Let one descriptor take another's place."""
    if source not in files.opened or target not in files.opened:
        return BADF
    files.opened[target] = files.opened.pop(source)
    return SUCCESS


def _nothing_to_do(files: Descriptors, _memory: Memory, fd: int, *_arguments: int) -> int:
    return SUCCESS if fd in files.opened else BADF


def _read_only(files: Descriptors, _memory: Memory, fd: int, *_arguments: int) -> int:
    return ROFS if files.folder(fd) is not None else _not_a_folder(files, fd)


def _read_only_second(
    files: Descriptors, _memory: Memory, _address: int, _size: int, fd: int, *_more: int
) -> int:
    return ROFS if files.folder(fd) is not None else _not_a_folder(files, fd)


def _not_for_writing(_files: Descriptors, _memory: Memory, _fd: int, *_arguments: int) -> int:
    return BADF


# i: i32, I: i64.
FUNCTIONS: dict[str, tuple[str, FileCall]] = {
    "fd_advise": ("iIIi", _nothing_to_do),
    "fd_allocate": ("iII", _not_for_writing),
    "fd_datasync": ("i", _nothing_to_do),
    "fd_fdstat_set_rights": ("iII", _nothing_to_do),
    "fd_filestat_set_size": ("iI", _not_for_writing),
    "fd_filestat_set_times": ("iIIi", _not_for_writing),
    "fd_prestat_dir_name": ("iii", prestat_dir_name),
    "fd_prestat_get": ("ii", prestat_get),
    "fd_pwrite": ("iiiIi", _not_for_writing),
    "fd_readdir": ("iiiIi", readdir),
    "fd_renumber": ("ii", renumber),
    "fd_sync": ("i", _nothing_to_do),
    "path_create_directory": ("iii", _read_only),
    "path_filestat_get": ("iiiii", path_filestat_get),
    "path_filestat_set_times": ("iiiiIIi", _read_only),
    "path_link": ("iiiiiii", _read_only),
    "path_open": ("iiiiiIIii", path_open),
    "path_readlink": ("iiiiii", path_readlink),
    "path_remove_directory": ("iii", _read_only),
    "path_rename": ("iiiiii", _read_only),
    "path_symlink": ("iiiii", _read_only_second),
    "path_unlink_file": ("iii", _read_only),
}
