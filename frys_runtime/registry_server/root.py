"""The offline half of a registry's TUF metadata: root and targets, as drafts that administrators sign.

A draft is a metadata file in ``drafts/`` without enough signatures. It travels to where the offline keys are,
gets their signatures there (:func:`sign_draft` needs nothing but the file and a key), comes back, and counts
from :func:`apply_drafts` on.
"""

import copy
import sqlite3
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import ConfigError
from . import database, log
from .keys import FOLDER as KEYS, Document, Keyring, canonical, envelope, load_key, new_key, public_part
from .settings import Settings, read_settings, write_settings
from .trust import BINS, SPEC, Trust, current, iso, publisher_key, put_metadata

DRAFTS: Final = "drafts"
LIFETIME: Final = 365 * 24 * 3600
"""Seconds for which clients believe root and targets."""
ROLES: Final = ("root", "snapshot", "timestamp", "publishers")
"""What can get new keys."""

_SUBFOLDERS: Final = ("blobs", "incoming", DRAFTS, KEYS)


def create_registry(
    folder: Path, offline: Path, *, keys: int, threshold: int, password: bytes | None, settings: Settings
) -> list[str]:
    """Make the folder of a registry, with its keys and its first metadata.

    Args:
        folder: Where; it must not exist, or be empty.
        offline: Where the private parts of the offline keys go, one file each.
        keys: How many of them.
        threshold: How many of them have to sign.
        password: Encrypts them.
        settings: What ``registry.json`` gets.

    Returns:
        The ids of the offline keys.

    Raises:
        ConfigError: The folder is in use, or the numbers make no sense.
    """
    if not 1 <= threshold <= keys <= 32:
        raise ConfigError("threshold", "must be at least 1 and at most the number of keys, which may be 32")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(str(folder), "is not empty; name a folder that does not exist")
        for name in _SUBFOLDERS:
            (folder / name).mkdir(mode=0o700)
    except OSError as error:
        raise ConfigError(str(folder), f"cannot be made: {error.strerror}") from None
    made = dict(new_key(offline, password) for _ in range(keys))
    ring = Keyring(folder)
    db = database.create(folder)
    try:
        with database.transaction(db):
            _write_first(db, ring, made, threshold, [offline / f"{key_id}.pem" for key_id in made], password)
            log.append(db, "opened", "", {"file": 1, "root": list(made), "threshold": threshold})
            Trust(ring, settings).begin(db)
    finally:
        db.close()
    write_settings(folder, settings)  # last: without it there is no registry
    return list(made)


def _write_first(
    db: sqlite3.Connection,
    ring: Keyring,
    offline: dict[str, Document],
    threshold: int,
    files: list[Path],
    password: bytes | None,
) -> None:
    (snapshot, snapshot_part), (timestamp, timestamp_part), (publishers, publishers_part) = (
        ring.new() for _ in range(3)
    )
    expires = time.time() + LIFETIME
    head = {"spec_version": SPEC, "version": 1, "expires": iso(expires)}
    trusted = {"keyids": list(offline), "threshold": threshold}
    root = {
        **head,
        "_type": "root",
        "consistent_snapshot": True,
        "keys": {**offline, snapshot: snapshot_part, timestamp: timestamp_part},
        "roles": {
            "root": trusted,
            "targets": trusted,
            "snapshot": {"keyids": [snapshot], "threshold": 1},
            "timestamp": {"keyids": [timestamp], "threshold": 1},
        },
    }
    targets = {
        **head,
        "_type": "targets",
        "targets": {},
        "delegations": _delegations(publishers, publishers_part),
    }
    keys = [load_key(file, password) for file in files]
    signers = [(public_part(key)[0], key) for key in keys]
    for role, document in (("root", root), ("targets", targets)):
        put_metadata(db, role, 1, expires, envelope(document, signers))


def _delegations(key_id: str, part: Document) -> Document:
    roles = [
        {
            "name": f"bin-{name}",
            "keyids": [key_id],
            "threshold": 1,
            "terminating": True,
            "paths": [f"{name}/*/*"],
        }
        for name in BINS
    ]
    return {"keys": {key_id: part}, "roles": roles}


