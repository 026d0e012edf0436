"""What the registry tells of its plugins."""

import sqlite3
import time
from datetime import UTC, datetime
from typing import Final

import msgspec

from .http import Refusal
from .trust import current, iso, version_of
from .types import Deprecation, File, PluginDetail, Stats, Token, Version, VersionDetail

_SOON: Final = 30 * 24 * 3600


def find_plugin(db: sqlite3.Connection, plugin: str) -> sqlite3.Row:
    """The row of a plugin.

    Raises:
        Refusal: There is none of that id.
    """
    row: sqlite3.Row | None = db.execute("SELECT * FROM plugins WHERE id = ?", (plugin,)).fetchone()
    if row is not None:
        return row
    close = db.execute("SELECT id FROM plugins WHERE lower = ?", (plugin.lower(),)).fetchone()
    hint = f"; there is {close['id']}" if close else "; search for it with /api/v1/search"
    raise Refusal(404, f"there is no plugin {plugin[:80]!r} here{hint}")


def find_version(db: sqlite3.Connection, plugin: str, version: str) -> sqlite3.Row:
    """The row of a version; ``latest`` names the latest one.

    Raises:
        Refusal: There is no such version.
    """
    about = find_plugin(db, plugin)
    if version == "latest":
        version = about["latest"]
    row: sqlite3.Row | None = db.execute(
        "SELECT versions.*, name AS by, signed.data AS signature, bundled.data AS bundle"
        " FROM versions JOIN publishers ON publisher = number"
        " LEFT JOIN documents AS signed ON (signed.plugin, signed.version, signed.kind)"
        " = (versions.plugin, versions.version, 'signature')"
        " LEFT JOIN documents AS bundled ON (bundled.plugin, bundled.version, bundled.kind)"
        " = (versions.plugin, versions.version, 'bundle')"
        " WHERE versions.plugin = ? AND versions.version = ?",
        (plugin, version),
    ).fetchone()
    if row is None:
        raise Refusal(
            404, f"{plugin} has no version {version[:80]!r}; the latest is {about['latest']}, and "
            f"/api/v1/plugins/{plugin}/versions lists all"
        )  # fmt: skip
    return row


def owners_of(db: sqlite3.Connection, plugin: str) -> tuple[str, ...]:
    """The names of a plugin's owners."""
    rows = db.execute(
        "SELECT name FROM owners JOIN publishers ON publisher = number WHERE plugin = ? ORDER BY name",
        (plugin,),
    )
    return tuple(row["name"] for row in rows)


def plugin_detail(db: sqlite3.Connection, plugin: str) -> PluginDetail:
    """Everything about a plugin.

    Raises:
        Refusal: There is none of that id.
    """
    about = find_plugin(db, plugin)
    latest = find_version(db, plugin, about["latest"])
    return PluginDetail(
        **{name: about[name] for name in ("id", "name", "description", "author", "license", "format")},
        capabilities=msgspec.json.decode(about["capabilities"], type=tuple[str, ...]),
        deprecated=deprecation(about),
        owners=owners_of(db, plugin),
        downloads=about["downloads"],
        created=iso(about["created"]),
        updated=iso(about["updated"]),
        latest=version_of(latest),
        versions=db.execute("SELECT count(*) FROM versions WHERE plugin = ?", (plugin,)).fetchone()[0],
        readme=latest["readme"],
        oci=about["lower"],
    )


def deprecation(about: sqlite3.Row) -> Deprecation | None:
    """The notice on a plugin, if there is one."""
    noted = about["deprecated"]
    return None if noted is None else msgspec.json.decode(noted, type=Deprecation)


def version_detail(row: sqlite3.Row) -> VersionDetail:
    """Everything about a version, out of what :func:`find_version` found."""
    version: Version = version_of(row)
    return VersionDetail(
        **msgspec.structs.asdict(version),
        metadata=msgspec.json.decode(row["metadata"]),
        files=msgspec.json.decode(row["files"], type=tuple[File, ...]),
        readme=row["readme"],
        publisher=row["by"],
        downloads=row["downloads"],
        signature=row["signature"] is not None,
        bundle=row["bundle"] is not None,
        withdrawn=row["withdrawn"] is not None,
    )


def stats(db: sqlite3.Connection) -> Stats:
    """Numbers of the whole registry."""
    since = datetime.fromtimestamp(time.time() - _SOON, UTC).date().isoformat()
    row = db.execute(
        "SELECT (SELECT count(*) FROM plugins) AS plugins, count(*) AS versions,"
        " (SELECT count(*) FROM publishers) AS publishers, coalesce(sum(downloads), 0) AS downloads,"
        " (SELECT coalesce(sum(count), 0) FROM downloads WHERE day > ?) AS downloads_last_30_days,"
        " (SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT sha256, size FROM versions)) AS bytes"
        " FROM versions",
        (since,),
    ).fetchone()
    return Stats(**dict(row))


def token_of(row: sqlite3.Row) -> Token:
    """A token as it can be listed."""
    return Token(
        id=row["id"],
        publisher=row["publisher"],
        label=row["label"],
        scopes=msgspec.json.decode(row["scopes"], type=tuple[str, ...]),
        created=iso(row["created"]),
        expires=row["expires"] and iso(row["expires"]),
        revoked=row["revoked"] and iso(row["revoked"]),
    )


def warnings(db: sqlite3.Connection) -> list[str]:
    """What an administrator should do soon, in sentences."""
    found = []
    for role in ("root", "targets"):
        expires = datetime.fromisoformat(current(db, role)["expires"]).timestamp()
        if expires < time.time() + _SOON:
            found.append(
                f"the {role} metadata expires on {iso(expires)}: `frys registry root renew` drafts a new one "
                "for the holders of the offline keys"
            )
    return found
