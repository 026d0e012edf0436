"""Folders of the host that a plugin's policy grants, as a WASI program sees them: under their own names.

The kernel decides what is there: the mounts of the jail, Landlock and the rights of the files. What stands
here keeps a program inside of the folder whose descriptor it uses, as WASI promises it: each name of a path
is opened in the folder before it, never through a link and never by ``..``, so whoever moves folders about
meanwhile leads nobody out. Links are followed by hand, as long as they stay inside.
"""

import errno
import os
import stat
from typing import NoReturn, Self, override

from .wasm_entry import (
    APPEND,
    BADF,
    CREATE,
    DIRECTORY,
    DSYNC,
    EXCLUSIVE,
    FILESTAT,
    FOLDER_ONLY,
    INVAL,
    LINK,
    NOENT,
    NOTCAPABLE,
    NOTDIR,
    NOTSUP,
    READ_FILE,
    READ_FOLDER,
    REGULAR,
    RIGHT_LIST,
    RIGHT_READ,
    RIGHT_WRITE,
    ROFS,
    SYNC,
    TRUNCATE,
    UNKNOWN,
    WRITE_FILE,
    WRITE_FOLDER,
    Entry,
    Times,
    WasiError,
)

_AT_ONCE = 1 << 20  # bytes of one read or write
_MOST_LINKS = 40  # as in Linux, path_resolution(7)
_FLAGS = ((APPEND, os.O_APPEND), (DSYNC, os.O_DSYNC), (SYNC, os.O_SYNC))
_KINDS = {stat.S_IFDIR: DIRECTORY, stat.S_IFREG: REGULAR, stat.S_IFLNK: LINK}
_WORD = (1 << 64) - 1
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe is not waited for


def preopen(path: str, writable: bool, below: str = "") -> "Preopened | None":
    """Open a granted folder, or one below it; ``None`` for what is not there, or is no folder.

    Raises:
        OSError: It cannot be opened for another reason.
        WasiError: What is below it leads out of it.
    """
    try:
        granted = Preopened(os.open(path, _LIST), writable)
        if not below:
            return granted
        try:
            with _Place(granted.fd, os.fsencode(below), True) as place:
                return Preopened(os.open(place.name, _LIST | os.O_NOFOLLOW, dir_fd=place.fd), writable)
        finally:
            granted.end()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


class _Granted(Entry):
    """A descriptor of the kernel's."""

    def __init__(self, fd: int, writable: bool, flags: int = 0) -> None:
        self.fd, self.writable, self.flags = fd, writable, flags

    @override
    def close(self) -> None:
        os.close(self.fd)

    @override
    def attributes(self) -> bytes:
        return _attributes(os.fstat(self.fd))

    @override
    def set_times(self, times: Times) -> None:
        if not self.writable:
            raise WasiError(BADF)
        os.utime(self.fd, ns=_both(times, os.fstat(self.fd)))


class File(_Granted):
    """An open file."""

    kind = REGULAR

    def __init__(self, fd: int, readable: bool, writable: bool, flags: int) -> None:
        super().__init__(fd, writable, flags)
        self.rights = READ_FILE | WRITE_FILE if writable else READ_FILE
        if not readable:
            self.rights &= ~RIGHT_READ

    @override
    def read(self, size: int, offset: int | None) -> bytes:
        size = min(size, _AT_ONCE)
        return os.read(self.fd, size) if offset is None else os.pread(self.fd, size, _offset(offset))

    @override
    def write(self, data: bytes, offset: int | None) -> int:
        data = data[:_AT_ONCE]
        return os.write(self.fd, data) if offset is None else os.pwrite(self.fd, data, _offset(offset))

    @override
    def seek(self, offset: int, whence: int) -> int:
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise WasiError(INVAL)
        return os.lseek(self.fd, offset, whence)

    @override
    def resize(self, size: int) -> None:
        os.ftruncate(self.fd, _offset(size))

    @override
    def sync(self) -> None:
        if self.writable:
            os.fsync(self.fd)


