"""PluginManager: the one front door. It loads plugins, calls them, and leaves nothing behind."""

import asyncio
import os
import resource
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from msgspec.structs import replace as with_changes

from . import dependencies
from .admission import Admission, digest as digest_of
from .audit import AuditLog
from .builder import PluginManagerBuilder
from .communicator import HostFunction, PluginCommunicator, line_of_calls
from .compiled import CompiledCode
from .config import IsolationLevel, ResourceUsage, SandboxConfig
from .deployment import Deployment, Release, Source, Trial, check_trial
from .errors import (
    AlreadyLoaded,
    CommunicationError,
    ConfigError,
    Incompatible,
    InitializationFailed,
    LoadFailed,
    MaxPluginsExceeded,
    PluginError,
    PluginNotFound,
)
from .events import Events, EventStream
from .isolation import IsolationManager
from .keyvalue import KeyValueStore
from .linux.cgroup import CgroupError, CgroupTree
from .loader import Bundle, PluginLoader
from .messages import MessageValue
from .metadata import Metadata
from .nursery import Nursery
from .plugin import ManagerStats, Plugin, PluginInfo, VersionInfo, versions
from .pool import Pool
from .ranges import Range, Version, split_address
from .reload import DRAIN_MS, Reloaded, Reloader
from .services import Shared
from .watching import Watching, require_watching


