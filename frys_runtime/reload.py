"""How a new version gets in the place of one that serves, without a call that is lost or fails for it.

The new one is made beside the old one and has to prove itself first: it is read, held against those that
depend on it, judged by the policy, started, asked for its health, and warmed. What the old one holds in
memory moves when both declare it; new calls wait meanwhile. Then new calls go to the new one, from one call
to the next, and the old one ends when it has finished what it had taken. Whatever fails before leaves the old
one as it was, and serving.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Final, Self

import msgspec

from .admission import Admission, digest
from .deployment import Deployment, Release, Source, Trial
from .errors import (
    AlreadyLoaded,
    InitializationFailed,
    PluginError,
    ReloadFailed,
    ResourceLimitExceeded,
    SandboxError,
)
from .events import Events
from .loader import Bundle
from .metadata import Metadata
from .pool import Pool
from .ranges import Version

DRAIN_MS: Final = 30_000
"""Milliseconds in which a version that was replaced may finish what it had taken."""
_MAX_RETIRING: Final = 4
"""Versions of one plugin that may be on their way out when the next one is loaded."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload has done.

    Attributes:
        plugin_id: The plugin.
        old_version: The version before.
        version: The version that serves now.
        ms: Milliseconds from the request until it did.
        load_ms: Of these, those that its process took to start and load it.
        held_ms: For how many milliseconds new calls waited while state moved.
        state_bytes: How much state moved.
    """

    plugin_id: str
    old_version: str
    version: str
    ms: float
    load_ms: float
    held_ms: float = 0.0
    state_bytes: int = 0


class _Attempt:
    """A reload under way: what fails in it is told as a failed reload, with the step where it happened."""

    def __init__(self, plugin_id: str, source: Source, events: Events) -> None:
        self.step = "read"
        self._plugin_id, self._source, self._events = plugin_id, source, events

    def fail(self, reason: str) -> ReloadFailed:
        """The error of this attempt, to be raised."""
        return ReloadFailed(self._plugin_id, self.step, reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        reason = "it was given up" if isinstance(error, asyncio.CancelledError) else str(error)
        if isinstance(error, ReloadFailed):
            reason = error.reason
        self._events.publish(
            "reload_failed", self._plugin_id, path=self._source.path, step=self.step, reason=reason
        )
        if isinstance(error, PluginError | TypeError | ValueError) and not isinstance(error, ReloadFailed):
            raise self.fail(reason) from error


class Reloader:
    """Replaces versions of plugins.

    Args:
        admission: Makes the new ones.
        events: Where it is told.
        fits: Refuses metadata that would not fit the other plugins in the place of a version.
        switched: Told when other versions serve.
        ended: Told when the processes of a version have ended.
    """

    def __init__(
        self,
        admission: Admission,
        events: Events,
        *,
        fits: Callable[[str, Metadata, Release, bool], None],
        switched: Callable[[Deployment], object],
        ended: Callable[[Pool], None],
    ) -> None:
        self._admission, self._events = admission, events
        self._fits, self._switched, self._ended = fits, switched, ended

    async def reload(
        self,
        deployment: Deployment,
        old: Release,
        source: Source,
        bundle: Bundle | None = None,
        *,
        force: bool = False,
        drain_ms: int = DRAIN_MS,
    ) -> Reloaded:
        """Replace a version; to be called as a change of its deployment.

        Args:
            deployment: The plugin.
            old: One of its versions.
            source: Where the new one comes from.
            bundle: Its bytes, if they were read already; taken over in any case.
            force: Also when a dependant would be left without a version that fits, or state be dropped.
            drain_ms: Milliseconds in which the old one may finish what it has taken.

        Raises:
            ReloadFailed: The old one serves on.
        """
        began = _now()
        with _Attempt(deployment.plugin_id, source, self._events) as attempt:
            new = await self._prove(attempt, deployment, old, source, bundle, force=force)
            try:
                held, size = await self._switch(attempt, deployment, old, new, force=force)
            except BaseException:
                await self._drop(new)
                raise
        self._retire(deployment, old, drain_ms)
        done = Reloaded(
            plugin_id=deployment.plugin_id,
            old_version=str(old.version),
            version=str(new.version),
            ms=(_now() - began) * 1000,
            load_ms=new.pool.load_ms,
            held_ms=held * 1000,
            state_bytes=size,
        )
        facts = asdict(done)
        del facts["plugin_id"]
        self._events.publish("reloaded", deployment.plugin_id, path=source.path, pid=new.pool.pid, **facts)
        return done

    async def _prove(
        self,
        attempt: _Attempt,
        deployment: Deployment,
        old: Release,
        source: Source,
        bundle: Bundle | None,
        *,
        force: bool,
    ) -> Release:
        """A new version that is ready to serve."""
        read = bundle if bundle is not None else await self._admission.read(source)
        try:
            await deployment.make_room(_MAX_RETIRING)
            attempt.step = "fit"
            self._must_fit(attempt, deployment, old, source, read.metadata, force=force)
        except BaseException:
            read.close()
            raise
        attempt.step = "policy"
        name = digest(read)
        pool = await self._admission.pool(deployment.plugin_id, read, source)
        try:
            attempt.step = "start"
            await pool.start()
            new = Release(pool, source, name)
            new.check_declared()
            attempt.step = "health"
            await pool.check_health()
            attempt.step = "warm-up"
            if new.metadata.warm_up:
                await pool.call(new.metadata.warm_up, ())
                await pool.ping()
        except BaseException:
            await pool.close()
            self._ended(pool)
            raise
        return new

    def _must_fit(
        self,
        attempt: _Attempt,
        deployment: Deployment,
        old: Release,
        source: Source,
        metadata: Metadata,
        *,
        force: bool,
    ) -> None:
        if source.plugin_id is None and metadata.id != deployment.plugin_id:
            raise attempt.fail(f"{source.path} holds the plugin {metadata.id!r} now; load that for itself")
        if deployment.trial is not None and old in deployment.trial.tallies:
            raise attempt.fail("a new version is on trial against it; promote or roll back that one first")
        version = Version.parse(metadata.version)
        if any(other is not old and other.version == version for other in deployment.releases):
            raise AlreadyLoaded(f"{deployment.plugin_id}@{version}")
        pinned = deployment.pinned
        if pinned is not None and pinned.matches(old.version) and not pinned.matches(version):
            raise attempt.fail(
                f"it is pinned to {pinned}, and {source.path} holds {version}; pin the new version, or none"
            )
        self._fits(deployment.plugin_id, metadata, old, force)

    async def _switch(
        self, attempt: _Attempt, deployment: Deployment, old: Release, new: Release, *, force: bool
    ) -> tuple[float, int]:
        """Move the state, then let the new version serve; for how long calls waited, and how much moved."""
        began, size = _now(), 0
        attempt.step = "state"
        moves = old.metadata.state_functions is not None
        if moves:
            old.gate = asyncio.get_running_loop().create_future()
        try:
            if moves:
                size = await self._move_state(attempt, old, new, force=force)
            attempt.step = "switch"
            self._must_fit(attempt, deployment, old, new.source, new.metadata, force=force)
            deployment.exchange(old, new)
            self._switched(deployment)
        finally:
            gate, old.gate = old.gate, None
            if gate is not None:
                gate.set_result(None)
        return (_now() - began if moves else 0.0), size

    async def _move_state(self, attempt: _Attempt, old: Release, new: Release, *, force: bool) -> int:
        gives, takes = old.metadata.state_functions, new.metadata.state_functions
        assert gives is not None
        if takes is None:
            if force:
                return 0
            raise attempt.fail("the new version declares no state, and what the old one holds would be lost")
        limits = old.pool.confinement.limits
        most = min(limits.state, new.pool.confinement.limits.state)
        deadline = _now() + limits.state_time / 1000
        if left := await old.pool.idle(deadline):
            raise attempt.fail(
                f"{left} calls were still under way after {limits.state_time} ms (limits.state_time of its "
                "policy), and their writes would be lost"
            )
        value = await old.pool.call(gives.export, (), _left_ms(attempt, deadline))
        size = len(msgspec.msgpack.encode(value))
        if size > most:
            raise ResourceLimitExceeded(old.plugin_id, "state", most, size)
        await new.pool.call(takes.import_, (value,), _left_ms(attempt, deadline))
        return size

    def _retire(self, deployment: Deployment, release: Release, drain_ms: int) -> None:
        async def end() -> None:
            cut = await release.pool.drain(_now() + drain_ms / 1000)
            self._ended(release.pool)
            counts = {"calls": release.pool.calls, "failures": release.pool.failures, "cut_off": cut}
            self._events.publish("retired", release.plugin_id, version=str(release.version), **counts)

        deployment.retire(release, end)

    async def _drop(self, release: Release) -> None:
        await release.pool.close()
        self._ended(release.pool)

    # A new version that gets a share of the calls first.

    async def try_out(
        self,
        deployment: Deployment,
        stable: Release,
        source: Source,
        *,
        weight: float,
        promote_after: int | None,
        max_error_rate: float,
        min_calls: int,
        force: bool,
    ) -> Trial:
        """Begin a trial; to be called as a change of its deployment.

        Raises:
            ReloadFailed: The new version gets no calls.
        """
        with _Attempt(deployment.plugin_id, source, self._events) as attempt:
            if deployment.trial is not None:
                attempt.step = "fit"
                raise attempt.fail("a version is on trial already; promote it or roll it back first")
            new = await self._prove(attempt, deployment, stable, source, None, force=force)
            try:
                attempt.step = "state"
                if stable.metadata.state_functions or new.metadata.state_functions:
                    raise attempt.fail(
                        "it declares state, which cannot be in two versions at once; reload it instead"
                    )
                trial = Trial(
                    new,
                    stable,
                    weight=weight,
                    promote_after=promote_after,
                    max_error_rate=max_error_rate,
                    min_calls=min_calls,
                )
            except BaseException:
                await self._drop(new)
                raise
        deployment.begin(trial)
        facts = {"version": str(new.version), "stable": str(stable.version), "weight": weight}
        self._events.publish("canary_started", deployment.plugin_id, path=source.path, **facts)
        return trial

    async def conclude(
        self, deployment: Deployment, trial: Trial, *, promote: bool, drain_ms: int = DRAIN_MS
    ) -> None:
        """End a trial; to be called as a change of its deployment. A trial that has ended stays as it is.

        Args:
            deployment: The plugin.
            trial: Its trial.
            promote: The new version takes the place of the other one; otherwise it goes.
            drain_ms: Milliseconds in which the one that goes may finish what it has taken.

        Raises:
            DependencyError: Somebody that was loaded meanwhile needs the other one.
        """
        if deployment.trial is not trial:
            return
        if promote:
            self._fits(deployment.plugin_id, trial.canary.metadata, trial.stable, False)
        deployment.end_trial()
        if promote:
            deployment.exchange(trial.stable, trial.canary)
            self._switched(deployment)
        self._retire(deployment, trial.stable if promote else trial.canary, drain_ms)
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


def is_lasting(error: ReloadFailed) -> bool:
    """Whether the machine failed and not the plugin, so that another version would do no better."""
    return isinstance(error.__cause__, SandboxError | InitializationFailed)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _left_ms(attempt: _Attempt, deadline: float) -> int:
    left = int((deadline - _now()) * 1000)
    if left <= 0:
        raise attempt.fail("no time was left to move its state (limits.state_time of its policy)")
    return left
