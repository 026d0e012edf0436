"""What state one version of a plugin is in, and what follows for its processes and for calls.

Calls wait in one queue, in order, and go to whichever instance is free: with one call at a time in each,
that is the least loaded. docs/supervision.md says what follows from what.
"""

import asyncio
import math
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final

from .errors import CommunicationError, LoadFailed, PluginError, SandboxError, SecurityViolation, Unavailable
from .events import Events
from .faults import Faults
from .instances import Instances
from .isolation import Confinement
from .loader import Bundle
from .messages import MessageValue
from .nursery import Nursery
from .sandbox import PluginSandbox
from .services import Services, Shared
from .states import TRANSITIONS, PluginState
from .supervision import Fault, FaultKind, kind_of
from .turns import Turns
from .upkeep import Upkeep, is_well
from .violations import Violations
from .waits import line

_READY: Final = PluginState.READY
STARTABLE: Final = frozenset(
    {PluginState.READY, PluginState.STARTING, PluginState.IDLE, PluginState.DRAINING}
)
"""The states in which a call that came through may still find a process."""
_FREEZABLE: Final = frozenset({PluginState.READY, PluginState.STARTING, PluginState.IDLE})
_FAILED_START_SECONDS: Final = 0.1
"""The least pause after a start that failed, whatever the policy says."""


