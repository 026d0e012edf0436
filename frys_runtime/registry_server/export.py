"""The registry as files: a mirror for any web server, or a registry on a disk for machines without a network.

What is in it is signed, so who serves it need not be trusted. It has the same addresses as the server, as far
as clients need them to install: TUF metadata and targets, and signature envelopes.
"""

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from ..registry.paths import index_path, package_path
from . import database
from .settings import read_settings


def export(folder: Path, target: Path) -> int:
    """Write the newest state of a registry to a folder, over the state before.

    The timestamp comes last: who reads meanwhile sees the old state or the new one.

    Args:
        folder: The registry's.
        target: Made when it is not there.

    Returns:
        How many versions are in it.

    Raises:
        ConfigError: There is no registry.
        OSError: The folder cannot be written.
    """
    read_settings(folder)
    db = database.connect(folder, read_only=True)
    try:
        db.execute("BEGIN")  # one state, whatever is published meanwhile
        count = _write_packages(db, folder, target)
        _write_indexes(db, target)
        _write_metadata(db, target)
    finally:
        db.close()
    return count


def _write_packages(db: sqlite3.Connection, folder: Path, target: Path) -> int:
    rows = db.execute("SELECT plugin, version, sha256, signature FROM versions").fetchall()
    for row in rows:
        place = _named(target, package_path(row["plugin"], row["version"]), row["sha256"])
        _copy(folder / "blobs" / row["sha256"][:2] / row["sha256"], place)
        if row["signature"] is not None:
            where = target / "api/v1/plugins" / row["plugin"] / "versions" / row["version"] / "signature"
            _write(where, bytes(row["signature"]))
    return len(rows)


def _write_indexes(db: sqlite3.Connection, target: Path) -> None:
    rows = db.execute(
        "SELECT plugin, sha256, data FROM documents WHERE kind = 'index' AND superseded IS NULL"
    )
    for row in rows:
        _write(_named(target, index_path(row["plugin"]), row["sha256"]), bytes(row["data"]))


def _write_metadata(db: sqlite3.Connection, target: Path) -> None:
    rows = db.execute(
        "SELECT role, version, data FROM tuf WHERE superseded IS NULL OR role = 'root'"
    ).fetchall()
    for row in sorted(rows, key=lambda row: bool(row["role"] == "timestamp")):
        name = "timestamp.json" if row["role"] == "timestamp" else f"{row['version']}.{row['role']}.json"
        _write(target / "tuf/metadata" / name, bytes(row["data"]))


def _named(target: Path, path: str, digest: str) -> Path:
    place = target / "tuf/targets" / path
    return place.with_name(f"{digest}.{place.name}")


def _copy(source: Path, place: Path) -> None:
    if not place.exists() or place.stat().st_size != source.stat().st_size:
        with source.open("rb") as file:
            _place(place, iter(lambda: file.read(1 << 20), b""))


def _write(place: Path, data: bytes) -> None:
    if place.name == "timestamp.json" or not place.exists() or place.stat().st_size != len(data):
        _place(place, [data])


def _place(place: Path, parts: Iterable[bytes]) -> None:
    """Write a file in one step. What a crash of the machine cuts short, the next export writes again."""
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name[:64]}.part")
    with temporary.open("wb") as file:
        file.writelines(parts)
    os.replace(temporary, place)
