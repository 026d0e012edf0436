"""One version of a plugin as its callers see it, whatever number of processes serves it.

Calls wait in one queue, in order, and go to whichever instance is free: with one call at a time in each,
that is the least loaded. Instances are started as calls need them, up to the number that the policy gives,
and started again when they die. docs/supervision.md says what follows from what.
"""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextvars import Context
from dataclasses import fields, replace
from typing import Any, Final

from . import monitor
from .breaker import Circuit
from .config import ResourceUsage
from .errors import (
    CommunicationError,
    Crashed,
    LoadFailed,
    PluginError,
    SandboxError,
    SecurityViolation,
    Unavailable,
)
from .events import Events
from .faults import Faults
from .isolation import Confinement
from .loader import Bundle
from .messages import MessageValue, check_value
from .nursery import Nursery
from .policy_grants import MessageGrant
from .sandbox import PluginSandbox
from .services import Services, Shared
from .states import TRANSITIONS, PluginState
from .supervision import Fault, FaultKind, kind_of
from .turns import Turns
from .upkeep import Upkeep, is_well
from .violations import Tally, Violations
from .waits import Instance, line, served_by

_READY: Final = PluginState.READY
_CLOSED: Final = Circuit.CLOSED
_STARTABLE: Final = frozenset(
    {PluginState.READY, PluginState.STARTING, PluginState.IDLE, PluginState.DRAINING}
)
_FREEZABLE: Final = frozenset({PluginState.READY, PluginState.STARTING, PluginState.IDLE})
_SUMS: Final = tuple(field.name for field in fields(ResourceUsage))
_FAILED_START_SECONDS: Final = 0.1
"""The least pause after a start that failed, whatever the policy says."""
_keys = itertools.count(1)


