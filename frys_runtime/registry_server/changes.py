"""What alters a published plugin: yanking, notices, owners. Each belongs into a transaction."""

import sqlite3

import msgspec

from . import log
from .catalog import find_plugin, find_version, owners_of
from .http import Refusal
from .publishing import check_owner, settle
from .tokens import Caller
from .trust import Trust
from .types import Deprecate, Deprecation


def yank(
    db: sqlite3.Connection, trust: Trust, caller: Caller, plugin: str, version: str, reason: str | None
) -> bool:
    """Say that a version is not to be chosen any more, or take that back.

    Args:
        db: The database.
        trust: What signs it.
        caller: Who says so.
        plugin: The plugin.
        version: The version.
        reason: Why; ``None`` takes it back.

    Returns:
        Whether it was otherwise before.

    Raises:
        Refusal: There is no such version, or the caller may not.
    """
    _check(db, caller, "yank", plugin)
    row = find_version(db, plugin, version)
    if row["yanked"] == reason:
        return False
    if row["withdrawn"] is not None:
        raise Refusal(409, f"{plugin} {row['version']} was withdrawn; only an administrator can give it back")
    db.execute(
        "UPDATE versions SET yanked = ? WHERE plugin = ? AND version = ?", (reason, plugin, row["version"])
    )
    kind = "unyank" if reason is None else "yank"
    facts = {"version": row["version"], "reason": reason or "", "by": caller.publisher}
    _settle(db, trust, kind, plugin, facts)
    return True


def withdraw(
    db: sqlite3.Connection, trust: Trust, caller: Caller, plugin: str, version: str, reason: str | None
) -> bool:
    """Take a version away from everybody, or give it back; a version that does harm, for example.

    It is yanked, too, is no TUF target any more, and its number is not free again.

    Args:
        db: The database.
        trust: What signs it.
        caller: Who says so; an administrator.
        plugin: The plugin.
        version: The version.
        reason: Why; ``None`` gives it back, still yanked.

    Returns:
        Whether it was otherwise before.

    Raises:
        Refusal: There is no such version, or the caller may not.
    """
    if not caller.is_admin:
        raise Refusal(403, "only a token with the scope admin withdraws versions; an owner can yank them")
    row = find_version(db, plugin, version)
    if row["withdrawn"] == reason:
        return False
    db.execute(
        "UPDATE versions SET withdrawn = ?1, yanked = coalesce(?1, yanked)"
        " WHERE plugin = ?2 AND version = ?3",
        (reason, plugin, row["version"]),
    )
    kind = "restore" if reason is None else "withdraw"
    facts = {"version": row["version"], "reason": reason or "", "by": caller.publisher}
    _settle(db, trust, kind, plugin, facts)
    return True


def deprecate(
    db: sqlite3.Connection, trust: Trust, caller: Caller, plugin: str, notice: Deprecate | None
) -> bool:
    """Put a notice on a plugin that it is not kept up any more, or take it away.

    Returns:
        Whether it was otherwise before.

    Raises:
        Refusal: There is no such plugin, or the caller may not.
    """
    _check(db, caller, "yank", plugin)
    before = find_plugin(db, plugin)["deprecated"]
    after = None
    if notice is not None:
        if notice.replacement:
            find_plugin(db, notice.replacement)
        after = msgspec.json.encode(
            Deprecation(message=notice.message, replacement=notice.replacement)
        ).decode()
    if before == after:
        return False
    db.execute("UPDATE plugins SET deprecated = ? WHERE id = ?", (after, plugin))
    kind = "undeprecate" if notice is None else "deprecate"
    log.append(db, kind, plugin, {"by": caller.publisher, "notice": after})
    _tell(db, trust, plugin)
    return True


def add_owner(db: sqlite3.Connection, caller: Caller, plugin: str, name: str) -> bool:
    """Let another publisher publish versions of a plugin.

    Returns:
        Whether they could not before.

    Raises:
        Refusal: There is no such plugin or publisher, or the caller may not.
    """
    _check(db, caller, "owners", plugin)
    if name in owners_of(db, plugin):
        return False
    db.execute("INSERT INTO owners VALUES (?, ?)", (plugin, _publisher(db, name)))
    log.append(db, "owner-added", plugin, {"owner": name, "by": caller.publisher})
    return True


def remove_owner(db: sqlite3.Connection, trust: Trust, caller: Caller, plugin: str, name: str) -> bool:
    """Let a publisher not publish versions of a plugin any more.

    Returns:
        Whether they could before.

    Raises:
        Refusal: There is no such plugin, nobody would be left, or the caller may not.
    """
    _check(db, caller, "owners", plugin)
    owners = owners_of(db, plugin)
    if name not in owners:
        return False
    if len(owners) == 1:
        raise Refusal(409, f"{name} is the only owner of {plugin}; add another one first")
    number = _publisher(db, name)
    db.execute("DELETE FROM owners WHERE plugin = ? AND publisher = ?", (plugin, number))
    log.append(db, "owner-removed", plugin, {"owner": name, "by": caller.publisher})
    role = find_plugin(db, plugin)["role"]
    if role == f"publisher-{number}" or role.startswith(f"publisher-{number}-"):
        _move(db, trust, plugin)
    return True


def _move(db: sqlite3.Connection, trust: Trust, plugin: str) -> None:
    """Give a plugin into the TUF role of an owner who is left."""
    heir = db.execute("SELECT min(publisher) FROM owners WHERE plugin = ?", (plugin,)).fetchone()[0]
    trust.move(db, plugin, trust.role_for_new_plugin(db, heir))
    _tell(db, trust, plugin)


def _check(db: sqlite3.Connection, caller: Caller, act: str, plugin: str) -> None:
    find_plugin(db, plugin)
    if not caller.may(act, plugin):
        raise Refusal(403, f"this token is not good for {act}:{plugin}, only for {', '.join(caller.scopes)}")
    check_owner(db, caller, plugin)


def _publisher(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT number FROM publishers WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise Refusal(
            404, f"there is no publisher {name[:80]!r}; an administrator makes one together with a token"
        )
    return int(row["number"])


def _settle(db: sqlite3.Connection, trust: Trust, kind: str, plugin: str, facts: dict[str, str]) -> None:
    """Write down what was done to a version, and what that changes for those who look for one."""
    log.append(db, kind, plugin, facts)
    settle(db, plugin)
    _tell(db, trust, plugin)


def _tell(db: sqlite3.Connection, trust: Trust, plugin: str) -> None:
    trust.write_index(db, plugin)
    trust.write_publisher(db, find_plugin(db, plugin)["role"])
    trust.seal(db)
