"""One new version of a plugin from a registry, put in the place of what serves, or given up again."""

from dataclasses import replace
from typing import Final, NamedTuple

from .canary import Canaries
from .deployment import Deployment, Release, Trial, TrialRules
from .errors import PluginNotFound, ReloadFailed
from .marketplace.changes import Change
from .marketplace.market import Loadable
from .policy_terms import Policy
from .ranges import Range, Version
from .reload import Reloader, is_lasting

_OWN_STEPS: Final = ("start", "health", "warm-up", "state")
"""Steps of a reload that fail because of the new version itself, wherever it is tried."""
_NUMBERS: Final = {"patch": 2, "minor": 1, "any": 0}
"""How many numbers of a version stay the same."""


class Serving(NamedTuple):
    """A version that serves and came from a registry."""

    deployment: Deployment
    release: Release

    @property
    def plugin(self) -> str:
        """Its id in the registry."""
        return self.release.source.origin.partition("@")[0]

    @property
    def policy(self) -> Policy:
        """Its policy."""
        return self.release.pool.confinement.policy

    def current(self) -> Release:
        """What serves in its place by now.

        Raises:
            PluginNotFound: It was unloaded.
        """
        origin = self.release.source.origin
        found = next((one for one in self.deployment.releases if one.source.origin == origin), None)
        if found is None:
            raise PluginNotFound(self.deployment.plugin_id)
        return found

    def takes(self, version: Version) -> bool:
        """Whether what the host program has said about it lets this version in its place."""
        wanted, pinned = self.release.source.origin.partition("@")[2], self.deployment.pinned
        if pinned is not None and pinned.matches(self.release.version) and not pinned.matches(version):
            return False
        return not wanted or Range.parse(wanted).matches(version)

    def may_go_to(self, version: Version) -> bool:
        """Whether its policy lets it go to this version by itself, and :meth:`takes` too."""
        own, there = self.release.version.numbers, version.numbers
        same = _NUMBERS.get(self.policy.auto_update)
        if same is None or own[:same] != there[:same]:
            return False
        return bool(not version.pre_release or self.release.version.pre_release) and self.takes(version)


class Rollout:
    """Puts versions in the place of others.

    Args:
        reloader: Replaces versions.
        canaries: Tries them first.
        serving: All that serve the plugin.

    Attributes:
        serves: All of them serve the new version.
        trial: It is on trial, if it is.
        failure: Why it does not serve.
    """

    def __init__(self, reloader: Reloader, canaries: Canaries, serving: list[Serving]) -> None:
        self._reloader, self._canaries, self._serving = reloader, canaries, serving
        self.serves = False
        self.trial: Trial | None = None
        self.failure: ReloadFailed | None = None

    async def run(self, _: Change, there: Loadable) -> bool | None:
        """Roll a package out to all of them or to none; see :meth:`PluginMarketplace.update`."""
        switched: list[Serving] = []
        try:
            for one in self._serving:
                if await self._go_to(one, there):
                    return None
                switched.append(one)
        except ReloadFailed as error:
            self.failure = error
            for one in reversed(switched):
                old = one.release.source
                await self.replace(one, Loadable(one.plugin, old.path, old.sha256, str(one.release.version)))
            return False if error.step in _OWN_STEPS and not is_lasting(error) else None
        self.serves = True
        return True

    async def _go_to(self, one: Serving, there: Loadable) -> bool:
        """Replace one version; whether the new one is on trial instead, as its policy says."""
        share = one.policy.auto_update_canary
        if share and len(self._serving) == 1 and one.release.metadata.state_functions is None:
            self.trial = await self._begin_trial(one, there, share / 100)
            return True
        await self.replace(one, there)
        return False

    async def _begin_trial(self, one: Serving, there: Loadable, weight: float) -> Trial:
        source = replace(one.release.source, path=there.path, sha256=there.sha256)
        rules = TrialRules(weight, promote_after=1000, max_error_rate=0.02, min_calls=50)

        async def work() -> Trial:
            return await self._canaries.begin(one.deployment, one.current(), source, rules, force=False)

        return await one.deployment.change(work)

    async def replace(self, one: Serving, there: Loadable) -> None:
        """Have another version serve in the place of one.

        Raises:
            ReloadFailed: The old one serves on.
        """
        source = replace(one.release.source, path=there.path, sha256=there.sha256)

        async def work() -> None:
            await self._reloader.reload(one.deployment, one.current(), source)

        await one.deployment.change(work)
