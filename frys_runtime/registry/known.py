"""What a cache knows of a registry, told without asking anybody."""

import contextlib
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from .anchors import remembered
from .cache import Cache, folders_of, lists_in, size_of

_ROLES = (Root.type, Timestamp.type, Snapshot.type, Targets.type)


class Known(NamedTuple):
    """What is known of a registry.

    Attributes:
        url: Its address.
        root: The root from which on it is trusted, as ``sha256:`` and its digest.
        how: How that came to be trusted: ``pinned``, or ``first use``.
        since: When (RFC 3339, UTC).
        root_version: The newest root that this machine has seen; 0 when it has seen none.
        expires: When what it signed expires, by role, as far as it is in the cache.
        lists: How many lists of versions are kept of it.
        bytes: Bytes of all of it.
    """

    url: str
    root: str
    how: str
    since: str
    root_version: int
    expires: dict[str, datetime]
    lists: int
    bytes: int


def known_in(cache: Cache) -> list[Known]:
    """All registries of a cache of which something was trusted."""
    return sorted(found for folder in folders_of(cache) if (found := _known(folder)) is not None)


def known_of(cache: Cache, url: str) -> Known | None:
    """One registry, by its address; ``None`` when nothing of it was trusted yet."""
    return _known(cache.registry(url))


def _known(folder: Path) -> Known | None:
    facts = remembered(folder)
    if facts is None:
        return None
    expires: dict[str, datetime] = {}
    version = 0
    for role in _ROLES:
        with contextlib.suppress(OSError, RepositoryError, ValueError, RecursionError):
            signed = Metadata.from_bytes((folder / "metadata" / f"{role}.json").read_bytes()).signed
            expires[role] = signed.expires
            version = signed.version if role == Root.type else version
    return Known(*facts, version, expires, lists_in(folder), size_of(folder))
