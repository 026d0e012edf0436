"""Publishing a version: what is checked of it, and the one transaction that makes it exist."""

import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ..errors import ConfigError, InvalidFormat, LoadFailed
from ..metadata import Metadata
from ..package import Package, read_package
from ..ranges import Version as SemVer
from ..registry.paths import bin_of, package_path
from . import log
from .http import Refusal
from .names import ID_RULE, is_name, reserved_skeletons, skeleton
from .oci import write_manifests
from .search import index_plugin
from .settings import Settings
from .signatures import check_bundle, signers_of
from .tokens import Caller
from .trust import Trust, iso
from .types import Facts, File, Needs, Published
from .uploads import Upload

MAX_README: Final = 64 << 10
"""Bytes of a README that are shown."""


class Candidate(NamedTuple):
    """A package that could become a version.

    Attributes:
        package: What was read of it.
        about: Its ``plugin.json``, as it is.
        readme: The beginning of its README.
        beside: What came with it and vouches for it.
        signers: The ids of the keys that the envelope names.
    """

    package: Package
    about: bytes
    readme: str
    beside: Mapping[str, bytes]
    signers: tuple[str, ...]


def examine(upload: Upload, settings: Settings) -> Candidate:
    """Check a package by itself, before anything of the registry is asked.

    Raises:
        Refusal: It is no package, or none that a registry takes.
    """
    fd = os.open(upload.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        package = read_package(fd)
        about = _read(fd, package, "plugin.json", 1 << 20)
        readme = next((_read(fd, package, name, MAX_README) for name in _readmes(package)), b"")
    except (InvalidFormat, ConfigError, LoadFailed) as error:
        raise Refusal(422, str(error)) from None
    finally:
        os.close(fd)
    _check(package.metadata)
    if not upload.beside and settings.require_signature:
        raise Refusal(
            422, "this registry takes signed packages only; sign it with `frys sign`, and publish it again"
        )
    envelope, bundle = upload.beside.get("signature"), upload.beside.get("bundle")
    signers = () if envelope is None else signers_of(envelope, package)
    if bundle is not None:
        check_bundle(bundle)
    return Candidate(package, about, readme.decode("utf-8", "replace"), upload.beside, signers)


def _readmes(package: Package) -> list[str]:
    wanted = ("readme.md", "readme.txt", "readme")
    found = {file.path.lower(): file.path for file in package.files if file.path.lower() in wanted}
    return [found[name] for name in wanted if name in found]


def _read(fd: int, package: Package, path: str, most: int) -> bytes:
    file = next(file for file in package.files if file.path == path)
    return os.pread(fd, min(file.size, most), file.offset)


def _check(metadata: Metadata) -> None:
    if not is_name(metadata.id):
        raise Refusal(422, f"the id {metadata.id!r} cannot be published: it {ID_RULE}")
    names = [dependency.plugin_id for dependency in metadata.dependencies]
    if metadata.id in names:
        raise Refusal(422, f"{metadata.id} depends on itself; remove that from its plugin.json")
    if len(set(names)) != len(names):
        raise Refusal(422, f"{metadata.id} names a dependency twice in its plugin.json")


def store(upload: Upload, blob: Path) -> None:
    """Give a package its place by its hash, on the disk before the transaction says that it is there."""
    blob.parent.mkdir(mode=0o700, exist_ok=True)
    os.replace(upload.path, blob)
    for folder in (blob.parent, blob.parent.parent):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def publish(
    db: sqlite3.Connection, trust: Trust, settings: Settings, caller: Caller, candidate: Candidate
) -> Published:
    """Make a version exist: in the catalogue, the search, the log, OCI and the TUF metadata, or nowhere.

    Raises:
        Refusal: It may not be; nothing was changed.
    """
    add_version(db, trust, settings, caller, candidate)
    package = candidate.package
    plugin, version = package.metadata.id, package.metadata.version
    trust.make_room(db, plugin)
    role = db.execute("SELECT role FROM plugins WHERE id = ?", (plugin,)).fetchone()["role"]
    trust.write_index(db, plugin)
    trust.write_publisher(db, role)
    first = db.execute("SELECT count(*) FROM versions WHERE plugin = ?", (plugin,)).fetchone()[0] == 1
    if first:
        trust.write_bin(db, bin_of(plugin))
    trust.seal(db)
    path = package_path(plugin, version)
    url = f"/api/v1/plugins/{plugin}/versions/{version}"
    return Published(id=plugin, version=version, sha256=package.digest, path=path, url=url)


def add_version(
    db: sqlite3.Connection, trust: Trust, settings: Settings, caller: Caller, candidate: Candidate
) -> None:
    """The same without the TUF metadata, which many versions can then get together.

    Raises:
        Refusal: It may not be.
    """
    metadata, now = candidate.package.metadata, time.time()
    if not caller.may("publish", metadata.id):
        raise Refusal(403, f"this token may not publish {metadata.id}; it is good for {_scopes(caller)}")
    found = db.execute("SELECT id FROM plugins WHERE skeleton = ?", (skeleton(metadata.id),)).fetchone()
    if found is None:
        _add_plugin(db, trust, settings, caller, metadata, now)
    elif found["id"] != metadata.id:
        raise Refusal(
            409, f"the id {metadata.id} looks like that of the plugin {found['id']}; choose another"
        )
    else:
        check_owner(db, caller, metadata.id)
    _insert(db, settings, caller, candidate, now)
    what = {"version": metadata.version, "sha256": candidate.package.digest, "by": caller.publisher}
    log.append(db, "publish", metadata.id, {**what, "signers": list(candidate.signers)})
    write_manifests(db, candidate.package, candidate.beside, now)
    settle(db, metadata.id)


def check_owner(db: sqlite3.Connection, caller: Caller, plugin: str) -> None:
    """Refuse whoever is no owner of a plugin.

    Raises:
        Refusal: The caller is none, nor an administrator.
    """
    owner = db.execute(
        "SELECT 1 FROM owners WHERE plugin = ? AND publisher = ?", (plugin, caller.number)
    ).fetchone()
    if owner is None and not caller.is_admin:
        raise Refusal(
            403, f"{caller.publisher} is no owner of {plugin}; an owner can add them, or choose another id"
        )


def _scopes(caller: Caller) -> str:
    return ", ".join(caller.scopes)


def _add_plugin(
    db: sqlite3.Connection, trust: Trust, settings: Settings, caller: Caller, metadata: Metadata, now: float
) -> None:
    name = metadata.id
    if skeleton(name) in reserved_skeletons(settings.reserved) and not caller.is_admin:
        raise Refusal(403, f"the id {name} is reserved, or looks like one that is; choose another")
    place = (db.execute("SELECT max(place) FROM plugins").fetchone()[0] or 0) + 1
    role = trust.role_for_new_plugin(db, caller.number)
    db.execute(
        "INSERT INTO plugins (id, lower, skeleton, bin, role, place, latest, name, description, author,"
        " license, format, capabilities, permissions, created, updated)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, '', '', '', '', '', '[]', '[]', ?, ?)",
        (name, name.lower(), skeleton(name), bin_of(name), role, place, metadata.version, now, now),
    )
    db.execute("INSERT INTO owners VALUES (?, ?)", (name, caller.number))


def _insert(
    db: sqlite3.Connection, settings: Settings, caller: Caller, candidate: Candidate, now: float
) -> None:
    package = candidate.package
    plugin, version = package.metadata.id, package.metadata.version
    core = version.partition("+")[0]
    same = db.execute(
        "SELECT version, sha256 FROM versions WHERE plugin = ? AND core = ?", (plugin, core)
    ).fetchone()
    if same is not None:
        also = ", with these very bytes" if same["sha256"] == package.digest else ""
        raise Refusal(
            409,
            f"{plugin} {same['version']} is published already{also}; versions never change; raise it",
        )
    count = db.execute("SELECT count(*) FROM versions WHERE plugin = ?", (plugin,)).fetchone()[0]
    if count >= settings.max_versions:
        raise Refusal(409, f"{plugin} has {count} versions, which is this registry's limit")
    files = [File(path=file.path, size=file.size, sha256=file.sha256) for file in package.files]
    db.execute(
        "INSERT INTO versions (plugin, version, core, sha256, size, metadata, facts, files, readme,"
        " publisher, published) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(plugin, version, core, package.digest, package.size, candidate.about),
            *(msgspec.json.encode(_facts(candidate, now)), msgspec.json.encode(files)),
            *(candidate.readme, caller.number, now),
        ),
    )
    db.execute("UPDATE plugins SET updated = ? WHERE id = ?", (now, plugin))


