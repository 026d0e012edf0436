"""The folder with the installed packages: one process changes it at a time, and in one step.

What is installed is what ``frys.lock`` says. New packages are put beside the old ones first, under their
digests; then the lock is replaced, which is the one step; then what it no longer names is deleted. Who is
killed anywhere between leaves the old state or the new one, and rubbish, which the next change sweeps away.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncGenerator
from io import BufferedIOBase
from pathlib import Path
from typing import Final

from ..durable import replace_file
from ..errors import RegistryError
from ..package import Package, open_package
from ..registry.client import to_the_end
from ..registry.downloads import is_there, sha256_of
from ..registry.types import BESIDE, Kind
from .lockfile import FILE, Lock, Locked, place_of, read_lock

_PACKAGES: Final = "packages"
_GUARD: Final = ".lock"
_POLL: Final = 0.05
# The folder may be one in which somebody else keeps something, too.
_OURS: Final = re.compile(r"[0-9a-f]{64}|\.(?:new|old)-[0-9a-f]{16}")


class Store:
    """A folder of installed plugins."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()

    def read(self) -> Lock:
        """What is installed.

        Raises:
            ConfigError: The lock is none.
        """
        return read_lock(self.folder)

    def path(self, plugin: str, entry: Locked) -> Path:
        """Where a package is."""
        return self.folder / entry.path(plugin)

    def wrong_with(self, plugin: str, entry: Locked) -> str:
        """What is wrong with an installed package, every byte of it read; empty when nothing is."""
        path = self.path(plugin, entry)
        try:
            found = sha256_of(path)
            beside = _digests_beside(path)
        except FileNotFoundError:
            return "its package is not there"
        except OSError as error:
            return f"its package cannot be read: {error.strerror}"
        if found != entry.sha256:
            return f"its package has the SHA-256 {found}, and locked is {entry.sha256}"
        if beside != entry.beside:
            return "its signatures are not those that are locked"
        return ""

    @contextlib.asynccontextmanager
    async def change(self, wait: float) -> AsyncGenerator["Transaction"]:
        """Be the only one who changes the folder, after what others left behind was swept away.

        Raises:
            RegistryError: Another process changes it, or it cannot be written.
            ConfigError: The lock is none; nothing was swept then.
        """
        with self._guard() as guard:
            await self._wait(guard.fileno(), wait)
            transaction = Transaction(self, self.read())
            await to_the_end(transaction.sweep)
            try:
                yield transaction
            except BaseException:
                transaction.sweep()
                raise

    def _guard(self) -> BufferedIOBase:
        packages = self.folder / _PACKAGES
        try:
            packages.mkdir(parents=True, exist_ok=True)
            return open(packages / _GUARD, "ab")
        except OSError as error:
            raise RegistryError(str(self.folder), f"it cannot be used: {error.strerror or error}") from None

    async def _wait(self, guard: int, wait: float) -> None:
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    reason = "another process is changing it; try again when that has ended"
                    raise RegistryError(str(self.folder), reason) from None
            await asyncio.sleep(_POLL)


class Transaction:
    """One change of a folder.

    Attributes:
        before: What was installed when it began.
    """

    def __init__(self, store: Store, before: Lock) -> None:
        self.store, self.before = store, before
        self._packages = store.folder / _PACKAGES

    def stage(self, source: Path, plugin: str, version: str, digest: str) -> tuple[Package, dict[Kind, str]]:
        """Put a package and its signatures in place, where nobody looks before :meth:`commit`.

        Returns:
            What was read from the very file that is in place, and the SHA-256 of each file beside it.

        Raises:
            RegistryError: It is not what it was when it was verified.
            InvalidFormat, ConfigError: It is no package.
            OSError: There is no room.
        """
        staged = self._packages / f".new-{secrets.token_hex(8)}"
        staged.mkdir(mode=0o755)
        file = staged / f"{plugin}-{version}.frys"
        _copy(source, file)
        for suffix in BESIDE:
            with contextlib.suppress(FileNotFoundError):
                _copy(source.with_name(source.name + suffix), file.with_name(file.name + suffix))
        package = open_package(file)
        if package.digest != digest:
            shutil.rmtree(staged)
            raise RegistryError(str(source), "it was changed in the cache after it had been verified")
        beside = _digests_beside(file)
        _sync(staged)
        place = self._packages / place_of(digest, beside)
        there = place / file.name
        if is_there(there, package.size, digest) and _digests_beside(there) == beside:
            shutil.rmtree(staged)
            return package, beside
        if place.exists():  # it is damaged
            os.rename(place, self._packages / f".old-{secrets.token_hex(8)}")
        os.rename(staged, place)
        return package, beside

    def commit(self, after: Lock) -> None:
        """Make a new state the one that counts.

        Raises:
            RegistryError: It cannot be written; the old state is intact.
        """
        try:
            _sync(self._packages)
            replace_file(os.fspath(self.store.folder / FILE), [after.encode()])
        except OSError as error:
            reason = f"it cannot be written: {error.strerror or error}; nothing was changed"
            raise RegistryError(str(self.store.folder), reason) from None
        self.before = after
        self.sweep()

    def sweep(self) -> None:
        """Delete what the lock does not name."""
        named = {entry.place for entry in self.before.plugins.values()}
        with contextlib.suppress(OSError):  # what cannot be deleted now is swept the next time
            for found in list(os.scandir(self._packages)):
                if found.name not in named and _OURS.fullmatch(found.name):
                    shutil.rmtree(found.path, ignore_errors=True)
            for found in list(os.scandir(self.store.folder)):
                if found.name.startswith(f".{FILE}."):
                    os.unlink(found.path)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as file, target.open("xb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)
        copy.flush()
        os.fchmod(copy.fileno(), 0o444)
        os.fsync(copy.fileno())


def _digests_beside(package: Path) -> dict[Kind, str]:
    found: dict[Kind, str] = {}
    for suffix in BESIDE:
        with contextlib.suppress(FileNotFoundError):
            found[suffix] = sha256_of(package.with_name(package.name + suffix))
    return found


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
