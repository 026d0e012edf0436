"""Publishers and their tokens. A token is shown once; the registry keeps its SHA-256."""

import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from ..errors import ConfigError
from .names import ID_RULE, is_name, skeleton

SCOPE_RULE: Final = (
    'a scope is "admin", or "publish:PATTERN", "yank:PATTERN" or "owners:PATTERN" with a pattern of ids '
    'such as "acme-*"'
)
_SCOPE: Final = re.compile(r"admin|(?:publish|yank|owners):[A-Za-z0-9._*?-]{1,64}")
# 256 random bits: no one guesses them, so a fast hash is enough.
_TOKEN: Final = re.compile(r"frys_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Caller(msgspec.Struct, frozen=True):
    """Who sent a request.

    Attributes:
        token: The id of the token.
        number: The publisher's number.
        publisher: The publisher's name.
        scopes: What the token is good for.
    """

    token: str
    number: int
    publisher: str
    scopes: tuple[str, ...]

    @property
    def is_admin(self) -> bool:
        """Whether the token may do everything."""
        return "admin" in self.scopes

    def may(self, act: str, plugin: str) -> bool:
        """Whether the token is good for an act (``publish``, ``yank``, ``owners``) on a plugin."""
        return self.is_admin or any(
            fnmatchcase(plugin.casefold(), scope.partition(":")[2].casefold())
            for scope in self.scopes
            if scope.startswith(f"{act}:")
        )


def create(
    db: sqlite3.Connection, publisher: str, scopes: Sequence[str], *, days: float | None, label: str = ""
) -> str:
    """Make a token, and its publisher if there is none of that name.

    Args:
        db: The database, in a transaction.
        publisher: Whose it is.
        scopes: What it is good for.
        days: Until it expires; ``None`` for never.
        label: To tell it from others.

    Returns:
        The token, which nobody can find out later.

    Raises:
        ConfigError: The name or a scope is none, or looks like another publisher's name.
    """
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise ConfigError(f"scope {scope!r}", SCOPE_RULE)
    if not scopes:
        raise ConfigError("scopes", f"are missing; {SCOPE_RULE}")
    name, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    now = time.time()
    db.execute(
        "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
        (
            name,
            hashlib.sha256(secret.encode()).digest(),
            find_or_add_publisher(db, publisher),
            label,
            msgspec.json.encode(list(scopes)).decode(),
            now,
            None if days is None else now + days * 86400,
        ),
    )
    return f"frys_{name}_{secret}"


def find_or_add_publisher(db: sqlite3.Connection, name: str) -> int:
    """The number of a publisher.

    Raises:
        ConfigError: The name is none, or looks like another publisher's.
    """
    if not is_name(name):
        raise ConfigError(f"publisher {name!r}", ID_RULE)
    row = db.execute("SELECT number, name FROM publishers WHERE skeleton = ?", (skeleton(name),)).fetchone()
    if row is None:
        values = (name, skeleton(name), time.time())
        row = db.execute(
            "INSERT INTO publishers (name, skeleton, created) VALUES (?, ?, ?) RETURNING number, name", values
        ).fetchone()
    if row["name"] != name:
        raise ConfigError(f"publisher {name!r}", f"looks like the publisher {row['name']!r}; choose another")
    return int(row["number"])


def find(db: sqlite3.Connection, token: str) -> Caller | None:
    """Whose token this is; ``None`` when it is none, was revoked or has expired."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return None
    row = db.execute(
        "SELECT tokens.*, name FROM tokens JOIN publishers ON publisher = number WHERE tokens.id = ?",
        (match[1],),
    ).fetchone()
    given = hashlib.sha256(match[2].encode()).digest()
    if row is None or not hmac.compare_digest(row["hash"], given) or row["revoked"] is not None:
        return None
    if row["expires"] is not None and row["expires"] <= time.time():
        return None
    scopes = msgspec.json.decode(row["scopes"], type=tuple[str, ...])
    return Caller(row["id"], row["publisher"], row["name"], scopes)


def revoke(db: sqlite3.Connection, token: str, publisher: int | None = None) -> bool:
    """Make a token good for nothing.

    Args:
        db: The database, in a transaction.
        token: Its id, which is the part between the underscores.
        publisher: Only if it is this publisher's.

    Returns:
        Whether there was such a token.
    """
    where, values = "id = ?", [time.time(), token]
    if publisher is not None:
        where, values = f"{where} AND publisher = ?", [*values, publisher]
    return (
        db.execute(f"UPDATE tokens SET revoked = coalesce(revoked, ?) WHERE {where}", values).rowcount  # noqa: S608 - ours
        > 0
    )


def all_tokens(db: sqlite3.Connection, publisher: int | None = None) -> list[sqlite3.Row]:
    """Tokens, the newest first: of everybody, or of one publisher."""
    return db.execute(
        "SELECT tokens.id, label, scopes, tokens.created, expires, revoked, name AS publisher"
        " FROM tokens JOIN publishers ON publisher = number WHERE ?1 IS NULL OR publisher = ?1"
        " ORDER BY tokens.created DESC LIMIT 1000",
        (publisher,),
    ).fetchall()
