"""From which root on a registry is trusted: a file, a digest, or what was met first, if that was allowed."""

import hashlib
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from ..durable import replace_file
from ..errors import ConfigError, RegistryError

MAX_ROOT: Final = 512_000
"""Bytes of a root, as python-tuf reads it."""

_DIGEST: Final = re.compile(r"(?:([1-9][0-9]{0,5})\.)?sha256:([0-9a-f]{64})")


class Anchor(NamedTuple):
    """A root from which on everything is verified.

    Attributes:
        data: Its bytes.
        digest: Their SHA-256.
        pin: How to name it again: ``sha256:`` and the digest; before it the root's number, if that is not 1.
        first_use: Whether it was taken from the registry itself because nothing else was known, just now.
    """

    data: bytes
    digest: str
    pin: str
    first_use: bool


class Pinned(NamedTuple):
    """A root that is named by its SHA-256, and which one of the registry's roots that is."""

    version: int
    digest: str


class _Remembered(msgspec.Struct, frozen=True, rename="camel"):
    """``trust.json``: which root belongs to the metadata in a cache."""

    registry: str
    root: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    how: str
    since: str


def read_root(root: str) -> bytes | Pinned:
    """What the administrator names as the root.

    Args:
        root: ``sha256:`` and 64 hexadecimal digits, for another root than the first with its number before it
            (``3.sha256:...``), or the path of a file.

    Returns:
        The digest, or the bytes.

    Raises:
        ConfigError: It is neither.
    """
    if match := _DIGEST.fullmatch(root):
        return Pinned(int(match[1] or 1), match[2])
    try:
        with open(root, "rb") as file:
            data = file.read(MAX_ROOT + 1)
    except OSError as error:
        raise ConfigError(
            "root", f"{root} cannot be read ({error.strerror}); name a root.json, or sha256: and its digest"
        ) from None
    if len(data) > MAX_ROOT:
        raise ConfigError("root", f"{root} has more than {MAX_ROOT} bytes, which no root has")
    return data


def find_anchor(
    folder: Path, registry: str, root: str | None, fetch: Callable[[int], bytes], *, first_use: bool
) -> Anchor:
    """The root to trust; metadata in the cache that another root was trusted for is thrown away.

    Args:
        folder: The cache of this registry.
        registry: Its address.
        root: What the administrator names.
        fetch: Gets a root from the registry, by its number.
        first_use: Whether the registry's own word is enough when nothing else is known.

    Raises:
        ConfigError: What the administrator names is no root.
        RegistryError: Nothing is known, or the registry has another root.
    """
    known = _remembered(folder)
    wanted = read_root(root) if root is not None else None
    if isinstance(wanted, bytes):
        found = _anchor(wanted, f"{root}, which is named as the root,")
    elif known is not None and (wanted is None or wanted.digest == known.digest):
        return known
    elif wanted is None and not first_use:
        raise RegistryError(
            registry,
            "no root of it is known here, so nothing that it says can be verified. Name its root.json "
            "(root=FILE, --root FILE) or the SHA-256 of it (root='sha256:...'), from its administrator; "
            "trust_on_first_use=True (--trust-first-root) takes the registry's own word this once",
        )
    else:
        found = _fetched(registry, wanted, fetch(wanted.version if wanted is not None else 1))
    if known is None or known.digest != found.digest:
        _remember(folder, registry, found)
    return found


def _fetched(registry: str, wanted: Pinned | None, data: bytes) -> Anchor:
    digest = hashlib.sha256(data).hexdigest()
    if wanted is not None and wanted.digest != digest:
        raise RegistryError(
            registry,
            f"its root {wanted.version} has the SHA-256 {digest}, and trusted is {wanted.digest}; this "
            "is not the registry that was meant, or somebody stands in between. Nothing was taken from it",
            attack="wrong keys",
        )
    try:
        return _anchor(data, "what it gives as its root")._replace(first_use=wanted is None)
    except ConfigError as error:
        reason = f"{error.reason}; nothing was taken from it. Is this the address of a registry?"
        raise RegistryError(registry, reason) from None


def _anchor(data: bytes, name: str) -> Anchor:
    try:
        root = Metadata[Root].from_bytes(data)
        root.verify_delegate(Root.type, root)
    except (RepositoryError, ValueError, RecursionError) as error:
        raise ConfigError("root", f"{name} is no root of a TUF repository: {error}") from None
    digest = hashlib.sha256(data).hexdigest()
    number = f"{root.signed.version}." if root.signed.version != 1 else ""
    return Anchor(data, digest, f"{number}sha256:{digest}", first_use=False)


def remembered(folder: Path) -> tuple[str, str, str, str] | None:
    """A registry's address, its root's pin, how that came to be trusted, and since when; from its cache."""
    found = _remembered(folder)
    if found is None:
        return None
    facts = msgspec.json.decode((folder / "trust.json").read_bytes(), type=_Remembered)
    return facts.registry, found.pin, facts.how, facts.since


def _remembered(folder: Path) -> Anchor | None:
    try:
        facts = msgspec.json.decode((folder / "trust.json").read_bytes(), type=_Remembered)
        found = _anchor((folder / "anchor.json").read_bytes(), str(folder / "anchor.json"))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, ConfigError):
        return None
    return found if found.digest == facts.root else None


def _remember(folder: Path, registry: str, anchor: Anchor) -> None:
    shutil.rmtree(folder / "metadata", ignore_errors=True)  # verified from another root on
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    how = "first use" if anchor.first_use else "pinned"
    facts = _Remembered(registry, anchor.digest, how, since)
    replace_file(str(folder / "anchor.json"), [anchor.data], 0o600)
    replace_file(str(folder / "trust.json"), [msgspec.json.encode(facts), b"\n"], 0o600)