class Folder(_Granted):
    """An open folder."""

    kind = DIRECTORY

    def __init__(self, fd: int, writable: bool) -> None:
        super().__init__(fd, writable)
        self.rights = READ_FOLDER | WRITE_FOLDER if writable else READ_FOLDER
        self.inherited = self.rights | READ_FILE | (WRITE_FILE if writable else 0)
        self._entries: list[tuple[bytes, int, int]] = []

    @override
    def entries(self, anew: bool) -> list[tuple[bytes, int, int]]:
        if anew or not self._entries:
            here = os.fstat(self.fd).st_ino
            found = [(b".", here, DIRECTORY), (b"..", here, DIRECTORY)]
            with os.scandir(self.fd) as listing:
                found += [(os.fsencode(item.name), item.inode(), _kind_of(item)) for item in listing]
            self._entries = found
        return self._entries

    @override
    def open_at(self, path: bytes, follow: bool, how: int, rights: int, flags: int) -> Entry:
        writes = bool(rights & RIGHT_WRITE)
        reads = not writes or bool(rights & (RIGHT_READ | RIGHT_LIST))
        if not self.writable and (writes or how & TRUNCATE):
            raise WasiError(ROFS)
        flagged = [(CREATE, os.O_CREAT), (EXCLUSIVE, os.O_EXCL), (TRUNCATE, os.O_TRUNC)]
        wanted = _OPEN | sum(linux for bit, linux in flagged if how & bit)
        wanted |= os.O_DIRECTORY if how & FOLDER_ONLY else 0
        wanted |= sum(linux for bit, linux in _FLAGS if flags & bit)
        if writes:
            wanted |= os.O_RDWR if reads else os.O_WRONLY
        if not self.writable:
            wanted &= ~os.O_CREAT
        with _Place(self.fd, path, follow) as place:
            try:
                fd = os.open(place.name, wanted, 0o666, dir_fd=place.fd)
            except FileNotFoundError:
                if how & CREATE and not self.writable:
                    raise WasiError(ROFS) from None
                raise
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return Folder(fd, self.writable)
        return File(fd, reads, writes, flags & (APPEND | DSYNC | SYNC))

    @override
    def attributes_at(self, path: bytes, follow: bool) -> bytes:
        with _Place(self.fd, path, follow) as place:
            return _attributes(os.stat(place.name, dir_fd=place.fd, follow_symlinks=False))

    @override
    def set_times_at(self, path: bytes, follow: bool, times: Times) -> None:
        if not self.writable:
            raise WasiError(ROFS)
        with _Place(self.fd, path, follow) as place:
            found = os.stat(place.name, dir_fd=place.fd, follow_symlinks=False)
            os.utime(place.name, ns=_both(times, found), dir_fd=place.fd, follow_symlinks=False)

    @override
    def link_at(self, path: bytes) -> bytes:
        with _Place(self.fd, path, False) as place:
            return os.readlink(place.name, dir_fd=place.fd)

    @override
    def make_folder_at(self, path: bytes) -> None:
        with self._changing(path) as place:
            os.mkdir(place.name, dir_fd=place.fd)

    @override
    def remove_folder_at(self, path: bytes) -> None:
        with self._changing(path) as place:
            os.rmdir(place.name, dir_fd=place.fd)

    @override
    def remove_file_at(self, path: bytes) -> None:
        if path.endswith(b"/"):
            path += b"."  # a folder, then, which the kernel refuses to remove so
        with self._changing(path) as place:
            os.unlink(place.name, dir_fd=place.fd)

    @override
    def rename_at(self, path: bytes, folder: Entry, new_path: bytes) -> None:
        if not isinstance(folder, Folder):
            raise WasiError(ROFS if folder.kind == DIRECTORY else NOTDIR)
        with self._changing(path) as place, folder._changing(new_path) as other:
            os.rename(place.name, other.name, src_dir_fd=place.fd, dst_dir_fd=other.fd)

    @override
    def refuse_link(self) -> NoReturn:
        # A link that a plugin leaves behind leads others who look at the folder, and not the plugin.
        raise WasiError(NOTSUP if self.writable else ROFS)

    def _changing(self, path: bytes) -> "_Place":
        if not self.writable:
            raise WasiError(ROFS)
        return _Place(self.fd, path.rstrip(b"/") or path, False)


class Preopened(Folder):
    """A granted folder, which every program of the plugin finds open."""

    @override
    def close(self) -> None:
        """Stay open for the next program."""

    def end(self) -> None:
        """Close it: there will be no more programs."""
        super().close()


class _Place:
    """Where a path leads: the folder that has its last name, held open, and that name.

    Raises:
        WasiError, OSError: A name before the last is no folder, or the path leads out.
    """

    def __init__(self, root: int, path: bytes, follow: bool) -> None:
        self.fd = self._root = root
        self.name = b"."  # the folder itself
        self._entered: list[bytes] = []
        self._links = 0
        try:
            self._walk(path, follow)
        except BaseException:
            self._step_to(root)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._step_to(self._root)

    def _walk(self, path: bytes, follow: bool) -> None:
        if not path:
            raise WasiError(NOENT)
        names = _names(path)
        while names:
            name = names.pop()
            if name == b"..":
                self._go_back()
            elif name in (b"", b"."):
                continue
            elif names:
                self._enter(name, names)
            elif not (follow and self._expand(name, names)):
                self.name = name

    def _enter(self, name: bytes, names: list[bytes]) -> None:
        try:
            self._step_to(os.open(name, _STEP, dir_fd=self.fd))
        except NotADirectoryError:
            if not self._expand(name, names):
                raise
        else:
            self._entered.append(name)

    def _go_back(self) -> None:
        """Walk again to the folder before this one: `..` of the kernel leads to wherever this one is now."""
        if not self._entered:
            raise WasiError(NOTCAPABLE)
        entered, self._entered = self._entered[:-1], []
        self._step_to(self._root)
        for name in entered:
            self._step_to(os.open(name, _STEP, dir_fd=self.fd))
        self._entered = entered

    def _expand(self, name: bytes, names: list[bytes]) -> bool:
        """Put the names of a link's target in its place; False when it is no link."""
        try:
            target = os.readlink(name, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return False
            raise
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, "too many links")
        names += _names(target)
        return True

    def _step_to(self, fd: int) -> None:
        if self.fd != self._root:
            os.close(self.fd)
        self.fd = fd


def _names(path: bytes) -> list[bytes]:
    if path.startswith(b"/"):
        raise WasiError(NOTCAPABLE)
    return path.split(b"/")[::-1]


def _offset(number: int) -> int:
    if number >> 63:
        raise WasiError(INVAL)
    return number


def _both(times: Times, found: os.stat_result) -> tuple[int, int]:
    access, change = times
    return (
        found.st_atime_ns if access is None else access,
        found.st_mtime_ns if change is None else change,
    )


def _kind_of(item: "os.DirEntry[str]") -> int:
    if item.is_symlink():
        return LINK
    if item.is_dir(follow_symlinks=False):
        return DIRECTORY
    return REGULAR if item.is_file(follow_symlinks=False) else UNKNOWN


def _attributes(found: os.stat_result) -> bytes:
    times = (moment & _WORD for moment in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns))
    kind = _KINDS.get(stat.S_IFMT(found.st_mode), UNKNOWN)
    return FILESTAT.pack(
        found.st_dev & _WORD, found.st_ino & _WORD, kind, found.st_nlink, found.st_size, *times
    )