class PluginManager:
    """Loads plugins that nobody trusts and calls them as local objects.

        async with PluginManager(isolation=IsolationLevel.HIGH) as manager:
            plugin_id = await manager.load_plugin("./my-plugin.wasm")
            result = await manager.execute_plugin(plugin_id, "process", b"input")

    Args:
        sandbox: The jail. There is no way to run a plugin without one, so ``False`` is refused.
        policy: A policy file for everything that is loaded; by default the level decides.
        isolation: The level for plugins without a policy.
        resource_limits: Limits and grants of the host program, over the policy's.
        max_plugins: How many plugins may be loaded at once.
        plugin_paths: Folders in which a bare plugin name, and what plugins depend on, is looked up.
        spares: Jailed processes to keep ready for each kind of plugin in use. One makes the next load
            fast; a larger number helps when many are loaded at once; 0 saves their memory.
        audit: A file for the audit log (docs/audit.md), or a log with settings of its own, which the manager
            closes at its end.
        audit_required: No plugin is loaded unless its record is on the disk before its code runs.
        hot_reload: A plugin is reloaded when its file was saved; needs ``frys-runtime[watch]``.
        state_dir: A folder for what plugins keep in their key-value stores, and for the compiled forms of
            their code; without one they last as long as the manager. Made when it is not there.

    Raises:
        ConfigError: A setting is wrong.
    """

    def __init__(
        self,
        *,
        sandbox: bool = True,
        policy: str | os.PathLike[str] | None = None,
        isolation: IsolationLevel | str | None = None,
        resource_limits: SandboxConfig | None = None,
        max_plugins: int = 1000,
        plugin_paths: Iterable[str | os.PathLike[str]] = (),
        spares: int = 1,
        hot_reload: bool = False,
        audit: str | os.PathLike[str] | AuditLog | None = None,
        audit_required: bool = False,
        state_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._nursery: Nursery | None = None
        self._closed = False
        if not sandbox:
            raise ConfigError(
                "sandbox", "a plugin never runs without its jail; choose IsolationLevel.STANDARD for your own"
            )
        for name, value, least in (("max_plugins", max_plugins, 1), ("spares", spares, 0)):
            if type(value) is not int or value < least:
                raise ConfigError(name, f"must be a whole number of at least {least}, not {value!r}")
        if audit_required and audit is None:
            raise ConfigError("audit_required", "there is no audit log; name its file with audit=")
        if hot_reload:
            require_watching()
        self._isolation = IsolationManager(policy=policy, level=isolation)
        self._loader = PluginLoader(plugin_paths)
        self._max_plugins = max_plugins
        self._spares = spares
        self._deployments: dict[str, Deployment] = {}
        self._loading: dict[str, str] = {}
        self._resolving = asyncio.Lock()
        self._no_loads = asyncio.Event()
        self._no_loads.set()
        self._retired = ManagerStats(0, 0, 0, 0)
        self._tree: CgroupTree | None = None
        self._events = Events()
        self._communicator = PluginCommunicator(self._events)
        self._state_dir = os.fspath(state_dir) if state_dir is not None else None
        self._store: KeyValueStore | None = None
        self._shared: Shared | None = None
        self._audit_file = audit
        self._audit: AuditLog | None = None
        self._admission = Admission(
            self._loader, self._isolation, resource_limits, self._events, audit_required=audit_required
        )
        self._reloader = Reloader(
            self._admission,
            self._events,
            fits=self._must_fit_instead,
            switched=self._switched,
            ended=self._count,
        )
        self._watching: Watching | None = None
        if hot_reload:
            self._watching = Watching(self._admission.read_now, self._saved, self._watch_failed)
        self._chores: set[asyncio.Task[None]] = set()

    @staticmethod
    def builder() -> "PluginManagerBuilder[PluginManager]":
        """The same settings one by one: ``await PluginManager.builder().max_plugins(10).build()``."""
        return PluginManagerBuilder(PluginManager)

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self) -> None:
        self._check_open()
        if self._nursery is None:
            self._shared = Shared(self._communicator, self._open_store, CompiledCode(self._state("compiled")))
            _raise_descriptor_limit()
            self._open_audit()
            if self._isolation.cgroups.controllers:
                try:
                    self._tree = CgroupTree()
                    self._tree.sweep()
                except CgroupError as error:
                    if self._audit is not None:
                        self._audit.close()
                    raise InitializationFailed("the manager", str(error)) from error
            self._nursery = Nursery(self._tree, self._spares)
            self._admission.open(self._nursery, self._shared, self._audit)
            if self._watching is not None:
                self._watching.start()

    def _open_audit(self) -> None:
        named = self._audit_file
        if named is None:
            return
        log = self._audit = named if isinstance(named, AuditLog) else AuditLog(named)
        self._events.add_sink(log.record)
        loop = asyncio.get_running_loop()

        def failed(reason: str) -> None:
            loop.call_soon_threadsafe(lambda: self._events.publish("audit_failed", "", reason=reason))

        log.on_failure = failed

    @property
    def communicator(self) -> PluginCommunicator:
        """Calls and events between plugins, and the host program's part in them."""
        return self._communicator

    def host_function[**P, R: MessageValue | Awaitable[MessageValue]](
        self, name: str, params: Sequence[str] | None = None, returns: str = "any"
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Offer a function of the host program to plugins whose policy names it in ``host_functions``.

            @manager.host_function("price", ["string"], "float")
            async def price(article): ...

        Args:
            name: How plugins call it.
            params: The types of its parameters, as in a plugin.json; any values by default.
            returns: The type of its result.

        Raises:
            ConfigError: A type makes no sense.
            ValueError: There is one of that name already.
        """

        def offer(function: Callable[P, R]) -> Callable[P, R]:
            self._communicator.offer(HostFunction(name, function, params, returns))
            return function

        return offer

    def _open_store(self) -> KeyValueStore:
        if self._store is None:
            self._store = KeyValueStore(self._state("keyvalue.sqlite3"))
        return self._store

    def _state(self, name: str) -> str | None:
        """Where something is kept that outlasts the manager, if anything is."""
        if self._state_dir is None:
            return None
        try:
            os.makedirs(self._state_dir, mode=0o700, exist_ok=True)
        except OSError as error:
            raise InitializationFailed(
                f"the folder {self._state_dir}", error.strerror or str(error)
            ) from None
        return os.path.join(self._state_dir, name)

    def events(self) -> EventStream:
        """What happens from now on: ``async for event in manager.events()``.

        Any number may listen. Each has a queue of 1000 events of its own; who is too slow loses the oldest
        and sees how many in ``dropped``. The stream ends when the manager is closed.
        """
        return self._events.subscribe()

    async def load_plugin(
        self,
        path: str | os.PathLike[str],
        *,
        plugin_id: str | None = None,
        isolation: IsolationLevel | str | None = None,
        sandbox: SandboxConfig | None = None,
        metadata: Metadata | None = None,
        side_by_side: bool = False,
    ) -> str:
        """Load a plugin into a jail of its own, after those that it depends on.

        Args:
            path: A file, a folder with ``plugin.json``, or a name to look up in the plugin paths.
            plugin_id: Another id than the plugin's own. ``tax@2``: beside other versions of ``tax``, and only
                if this is a version 2.
            isolation: Another level than the manager's, for this plugin.
            sandbox: Limits and grants of the host program for this plugin.
            metadata: Metadata that the host program vouches for, instead of a ``plugin.json``.
            side_by_side: Beside other versions of the same plugin.

        Returns:
            The id to call it by; beside others, with its version: ``tax@2.0.1``.

        Raises:
            PluginError: Any of its kinds; nothing of the plugin is left then.
            ValueError: What stands behind the ``@`` is no range of versions.
        """
        self._open()
        wanted = None
        if plugin_id is not None:
            plugin_id, wanted = split_address(plugin_id)
        source = Source(os.fspath(path), plugin_id, isolation, sandbox, metadata)
        beside = side_by_side or wanted is not None
        try:
            return await self._load(source, wanted, beside=beside, resolve=True)
        except PluginError as error:
            self._events.publish(
                "refused",
                plugin_id or "",
                path=source.path,
                error=type(error).__name__,
                reason=str(error),
            )
            raise

    async def _load(self, source: Source, wanted: Range | None, *, beside: bool, resolve: bool) -> str:
        bundle = await self._admission.read(source)
        name = source.plugin_id if source.plugin_id is not None else bundle.metadata.id
        version = Version.parse(bundle.metadata.version)
        address = f"{name}@{version}" if beside else name
        try:
            if wanted is not None and not wanted.matches(version):
                raise Incompatible(
                    "the host program", f"{name}@{wanted}", f"version {version} in {source.path}"
                )
            self._reserve(name, version, address)
        except PluginError:
            bundle.close()
            raise
        brought: list[str] = []
        try:
            if resolve:
                brought = await self._load_needed(name, bundle)
            await self._start(name, bundle, replace(source, path=self._located(source.path)))
        except BaseException:
            bundle.close()
            await self._take_back(brought)
            raise
        finally:
            del self._loading[address]
            if not self._loading:
                self._no_loads.set()
        return address

    async def _start(self, name: str, bundle: Bundle, source: Source) -> None:
        self._must_fit(name, bundle.metadata)
        digest = digest_of(bundle)
        pool = await self._admission.pool(name, bundle, source)
        try:
            await pool.start()
            release = Release(pool, source, digest)
            release.check_declared()
            self._check_open()
            self._must_fit(name, bundle.metadata)  # what was loaded meanwhile, too
        except BaseException:
            await pool.close()
            self._retired = replace(self._retired, violations=self._retired.violations + pool.violations)
            raise
        deployment = self._deployments.setdefault(name, Deployment(name))
        deployment.add(release)
        unheard = self._switched(deployment)
        facts = {"pid": pool.pid, "ms": pool.load_ms, "layers": pool.layers, "unheard_events": unheard}
        self._events.publish("loaded", name, version=str(release.version), **facts)

    def _located(self, path: str) -> str:
        """The path to read again later, from whatever folder."""
        try:
            return self._loader.locate(path)
        except LoadFailed:
            return os.path.abspath(path)

    def _reserve(self, name: str, version: Version, address: str) -> None:
        deployment = self._deployments.get(name)
        if address == name:
            taken = deployment is not None or name in self._loading.values()
        else:
            taken = address in self._loading or name in self._loading
            taken = taken or (deployment is not None and deployment.holds(version))
        if taken:
            raise AlreadyLoaded(address)
        loaded = sum(len(other.releases) for other in self._deployments.values())
        if loaded + len(self._loading) >= self._max_plugins:
            raise MaxPluginsExceeded(self._max_plugins)
        self._loading[address] = name
        self._no_loads.clear()

    # What depends on what.

    def _loaded(self, *without: Release) -> dict[str, list[Metadata]]:
        """The metadata of what is loaded, by the ids under which it is."""
        return {
            name: [
                with_changes(release.metadata, id=name)
                for release in deployment.releases
                if release not in without
            ]
            for name, deployment in self._deployments.items()
        }

    def _must_fit(self, name: str, metadata: Metadata) -> None:
        dependencies.check(with_changes(metadata, id=name), self._loaded())

    def _must_fit_instead(self, name: str, metadata: Metadata, old: Release, force: bool) -> None:
        loaded, new = self._loaded(old), with_changes(metadata, id=name)
        dependencies.check_needs(new, loaded)
        if not force:
            loaded[name] = [*loaded.get(name, ()), new]
            dependencies.check_leaving(with_changes(old.metadata, id=name), loaded)

    async def _load_needed(self, name: str, bundle: Bundle) -> list[str]:
        """Load what a plugin depends on and is not there, from the plugin paths; what was loaded."""
        metadata = with_changes(bundle.metadata, id=name)
        if all(needed.plugin_id in self._deployments for needed in metadata.dependencies):
            return []
        from .resolution import resolve  # most programs load nothing that has dependencies

        brought: list[str] = []
        async with self._resolving:
            plan = await asyncio.to_thread(resolve, metadata, self._loaded(), self._loader.candidates)
            try:
                for needed in plan:
                    source = Source(needed.path)
                    brought += [await self._load(source, None, beside=False, resolve=False)]
            except BaseException:
                await self._take_back(brought)
                raise
        return brought

    async def _take_back(self, brought: list[str]) -> None:
        """Unload what was loaded only for a plugin that then could not be loaded."""
        for plugin_id in reversed(brought):
            deployment = self._deployments.pop(plugin_id, None)
            if deployment is not None:
                await self._end(deployment)

    # Calls.

    async def execute_plugin(
        self, plugin_id: str, function: str, *args: MessageValue, timeout_ms: int | None = None
    ) -> MessageValue:
        """Call a function of a plugin and return its value.

        Cancelling the awaiting task ends the call, with the process that runs it.

        Args:
            plugin_id: From :meth:`load_plugin`; also with a range of versions behind it, ``tax@^1.2``.
            function: The function's name.
            args: Plain values: None, bool, int (64 bit), float, str, bytes, list, dict with str keys.
            timeout_ms: A tighter deadline than the policy's, in milliseconds.

        Raises:
            TypeError, ValueError: An argument cannot travel, or the function takes others.
            PluginNotFound: No plugin of that id is loaded.
            ExecutionFailed: The function failed by itself, does not exist, or its process crashed.
            Timeout, ResourceLimitExceeded, SecurityViolation: The plugin was stopped.
        """
        wanted = None
        deployment = self._deployments.get(plugin_id)
        if deployment is None:
            deployment, wanted = self._find(plugin_id)
        if timeout_ms is not None and (type(timeout_ms) is not int or timeout_ms <= 0):
            raise ValueError(
                f"timeout_ms must be a positive whole number of milliseconds, not {timeout_ms!r}"
            )
        if deployment.plugin_id in line_of_calls():
            raise CommunicationError(
                plugin_id, "it waits for the very function of the host program that calls it"
            )
        release = deployment.pick(wanted)
        if release.gate is not None:
            release = await deployment.reach(wanted)
        return await release.call(function, args, timeout_ms)

    def _check_open(self) -> None:
        if self._closed:
            raise InitializationFailed("the manager", "it was closed; make a new one")

    def _find(self, address: str) -> tuple[Deployment, Range | None]:
        self._check_open()
        plugin_id, wanted = split_address(address)
        deployment = self._deployments.get(plugin_id)
        if deployment is None:
            raise PluginNotFound(address)
        return deployment, wanted

    def plugin(self, plugin_id: str) -> Plugin:
        """The loaded plugin as an object.

        Args:
            plugin_id: Its id; with a version behind ``@``, the best match.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
        """
        deployment, wanted = self._find(plugin_id)
        return Plugin(self, deployment, plugin_id, wanted)

    # New versions.

    async def reload_plugin(
        self,
        plugin_id: str,
        path: str | os.PathLike[str] | None = None,
        *,
        force: bool = False,
        drain_ms: int = DRAIN_MS,
    ) -> Reloaded:
        """Replace a plugin by a new version, while calls are under way.

        The new version is loaded beside the old one and has to prove itself. Then new calls go to it, and the
        old one finishes what it has taken. docs/reloading.md tells the rest.

        Args:
            plugin_id: Its id; with a version behind ``@``, that one of several.
            path: Where the new version is; by default where the old one came from.
            force: Also when a plugin that depends on it would have no version that fits, or when the new
                version does not take the state of the old one.
            drain_ms: Milliseconds in which the old version may finish what it has taken.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
            ReloadFailed: At which step, and why; the old version serves on.
        """
        deployment, wanted = self._find(plugin_id)

        async def work() -> Reloaded:
            old = deployment.match(wanted)
            source = self._source(old, path)
            return await self._reloader.reload(deployment, old, source, force=force, drain_ms=drain_ms)

        return await deployment.change(work)

    def _source(self, old: Release, path: str | os.PathLike[str] | None) -> Source:
        return old.source if path is None else replace(old.source, path=self._located(os.fspath(path)))

    async def _saved(self, release: Release, found: Bundle | PluginError) -> None:
        """The file of a version was saved, and holds this now."""
        deployment = self._deployments.get(release.plugin_id)
        if isinstance(found, PluginError):
            reason = {"path": release.source.path, "step": "read", "reason": str(found)}
            self._events.publish("reload_failed", release.plugin_id, **reason)
            return
        taken = False

        async def work() -> None:
            nonlocal taken
            if deployment is not None and release in deployment.releases:
                taken = True
                await self._reloader.reload(deployment, release, release.source, found)

        try:
            if deployment is not None:
                await deployment.change(work)
        except PluginError:
            pass  # told as an event
        finally:
            if not taken:
                found.close()

    def _watch_failed(self, reason: str) -> None:
        self._events.publish("watch_failed", "", reason=reason)

    async def canary(
        self,
        plugin_id: str,
        path: str | os.PathLike[str],
        *,
        weight: float = 0.1,
        promote_after: int | None = 1000,
        max_error_rate: float = 0.02,
        min_calls: int = 50,
        force: bool = False,
    ) -> str:
        """Give a new version a share of a plugin's calls, until it has proved itself or failed.

        Args:
            plugin_id: The plugin's id; with a version behind ``@``, that one of several.
            path: Where the new version is.
            weight: Its share of the calls, above 0 and up to 1. Calls are dealt out in turn, not by chance.
            promote_after: Calls after which it replaces the old version; ``None``: only :meth:`promote` does.
            max_error_rate: It is rolled back when its error rate is higher than the old version's by more.
            min_calls: So many of its calls have to end before its error rate counts.
            force: Also when a plugin that depends on it would have no version that fits.

        Returns:
            The new version.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
            ReloadFailed: At which step, and why; the old version serves on.
            ValueError: A number makes no sense.
        """
        check_trial(weight, promote_after, max_error_rate, min_calls)
        deployment, wanted = self._find(plugin_id)

        async def work() -> Trial:
            stable = deployment.match(wanted)
            return await self._reloader.try_out(
                deployment,
                stable,
                self._source(stable, path),
                weight=weight,
                promote_after=promote_after,
                max_error_rate=max_error_rate,
                min_calls=min_calls,
                force=force,
            )

        trial = await deployment.change(work)
        trial.verdict.add_done_callback(lambda verdict: self._decided(deployment, trial, verdict))
        return str(trial.canary.version)

    def _decided(self, deployment: Deployment, trial: Trial, verdict: "asyncio.Future[bool]") -> None:
        if not verdict.cancelled():
            chore = asyncio.create_task(self._conclude(deployment, trial, verdict.result()))
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)

    async def _conclude(self, deployment: Deployment, trial: Trial, promote: bool) -> None:
        for chosen in {promote: None, False: None}:  # what cannot be promoted is rolled back
            try:
                await deployment.change(partial(self._reloader.conclude, deployment, trial, promote=chosen))
            except PluginError:
                continue
            return

    async def promote(self, plugin_id: str) -> None:
        """Have the version that is on trial replace the other one now.

        Raises:
            PluginNotFound: No plugin of that id is loaded, or none of its versions is on trial.
            DependencyError: A plugin that was loaded meanwhile needs the old version.
        """
        await self._end_trial(plugin_id, promote=True)

    async def roll_back(self, plugin_id: str) -> None:
        """Have the version that is on trial get no more calls, and end.

        Raises:
            PluginNotFound: No plugin of that id is loaded, or none of its versions is on trial.
        """
        await self._end_trial(plugin_id, promote=False)

    async def _end_trial(self, plugin_id: str, *, promote: bool) -> None:
        deployment, _ = self._find(plugin_id)
        trial = deployment.trial
        if trial is None:
            raise PluginNotFound(f"{plugin_id} on trial")
        await deployment.change(lambda: self._reloader.conclude(deployment, trial, promote=promote))

    def pin(self, plugin_id: str, version: str | None) -> None:
        """Choose which version gets the calls that name none; by default it is the highest release.

        Args:
            plugin_id: The plugin.
            version: A version or a range, of which the best match gets them; ``None`` for the default.

        Raises:
            PluginNotFound: No plugin of that id is loaded, or no version of it in the range.
            ValueError: That is no version and no range.
        """
        deployment, _ = self._find(plugin_id)
        deployment.pinned = None if version is None else Range.parse(version)
        self._switched(deployment)

    def versions(self, plugin_id: str) -> list[VersionInfo]:
        """The loaded versions of a plugin, with their shares of the calls, and what became of those.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
        """
        return versions(self._find(plugin_id)[0])

    def _switched(self, deployment: Deployment) -> dict[str, str]:
        """Other versions of a plugin serve; the events that they want and will not get."""
        if self._watching is not None:
            self._watching.follow(
                release for other in self._deployments.values() for release in other.releases
            )
        return self._communicator.add(deployment)

    # The end of plugins.

    async def unload_plugin(self, plugin_id: str, *, force: bool = False) -> None:
        """End a plugin and give back all that it held; its calls under way fail.

        Args:
            plugin_id: Its id, for all of its versions; with a version behind ``@``, for that one.
            force: Also when another plugin depends on it.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
            DependencyError: Another plugin depends on it; the message names it.
            ValueError: Several versions are in the range.
        """
        deployment, wanted = self._find(plugin_id)
        leaving = [other for other in deployment.releases if wanted is None or wanted.matches(other.version)]
        if not leaving:
            raise PluginNotFound(plugin_id)
        if wanted is not None and len(leaving) > 1:
            several = ", ".join(str(release.version) for release in leaving)
            raise ValueError(f"{plugin_id} means several versions ({several}); name one of them")
        if not force:
            left = self._loaded(*leaving)
            for release in leaving:
                dependencies.check_leaving(with_changes(release.metadata, id=deployment.plugin_id), left)
        if len(leaving) == len(deployment.releases):
            del self._deployments[deployment.plugin_id]
            await self._end(deployment)
        else:
            await deployment.change(partial(self._remove, deployment, leaving[0]))

    async def _remove(self, deployment: Deployment, release: Release) -> None:
        """End one version of several."""
        trial = deployment.trial
        if trial is not None and trial.stable is release:
            await self._reloader.conclude(deployment, trial, promote=False)
        if release not in deployment.releases:
            return
        deployment.remove(release)
        self._switched(deployment)
        await self._close_release(release)

    async def _end(self, deployment: Deployment) -> None:
        self._communicator.remove(deployment.plugin_id)
        if self._watching is not None:
            self._watching.follow(
                release for other in self._deployments.values() for release in other.releases
            )
        await deployment.close(self._close_release)

    async def _close_release(self, release: Release) -> None:
        pool = release.pool
        await pool.close()
        self._count(pool)
        counts = {"calls": pool.calls, "failures": pool.failures, "violations": pool.violations}
        self._events.publish("unloaded", pool.plugin_id, version=str(release.version), **counts)

    def _count(self, pool: Pool) -> None:
        past = self._retired
        self._retired = ManagerStats(
            plugins=0,
            calls=past.calls + pool.calls,
            failures=past.failures + pool.failures,
            restarts=past.restarts + pool.restarts,
            violations=past.violations + pool.violations,
        )

    def list_plugins(self) -> list[PluginInfo]:
        """Every loaded version of every plugin, without those on trial, in the order of loading."""
        self._check_open()
        return [
            PluginInfo(
                id=release.plugin_id,
                version=release.metadata.version,
                format=release.metadata.format,
                isolation=release.pool.confinement.level,
                state=release.pool.state,
                functions=tuple(sorted(release.functions)),
            )
            for deployment in self._deployments.values()
            for release in deployment.releases
        ]

    def resource_usage(self, plugin_id: str) -> ResourceUsage:
        """What a plugin uses now, read from the kernel.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
        """
        deployment, wanted = self._find(plugin_id)
        return deployment.match(wanted).pool.usage()

    def stats(self) -> ManagerStats:
        """Counts over this manager's life."""
        live = [pool for deployment in self._deployments.values() for pool in deployment.pools()]
        past = self._retired
        return ManagerStats(
            plugins=sum(len(deployment.releases) for deployment in self._deployments.values()),
            calls=past.calls + sum(pool.calls for pool in live),
            failures=past.failures + sum(pool.failures for pool in live),
            restarts=past.restarts + sum(pool.restarts for pool in live),
            violations=past.violations + sum(pool.violations for pool in live),
        )

    def __del__(self) -> None:
        if self._nursery is not None and not self._closed:
            warnings.warn(
                f"{self!r} was never closed; use it with `async with`", ResourceWarning, stacklevel=1
            )

    async def close(self) -> None:
        """End every plugin and every launcher; returns when nothing of them is left. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._watching is not None:
            await self._watching.close()
        deployments = list(self._deployments.values())
        self._deployments.clear()
        await asyncio.gather(*(self._end(deployment) for deployment in deployments))
        await asyncio.gather(*self._chores)
        if self._nursery is not None:
            await self._nursery.close()
        await self._no_loads.wait()
        if self._tree is not None:
            await asyncio.to_thread(self._tree.close)
        self._communicator.close()
        if self._shared is not None:
            await self._shared.compiled.close()
        if self._store is not None:
            await asyncio.to_thread(self._store.close)
        if self._audit is not None:
            await asyncio.to_thread(self._audit.close)
        self._events.close()


def _raise_descriptor_limit() -> None:
    """A live plugin holds five descriptors of the host; the usual soft limit of 1024 is for select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
