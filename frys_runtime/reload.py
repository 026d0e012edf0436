"""How a new version gets in the place of one that serves, without a call that is lost or fails for it.

The new one is made beside the old one and has to prove itself first: it is read, held against those that
depend on it, judged by the policy, started, asked for its health, and warmed. What the old one holds in
memory moves when both declare it; new calls wait meanwhile. Then new calls go to the new one, from one call
to the next, and the old one ends when it has finished what it had taken. Whatever fails before leaves the old
one as it was, and serving.
"""

import asyncio
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Final, Self

import msgspec

from .admission import Admission, digest
from .deployment import Deployment, Release, Source
from .errors import (
    AlreadyLoaded,
    InitializationFailed,
    PluginError,
    ReloadFailed,
    ResourceLimitExceeded,
    SandboxError,
)
from .events import Events
from .loaded import LoadedPlugins
from .loader import Bundle
from .messages import MessageValue
from .metadata import Metadata
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


class Attempt:
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
        loaded: The plugins.
    """

    def __init__(
        self,
        admission: Admission,
        events: Events,
        loaded: LoadedPlugins,
    ) -> None:
        self._admission, self._events, self._loaded = admission, events, loaded

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
            force: Also when a dependant would be left without a version that fits, or the old one's state be
                dropped.
            drain_ms: Milliseconds in which the old one may finish what it has taken.

        Raises:
            ReloadFailed: The old one serves on.
        """
        began = _now()
        with Attempt(deployment.plugin_id, source, self._events) as attempt:
            new = await self.prove(attempt, deployment, old, source, bundle, force=force)
            try:
                held, size = await self._switch(attempt, deployment, old, new, force=force)
            except BaseException:
                await self.drop(new)
                raise
        self.retire(deployment, old, drain_ms)
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

    async def prove(
        self,
        attempt: Attempt,
        deployment: Deployment,
        old: Release,
        source: Source,
        bundle: Bundle | None,
        *,
        force: bool,
    ) -> Release:
        """Make a new version that is ready to serve beside the old one.

        Args:
            attempt: Is told how far it is.
            deployment: The plugin.
            old: The version that it is to replace.
            source: Where it comes from.
            bundle: Its bytes, if they were read already; taken over in any case.
            force: What depends on the plugin does not count.
        """
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
            new.check_declared()  # a lazy one runs only now
            attempt.step = "warm-up"
            if new.metadata.warm_up:
                await pool.call(new.metadata.warm_up, ())
                await pool.ping()
        except BaseException:
            await pool.close()
            self._loaded.count(pool)
            raise
        return new

    def _must_fit(
        self,
        attempt: Attempt,
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
        self._loaded.must_fit_instead(deployment.plugin_id, metadata, old, force)

    async def _switch(
        self, attempt: Attempt, deployment: Deployment, old: Release, new: Release, *, force: bool
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
            self._loaded.switched(deployment)
        finally:
            gate, old.gate = old.gate, None
            if gate is not None:
                gate.set_result(None)
        return (_now() - began if moves else 0.0), size

    async def _move_state(self, attempt: Attempt, old: Release, new: Release, *, force: bool) -> int:
        takes = new.metadata.state_functions
        if takes is None:
            if force:
                return 0
            raise attempt.fail("the new version declares no state, and what the old one holds would be lost")
        most = min(old.pool.confinement.limits.state, new.pool.confinement.limits.state)
        deadline = _now() + old.pool.confinement.limits.state_time / 1000
        try:
            value = await self._export(attempt, old, deadline)
            size = len(msgspec.msgpack.encode(value))
            if size > most:
                raise ResourceLimitExceeded(old.plugin_id, "state", most, size)
        except (PluginError, TypeError, ValueError):
            if force:
                return 0
            raise
        await new.pool.call(takes.import_, (value,), _left_ms(attempt, deadline))
        return size

    async def _export(self, attempt: Attempt, old: Release, deadline: float) -> MessageValue:
        """What a version holds in memory, once it has finished what it had taken."""
        gives, limits = old.metadata.state_functions, old.pool.confinement.limits
        assert gives is not None
        if left := await old.pool.idle(deadline):
            raise attempt.fail(
                f"{left} calls were still under way after {limits.state_time} ms (limits.state_time of its "
                "policy), and their writes would be lost"
            )
        return await old.pool.call(gives.export, (), _left_ms(attempt, deadline))

    def retire(self, deployment: Deployment, release: Release, drain_ms: int = DRAIN_MS) -> None:
        """Have a version that gets no more calls end when it has finished what it had taken."""

        async def end() -> None:
            cut = await release.pool.drain(_now() + drain_ms / 1000)
            self._loaded.count(release.pool)
            counts = {"calls": release.pool.calls, "failures": release.pool.failures, "cut_off": cut}
            self._events.publish("retired", release.plugin_id, version=str(release.version), **counts)

        deployment.retire(release, end)

    async def drop(self, release: Release) -> None:
        """End a version that never got a call."""
        await release.pool.close()
        self._loaded.count(release.pool)


def is_lasting(error: ReloadFailed) -> bool:
    """Whether the machine failed and not the plugin, so that another version would do no better."""
    return isinstance(error.__cause__, SandboxError | InitializationFailed)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _left_ms(attempt: Attempt, deadline: float) -> int:
    left = int((deadline - _now()) * 1000)
    if left <= 0:
        raise attempt.fail("no time was left to move its state (limits.state_time of its policy)")
    return left
