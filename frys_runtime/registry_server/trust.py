"""TUF metadata that the running registry signs: who has published what, and that this is the newest state.

    root, targets            signed offline: the keys of all roles; the 256 bins by path
    bin-00 ... bin-ff        by the first byte of the SHA-256 of the id: which publisher has which id
    publisher-7, -7-2, ...   the versions of one publisher's plugins; a next part is begun when one is full
    snapshot, timestamp      the versions of all those files; that this is the newest of them

A new version rewrites the role of its publisher, snapshot and timestamp, however many plugins there are; a
new id its bin, too. docs/adr/0012 has the figures. Specification:
https://theupdateframework.github.io/specification/v1.0.31/
"""

import hashlib
import sqlite3
import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ..ranges import Version as SemVer
from ..registry.paths import index_path, package_path
from . import log
from .keys import Document, Keyring
from .settings import Settings
from .types import BESIDE, Deprecation, Facts, Index, Version

SPEC: Final = "1.0.31"
MAX_PART: Final = 400
"""Versions in one part of a publisher's metadata, from which on new ids go to the next part."""
KEPT: Final = 3600
"""Seconds for which replaced metadata stays, for clients that are in the middle of an update."""

BINS: Final = tuple(f"{number:02x}" for number in range(256))

_AT_ONCE: Final = 200


def document_path(plugin: str, version: str, kind: str) -> str:
    """The TUF target of a document: the list of versions, or what lies beside a package."""
    return index_path(plugin) if kind == "index" else package_path(plugin, version) + BESIDE[kind].suffix


