"""The audit log: one JSON record a line, each chained to the one before by a hash, written in the background.

A record is ``{"seq":N,"time":"...","kind":"...","plugin":"...","data":{...},"prev":"...","hash":"..."}``.
``hash`` is the SHA-256 of the line without ``,"hash":"..."``; ``prev`` is the hash of the record before. So
no record can be removed, altered or moved without breaking the chain behind it. docs/audit.md says what
this proves and what not.

Who records never waits for the disk: a thread writes what has come together, and syncs once for all of it.
"""

import atexit
import errno
import fcntl
import hashlib
import json
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from .errors import ConfigError
from .events import Event, bounded

logger = logging.getLogger("frys.audit")

START: Final = "0" * 64
"""What the first record of all names as the hash before it."""

_FIRST: Final = b'{"seq":1,'
_HASH_MARK: Final = b',"hash":"'
_MAX_DATA: Final = 1 << 15
_MAX_LINE: Final = 1 << 16
_TAIL: Final = 1 << 18
_RETRY_SECONDS: Final = 1.0
_MAX_PROBLEMS: Final = 100


class Record(NamedTuple):
    """One record, read back.

    Attributes:
        seq: Its number; 1 is the first of all.
        time: When, RFC 3339 in UTC.
        kind: The kind of the event, or ``opened``, ``rotated``, ``gap``, ``closed`` of the log itself.
        plugin: The plugin's id; empty for none.
        data: What is known about it.
        prev: The hash of the record before.
        hash: Its own hash.
    """

    seq: int
    time: str
    kind: str
    plugin: str
    data: dict[str, Any]
    prev: str
    hash: str


