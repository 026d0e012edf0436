"""Records of the audit log: one JSON object a line, each with its own hash and that of the one before.

A record is ``{"seq":N,"time":"...","kind":"...","plugin":"...","data":{...},"prev":"...","hash":"..."}``.
``hash`` is the SHA-256 of the line without ``,"hash":"..."``; ``prev`` is the hash of the record before. So
no record can be removed, altered or moved without breaking the chain behind it. docs/audit.md says what
this proves and what not.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from .errors import ConfigError

START: Final = "0" * 64
"""What the first record of all names as the hash before it."""

MAX_DATA: Final = 1 << 15
"""Bytes of a record; what is longer is shortened."""
MAX_LINE: Final = 1 << 16
"""Bytes of a line that can be a record."""

_HASH_MARK: Final = b',"hash":"'


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


def compose(seq: int, when: float, kind: str, plugin: str, data: Mapping[str, Any], prev: str) -> bytes:
    """The line of a record, with its end."""
    body = _dump({
        "seq": seq,
        "time": datetime.fromtimestamp(when, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "kind": kind,
        "plugin": plugin[:200],
        "data": dict(data),
        "prev": prev,
    })  # fmt: skip
    if len(body) > MAX_DATA:
        return compose(seq, when, kind, plugin, {"shortened": _dump(dict(data))[: MAX_DATA // 4]}, prev)
    return f'{body[:-1]},"hash":"{digest(body.encode())}"}}\n'.encode()


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def parse(line: bytes) -> Record | None:
    """The record in a line without its end; ``None`` when it is none, or its hash is not its own."""
    body, mark, rest = line.rpartition(_HASH_MARK)
    body += b"}"
    if not mark or len(rest) != 66 or not rest.endswith(b'"}') or len(line) > MAX_LINE:
        return None
    if digest(body) != rest[:64].decode("ascii", "replace"):
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


def is_half(line: bytes) -> bool:
    """Whether a line that is no record can be the beginning of one: what a crash in mid-write leaves."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return len(line) <= MAX_LINE
    return False


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
            while line := file.readline(MAX_LINE + 2):
                part = line
                while not part.endswith(b"\n") and (part := file.readline(MAX_LINE)):
                    pass
                yield line.removesuffix(b"\n"), part.endswith(b"\n")
    except OSError as error:
        raise ConfigError(path, f"cannot be read: {error.strerror}") from None
