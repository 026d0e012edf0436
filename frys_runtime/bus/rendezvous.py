"""The folder in which supervisors find each other, and from which nobody else gets in.

For each supervisor it holds ``NAME.json``, which the supervisor keeps locked (flock(2)) as long as it
lives, and the socket ``NAME.sock``. The kernel gives up the lock however a process ends, so a file that can
be locked is what a dead supervisor left. That holds across namespaces of process ids, and no number is
mistaken.
"""

import fcntl
import json
import os
import secrets
import stat
from contextlib import suppress
from typing import Final, NamedTuple, Self

import msgspec

from ..errors import ConfigError, InitializationFailed

_LONGEST: Final = 107
"""Bytes of a socket's path: ``sun_path`` of unix(7) without the null that ends it."""
_SOCKET: Final = ".sock"
_CARD: Final = ".json"
_NEW: Final = ".new"
_NAME_BYTES: Final = 8
_LONGEST_CARD: Final = 4096


class Entry(NamedTuple):
    """A supervisor that lives.

    Attributes:
        name: What it calls itself; no other ever has the same.
        address: Where to connect to.
        pid: Its process, as it has written; 0 when it has not.
    """

    name: str
    address: str
    pid: int


class _Card(msgspec.Struct):
    """What a supervisor has written of itself, as far as anybody reads it."""

    pid: int = 0


class Rendezvous:
    """One folder.

    Args:
        folder: Its path.
        make: Make it when it is not there; otherwise nobody is there.

    Raises:
        ConfigError: Others may enter it, or it is somebody else's, or its path is too long.
        InitializationFailed: It cannot be made.
    """

    def __init__(self, folder: str, *, make: bool = True) -> None:
        self.folder = os.path.abspath(folder)
        longest = len(os.fsencode(self._path("0" * 2 * _NAME_BYTES, _SOCKET)))
        if longest > _LONGEST:
            reason = (
                f"{self.folder} is too long by {longest - _LONGEST} bytes for the path of a socket; "
                "name a shorter one"
            )
            raise ConfigError("bus: folder", reason)
        try:
            if make:
                os.makedirs(os.path.dirname(self.folder), exist_ok=True)
                with suppress(FileExistsError):
                    os.mkdir(self.folder, 0o700)
            facts = os.lstat(self.folder)
        except OSError as error:
            if not make and isinstance(error, FileNotFoundError):
                return
            reason = f"{self.folder}: {error.strerror}; name another folder"
            raise InitializationFailed("the message bus", reason) from None
        if not stat.S_ISDIR(facts.st_mode):
            raise ConfigError("bus: folder", f"{self.folder} is no folder; name another")
        if facts.st_uid != os.geteuid():
            reason = (
                f"{self.folder} belongs to user {facts.st_uid}, who could take it over; "
                "name one of this user, or run this as that one"
            )
            raise ConfigError("bus: folder", reason)
        if stat.S_IMODE(facts.st_mode) & 0o077:
            reason = (
                f"others may enter {self.folder}; name a folder that is for nothing else, "
                "or chmod this one to 700 if it is"
            )
            raise ConfigError("bus: folder", reason)

    def others(self) -> list[Entry]:
        """The supervisors that live; what dead ones left is removed."""
        found = []
        try:
            files = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []
        for file in files:
            name, kind = os.path.splitext(file)
            if kind not in (_CARD, _NEW):
                continue
            if self._lives(name, kind) and kind == _CARD:
                found.append(Entry(name, f"ipc://{self._path(name, _SOCKET)}", self._pid(name)))
        return found

    def _pid(self, name: str) -> int:
        try:
            with open(self._path(name, _CARD), "rb") as file:
                return msgspec.json.decode(file.read(_LONGEST_CARD), type=_Card).pid
        except (OSError, ValueError):
            return 0

    def _lives(self, name: str, kind: str) -> bool:
        try:
            file = os.open(self._path(name, kind), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False  # it left a moment ago, or has its other name now
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self._remove(name, kind)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def _remove(self, name: str, kind: str) -> None:
        for suffix in (_SOCKET, kind):
            with suppress(FileNotFoundError):  # another supervisor sweeps too
                os.unlink(self._path(name, suffix))

    def _path(self, name: str, suffix: str) -> str:
        return os.path.join(self.folder, name + suffix)

    def register(self) -> "Registration":
        """Take a name, under which others will find this supervisor once it is :meth:`Registration.shown`.

        Raises:
            InitializationFailed: The folder cannot be written to.
        """
        while True:
            name = secrets.token_hex(_NAME_BYTES)
            path = self._path(name, _NEW)
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except OSError as error:
                reason = f"{self.folder}: {error.strerror}"
                raise InitializationFailed("the message bus", reason) from None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file).st_nlink:
                    return Registration(self, name, file)
            except BlockingIOError:
                pass  # somebody swept between the two calls
            os.close(file)
            self._remove(name, _NEW)


class Registration:
    """One supervisor's place in the folder; made by :meth:`Rendezvous.register`."""

    def __init__(self, place: Rendezvous, name: str, file: int) -> None:
        self.name = name
        self.address = f"ipc://{place._path(name, _SOCKET)}"
        self._place, self._file, self._kind = place, file, _NEW

    def show(self, facts: dict[str, object]) -> Self:
        """Let others find it: its socket listens now.

        Args:
            facts: What stands in its file, for people.
        """
        os.write(self._file, json.dumps(facts).encode() + b"\n")
        os.rename(self._place._path(self.name, _NEW), self._place._path(self.name, _CARD))
        self._kind = _CARD
        return self

    def close(self) -> None:
        """Give the place back."""
        self._place._remove(self.name, self._kind)
        os.close(self._file)
