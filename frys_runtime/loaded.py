"""What is loaded in one manager: how plugins come, which fit each other, and how they go."""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final

from msgspec.structs import replace as with_changes

from . import dependencies
from .admission import Admission, digest as digest_of
from .communicator import PluginCommunicator
from .deployment import Deployment, Release, Source
from .errors import (
    AlreadyLoaded,
    ConfigError,
    Incompatible,
    InitializationFailed,
    LoadFailed,
    MaxPluginsExceeded,
    PluginError,
    PluginNotFound,
)
from .events import Events
from .loader import Bundle, PluginLoader
from .metadata import ID_RULE, Metadata, is_id
from .pool import Pool
from .ranges import Range, Version, split_address

NOTHING: Final[Mapping[str, Source]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ManagerStats:
    """Counts over the manager's life.

    Attributes:
        plugins: Plugins that are loaded now.
        calls: Calls that were made.
        failures: Calls that did not give a result.
        restarts: Fresh instances that replaced dead ones.
        violations: Times that a plugin tried what is forbidden.
    """

    plugins: int
    calls: int
    failures: int
    restarts: int
    violations: int = 0


class LoadedPlugins:
    """The plugins of one manager.

    Args:
        admission: Makes their pools.
        loader: Finds what they depend on.
        communicator: Told of those that come and go.
        events: Where it is told.
        most: How many there may be.

    Attributes:
        deployments: The versions of each plugin, by id.
    """

    def __init__(
        self,
        admission: Admission,
        loader: PluginLoader,
        communicator: PluginCommunicator,
        events: Events,
        most: int,
    ) -> None:
        self.deployments: dict[str, Deployment] = {}
        self._listeners: list[Callable[[], None]] = []
        self._admission, self._loader = admission, loader
        self._communicator, self._events = communicator, events
        self._most = most
        self._loading: dict[str, str] = {}
        self._resolving = asyncio.Lock()
        self._no_loads = asyncio.Event()
        self._no_loads.set()
        self._cut = asyncio.Event()
        self._closed = False
        self._leaving: list[tuple[Deployment, int]] = []
        self._past = ManagerStats(0, 0, 0, 0)

    def check_open(self) -> None:
        """Refuse what comes after the end.

        Raises:
            InitializationFailed: It was closed.
        """
        if self._closed:
            raise InitializationFailed("the manager", "it was closed; make a new one")

    def find(self, address: str) -> tuple[Deployment, Range | None]:
        """A plugin by its address, and the range in that.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
            ValueError: That is no address.
        """
        self.check_open()
        plugin_id, wanted = split_address(address)
        deployment = self.deployments.get(plugin_id)
        if deployment is None:
            raise PluginNotFound(address)
        return deployment, wanted

    def releases(self) -> list[Release]:
        """Every version that serves, without those on trial, in the order of loading."""
        return [release for deployment in self.deployments.values() for release in deployment.releases]

    # How they come.

    async def load(
        self,
        source: Source,
        wanted: Range | None = None,
        *,
        beside: bool,
        resolve: bool = True,
        installed: Mapping[str, Source] = NOTHING,
    ) -> str:
        """Load a plugin, after those that it depends on.

        Args:
            source: Where it is.
            wanted: The versions that it may have.
            beside: Also when other versions of it are loaded.
            resolve: Whether what it depends on is looked for.
            installed: Where to take what it depends on from, by id, each after what it needs itself; the rest
                is looked for in the plugin paths.

        Returns:
            Its address.
        """
        if source.plugin_id is not None and not is_id(source.plugin_id):
            raise ConfigError("plugin_id", f"{source.plugin_id[:100]!r} is no id; it {ID_RULE}")
        bundle = await self._admission.read(source)
        name = source.plugin_id if source.plugin_id is not None else bundle.metadata.id
        version = Version.parse(bundle.metadata.version)
        address = f"{name}@{version}" if beside else name
        try:
            if wanted is not None and not wanted.matches(version):
                there = f"version {version} in {source.path}"
                raise Incompatible("the host program", f"{name}@{wanted}", there)
            self._reserve(name, version, address)
        except PluginError:
            bundle.close()
            raise
        brought: list[str] = []
        try:
            if resolve:
                await self._load_needed(name, bundle, installed, brought)
            await self._start(name, bundle, replace(source, path=self.locate(source.path)))
        except BaseException:
            bundle.close()
            await self._take_back(brought)
            raise
        finally:
            del self._loading[address]
            if not self._loading:
                self._no_loads.set()
        return address

    def _reserve(self, name: str, version: Version, address: str) -> None:
        deployment = self.deployments.get(name)
        if address == name:
            taken = deployment is not None or name in self._loading.values()
        else:
            taken = address in self._loading or name in self._loading
            taken = taken or (deployment is not None and deployment.holds(version))
        if taken:
            raise AlreadyLoaded(address)
        if len(self.releases()) + len(self._loading) >= self._most:
            raise MaxPluginsExceeded(self._most)
        self._loading[address] = name
        self._no_loads.clear()

    async def _start(self, name: str, bundle: Bundle, source: Source) -> None:
        self._must_fit(name, bundle.metadata)
        digest = digest_of(bundle)
        pool = await self._admission.pool(name, bundle, source)
        try:
            await pool.start()
            release = Release(pool, source, digest)
            release.check_declared()
            self.check_open()
            self._must_fit(name, bundle.metadata)  # what was loaded meanwhile, too
        except BaseException:
            await pool.close()
            self.count(pool)
            raise
        deployment = self.deployments.setdefault(name, Deployment(name))
        deployment.add(release)
        unheard = self.switched(deployment)
        facts = {"pid": pool.pid, "ms": pool.load_ms, "layers": pool.layers, "unheard_events": unheard}
        self._events.publish("loaded", name, version=str(release.version), **facts)

    def locate(self, path: str) -> str:
        """The path to read again later, from whatever folder."""
        try:
            return self._loader.locate(path)
        except LoadFailed:
            return os.path.abspath(path)

    def switched(self, deployment: Deployment) -> dict[str, str]:
        """Other versions of a plugin serve than before.

        Returns:
            The events that the usual one wants and will not get, each with the reason.
        """
        self._tell()
        return self._communicator.add(deployment)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call a function whenever other versions serve than before; it must return at once."""
        self._listeners.append(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    # What depends on what.

    def must_fit_instead(self, name: str, metadata: Metadata, old: Release, force: bool) -> None:
        """Refuse a version in the place of another where it does not fit the other plugins.

        Args:
            name: The plugin's id.
            metadata: The new version's.
            old: The other one.
            force: What depends on the plugin does not count.

        Raises:
            DependencyError, Incompatible: Who needs what.
        """
        loaded, new = self._metadata(old), with_changes(metadata, id=name)
        dependencies.check_needs(new, loaded)
        if not force:
            loaded[name] = [*loaded.get(name, ()), new]
            dependencies.check_leaving(with_changes(old.metadata, id=name), loaded)

    def _must_fit(self, name: str, metadata: Metadata) -> None:
        dependencies.check(with_changes(metadata, id=name), self._metadata())

    def _metadata(self, *without: Release) -> dict[str, list[Metadata]]:
        """The metadata of what is loaded, by the ids under which it is."""
        return {
            name: [
                with_changes(release.metadata, id=name)
                for release in deployment.releases
                if release not in without
            ]
            for name, deployment in self.deployments.items()
        }

    async def _load_needed(
        self, name: str, bundle: Bundle, installed: Mapping[str, Source], brought: list[str]
    ) -> None:
        """Load what a plugin depends on and is not there; what was loaded is added to the list."""
        metadata = with_changes(bundle.metadata, id=name)
        if all(needed.plugin_id in self.deployments for needed in metadata.dependencies):
            return
        from .resolution import resolve  # most programs load nothing that has dependencies

        async with self._resolving:
            for plugin_id, source in installed.items():
                if plugin_id not in self.deployments:
                    brought.append(await self.load(source, beside=False, resolve=False))
            plan = await asyncio.to_thread(resolve, metadata, self._metadata(), self._loader.candidates)
            for needed in [Source(found.path) for found in plan]:
                brought += [await self.load(needed, beside=False, resolve=False)]

    async def _take_back(self, brought: list[str]) -> None:
        """Unload what was loaded only for a plugin that then could not be loaded."""
        for plugin_id in reversed(brought):
            deployment = self.deployments.pop(plugin_id, None)
            if deployment is not None:
                await self._end(deployment)

    # How they go.

    async def unload(self, address: str, *, force: bool, drain_ms: int = 0) -> None:
        """End a plugin, or one of its versions.

        Args:
            address: Which.
            force: Also when another one depends on it.
            drain_ms: Milliseconds in which the calls that it has taken may end.

        Raises:
            PluginNotFound: It is not loaded.
            DependencyError: Another one depends on it.
            ValueError: Several versions are in the range, that is no address, or the time makes no sense.
        """
        check_drain(drain_ms)
        deployment, wanted = self.find(address)
        leaving = [one for one in deployment.releases if wanted is None or wanted.matches(one.version)]
        if not leaving:
            raise PluginNotFound(address)
        if wanted is not None and len(leaving) > 1:
            several = ", ".join(str(release.version) for release in leaving)
            raise ValueError(f"{address} means several versions ({several}); name one of them")
        if not force:
            left = self._metadata(*leaving)
            for release in leaving:
                dependencies.check_leaving(with_changes(release.metadata, id=deployment.plugin_id), left)
        if len(leaving) == len(deployment.releases):
            del self.deployments[deployment.plugin_id]
            await self._end(deployment, drain_ms)
        else:
            await deployment.change(partial(self._remove, deployment, leaving[0], drain_ms))

    async def _remove(self, deployment: Deployment, release: Release, drain_ms: int) -> None:
        """End one version of several, with the one that is on trial against it."""
        if release not in deployment.releases:
            return
        leaving = [release]
        trial = deployment.trial
        if trial is not None and trial.stable is release:
            deployment.end_trial()
            leaving.append(trial.canary)
        deployment.remove(release)
        self.switched(deployment)
        for one in leaving:
            await self._close_release(one, drain_ms)

    async def _end(self, deployment: Deployment, drain_ms: int = 0, cut: int = 0) -> None:
        self._communicator.remove(deployment.plugin_id)
        self._tell()
        await deployment.close(partial(self._close_release, drain_ms=drain_ms, cut=cut))

    async def _close_release(self, release: Release, drain_ms: int = 0, cut: int = 0) -> None:
        pool = release.pool
        if drain_ms:
            cut = await pool.drain(asyncio.get_running_loop().time() + drain_ms / 1000)
        else:
            await pool.close()
        self.count(pool)
        counts = {"calls": pool.calls, "failures": pool.failures, "violations": pool.violations, "cut": cut}
        self._events.publish("unloaded", pool.plugin_id, version=str(release.version), **counts)

    async def drain_all(self, drain_ms: int) -> None:
        """Let calls end, before :meth:`end_all`; nothing can be loaded any more.

        Args:
            drain_ms: Milliseconds in which the calls under way may end, and those that plugins make for them.
        """
        self._closed = True
        deployments = list(self.deployments.values())
        self.deployments.clear()
        cut = [0] * len(deployments)
        if drain_ms:
            cut = await _drain_together(deployments, drain_ms, self._cut)
        self._leaving = list(zip(deployments, cut, strict=True))

    async def end_all(self) -> None:
        """End every plugin."""
        await asyncio.gather(*(self._end(one, cut=left) for one, left in self._leaving))

    def cut(self) -> None:
        """Do not wait any longer for the calls that :meth:`drain_all` lets end."""
        self._cut.set()

    async def no_loads(self) -> None:
        """Wait until no load is under way."""
        await self._no_loads.wait()

    # Counts.

    def count(self, pool: Pool) -> None:
        """Remember what a pool has done that is no more."""
        self._past = _sum(self._past, pool)

    def stats(self) -> ManagerStats:
        """Counts over the manager's life."""
        total = self._past
        for deployment in self.deployments.values():
            for pool in deployment.pools():
                total = _sum(total, pool)
        return replace(total, plugins=len(self.releases()))


def check_drain(drain_ms: int) -> None:
    """Refuse what is no time in which calls may end.

    Raises:
        ValueError: It is none.
    """
    if type(drain_ms) is not int or drain_ms < 0:
        raise ValueError(f"drain_ms must be a whole number of milliseconds, 0 or more, not {drain_ms!r}")


async def _drain_together(deployments: list[Deployment], drain_ms: int, cut: asyncio.Event) -> list[int]:
    """Let all calls end, those among plugins included; how many are left of each plugin."""
    loop = asyncio.get_running_loop()
    pools = [deployment.pools() for deployment in deployments]
    deadline = loop.time() + drain_ms / 1000

    async def settle(deadline: float) -> list[int]:
        await asyncio.gather(*(pool.begin_drain(deadline, nested=True) for some in pools for pool in some))
        return [sum(await asyncio.gather(*(pool.idle(deadline) for pool in some))) for some in pools]

    settling = asyncio.ensure_future(settle(deadline))
    cutting = asyncio.ensure_future(cut.wait())
    try:
        await asyncio.wait((settling, cutting), return_when=asyncio.FIRST_COMPLETED)
        return settling.result() if settling.done() else await settle(loop.time())
    finally:
        settling.cancel()
        cutting.cancel()
        await asyncio.gather(settling, cutting, return_exceptions=True)


def _sum(past: ManagerStats, pool: Pool) -> ManagerStats:
    return ManagerStats(
        plugins=0,
        calls=past.calls + pool.calls,
        failures=past.failures + pool.failures,
        restarts=past.restarts + pool.restarts,
        violations=past.violations + pool.violations,
    )
