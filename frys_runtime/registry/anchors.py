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

from ..errors import ConfigError, RegistryError
from ..package import replace_file

MAX_ROOT: Final = 512_000
"""Bytes of a root, as python-tuf reads it."""

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")


class Anchor(NamedTuple):
    """A root from which on everything is verified.

    Attributes:
        data: Its bytes.
        digest: Their SHA-256.
        first_use: Whether it was taken from the registry itself because nothing else was known, just now.
    """

    data: bytes
    digest: str
    first_use: bool


class _Remembered(msgspec.Struct, frozen=True, rename="camel"):
    """``trust.json``: which root belongs to the metadata in a cache."""

    registry: str
    root: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    how: str
    since: str


def read_root(root: str) -> bytes | str:
    """What the administrator names as the root.

    Args:
        root: ``sha256:`` and 64 hexadecimal digits, or the path of a file.

    Returns:
        The digest in hexadecimal, or the bytes.

    Raises:
        ConfigError: It is neither.
    """
    if match := _DIGEST.fullmatch(root):
        return match[1]
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
    folder: Path, registry: str, root: str | None, fetch: Callable[[], bytes], *, first_use: bool
) -> Anchor:
    """The root to trust; metadata in the cache that another root was trusted for is thrown away.

    Args:
        folder: The cache of this registry.
        registry: Its address.
        root: What the administrator names.
        fetch: Gets the first root from the registry.
        first_use: Whether the registry's own word is enough when nothing else is known.

    Raises:
        ConfigError: What the administrator names is no root.
        RegistryError: Nothing is known, or the registry has another root.
    """
    known = _remembered(folder)
    wanted = read_root(root) if root is not None else None
    if isinstance(wanted, bytes):
        found = Anchor(wanted, hashlib.sha256(wanted).hexdigest(), first_use=False)
    elif known is not None and wanted in (None, known.digest):
        return known
    elif wanted is None and not first_use:
        raise RegistryError(
            registry,
            "no root of it is known here, so nothing that it says can be verified. Name its root.json "
            "(root=FILE, --root FILE) or the SHA-256 of it (root='sha256:...'), from its administrator; "
            "trust_on_first_use=True (--trust-first-root) takes the registry's own word this once",
        )
    else:
        data = fetch()
        found = Anchor(data, hashlib.sha256(data).hexdigest(), first_use=wanted is None)
        if wanted not in (None, found.digest):
            raise RegistryError(
                registry,
                f"its first root has the SHA-256 {found.digest}, and trusted is {wanted}; this is not the "
                "registry that was meant, or somebody stands in between. Nothing was taken from it",
                attack="wrong keys",
            )
    try:
        root_metadata = Metadata[Root].from_bytes(found.data)
        root_metadata.verify_delegate(Root.type, root_metadata)
    except (RepositoryError, ValueError, RecursionError) as error:
        if root is not None:
            raise ConfigError("root", f"{root} is no root of a TUF repository: {error}") from None
        raise RegistryError(registry, f"what it gives as its first root is none: {error}") from None
    if known is None or known.digest != found.digest:
        _remember(folder, registry, found, "first use" if found.first_use else "pinned")
    return found


def _remembered(folder: Path) -> Anchor | None:
    try:
        facts = msgspec.json.decode((folder / "trust.json").read_bytes(), type=_Remembered)
        data = (folder / "anchor.json").read_bytes()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    digest = hashlib.sha256(data).hexdigest()
    return Anchor(data, digest, first_use=False) if digest == facts.root else None


def _remember(folder: Path, registry: str, anchor: Anchor, how: str) -> None:
    shutil.rmtree(folder / "metadata", ignore_errors=True)  # verified from another root on
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    facts = _Remembered(registry, anchor.digest, how, since)
    replace_file(str(folder / "anchor.json"), [anchor.data], 0o600)
    replace_file(str(folder / "trust.json"), [msgspec.json.encode(facts), b"\n"], 0o600)
