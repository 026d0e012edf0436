"""The settings of a registry: ``registry.json`` in its folder."""

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ..errors import ConfigError
from ..metadata import convert, decode_object

FILE: Final = "registry.json"

type _Count = Annotated[int, Meta(ge=1, le=1 << 40)]
type _Rate = Annotated[float, Meta(gt=0, le=1e9)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What an administrator decides; every key may be left out.

    Attributes:
        title: The name on the pages.
        url: How others reach the registry, such as ``https://plugins.example.com``; without it, pages name
            the address that the browser asked for.
        require_signature: Whether a package is only taken with a signature.
        reserved: Ids that nobody may take, beside those that are always reserved.
        max_package: Bytes of a package.
        max_versions: Versions of one plugin.
        reads_per_second: Requests that one address may make, on average,
        reads_burst: and at once.
        writes_per_minute: Changes that one token may make, on average,
        writes_burst: and at once.
        max_connections: Open connections of all clients,
        max_connections_per_address: and of one address. Behind a proxy all have the proxy's: raise it.
        header_timeout: Seconds for a request's headers to arrive.
        transfer_timeout: Seconds for a client to take what waits for it (64 KiB are held for it at most); an
            upload has as long, and a second more for every 16 KiB that came.
        timestamp_lifetime: Seconds for which a client believes the newest metadata without asking again.
        snapshot_lifetime: Seconds for which it believes a list of the metadata files.
        role_lifetime: Seconds for which it believes a publisher's metadata.
    """

    title: Annotated[str, Meta(min_length=1, max_length=100)] = "Frys plugins"
    url: Annotated[str, Meta(pattern=r"^(https?://[^\s?#]+)?\Z", max_length=200)] = ""
    require_signature: bool = False
    reserved: tuple[str, ...] = ()
    max_package: _Count = 256 << 20
    max_versions: _Count = 2000
    reads_per_second: _Rate = 100
    reads_burst: _Count = 2000
    writes_per_minute: _Rate = 60
    writes_burst: _Count = 60
    max_connections: _Count = 2000
    max_connections_per_address: _Count = 500
    header_timeout: _Rate = 15
    transfer_timeout: _Rate = 30
    timestamp_lifetime: _Count = 24 * 3600
    snapshot_lifetime: _Count = 7 * 24 * 3600
    role_lifetime: _Count = 90 * 24 * 3600


def blob_path(folder: Path, digest: str) -> Path:
    """Where a registry keeps the package with a SHA-256."""
    return folder / "blobs" / digest[:2] / digest


def read_settings(folder: str | os.PathLike[str]) -> Settings:
    """Read the settings of a registry.

    Raises:
        ConfigError: There is no registry in the folder, or its settings are wrong.
    """
    path = Path(folder, FILE)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            str(folder), f"is no registry: {FILE}: {error.strerror}; `frys registry init {folder}` makes one"
        ) from None
    return convert(decode_object(data, str(path)), Settings, str(path), "")


def write_settings(folder: str | os.PathLike[str], settings: Settings) -> None:
    """Write the settings of a new registry."""
    data = msgspec.json.format(msgspec.json.encode(settings), indent=2)
    Path(folder, FILE).write_bytes(data + b"\n")
