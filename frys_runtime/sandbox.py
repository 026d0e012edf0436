"""One live plugin, from spawn to reaped: loading, calling, watching, and explaining every death."""

import asyncio
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

import msgspec

from . import explanation, monitor, wire
from .compiled import Offer
from .config import ResourceUsage
from .errors import (
    CommunicationError,
    ExecutionFailed,
    LoadFailed,
    PluginError,
    ResourceLimitExceeded,
    SandboxError,
    SecurityViolation,
    Timeout,
)
from .events import Events
from .isolation import Confinement
from .lane import LaneClosed
from .launcher import Child, Launcher, LauncherKind
from .linux import process
from .linux.cgroup import Cgroup, CgroupError, CgroupLimits
from .loader import Bundle
from .messages import MessageValue, Refused, check_value
from .nursery import Nursery
from .policy_grants import MessageGrant
from .policy_terms import OnViolation
from .printout import Printout
from .services import Services, Shared
from .traffic import under_way
from .violations import Violations

logger = logging.getLogger("frys.plugin")

_CPU_CHECK_SECONDS: Final = 0.005
_INTERRUPT_GRACE: Final = 0.05
_MEMORY_CHECK_SECONDS: Final = 0.05
"""How often memory is looked at where no cgroup limits it."""
_SHARED_MEMORY: Final = 32 << 20
"""What a plugin process shares with its fork server and would be counted against it by its RSS."""
_EXIT_SECONDS: Final = 0.2
_CORES: Final = os.cpu_count() or 1
_MAX_WAITING: Final = 10_000


class PluginState(StrEnum):
    """Where a plugin is in its life."""

    LOADING = "loading"
    READY = "ready"
    STOPPED = "stopped"
    """Its process ended; the next call starts a fresh one."""
    DISABLED = "disabled"
    """It tried what is forbidden too often and takes no calls; unload and load it to have it back."""
    UNLOADED = "unloaded"


@dataclass(slots=True)
class _Watch:
    """What the host holds against one call or load: its clocks and its log."""

    child: Child
    deadline: float
    cpu_limit_ns: int
    cpu_start_ns: int | None
    timeout_ms: int
    context: Context
    question: asyncio.Task[None] | None = None
    verdict: PluginError | None = None