def _facts(candidate: Candidate, now: float) -> Facts:
    metadata = candidate.package.metadata
    return Facts(
        id=metadata.id,
        version=metadata.version,
        format=metadata.format,
        dependencies=tuple(
            Needs(id=one.plugin_id, range=" ".join(one.version_range.split()), optional=one.optional)
            for one in metadata.dependencies
        ),
        permissions=tuple(sorted(metadata.permissions)),
        optional_permissions=tuple(sorted(metadata.optional_permissions)),
        signers=candidate.signers,
        published=iso(now),
    )


def settle(db: sqlite3.Connection, plugin: str) -> None:
    """Find the latest version of a plugin again, and show and index the plugin by it."""
    rows = db.execute("SELECT version, yanked FROM versions WHERE plugin = ?", (plugin,)).fetchall()

    def rank(row: sqlite3.Row) -> tuple[bool, bool, SemVer]:
        version = SemVer.parse(row["version"])
        return row["yanked"] is None, not version.pre_release, version

    latest = max(rows, key=rank)["version"]
    row = db.execute(
        "SELECT metadata, readme FROM versions WHERE plugin = ? AND version = ?", (plugin, latest)
    ).fetchone()
    shown = msgspec.json.decode(row["metadata"], type=_Shown)
    db.execute(
        "UPDATE plugins SET latest = ?, name = ?, description = ?, author = ?, license = ?, format = ?,"
        " capabilities = ?, permissions = ? WHERE id = ?",
        (
            *(latest, shown.name or plugin, shown.description, shown.author, shown.license, shown.format),
            msgspec.json.encode(shown.capabilities).decode(),
            msgspec.json.encode(sorted(shown.permissions)).decode(),
            plugin,
        ),
    )
    index_plugin(db, plugin, row["readme"])


class _Shown(msgspec.Struct):
    """What lists show of a ``plugin.json`` that was checked when it came."""

    format: str
    name: str = ""
    description: str = ""
    author: str = ""
    license: str = ""
    capabilities: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()


def sweep(db: sqlite3.Connection, folder: Path) -> int:
    """Delete what publishes left that never came to their end; only while nothing is published.

    Returns:
        How many files.
    """
    known = {row[0] for row in db.execute("SELECT sha256 FROM versions")}
    stale = [*(folder / "incoming").iterdir()]
    stale += [blob for blob in (folder / "blobs").glob("*/*") if blob.name not in known]
    for path in stale:
        path.unlink()
    return len(stale)
