"""Verifying an audit log: following its chain through its files, and naming what breaks it."""

from dataclasses import dataclass, field
from typing import Final

from .audit_records import START, Record, digest, files_of, is_half, parse, read_lines

_MAX_PROBLEMS: Final = 100
_NO_RECORD: Final = "is no record, or was altered"


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
            elif not ended and file == self.found.files[-1] and is_half(line) and not self._broken:
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
        if record.kind == "gap" and said == (len(torn), digest(torn)) and all(map(is_half, self._broken)):
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
