"""The cache's folder: how large it may get, and what several processes may delete of it at the same time.

    packages/SHA256/            a package and what vouches for it, or the beginning of one
    registries/NAME/indexes/    ID.json: the newest list of versions of a plugin
    registries/NAME/installed/  which plugins from there are installed in which folder: their lists stay
    registries/NAME/            all else: the trusted root, and the metadata that this machine has seen

Packages and lists are deleted, those that were not used for the longest time first, until the limit holds.
An operation holds a shared lock on each folder that it uses (``.in-use`` in it), and a folder is only deleted
under an exclusive one, so nothing goes that somebody works with. Files are written under another name and
renamed, and deleted by unlinking, so who has one open keeps it.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ..durable import replace_file
from ..errors import ConfigError
from ..policy_file import BYTES

DEFAULT_LIMIT: Final = 1 << 30
"""Bytes of a cache, unless somebody says otherwise."""

_IN_USE: Final = ".in-use"
_LISTS: Final = "indexes"
_NOTES: Final = "installed"
_MAX_NOTE: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_AMOUNT: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cache:
    """Where metadata and packages are kept.

    Attributes:
        folder: The folder.
        limit: Bytes that it may have.
    """

    folder: Path
    limit: int = DEFAULT_LIMIT

    @property
    def packages(self) -> Path:
        """The folder of all packages."""
        return self.folder / "packages"

    @property
    def registries(self) -> Path:
        """The folder of all registries."""
        return self.folder / "registries"

    def package(self, digest: str) -> Path:
        """The folder of a package."""
        return self.packages / digest

    def registry(self, url: str) -> Path:
        """The folder of a registry."""
        return self.registries / hashlib.sha256(url.encode()).hexdigest()[:16]

    def list_of(self, url: str, plugin: str) -> Path:
        """The file for the list of versions of a plugin."""
        return self.registry(url) / _LISTS / f"{plugin}.json"

    def note_installed(self, url: str, folder: Path, plugins: Collection[str]) -> None:
        """Note which plugins from a registry are installed in a folder: their lists are needed offline."""
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        path = self.registry(url) / _NOTES / f"{name}.json"
        # Without room nothing is noted, and no install fails for it; nor for a folder that JSON cannot name.
        with contextlib.suppress(OSError, UnicodeError):
            data = msgspec.json.encode(_Note(str(folder), tuple(sorted(plugins))))
            if not plugins:
                path.unlink(missing_ok=True)
            elif not path.exists() or path.read_bytes() != data:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(str(path), [data], 0o600)


class _Note(msgspec.Struct, frozen=True):
    folder: str
    plugins: tuple[str, ...]


class Freed(NamedTuple):
    """What was deleted, and what was not.

    Attributes:
        bytes: Bytes that were deleted.
        left: Bytes that are left.
        busy: Folders that stay because somebody works with them.
    """

    bytes: int
    left: int
    busy: int


def read_limit(text: str, name: str) -> int:
    """Read how large a cache may be: ``500MiB``, ``2 GiB``, or a number of bytes.

    Raises:
        ConfigError: It is none.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None or (match[2] or "B") not in BYTES:
        raise ConfigError(name, f"is {text[:40]!r}; it must be a number with one of {', '.join(BYTES)}")
    return int(Fraction(match[1]) * BYTES[match[2] or "B"])


class Hold:
    """What one operation uses of caches. It stays there until :meth:`release`, which makes room, too."""

    def __init__(self) -> None:
        self._locks: dict[Path, int] = {}
        self._lists: set[Path] = set()
        self._grown: set[Cache] = set()

    def folder(self, cache: Cache, folder: Path) -> None:
        """Have a folder of a cache, made if it is not there, stay as it is.

        Raises:
            OSError: It cannot be made.
        """
        if folder in self._locks:
            return
        if not folder.is_dir():
            self._grown.add(cache)
        self._locks[folder] = _lock(folder)

    def list(self, cache: Cache, path: Path, *, grown: bool) -> None:
        """Have a list of versions stay; ``grown``, if it has just come."""
        self._lists.add(path)
        with contextlib.suppress(OSError):
            os.utime(path)
        if grown:
            self._grown.add(cache)

    def release(self) -> None:
        """Bring caches that have grown down to their limit, but for what is used here; let go of that."""
        try:
            for cache in self._grown:
                trim(cache, spare=self._lists)
        finally:
            for fd in self._locks.values():
                os.close(fd)
            self._locks.clear()


