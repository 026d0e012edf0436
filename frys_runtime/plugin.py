"""A loaded plugin as a local object, and what is told about plugins."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from .breaker import Circuit
from .config import IsolationLevel, ResourceUsage
from .deployment import Deployment, Release
from .messages import MessageValue
from .metadata import Metadata
from .ranges import Range
from .reload import Reloaded
from .states import PluginState


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One loaded version of a plugin, as :meth:`PluginManager.list_plugins` names it."""

    id: str
    version: str
    format: str
    isolation: IsolationLevel
    state: PluginState
    functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One loaded version beside others, as :meth:`PluginManager.versions` names it.

    Attributes:
        version: The version.
        path: Where it was loaded from.
        state: Where it is in its life.
        weight: Its share of the calls that name no version, between 0 and 1.
        canary: It is on trial.
        pinned: The host program has chosen it for calls that name no version.
        calls: Calls that were made to it.
        errors: Of these, those that gave no result.
    """

    version: str
    path: str
    state: PluginState
    weight: float
    canary: bool
    pinned: bool
    calls: int
    errors: int


class Front(Protocol):
    """The manager, as far as a plugin's object uses it."""

    async def execute_plugin(
        self, plugin_id: str, function: str, *args: MessageValue, timeout_ms: int | None = None
    ) -> MessageValue:
        """Call a function."""

    async def reload_plugin(self, plugin_id: str) -> Reloaded:
        """Replace it by what its file is now."""

    async def unload_plugin(self, plugin_id: str, *, force: bool = False, drain_ms: int = 0) -> None:
        """End it."""


class Plugin:
    """A loaded plugin as a local object; get one from :meth:`PluginManager.plugin`.

    After a reload it is the new version.
    """

    def __init__(self, manager: Front, deployment: Deployment, address: str, wanted: Range | None) -> None:
        self._manager, self._deployment = manager, deployment
        self._address, self._wanted = address, wanted
        self._last = deployment.match(wanted)

    @property
    def _release(self) -> Release:
        """The version that it is now, or the last that it was."""
        if not self._deployment.closed:
            self._last = self._deployment.match(self._wanted)
        return self._last

    @property
    def id(self) -> str:
        """What it is called by: its id, with a version behind ``@`` if it was asked for with one."""
        return self._address

    @property
    def metadata(self) -> Metadata:
        """What its plugin.json says."""
        return self._release.metadata

    @property
    def state(self) -> PluginState:
        """Where it is in its life."""
        return self._release.pool.state

    @property
    def functions(self) -> dict[str, str]:
        """Callable functions with signatures for people, in the plugin's own (untrusted) words."""
        return dict(self._release.functions)

    @property
    def layers(self) -> frozenset[str]:
        """The layers of the jail that are in force around its process."""
        return self._release.pool.layers

    @property
    def pids(self) -> tuple[int, ...]:
        """All its processes."""
        return self._release.pool.pids

    @property
    def circuit(self) -> Circuit:
        """Whether its circuit breaker lets calls through."""
        return self._release.pool.circuit

    @property
    def pid(self) -> int | None:
        """A process of it, as the host's kernel numbers it; ``None`` while none runs."""
        return self._release.pool.pid

    @property
    def violations(self) -> int:
        """How often it tried what is forbidden, over all its processes."""
        return self._release.pool.violations

    @property
    def load_ms(self) -> float:
        """Milliseconds that the last start took, from the request to ready."""
        return self._release.pool.load_ms

    async def call(self, function: str, *args: MessageValue, timeout_ms: int | None = None) -> MessageValue:
        """Call a function; see :meth:`PluginManager.execute_plugin`."""
        return await self._manager.execute_plugin(self._address, function, *args, timeout_ms=timeout_ms)

    def resource_usage(self) -> ResourceUsage:
        """What it uses now, read from the kernel."""
        return self._release.pool.usage()

    def watch(
        self, interval: float = 1.0, *, thresholds: Mapping[str, float] | None = None
    ) -> AsyncIterator[ResourceUsage]:
        """What it uses, again and again, until it is unloaded: ``async for usage in plugin.watch(0.5)``.

        The plugin does not notice. A sample costs the host some reads of small kernel files (0.1 to 0.2 ms)
        and has no ``memory_private``. The first comes at once. A version that is replaced ends its stream.

        Args:
            interval: Seconds between samples, 0.01 or more.
            thresholds: Values by the name of a figure, ``{"memory_usage": 48 << 20}``. A sample that is the
                first to reach one raises an event ``threshold``; the next comes when it was below meanwhile.

        Raises:
            ValueError: The interval is too short, or there is no such figure.
        """
        return self._release.pool.watch(interval, thresholds or {})

    async def reload(self) -> Reloaded:
        """Replace it by what its file is now; see :meth:`PluginManager.reload_plugin`."""
        return await self._manager.reload_plugin(self._address)

    async def unload(self, *, drain_ms: int = 0) -> None:
        """End it and give back all that it held; see :meth:`PluginManager.unload_plugin`."""
        await self._manager.unload_plugin(self._address, drain_ms=drain_ms)

    async def check_health(self) -> None:
        """Have a process of it answer, and its health function say that all is well.

        Raises:
            PluginError: It does not, and why; an unhealthy process is replaced.
        """
        await self._release.pool.check_health()

    async def suspend(self) -> None:
        """Freeze its processes; calls wait until :meth:`resume`, or until their deadline.

        Raises:
            Unavailable: It is in a state in which there is nothing to freeze, such as quarantine.
        """
        await self._release.pool.suspend()

    async def resume(self) -> None:
        """Let it take calls again: after :meth:`suspend`, in quarantine, or after failures in a row.

        Raises:
            CommunicationError: It is disabled or being unloaded, which nothing takes back.
        """
        await self._release.pool.resume()

    def __repr__(self) -> str:
        return f"<Plugin {self.id} {self.metadata.version} {self.state}>"


def about(release: Release) -> PluginInfo:
    """A version that serves, as it is listed."""
    return PluginInfo(
        id=release.plugin_id,
        version=release.metadata.version,
        format=release.metadata.format,
        isolation=release.pool.confinement.level,
        state=release.pool.state,
        functions=tuple(sorted(release.functions)),
    )


def versions(deployment: Deployment) -> list[VersionInfo]:
    """The versions of a plugin, in the order of loading, and at last the one that is on trial."""
    trial = deployment.trial
    usual = deployment.match()
    found = []
    for release in (*deployment.releases, *((trial.canary,) if trial else ())):
        weight = 1.0 if release is usual else 0.0
        if trial is not None and usual is trial.stable:
            weight = {trial.stable: 1 - trial.rules.weight, trial.canary: trial.rules.weight}.get(
                release, weight
            )
        found.append(
            VersionInfo(
                version=str(release.version),
                path=release.source.path,
                state=release.pool.state,
                weight=weight,
                canary=trial is not None and release is trial.canary,
                pinned=deployment.pinned is not None and release is usual,
                calls=release.pool.calls,
                errors=release.pool.failures,
            )
        )
    return found
