"""New versions in the place of those that serve: asked for, saved as a file, tried, or from a registry."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from .admission import Admission
from .canary import Canaries
from .closing import step
from .deployment import Release, Source, Trial, TrialRules
from .errors import ConfigError, PluginError, PluginNotFound
from .events import Events
from .loaded import LoadedPlugins
from .loader import Bundle
from .reload import Reloaded, Reloader
from .supply import Supply
from .watching import Watching

if TYPE_CHECKING:
    from .updates import Updates


class Succession:
    """All ways in which a version gives way to another; one change of a plugin at a time.

    Args:
        admission: Makes the new versions.
        loaded: The plugins.
        supply: Where those of a registry are.
        events: Where it is told.
        hot_reload: A version gives way when its file was saved.
    """

    def __init__(
        self, admission: Admission, loaded: LoadedPlugins, supply: Supply, events: Events, *, hot_reload: bool
    ) -> None:
        self._loaded, self._supply, self._events = loaded, supply, events
        self._reloader = Reloader(admission, events, loaded)
        self._canaries = Canaries(self._reloader, events, loaded)
        self._updates = self._updates_from(supply)
        self._watching: Watching | None = None
        if hot_reload:
            watching = Watching(admission.read_now, self._saved, self._watch_failed)
            loaded.on_change(lambda: watching.follow(_kept_by_hand(loaded.releases())))
            self._watching = watching

    def _updates_from(self, supply: Supply) -> "Updates | None":
        if supply.market is None:
            return None
        from .updates import Updates  # most programs talk to no registry

        return Updates(supply.market, self._loaded, self._reloader, self._canaries, self._events)

    def start(self) -> None:
        """Look for saved files and for new versions, from here on."""
        if self._watching is not None:
            self._watching.start()
        if self._updates is not None:
            self._updates.start()

    async def stop(self) -> None:
        """Look for nothing any more."""
        if self._watching is not None:
            await step("looks at files of plugins", self._watching.close())
        if self._updates is not None:
            await step("an update", self._updates.close())

    async def close(self) -> None:
        """Returns when no trial is being ended any more, once every plugin is gone."""
        await self._canaries.close()

    @property
    def updates(self) -> "Updates":
        """New versions from the registry.

        Raises:
            ConfigError: There is no registry.
        """
        if self._updates is None:
            raise ConfigError("registry", "the manager was made without one; name it with registry=")
        return self._updates

    async def reload(
        self, address: str, path: str | os.PathLike[str] | None, *, force: bool, drain_ms: int
    ) -> Reloaded:
        """Replace a version, as :meth:`PluginManager.reload_plugin` says."""
        deployment, wanted = self._loaded.find(address)

        async def work() -> Reloaded:
            old = deployment.match(wanted)
            source = await self._source(old, path)
            return await self._reloader.reload(deployment, old, source, force=force, drain_ms=drain_ms)

        return await deployment.change(work)

    async def begin_trial(
        self, address: str, path: str | os.PathLike[str], rules: TrialRules, *, force: bool
    ) -> Trial:
        """Try a new version, as :meth:`PluginManager.canary` says."""
        deployment, wanted = self._loaded.find(address)

        async def work() -> Trial:
            stable = deployment.match(wanted)
            source = await self._source(stable, path)
            return await self._canaries.begin(deployment, stable, source, rules, force=force)

        return await deployment.change(work)

    async def end_trial(self, address: str, *, promote: bool) -> None:
        """Have the version that is on trial replace the other one, or end.

        Raises:
            PluginNotFound: No plugin of that id is loaded, or none of its versions is on trial.
            DependencyError: A plugin that was loaded meanwhile needs the old version.
        """
        deployment, _ = self._loaded.find(address)
        trial = deployment.trial
        if trial is None:
            raise PluginNotFound(f"{address} on trial")
        await deployment.change(lambda: self._canaries.end(deployment, trial, promote=promote))

    async def _source(self, old: Release, path: str | os.PathLike[str] | None) -> Source:
        """Where the next version is: at a path, as it is installed now, or where the old one came from."""
        if path is None:
            return await self._supply.current(old.source)
        return replace(old.source, path=self._loaded.locate(os.fspath(path)), sha256="", origin="")

    async def _saved(self, release: Release, found: Bundle | PluginError) -> None:
        """The file of a version was saved, and holds this now."""
        deployment = self._loaded.deployments.get(release.plugin_id)
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


def _kept_by_hand(releases: list[Release]) -> list[Release]:
    """Those whose files people change; what was installed is replaced by the marketplace alone."""
    return [release for release in releases if not release.source.origin]