def _lock(folder: Path) -> int:
    """A shared lock on a folder, which is then used now."""
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            fd = _open_lock(folder)
        except FileNotFoundError:  # somebody has just deleted it
            continue
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_there(fd, folder):
                    _sweep(folder)  # nobody else is here: what the killed have left is rubbish
            fcntl.flock(fd, fcntl.LOCK_SH)
            if _is_there(fd, folder):
                os.utime(fd)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _open_lock(folder: Path) -> int:
    return os.open(folder / _IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _is_there(fd: int, folder: Path) -> bool:
    """Whether the lock that is held is still the one that others find."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(folder / _IN_USE))
    except FileNotFoundError:
        return False


def _sweep(folder: Path) -> None:
    """Delete unfinished files: ours begin with a point, python-tuf's in its folder with ``tmp``."""
    rubbish = [*folder.glob(".*.json.*"), *folder.glob(".*.frys*.*"), *folder.glob(f"{_LISTS}/.*")]
    for path in [*rubbish, *folder.glob("metadata/tmp*")]:
        with contextlib.suppress(OSError):
            path.unlink()


class _Entry(NamedTuple):
    """Something that can be deleted.

    Attributes:
        used: When it was used the last time (nanoseconds of the file system's clock).
        path: A folder or a file.
        size: Its bytes.
    """

    used: int
    path: Path
    size: int


def trim(cache: Cache, *, limit: int | None = None, spare: Collection[Path] = ()) -> Freed:
    """Delete what was not used for the longest time, until a cache is as small as it has to be.

    Args:
        cache: The cache.
        limit: Bytes that may be left, instead of its own limit.
        spare: Lists that stay.
    """
    most = cache.limit if limit is None else limit
    packages = list(_packages(cache))
    before = left = sum(entry.size for entry in packages) + size_of(cache.registries)
    entries = sorted([*packages, *_lists(cache, spare)])
    busy = 0
    for entry in entries:
        if left <= most:
            break
        if _delete(entry.path):
            left -= entry.size
        else:
            busy += 1
    return Freed(before - left, left, busy)


def _packages(cache: Cache) -> Iterator[_Entry]:
    for found in _scan(cache.packages):
        if not _DIGEST.fullmatch(found.name) or not found.is_dir(follow_symlinks=False):
            continue  # the folder may be one in which somebody else keeps something, too
        with contextlib.suppress(OSError):
            facts = {one.name: one.stat(follow_symlinks=False) for one in _scan(found.path)}
            used = facts[_IN_USE] if _IN_USE in facts else found.stat()
            yield _Entry(used.st_mtime_ns, Path(found.path), sum(one.st_size for one in facts.values()))


def _lists(cache: Cache, spare: Collection[Path]) -> Iterator[_Entry]:
    for registry in _scan(cache.registries):
        stays = {f"{plugin}.json" for plugin in _installed(Path(registry.path))}
        for found in _scan(Path(registry.path, _LISTS)):
            path = Path(found.path)
            with contextlib.suppress(OSError):
                facts = found.stat(follow_symlinks=False)
                if found.name not in stays and path not in spare and stat.S_ISREG(facts.st_mode):
                    yield _Entry(facts.st_mtime_ns, path, facts.st_size)


def _installed(registry: Path) -> Iterator[str]:
    """The plugins from a registry that are installed somewhere; notes of folders that have gone, go."""
    for found in _scan(registry / _NOTES):
        try:
            with open(found.path, "rb") as file:
                note = msgspec.json.decode(file.read(_MAX_NOTE), type=_Note)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if os.path.isdir(note.folder):
            yield from note.plugins
        else:
            with contextlib.suppress(OSError):
                os.unlink(found.path)


def _delete(path: Path) -> bool:
    """Delete a list, or the folder of a package that nobody uses; whether it is gone."""
    try:
        if path.is_dir():
            return _alone(path, _delete_package)
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _delete_package(folder: Path) -> None:
    for found in _scan(folder):
        if found.name != _IN_USE:
            os.unlink(found.path)


def _alone(folder: Path, work: Callable[[Path], object]) -> bool:
    """Do something with a folder that nobody uses, and delete it; whether it is gone."""
    try:
        fd = _open_lock(folder)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_there(fd, folder):
            return False  # somebody has deleted it, and somebody else made it again
        work(folder)
        os.unlink(folder / _IN_USE)
        with contextlib.suppress(OSError):  # who waited for the lock may have begun anew
            folder.rmdir()
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def clear(cache: Cache, *, everything: bool = False) -> Freed:
    """Delete all packages, and the lists of plugins that are not installed.

    Args:
        cache: The cache.
        everything: Also the lists of those that are, metadata and remembered roots, and with these the memory
            against rollbacks.
    """
    freed = trim(cache, limit=-1)
    if not everything:
        return freed
    busy = freed.busy
    for registry in _scan(cache.registries):
        if registry.is_dir(follow_symlinks=False):
            with contextlib.suppress(OSError):
                busy += not _alone(Path(registry.path), _delete_registry)
    left = size_of(cache.packages) + size_of(cache.registries)
    return Freed(freed.bytes + freed.left - left, left, busy)


def _delete_registry(folder: Path) -> None:
    for found in _scan(folder):
        if found.is_dir(follow_symlinks=False):
            shutil.rmtree(found.path)
        elif found.name != _IN_USE:
            os.unlink(found.path)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; 0 when it is not there."""
    total = 0
    for found in _scan(folder):
        with contextlib.suppress(OSError):
            if found.is_dir(follow_symlinks=False):
                total += size_of(Path(found.path))
            else:
                total += found.stat(follow_symlinks=False).st_size
    return total


def count_of(folder: Path) -> int:
    """How many things are in a folder."""
    return sum(1 for found in _scan(folder) if found.name[0] != ".")


def folders_of(cache: Cache) -> Iterable[Path]:
    """The folders of the registries that a cache knows."""
    return sorted(Path(found.path) for found in _scan(cache.registries) if found.is_dir())


def lists_in(registry: Path) -> int:
    """How many lists of versions are in the folder of a registry."""
    return count_of(registry / _LISTS)


def _scan(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []
