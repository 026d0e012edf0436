"""``frys.lock``: what is installed, from where, and with which bytes."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ..errors import ConfigError, DependencyError
from ..metadata import convert, decode_object, is_id
from ..package_format import SUFFIX
from ..ranges import MAX_RANGE, MAX_VERSION, Range, Version
from ..registry.oci import SCHEME
from ..registry.types import Kind, Needs

FILE: Final = "frys.lock"
_MAX: Final = 16 << 20
_MAX_ROLLED_BACK: Final = 100

type _Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
type _Words = tuple[Annotated[str, Meta(max_length=128)], ...]


def place_of(sha256: str, beside: Mapping[Kind, str]) -> str:
    """The name of the folder of a package: others, with the same package and other signatures, differ."""
    if not beside:
        return sha256
    text = "\n".join([sha256, *(f"{suffix} {digest}" for suffix, digest in sorted(beside.items()))])
    return hashlib.sha256(text.encode()).hexdigest()


class Locked(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """An installed plugin.

    Attributes:
        version: Its version.
        sha256: Of its package.
        size: Bytes of its package.
        beside: The SHA-256 of what lies beside its package, by the end of that file's name.
        signers: The ids of the keys that the signature file names.
        source: The registry that it came from, or its OCI reference with the digest.
        published: When the registry took it (RFC 3339, UTC); empty when nobody vouches for a time.
        format: Its kind.
        capabilities: What it says it is good for.
        permissions: What it asks for.
        optional_permissions: What it asks for and can do without.
        dependencies: What it depends on.
    """

    version: Annotated[str, Meta(max_length=MAX_VERSION)]
    sha256: _Digest
    size: Annotated[int, Meta(ge=0)]
    beside: dict[Kind, _Digest] = {}
    signers: _Words = ()
    source: Annotated[str, Meta(min_length=1, max_length=2048)]
    published: Annotated[str, Meta(max_length=40)] = ""
    format: Annotated[str, Meta(max_length=40)]
    capabilities: _Words = ()
    permissions: _Words = ()
    optional_permissions: _Words = ()
    dependencies: tuple[Needs, ...] = ()

    @property
    def number(self) -> Version:
        """The version, to be compared."""
        return Version.parse(self.version)

    @property
    def is_oci(self) -> bool:
        """Whether it came by an OCI reference."""
        return self.source.startswith(SCHEME)

    def path(self, plugin: str) -> str:
        """Where its package lies, relative to the folder."""
        return f"packages/{self.place}/{plugin}-{self.version}{SUFFIX}"

    @property
    def place(self) -> str:
        """The name of the folder that holds its package and what lies beside it."""
        return place_of(self.sha256, self.beside)


class Lock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of ``frys.lock``.

    Attributes:
        lock: The version of the format.
        registries: The root of each registry that something came from, as ``sha256:`` and its digest.
        requested: What was asked for by name, and in which range; the rest is there because these need it.
        plugins: All that is installed.
        rolled_back: Versions by plugin that did not serve well and are not taken by themselves again.
    """

    lock: Literal[1] = 1
    registries: dict[str, Annotated[str, Meta(pattern=r"^([1-9][0-9]*\.)?sha256:[0-9a-f]{64}\Z")]] = {}
    requested: dict[str, Annotated[str, Meta(max_length=MAX_RANGE)]] = {}
    plugins: dict[str, Locked] = {}
    rolled_back: dict[str, _Words] = {}

    def __post_init__(self) -> None:
        """Refuse names and versions that are none: they become paths."""
        if not all(map(is_id, (*self.requested, *self.plugins, *self.rolled_back))):
            raise ValueError("a plugin's id is none")
        for entry in self.plugins.values():
            Version.parse(entry.version)
        for wanted in self.requested.values():
            Range.parse(wanted)
        for versions in self.rolled_back.values():
            for version in versions:
                Version.parse(version)

    def needed(self, plugin: str) -> list[str]:
        """A plugin and all that it needs, each behind what it needs itself.

        Raises:
            DependencyError: They need each other.
        """
        graph: dict[str, list[str]] = {}
        waiting = [plugin]
        while waiting:
            name = waiting.pop()
            if name not in graph and name in self.plugins:
                needs = self.plugins[name].dependencies
                graph[name] = [need.id for need in needs if not need.optional and need.id in self.plugins]
                waiting += graph[name]
        try:
            return list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            ring = " > ".join(reversed(error.args[1]))
            raise DependencyError(
                plugin, ring, "they need each other, so none can be loaded first; make one of these optional"
            ) from None

    def dependants(self, plugin: str) -> Iterator[tuple[str, Needs]]:
        """Who needs a plugin, and how."""
        for name, entry in self.plugins.items():
            for need in entry.dependencies:
                if need.id == plugin and not need.optional:
                    yield name, need

    def without_orphans(self) -> "Lock":
        """The same without what nobody asked for and nobody needs any more."""
        kept: set[str] = set()
        for plugin in self.requested:
            kept.update(self.needed(plugin))
        return msgspec.structs.replace(
            self, plugins={name: entry for name, entry in self.plugins.items() if name in kept}
        )

    def without_version(self, plugin: str, version: str) -> "Lock":
        """The same with a version that is not to be taken by itself again."""
        there = self.rolled_back.get(plugin, ())
        if version in there:
            return self
        kept = (*there, version)[-_MAX_ROLLED_BACK:]
        return msgspec.structs.replace(self, rolled_back={**self.rolled_back, plugin: kept})

    def rolled_back_before(self, before: "Lock") -> "Lock":
        """The same with what an older state has been rolled back from, as far as that is still ahead."""
        ahead = {
            plugin: tuple(one for one in versions if Version.parse(one) > self.plugins[plugin].number)
            for plugin, versions in before.rolled_back.items()
            if plugin in self.plugins
        }
        found = {plugin: versions for plugin, versions in ahead.items() if versions}
        return msgspec.structs.replace(self, rolled_back=found)

    def encode(self) -> bytes:
        """The bytes of the file, the same for the same content."""
        builtins = msgspec.to_builtins(self)
        return (json.dumps(_without_empty(builtins), indent=2, sort_keys=True) + "\n").encode()


def _without_empty(document: dict[str, object]) -> dict[str, object]:
    plugins = document["plugins"]
    assert isinstance(plugins, dict)
    short = {
        name: {key: value for key, value in entry.items() if value not in ("", [], (), {})}
        for name, entry in plugins.items()
    }
    found = {**document, "plugins": short}
    if not found["rolled_back"]:
        del found["rolled_back"]
    return found


def read_lock(folder: str | os.PathLike[str]) -> Lock:
    """Read the lock of a folder; an empty one where nothing was installed yet.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    path = Path(folder, FILE)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX + 1)
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    return convert(decode_object(data, str(path), _MAX), Lock, str(path), "")