class Pool:
    """The live processes of one loaded version of a plugin; owns its bundle.

    Made by :class:`frys_runtime.manager.PluginManager`.

    Attributes:
        plugin_id: The id under which it is loaded.
        metadata: What its plugin.json says.
        confinement: What its policy makes of it on this machine.
        key: A number that no other pool of this process has.
        state: Where it is in its life.
        instances: How many calls it can serve at the same time.
        functions: Callable functions with signatures for people, in the plugin's own (untrusted) words;
            empty until a process of it has run.
        load_ms: Milliseconds that the last start of a process took.
        calls: Calls that reached a process.
        failures: Of these, those that did not give a result.
        restarts: Fresh processes that replaced dead ones.
        unloaded: Done when it is closed.
    """

    def __init__(
        self,
        plugin_id: str,
        bundle: Bundle,
        confinement: Confinement,
        nursery: Nursery,
        events: Events,
        shared: Shared | None = None,
        violations: Violations | None = None,
    ) -> None:
        self.plugin_id, self.metadata, self.confinement = plugin_id, bundle.metadata, confinement
        self.key = next(_keys)
        self.state = PluginState.LOADING
        self.functions: dict[str, str] = {}
        self.load_ms = 0.0
        self.calls = self.failures = self.restarts = 0
        self._bundle, self._nursery, self._events, self._shared = bundle, nursery, events, shared
        policy = confinement.policy
        self._rules = policy.supervision
        self.instances = self._rules.instances.of(bundle.metadata.instances)
        self._services = Services(shared, self, policy, confinement.config) if shared is not None else None
        self._given_violations, self._tally = violations, violations.tally if violations else Tally()
        self._faults = Faults(plugin_id, self._rules, confinement.limits.execution_time, events)
        self._turns = Turns(plugin_id, self._rules.max_queue)
        self._upkeep = Upkeep(self._rules, self._end_unused, lambda: self._chore(self._check_free()))
        self._loop = asyncio.get_running_loop()
        self.unloaded: asyncio.Future[None] = self._loop.create_future()
        self._slots: list[PluginSandbox] = []
        self._starting: dict[PluginSandbox, asyncio.Task[None]] = {}
        self._due: dict[PluginSandbox, None] = {}
        self._fallen: set[PluginSandbox] = set()
        self._start_timer: asyncio.TimerHandle | None = None
        self._quarantine_timer: asyncio.TimerHandle | None = None
        self._chores: set[asyncio.Task[Any]] = set()
        self._under_way = 0
        self._quiet: asyncio.Future[None] | None = None
        self._admits_nested = False

    @property
    def messages(self) -> MessageGrant:
        """What its policy lets it send to other plugins and receive from them."""
        return self.confinement.policy.messages

    @property
    def layers(self) -> frozenset[str]:
        """The layers of the jail that are in force; empty while no process runs."""
        return next((slot.child.layers for slot in self._slots if slot.child is not None), frozenset())

    @property
    def pids(self) -> tuple[int, ...]:
        """Its processes, as the host's kernel numbers them."""
        return tuple(slot.child.pid for slot in self._slots if slot.child is not None)

    @property
    def pid(self) -> int | None:
        """A process of it; ``None`` while none runs."""
        return next(iter(self.pids), None)

    @property
    def violations(self) -> int:
        """How often it tried what is forbidden."""
        return self._tally.total

    @property
    def circuit(self) -> Circuit:
        """Whether calls come through, as far as failures in a row decide."""
        return self._faults.circuit

    def _go(self, state: PluginState, why: str) -> None:
        if state is self.state:
            return
        old, self.state = self.state, state
        assert state in TRANSITIONS[old], f"{old} > {state}: {why}"
        self._turns.open = state is _READY or state is PluginState.DRAINING
        self._events.publish("state", self.plugin_id, old=str(old), new=str(state), why=why)

    def _has_live(self) -> bool:
        return any(slot.is_live for slot in self._slots)

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
        if self._rules.lazy and not self.metadata.events.subscribes:
            self._go(PluginState.IDLE, "it is lazy: its first call starts it")
            return
        slot = self._new_slot()
        await slot.start()
        health = self.metadata.health
        if health and health not in slot.functions:
            reason = f"its plugin.json names {health!r} as its health function, and it has none of that name"
            raise LoadFailed(self._bundle.path, reason)
        self._started(slot)

    def _new_slot(self) -> PluginSandbox:
        policy = self.confinement.policy
        violations = self._given_violations or Violations(
            self.plugin_id, policy.on_violation, policy.max_violations, self._events, self._tally
        )
        slot = PluginSandbox(
            Instance(self.key, len(self._slots) + 1, self.plugin_id),
            self._bundle,
            self.confinement,
            self._nursery,
            self,
            events=self._events,
            violations=violations,
            shared=self._shared,
            services=self._services,
        )
        self._slots.append(slot)
        return slot

    def _started(self, slot: PluginSandbox) -> None:
        self.functions, self.load_ms = slot.functions, slot.load_ms
        if slot in self._fallen:
            self._fallen.discard(slot)
            self.restarts += 1
            self._events.publish("restarted", self.plugin_id, restarts=self.restarts, ms=slot.load_ms)
        if self.state in (PluginState.LOADING, PluginState.STARTING):
            self._go(_READY, "a process has loaded it")
        self._upkeep.start()
        self._give_back(slot)

    # Calling.

    async def call(
        self, function: str, args: tuple[MessageValue, ...], timeout_ms: int | None = None
    ) -> MessageValue:
        """Call one function of the plugin.

        Args:
            function: Its name.
            args: Plain values.
            timeout_ms: A tighter deadline than the policy's, in milliseconds; the wait for a free process
                counts. Without one, waiting and working may each take as long as the policy says.

        Raises:
            TypeError, ValueError: An argument cannot travel, or the plugin takes other arguments.
            ExecutionFailed: The function failed, does not exist, or its process crashed.
            Timeout, ResourceLimitExceeded, SecurityViolation: It was stopped.
            CommunicationError: It takes no calls now, or too many wait.
        """
        if not (len(args) == 1 and type(args[0]) is bytes):
            check_value(list(args), "args")
        limit = self.confinement.limits.execution_time
        timeout = limit if timeout_ms is None else min(timeout_ms, limit)
        probes = False
        if self.state is not _READY or self._faults.circuit is not _CLOSED:
            probes = self._admit()
        deadline = self._loop.time() + timeout / 1000
        self._under_way += 1
        try:
            try:
                return await self._serve(function, args, deadline, timeout, timeout_ms)
            except Crashed as error:
                export = self.metadata.exports.get(function)
                if export is None or not export.idempotent or self.state not in _STARTABLE:
                    raise
                self._events.publish("retried", self.plugin_id, function=function, reason=error.reason)
            return await self._serve(function, args, deadline, timeout, timeout_ms)
        finally:
            if probes:
                self._faults.end_probe()
            self._under_way -= 1
            if not self._under_way and self._quiet is not None and not self._quiet.done():
                self._quiet.set_result(None)

    async def _serve(
        self,
        function: str,
        args: tuple[MessageValue, ...],
        deadline: float,
        limit: int,
        asked: int | None,
    ) -> MessageValue:
        slot = self._turns.take()
        if slot is None:
            slot = await self._wait(deadline, limit)
            if asked is not None:
                limit = min(max(math.ceil((deadline - self._loop.time()) * 1000), 1), limit)
        served_by(slot.instance)
        self.calls += 1
        try:
            value = await slot.call(function, args, limit)
        except Exception:
            self.failures += 1
            if self._faults.are_recent and slot.is_live:
                self._faults.end()  # the plugin's own error: its process is sound
            raise
        else:
            if self._faults.are_recent:
                self._faults.end()
            return value
        finally:
            self._give_back(slot)

    async def _wait(self, deadline: float, timeout_ms: int) -> PluginSandbox:
        while True:
            turn = self._turns.queue()
            self._grow()
            slot = await self._turns.wait(turn, deadline, timeout_ms)
            if slot.is_ready:
                return slot

    def _give_back(self, slot: PluginSandbox) -> None:
        if self.state in (PluginState.QUARANTINED, PluginState.DISABLED) and slot.is_ready:
            self._chore(slot.stop())
        else:
            self._turns.offer(slot)

    def _admit(self) -> bool:
        """Refuse a call that cannot be served; whether it is one that tries after failures."""
        match self.state:
            case PluginState.UNLOADED:
                raise CommunicationError(self.plugin_id, "it was unloaded")
            case PluginState.DISABLED:
                raise self._disabled()
            case PluginState.DRAINING if not (self._admits_nested and line()):
                raise Unavailable(self.plugin_id, "it is being drained and takes no new calls")
            case PluginState.QUARANTINED:
                raise self._faults.quarantined()
        return self._faults.admit()

    async def ping(self) -> None:
        """Have a process of it answer; one is started where there is none.

        Raises:
            PluginError: It did not answer, and why.
        """
        timeout = self.confinement.limits.execution_time
        slot = await self._borrow(timeout)
        try:
            await slot.ping(timeout)
        finally:
            self._give_back(slot)

    async def _borrow(self, timeout_ms: int) -> PluginSandbox:
        if self.state is not _READY:
            self._admit()
        deadline = self._loop.time() + timeout_ms / 1000
        return self._turns.take() or await self._wait(deadline, timeout_ms)

    # Processes that are started, and that fail.

    def _grow(self) -> None:
        """Start one more instance, if calls wait for more than are being started."""
        coming = len(self._starting) + len(self._due)
        if self.state not in _STARTABLE or coming >= len(self._turns):
            return
        slot = self._vacant()
        if slot is None and len(self._slots) < self.instances:
            slot = self._new_slot()
        if slot is not None:
            self._start_soon(slot)

    def _vacant(self) -> PluginSandbox | None:
        coming = {*self._starting, *self._due}
        return next((slot for slot in self._slots if slot.is_vacant and slot not in coming), None)

    def _start_soon(self, slot: PluginSandbox) -> None:
        """Start an instance at once, or when its back-off is over."""
        if self.state is PluginState.IDLE:
            self._go(PluginState.STARTING, "a call needs it")
        not_before = self._faults.restarts.not_before
        if not_before > self._loop.time():
            self._due[slot] = None
            if self._start_timer is not None:
                self._start_timer.cancel()
            self._start_timer = self._loop.call_at(not_before, self._start_due)
            return
        # No caller's context: it does not wait for what others will use as well.
        self._starting[slot] = self._loop.create_task(self._start(slot), context=Context())

    def _start_due(self) -> None:
        due, self._due = list(self._due), {}
        if self.state in _STARTABLE:
            for slot in due:
                self._start_soon(slot)

    async def _start(self, slot: PluginSandbox) -> None:
        failure: PluginError | None = None
        try:
            await slot.start()
        except PluginError as error:
            failure = error
        except OSError as error:
            failure = SandboxError(f"no process could be started: {error.strerror or error}")
        finally:
            del self._starting[slot]
        if failure is None:
            self._started(slot)
            return
        self._fallen.add(slot)
        reason = f"it could not be started again: {failure}"
        self._faults.count(Fault(kind_of(failure, outside=False), reason))
        if not self._is_out_of_service():
            if not self._has_live() and not self._starting:
                self._turns.fail(failure)
            self._faults.restarts.hold(self._loop.time() + _FAILED_START_SECONDS)
            self._start_soon(slot)

    def on_free(self, sandbox: PluginSandbox) -> None:
        """An instance can serve again."""
        self._give_back(sandbox)

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
            self._faults.note(error, function, args, outside=outside)
            if self._is_out_of_service():
                return
        if self.state is _READY and not self._has_live():
            self._go(PluginState.STARTING, f"its process ended: {error or 'its caller gave up'}")
        if self.state in (_READY, PluginState.STARTING) or (self.state in _STARTABLE and len(self._turns)):
            self._start_soon(sandbox)

    def _is_out_of_service(self) -> bool:
        """Take it out of service where the last failure was once too often; whether it is."""
        most = self.confinement.policy.max_violations
        if 0 < most <= self._tally.total:
            if PluginState.DISABLED in TRANSITIONS[self.state]:
                self._go(PluginState.DISABLED, self._tally.latest)
                self._events.publish("disabled", self.plugin_id, violations=self._tally.total)
                self._stop_serving(self._disabled())
                for slot in self._slots:
                    slot.condemn(self._disabled())
            return True
        quarantine = self._faults.restarts.quarantine
        if quarantine is None:
            return False
        if PluginState.QUARANTINED in TRANSITIONS[self.state]:
            self._go(PluginState.QUARANTINED, quarantine.reason)
            lasts = None if quarantine.until == math.inf else quarantine.until - self._loop.time()
            facts = {"function": quarantine.function, "input_sha256": quarantine.digest, "seconds": lasts}
            self._events.publish("quarantined", self.plugin_id, reason=quarantine.reason, **facts)
            self._stop_serving(self._faults.quarantined())
            if lasts is not None:
                why = "its quarantine is over"
                self._quarantine_timer = self._loop.call_later(lasts, self._begin_anew, why)
        return True

    def _stop_serving(self, error: PluginError) -> None:
        self._due.clear()  # what is being started is ended when it is there
        self._turns.fail(error)
        free, self._turns.free = self._turns.free, []
        for slot in free:
            if slot.is_ready:
                self._chore(slot.stop())

    def _disabled(self) -> SecurityViolation:
        count = self._tally.total
        what = f"{count} forbidden act{'s' * (count != 1)}, the last: {self._tally.latest}"
        return SecurityViolation(self.plugin_id, what, disabled=True)

    def _begin_anew(self, why: str) -> None:
        if self._quarantine_timer is not None:
            self._quarantine_timer.cancel()
        self._quarantine_timer = None
        self._faults.forgive(why)
        if self.state in (PluginState.QUARANTINED, PluginState.SUSPENDED):
            self._go(PluginState.STARTING, why)
            if slot := self._vacant():
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
            busy = self._starting or self._due or any(s.is_live for s in self._slots if s not in unused)
            if unused and not busy:
                self._go(PluginState.IDLE, f"no call came for {lasts:g} s")
                self._upkeep.stop()
                return None
        return min((slot.last_used for slot in self._slots if slot.is_live), default=now) + lasts - now

    async def _check_free(self) -> None:
        """Check what is free; what serves a call has a deadline to keep anyway."""
        free, self._turns.free = self._turns.free, []
        for slot in free:
            if self.state is _READY and slot.is_ready:
                await self._check(slot)
            self._give_back(slot)

    async def check_health(self) -> None:
        """Have a process answer, and its health function, if it declares one, say that all is well.

        Raises:
            PluginError: It does not, and why; an unhealthy process is replaced.
        """
        slot = await self._borrow(self._rules.health_timeout)
        try:
            if error := await self._check(slot):
                raise error
        finally:
            self._give_back(slot)

    async def _check(self, slot: PluginSandbox) -> PluginError | None:
        error = await is_well(slot, self.metadata.health, self._rules.health_timeout)
        if error is not None:
            self._events.publish("unhealthy", self.plugin_id, reason=str(error))
            if slot.is_live:
                await slot.stop()
                self._faults.count(Fault(FaultKind.UNHEALTHY, str(error), self.metadata.health))
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
                self.plugin_id, f"it is {self.state}, so it cannot be suspended", retryable=False
            )
        self._go(PluginState.SUSPENDED, "suspend()")
        self._due.clear()
        while self._starting:
            await asyncio.wait([*self._starting.values()])
        for slot in self._slots:
            await slot.freeze()

    async def resume(self) -> None:
        """Let it take calls again: after :meth:`suspend`, in quarantine, or after failures in a row.

        Raises:
            CommunicationError: It is disabled, drained or unloaded, which nothing takes back.
        """
        if self.state in (PluginState.DISABLED, PluginState.DRAINING, PluginState.UNLOADED):
            raise CommunicationError(self.plugin_id, f"it is {self.state}, which nothing takes back")
        if self.state is not PluginState.SUSPENDED:
            self._begin_anew("resume()")
            return
        await self._thaw()
        if self._has_live():
            self._go(_READY, "resume()")
            self._turns.offer_all()
        elif len(self._turns):
            self._begin_anew("resume()")
        else:
            self._go(PluginState.IDLE, "resume()")

    async def _thaw(self) -> None:
        for slot in self._slots:
            await slot.thaw()

    async def idle(self, deadline: float) -> int:
        """Wait until no call is under way or waits.

        Args:
            deadline: How long at most, by the event loop's clock.

        Returns:
            How many calls there are still.
        """
        if self._under_way:
            self._quiet = self._quiet or self._loop.create_future()
            await asyncio.wait((self._quiet,), timeout=max(deadline - self._loop.time(), 0))
            self._quiet = None
        return self._under_way

    async def begin_drain(self, *, nested: bool = False) -> None:
        """Take no new calls.

        Args:
            nested: Still take calls that other plugins make to serve theirs.
        """
        if PluginState.DRAINING in TRANSITIONS[self.state]:
            await self._thaw()
            self._admits_nested = nested
            self._go(PluginState.DRAINING, "it is to end")
            self._turns.offer_all()
            self._grow()

    async def drain(self, deadline: float) -> int:
        """Take no new calls, let those that were taken end, and close.

        Args:
            deadline: How long at most, by the event loop's clock; what is under way then fails.

        Returns:
            How many calls were cut off.
        """
        await self.begin_drain()
        cut = await self.idle(deadline)
        await self.close()
        return cut

    def usage(self, *, private: bool = True) -> ResourceUsage:
        """What it uses now with all its processes, read from the kernel.

        Args:
            private: Also ``memory_private``, for which the kernel holds the plugin's memory map for a moment.
        """
        usages = [slot.usage(private=private) for slot in self._slots] or [ResourceUsage()]
        total = usages[0]
        for other in usages[1:]:
            total = replace(total, **{name: getattr(total, name) + getattr(other, name) for name in _SUMS})
        http = self._services.http_usage() if self._services is not None else {}
        own = {"calls": self.calls, "violations": self.violations, "restarts": self.restarts}
        return replace(total, **own, **http)

    def watch(self, interval: float, thresholds: Mapping[str, float]) -> AsyncIterator[ResourceUsage]:
        """Samples until the plugin is unloaded; see :meth:`frys_runtime.manager.Plugin.watch`.

        Raises:
            ValueError: The interval or a threshold makes no sense.
        """
        if not monitor.LEAST_INTERVAL <= interval < math.inf:
            least = monitor.LEAST_INTERVAL
            raise ValueError(f"interval must be at least {least} seconds, not {interval!r}")
        marks = monitor.Thresholds(thresholds)

        def sample() -> ResourceUsage:
            usage = self.usage(private=False)
            for figure, threshold, actual in marks.newly_reached(usage):
                self._events.publish(
                    "threshold", self.plugin_id, figure=figure, threshold=threshold, actual=actual
                )
            return usage

        return monitor.stream(sample, interval, self.unloaded)

    async def close(self) -> None:
        """End every process and give back everything; calls under way fail."""
        self._go(PluginState.UNLOADED, "it was unloaded")
        if not self.unloaded.done():
            self.unloaded.set_result(None)
        self._upkeep.stop()
        for timer in (self._start_timer, self._quarantine_timer):
            if timer is not None:
                timer.cancel()
        self._due.clear()
        starting = list(self._starting.values())
        for task in starting:
            task.cancel()
        self._turns.fail(CommunicationError(self.plugin_id, "it was unloaded while the call waited"))
        await asyncio.gather(*starting, *(slot.stop() for slot in self._slots), return_exceptions=True)
        while self._chores:
            await asyncio.wait(self._chores)
        if self._services is not None:
            await self._services.close()
        self._bundle.close()