def iso(when: float) -> str:
    """A time as metadata has it: RFC 3339 in UTC, whole seconds."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Trust:
    """Writes the metadata; every method belongs into a transaction of the database."""

    def __init__(self, keys: Keyring, settings: Settings) -> None:
        self._keys, self._settings = keys, settings

    def begin(self, db: sqlite3.Connection) -> None:
        """Write all that the server signs, for a registry without plugins."""
        for name in BINS:
            self.write_bin(db, name)
        self.seal(db)

    def role_for_new_plugin(self, db: sqlite3.Connection, publisher: int) -> str:
        """The role that gets the plugins that a publisher adds now."""
        first = f"publisher-{publisher}"
        rows = db.execute(  # "." comes right after "-", so this is the first part and all others
            "SELECT DISTINCT role FROM plugins WHERE role >= ?1 AND role < ?1 || '.'", (first,)
        ).fetchall()
        if not rows:
            return first
        part = max(int(row["role"].removeprefix(first)[1:] or 1) for row in rows)
        name = first if part == 1 else f"{first}-{part}"
        return name if _count_versions(db, name) < MAX_PART else f"{first}-{part + 1}"

    def make_room(self, db: sqlite3.Connection, plugin: str) -> None:
        """Give a plugin into another part when those in its part have grown too much together."""
        role = db.execute("SELECT role FROM plugins WHERE id = ?", (plugin,)).fetchone()["role"]
        alone = db.execute("SELECT count(*) FROM plugins WHERE role = ?", (role,)).fetchone()[0] == 1
        if not alone and _count_versions(db, role) > 2 * MAX_PART:
            self.move(db, plugin, self.role_for_new_plugin(db, int(role.split("-")[1])))

    def move(self, db: sqlite3.Connection, plugin: str, role: str) -> None:
        """Give a plugin into another role; writing that one has to follow."""
        row = db.execute("SELECT role, bin FROM plugins WHERE id = ?", (plugin,)).fetchone()
        db.execute("UPDATE plugins SET role = ? WHERE id = ?", (role, plugin))
        self.write_publisher(db, row["role"])
        self.write_bin(db, row["bin"])

    def write_bin(self, db: sqlite3.Connection, name: str) -> None:
        """Say again which role has which ids of a bin."""
        key_id, part = publisher_key(db)
        paths: dict[str, list[str]] = {}
        for row in db.execute("SELECT id, role FROM plugins WHERE bin = ? ORDER BY role, id", (name,)):
            paths.setdefault(row["role"], []).append(f"{name}/{row['id']}/*")
        roles = [
            {"name": role, "keyids": [key_id], "threshold": 1, "terminating": True, "paths": patterns}
            for role, patterns in paths.items()
        ]
        delegations = {"keys": {key_id: part}, "roles": roles}
        self._write(db, f"bin-{name}", key_id, targets={}, delegations=delegations)

    def write_publisher(self, db: sqlite3.Connection, role: str) -> None:
        """Say again which versions a publisher's role has."""
        targets: Document = {}
        for row in db.execute(
            "SELECT facts, sha256, size, yanked, id, versions.version"
            " FROM versions JOIN plugins ON plugin = id WHERE role = ? AND withdrawn IS NULL",
            (role,),
        ):
            facts = {**msgspec.json.decode(row["facts"]), "yanked": row["yanked"] is not None}
            path = package_path(row["id"], row["version"])
            targets[path] = _target(row["size"], row["sha256"], {"custom": {"frys": facts}})
        for row in db.execute(
            "SELECT plugin, version, kind, sha256, length(data) AS size"
            " FROM documents JOIN plugins ON plugin = id"
            " WHERE role = ? AND kind IN ('index', 'signature', 'bundle') AND superseded IS NULL",
            (role,),
        ):
            path = document_path(row["plugin"], row["version"], row["kind"])
            targets[path] = _target(row["size"], row["sha256"], {})
        self._write(db, role, publisher_key(db)[0], targets=targets)

    def write_index(self, db: sqlite3.Connection, plugin: str) -> None:
        """List the versions of a plugin again; :meth:`write_publisher` has to follow."""
        data = msgspec.json.encode(index(db, plugin))
        put_document(db, plugin, "", "index", data)

    def seal(self, db: sqlite3.Connection) -> None:
        """Make what was written the newest state: snapshot and timestamp."""
        seq, tip = log.tip(db)
        listed = db.execute(
            "SELECT role, version FROM tuf WHERE superseded IS NULL"
            " AND role NOT IN ('root', 'snapshot', 'timestamp')"
        )
        meta = {f"{role}.json": {"version": version} for role, version in listed}
        key_id = _online_key(db, "snapshot")
        self._write(
            db, "snapshot", key_id, "snapshot", meta=meta, **{"x-frys-log": {"seq": seq, "hash": tip}}
        )
        self.write_timestamp(db)

    def write_timestamp(self, db: sqlite3.Connection) -> None:
        """Say again that the snapshot is the newest one."""
        row = db.execute(
            "SELECT version, data FROM tuf WHERE role = 'snapshot' AND superseded IS NULL"
        ).fetchone()
        digest = hashlib.sha256(row["data"]).hexdigest()
        newest = {"version": row["version"], "length": len(row["data"]), "hashes": {"sha256": digest}}
        key_id = _online_key(db, "timestamp")
        self._write(db, "timestamp", key_id, "timestamp", meta={"snapshot.json": newest})

    def write_everything(self, db: sqlite3.Connection) -> None:
        """Sign everything again, as new keys demand it."""
        for name in BINS:
            self.write_bin(db, name)
        for row in db.execute("SELECT DISTINCT role FROM plugins").fetchall():
            self.write_publisher(db, row["role"])
        self.seal(db)

    def renew(self, db: sqlite3.Connection) -> int:
        """Sign again what expires before long, some of it, and forget what nobody needs any more.

        Returns:
            How many files were signed.
        """
        now, settings = time.time(), self._settings
        soon = now + settings.role_lifetime / 3
        due = db.execute(
            "SELECT role FROM tuf WHERE superseded IS NULL AND expires < ?"
            " AND (role GLOB 'bin-*' OR role GLOB 'publisher-*') ORDER BY expires LIMIT ?",
            (soon, _AT_ONCE),
        ).fetchall()
        for row in due:
            if row["role"].startswith("bin-"):
                self.write_bin(db, row["role"].removeprefix("bin-"))
            else:
                self.write_publisher(db, row["role"])
        count = len(due)
        if due or _expires(db, "snapshot") < now + settings.snapshot_lifetime / 2:
            self.seal(db)
            count += 2
        elif _expires(db, "timestamp") < now + settings.timestamp_lifetime / 2:
            self.write_timestamp(db)
            count += 1
        db.execute("DELETE FROM tuf WHERE superseded < ? AND role <> 'root'", (now - KEPT,))
        db.execute("DELETE FROM documents WHERE superseded < ?", (now - KEPT,))
        return count

    def _write(
        self, db: sqlite3.Connection, role: str, key_id: str, kind: str = "targets", **content: Any
    ) -> None:
        lifetime = {
            "snapshot": self._settings.snapshot_lifetime,
            "timestamp": self._settings.timestamp_lifetime,
        }.get(role, self._settings.role_lifetime)
        expires = time.time() + lifetime
        version = (db.execute("SELECT max(version) FROM tuf WHERE role = ?", (role,)).fetchone()[0] or 0) + 1
        document = {
            "_type": kind,
            "spec_version": SPEC,
            "version": version,
            "expires": iso(expires),
            **content,
        }
        put_metadata(db, role, version, expires, self._keys.signed(document, key_id))


