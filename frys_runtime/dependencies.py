"""Whether a plugin fits those that are loaded: what it depends on is there, and versions fit both ways."""

from collections.abc import Iterator, Mapping, Sequence

from .errors import DependencyError, Incompatible
from .metadata import Dependency, Metadata
from .ranges import Range, Version

type Loaded = Mapping[str, Sequence[Metadata]]
"""The versions of each plugin that are loaded, by the id that it has there."""


def check(metadata: Metadata, loaded: Loaded) -> None:
    """Refuse a plugin that does not fit, whichever of the two plugins was loaded first.

    Args:
        metadata: The plugin's; its ``id`` is the one under which it is to be loaded.
        loaded: What stays loaded beside it; other versions of itself may be among that.

    Raises:
        DependencyError: Another plugin that it needs is not loaded.
        Incompatible: No version that is there is in the range that a dependant declares.
    """
    check_needs(metadata, loaded)
    versions = [*loaded.get(metadata.id, ()), metadata]
    for dependant, needed in _dependants(metadata.id, loaded):
        _fit(dependant, needed, versions)


def check_needs(metadata: Metadata, loaded: Loaded) -> None:
    """Refuse a plugin that lacks what it depends on.

    Raises:
        DependencyError: Another plugin that it needs is not loaded.
        Incompatible: No version that is there is in the range that it declares.
    """
    for needed in metadata.dependencies:
        if needed.plugin_id == metadata.id:
            raise DependencyError(metadata.id, needed.plugin_id, "that is itself; remove it from plugin.json")
        there = loaded.get(needed.plugin_id, ())
        if there:
            _fit(metadata, needed, there)
        elif not needed.optional:
            raise DependencyError(
                metadata.id,
                needed.plugin_id,
                f"no plugin of that id is loaded; load a version {needed.version_range} of it first, "
                f'or say "optional": true in the plugin.json if {metadata.id} can do without',
            )


def check_leaving(leaving: Metadata, loaded: Loaded) -> None:
    """Refuse that a version goes on which somebody depends.

    Args:
        leaving: The version's metadata; its ``id`` is the one under which it is loaded.
        loaded: What stays loaded, with what comes in its place.

    Raises:
        DependencyError: It names those that would be left without a version in their range.
    """
    versions = loaded.get(leaving.id, ())
    left = [
        (dependant, needed)
        for dependant, needed in _dependants(leaving.id, loaded)
        if not _fits(needed, versions) and not (needed.optional and not versions)
    ]
    if left:
        who = " and ".join(f"{other.id} {other.version} ({needed.version_range})" for other, needed in left)
        raise DependencyError(
            left[0][0].id,
            leaving.id,
            f"without {leaving.id} {leaving.version}, {who} would have no version that fits "
            f"(left: {', '.join(other.version for other in versions) or 'none'}); unload what depends on it "
            "first, or use force=True",
            tuple(
                f"{other.id} {other.version} > {leaving.id} {needed.version_range}" for other, needed in left
            ),
        )


def _dependants(plugin_id: str, loaded: Loaded) -> Iterator[tuple[Metadata, Dependency]]:
    for name, versions in loaded.items():
        for other in versions:
            for needed in other.dependencies:
                if needed.plugin_id == plugin_id and name != plugin_id:
                    yield other, needed


def _fits(needed: Dependency, versions: Sequence[Metadata]) -> bool:
    accepted = Range.parse(needed.version_range)
    return any(accepted.matches(Version.parse(there.version)) for there in versions)


def _fit(dependant: Metadata, needed: Dependency, versions: Sequence[Metadata]) -> None:
    if not _fits(needed, versions):
        raise Incompatible(
            dependant.id,
            f"{needed.plugin_id} {needed.version_range} (says its version {dependant.version})",
            f"{needed.plugin_id} {' and '.join(there.version for there in versions)}",
        )