def draft_rotation(
    folder: Path, role: str, *, offline: Path | None, drop: str | None, password: bytes | None
) -> list[Path]:
    """Draft metadata in which a role has a new key.

    Args:
        folder: The registry's.
        role: One of :data:`ROLES`.
        offline: For ``root``: where the private part of the new key goes.
        drop: For ``root``: the key whose place it takes; may be left out when there is only one.
        password: For ``root``: encrypts the new key.

    Returns:
        The drafts that have to be signed.

    Raises:
        ConfigError: There is no such role or key.
    """
    drafts = _Drafts(folder)
    if role == "publishers":
        targets = drafts.edit("targets")
        targets["delegations"] = _delegations(*Keyring(folder).new())
    elif role in ("snapshot", "timestamp"):
        root = drafts.edit("root")
        _replace(root, [role], root["roles"][role]["keyids"][0], *Keyring(folder).new())
    elif role == "root":
        if offline is None:
            raise ConfigError("--root-keys", "is missing: the folder that the new root key is written to")
        root = drafts.edit("root")
        held = root["roles"]["root"]["keyids"]
        drop = drop or (held[0] if len(held) == 1 else None)
        if drop is None or drop not in held:
            raise ConfigError("--drop", f"must be the root key that is replaced, one of {', '.join(held)}")
        _replace(root, ["root", "targets"], drop, *new_key(offline, password))
        drafts.edit("targets")
    else:
        raise ConfigError(f"role {role!r}", f"has no keys of its own; choose one of {', '.join(ROLES)}")
    return drafts.write()


def draft_revocation(folder: Path, key_id: str) -> list[Path]:
    """Draft metadata in which a key counts for nothing; an online key is replaced at once.

    Raises:
        ConfigError: No role has the key, or too few would remain.
    """
    drafts = _Drafts(folder)
    root = drafts.look("root")
    if key_id == drafts.publisher_key:
        return draft_rotation(folder, "publishers", offline=None, drop=None, password=None)
    for role in ("snapshot", "timestamp"):
        if key_id in root["roles"][role]["keyids"]:
            return draft_rotation(folder, role, offline=None, drop=None, password=None)
    if key_id not in root["roles"]["root"]["keyids"]:
        raise ConfigError(f"key {key_id}", "is no key of this registry; `frys registry keys list` shows them")
    if len(root["roles"]["root"]["keyids"]) - 1 < root["roles"]["root"]["threshold"]:
        raise ConfigError(
            f"key {key_id}",
            "cannot just go: the others are fewer than the threshold; replace it with "
            "`frys registry keys rotate DIR root --drop KEY`",
        )
    root = drafts.edit("root")
    for role in ("root", "targets"):
        root["roles"][role]["keyids"] = [one for one in root["roles"][role]["keyids"] if one != key_id]
    del root["keys"][key_id]
    drafts.edit("targets")
    return drafts.write()


def draft_renewal(folder: Path) -> list[Path]:
    """Draft root and targets as they are, with another year to live."""
    drafts = _Drafts(folder)
    drafts.edit("root")
    drafts.edit("targets")
    return drafts.write()


def _replace(root: Document, roles: list[str], old: str, key_id: str, part: Document) -> None:
    for role in roles:
        held = root["roles"][role]["keyids"]
        root["roles"][role] = {
            **root["roles"][role],
            "keyids": [key_id if one == old else one for one in held],
        }
    if not any(old in role["keyids"] for role in root["roles"].values()):
        del root["keys"][old]
    root["keys"][key_id] = part


class _Drafts:
    """The drafts of a registry while they are altered; each edit makes earlier signatures void."""

    def __init__(self, folder: Path) -> None:
        read_settings(folder)
        self._folder = folder / DRAFTS
        self._edited: dict[str, Document] = {}
        db = database.connect(folder, read_only=True)
        self._now = {role: current(db, role) for role in ("root", "targets")}
        self.publisher_key = publisher_key(db)[0]
        db.close()

    def look(self, role: str) -> Document:
        """What the draft says, or what holds now where there is none."""
        path = self._folder / f"{role}.json"
        return self._edited.get(role) or (_read_draft(path)["signed"] if path.exists() else self._now[role])

    def edit(self, role: str) -> Document:
        """The draft, to be altered."""
        document = copy.deepcopy(self.look(role))
        document |= {"version": self._now[role]["version"] + 1, "expires": iso(time.time() + LIFETIME)}
        self._edited[role] = document
        return document

    def write(self) -> list[Path]:
        for role, document in self._edited.items():
            data = msgspec.json.encode({"signatures": [], "signed": document}, order="sorted")
            (self._folder / f"{role}.json").write_bytes(msgspec.json.format(data, indent=1))
        return [self._folder / f"{role}.json" for role in self._edited]


