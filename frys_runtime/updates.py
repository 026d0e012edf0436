"""New versions from registries in the place of those that serve, by themselves, as far as policies let them.

A version is put in place and proves itself in this manager first. Only when it serves does ``frys.lock`` name
it, and what was there before is deleted: who is killed before that starts with the old version, and after it
with the new one. While one manager does this, no other one can; the others follow what the lock says.
"""

import asyncio
import logging
import random
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from .canary import Canaries
from .deployment import Trial
from .errors import PluginError, ReloadFailed
from .events import EventKind, Events
from .loaded import LoadedPlugins
from .marketplace.changes import Change
from .marketplace.market import Loadable, Outdated, PluginMarketplace
from .ranges import Version
from .registry.types import Release as Offer
from .reload import Reloader
from .rollout import Rollout, Serving

logger = logging.getLogger("frys.updates")

_JITTER: Final = 0.1
_ROUNDS: Final = 20


class Updates:
    """Looks for new versions of what is loaded, and rolls them out.

    Args:
        market: Where they come from.
        loaded: The plugins.
        reloader: Replaces versions.
        canaries: Tries them first.
        events: Where it is told.
    """

    def __init__(
        self,
        market: PluginMarketplace,
        loaded: LoadedPlugins,
        reloader: Reloader,
        canaries: Canaries,
        events: Events,
    ) -> None:
        self._market, self._loaded, self._reloader = market, loaded, reloader
        self._canaries, self._events = canaries, events
        self._avoided: dict[str, set[str]] = {}
        self._told: dict[tuple[EventKind, str], dict[str, object]] = {}
        self._due: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._busy = asyncio.Lock()
        self._loop: asyncio.Task[None] | None = None
        self._trials: set[asyncio.Task[None]] = set()
        loaded.on_change(self._changed.set)

    def start(self) -> None:
        """Look from now on, as often as policies say."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; a change that is being written is written to its end."""
        tasks = [task for task in (self._loop, *self._trials) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def check(self, plugins: Iterable[str] | None = None) -> list[Change]:
        """Look for new versions now, and roll out those that policies let come by themselves.

        Args:
            plugins: Ids in the registry; by default all that are loaded from it and may be updated.

        Returns:
            What was installed and serves.
        """
        async with self._busy:
            serving = self._serving()
            wanted = serving.keys() if plugins is None else [one for one in plugins if one in serving]
            for plugin in wanted:
                await self._follow(plugin, serving[plugin])
            try:
                newer = {one.plugin: one for one in await self._market.outdated()} if wanted else {}
            except PluginError as error:
                self._tell("update_failed", "", reason=str(error))
                return []
            self._told.pop(("update_failed", ""), None)
            done = [await self._update(plugin, newer[plugin]) for plugin in wanted if plugin in newer]
            return [change for changes in done for change in changes]

    # When.

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            now, serving = asyncio.get_running_loop().time(), self._serving()
            for plugin, ones in serving.items():
                seconds = _interval(ones)
                # The first look comes somewhere in the first interval: many that start together spread.
                self._due.setdefault(plugin, now + random.uniform(0, seconds))  # noqa: S311 - no secret
            self._due = {plugin: due for plugin, due in self._due.items() if plugin in serving}
            due_now = [plugin for plugin, due in self._due.items() if due <= now]
            if due_now:
                try:
                    await self.check(due_now)
                except Exception:
                    logger.exception("looking for new versions failed; it is tried again")
                now = asyncio.get_running_loop().time()
                for plugin in due_now:
                    spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret
                    self._due[plugin] = now + _interval(serving[plugin]) * spread
                continue
            wait = min(self._due.values()) - now if self._due else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _serving(self) -> dict[str, list[Serving]]:
        """What came from the registry and may be updated, by its id there."""
        found: dict[str, list[Serving]] = {}
        for deployment in self._loaded.deployments.values():
            for release in deployment.releases:
                one = Serving(deployment, release)
                if one.plugin and one.policy.auto_update != "none" and deployment.trial is None:
                    found.setdefault(one.plugin, []).append(one)
        return found

    # What.

    async def _follow(self, plugin: str, serving: list[Serving]) -> None:
        """Bring what serves to what is installed: another manager, or a person, has changed that."""
        try:
            there = await self._market.locked(plugin)
        except PluginError as error:
            self._tell("update_failed", plugin, reason=str(error))
            return
        if there is None or there.version in self._avoided.get(plugin, ()):
            return
        for one in serving:
            if one.release.source.sha256 == there.sha256 or not one.takes(Version.parse(there.version)):
                continue
            try:
                await self._rollout([one]).replace(one, there)
            except ReloadFailed as error:
                if error.step != "read":  # otherwise it may just have been changed once more
                    self._avoid(plugin, there.version)
                versions = {"old_version": str(one.release.version), "version": there.version}
                self._events.publish(
                    "update_failed", plugin, **versions, step=error.step, reason=error.reason
                )

    async def _update(self, plugin: str, news: Outdated) -> list[Change]:
        """Roll out the newest version that may come by itself; if that asks for more, the one before it."""
        if {news.patch, news.compatible, news.latest} != {news.version}:
            facts = {"patch": news.patch, "compatible": news.compatible, "latest": news.latest}
            self._tell("update_available", plugin, version=news.version, **facts)
        for _ in range(_ROUNDS):
            serving = self._serving().get(plugin, [])
            if not serving:
                break
            rollout = self._rollout(serving)
            try:
                change = await self._offer(plugin, serving, rollout)
            except PluginError as error:
                self._tell("update_failed", plugin, reason=str(error))
                if rollout.serves:  # and could not be written down
                    await self._follow(plugin, self._serving().get(plugin, []))
                break
            if change is None or change.after is None:
                break
            if rollout.trial is not None:
                self._watch(plugin, change, rollout.trial)
                break
            if rollout.serves:
                self._publish("updated", plugin, change)
                return [change]
            self._avoid(plugin, change.after.version)
            if rollout.failure is not None:
                failure = rollout.failure
                self._publish("update_failed", plugin, change, step=failure.step, reason=failure.reason)
                break
            self._publish("update_refused", plugin, change, asks=list(change.asks))
        return []

    async def _offer(self, plugin: str, serving: list[Serving], rollout: Rollout) -> Change | None:
        avoided = self._avoided.get(plugin, set())

        def accepts(offer: Offer) -> bool:
            return offer.version not in avoided and all(one.may_go_to(offer.number) for one in serving)

        age = max(one.policy.auto_update_min_age for one in serving) / 1000
        return await self._market.update(plugin, accepts, rollout.run, min_age=age)

    def _rollout(self, serving: list[Serving]) -> Rollout:
        return Rollout(self._reloader, self._canaries, serving)

    def _avoid(self, plugin: str, version: str) -> None:
        self._avoided.setdefault(plugin, set()).add(version)

    def _publish(self, kind: EventKind, plugin: str, change: Change, **facts: object) -> None:
        versions = {
            "old_version": change.before.version if change.before is not None else "",
            "version": change.after.version if change.after is not None else "",
        }
        self._events.publish(kind, plugin, **versions, **facts)

    def _tell(self, kind: EventKind, plugin: str, **facts: object) -> None:
        """Publish what is news; the same again is none."""
        if self._told.get((kind, plugin)) != facts:
            self._told[kind, plugin] = facts
            self._events.publish(kind, plugin, **facts)

    # Trials.

    def _watch(self, plugin: str, change: Change, trial: Trial) -> None:
        task = asyncio.create_task(self._conclude(plugin, change, trial))
        self._trials.add(task)
        task.add_done_callback(self._trials.discard)

    async def _conclude(self, plugin: str, change: Change, trial: Trial) -> None:
        """Install the version that is on trial when it is promoted, and remember it when it is not."""
        promoted = await asyncio.shield(trial.ended)
        assert change.after is not None
        version, digest = change.after.version, change.after.sha256

        async def serves(_: Change, there: Loadable) -> bool | None:
            return True if there.sha256 == digest else None

        try:
            if promoted:
                await self._market.update(plugin, lambda offer: offer.version == version, serves)
                self._publish("updated", plugin, change)
                return
            self._avoid(plugin, version)
            deployment = self._loaded.deployments.get(trial.stable.plugin_id)
            if deployment is None or trial.stable not in deployment.releases:
                return  # it was unloaded meanwhile, which says nothing about the version
            await self._market.reject(plugin, version)
            mine, other = trial.tallies[trial.canary], trial.tallies[trial.stable]
            reason = f"{mine.errors} of {mine.calls} calls failed, and {other.errors} of {other.calls} before"
            self._publish("update_failed", plugin, change, step="canary", reason=reason)
        except PluginError as error:
            self._publish("update_failed", plugin, change, step="lock", reason=str(error))


def _interval(serving: list[Serving]) -> float:
    """Seconds between two looks."""
    return min(one.policy.auto_update_interval for one in serving) / 1000