def _compose(seq: int, when: float, kind: str, plugin: str, data: Mapping[str, Any], prev: str) -> bytes:
    """The line of a record, with its end."""
    body = _dump({
        "seq": seq,
        "time": datetime.fromtimestamp(when, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "kind": kind,
        "plugin": plugin[:200],
        "data": dict(data),
        "prev": prev,
    })  # fmt: skip
    if len(body) > _MAX_DATA:
        return _compose(seq, when, kind, plugin, {"shortened": _dump(dict(data))[: _MAX_DATA // 4]}, prev)
    return f'{body[:-1]},"hash":"{_digest(body.encode())}"}}\n'.encode()


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parse(line: bytes) -> Record | None:
    """The record in a line without its end; ``None`` when it is none, or its hash is not its own."""
    body, mark, rest = line.rpartition(_HASH_MARK)
    body += b"}"
    if not mark or len(rest) != 66 or not rest.endswith(b'"}') or len(line) > _MAX_LINE:
        return None
    if _digest(body) != rest[:64].decode("ascii", "replace"):
        return None
    try:
        found = json.loads(body)
        record = Record(**found, hash=rest[:64].decode())
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (record.time, record.kind, record.plugin, record.prev)
    if type(record.seq) is not int or not isinstance(record.data, dict):
        return None
    return record if all(isinstance(text, str) for text in texts) else None


def _is_half(line: bytes) -> bool:
    """Whether a line that is no record can be the beginning of one: what a crash in mid-write leaves."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return len(line) <= _MAX_LINE
    return False


class _Chain:
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
        if _is_half(head) and _FIRST.startswith(head[: len(_FIRST)].rstrip(b"\0")) and b"\n" not in head:
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
            if not _is_half(lines[at]):
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
            self.add(
                when, "gap", "", {"torn": len(torn.rstrip(b"\n")), "sha256": _digest(torn.rstrip(b"\n"))}
            )
        line = _compose(self._seq + 1, when, kind, plugin, data, self._last)
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
        line = _compose(self._seq + 1, when, "rotated", "", data, self._last)
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


class _Entry(NamedTuple):
    when: float
    kind: str
    plugin: str
    data: Mapping[str, Any]


class AuditLog:
    """An audit log that is open for writing; one process and one object at a time.

    Records go to the disk in groups: a thread writes what has come together since the last write, followed
    by one fdatasync(2). Nothing that was recorded is lost by :meth:`close`, nor while the disk is full, up
    to ``room`` records; what is lost beyond is counted, and a ``gap`` record says so.

    Args:
        path: The file; made with mode 0600.
        max_bytes: Size at which another file is begun.
        keep: Files to keep, the current one included: ``path``, ``path.1`` (newer) to ``path.N`` (older).
        room: Records that may wait for the disk.

    Attributes:
        on_failure: Called from the writing thread with a sentence when the log can no longer be written.
        lost: Records that never reached the file.

    Raises:
        ConfigError: The file cannot be used: another process writes it, it is no audit log, it was altered.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 16 << 20,
        keep: int = 8,
        room: int = 10_000,
    ) -> None:
        for name, value, least in (("max_bytes", max_bytes, 1), ("keep", keep, 2), ("room", room, 1)):
            if type(value) is not int or value < least:
                raise ConfigError(f"AuditLog.{name}", f"must be at least {least}, not {value!r}")
        self.path = os.fspath(path)
        self.on_failure: Callable[[str], None] | None = None
        self.lost = 0
        self._room = room
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._lost_now = 0
        self._recorded, self._synced, self._tries = 0, -1, 0
        self._failure: str | None = None
        self._closing = False
        self._wanted = True
        self._chain = _Chain(self.path, max_bytes, keep)
        self._chain.begin(_now())
        self._thread = threading.Thread(target=self._run, name="frys-audit", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def failure(self) -> str | None:
        """Why the log cannot be written now; ``None`` when it can."""
        return self._failure

    def record(self, event: Event) -> None:
        """Record an event; returns at once, from any thread."""
        entry = _Entry(event.time, event.kind, event.plugin_id, event.data)
        with self._changed:
            if len(self._waiting) >= self._room or self._closing:
                self._lost_now += 1
                self.lost += 1
            else:
                self._waiting.append(entry)
                self._recorded += 1
                self._changed.notify_all()

    def flush(self) -> bool:
        """Wait until what was recorded so far is on the disk, or a try to bring it there has failed.

        Returns:
            Whether it is there.
        """
        with self._changed:
            target, tries = self._recorded, self._tries
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: (
                    (self._synced >= target and self._failure is None)
                    or (self._failure is not None and self._tries > tries)
                    or not self._thread.is_alive()
                )
            )
            return self._failure is None

    def close(self) -> None:
        """Bring everything to the disk and give up the file. Safe to call twice.

        What cannot be written now is counted in :attr:`lost`, and said in the program's own log.
        """
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        atexit.unregister(self.close)
        self._chain.close()
        if self.lost:
            logger.error("%s: %d records were lost (%s)", self.path, self.lost, self._failure or "too many")

    # The writing thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, _RETRY_SECONDS if self._failure else None)
                closing, self._wanted = self._closing, False
            if self._try(closing=closing) and closing:
                return
            if closing and self._failure is not None:
                with self._changed:
                    self.lost += len(self._waiting) + self._chain.unwritten_records
                    self._changed.notify_all()
                return

    def _has_work(self) -> bool:
        return self._closing or self._wanted or (bool(self._waiting) and self._failure is None)

    def _try(self, *, closing: bool) -> bool:
        """Write what waits.

        Returns:
            Whether nothing is left.
        """
        failure, synced = None, self._synced
        try:
            self._chain.write()  # what an earlier try left
            synced = self._take_all()
            self._chain.write()
            if closing and not self._waiting:
                self._chain.add(_now(), "closed", "", {})
                self._chain.write()
        except OSError as error:
            failure = f"the audit log {self.path} cannot be written: {error.strerror or error}"
        with self._changed:
            is_new = failure is not None and self._failure is None
            if failure is None:
                self._synced = synced
            self._failure, self._tries = failure, self._tries + 1
            done = failure is None and not self._waiting
            self._changed.notify_all()
        if is_new and failure is not None:
            logger.error("%s", failure)
            if self.on_failure is not None:
                self.on_failure(failure)
        return done

    def _take_all(self) -> int:
        """Put all that waits behind the chain; returns the count of records so far."""
        while True:
            with self._changed:
                entry = self._waiting.popleft() if self._waiting else None
                lost = 0
                if entry is None:
                    lost, self._lost_now = self._lost_now, 0
                recorded = self._recorded - len(self._waiting)
            if entry is None:
                if lost or self._failure is not None:
                    self._chain.add(_now(), "gap", "", {"reason": bounded(self._failure), "lost": lost})
                return recorded
            if self._chain.is_full():
                self._rotate(entry)
            self._chain.add(entry.when, entry.kind, bounded(entry.plugin), bounded(entry.data))
            if self._chain.unwritten > _MAX_DATA:
                self._chain.write()

    def _rotate(self, entry: _Entry) -> None:
        try:
            self._chain.write()
            self._chain.rotate(_now())
        except OSError:
            with self._changed:
                self._waiting.appendleft(entry)
            raise


def _now() -> float:
    return datetime.now(UTC).timestamp()


# Reading and verifying.


@dataclass(frozen=True, slots=True)
class Finding:
    """Something at one line of one file.

    Attributes:
        file: The file.
        line: The line, from 1; 0 for the file as a whole.
        text: What is there.
    """

    file: str
    line: int
    text: str


@dataclass(slots=True)
class Verdict:
    """What verifying a log found.

    Attributes:
        files: The files, oldest first.
        records: Records whose own hash is right.
        first: The number of the first record; 0 when there is none.
        last: The number of the last record.
        tip: The hash of the last record. Keep it elsewhere: it stands for the whole log up to here.
        problems: What was removed, altered or moved; at most a hundred.
        notes: What is no problem of the chain: crashes, a full disk, lost records.
    """

    files: list[str]
    records: int = 0
    first: int = 0
    last: int = 0
    tip: str = START
    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)


def files_of(path: str) -> list[str]:
    """The files of a log, oldest first, ending with ``path`` itself.

    Raises:
        ConfigError: There is no such file.
    """
    if not os.path.isfile(path):
        raise ConfigError(path, "is not there, or not a file")
    folder, name = os.path.split(path)
    suffixes = (
        entry.removeprefix(f"{name}.") for entry in os.listdir(folder or ".") if entry.startswith(f"{name}.")
    )
    numbers = sorted(
        (int(suffix) for suffix in suffixes if suffix.isascii() and suffix.isdigit()), reverse=True
    )
    return [*(f"{path}.{number}" for number in numbers), path]


def read_lines(path: str) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file without their ends, and whether each had one; the rest of a huge line is left out.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            while line := file.readline(_MAX_LINE + 2):
                part = line
                while not part.endswith(b"\n") and (part := file.readline(_MAX_LINE)):
                    pass
                yield line.removesuffix(b"\n"), part.endswith(b"\n")
    except OSError as error:
        raise ConfigError(path, f"cannot be read: {error.strerror}") from None


def verify(path: str, *, contains: str | None = None) -> Verdict:
    """Follow the chain through a log and its older files.

    Args:
        path: The current file.
        contains: The tip of an earlier verification, which must still be a record of the log.

    Raises:
        ConfigError: A file cannot be read.
    """
    verifier = _Verifier(files_of(path), contains)
    for file in verifier.found.files:
        verifier.read(file)
    verifier.end()
    return verifier.found


class _Verifier:
    """Walks from line to line; after a problem it goes on from what it found there."""

    def __init__(self, files: list[str], contains: str | None) -> None:
        self.found = Verdict(files)
        self._file = files[0]
        self._missing_tip = contains
        self._seq: int | None = None
        self._numbers: list[Record] = []
        self._broken: list[bytes] = []
        self._broken_line = 0

    def read(self, file: str) -> None:
        self._file = file
        line_number = 0
        for line_number, (line, ended) in enumerate(read_lines(file), 1):
            record = parse(line)
            if line_number == 1:
                self._begin_file(record)
            if record is not None:
                self._settle(line_number, record)
                self._follow(line_number, record)
            elif not ended and file == self.found.files[-1] and _is_half(line) and not self._broken:
                self._note(
                    line_number, f"ends in half a record ({len(line)} bytes): a crash, or it is being written"
                )
            else:
                self._broken_line = self._broken_line if self._broken else line_number
                self._broken.append(line)
        if self._broken:
            self._problem(self._broken_line, _NO_RECORD)
            self._broken.clear()
        if not line_number:
            self._problem(0, "is empty")

    def _begin_file(self, record: Record | None) -> None:
        if record is not None and record.kind in ("opened", "rotated"):
            self._numbers.append(record)
        elif record is not None:
            self._problem(
                1, f"record {record.seq} cannot be the first of a file: records before it were removed"
            )

    def _settle(self, line: int, record: Record) -> None:
        """Unreadable lines before a record: a crash when the record says just that, otherwise altered."""
        if not self._broken:
            return
        torn = b"\n".join(self._broken).rstrip(b"\n")
        said = (record.data.get("torn"), record.data.get("sha256"))
        if record.kind == "gap" and said == (len(torn), _digest(torn)) and all(map(_is_half, self._broken)):
            self._note(self._broken_line, f"half a record ({len(torn)} bytes) of a run that crashed")
        else:
            self._problem(self._broken_line, _NO_RECORD)
            if self._seq is not None:
                self._seq += len(self._broken)
            if record.seq == (self._seq or 0) + 1:
                self.found.tip = record.prev  # the altered record's hash is not known
        self._broken.clear()

    def _follow(self, line: int, record: Record) -> None:
        found, seq = self.found, record.seq
        if self._seq is None:
            found.first = seq
            if record.kind != "rotated" and (seq, record.prev) != (1, START):
                self._problem(line, f"the log begins with record {seq}: those before it are missing")
        elif seq > self._seq + 1:
            gone = (
                f"record {seq - 1} is"
                if seq == self._seq + 2
                else f"records {self._seq + 1} to {seq - 1} are"
            )
            self._problem(line, f"{gone} missing before record {seq}")
        elif seq <= self._seq:
            self._problem(line, f"record {seq} stands behind record {self._seq}: it was moved or repeated")
        elif record.prev != found.tip:
            self._problem(line, f"record {seq} does not follow from the one before it, which was replaced")
        if record.kind == "gap" and "torn" not in record.data:
            lost, reason = record.data.get("lost"), record.data.get("reason")
            self._note(line, f"records lost: {lost}{f'; {reason}' if reason else ''}")
        self._seq, found.last, found.tip = seq, seq, record.hash
        found.records += 1
        if record.hash == self._missing_tip:
            self._missing_tip = None

    def end(self) -> None:
        """What only the whole shows: files that are missing before the first, a tip that is gone."""
        if self._numbers:
            oldest = self._numbers[-1].data.get("oldest", 1)
            have = self._numbers[0].data.get("file")
            if isinstance(oldest, int) and isinstance(have, int) and have > oldest:
                self._file = self.found.files[0]
                self._problem(
                    0, f"is file {have} of the log; file {oldest} has to be there, too, but is missing"
                )
        if self._missing_tip is not None:
            self._file = self.found.files[-1]
            self._problem(
                0, f"no record of the log has the hash {self._missing_tip}: its end was cut off or replaced"
            )

    def _problem(self, line: int, text: str) -> None:
        if len(self.found.problems) < _MAX_PROBLEMS:
            self.found.problems.append(Finding(self._file, line, text))

    def _note(self, line: int, text: str) -> None:
        if len(self.found.notes) < _MAX_PROBLEMS:
            self.found.notes.append(Finding(self._file, line, text))


_NO_RECORD: Final = "is no record, or was altered"