class Fleet:
    """Keeps the instances of one version of a plugin: replaces what dies, looks after what lives.

    Made by :class:`frys_runtime.pool.Pool`.

    Args:
        plugin_id: The id under which it is loaded.
        key: A number that no other version has.
        bundle: The plugin; not owned.
        confinement: What its policy makes of it on this machine.
        nursery: Where processes come from.
        events: Where changes are told.
        shared: What the plugins of one manager share.
        services: What it may ask its host.
        violations: Counts them instead of the policy's own.

    Attributes:
        state: Where it is in its life.
        functions: Callable functions with signatures for people, in the plugin's own (untrusted) words;
            empty until a process of it has run.
        load_ms: Milliseconds that the last start of a process took.
        restarts: Fresh processes that replaced dead ones.
        faults: What happened to its processes, and what follows for calls.
        instances: Where its processes are; each serves one call at a time.
        admits_nested: While it drains, it takes calls that other plugins make to serve theirs.
    """

    def __init__(
        self,
        plugin_id: str,
        key: int,
        bundle: Bundle,
        confinement: Confinement,
        nursery: Nursery,
        events: Events,
        shared: Shared | None,
        services: Services | None,
        violations: Violations | None,
    ) -> None:
        self._plugin_id, self._path, self._policy = plugin_id, bundle.path, confinement.policy
        self._events = events
        self._metadata = bundle.metadata
        self._rules = confinement.policy.supervision
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(plugin_id, self._rules.max_queue)
        self._upkeep = Upkeep(self._rules, self._end_unused, lambda: self._chore(self._check_free()))
        self._fallen: set[PluginSandbox] = set()
        self._quarantine_timer: asyncio.TimerHandle | None = None
        self._chores: set[asyncio.Task[Any]] = set()
        self._pausing = asyncio.Lock()
        self.state = PluginState.LOADING
        self.functions: dict[str, str] = {}
        self.load_ms = 0.0
        self.restarts = 0
        self.faults = Faults(plugin_id, self._rules, confinement.limits.execution_time, events)
        self.instances = Instances(
            plugin_id, key, bundle, confinement, nursery, self, events, shared, services, violations
        )
        self.admits_nested = False

    def go(self, state: PluginState, why: str) -> None:
        """Change the state, and tell."""
        if state is self.state:
            return
        old, self.state = self.state, state
        assert state in TRANSITIONS[old], f"{old} > {state}: {why}"
        self._turns.open = state is _READY or state is PluginState.DRAINING
        self._events.publish("state", self._plugin_id, old=str(old), new=str(state), why=why)

    # Loading.

    async def start(self) -> None:
        """Load the plugin; where its policy says ``lazy``, only its file and policy are verified now.

        Raises:
            InvalidFormat: The file is not what its format says.
            LoadFailed: The plugin could not be loaded.
            SandboxError: The jail is not what the policy requires.
            Timeout, ResourceLimitExceeded, SecurityViolation: While loading.
        """
        # Only the running plugin knows which functions handle its events.
        if self._rules.lazy and not self._metadata.events.subscribes:
            self.go(PluginState.IDLE, "it is lazy: its first call starts it")
            return
        slot = self.instances.add()
        await slot.start()
        health = self._metadata.health
        if health and health not in slot.functions:
            reason = f"its plugin.json names {health!r} as its health function, and it has none of that name"
            raise LoadFailed(self._path, reason)
        self.on_started(slot)

    # Instances for calls.

    def take_free(self) -> PluginSandbox | None:
        """A free instance, if there is one."""
        return self._turns.take()

    async def take(self, deadline: float, timeout_ms: int) -> PluginSandbox:
        """A free instance; who takes it gives it back.

        Args:
            deadline: Until when to wait for one, by the event loop's clock.
            timeout_ms: How long the caller said that is.

        Raises:
            Unavailable: Too many calls wait.
            PluginError: None could be started, or none was free in time.
        """
        return self._turns.take() or await self._wait(deadline, timeout_ms)

    async def _wait(self, deadline: float, timeout_ms: int) -> PluginSandbox:
        while True:
            turn = self._turns.queue()
            self._grow()
            slot = await self._turns.wait(turn, deadline, timeout_ms)
            if slot.is_ready:
                return slot

    def give_back(self, slot: PluginSandbox) -> None:
        """An instance that was taken is free again, if its process is still there."""
        if self.state in (PluginState.QUARANTINED, PluginState.DISABLED) and slot.is_ready:
            self._chore(slot.stop())
        else:
            self._turns.offer(slot)

    def admit(self) -> bool:
        """Refuse a call that cannot be served.

        Returns:
            Whether it is one that tries after failures.
        """
        match self.state:
            case PluginState.UNLOADED:
                raise CommunicationError(self._plugin_id, "it was unloaded")
            case PluginState.DISABLED:
                raise self._disabled()
            case PluginState.DRAINING if not (self.admits_nested and line()):
                raise Unavailable(self._plugin_id, "it is being drained and takes no new calls")
            case PluginState.QUARANTINED:
                raise self.faults.quarantined()
        return self.faults.admit()

    async def borrow(self, timeout_ms: int) -> PluginSandbox:
        """A free instance for something that is no call."""
        if self.state is not _READY:
            self.admit()
        return await self.take(self._loop.time() + timeout_ms / 1000, timeout_ms)

    # Processes that are started, and that fail.

    def _grow(self) -> None:
        """Start one more instance, if calls wait for more than are being started."""
        if self.state not in STARTABLE or self.instances.coming >= len(self._turns):
            return
        if slot := self.instances.vacant_or_new():
            self._start_soon(slot)

    def _start_soon(self, slot: PluginSandbox) -> None:
        """Start an instance at once, or when its back-off is over."""
        if self.state is PluginState.IDLE:
            self.go(PluginState.STARTING, "a call needs it")
        self.instances.start(slot, self.faults.restarts.not_before)

    def on_due(self, sandbox: PluginSandbox) -> None:
        """The back-off of an instance is over."""
        if self.state in STARTABLE:
            self._start_soon(sandbox)

    def on_started(self, sandbox: PluginSandbox) -> None:
        """An instance has a process."""
        self.functions, self.load_ms = sandbox.functions, sandbox.load_ms
        if sandbox in self._fallen:
            self._fallen.discard(sandbox)
            self.restarts += 1
            self._events.publish("restarted", self._plugin_id, restarts=self.restarts, ms=sandbox.load_ms)
        if self.state in (PluginState.LOADING, PluginState.STARTING):
            self.go(_READY, "a process has loaded it")
        self._upkeep.start()
        self.give_back(sandbox)

    def on_failed(self, sandbox: PluginSandbox, error: PluginError) -> None:
        """An instance could not be started: try again, unless that happened too often."""
        self._fallen.add(sandbox)
        reason = f"it could not be started again: {error}"
        self.faults.count(Fault(kind_of(error, outside=False), reason))
        if not self._is_out_of_service():
            if not self.instances.have_live and not self.instances.starting:
                self._turns.fail(error)
            self.faults.restarts.hold(self._loop.time() + _FAILED_START_SECONDS)
            self._start_soon(sandbox)

    def on_free(self, sandbox: PluginSandbox) -> None:
        """An instance can serve again."""
        self.give_back(sandbox)

    def on_down(
        self,
        sandbox: PluginSandbox,
        error: PluginError | None,
        *,
        outside: bool = False,
        function: str = "",
        args: tuple[MessageValue, ...] | None = None,
    ) -> None:
        """A process is gone; start another one, unless it happened too often."""
        self._fallen.add(sandbox)
        if error is not None and self.state is not PluginState.UNLOADED:
            self.faults.note(error, function, args, outside=outside)
            if self._is_out_of_service():
                return
        if self.state is _READY and not self.instances.have_live:
            self.go(PluginState.STARTING, f"its process ended: {error or 'its caller gave up'}")
        if self.state in (_READY, PluginState.STARTING) or (self.state in STARTABLE and len(self._turns)):
            self._start_soon(sandbox)

    def _is_out_of_service(self) -> bool:
        """Take it out of service where the last failure was once too often; whether it is."""
        tally, most = self.instances.tally, self._policy.max_violations
        if 0 < most <= tally.total:
            if PluginState.DISABLED in TRANSITIONS[self.state]:
                self.go(PluginState.DISABLED, tally.latest)
                self._events.publish("disabled", self._plugin_id, violations=tally.total)
                self._stop_serving(self._disabled())
                for slot in self.instances.all:
                    slot.condemn(self._disabled())
            return True
        quarantine = self.faults.restarts.quarantine
        if quarantine is None:
            return False
        if PluginState.QUARANTINED in TRANSITIONS[self.state]:
            self.go(PluginState.QUARANTINED, quarantine.reason)
            lasts = None if quarantine.until == math.inf else quarantine.until - self._loop.time()
            facts = {"function": quarantine.function, "input_sha256": quarantine.digest, "seconds": lasts}
            self._events.publish("quarantined", self._plugin_id, reason=quarantine.reason, **facts)
            self._stop_serving(self.faults.quarantined())
            if lasts is not None:
                why = "its quarantine is over"
                self._quarantine_timer = self._loop.call_later(lasts, self._begin_anew, why)
        return True

    def _stop_serving(self, error: PluginError) -> None:
        self.instances.forget_due()  # what is being started is ended when it is there
        self._turns.fail(error)
        free, self._turns.free = self._turns.free, []
        for slot in free:
            if slot.is_ready:
                self._chore(slot.stop())

    def _disabled(self) -> SecurityViolation:
        tally = self.instances.tally
        what = f"{tally.total} forbidden act{'s' * (tally.total != 1)}, the last: {tally.latest}"
        return SecurityViolation(self._plugin_id, what, disabled=True)

    def _begin_anew(self, why: str) -> None:
        if self._quarantine_timer is not None:
            self._quarantine_timer.cancel()
        self._quarantine_timer = None
        self.faults.forgive(why)
        if self.state in (PluginState.QUARANTINED, PluginState.SUSPENDED):
            self.go(PluginState.STARTING, why)
            if slot := self.instances.vacant():
                self._start_soon(slot)

    def _chore(self, work: Coroutine[Any, Any, object]) -> None:
        task = self._loop.create_task(work, context=Context())
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    # Processes that nobody needs, and those that are not well.

    def _end_unused(self, lasts: float) -> float | None:
        now = self._loop.time()
        if self.state is _READY:
            unused = [slot for slot in self._turns.free if slot.is_ready and now - slot.last_used >= lasts]
            for slot in unused:
                self._turns.free.remove(slot)
                self._chore(slot.stop())
            used = any(slot.is_live for slot in self.instances.all if slot not in unused)
            if unused and not used and not self.instances.coming:
                self.go(PluginState.IDLE, f"no call came for {lasts:g} s")
                self._upkeep.stop()
                return None
        latest = (slot.last_used for slot in self.instances.all if slot.is_live)
        return min(latest, default=now) + lasts - now

    async def _check_free(self) -> None:
        """Check what is free; what serves a call has a deadline to keep anyway."""
        free, self._turns.free = self._turns.free, []
        for slot in free:
            if self.state is _READY and slot.is_ready:
                await self._check(slot)
            self.give_back(slot)

    async def check_health(self) -> None:
        """Have a process answer, and its health function, if it declares one, say that all is well.

        Raises:
            PluginError: It does not, and why; an unhealthy process is replaced.
        """
        slot = await self.borrow(self._rules.health_timeout)
        try:
            if error := await self._check(slot):
                raise error
        finally:
            self.give_back(slot)

    async def _check(self, slot: PluginSandbox) -> PluginError | None:
        error = await is_well(slot, self._metadata.health, self._rules.health_timeout)
        if error is not None:
            self._events.publish("unhealthy", self._plugin_id, reason=str(error))
            if slot.is_live:
                await slot.stop()
                self.faults.count(Fault(FaultKind.UNHEALTHY, str(error), self._metadata.health))
                if not self._is_out_of_service():
                    self.on_down(slot, None)
        return error

    # A pause, and the end.

    async def suspend(self) -> None:
        """Freeze every process; calls wait until :meth:`resume`, or until their deadline.

        A call under way keeps its deadline, too: when it comes, its frozen process is killed.

        Raises:
            Unavailable: There is nothing to freeze in its state.
            SandboxError: The kernel refuses.
        """
        if self.state is PluginState.SUSPENDED:
            return
        if self.state not in _FREEZABLE:
            raise Unavailable(
                self._plugin_id, f"it is {self.state}, so it cannot be suspended", retryable=False
            )
        async with self._pausing:
            if self.state not in _FREEZABLE:
                return
            self.go(PluginState.SUSPENDED, "suspend()")
            self.instances.forget_due()
            try:
                await self.instances.freeze()
            except SandboxError:
                await self.instances.thaw()
                self._go_on("it could not be suspended")
                raise

    async def resume(self) -> None:
        """Let it take calls again: after :meth:`suspend`, in quarantine, or after failures in a row.

        Raises:
            CommunicationError: It is disabled, drained or unloaded, which nothing takes back.
        """
        if self.state in (PluginState.DISABLED, PluginState.DRAINING, PluginState.UNLOADED):
            raise CommunicationError(self._plugin_id, f"it is {self.state}, which nothing takes back")
        if self.state is not PluginState.SUSPENDED:
            self._begin_anew("resume()")
            return
        async with self._pausing:
            await self.instances.thaw()
            self._go_on("resume()")

    def _go_on(self, why: str) -> None:
        if self.state is not PluginState.SUSPENDED:
            return
        if self.instances.have_live:
            self.go(_READY, why)
            self._turns.offer_all()
        elif len(self._turns):
            self._begin_anew(why)
            self._grow()  # a lazy plugin may have no instance yet
        else:
            self.go(PluginState.IDLE, why)

    async def drain(self, *, nested: bool) -> None:
        """Take no new calls, and let those that were taken end.

        Args:
            nested: Still take calls that other plugins make to serve theirs.
        """
        if PluginState.DRAINING in TRANSITIONS[self.state]:
            async with self._pausing:
                await self.instances.thaw()
            if PluginState.DRAINING not in TRANSITIONS[self.state]:
                return
            self.admits_nested = nested
            self.go(PluginState.DRAINING, "it is to end")
            self._turns.offer_all()
            self._grow()

    async def close(self) -> None:
        """End every process; returns when nothing of them is left. Calls under way fail."""
        self.go(PluginState.UNLOADED, "it was unloaded")
        self._upkeep.stop()
        if self._quarantine_timer is not None:
            self._quarantine_timer.cancel()
        self._turns.fail(CommunicationError(self._plugin_id, "it was unloaded while the call waited"))
        await self.instances.close()
        while self._chores:
            await asyncio.wait(self._chores)
