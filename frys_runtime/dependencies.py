"""Whether a plugin fits those that are loaded: what it depends on is there, and versions fit both ways."""

from collections.abc import Iterator, Mapping

from .errors import DependencyError, Incompatible
from .metadata import Dependency, Metadata
from .ranges import Range, Version


def check(metadata: Metadata, loaded: Mapping[str, Metadata]) -> None:
    """Refuse a plugin that does not fit, whichever of the two plugins was loaded first.

    Args:
        metadata: The plugin's; its ``id`` is the one under which it is to be loaded.
        loaded: What is loaded, by the id that it has there. Nothing in it is named like the plugin.

    Raises:
        DependencyError: Another plugin that it needs is not loaded.
        Incompatible: A version that is there is outside of the range that a dependant declares.
    """
    for needed in metadata.dependencies:
        if needed.plugin_id == metadata.id:
            raise DependencyError(metadata.id, needed.plugin_id, "that is itself; remove it from plugin.json")
        there = loaded.get(needed.plugin_id)
        if there is not None:
            _fit(metadata.id, metadata.version, needed, there.version)
        elif not needed.optional:
            raise DependencyError(
                metadata.id,
                needed.plugin_id,
                f"no plugin of that id is loaded; load a version {needed.version_range} of it first, "
                f'or say "optional": true in the plugin.json if {metadata.id} can do without',
            )
    for dependant, needed in _dependants(metadata.id, loaded):
        _fit(dependant, loaded[dependant].version, needed, metadata.version)


def _dependants(plugin_id: str, loaded: Mapping[str, Metadata]) -> Iterator[tuple[str, Dependency]]:
    for dependant, other in loaded.items():
        for needed in other.dependencies:
            if needed.plugin_id == plugin_id:
                yield dependant, needed


def _fit(dependant: str, version: str, needed: Dependency, found: str) -> None:
    if not Range.parse(needed.version_range).matches(Version.parse(found)):
        raise Incompatible(
            dependant,
            f"{needed.plugin_id} {needed.version_range} (says its version {version})",
            f"{needed.plugin_id} {found}",
        )
