"""Plugins that are named, not shown: ``my-plugin@^1.2`` of a registry, as it is installed and locked."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from .deployment import Source
from .loader import PluginLoader
from .metadata import is_id

if TYPE_CHECKING:
    from .marketplace.market import PluginMarketplace
    from .registry.client import PluginRegistry


class Supply:
    """Where plugins come from that are named as in a registry; without one, every name is a path.

    Args:
        registry: An address, a registry, or a marketplace with settings of its own.
        folder: Where plugins are installed; of no use with a marketplace.
        policy: The policy file that says whose signatures they need; of no use with a marketplace.
        loader: Finds what is no registry's.

    Attributes:
        market: The marketplace, if there is a registry.

    Raises:
        ConfigError: The packages that talk to registries are not installed.
    """

    def __init__(
        self,
        registry: "str | PluginRegistry | PluginMarketplace | None",
        folder: str | os.PathLike[str],
        policy: str | os.PathLike[str] | None,
        loader: PluginLoader,
    ) -> None:
        self._loader = loader
        self.market = None if registry is None else _marketplace(registry, folder, policy)

    async def find(self, source: Source) -> tuple[Source, dict[str, Source]]:
        """Where a plugin is, once it is installed if it is one of the registry; the same of what it needs.

        Raises:
            PluginError: It cannot be installed.
            ValueError: What stands behind the ``@`` is no range of versions.
        """
        market, name = self.market, source.path
        if market is None or not (market.takes(name) or await self._is_installed(market, name)):
            return source, {}
        *others, named = await market.provide(name)
        needed = {
            one.plugin: Source(
                one.path, isolation=source.isolation, sha256=one.sha256, origin=f"{one.plugin}@"
            )
            for one in others
        }
        origin = name if "@" in name else f"{name}@"
        return replace(source, path=named.path, sha256=named.sha256, origin=origin), needed

    async def current(self, source: Source) -> Source:
        """Where a plugin is now: what is installed, if it is one of the registry, or where it was."""
        if self.market is not None and source.origin:
            there = await self.market.locked(source.origin.partition("@")[0])
            if there is not None:
                return replace(source, path=there.path, sha256=there.sha256)
        return source

    async def _is_installed(self, market: "PluginMarketplace", name: str) -> bool:
        """Whether a bare name means a plugin from the registry: nothing is there, or in the plugin paths."""
        if not is_id(name) or self._loader.has(name):
            return False
        return await market.locked(name) is not None


def _marketplace(
    registry: "str | PluginRegistry | PluginMarketplace",
    folder: str | os.PathLike[str],
    policy: str | os.PathLike[str] | None,
) -> "PluginMarketplace":
    from .registry.client import PluginRegistry, require_installed  # most programs talk to no registry

    require_installed()
    from .marketplace.market import PluginMarketplace

    if isinstance(registry, PluginMarketplace):
        return registry
    if isinstance(registry, str):
        registry = PluginRegistry(registry)
    return PluginMarketplace(registry, folder, policy=policy)
