"""PluginManager: the one front door. It loads plugins, calls them, and leaves nothing behind."""

import os
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .admission import Admission
from .audit import AuditLog
from .builder import PluginManagerBuilder
from .bus.config import BusConfig
from .bus.membership import Membership
from .calls import Calls
from .communicator import PluginCommunicator
from .config import IsolationLevel, ResourceUsage, SandboxConfig
from .deployment import Source, TrialRules
from .errors import ConfigError, PluginError
from .events import Events, EventStream
from .host_functions import HostFunction
from .isolation import IsolationManager
from .lifecycle import Lifecycle
from .loaded import LoadedPlugins, ManagerStats
from .loader import PluginLoader
from .messages import MessageValue
from .metadata import Metadata
from .plugin import Plugin, PluginInfo, VersionInfo, about, versions
from .premises import Premises
from .ranges import Range, split_address
from .recall import Recall
from .reload import DRAIN_MS, Reloaded
from .spans import Spans
from .succession import Succession
from .supply import Supply

if TYPE_CHECKING:
    from .bus.supervisor import Supervisor
    from .marketplace.changes import Change
    from .marketplace.market import PluginMarketplace
    from .registry.client import PluginRegistry


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
        hot_reload: A plugin is reloaded when its file was saved.
        state_dir: A folder for what plugins keep in their key-value stores, and for the compiled forms of
            their code; without one they last as long as the manager. Made when it is not there.
        bus: Take part in the message bus (docs/bus.md): ``True`` for the user's own folder, or a folder, or
            settings. Plugins then reach those of other supervisors, as far as their policies grant it.
        tracing: Make a span of OpenTelemetry for each call of a plugin (docs/observability.md).
        restore: Remember in ``state_dir`` what is loaded, and load it again at the start, however the last
            manager ended. What cannot be loaded again is in :attr:`unrestored`.
        registry: Where plugins that are named as ``my-plugin@^1.2`` come from: an address, a registry, or a
            marketplace with settings of its own.
        registry_dir: Where they are installed, with ``frys.lock``; of no use with a marketplace.

    Raises:
        ConfigError: A setting is wrong.
        InitializationFailed: ``tracing`` needs a package that is not installed.
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
        bus: bool | str | os.PathLike[str] | BusConfig = False,
        tracing: bool = False,
        restore: bool = False,
        registry: "str | PluginRegistry | PluginMarketplace | None" = None,
        registry_dir: str | os.PathLike[str] = "plugins",
    ) -> None:
        if not sandbox:
            raise ConfigError(
                "sandbox", "a plugin never runs without its jail; choose IsolationLevel.STANDARD for your own"
            )
        for name, value, least in (("max_plugins", max_plugins, 1), ("spares", spares, 0)):
            if type(value) is not int or value < least:
                raise ConfigError(name, f"must be a whole number of at least {least}, not {value!r}")
        if audit_required and audit is None:
            raise ConfigError("audit_required", "there is no audit log; name its file with audit=")
        if restore and state_dir is None:
            raise ConfigError("restore", "there is no folder to remember in; name one with state_dir=")
        self._isolation = IsolationManager(policy=policy, level=isolation)
        self._events = Events()
        self._communicator = PluginCommunicator(self._events, Spans() if tracing else None)
        self._premises = Premises(
            cgroups=bool(self._isolation.cgroups.controllers),
            spares=spares,
            state_dir=state_dir,
            audit=audit,
            communicator=self._communicator,
            events=self._events,
        )
        loader = PluginLoader(plugin_paths)
        self._supply = Supply(registry, registry_dir, policy, loader)
        admission = Admission(
            loader, self._isolation, resource_limits, self._events, audit_required=audit_required
        )
        self._loaded = LoadedPlugins(admission, loader, self._communicator, self._events, max_plugins)
        self._calls = Calls(self._loaded, self._communicator)
        self._succession = Succession(
            admission, self._loaded, self._supply, self._events, hot_reload=hot_reload
        )
        self._membership = Membership(bus)
        self._recall = Recall(self._premises.place, self._loaded, self._events, restores=restore)
        self._lifecycle = Lifecycle(
            events=self._events,
            communicator=self._communicator,
            premises=self._premises,
            membership=self._membership,
            admission=admission,
            loaded=self._loaded,
            succession=self._succession,
            recall=self._recall,
        )

    @staticmethod
    def builder() -> "PluginManagerBuilder[PluginManager]":
        """The same settings one by one: ``await PluginManager.builder().max_plugins(10).build()``."""
        return PluginManagerBuilder(PluginManager)

    async def __aenter__(self) -> Self:
        await self._lifecycle.begin(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def unrestored(self) -> dict[str, PluginError]:
        """Why plugins that are remembered (``restore``) could not be loaded again, by id.

        Under an empty id, why what is remembered could not be read.
        """
        return self._recall.unrestored

    @property
    def bus(self) -> "Supervisor | None":
        """The message bus, if the manager takes part in one."""
        return self._membership.supervisor

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
            path: A file, a folder with ``plugin.json``, a package, or a name to look up in the plugin paths.
                With a registry, ``my-plugin@^1.2``, too: installed if it is not there in that range, and
                loaded after what it needs. A bare name that is nowhere means what is installed.
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
        self._lifecycle.open(self)
        wanted = None
        if plugin_id is not None:
            plugin_id, wanted = split_address(plugin_id)
        source = Source(os.fspath(path), plugin_id, isolation, sandbox, metadata)
        beside = side_by_side or wanted is not None
        try:
            found, needed = await self._supply.find(source)
            name = await self._loaded.load(found, wanted, beside=beside, installed=needed)
        except PluginError as error:
            self._events.publish(
                "refused",
                plugin_id or "",
                path=source.path,
                error=type(error).__name__,
                reason=str(error),
            )
            raise
        await self._recall.write()
        return name

    async def execute_plugin(
        self, plugin_id: str, function: str, *args: MessageValue, timeout_ms: int | None = None
    ) -> MessageValue:
        """Call a function of a plugin and return its value.

        Cancelling the awaiting task ends the call: the plugin's engine is interrupted where it can be, and
        otherwise its process is killed and replaced.

        Args:
            plugin_id: From :meth:`load_plugin`; also with a range of versions behind it, ``tax@^1.2``.
            function: The function's name.
            args: Plain values: None, bool, int (64 bit), float, str, bytes, list, dict with str keys.
            timeout_ms: A tighter deadline than the policy's, in milliseconds, from now on: waiting for a free
                process counts.

        Raises:
            TypeError, ValueError: An argument cannot travel, or the function takes others.
            PluginNotFound: No plugin of that id is loaded.
            ExecutionFailed: The function failed by itself or does not exist; Crashed: its process ended.
            Timeout, ResourceLimitExceeded, SecurityViolation: The plugin was stopped.
            Unavailable: It takes no calls now; docs/supervision.md has the reasons and the ways out.
        """
        return await self._calls.make(plugin_id, function, args, timeout_ms)

    def plugin(self, plugin_id: str) -> Plugin:
        """The loaded plugin as an object.

        Args:
            plugin_id: Its id; with a version behind ``@``, the best match.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
        """
        deployment, wanted = self._loaded.find(plugin_id)
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
            path: Where the new version is; by default where the old one came from, which of a plugin from a
                registry is what is installed now.
            force: Also when a plugin that depends on it would have no version that fits, or when the old
                version cannot give its state, or the new one takes none.
            drain_ms: Milliseconds in which the old version may finish what it has taken.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
            ReloadFailed: At which step, and why; the old version serves on.
        """
        done = await self._succession.reload(plugin_id, path, force=force, drain_ms=drain_ms)
        await self._recall.write()
        return done

    async def update_plugins(self) -> "list[Change]":
        """Look now for new versions of what came from the registry, and take those that policies let come.

        The same is done by itself, as often as ``auto_update_interval`` says (docs/marketplace.md).

        Returns:
            What was installed and serves. What was not has its reason in an event.

        Raises:
            ConfigError: There is no registry.
        """
        updates = self._succession.updates
        self._lifecycle.open(self)
        return await updates.check()

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
        rules = TrialRules(weight, promote_after, max_error_rate, min_calls)
        trial = await self._succession.begin_trial(plugin_id, path, rules, force=force)
        return str(trial.canary.version)

    async def promote(self, plugin_id: str) -> None:
        """Have the version that is on trial replace the other one now.

        Raises:
            PluginNotFound: No plugin of that id is loaded, or none of its versions is on trial.
            DependencyError: A plugin that was loaded meanwhile needs the old version.
        """
        await self._succession.end_trial(plugin_id, promote=True)

    async def roll_back(self, plugin_id: str) -> None:
        """Have the version that is on trial get no more calls, and end.

        Raises:
            PluginNotFound: No plugin of that id is loaded, or none of its versions is on trial.
        """
        await self._succession.end_trial(plugin_id, promote=False)

    def pin(self, plugin_id: str, version: str | None) -> None:
        """Choose which version gets the calls that name none; by default it is the highest release.

        Args:
            plugin_id: The plugin.
            version: A version or a range, of which the best match gets them; ``None`` for the default.

        Raises:
            PluginNotFound: No plugin of that id is loaded, or no version of it in the range.
            ValueError: That is no version and no range.
        """
        deployment, _ = self._loaded.find(plugin_id)
        deployment.pinned = None if version is None else Range.parse(version)
        self._loaded.switched(deployment)

    def versions(self, plugin_id: str) -> list[VersionInfo]:
        """The loaded versions of a plugin, with their shares of the calls, and what became of those.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
        """
        return versions(self._loaded.find(plugin_id)[0])

    async def unload_plugin(self, plugin_id: str, *, force: bool = False, drain_ms: int = 0) -> None:
        """End a plugin and give back all that it held.

        Args:
            plugin_id: Its id, for all of its versions; with a version behind ``@``, for that one.
            force: Also when another plugin depends on it.
            drain_ms: Milliseconds in which the calls that it has taken may end; what is left then fails.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
            DependencyError: Another plugin depends on it; the message names it.
            ValueError: Several versions are in the range, or the time makes no sense.
        """
        await self._loaded.unload(plugin_id, force=force, drain_ms=drain_ms)
        await self._recall.write()

    def list_plugins(self) -> list[PluginInfo]:
        """Every loaded version of every plugin, without those on trial, in the order of loading."""
        self._loaded.check_open()
        return [about(release) for release in self._loaded.releases()]

    def resource_usage(self, plugin_id: str, *, private: bool = True) -> ResourceUsage:
        """What a plugin uses now, read from the kernel.

        Args:
            plugin_id: From :meth:`load_plugin`.
            private: Also ``memory_private``, for which the kernel holds the plugin's memory map for a moment.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
        """
        deployment, wanted = self._loaded.find(plugin_id)
        return deployment.match(wanted).pool.usage(private=private)

    def stats(self) -> ManagerStats:
        """Counts over this manager's life."""
        return self._loaded.stats()

    def __del__(self) -> None:
        life = getattr(self, "_lifecycle", None)  # none where a setting was wrong
        if life is not None and life.is_open:
            warnings.warn(
                f"{self!r} was never closed; use it with `async with`", ResourceWarning, stacklevel=1
            )

    async def close(self, *, drain_ms: int = 0) -> None:
        """End every plugin and every launcher; returns when nothing of them is left. Safe to call twice.

        It always returns: what does not end in time is named in the log (docs/supervision.md).

        Args:
            drain_ms: Milliseconds in which the calls under way may end, those of other supervisors included.
                No others are taken meanwhile, but for those that plugins make to serve theirs. Another call
                of this method, without a time, ends the wait.

        Raises:
            ValueError: The time makes no sense.
        """
        await self._lifecycle.close(drain_ms)
