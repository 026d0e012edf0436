"""PluginManager: the one front door. It loads plugins, calls them, and leaves nothing behind."""

import asyncio
import os
import resource
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import asdict

from .audit import AuditLog
from .communicator import HostFunction, PluginCommunicator, line_of_calls
from .compiled import CompiledCode
from .config import IsolationLevel, ResourceUsage, SandboxConfig
from .errors import (
    AlreadyLoaded,
    CommunicationError,
    ConfigError,
    InitializationFailed,
    LoadFailed,
    MaxPluginsExceeded,
    PluginError,
    PluginNotFound,
)
from .events import Events, EventStream
from .isolation import Confinement, IsolationManager
from .keyvalue import KeyValueStore
from .linux.cgroup import CgroupError, CgroupTree
from .loader import Bundle, PluginLoader
from .messages import MessageValue
from .metadata import Metadata
from .nursery import Nursery
from .sandbox import PluginSandbox, PluginState
from .services import Shared

if TYPE_CHECKING:
    from .marketplace.market import PluginMarketplace
    from .registry.client import PluginRegistry


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One loaded plugin, as :meth:`PluginManager.list_plugins` names it."""

    id: str
    version: str
    format: str
    isolation: IsolationLevel
    state: PluginState
    functions: tuple[str, ...]


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


class Plugin:
    """A loaded plugin as a local object; get one from :meth:`PluginManager.plugin`."""

    def __init__(self, manager: "PluginManager", sandbox: PluginSandbox) -> None:
        self._manager = manager
        self._sandbox = sandbox

    @property
    def id(self) -> str:
        """The id under which the plugin was loaded."""
        return self._sandbox.plugin_id

    @property
    def metadata(self) -> Metadata:
        """What its plugin.json says."""
        return self._sandbox.metadata

    @property
    def state(self) -> PluginState:
        """Where it is in its life."""
        return self._sandbox.state

    @property
    def functions(self) -> dict[str, str]:
        """Callable functions with signatures for people, in the plugin's own (untrusted) words."""
        return dict(self._sandbox.functions)

    @property
    def layers(self) -> frozenset[str]:
        """The layers of the jail that are in force around its process."""
        return self._sandbox.layers

    @property
    def pid(self) -> int | None:
        """Its process, as the host's kernel numbers it; ``None`` while none runs."""
        return self._sandbox.pid

    @property
    def violations(self) -> int:
        """How often it tried what is forbidden, over all its processes."""
        return self._sandbox.violations

    @property
    def load_ms(self) -> float:
        """Milliseconds that the last start took, from the request to ready."""
        return self._sandbox.load_ms

    async def call(self, function: str, *args: MessageValue, timeout_ms: int | None = None) -> MessageValue:
        """Call a function; see :meth:`PluginManager.execute_plugin`."""
        return await self._manager.execute_plugin(self.id, function, *args, timeout_ms=timeout_ms)

    def resource_usage(self) -> ResourceUsage:
        """What it uses now, read from the kernel."""
        return self._sandbox.usage()

    def watch(
        self, interval: float = 1.0, *, thresholds: Mapping[str, float] | None = None
    ) -> AsyncIterator[ResourceUsage]:
        """What it uses, again and again, until it is unloaded: ``async for usage in plugin.watch(0.5)``.

        The plugin does not notice. A sample costs the host some reads of small kernel files (0.1 to 0.2 ms)
        and has no ``memory_private``. The first comes at once.

        Args:
            interval: Seconds between samples, 0.01 or more.
            thresholds: Values by the name of a figure, ``{"memory_usage": 48 << 20}``. A sample that is the
                first to reach one raises an event ``threshold``; the next comes when it was below meanwhile.

        Raises:
            ValueError: The interval is too short, or there is no such figure.
        """
        return self._sandbox.watch(interval, thresholds or {})

    async def unload(self) -> None:
        """End it and give back all that it held."""
        await self._manager.unload_plugin(self.id)

    def __repr__(self) -> str:
        return f"<Plugin {self.id} {self.metadata.version} {self.state}>"


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
        plugin_paths: Folders in which a bare plugin name is looked up.
        spares: Jailed processes to keep ready for each kind of plugin in use. One makes the next load
            fast; a larger number helps when many are loaded at once; 0 saves their memory.
        audit: A file for the audit log (docs/audit.md), or a log with settings of its own, which the manager
            closes at its end.
        audit_required: No plugin is loaded unless its record is on the disk before its code runs.
        state_dir: A folder for what plugins keep in their key-value stores, and for the compiled forms of
            their code; without one they last as long as the manager. Made when it is not there.
        marketplace: Where plugins that are named as ``my-plugin@^1.2`` are installed from, and to.

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
        audit: str | os.PathLike[str] | AuditLog | None = None,
        audit_required: bool = False,
        state_dir: str | os.PathLike[str] | None = None,
        marketplace: "PluginMarketplace | None" = None,
    ) -> None:
        self._marketplace = marketplace
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
        self._isolation = IsolationManager(policy=policy, level=isolation)
        self._loader = PluginLoader(plugin_paths)
        self._limits = resource_limits
        self._max_plugins = max_plugins
        self._spares = spares
        self._sandboxes: dict[str, PluginSandbox] = {}
        self._loading: set[str] = set()
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
        self._audit_required = audit_required
        self._audit: AuditLog | None = None

    @staticmethod
    def builder() -> "PluginManagerBuilder":
        """The same settings one by one: ``await PluginManager.builder().max_plugins(10).build()``."""
        return PluginManagerBuilder()

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _open(self) -> Nursery:
        if self._closed:
            raise InitializationFailed("the manager", "it was closed; make a new one")
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
        return self._nursery

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
    ) -> str:
        """Load a plugin into a jail of its own.

        Args:
            path: A file, a folder with ``plugin.json``, a package, or a name to look up in the plugin paths.
                With a marketplace, ``my-plugin@^1.2``, too: installed if it is not there in that range, and
                loaded after what it needs.
            plugin_id: Another id than the plugin's own.
            isolation: Another level than the manager's, for this plugin.
            sandbox: Limits and grants of the host program for this plugin.
            metadata: Metadata that the host program vouches for, instead of a ``plugin.json``.

        Returns:
            The id to call it by.

        Raises:
            PluginError: Any of its kinds; nothing of the plugin is left then.
        """
        nursery = self._open()
        try:
            sha256 = ""
            if self._marketplace is not None and self._marketplace.takes(path):
                *others, (_, path, sha256) = await self._marketplace.provide(os.fspath(path))
                for needed, where, digest in others:
                    if needed not in self._sandboxes:
                        await self._load(nursery, where, None, isolation, None, None, digest)
            return await self._load(nursery, path, plugin_id, isolation, sandbox, metadata, sha256)
        except PluginError as error:
            self._events.publish(
                "refused",
                plugin_id or "",
                path=os.fspath(path),
                error=type(error).__name__,
                reason=str(error),
            )
            raise

    async def _load(
        self,
        nursery: Nursery,
        path: str | os.PathLike[str],
        plugin_id: str | None,
        isolation: IsolationLevel | str | None,
        sandbox: SandboxConfig | None,
        metadata: Metadata | None,
        sha256: str,
    ) -> str:
        bundle = await asyncio.to_thread(self._loader.load, path, metadata, plugin_id=plugin_id)
        name = plugin_id if plugin_id is not None else bundle.metadata.id
        try:
            if sha256 and (bundle.package is None or bundle.package.digest != sha256):
                raise LoadFailed(
                    bundle.path, "its bytes are not those that are locked; `frys verify` says more"
                )
            self._reserve(name)
        except PluginError:
            bundle.close()
            raise
        live: PluginSandbox | None = None
        try:
            wishes = [wish for wish in (self._limits, sandbox) if wish is not None]
            confine = partial(
                self._isolation.confine,
                bundle.metadata,
                isolation,
                wishes,
                plugin_id=name,
                path=os.fspath(path),
                signed=bundle.signed,
            )
            # Many signatures take time, which other plugins' calls do not wait for.
            confinement = confine() if bundle.signed is None else await asyncio.to_thread(confine)
            self._events.publish("granted", name, **_grant(bundle, confinement))
            await self._must_be_recorded(bundle.path)
            live = PluginSandbox(name, bundle, confinement, nursery, self._events, shared=self._shared)
            await live.start()
            self._check_open()
            self._sandboxes[name] = live
            unheard = self._communicator.add(live)
            facts = {"pid": live.pid, "ms": live.load_ms, "layers": live.layers, "unheard_events": unheard}
            self._events.publish("loaded", name, **facts)
        except BaseException:
            if live is not None:
                await live.close()
                violations = self._retired.violations + live.violations
                self._retired = replace(self._retired, violations=violations)
            bundle.close()
            raise
        finally:
            self._loading.discard(name)
            if not self._loading:
                self._no_loads.set()
        return name

    async def _must_be_recorded(self, path: str) -> None:
        if self._audit is None or not self._audit_required:
            return
        if not await asyncio.to_thread(self._audit.flush):
            raise LoadFailed(path, f"{self._audit.failure}, and audit_required allows no load without it")

    def _reserve(self, name: str) -> None:
        if name in self._sandboxes or name in self._loading:
            raise AlreadyLoaded(name)
        if len(self._sandboxes) + len(self._loading) >= self._max_plugins:
            raise MaxPluginsExceeded(self._max_plugins)
        self._loading.add(name)
        self._no_loads.clear()

    async def execute_plugin(
        self, plugin_id: str, function: str, *args: MessageValue, timeout_ms: int | None = None
    ) -> MessageValue:
        """Call a function of a plugin and return its value.

        Cancelling the awaiting task ends the call, with the process that runs it.

        Args:
            plugin_id: From :meth:`load_plugin`.
            function: The function's name.
            args: Plain values: None, bool, int (64 bit), float, str, bytes, list, dict with str keys.
            timeout_ms: A tighter deadline than the policy's, in milliseconds.

        Raises:
            TypeError, ValueError: An argument cannot travel, or the function takes others.
            PluginNotFound: No plugin of that id is loaded.
            ExecutionFailed: The function failed by itself, does not exist, or its process crashed.
            Timeout, ResourceLimitExceeded, SecurityViolation: The plugin was stopped.
        """
        sandbox = self._sandboxes.get(plugin_id)
        if sandbox is None:
            self._check_open()
            raise PluginNotFound(plugin_id)
        if timeout_ms is not None and (type(timeout_ms) is not int or timeout_ms <= 0):
            raise ValueError(
                f"timeout_ms must be a positive whole number of milliseconds, not {timeout_ms!r}"
            )
        if plugin_id in line_of_calls():
            raise CommunicationError(
                plugin_id, "it waits for the very function of the host program that calls it"
            )
        return await sandbox.call(function, args, timeout_ms)

    def _check_open(self) -> None:
        if self._closed:
            raise InitializationFailed("the manager", "it was closed; make a new one")

    def plugin(self, plugin_id: str) -> Plugin:
        """The loaded plugin as an object.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
        """
        return Plugin(self, self._sandbox(plugin_id))

    def _sandbox(self, plugin_id: str) -> PluginSandbox:
        self._check_open()
        try:
            return self._sandboxes[plugin_id]
        except KeyError:
            raise PluginNotFound(plugin_id) from None

    async def unload_plugin(self, plugin_id: str) -> None:
        """End a plugin and give back all that it held; its calls under way fail.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
        """
        sandbox = self._sandbox(plugin_id)
        del self._sandboxes[plugin_id]
        await self._retire(sandbox)

    async def _retire(self, sandbox: PluginSandbox) -> None:
        self._communicator.remove(sandbox.plugin_id)
        await sandbox.close()
        past, restarts = self._retired, max(sandbox.starts - 1, 0)
        self._retired = ManagerStats(
            plugins=0,
            calls=past.calls + sandbox.calls,
            failures=past.failures + sandbox.failures,
            restarts=past.restarts + restarts,
            violations=past.violations + sandbox.violations,
        )
        counts = {"calls": sandbox.calls, "failures": sandbox.failures, "violations": sandbox.violations}
        self._events.publish("unloaded", sandbox.plugin_id, **counts)

    def list_plugins(self) -> list[PluginInfo]:
        """Every loaded plugin, in the order of loading."""
        self._check_open()
        return [
            PluginInfo(
                id=sandbox.plugin_id,
                version=sandbox.metadata.version,
                format=sandbox.metadata.format,
                isolation=sandbox.confinement.level,
                state=sandbox.state,
                functions=tuple(sorted(sandbox.functions)),
            )
            for sandbox in self._sandboxes.values()
        ]

    def resource_usage(self, plugin_id: str) -> ResourceUsage:
        """What a plugin uses now, read from the kernel.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
        """
        return self._sandbox(plugin_id).usage()

    def stats(self) -> ManagerStats:
        """Counts over this manager's life."""
        live, past = list(self._sandboxes.values()), self._retired
        return ManagerStats(
            plugins=len(live),
            calls=past.calls + sum(sandbox.calls for sandbox in live),
            failures=past.failures + sum(sandbox.failures for sandbox in live),
            restarts=past.restarts + sum(max(sandbox.starts - 1, 0) for sandbox in live),
            violations=past.violations + sum(sandbox.violations for sandbox in live),
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
        sandboxes = list(self._sandboxes.values())
        self._sandboxes.clear()
        await asyncio.gather(*(self._retire(sandbox) for sandbox in sandboxes))
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


def _grant(bundle: Bundle, room: Confinement) -> dict[str, object]:
    """What a plugin gets and what it is, for the audit log."""
    policy = room.policy
    return {
        "path": bundle.path,
        "version": bundle.metadata.version,
        "format": room.format,
        "package": bundle.package.digest if bundle.package is not None else "",
        "signatures": room.signatures,
        "sha256": bundle.digests,
        "level": policy.level,
        "limits": asdict(policy.limits),
        "read": policy.read,
        "write": policy.write,
        "network": policy.network,
        "processes": policy.processes,
        "threads": policy.threads,
        "on_violation": policy.on_violation,
        "http": [str(grant) for grant in policy.http],
        "messages": {**asdict(policy.messages), "call": dict(policy.messages.call)},
        "host_functions": policy.host_functions,
    }


def _raise_descriptor_limit() -> None:
    """A live plugin holds five descriptors of the host; the usual soft limit of 1024 is for select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class PluginManagerBuilder:
    """Collects settings; :meth:`build` makes the manager."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] = {}
        self._paths: list[str | os.PathLike[str]] = []

    def with_sandbox(self, on: bool) -> Self:
        """The jail; ``False`` is refused by :meth:`build`."""
        return self._with(sandbox=on)

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

    def with_registry(
        self, registry: "str | PluginRegistry | PluginMarketplace", folder: str | os.PathLike[str] = "plugins"
    ) -> Self:
        """A registry, and where plugins from it are installed; or a marketplace, which has both."""
        from .marketplace.market import PluginMarketplace
        from .registry.client import PluginRegistry

        if isinstance(registry, str):
            registry = PluginRegistry(registry)
        if isinstance(registry, PluginRegistry):
            registry = PluginMarketplace(registry, folder)
        return self._with(marketplace=registry)

    def resource_limits(self, limits: SandboxConfig) -> Self:
        """Limits and grants of the host program, over the policy's."""
        return self._with(resource_limits=limits)

    def max_plugins(self, count: int) -> Self:
        """How many plugins may be loaded at once."""
        return self._with(max_plugins=count)

    def add_plugin_path(self, path: str | os.PathLike[str]) -> Self:
        """A folder in which a bare plugin name is looked up."""
        self._paths.append(path)
        return self

    def _with(self, **settings: Any) -> Self:
        self._settings |= settings
        return self

    async def build(self) -> PluginManager:
        """Make the manager, ready to load.

        Raises:
            ConfigError: A setting is wrong.
            InitializationFailed: The machine does not let it work.
        """
        manager = PluginManager(plugin_paths=self._paths, **self._settings)
        return await manager.__aenter__()
