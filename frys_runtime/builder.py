"""The settings of a manager, one by one."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, Self

from .audit import AuditLog
from .bus.config import BusConfig
from .config import IsolationLevel, SandboxConfig

if TYPE_CHECKING:
    from .marketplace.market import PluginMarketplace
    from .registry.client import PluginRegistry


class Opened(Protocol):
    """A manager, as far as its builder knows it."""

    async def __aenter__(self) -> Self:
        """Make it ready."""


class PluginManagerBuilder[Manager: Opened]:
    """Collects settings; :meth:`build` makes the manager. Get one from :meth:`PluginManager.builder`.

    Args:
        make: The manager's class.
    """

    def __init__(self, make: Callable[..., Manager]) -> None:
        self._make = make
        self._settings: dict[str, Any] = {}
        self._paths: list[str | os.PathLike[str]] = []

    def with_sandbox(self, on: bool) -> Self:
        """The jail; ``False`` is refused by :meth:`build`."""
        return self._with(sandbox=on)

    def with_hot_reload(self, on: bool) -> Self:
        """Reload a plugin when its file was saved."""
        return self._with(hot_reload=on)

    def with_bus(self, bus: bool | str | os.PathLike[str] | BusConfig = True) -> Self:
        """Take part in the message bus: in the user's own folder, or a folder, or with settings."""
        return self._with(bus=bus)

    def with_tracing(self, on: bool = True) -> Self:
        """Make a span of OpenTelemetry for each call of a plugin."""
        return self._with(tracing=on)

    def with_policy(self, path: str | os.PathLike[str]) -> Self:
        """A policy file for everything that is loaded."""
        return self._with(policy=path)

    def with_isolation(self, level: IsolationLevel | str) -> Self:
        """The level for plugins without a policy."""
        return self._with(isolation=level)

    def with_audit(self, log: str | os.PathLike[str] | AuditLog, *, required: bool = False) -> Self:
        """A file for the audit log; ``required``: nothing is loaded while it cannot be written."""
        return self._with(audit=log, audit_required=required)

    def with_state_dir(self, folder: str | os.PathLike[str]) -> Self:
        """A folder for what plugins keep in their key-value stores, and for compiled code."""
        return self._with(state_dir=folder)

    def with_restore(self, on: bool = True) -> Self:
        """Remember in the state folder what is loaded, and load it again at the start."""
        return self._with(restore=on)

    def with_registry(
        self, registry: "str | PluginRegistry | PluginMarketplace", folder: str | os.PathLike[str] = "plugins"
    ) -> Self:
        """A registry, and where plugins from it are installed; or a marketplace, which has both."""
        return self._with(registry=registry, registry_dir=folder)

    def resource_limits(self, limits: SandboxConfig) -> Self:
        """Limits and grants of the host program, over the policy's."""
        return self._with(resource_limits=limits)

    def max_plugins(self, count: int) -> Self:
        """How many plugins may be loaded at once."""
        return self._with(max_plugins=count)

    def add_plugin_path(self, path: str | os.PathLike[str]) -> Self:
        """A folder in which a bare plugin name, and what plugins depend on, is looked up."""
        self._paths.append(path)
        return self

    def _with(self, **settings: Any) -> Self:
        self._settings |= settings
        return self

    async def build(self) -> Manager:
        """Make the manager, ready to load.

        Raises:
            ConfigError: A setting is wrong.
            InitializationFailed: The machine does not let it work.
        """
        return await self._make(plugin_paths=self._paths, **self._settings).__aenter__()