class PluginSandbox:
    """One plugin in its jail; a dead process is replaced on the next call.

    Made by :class:`frys_runtime.manager.PluginManager`. One call runs at a time; others wait in order.
    """

    def __init__(
        self,
        plugin_id: str,
        bundle: Bundle,
        confinement: Confinement,
        nursery: Nursery,
        events: Events | None = None,
        violations: Violations | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.plugin_id = plugin_id
        self.metadata = bundle.metadata
        self.confinement = confinement
        self.state = PluginState.LOADING
        self.functions: dict[str, str] = {}
        self.load_ms = 0.0
        self.calls = 0
        self.failures = 0
        self.starts = 0
        self._bundle = bundle
        self._nursery = nursery
        self._events = events if events is not None else Events()
        policy = confinement.policy
        self._violations = violations or Violations(
            plugin_id, policy.on_violation, policy.max_violations, self._events
        )
        self._shared = shared
        self._services = Services(shared, self, policy, confinement.config) if shared is not None else None
        self._condemned: Child | None = None
        self._child: Child | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._sequence = 0
        self._watch: _Watch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.unloaded: asyncio.Future[None] = self._loop.create_future()
        self._printout: Printout | None = None
        self._oom_event = -1
        self._bytes_in = self._bytes_out = 0
        self._parallel = min(_CORES, confinement.limits.tasks)

    @property
    def layers(self) -> frozenset[str]:
        """The layers of the jail that the running process reported; empty when none runs."""
        return self._child.layers if self._child is not None else frozenset()

    @property
    def pid(self) -> int | None:
        """The running process as the host sees it, or ``None``."""
        return self._child.pid if self._child is not None else None

    @property
    def messages(self) -> MessageGrant:
        """What its policy lets it send to other plugins and receive from them."""
        return self.confinement.policy.messages

    @property
    def violations(self) -> int:
        """How often it tried what is forbidden, over all its processes."""
        return self._violations.total

    async def start(self) -> None:
        """Load the plugin for the first time.

        Raises:
            InvalidFormat: The file is not what its format says.
            LoadFailed: The plugin could not be loaded.
            SandboxError: The jail is not what the policy requires.
            Timeout, ResourceLimitExceeded, SecurityViolation: While loading.
        """
        async with self._turn:
            await self._ensure()

    async def call(
        self, function: str, args: tuple[MessageValue, ...], timeout_ms: int | None = None
    ) -> MessageValue:
        """Call one function of the plugin.

        Args:
            function: Its name.
            args: Plain values.
            timeout_ms: A tighter deadline than the policy's, in milliseconds.

        Raises:
            TypeError, ValueError: An argument cannot travel, or the plugin takes other arguments.
            ExecutionFailed: The function failed, does not exist, or its process crashed.
            Timeout, ResourceLimitExceeded, SecurityViolation: It was stopped.
            CommunicationError: Too many calls wait for this plugin.
        """
        if not (len(args) == 1 and type(args[0]) is bytes):
            check_value(list(args), "args")
        limit = self.confinement.limits.execution_time
        timeout = limit if timeout_ms is None else min(timeout_ms, limit)
        if self._waiting >= _MAX_WAITING:
            raise CommunicationError(self.plugin_id, f"{_MAX_WAITING} calls wait already; slow down")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._call(function, args, timeout)
        finally:
            self._waiting -= 1

    async def _call(self, function: str, args: tuple[MessageValue, ...], timeout_ms: int) -> MessageValue:
        child = await self._ready()
        self.calls += 1
        self._sequence += 1
        limit = self.confinement.limits.output
        frame = wire.encode([wire.CALL, self._sequence, timeout_ms, limit, function, args])
        try:
            return await self._exchange(child, frame, function, timeout_ms)
        finally:
            if (passage := under_way.get()) is not None:
                passage.bytes_out += sum(map(len, frame))
                passage.bytes_in += child.lane.answer_bytes

    async def ping(self) -> None:
        """Have the plugin's process answer; a dead one is replaced.

        Raises:
            PluginError: It did not answer, and why.
        """
        async with self._turn:
            child = await self._ready()
            self._sequence += 1
            frame = wire.encode([wire.PING, self._sequence])
            await self._exchange(child, frame, "", self.confinement.limits.execution_time)

    async def _ready(self) -> Child:
        child = self._child
        if child is None or self.state is not PluginState.READY or child.exited.done():
            child = await self._ensure()
        return child

    async def _exchange(
        self, child: Child, frame: tuple[bytes, ...], function: str, timeout_ms: int
    ) -> MessageValue:
        limits = self.confinement.limits
        watch = self._begin(child, timeout_ms, limits.cpu_time)
        try:
            answer = await child.lane.exchange(frame, limits.output)
            if watch.verdict is not None:
                raise LaneClosed("it was stopped with its answer on the way")
            return self._result(answer, function)
        except (LaneClosed, wire.ProtocolError) as reason:
            self.failures += 1
            raise await self._died(watch, reason, function) from None
        except _Refusal as refusal:
            self.failures += 1
            raise await self._failed(watch, refusal.failure, function) from None
        except BaseException:
            # Cancelled: the process may be anywhere in the call, so it cannot serve another one.
            self._events.publish("killed", self.plugin_id, reason="its caller gave up", function=function)
            await self._stop()
            raise
        finally:
            self._end(watch)

    def _end(self, watch: _Watch) -> None:
        self._watch = None
        self._violations.end_call()
        if watch.question is not None:
            watch.question.cancel()

    def _result(self, answer: list[Any], function: str) -> MessageValue:
        match answer:
            case [wire.RESULT, self._sequence, value]:
                return wire.check_keys(value)
            case [wire.FAILURE, self._sequence, *_]:
                raise _Refusal(wire.failure(answer))
        raise wire.ProtocolError(f"its answer to {function} is not an answer")

    async def _ensure(self) -> Child:
        """The running process, or a fresh one."""
        if self.state is PluginState.UNLOADED:
            raise CommunicationError(self.plugin_id, "it was unloaded while the call waited")
        if self.state is PluginState.DISABLED:
            count, latest = self._violations.total, self._violations.latest
            what = f"{count} forbidden act{'s' * (count != 1)}, the last: {latest}"
            raise SecurityViolation(self.plugin_id, what, disabled=True)
        child = self._child
        if child is not None and child is not self._condemned and not child.exited.done():
            return child
        if child is not None:
            await self._stop()
        began = time.perf_counter()
        self.state = PluginState.LOADING
        try:
            offer = await self._compiled()
            try:
                child = await self._spawn(self.confinement.cgroup)
                self.functions, _ = await self._load(child, offer)
            finally:
                offer.close()
        except BaseException:
            if self.state is PluginState.LOADING:
                self.state = PluginState.STOPPED
            await self._stop()
            raise
        self.state = PluginState.READY
        self.starts += 1
        self.load_ms = (time.perf_counter() - began) * 1000
        if self.starts > 1:
            self._events.publish("restarted", self.plugin_id, restarts=self.starts - 1, ms=self.load_ms)
        return child

    async def _compiled(self) -> Offer:
        """The compiled form of the plugin's code, made now if there is none; nothing where none is needed."""
        bundle, limits = self._bundle, self.confinement.limits
        code = next((file.size for file in bundle.files if file.path == bundle.metadata.entry), 0)
        if self._shared is None or not code:
            return Offer()
        cache, engine = self._shared.compiled, (await self._launcher()).engine
        offer = await cache.offer(bundle.digests[bundle.metadata.entry], code, engine)
        if not offer.room:
            return offer
        memory = max(limits.memory, limits.compile_memory)
        room = self.confinement.cgroup
        try:
            child = await self._spawn(room._replace(memory=memory) if room.memory is not None else room)
            _, size = await self._load(child, offer)
            await self._stop()
        except ResourceLimitExceeded as error:
            offer.close()
            if error.resource != "memory":
                raise
            raise ResourceLimitExceeded(self.plugin_id, "compile_memory", memory, error.actual) from None
        except BaseException:
            offer.close()
            raise
        return await cache.keep(offer, size)

    async def _launcher(self) -> Launcher:
        room = self.confinement
        return await self._nursery.launcher(LauncherKind(room.format, room.variant, room.policy.network))

    async def _spawn(self, limits: CgroupLimits) -> Child:
        room = self.confinement
        launcher = await self._launcher()
        plan = room.plan(launcher.paths, needs_files=launcher.needs_files, lacks=launcher.lacks)
        try:
            child = await self._nursery.take(launcher, plan, limits, room.policy.require)
        except SandboxError:
            if not launcher.dead.done():
                raise
            # It died under our hands; the one that replaces it gets one try.
            launcher = await self._launcher()
            child = await self._nursery.take(launcher, plan, limits, room.policy.require)
        self._child = child
        child.on_end = self._lane_ended
        child.on_violation = lambda call: self._violated(child, call)
        child.on_denial = self._violations.denied
        if self._services is not None:
            services = self._services
            child.lane.on_question = lambda frame: self._asked(services, frame)
        limit = room.limits.log
        self._printout = Printout(
            self.plugin_id,
            child.log,
            limit,
            lambda: self._watch is not None,
            lambda size: self._accuse(child, ResourceLimitExceeded(self.plugin_id, "log", limit, size)),
        )
        if room.may_fork and child.cgroup is not None:
            self._watch_memory(child, child.cgroup)
        return child

    def _violated(self, child: Child, call: str) -> OnViolation:
        action, what = self._violations.decide(call)
        if action == "kill":
            self._accuse(child, SecurityViolation(self.plugin_id, what))
        return action

    def _watch_memory(self, child: Child, cgroup: Cgroup) -> None:
        """Have all processes of the plugin die when the kernel picks one of them for want of memory."""
        try:
            event = cgroup.oom_event()
        except CgroupError as error:
            raise SandboxError(f"running out of memory would go unnoticed: {error}") from error
        if event is not None:
            self._oom_event = event
            self._loop.add_reader(event, self._out_of_memory, child, cgroup)

    def _out_of_memory(self, child: Child, cgroup: Cgroup) -> None:
        self._loop.remove_reader(self._oom_event)
        limit = self.confinement.limits.memory
        peak = cgroup.usage().memory_peak or limit
        self._accuse(child, ResourceLimitExceeded(self.plugin_id, "memory", limit, peak))

    async def _load(self, child: Child, offer: Offer) -> tuple[dict[str, str], int]:
        """Have a process load the plugin, or only compile it where the offer has room for that.

        Returns:
            The functions, and how many bytes of compiled code it has left.
        """
        limits, bundle = self.confinement.limits, self._bundle
        request = {
            "id": self.plugin_id,
            "entry": bundle.metadata.entry,
            "files": [list(file) for file in bundle.files],
            "size": bundle.size,
            "options": bundle.metadata.options,
            "exports": msgspec.to_builtins(bundle.metadata.exports),
            "paths": self.confinement.policy.shown_while_serving,
            "memory": limits.memory,
            "stack": limits.stack,
            "compiled": offer.size,
            "room": offer.room,
        }
        watch = self._begin(child, limits.load_time, limits.load_time)
        try:
            answer = child.lane.expect(0)
            child.lane.send_descriptors(wire.encode([wire.LOAD, request]), [bundle.fd, *offer.files])
            frame = await answer
            if watch.verdict is not None:
                raise LaneClosed("it was stopped with its answer on the way")
            match frame:
                case [wire.LOADED, dict(functions), int(kept)]:
                    return {str(name): str(text) for name, text in functions.items()}, max(kept, 0)
                case [wire.FAILURE, 0, *_]:
                    raise explanation.of_failed_load(bundle, wire.failure(frame))
            raise wire.ProtocolError("its answer to the load is not an answer")
        except (LaneClosed, wire.ProtocolError) as reason:
            error = await self._died(watch, reason, "load")
            if isinstance(error, ExecutionFailed):
                error = LoadFailed(bundle.path, error.reason)
            raise error from None
        finally:
            self._end(watch)

    # What a plugin asks while it is called.

    def _asked(self, services: Services, frame: list[Any]) -> None:
        watch = self._watch
        if watch is None:
            raise wire.ProtocolError("it asked its host while no call was under way")
        service, args = wire.question(frame)
        answer = self._answer(services, watch, service, args)
        # Eager: what can be answered at once needs no turn of the event loop.
        context = watch.context.copy()
        watch.question = asyncio.Task(answer, loop=self._loop, context=context, eager_start=True)

    async def _answer(
        self, services: Services, watch: _Watch, service: str, args: list[MessageValue]
    ) -> None:
        try:
            frame = wire.encode([wire.ANSWER, await services.answer(service, args, watch.deadline)])
        except Refused as refusal:
            frame = wire.encode([wire.REFUSAL, refusal.reason, refusal.message])
        except Exception:
            logger.exception("%s asked for %s, which failed in the host", self.plugin_id, service[:40])
            frame = wire.encode([wire.REFUSAL, "failed", "the host could not do it; its log says why"])
        watch.child.lane.answer(frame)

    # What a call is watched for.

    def _begin(self, child: Child, timeout_ms: int, cpu_ms: int) -> _Watch:
        now = self._loop.time()
        watch = _Watch(
            child=child,
            deadline=now + timeout_ms / 1000,
            cpu_limit_ns=cpu_ms * 1_000_000,
            # The clock of one process is a system call; a group's is a file, which a short call never reads.
            cpu_start_ns=None if self.confinement.may_fork else process.cpu_ns(child.pid) or 0,
            timeout_ms=timeout_ms,
            context=copy_context(),
        )
        self._watch = watch
        if self._printout is not None:
            self._printout.begin_call()
        self._look_again(watch, now, 0 if watch.cpu_start_ns is None else watch.cpu_limit_ns)
        return watch

    def _look_again(self, watch: _Watch, now: float, cpu_left_ns: int) -> None:
        """Sleep until the first moment at which a limit could be reached."""
        pause = max(cpu_left_ns / 1e9 / self._parallel, _CPU_CHECK_SECONDS)
        if self.confinement.cgroup.memory is None:
            pause = min(pause, _MEMORY_CHECK_SECONDS)
        when = min(watch.deadline + _INTERRUPT_GRACE, now + pause)
        if self._timer is not None:
            if self._timer.when() <= when:
                return  # an earlier call's; it looks in time, and costs this one nothing
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer, watch = None, self._watch
        if watch is None:
            return
        now, limits = self._loop.time(), self.confinement.limits
        total = self._cpu_ns(watch.child)
        if watch.cpu_start_ns is None:
            watch.cpu_start_ns = total
        used = total - watch.cpu_start_ns
        if now >= watch.deadline:
            self._condemn(watch, Timeout(self.plugin_id, watch.timeout_ms))
        elif used >= watch.cpu_limit_ns:
            limit = watch.cpu_limit_ns // 1_000_000
            self._condemn(watch, ResourceLimitExceeded(self.plugin_id, "cpu", limit, used // 1_000_000))
        elif self.confinement.cgroup.memory is None and (
            (held := process.resident_memory(watch.child.pid)) > limits.memory + _SHARED_MEMORY
        ):
            self._condemn(watch, ResourceLimitExceeded(self.plugin_id, "memory", limits.memory, held))
        else:
            self._look_again(watch, now, watch.cpu_limit_ns - used)

    def _cpu_ns(self, child: Child) -> int:
        if self.confinement.may_fork and child.cgroup is not None:
            return child.cgroup.cpu_ns() or 0
        return process.cpu_ns(child.pid) or 0

    def _condemn(self, watch: _Watch, verdict: PluginError) -> None:
        """Decide before the kill, so that the explanation never has to guess."""
        if watch.verdict is None:
            watch.verdict = verdict
        watch.child.kill()

    def _accuse(self, child: Child, error: PluginError) -> None:
        """Kill for something that may also happen between calls, when nobody waits for the error."""
        if self._watch is not None:
            self._condemn(self._watch, error)
        elif child is not self._condemned:
            self._condemned = child
            logger.warning("between calls: %s", error)
            child.kill()
            if self.state is PluginState.READY:
                self.state = PluginState.STOPPED
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        """Publish why the plugin was stopped, and disable it when that was once too often."""
        match error:
            case SecurityViolation():
                self._violations.count(error.violation, "kill")
                if self._violations.too_many and self.state is not PluginState.UNLOADED:
                    self.state = PluginState.DISABLED
                    self._events.publish("disabled", self.plugin_id, violations=self._violations.total)
            case ResourceLimitExceeded():
                self._events.publish(
                    "limit", self.plugin_id, resource=error.resource, limit=error.limit, actual=error.actual
                )
            case Timeout():
                self._events.publish("timeout", self.plugin_id, timeout_ms=error.timeout_ms)
            case ExecutionFailed():
                self._events.publish("crashed", self.plugin_id, reason=error.reason, function=error.function)

    def _lane_ended(self, reason: Exception) -> None:
        if self.state is PluginState.READY:
            self.state = PluginState.STOPPED
        child = self._child
        if self._watch is not None or child is None or child is self._condemned:
            return
        if isinstance(reason, wire.ProtocolError):
            what = f"it broke the lane's protocol: {reason}"
            self._accuse(child, SecurityViolation(self.plugin_id, what))
        else:
            self._condemned = child
            child.kill()
            self._tell(ExecutionFailed(self.plugin_id, "", "its process ended between calls"))

    # What an end means.

    async def _died(self, watch: _Watch, reason: Exception, function: str) -> PluginError:
        child = watch.child
        alive = not child.exited.done()
        if isinstance(reason, LaneClosed) and watch.verdict is None and alive:
            await asyncio.wait((child.exited,), timeout=_EXIT_SECONDS)
            if not child.exited.done():
                watch.verdict = SecurityViolation(self.plugin_id, "it closed its lane and went on")
        elif isinstance(reason, wire.ProtocolError) and watch.verdict is None:
            watch.verdict = SecurityViolation(self.plugin_id, f"it broke the lane's protocol: {reason}")
        child.kill()
        end = await child.exited
        limits, cgroup = self.confinement.limits, child.cgroup
        error = watch.verdict or explanation.of_end(self.plugin_id, function, end, cgroup, limits)
        self._tell(error)
        await self._stop()
        return error

    async def _failed(self, watch: _Watch, failure: wire.Failure, function: str) -> Exception:
        """Map a plugin's own failure; a limit leaves the process unfit, so it is replaced."""
        cgroup = watch.child.cgroup
        match failure.kind:
            case "arguments":
                return TypeError(f"{self.plugin_id}.{function}: {failure.message}")
            case "limit":
                limits = self.confinement.limits
                error = explanation.of_limit(self.plugin_id, failure, watch.child, limits, watch.timeout_ms)
                self._tell(error)
                await self._stop()
                return error
        if cgroup is not None and self.confinement.may_fork and cgroup.pids_refused():
            limit = self.confinement.limits.tasks
            error = ResourceLimitExceeded(self.plugin_id, "processes", limit, limit)
            self._tell(error)
            await self._stop()
            return error
        return ExecutionFailed(self.plugin_id, function, failure.message, failure.detail)

    async def _stop(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if self.state is PluginState.READY:
            self.state = PluginState.STOPPED
        child.on_end = child.on_violation = child.on_denial = self._condemned = None
        if self._printout is not None:
            self._printout.close()
            self._printout = None
        if self._oom_event >= 0:
            self._loop.remove_reader(self._oom_event)
            os.close(self._oom_event)
            self._oom_event = -1
        self._bytes_in += child.lane.bytes_in
        self._bytes_out += child.lane.bytes_out
        await asyncio.shield(child.discard())

    def usage(self, *, private: bool = True) -> ResourceUsage:
        """What the plugin uses now, read from the kernel.

        Args:
            private: Also ``memory_private``, for which the kernel holds the plugin's memory map for a moment.
        """
        child = self._child
        measured = ResourceUsage()
        if child is not None and not child.exited.done():
            measured = monitor.measure(child.pid, child.cgroup, private=private)
        return replace(
            measured,
            calls=self.calls,
            message_bytes_in=self._bytes_in + (child.lane.bytes_in if child else 0),
            message_bytes_out=self._bytes_out + (child.lane.bytes_out if child else 0),
            **(self._services.http_usage() if self._services is not None else {}),
            violations=self.violations,
            restarts=max(self.starts - 1, 0),
        )

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
        """End the process and give back everything; a call under way fails."""
        self.state = PluginState.UNLOADED
        if not self.unloaded.done():
            self.unloaded.set_result(None)
        if self._watch is not None:
            self._condemn(self._watch, CommunicationError(self.plugin_id, "it was unloaded during the call"))
        async with self._turn:
            await self._stop()
        if self._services is not None:
            await self._services.close()
        if self._timer is not None:
            self._timer.cancel()
        self._bundle.close()


class _Refusal(Exception):
    """Carries a FAILURE frame from its match to the code that maps it."""

    def __init__(self, failure: wire.Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)
