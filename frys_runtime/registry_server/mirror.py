"""A copy of a registry as plain files, for any web server, file share or disk that is carried somewhere."""

import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..durable import replace_file
from ..registry.paths import package_path
from . import database
from .settings import blob_path, read_settings
from .trust import document_path

_CHUNK: Final = 1 << 20


def export(folder: Path, target: Path) -> int:
    """Write the TUF repository of a registry to a folder, or bring such a copy up to date.

    Clients that read the copy meanwhile see the old state or the new one: what names others comes after them,
    and the timestamp last. Nothing is deleted.

    Args:
        folder: The registry's; it may be served meanwhile.
        target: Gets ``metadata/`` and ``targets/``, named as under ``/tuf/`` of the server.

    Returns:
        How many files were written.

    Raises:
        ConfigError: There is no registry in the folder.
        OSError: A file cannot be read or written.
    """
    read_settings(folder)
    db = database.connect(folder, read_only=True)
    try:
        db.execute("BEGIN")  # one state for all of it
        count = 0
        for path, parts in itertools.chain(_targets(db, folder), _metadata(db)):
            place = target / path
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                replace_file(str(place), parts)
                count += 1
        now = db.execute("SELECT data FROM tuf WHERE role = 'timestamp' AND superseded IS NULL").fetchone()
        replace_file(str(target / "metadata" / "timestamp.json"), [now["data"]])
        return count + 1
    finally:
        db.close()


def _targets(db: sqlite3.Connection, folder: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    for row in db.execute("SELECT plugin, version, sha256 FROM versions WHERE withdrawn IS NULL"):
        path = package_path(row["plugin"], row["version"])
        yield _hashed(path, row["sha256"]), _read(blob_path(folder, row["sha256"]))
    for row in db.execute(
        "SELECT plugin, version, kind, sha256, data FROM documents"
        " WHERE kind IN ('index', 'signature', 'bundle') AND superseded IS NULL"
    ):
        path = document_path(row["plugin"], row["version"], row["kind"])
        yield _hashed(path, row["sha256"]), iter([bytes(row["data"])])


def _metadata(db: sqlite3.Connection) -> Iterator[tuple[str, Iterator[bytes]]]:
    for row in db.execute(
        "SELECT role, version, data FROM tuf"
        " WHERE role <> 'timestamp' AND (superseded IS NULL OR role = 'root')"
    ):
        yield f"metadata/{row['version']}.{row['role']}.json", iter([bytes(row["data"])])


def _hashed(path: str, digest: str) -> str:
    """The name of a target's file with consistent snapshots (section 6.2 of the TUF specification)."""
    below, _, name = path.rpartition("/")
    return f"targets/{below}/{digest}.{name}"


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