def put_metadata(db: sqlite3.Connection, role: str, version: int, expires: float, data: bytes) -> None:
    """Put a metadata file in the place of the one before."""
    db.execute("UPDATE tuf SET superseded = ? WHERE role = ? AND superseded IS NULL", (time.time(), role))
    db.execute("INSERT INTO tuf VALUES (?, ?, ?, NULL, ?)", (role, version, expires, data))


def put_document(db: sqlite3.Connection, plugin: str, version: str, kind: str, data: bytes) -> str:
    """Put a document of a plugin in the place of the one before; its SHA-256."""
    digest = hashlib.sha256(data).hexdigest()
    db.execute(
        "UPDATE documents SET superseded = ? WHERE plugin = ? AND version = ? AND kind = ?"
        " AND superseded IS NULL",
        (time.time(), plugin, version, kind),
    )
    db.execute(
        "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, NULL, ?)", (digest, plugin, version, kind, data)
    )
    return digest


def current(db: sqlite3.Connection, role: str) -> Document:
    """The signed part of a role's newest metadata."""
    row = db.execute("SELECT data FROM tuf WHERE role = ? AND superseded IS NULL", (role,)).fetchone()
    document: Document = msgspec.json.decode(row["data"])["signed"]
    return document


def publisher_key(db: sqlite3.Connection) -> tuple[str, Document]:
    """The key that signs bins and publishers' roles, as the offline targets role names it."""
    delegations = current(db, "targets")["delegations"]
    key_id: str = delegations["roles"][0]["keyids"][0]
    return key_id, delegations["keys"][key_id]


def index(db: sqlite3.Connection, plugin: str) -> Index:
    """All versions of a plugin, the newest first."""
    deprecated = db.execute("SELECT deprecated FROM plugins WHERE id = ?", (plugin,)).fetchone()[0]
    rows = db.execute("SELECT * FROM versions WHERE plugin = ?", (plugin,)).fetchall()
    rows.sort(key=lambda row: SemVer.parse(row["version"]), reverse=True)
    return Index(
        id=plugin,
        deprecated=deprecated and msgspec.json.decode(deprecated, type=Deprecation),
        versions=tuple(map(version_of, rows)),
    )


def version_of(row: sqlite3.Row) -> Version:
    """A version out of its row of the database."""
    facts = msgspec.json.decode(row["facts"], type=Facts)
    return Version(
        **msgspec.structs.asdict(facts),
        path=package_path(row["plugin"], row["version"]),
        sha256=row["sha256"],
        size=row["size"],
        yanked=row["yanked"] is not None,
        yanked_reason=row["yanked"] or "",
    )


def _count_versions(db: sqlite3.Connection, role: str) -> int:
    found = db.execute("SELECT count(*) FROM plugins JOIN versions ON plugin = id WHERE role = ?", (role,))
    return int(found.fetchone()[0])


def _target(size: int, digest: str, more: Document) -> Document:
    return {"length": size, "hashes": {"sha256": digest}, **more}


def _online_key(db: sqlite3.Connection, role: str) -> str:
    key_id: str = current(db, "root")["roles"][role]["keyids"][0]
    return key_id


def _expires(db: sqlite3.Connection, role: str) -> float:
    row = db.execute("SELECT expires FROM tuf WHERE role = ? AND superseded IS NULL", (role,)).fetchone()
    return float(row["expires"])
