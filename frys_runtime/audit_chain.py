"""The audit log's file while it is written: its lock, the end of its chain, and its rotation."""

import errno
import fcntl
import os
import stat
from collections.abc import Mapping
from typing import Any, Final

from .audit_records import START, compose, digest, is_half, parse
from .errors import ConfigError

_FIRST: Final = b'{"seq":1,'
_TAIL: Final = 1 << 18


class Chain:
    """The file, its lock, and where the chain stands. Used by one thread at a time."""

    def __init__(self, path: str, max_bytes: int, keep: int) -> None:
        self.path, self._max_bytes, self._keep = path, max_bytes, keep
        self._unwritten = b""
        self._seq, self._last, self._number = 0, START, 1
        self._torn = b""
        self._fd = _open(path)
        try:
            self._resume()
        except BaseException:
            os.close(self._fd)
            raise

    def _resume(self) -> None:
        self._size = os.fstat(self._fd).st_size
        if not self._size:
            if os.path.exists(f"{self.path}.1"):
                raise ConfigError(self.path, f"is not there, but {self.path}.1 is; move all of them away")
            return
        older = f"{self.path}.1"
        if os.path.exists(older) and os.path.samefile(older, self.path):
            os.unlink(older)  # a crash between the two last steps of a rotation
        head, tail = (os.pread(self._fd, _TAIL, at) for at in (0, max(0, self._size - _TAIL)))
        if is_half(head) and _FIRST.startswith(head[: len(_FIRST)].rstrip(b"\0")) and b"\n" not in head:
            os.ftruncate(self._fd, 0)  # a crash in the very first record: there is no chain yet
            self._size = 0
            return
        first = parse(head.partition(b"\n")[0])
        if (
            first is None
            or first.kind not in ("opened", "rotated")
            or type(first.data.get("file")) is not int
        ):
            raise ConfigError(self.path, "does not begin like an audit log of Frys; name another file")
        self._number = first.data["file"]
        self._find_end(tail)

    def _find_end(self, tail: bytes) -> None:
        """The last record; behind it, nothing but halves of lines is a crash, anything else was altered."""
        lines = tail.split(b"\n")
        for at in range(len(lines) - 1, -1, -1):
            record = parse(lines[at])
            if record is not None:
                self._seq, self._last = record.seq, record.hash
                rest = lines[at + 1 :]
                self._torn = b"\n".join(rest)
                if not rest:
                    self._unwritten = b"\n"  # complete, but for the end of its line
                return
            if not is_half(lines[at]):
                break
        raise ConfigError(
            self.path,
            "was altered at its end; `frys audit verify` shows where. Move it away to begin another",
        )

    def add(self, when: float, kind: str, plugin: str, data: Mapping[str, Any]) -> None:
        """Put a record behind the last one; :meth:`write` takes it to the file."""
        if self._torn:
            torn, self._torn = self._torn, b""
            self._unwritten += b"" if torn.endswith(b"\n") else b"\n"
            self.add(when, "gap", "", {"torn": len(torn.rstrip(b"\n")), "sha256": digest(torn.rstrip(b"\n"))})
        line = compose(self._seq + 1, when, kind, plugin, data, self._last)
        self._advance(line)
        self._unwritten += line

    def _advance(self, line: bytes) -> None:
        self._seq, self._last = self._seq + 1, line[-67:-3].decode()

    @property
    def unwritten(self) -> int:
        """Bytes that are still to be written."""
        return len(self._unwritten)

    @property
    def unwritten_records(self) -> int:
        """Records that are not, or not wholly, in the file."""
        return self._unwritten.count(b"\n")

    def begin(self, when: float) -> None:
        """Say that a process has taken the log."""
        self.add(when, "opened", "", {"file": self._number, "pid": os.getpid()})

    def write(self) -> None:
        """Take everything to the disk; what could not be written is kept for the next try.

        Raises:
            OSError: It could not; a line may stand there half, and is completed by the next try.
        """
        while self._unwritten:
            count = os.write(self._fd, self._unwritten)
            self._size += count
            self._unwritten = self._unwritten[count:]
        os.fdatasync(self._fd)

    def is_full(self) -> bool:
        """Whether the next record belongs into another file."""
        return self._size >= self._max_bytes

    def rotate(self, when: float) -> None:
        """Begin another file, whose first record names the last one of this file.

        The path names a locked log at every moment: the new file takes the place of the old one in one
        step, after the old one got its next name.

        Raises:
            OSError: It could not; the old file stays in use.
        """
        held = [number for number in range(1, self._keep) if os.path.exists(f"{self.path}.{number}")]
        number = self._number + 1
        data = {"file": number, "oldest": number - min(len(held) + 1, self._keep - 1), "last": self._last}
        line = compose(self._seq + 1, when, "rotated", "", data, self._last)
        fresh = f"{self.path}.new"
        fd = os.open(
            fresh, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.write(fd, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
            self._make_room(held)
            os.link(self.path, f"{self.path}.1")
            os.rename(fresh, self.path)
        except BaseException:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size, self._number = fd, len(line), number
        self._advance(line)
        _sync_folder(self.path)

    def _make_room(self, held: list[int]) -> None:
        free = next((number for number in range(1, self._keep) if number not in held), self._keep - 1)
        for number in range(free, 1, -1):
            os.rename(f"{self.path}.{number - 1}", f"{self.path}.{number}")
        if free == self._keep - 1 == 1 and held:
            os.unlink(f"{self.path}.1")

    def close(self) -> None:
        """Give up the file and its lock."""
        os.close(self._fd)


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        reason = "is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise ConfigError(f"the audit log {path}", f"cannot be opened: {reason}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise ConfigError(
                f"the audit log {path}", "must be a regular file of this user that nobody else can write"
            )
        if not os.path.samestat(found, os.stat(path)):
            raise BlockingIOError  # it was rotated between the two steps, so somebody writes it
    except BlockingIOError:
        os.close(fd)
        raise ConfigError(
            f"the audit log {path}", "is being written by another manager; each needs a file of its own"
        ) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
