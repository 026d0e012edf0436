"""PluginMarketplace: install, upgrade and remove plugins in a folder, and say what is there."""

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..errors import ConfigError, DependencyError, RegistryError
from ..metadata import ID_RULE, is_id
from ..policy import PolicyFile, load_policy
from ..ranges import Range
from ..registry.client import PluginRegistry, to_the_end
from ..registry.oci import SCHEME, Reference
from ..registry.transport import Session
from ..registry.types import Index, Release, SearchPage
from .changes import Change, changes
from .checks import Finding, examine, unfit
from .lockfile import Lock, Locked
from .planning import Planner, Rules, Sources, passed_by
from .store import Store, Transaction

type Approve = Callable[[list[Change]], bool | Awaitable[bool]]


class Loadable(NamedTuple):
    """An installed package, to be loaded.

    Attributes:
        plugin: Its id.
        path: Where it is.
        sha256: What the bytes that are loaded must have; who loads it compares.
        version: Its version.
    """

    plugin: str
    path: str
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed plugin.

    Attributes:
        plugin: Its id.
        requested: The range in which it was asked for; empty when it is there because others need it.
        path: Its package.
        entry: What is locked about it.
    """

    plugin: str
    requested: str
    path: Path
    entry: Locked

    @property
    def version(self) -> str:
        """Its version."""
        return self.entry.version


@dataclass(frozen=True, slots=True)
class Outdated:
    """An installed plugin, and what there is of it.

    Attributes:
        plugin: Its id.
        version: What is installed.
        patch: The newest with the same major and minor number that an upgrade could choose.
        compatible: The newest in the range in which it was asked for.
        latest: The newest of all; a pre-release only where nothing else is.
        yanked: Why what is installed is not to be chosen any more; ``None`` when it still is.
        deprecated: Why the plugin is not kept up any more; ``None`` when it is.
    """

    plugin: str
    version: str
    patch: str
    compatible: str
    latest: str
    yanked: str | None
    deprecated: str | None


class PluginMarketplace:
    """Plugins from registries, installed in a folder.

        registry = PluginRegistry("https://plugins.example.com", root="root.json")
        marketplace = PluginMarketplace(registry, "./plugins")
        await marketplace.install("my-plugin", "^1.2")
        path = marketplace.path("my-plugin")

    A change is done as a whole or not at all, and by one process at a time. ``frys.lock`` in the folder says
    what is installed, byte for byte.

    Args:
        registry: A registry, or several; none are needed to look at what is installed, or to remove it. A
            plugin comes from the first that has it, and stays with that one.
        folder: Where plugins are installed; made when it is not there.
        policy: Whose signatures plugins must have to be installed. Policies are asked again at each load.
        min_age: How long a version must have been published to be chosen, as seconds or a ``timedelta``; the
            time is the one that the registry signed.
        approve: Is asked when an upgrade asks for more than before: permissions, capabilities, another
            format, signatures of none of the keys before, a new plugin. Without it, it is refused.
        wait: Seconds to wait for another process that changes the folder.

    Raises:
        ConfigError: A setting is wrong.
    """

    def __init__(
        self,
        registry: PluginRegistry | Iterable[PluginRegistry],
        folder: str | os.PathLike[str],
        *,
        policy: PolicyFile | str | os.PathLike[str] | None = None,
        min_age: float | timedelta = 0,
        approve: Approve | None = None,
        wait: float = 10,
    ) -> None:
        self.registries = (registry,) if isinstance(registry, PluginRegistry) else tuple(registry)
        if policy is not None and not isinstance(policy, PolicyFile):
            policy = load_policy(policy)
        age = min_age.total_seconds() if isinstance(min_age, timedelta) else float(min_age)
        if not 0 <= age < 1e10:
            raise ConfigError("min_age", f"must be 0 or more seconds, not {min_age!r}")
        self._store = Store(folder)
        self._rules = Rules(policy, age)
        self._approve, self._wait = approve, wait

    @property
    def folder(self) -> Path:
        """Where plugins are installed."""
        return self._store.folder

    # Changes.

    async def install(
        self, plugin: str = "", version: str | None = None, *, locked: bool = False
    ) -> list[Change]:
        """Install a plugin and what it needs; what is there already stays as it is, as far as that fits.

        Args:
            plugin: Its id, or ``oci://host/name:tag`` or ``oci://host/name@sha256:...``. Without one, what is
                locked is fetched where it is missing or damaged.
            version: A version or a range. Without one, the newest, and upgrades stay compatible to it.
            locked: Take what is locked, and nothing else: whatever differs is refused.

        Returns:
            What was changed; nothing when all was there.

        Raises:
            RegistryError: A registry does not answer, or must not be believed; or another process changes the
                folder, or it cannot be written.
            DependencyError: No versions fit together.
            LoadFailed: It lacks the signatures that the policy requires.
            ConfigError: Approval is needed and was not given, or the lock is none.
        """
        if locked or not plugin:
            return await self._restore(plugin, version)
        if plugin.startswith(SCHEME):
            return await self._install_reference(Reference.parse(plugin))
        if not is_id(plugin):
            raise ConfigError("plugin", f"{plugin[:100]!r} is the id of none: {ID_RULE}")
        wanted = None if version is None else str(Range.parse(version))

        def plan(planner: Planner, before: Lock) -> Lock:
            there = before.requested.get(plugin, "*")
            loose = {plugin} if wanted is not None and wanted != there else set()
            after = planner.plan({**before.requested, plugin: wanted or there}, loose)
            if wanted is None and plugin not in before.requested:
                after.requested[plugin] = f"^{after.plugins[plugin].version.partition('+')[0]}"
            return after

        return await self._change(plan, [plugin])

    async def _install_reference(self, reference: Reference) -> list[Change]:
        named: list[str] = []

        def plan(planner: Planner, before: Lock) -> Lock:
            plugin, version = planner.pull(reference)
            named.append(plugin)
            return planner.plan({**before.requested, plugin: f"={version}"})

        return await self._change(plan, named)

    async def upgrade(self, *plugins: str, version: str | None = None) -> list[Change]:
        """Bring plugins to the newest versions in the ranges in which they were asked for.

        Args:
            plugins: Which; all by default.
            version: Another range for the one that is named.

        Raises:
            PluginError: As :meth:`install`; also when one of them is not installed.
        """
        if version is not None and len(plugins) != 1:
            raise ValueError("a version is for one plugin; name it")

        def plan(planner: Planner, before: Lock) -> Lock:
            for plugin in plugins:
                self._check_installed(before, plugin)
            requested = dict(before.requested)
            if version is not None:
                requested[plugins[0]] = str(Range.parse(version))
            return planner.plan(requested, set(plugins) or set(before.plugins))

        return await self._change(plan, [])

    async def update(
        self,
        plugin: str,
        accepts: Callable[[Release], bool],
        roll_out: Callable[[Change, Loadable], Awaitable[bool | None]],
        *,
        min_age: float = 0,
    ) -> Change | None:
        """Replace an installed plugin by a newer version, if that proves itself; nothing else changes.

        Args:
            plugin: Its id.
            accepts: Says of a version whether it may be taken.
            roll_out: Gets what would change, and the package, which is in place for as long as this takes.
                ``True``: it serves, and is installed from now on. ``False``: it does not, and is remembered
                as rolled back. ``None``: neither. It is not called for a change that asks for more.
            min_age: How many seconds a version must be out, if that is more than the marketplace's own.

        Returns:
            The change, if there was a version to change to. One that ``asks`` was not made.

        Raises:
            PluginError: As :meth:`install`; what ``roll_out`` raises, too. Nothing is changed then.
        """
        async with self._store.change(self._wait) as transaction:
            before = transaction.before
            if plugin not in before.plugins:
                return None
            known = before.rolled_back.get(plugin, ())

            def work(session: Session) -> Lock:
                rules = self._rules._replace(min_age=max(self._rules.min_age, min_age))
                planner = Planner(transaction, self.registries, session, rules)
                return planner.update(plugin, lambda one: one.version not in known and accepts(one))

            after = await self._run(work)
            found = changes(before, after)
            if not found:
                return None
            change, entry = found[0], after.plugins[plugin]
            if change.asks:
                await to_the_end(transaction.sweep)
                return change
            serves = await roll_out(change, self._loadable(plugin, entry))
            if serves is not None:
                kept = after if serves else before.without_version(plugin, entry.version)
                await to_the_end(partial(transaction.commit, kept))
            else:
                await to_the_end(transaction.sweep)
            return change

    async def reject(self, plugin: str, version: str) -> None:
        """Remember that a version did not serve well, so that it is not taken by itself again.

        Raises:
            PluginError: Another process changes the folder, or it cannot be written.
        """
        async with self._store.change(self._wait) as transaction:
            after = transaction.before.without_version(plugin, version)
            if after != transaction.before:
                await to_the_end(partial(transaction.commit, after))

    async def uninstall(self, plugin: str, *, force: bool = False) -> list[Change]:
        """Remove a plugin, and what nobody needs any more then.

        Args:
            plugin: Its id.
            force: Also when others need it, which cannot be loaded then.

        Raises:
            DependencyError: Others need it.
            PluginError: It is not installed, or another process changes the folder.
        """
        async with self._store.change(self._wait) as transaction:
            before = transaction.before
            self._check_installed(before, plugin)
            needed_by = [
                f"{name} ({need.range})" for name, need in before.dependants(plugin) if name != plugin
            ]
            if needed_by and not force:
                raise DependencyError(
                    needed_by[0].partition(" ")[0],
                    plugin,
                    f"{plugin} is needed by {', '.join(needed_by)}; uninstall those first, or use force "
                    "(--force)",
                )
            after = msgspec.structs.replace(
                before,
                requested={name: wanted for name, wanted in before.requested.items() if name != plugin},
                plugins={name: entry for name, entry in before.plugins.items() if name != plugin},
            ).without_orphans()
            return await self._commit(transaction, after, [])

    async def _restore(self, plugin: str, version: str | None) -> list[Change]:
        async with self._store.change(self._wait) as transaction:
            lock = transaction.before
            if plugin:
                self._check_locked(lock, plugin, version)
            if findings := list(unfit(lock)):
                raise ConfigError(str(self.folder / "frys.lock"), "; ".join(map(str, findings)))

            def work(session: Session) -> list[Change]:
                planner = Planner(transaction, self.registries, session, self._rules)
                found = []
                for name, entry in lock.plugins.items():
                    if self._store.wrong_with(name, entry):
                        planner.mend(name, entry)
                        found.append(Change(name, None, entry))
                return found

            return await self._run(work)

    def _check_locked(self, lock: Lock, plugin: str, version: str | None) -> None:
        there = lock.plugins.get(plugin)
        if there is None:
            raise ConfigError(
                "locked", f"{plugin} is not in {self.folder / 'frys.lock'}, and nothing is added to it"
            )
        if version is not None and not Range.parse(version).matches(there.number):
            raise ConfigError(
                "locked", f"{plugin} is locked in version {there.version}, which is not {version}"
            )

    def _check_installed(self, lock: Lock, plugin: str) -> None:
        if plugin not in lock.plugins:
            there = ", ".join(lock.plugins) or "nothing"
            raise ConfigError("plugin", f"{plugin!r} is not installed in {self.folder}; installed: {there}")

    async def _change(self, plan: Callable[[Planner, Lock], Lock], named: Collection[str]) -> list[Change]:
        async with self._store.change(self._wait) as transaction:

            def work(session: Session) -> Lock:
                planner = Planner(transaction, self.registries, session, self._rules)
                return plan(planner, transaction.before)

            return await self._commit(transaction, await self._run(work), named)

    async def _commit(self, transaction: Transaction, after: Lock, named: Collection[str]) -> list[Change]:
        found = changes(transaction.before, after, named=named)
        asking = [change for change in found if change.asks]
        if asking and not await self._is_approved(asking):
            what = "; ".join(f"{change} and asks for {', '.join(change.asks)}" for change in asking)
            raise ConfigError(
                "approval",
                f"{what}. That was not approved, and nothing was changed; approve= (--yes) lets it through",
            )
        if after != transaction.before:
            await to_the_end(partial(transaction.commit, after))
        return found

    async def _is_approved(self, asking: list[Change]) -> bool:
        if self._approve is None:
            return False
        answer = self._approve(asking)
        return bool(await answer if inspect.isawaitable(answer) else answer)

    async def _run[T](self, work: Callable[[Session], T]) -> T:
        if not self.registries:
            raise ConfigError("registry", "this needs one; the marketplace was made without")
        try:
            return await self.registries[0].run(work)
        except OSError as error:
            raise RegistryError(
                str(self.folder), f"it cannot be written: {error.strerror or error}; nothing was installed"
            ) from None

    # What is there.

    def list(self) -> Sequence[Installed]:
        """All that is installed."""
        lock = self._store.read()
        return [
            Installed(name, lock.requested.get(name, ""), self._store.path(name, entry), entry)
            for name, entry in sorted(lock.plugins.items())
        ]

    def path(self, plugin: str) -> Path:
        """The package of an installed plugin.

        Raises:
            ConfigError: It is not installed.
        """
        lock = self._store.read()
        self._check_installed(lock, plugin)
        return self._store.path(plugin, lock.plugins[plugin])

    async def verify(self) -> Sequence[Finding]:
        """Read all that is installed, and tell what is not as it is locked, or not signed as it must be.

        Nothing is fetched. An empty list: all is well.
        """

        def work() -> list[Finding]:
            lock = self._store.read()
            return [*unfit(lock), *examine(self._store, lock, self._rules.policy)]

        return await asyncio.to_thread(work)

    async def outdated(self) -> Sequence[Outdated]:
        """Each plugin from a registry of which there is something newer, or about which there is a notice.

        Raises:
            RegistryError: A registry does not answer, or must not be believed.
        """
        lock = await asyncio.to_thread(self._store.read)

        def work(session: Session) -> list[Outdated]:
            sources = Sources(self.registries, lock, session)
            sources.note(self.folder, lock)
            found = []
            for plugin, entry in sorted(lock.plugins.items()):
                there = None if entry.is_oci else sources.find(plugin, entry.source)
                if there is None:
                    continue
                one = _compare(plugin, lock, there[1], self._rules.min_age)
                newer = {one.patch, one.compatible, one.latest} != {entry.version}
                if newer or one.yanked is not None or one.deprecated is not None:
                    found.append(one)
            return found

        return await self._run(work)

    async def browse(self, query: str = "", **filters: Any) -> SearchPage:
        """Search the first registry, as :meth:`PluginRegistry.search` does."""
        return await self.registries[0].search(query, **filters)

    async def locked(self, plugin: str) -> Loadable | None:
        """The package of a plugin, if it is installed; nobody is asked."""
        entry = (await asyncio.to_thread(self._store.read)).plugins.get(plugin)
        return None if entry is None else self._loadable(plugin, entry)

    def _loadable(self, plugin: str, entry: Locked) -> Loadable:
        return Loadable(plugin, str(self._store.path(plugin, entry)), entry.sha256, entry.version)

    def takes(self, name: str | os.PathLike[str]) -> bool:
        """Whether a name is one for :meth:`provide`: an id and a range, and no file is called so."""
        text = os.fspath(name)
        plugin, at, _ = text.partition("@")
        return bool(at) and is_id(plugin) and not os.path.lexists(text)

    async def provide(self, wanted: str) -> Sequence[Loadable]:
        """Have a plugin installed, and say what to load, each after what it needs.

        Args:
            wanted: Its id and a range: ``my-plugin@^1.2``. What is installed is taken if it is in the range,
                without asking anybody; otherwise it is installed. Without a range, whatever is installed.

        Raises:
            PluginError: As :meth:`install`.
            ValueError: The range is none.
        """
        plugin, _, version = wanted.partition("@")
        lock = await asyncio.to_thread(self._store.read)
        there = lock.plugins.get(plugin)
        if there is None or (version and not Range.parse(version).matches(there.number)):
            await self.install(plugin, version or None)
            lock = await asyncio.to_thread(self._store.read)
        return [self._loadable(name, lock.plugins[name]) for name in lock.needed(plugin)]


def _compare(plugin: str, lock: Lock, index: Index, min_age: float) -> Outdated:
    """What there is of a plugin, beside what is installed."""
    entry = lock.plugins[plugin]
    ranges = [need.range for _, need in lock.dependants(plugin)]
    ranges += [lock.requested[plugin]] if plugin in lock.requested else []
    own = next((one for one in index.versions if one.version == entry.version), None)
    numbers = [one.number for one in index.versions if not passed_by(one, min_age)]
    fitting = [one for one in numbers if all(Range.parse(wanted).matches(one) for wanted in ranges)]
    same_line = [one for one in fitting if one.numbers[:2] == entry.number.numbers[:2]]
    newest = Range.parse("*").best(numbers) or max(numbers, default=entry.number)
    return Outdated(
        plugin,
        entry.version,
        patch=str(max([*same_line, entry.number])),
        compatible=str(max([*fitting, entry.number])),
        latest=str(max(newest, entry.number)),
        yanked=own.yanked_reason if own is not None and own.yanked else None,
        deprecated=index.deprecated.message if index.deprecated is not None else None,
    )
