"""A new version on trial: it gets a share of the calls, and replaces the other one if it does as well."""

import asyncio

from .deployment import Deployment, Release, Source, Trial, TrialRules
from .errors import PluginError
from .events import Events
from .loaded import LoadedPlugins
from .reload import Attempt, Reloader


class Canaries:
    """Trials of new versions.

    Args:
        reloader: Makes the new versions, and has the others end.
        events: Where it is told.
        loaded: The plugins.
    """

    def __init__(self, reloader: Reloader, events: Events, loaded: LoadedPlugins) -> None:
        self._reloader, self._events, self._loaded = reloader, events, loaded
        self._chores: set[asyncio.Task[None]] = set()

    async def begin(
        self,
        deployment: Deployment,
        stable: Release,
        source: Source,
        rules: TrialRules,
        *,
        force: bool,
    ) -> Trial:
        """Begin a trial, which ends itself by its rules; to be called as a change of its deployment.

        Args:
            deployment: The plugin.
            stable: One of its versions.
            source: Where the new one comes from.
            rules: When the trial ends, and how.
            force: Also when a dependant would have no version that fits, once the new one is promoted.

        Raises:
            ReloadFailed: The new version gets no calls.
        """
        with Attempt(deployment.plugin_id, source, self._events) as attempt:
            if deployment.trial is not None:
                attempt.step = "fit"
                raise attempt.fail("a version is on trial already; promote it or roll it back first")
            new = await self._reloader.prove(attempt, deployment, stable, source, None, force=force)
            if stable.metadata.state_functions or new.metadata.state_functions:
                await self._reloader.drop(new)
                attempt.step = "state"
                raise attempt.fail(
                    "it declares state, which cannot be in two versions at once; reload it instead"
                )
        trial = Trial(new, stable, rules)
        deployment.begin(trial)
        facts = {"version": str(new.version), "stable": str(stable.version), "weight": rules.weight}
        self._events.publish("canary_started", deployment.plugin_id, path=source.path, **facts)
        trial.verdict.add_done_callback(lambda verdict: self._decided(deployment, trial, verdict))
        return trial

    def _decided(self, deployment: Deployment, trial: Trial, verdict: "asyncio.Future[bool]") -> None:
        if not verdict.cancelled():
            chore = asyncio.create_task(self._conclude(deployment, trial, promote=verdict.result()))
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)

    async def _conclude(self, deployment: Deployment, trial: Trial, *, promote: bool) -> None:
        try:
            await deployment.change(lambda: self.end(deployment, trial, promote=promote))
        except PluginError:
            if promote and not deployment.closed:  # somebody needs the old version, so it is rolled back
                await self._conclude(deployment, trial, promote=False)

    async def end(self, deployment: Deployment, trial: Trial, *, promote: bool) -> None:
        """End a trial; to be called as a change of its deployment. One that has ended stays as it is.

        Args:
            deployment: The plugin.
            trial: Its trial.
            promote: The new version takes the place of the other one; otherwise it goes.

        Raises:
            DependencyError: Somebody that was loaded meanwhile needs the other one.
        """
        if deployment.trial is not trial:
            return
        if promote:
            metadata = trial.canary.metadata
            self._loaded.must_fit_instead(deployment.plugin_id, metadata, trial.stable, False)
        deployment.end_trial(promoted=promote)
        if promote:
            deployment.exchange(trial.stable, trial.canary)
            self._loaded.switched(deployment)
        self._reloader.retire(deployment, trial.stable if promote else trial.canary)
        mine, other = trial.tallies[trial.canary], trial.tallies[trial.stable]
        self._events.publish(
            "canary_ended",
            deployment.plugin_id,
            promoted=promote,
            version=str(trial.canary.version),
            stable=str(trial.stable.version),
            calls=mine.calls,
            errors=mine.errors,
            stable_calls=other.calls,
            stable_errors=other.errors,
        )

    async def close(self) -> None:
        """Wait for trials that are just ending."""
        await asyncio.gather(*self._chores)
