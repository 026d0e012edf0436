"""Everything that is loaded under one plugin id: its versions, and which of them a call gets.

An address is an id, or an id with a range behind it: ``tax``, ``tax@1``, ``tax@1.2.0``, ``tax@^1.2``. The
highest loaded version in the range gets the call; without a range, the highest release, or the one that is
pinned. While a new version is on trial it gets a share of the calls to the version that it is to replace.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from .config import IsolationLevel, SandboxConfig
from .errors import CommunicationError, LoadFailed, PluginNotFound, ReloadFailed, SecurityViolation, Timeout
from .interfaces import Interface
from .messages import MessageValue
from .metadata import Metadata, interface
from .policy_grants import MessageGrant
from .pool import Pool
from .ranges import Range, Version
from .states import PluginState
from .wit import offered

MAX_HELD: Final = 10_000
"""Calls that may wait while the state of their plugin moves."""
_MAX_KNOWN: Final = 256
"""Ranges whose best match is kept."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a version was loaded from, and what the host program said about it.

    Attributes:
        path: The file or folder; absolute.
        plugin_id: The id that the host program gave it; ``None`` for its own.
        isolation: The level that the host program chose, if it did.
        sandbox: Limits and grants of the host program.
        metadata: What the host program says in place of a plugin.json.
        sha256: What a package must have, as ``frys.lock`` says; empty for whatever is there.
        origin: What names it to the registry that it came from, as ``my-plugin@^1.2``; empty for a path.
    """

    path: str
    plugin_id: str | None = None
    isolation: IsolationLevel | str | None = None
    sandbox: SandboxConfig | None = None
    metadata: Metadata | None = None
    sha256: str = ""
    origin: str = ""


class Release:
    """One loaded version of a plugin: its processes, and where it came from.

    Args:
        pool: Its processes; owned by whoever holds the release.
        source: Where it came from.
        digest: Of its metadata and all its bytes.
    """

    def __init__(self, pool: Pool, source: Source, digest: str) -> None:
        self.pool, self.source, self.digest = pool, source, digest
        self.plugin_id, self.key = pool.plugin_id, pool.key
        self.metadata = pool.metadata
        self.version = Version.parse(pool.metadata.version)
        self._offers = offered(pool.metadata, pool.functions, pool.plugin_id)
        self._knows_functions = bool(pool.functions)
        self.gate: asyncio.Future[None] | None = None
        self.trial: Trial | None = None

    @property
    def interface(self) -> Interface:
        """What it offers to others: a component's functions, too, as soon as it has run."""
        if not self._knows_functions and self.pool.functions:
            self._knows_functions = True
            self._offers = offered(self.metadata, self.pool.functions, self.plugin_id)
        return self._offers

    @property
    def instances(self) -> int:
        """How many calls it can serve at the same time."""
        return self.pool.instances

    @property
    def longest_ms(self) -> int:
        """For how long a call without a deadline can take: waiting, working, perhaps twice, moving state."""
        limits = self.pool.confinement.limits
        twice = any(export.idempotent for export in self.metadata.exports.values())
        return (3 if twice else 2) * limits.execution_time + limits.state_time

    @property
    def functions(self) -> dict[str, str]:
        """Callable functions with signatures for people, in the plugin's own (untrusted) words."""
        return self.pool.functions

    @property
    def messages(self) -> MessageGrant:
        """What its policy lets it send to other plugins and receive from them."""
        return self.pool.messages

    def check_declared(self) -> None:
        """Refuse a plugin whose metadata names functions that it does not have.

        Raises:
            LoadFailed: It does.
        """
        if self.pool.state is PluginState.IDLE:
            return  # it is lazy: nothing of it has run yet
        state = self.metadata.state_functions
        if state is not None and self.instances > 1:
            reason = f"its plugin.json declares state, which cannot be in {self.instances} instances at once"
            raise LoadFailed(self.source.path, reason)
        declared = {"state.export": state.export, "state.import": state.import_} if state else {}
        declared |= {"warmUp": self.metadata.warm_up, "health": self.metadata.health}
        for key, function in declared.items():
            if function and function not in self.functions:
                there = ", ".join(sorted(self.functions)[:10]) or "none"
                reason = f"plugin.json: {key} names the function {function!r}, and its functions are {there}"
                raise LoadFailed(self.source.path, reason)

    def call(
        self, function: str, args: tuple[MessageValue, ...], timeout_ms: int | None = None
    ) -> Coroutine[Any, Any, MessageValue]:
        """Call one function; see :meth:`Pool.call`."""
        call = self.pool.call(function, args, timeout_ms)
        return call if self.trial is None else self.trial.observe(self, call)

    def begin(
        self, function: str, args: tuple[MessageValue, ...], timeout_ms: int | None
    ) -> Coroutine[Any, Any, MessageValue] | None:
        """Begin a call, if that is possible at once; see :meth:`Pool.begin`."""
        return None if self.trial is not None else self.pool.begin(function, args, timeout_ms)

    async def ping(self) -> None:
        """Have a process of it answer."""
        await self.pool.ping()


