"""The public log of the registry: who changed what, each record chained to the one before.

Records are those of the audit log (:mod:`frys_runtime.audit_records`), so ``frys audit verify`` checks a
copy. The end of the chain stands in the signed TUF snapshot: a registry that shows two people two histories
has signed the proof.
"""

import sqlite3
import time
from collections.abc import Mapping

from ..audit_records import START, compose, parse


def append(db: sqlite3.Connection, kind: str, plugin: str, data: Mapping[str, object]) -> None:
    """Add a record, inside the transaction that makes it true."""
    seq, last = tip(db)
    line = compose(seq + 1, time.time(), kind, plugin, data, last)
    db.execute("INSERT INTO log VALUES (?, ?)", (seq + 1, line))


def tip(db: sqlite3.Connection) -> tuple[int, str]:
    """The number and the hash of the last record."""
    row = db.execute("SELECT seq, line FROM log ORDER BY seq DESC LIMIT 1").fetchone()
    if row is None:
        return 0, START
    record = parse(row["line"].removesuffix(b"\n"))
    assert record is not None, "the log in the database was altered by another program"
    return record.seq, record.hash


def read(db: sqlite3.Connection, after: int, limit: int) -> bytes:
    """The lines behind a number, at most so many."""
    rows = db.execute("SELECT line FROM log WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit))
    return b"".join(row["line"] for row in rows)
