"""One version of a plugin as its callers see it, whatever number of processes serves it."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, Final

from . import monitor
from .breaker import Circuit
from .config import ResourceUsage
from .errors import Crashed
from .events import Events
from .fleet import STARTABLE, Fleet
from .isolation import Confinement
from .loader import Bundle
from .messages import MessageValue, check_value
from .nursery import Nursery
from .policy_grants import MessageGrant
from .sandbox import Begun, PluginSandbox
from .services import Services, Shared
from .states import PluginState
from .violations import Violations
from .waits import served_by

_READY: Final = PluginState.READY
_CLOSED: Final = Circuit.CLOSED
_SUMS: Final = tuple(field.name for field in fields(ResourceUsage))
_keys = itertools.count(1)


class Pool:
    """One loaded version of a plugin; owns its bundle.

    Made by :class:`frys_runtime.manager.PluginManager`.

    Attributes:
        plugin_id: The id under which it is loaded.
        metadata: What its plugin.json says.
        confinement: What its policy makes of it on this machine.
        key: A number that no other pool of this process has.
        calls: Calls that reached a process.
        failures: Of these, those that did not give a result.
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
        self.calls = self.failures = 0
        self._bundle, self._events = bundle, events
        policy = confinement.policy
        self._services = Services(shared, self, policy, confinement.config) if shared is not None else None
        self._fleet = Fleet(
            plugin_id, self.key, bundle, confinement, nursery, events, shared, self._services, violations
        )
        self._loop = asyncio.get_running_loop()
        self.unloaded: asyncio.Future[None] = self._loop.create_future()
        self._closing: asyncio.Task[None] | None = None
        self._under_way = 0
        self._quiet: asyncio.Future[None] | None = None

    @property
    def state(self) -> PluginState:
        """Where it is in its life."""
        return self._fleet.state

    @property
    def circuit(self) -> Circuit:
        """Whether calls come through, as far as failures in a row decide."""
        return self._fleet.faults.circuit

    @property
    def functions(self) -> dict[str, str]:
        """Callable functions with signatures for people, in the plugin's own (untrusted) words."""
        return self._fleet.functions

    @property
    def messages(self) -> MessageGrant:
        """What its policy lets it send to other plugins and receive from them."""
        return self.confinement.policy.messages

    @property
    def instances(self) -> int:
        """How many calls it can serve at the same time."""
        return self._fleet.instances.most

    @property
    def layers(self) -> frozenset[str]:
        """The layers of the jail that are in force; empty while no process runs."""
        return next(
            (slot.child.layers for slot in self._fleet.instances.all if slot.child is not None), frozenset()
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """Its processes, as the host's kernel numbers them."""
        return tuple(slot.child.pid for slot in self._fleet.instances.all if slot.child is not None)

    @property
    def pid(self) -> int | None:
        """A process of it; ``None`` while none runs."""
        return next(iter(self.pids), None)

    @property
    def load_ms(self) -> float:
        """Milliseconds that the last start of a process took."""
        return self._fleet.load_ms

    @property
    def restarts(self) -> int:
        """Fresh processes that replaced dead ones."""
        return self._fleet.restarts

    @property
    def violations(self) -> int:
        """How often it tried what is forbidden."""
        return self._fleet.instances.tally.total

    async def start(self) -> None:
        """Load the plugin; see :meth:`Fleet.start`."""
        await self._fleet.start()

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
        probes = False
        if self._fleet.state is not _READY or self._fleet.faults.circuit is not _CLOSED:
            probes = self._fleet.admit()
        try:
            return await self._serve(function, args, timeout_ms, None)
        finally:
            if probes:
                self._fleet.faults.end_probe()

    def begin(
        self, function: str, args: tuple[MessageValue, ...], timeout_ms: int | None
    ) -> Coroutine[Any, Any, MessageValue] | None:
        """Begin a call now, if that is possible at once; what is returned gives its result.

        It must be awaited next, for until then nothing looks after the call.

        Args:
            function: As for :meth:`call`.
            args: Values that are known to be able to travel.
            timeout_ms: As for :meth:`call`.
        """
        fleet = self._fleet
        if fleet.state is not _READY or fleet.faults.circuit is not _CLOSED:
            return None
        slot = fleet.take_free()
        if slot is None:
            return None
        try:
            began = slot, slot.begin(function, args, self._limit(timeout_ms))
        except BaseException:
            fleet.give_back(slot)
            raise
        return self._serve(function, args, timeout_ms, began)

    def _limit(self, timeout_ms: int | None) -> int:
        limit = self.confinement.limits.execution_time
        return limit if timeout_ms is None or timeout_ms > limit else timeout_ms

    async def _serve(
        self,
        function: str,
        args: tuple[MessageValue, ...],
        asked: int | None,
        began: tuple[PluginSandbox, Begun] | None,
    ) -> MessageValue:
        """Call the function; once more, where it may be called twice and its process crashed."""
        limit = self._limit(asked)
        deadline = self._loop.time() + limit / 1000
        self._under_way += 1
        try:
            try:
                return await self._attempt(function, args, deadline, limit, asked, began)
            except Crashed as error:
                export = self.metadata.exports.get(function)
                if export is None or not export.idempotent or self.state not in STARTABLE:
                    raise
                left = math.ceil((deadline - self._loop.time()) * 1000)
                if asked is None:
                    deadline = self._loop.time() + limit / 1000
                elif left > 0:
                    limit = left
                else:
                    raise
                self._events.publish("retried", self.plugin_id, function=function, reason=error.reason)
            return await self._attempt(function, args, deadline, limit, asked, None)
        finally:
            self._under_way -= 1
            if not self._under_way and self._quiet is not None and not self._quiet.done():
                self._quiet.set_result(None)

    async def _attempt(
        self,
        function: str,
        args: tuple[MessageValue, ...],
        deadline: float,
        limit: int,
        asked: int | None,
        began: tuple[PluginSandbox, Begun] | None,
    ) -> MessageValue:
        fleet = self._fleet
        slot, begun = began or (fleet.take_free(), None)
        if slot is None:
            slot = await fleet.take(deadline, limit)
            if asked is not None:
                limit = min(max(math.ceil((deadline - self._loop.time()) * 1000), 1), limit)
        served_by(slot.instance)
        self.calls += 1
        try:
            begun = begun or slot.begin(function, args, limit)
            value = await slot.finish(begun, limit, function, args)
        except Exception:
            self.failures += 1
            if fleet.faults.are_recent and slot.is_live:
                fleet.faults.end()  # the plugin's own error: its process is sound
            raise
        else:
            if fleet.faults.are_recent:
                fleet.faults.end()
            return value
        finally:
            fleet.give_back(slot)

    async def ping(self) -> None:
        """Have a process of it answer; one is started where there is none.

        Raises:
            PluginError: It did not answer, and why.
        """
        timeout = self.confinement.limits.execution_time
        slot = await self._fleet.borrow(timeout)
        try:
            await slot.ping(timeout)
        finally:
            self._fleet.give_back(slot)

    async def check_health(self) -> None:
        """Have a process answer and say that all is well; see :meth:`Fleet.check_health`."""
        await self._fleet.check_health()

    async def suspend(self) -> None:
        """Freeze every process; see :meth:`Fleet.suspend`."""
        await self._fleet.suspend()

    async def resume(self) -> None:
        """Let it take calls again; see :meth:`Fleet.resume`."""
        await self._fleet.resume()

    async def idle(self, deadline: float) -> int:
        """Wait until no call is under way or waits.

        Args:
            deadline: How long at most, by the event loop's clock.

        Returns:
            How many calls there are still.
        """
        if self._under_way:
            if self._quiet is None or self._quiet.done():
                self._quiet = self._loop.create_future()
            # Others may wait for it, with more time: it stays until it is done.
            await asyncio.wait((self._quiet,), timeout=max(deadline - self._loop.time(), 0))
        return self._under_way

    async def begin_drain(self, deadline: float, *, nested: bool = False) -> None:
        """Take no new calls; at the deadline also where that would have to wait for something else.

        Args:
            deadline: By the event loop's clock.
            nested: Still take calls that other plugins make to serve theirs.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._fleet.drain(nested=nested)

    async def drain(self, deadline: float) -> int:
        """Take no new calls, let those that were taken end, and close.

        Args:
            deadline: How long at most, by the event loop's clock; what is under way then fails.

        Returns:
            How many calls were cut off.
        """
        await self.begin_drain(deadline)
        cut = await self.idle(deadline)
        await self.close()
        return cut

    def usage(self, *, private: bool = True) -> ResourceUsage:
        """What it uses now with all its processes, read from the kernel.

        Args:
            private: Also ``memory_private``, for which the kernel holds the plugin's memory map for a moment.
        """
        usages = [slot.usage(private=private) for slot in self._fleet.instances.all] or [ResourceUsage()]
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
        """End every process and give back everything; calls under way fail.

        That goes on to its end, however many wait for it, and also when none does any more.
        """
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if not self.unloaded.done():
            self.unloaded.set_result(None)
        await self._fleet.close()
        if self._services is not None:
            await self._services.close()
        self._bundle.close()