@dataclass(slots=True)
class Tally:
    """Calls that ended, and of these, those that gave no result."""

    calls: int = 0
    errors: int = 0

    @property
    def rate(self) -> float:
        """Errors by calls."""
        return self.errors / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class TrialRules:
    """When a trial ends, and how.

    Attributes:
        weight: The new version's share of the calls to the one that it is to replace, above 0 and up to 1.
        promote_after: Calls after which it replaces the other; ``None`` for never by itself.
        max_error_rate: How much higher than the other's its error rate may be.
        min_calls: Calls before which nothing is concluded from its error rate. Something forbidden that it
            tries is its end at once.

    Raises:
        ValueError: A number makes no sense.
    """

    weight: float
    promote_after: int | None
    max_error_rate: float
    min_calls: int

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight must be a share above 0 and up to 1, not {self.weight!r}")
        if not 0 <= self.max_error_rate <= 1:
            raise ValueError(f"max_error_rate must be between 0 and 1, not {self.max_error_rate!r}")
        for name in ("promote_after", "min_calls"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} must be a positive whole number, not {value!r}")


class Trial:
    """A new version that gets a share of the calls, until it has proved itself or failed.

    Which call goes where is counted, not drawn: of a hundred calls, a weight of 0.1 gives it every tenth.

    Args:
        canary: The new version.
        stable: The one that it is to replace.
        rules: When it ends.

    Attributes:
        tallies: What became of the calls to both since it began.
        verdict: Whether the new version is to replace the other one; done when that is known.
        ended: Whether it has replaced the other one; done at the end.
    """

    def __init__(self, canary: Release, stable: Release, rules: TrialRules) -> None:
        self.canary, self.stable, self.rules = canary, stable, rules
        self._due = 0.0
        self.tallies = {canary: Tally(), stable: Tally()}
        self.verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def choose(self, wanted: Range | None) -> Release:
        """Which of the two the next call gets."""
        if wanted is not None and not wanted.matches(self.canary.version):
            return self.stable
        if self.verdict.done() and not self.verdict.result():
            return self.stable
        self._due += self.rules.weight
        if self._due < 1 - 1e-9:
            return self.stable
        self._due -= 1
        return self.canary

    async def observe(self, release: Release, call: Coroutine[Any, Any, MessageValue]) -> MessageValue:
        """Make a call, and draw conclusions from how it ends; one that its caller gives up says nothing."""
        try:
            value = await call
        except Exception as error:
            self._count(release, failed=True)
            if isinstance(error, SecurityViolation) and release is self.canary and not self.verdict.done():
                self.verdict.set_result(False)
            raise
        self._count(release, failed=False)
        return value

    def _count(self, release: Release, *, failed: bool) -> None:
        tally = self.tallies[release]
        tally.calls += 1
        tally.errors += failed
        if self.verdict.done() or release is not self.canary:
            return
        rules, mine, other = self.rules, tally, self.tallies[self.stable]
        if mine.calls >= rules.min_calls and mine.rate - other.rate > rules.max_error_rate:
            self.verdict.set_result(False)
        elif rules.promote_after is not None and mine.calls >= max(rules.promote_after, rules.min_calls):
            self.verdict.set_result(True)