def _read_draft(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if found["signed"]["_type"] in ("root", "targets") and isinstance(found["signatures"], list):
            return found
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    except (msgspec.MsgspecError, KeyError, TypeError):
        pass
    raise ConfigError(str(path), "is no draft of `frys registry keys` or `frys registry root`")


def sign_draft(path: Path, key_file: Path, password: bytes | None) -> int:
    """Add a signature to a draft; needs no registry.

    Returns:
        How many signatures it has now.

    Raises:
        ConfigError: The draft or the key cannot be read.
    """
    draft = _read_draft(path)
    key = load_key(key_file, password)
    key_id = public_part(key)[0]
    signature = {"keyid": key_id, "sig": key.sign(canonical(draft["signed"])).hex()}
    draft["signatures"] = [one for one in draft["signatures"] if one["keyid"] != key_id] + [signature]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(draft, order="sorted"), indent=1))
    return len(draft["signatures"])


def apply_drafts(folder: Path) -> list[str]:
    """Make signed drafts count: from then on clients get them.

    Returns:
        The roles that were replaced.

    Raises:
        ConfigError: There is no draft, or signatures are missing; nothing was changed.
    """
    settings = read_settings(folder)
    ring, db = Keyring(folder), database.connect(folder)
    found = [role for role in ("root", "targets") if (folder / DRAFTS / f"{role}.json").exists()]
    if not found:
        raise ConfigError(str(folder / DRAFTS), "has no drafts; `frys registry keys rotate` makes some")
    try:
        with database.transaction(db):
            for role in found:
                _apply(db, folder / DRAFTS / f"{role}.json", role)
            _check_targets(db)
            after = _online_keys(db)
            missing = [key_id for key_id in after if not ring.has(key_id)]
            if missing:
                raise ConfigError(str(folder / KEYS), f"lacks the private part of {', '.join(missing)}")
            log.append(db, "keys", "", {"roles": found, "keys": sorted(after)})
            Trust(ring, settings).write_everything(db)
    finally:
        db.close()
    for role in found:
        (folder / DRAFTS / f"{role}.json").unlink()
    ring.keep_only(after)
    return found


def _apply(db: sqlite3.Connection, path: Path, role: str) -> None:
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata

    draft = _read_draft(path)
    data = msgspec.json.encode(draft)
    root = Metadata.from_bytes(_stored(db, "root"))
    try:
        new = Metadata.from_bytes(data)
        if new.signed.type != role or new.signed.version != current(db, role)["version"] + 1:
            raise ConfigError(str(path), f"does not follow on the {role} metadata of now; draft it again")
        root.signed.verify_delegate(role, canonical(draft["signed"]), new.signatures)
        if role == "root":
            new.signed.verify_delegate(role, canonical(draft["signed"]), new.signatures)
    except RepositoryError as error:
        raise ConfigError(
            str(path), f"has too few signatures: {error}; add them with `frys registry root sign`"
        ) from None
    put_metadata(db, role, new.signed.version, new.signed.expires.timestamp(), data)


def _check_targets(db: sqlite3.Connection) -> None:
    """Fail when a new root would leave the targets metadata without the signatures that it asks for."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata

    root = Metadata.from_bytes(_stored(db, "root"))
    targets = Metadata.from_bytes(_stored(db, "targets"))
    try:
        root.signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)
    except RepositoryError as error:
        raise ConfigError("targets", f"is not signed as the new root demands: {error}") from None


def _stored(db: sqlite3.Connection, role: str) -> bytes:
    row = db.execute("SELECT data FROM tuf WHERE role = ? AND superseded IS NULL", (role,)).fetchone()
    return bytes(row["data"])


def _online_keys(db: sqlite3.Connection) -> set[str]:
    roles = current(db, "root")["roles"]
    return {roles["snapshot"]["keyids"][0], roles["timestamp"]["keyids"][0], publisher_key(db)[0]}


def list_keys(folder: Path) -> list[dict[str, Any]]:
    """The roles, their keys, and when what they signed last expires."""
    read_settings(folder)
    db, ring = database.connect(folder, read_only=True), Keyring(folder)
    try:
        roles = current(db, "root")["roles"]
        held = {name: (roles[name]["keyids"], roles[name]["threshold"]) for name in roles}
        held["publishers"] = ([publisher_key(db)[0]], 1)
        return [
            {
                "role": name,
                "keys": keys,
                "threshold": threshold,
                "online": all(map(ring.has, keys)),
                "expires": None if name == "publishers" else current(db, name)["expires"],
            }
            for name, (keys, threshold) in held.items()
        ]
    finally:
        db.close()
