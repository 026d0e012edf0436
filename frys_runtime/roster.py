"""What was loaded, in a file: a host program that died finds its plugins again.

The file is written whole or not at all, and read strictly: it says which code is run with which grants, so
what is damaged is not believed in part.
"""

import dataclasses
import hashlib
import os
from typing import Any, Final

import msgspec

from .config import SandboxConfig
from .durable import replace_file
from .errors import ConfigError
from .metadata import Metadata

_MAX_BYTES: Final = 64 << 20
_DIGEST: Final = 64


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One plugin as it was loaded.

    Attributes:
        path: Where from; absolute.
        plugin_id: Under which id.
        isolation: The level that the host program chose for it, if it did.
        sandbox: Limits and grants of the host program, as values by name.
        metadata: What the host program vouched for in place of a plugin.json.
    """

    path: str
    plugin_id: str
    isolation: str | None = None
    sandbox: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    @staticmethod
    def of(
        path: str | os.PathLike[str],
        plugin_id: str,
        isolation: str | None,
        sandbox: SandboxConfig | None,
        metadata: Metadata | None,
    ) -> "Entry":
        """An entry of what :meth:`frys_runtime.manager.PluginManager.load_plugin` was given."""
        there = os.path.lexists(path)  # otherwise a name to look up in the plugin paths
        return Entry(
            os.path.abspath(path) if there else os.fspath(path),
            plugin_id,
            None if isolation is None else str(isolation),
            None if sandbox is None else dataclasses.asdict(sandbox),
            None if metadata is None else msgspec.to_builtins(metadata),
        )

    def arguments(self) -> dict[str, Any]:
        """What to give it again.

        Raises:
            ConfigError: A value makes no sense in this version of Frys.
        """
        try:
            sandbox = None if self.sandbox is None else SandboxConfig(**self.sandbox)
            metadata = None if self.metadata is None else msgspec.convert(self.metadata, Metadata)
        except (TypeError, msgspec.ValidationError) as error:
            raise ConfigError(f"what was remembered of {self.plugin_id}", str(error)) from None
        given = {"isolation": self.isolation, "sandbox": sandbox, "metadata": metadata}
        return {"plugin_id": self.plugin_id, **given}


def read(path: str) -> list[Entry]:
    """The plugins that were loaded; none where there is no file yet.

    Raises:
        ConfigError: The file is damaged, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(path, f"cannot be read: {error.strerror}") from None
    digest, content = data[:_DIGEST], data[_DIGEST + 1 :]
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ConfigError(path, "is damaged: its content does not have the SHA-256 in its first line")
    try:
        return msgspec.json.decode(content, type=list[Entry])
    except msgspec.DecodeError as error:
        raise ConfigError(path, f"was not written by this version of Frys: {error}") from None


def write(path: str, entries: list[Entry]) -> None:
    """Replace the file.

    Raises:
        OSError: It cannot be written; the one before is still there.
    """
    content = msgspec.json.format(msgspec.json.encode(entries), indent=1)
    replace_file(path, [hashlib.sha256(content).hexdigest().encode(), b"\n", content], 0o600)