class Deployment:
    """The versions of one plugin that are loaded.

    Args:
        plugin_id: Their id.

    Attributes:
        releases: Those that serve, without one on trial, in the order of loading.
        trial: The trial that runs, if one does.
        closed: It was unloaded.
    """

    def __init__(self, plugin_id: str) -> None:
        self.plugin_id = plugin_id
        self.releases: tuple[Release, ...] = ()
        self.trial: Trial | None = None
        self.closed = False
        self._pinned: Range | None = None
        self._best: dict[Range | None, Release] = {}
        self._held = 0
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._leaving: set[Release] = set()

    # Which version a call gets.

    def pick(self, wanted: Range | None = None) -> Release:
        """The version for a call, now.

        Raises:
            PluginNotFound: None is in the range.
        """
        release = self._best.get(wanted)
        if release is None:
            release = self.match(wanted)
            if len(self._best) >= _MAX_KNOWN:
                self._best.clear()
            self._best[wanted] = release
        return release if release.trial is None else release.trial.choose(wanted)

    def match(self, wanted: Range | None = None) -> Release:
        """The version that an address means; one on trial never is.

        Raises:
            PluginNotFound: None is in the range.
        """
        within = self._pinned if wanted is None else wanted
        among = [release for release in self.releases if within is None or within.matches(release.version)]
        if not among:
            raise PluginNotFound(self.plugin_id if wanted is None else f"{self.plugin_id}@{wanted}")
        if within is None:
            return max(among, key=lambda release: (not release.version.pre_release, release.version))
        return max(among, key=lambda release: release.version)

    def settled(self, wanted: Range | None = None) -> Release | None:
        """The version that every call gets now, and at once; ``None`` where :meth:`reach` must say."""
        release = self._best.get(wanted)
        return release if release is None or (release.gate is None and release.trial is None) else None

    async def reach(self, wanted: Range | None = None) -> Release:
        """The version for a call, as soon as it takes calls; nothing comes between this and the call.

        Raises:
            PluginNotFound: None is in the range.
            CommunicationError: Too many calls wait already.
        """
        release = self.pick(wanted)
        while release.gate is not None:
            if self._held >= MAX_HELD:
                raise CommunicationError(
                    self.plugin_id, f"{MAX_HELD} calls wait already until its state has moved; slow down"
                )
            self._held += 1
            try:
                await asyncio.shield(release.gate)
            finally:
                self._held -= 1
            release = self.pick(wanted)
        return release

    async def reach_in_time(self, wanted: Range | None, timeout_ms: int | None) -> tuple[Release, int | None]:
        """:meth:`reach` within a call's time, and how much of that is left.

        Raises:
            Timeout: The version took no calls in time.
        """
        if timeout_ms is None:
            return await self.reach(wanted), None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        try:
            async with asyncio.timeout_at(deadline):
                release = await self.reach(wanted)
        except TimeoutError:
            raise Timeout(self.plugin_id, timeout_ms, waiting=True) from None
        return release, max(math.ceil((deadline - loop.time()) * 1000), 1)

    @property
    def pinned(self) -> Range | None:
        """The versions that may get calls without a range, if the host program has said so."""
        return self._pinned

    @pinned.setter
    def pinned(self, pinned: Range | None) -> None:
        if pinned is not None and not any(pinned.matches(release.version) for release in self.releases):
            raise PluginNotFound(f"{self.plugin_id}@{pinned}")
        self._pinned = pinned
        self._best.clear()

    def interface_of(self, metadata: Metadata) -> Interface:
        """What the version with exactly this metadata declares, also one that is going."""
        for release in (*self._served(), *self._leaving):
            if release.metadata is metadata:
                return release.interface
        return interface(metadata, self.plugin_id)  # of one that is not ready yet

    def holds(self, version: Version) -> bool:
        """Whether this version is loaded, be it on trial."""
        return any(release.version == version for release in self._served())

    def pools(self) -> list[Pool]:
        """The pools of every version, of those too that are on trial or on their way out."""
        return [release.pool for release in (*self._served(), *self._leaving)]

    def _served(self) -> list[Release]:
        """Every version that gets calls."""
        return [*self.releases, *([self.trial.canary] if self.trial else [])]

    # How the versions change.

    def add(self, release: Release) -> None:
        """One more version serves."""
        self.releases = (*self.releases, release)
        self._best.clear()

    def exchange(self, old: Release, new: Release) -> None:
        """From the next call on, one version serves in the place of another."""
        self.releases = tuple(new if release is old else release for release in self.releases)
        self._best.clear()

    def remove(self, release: Release) -> None:
        """A version gets no more calls; a pin ends with the last version that it means."""
        self.releases = tuple(other for other in self.releases if other is not release)
        if self._pinned is not None and not any(self._pinned.matches(one.version) for one in self.releases):
            self._pinned = None
        self._best.clear()

    def begin(self, trial: Trial) -> None:
        """A version is on trial from the next call on."""
        self.trial = trial
        trial.canary.trial = trial.stable.trial = trial

    def end_trial(self, *, promoted: bool = False) -> Trial | None:
        """No version is on trial any more; the one that was."""
        trial, self.trial = self.trial, None
        if trial is not None:
            trial.canary.trial = trial.stable.trial = None
            trial.verdict.cancel()
            trial.ended.set_result(promoted)
        return trial

    async def change[T](self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Change the versions, one change after the other; unloading cancels it and waits for its end."""

        async def in_turn() -> T:
            async with self._turn:
                return await work()

        task = asyncio.create_task(in_turn())
        self._changes.add(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error from None
            if self.closed:
                raise ReloadFailed(self.plugin_id, "switch", "it was unloaded meanwhile") from None
            raise
        finally:
            self._changes.discard(task)

    def retire(self, release: Release, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have a version that gets no more calls end by itself, in the background."""

        async def leave() -> None:
            try:
                await end()
            finally:
                self._leaving.discard(release)

        self._leaving.add(release)
        task = asyncio.create_task(leave())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def make_room(self, most: int) -> None:
        """Wait until fewer than so many versions are on their way out."""
        while len(self._retiring) >= most:
            await asyncio.wait(self._retiring, return_when=asyncio.FIRST_COMPLETED)

    async def close(self, end: Callable[[Release], Awaitable[None]]) -> None:
        """End every version at once; changes under way are cancelled first.

        Args:
            end: Ends one of them.
        """
        self.closed = True
        serving = self._served()
        self.end_trial()
        self.releases = ()
        self._best.clear()
        for task in self._changes:
            task.cancel()
        ends = [end(release) for release in serving]
        cut = [release.pool.close() for release in self._leaving]
        await asyncio.gather(*ends, *cut, *self._changes, *self._retiring, return_exceptions=True)
