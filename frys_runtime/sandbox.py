"""One instance of a plugin: a process in its jail, from spawn to reaped, and why each one ended."""

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from . import busy_poll, explanation, monitor, suspension, wire
from .bulk import Bulk
from .compiled import Offer
from .config import ResourceUsage
from .errors import (
    CommunicationError,
    Crashed,
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
from .lane import HostOutOfMemory, LaneClosed
from .launcher import Child, Exit, Launcher, LauncherKind
from .linux import process
from .linux.cgroup import CgroupError, CgroupLimits
from .loader import Bundle
from .messages import MessageValue
from .nursery import Nursery
from .policy_terms import OnViolation
from .printout import Printout
from .questions import Questions
from .services import Services, Shared
from .traffic import under_way
from .violations import Violations
from .waits import Instance
from .watchdog import MemoryAlarm, Watch, Watchdog

logger = logging.getLogger("frys.plugin")

_EXIT_SECONDS: Final = 0.2
_REPORT_SECONDS: Final = 0.5
"""How long a caller waits to be told how a process ended; a frozen launcher says it later, or never."""
_INTERRUPTIBLE: Final = frozenset({("javascript", ""), ("python", "main")})
"""Formats, with their variant, whose engine ends a call when its process gets SIGUSR1."""
_INTERRUPT_SECONDS: Final = 0.05
"""How long a call whose caller has given up may take to end before its process is killed."""


class Keeper(Protocol):
    """Who keeps an instance, and is told when it can serve and when it cannot any more."""

    def on_free(self, sandbox: "PluginSandbox") -> None:
        """A call that was given up has ended: the instance can serve the next one."""

    def on_down(
        self,
        sandbox: "PluginSandbox",
        error: PluginError | None,
        *,
        outside: bool = False,
        function: str = "",
        args: tuple[MessageValue, ...] | None = None,
    ) -> None:
        """Its process is gone.

        Args:
            sandbox: The instance.
            error: Why; ``None`` when its supervisor ended it for no fault of the plugin's.
            outside: It was killed by somebody who is neither the plugin nor its supervisor.
            function: What it was called for; empty between calls.
            args: With what; ``None`` between calls.
        """


class Begun(NamedTuple):
    """A call that was sent.

    Attributes:
        child: To whom.
        answer: The frame that will come back.
        size: Bytes that went out.
    """

    child: Child
    answer: "asyncio.Future[list[Any]]"
    size: int


class PluginSandbox:
    """One instance of a plugin. It serves one call at a time; who keeps it sees to that, and starts it again.

    Made by :class:`frys_runtime.pool.Pool`, which owns the bundle.
    """

    def __init__(
        self,
        instance: Instance,
        bundle: Bundle,
        confinement: Confinement,
        nursery: Nursery,
        keeper: Keeper,
        *,
        events: Events,
        violations: Violations,
        shared: Shared | None = None,
        services: Services | None = None,
    ) -> None:
        self.instance = instance
        self.plugin_id = instance.plugin_id
        self.confinement = confinement
        self.functions: dict[str, str] = {}
        self.load_ms = 0.0
        self.last_used = 0.0
        self._bundle, self._nursery, self._keeper = bundle, nursery, keeper
        self._events, self._violations = events, violations
        self._shared = shared
        self._child: Child | None = None
        self._loaded = False
        self._condemned: Child | None = None
        self._faults = explanation.EngineFaults()
        self._sequence = 0
        self._loop = asyncio.get_running_loop()
        self._dog = Watchdog(self.plugin_id, confinement)
        self._questions = Questions(instance, services, self._dog) if services is not None else None
        self._printout: Printout | None = None
        self._alarm: MemoryAlarm | None = None
        self._bytes_in = self._bytes_out = 0
        self._chores: set[asyncio.Task[Any]] = set()
        self._over: asyncio.Future[None] | None = None

    @property
    def child(self) -> Child | None:
        """Its process, or ``None``."""
        return self._child

    @property
    def is_live(self) -> bool:
        """Whether a process of it is there that has loaded the plugin and is not about to end."""
        child = self._child
        return self._loaded and child is not self._condemned and child is not None and not child.exited.done()

    @property
    def is_ready(self) -> bool:
        """Whether it can serve a call now."""
        child = self._child
        if child is None or not self._loaded or self._dog.watch is not None:
            return False
        return child is not self._condemned and not child.exited.done()

    @property
    def is_vacant(self) -> bool:
        """Whether a process can be started here."""
        return self._child is None and self._dog.watch is None

    async def start(self) -> None:
        """Start a process and have it load the plugin.

        Raises:
            InvalidFormat: The file is not what its format says.
            LoadFailed: The plugin could not be loaded.
            SandboxError: The jail is not what the policy requires.
            Timeout, ResourceLimitExceeded, SecurityViolation: While loading.
        """
        began = time.perf_counter()
        try:
            offer = await self._compiled()
            try:
                child = await self._spawn(self.confinement.cgroup)
                self.functions, _ = await self._load(child, offer)
            finally:
                offer.close()
        except OSError as error:
            self._retire()
            raise SandboxError(f"no process could be started: {error.strerror or error}") from error
        except BaseException:
            self._retire()
            raise
        self._loaded = True
        self.last_used = self._loop.time()
        self.load_ms = (time.perf_counter() - began) * 1000

    def begin(self, function: str, args: tuple[MessageValue, ...], timeout_ms: int) -> Begun:
        """Call one function, whose result :meth:`finish` waits for; nothing else may come in between."""
        child = self._child
        assert child is not None
        self._sequence += 1
        bulk, limit = child.lane.bulk, self.confinement.limits.output
        values = args if bulk is None else bulk.place(args)
        frame = wire.encode_call(self._sequence, timeout_ms, limit, function, values)
        answer = child.lane.exchange(frame, limit)
        return Begun(child, answer, sum(map(len, frame)) + (bulk.placed if bulk is not None else 0))

    async def call(self, function: str, args: tuple[MessageValue, ...], timeout_ms: int) -> MessageValue:
        """Call one function, and wait for its result."""
        return await self.finish(self.begin(function, args, timeout_ms), timeout_ms, function, args)

    async def ping(self, timeout_ms: int) -> None:
        """Have the process answer.

        Raises:
            PluginError: It did not, and why.
        """
        assert self._child is not None
        self._sequence += 1
        frame = wire.encode([wire.PING, self._sequence])
        answer = self._child.lane.exchange(frame, self.confinement.limits.output)
        await self.finish(Begun(self._child, answer, 0), timeout_ms, "", None)

    async def finish(
        self, begun: Begun, timeout_ms: int, function: str, args: tuple[MessageValue, ...] | None
    ) -> MessageValue:
        """Wait for the result of what was begun; the clocks run from here on.

        Args:
            begun: From :meth:`begin`.
            timeout_ms: How long it may take.
            function: What was called; empty for no function.
            args: With what.

        Raises:
            PluginError: It gave no result, and why.
        """
        child, answer, size = begun
        passage = under_way.get() if function else None
        watch = self._begin(child, timeout_ms, self.confinement.limits.cpu_time)
        ends_later = False
        try:
            child.lane.look()  # what it finds is answered, by functions of the host program among others
            reply = await answer
            if child.lane.was_found and self._printout is not None:
                self._printout.catch_up()
            if watch.verdict is not None:
                raise LaneClosed("it was stopped with its answer on the way")
            value = self._result(reply, function)
            if passage is not None and passage.reply is not None:
                passage.arrive(value)
            return value
        except (LaneClosed, wire.ProtocolError) as reason:
            ends_later = True
            raise await self._finish(self._died(watch, reason, function, args)) from None
        except _Refusal as refusal:
            raise await self._finish(self._failed(watch, refusal.failure, function, args)) from None
        except BaseException:
            if not answer.done() or answer.cancelled():
                ends_later = watch.given_up = True
                self._chore(self._end_given_up(watch, function))
            elif (ended := answer.exception()) is not None or watch.verdict is not None:
                # It was stopped, or ended, in the very moment in which its caller gave up.
                ends_later = watch.given_up = True
                why = ended if isinstance(ended, wire.ProtocolError) else LaneClosed(f"it ended: {ended}")
                self._chore(self._died(watch, why, function, args))
            raise
        finally:
            if passage is not None:
                passage.bytes_out += size
                passage.bytes_in += child.lane.answer_bytes
            if not ends_later:
                self._end(watch)

    async def _finish[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Let something run to its end, whether or not its caller is still there then."""
        return await asyncio.shield(self._chore(work))

    def _chore[T](self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = self._loop.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
        return task

    def _begin(self, child: Child, timeout_ms: int, cpu_ms: int) -> Watch:
        if self._printout is not None:
            self._printout.begin_call()
        return self._dog.begin(child, timeout_ms, cpu_ms)

    def _end(self, watch: Watch) -> None:
        if self._dog.watch is watch:
            self._dog.end()
            self._violations.end_call()
            self.last_used = self._loop.time()
            if self._over is not None and not self._over.done():
                self._over.set_result(None)

    def _result(self, answer: list[Any], function: str) -> MessageValue:
        if len(answer) >= 2 and answer[1] == self._sequence:
            if answer[0] == wire.RESULT and len(answer) == 3:
                return answer[2]  # type: ignore[no-any-return]  # the decoder has seen to it
            if answer[0] == wire.FAILURE:
                raise _Refusal(wire.failure(answer))
        raise wire.ProtocolError(f"its answer to {function} is not an answer")

    # A call whose caller has given up.

    async def _end_given_up(self, watch: Watch, function: str) -> None:
        """Have the call end, so that its process can serve the next one; kill the process if it does not."""
        child, room = watch.child, self.confinement
        hears = self._questions is not None and self._questions.withdraw(watch)
        if (room.format, room.variant) in _INTERRUPTIBLE:
            process.send_signal(child.pidfd, signal.SIGUSR1)
            hears = True
        over = False
        if hears:
            try:
                async with asyncio.timeout(_INTERRUPT_SECONDS):
                    self._result(await child.lane.expect(room.limits.output), function)
                over = True
            except _Refusal as refusal:
                over = refusal.failure.detail == "time" or refusal.failure.kind != "limit"
            except (TimeoutError, LaneClosed, wire.ProtocolError):
                over = False
        self._end(watch)
        if over and watch.verdict is None and self.is_ready:
            self._events.publish("interrupted", self.plugin_id, function=function)
            self._keeper.on_free(self)
        elif self._child is child:
            self._events.publish("killed", self.plugin_id, reason="its caller gave up", function=function)
            self._retire()
            self._keeper.on_down(self, None)

    # Starting.

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
            self._retire()
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
        self._child, self._faults = child, explanation.EngineFaults()
        child.on_end = self._lane_ended
        child.on_violation = lambda call: self._violated(child, call)
        child.on_denial = self._violations.denied
        if self._questions is not None:
            child.lane.on_question = self._questions.take
        limit = room.limits.log
        self._printout = Printout(
            self.plugin_id,
            child.log,
            limit,
            lambda: self._dog.watch is not None,
            lambda size: self._accuse(child, ResourceLimitExceeded(self.plugin_id, "log", limit, size)),
        )
        if room.may_fork and child.cgroup is not None:
            memory = room.limits.memory
            self._alarm = MemoryAlarm(
                child.cgroup,
                memory,
                lambda peak: self._accuse(
                    child, ResourceLimitExceeded(self.plugin_id, "memory", memory, peak)
                ),
            )
        return child

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
            "bulk": 0,
            "poll": self.confinement.busy_poll,
        }
        fds = [bundle.fd, *offer.files]
        if not offer.room:
            bulk = Bulk(limits.memory // 2)
            child.lane.add_bulk(bulk)
            request["bulk"] = bulk.size
            fds.append(bulk.fd)
        watch = self._begin(child, limits.load_time, limits.load_time)
        try:
            answer = child.lane.expect(0)
            child.lane.send_descriptors(wire.encode([wire.LOAD, request]), fds)
            frame = await answer
            if watch.verdict is not None:
                raise LaneClosed("it was stopped with its answer on the way")
            match frame:
                case [wire.LOADED, dict(functions), int(kept)]:
                    child.lane.busy_poll = min(self.confinement.busy_poll, busy_poll.HOST_SECONDS)
                    child.lane.is_plain = not self.confinement.may_send_descriptors
                    return {str(name): str(text) for name, text in functions.items()}, max(kept, 0)
                case [wire.FAILURE, 0, *_]:
                    raise explanation.of_failed_load(bundle, wire.failure(frame))
            raise wire.ProtocolError("its answer to the load is not an answer")
        except (LaneClosed, wire.ProtocolError) as reason:
            error, outside = await self._explained(watch, reason, "load")
            if isinstance(error, ExecutionFailed):
                error = SandboxError(error.reason) if outside else LoadFailed(bundle.path, error.reason)
            if isinstance(error, Timeout):
                error = Timeout(self.plugin_id, limits.load_time, loading=True)
            raise error from None
        finally:
            self._end(watch)

    # What it is stopped for.

    def _violated(self, child: Child, call: str) -> OnViolation:
        if self.confinement.format == "wasm" and (fault := explanation.unhandled(call)) is not None:
            if not self._faults.is_again(self._loop.time()):
                return "deny"
            self._accuse(child, Crashed(self.plugin_id, "", f"its engine crashed ({fault.name})"))
            return "kill"
        action, what = self._violations.decide(call)
        if action == "kill":
            self._accuse(child, SecurityViolation(self.plugin_id, what))
        return action

    def _accuse(self, child: Child, error: PluginError) -> None:
        """Kill for something that may also happen between calls, when nobody waits for the error."""
        if self._dog.watch is not None:
            self._dog.watch.condemn(error)
        elif child is self._child and child is not self._condemned:
            logger.warning("between calls: %s", error)
            self._condemned = child
            child.kill()
            self._chore(self._ended_between_calls(child, error))

    def condemn(self, error: PluginError) -> None:
        """Kill its process for a reason that its keeper knows; a call under way fails with it."""
        if self._child is not None:
            self._accuse(self._child, error)

    def _lane_ended(self, reason: Exception) -> None:
        child = self._child
        if self._dog.watch is not None or child is None or child is self._condemned:
            return
        if isinstance(reason, wire.ProtocolError):
            what = f"it broke the lane's protocol: {reason}"
            self._accuse(child, SecurityViolation(self.plugin_id, what))
        else:
            self._condemned = child
            self._chore(self._ended_between_calls(child, None))

    async def _ended_between_calls(self, child: Child, error: PluginError | None) -> None:
        if error is None:
            await asyncio.wait((child.exited,), timeout=_EXIT_SECONDS)
            if not child.exited.done() and not process.is_dead(child.pidfd):
                error = SecurityViolation(self.plugin_id, "it closed its lane and went on")
        end = await _end_of(child)
        outside = error is None and (end is None or explanation.was_killed(end))
        if error is None:
            limits = self.confinement.limits
            error = explanation.of_end(self.plugin_id, "", end, child.cgroup, limits)
        if self._child is not child:
            return  # it was replaced meanwhile
        self._tell(error)
        self._retire()
        self._keeper.on_down(self, error, outside=outside)

    def _tell(self, error: Exception) -> None:
        """Publish why its process was stopped."""
        match error:
            case SecurityViolation():
                self._violations.count(error.violation, "kill")
            case ResourceLimitExceeded():
                self._events.publish(
                    "limit", self.plugin_id, resource=error.resource, limit=error.limit, actual=error.actual
                )
            case Timeout():
                self._events.publish("timeout", self.plugin_id, timeout_ms=error.timeout_ms)
            case ExecutionFailed():
                self._events.publish("crashed", self.plugin_id, reason=error.reason, function=error.function)

    # What an end means.

    async def _explained(
        self, watch: Watch, reason: BaseException, function: str
    ) -> tuple[PluginError, bool]:
        """Wait for the end of a process and say why it ended, and whether neither it nor we did it."""
        child = watch.child
        alive = not child.exited.done()
        if isinstance(reason, HostOutOfMemory) and watch.verdict is None:
            watch.verdict = CommunicationError(self.plugin_id, f"{reason}; its process was replaced")
        elif isinstance(reason, LaneClosed) and watch.verdict is None and alive:
            await asyncio.wait((child.exited,), timeout=_EXIT_SECONDS)
            if not child.exited.done() and not process.is_dead(child.pidfd):
                watch.verdict = SecurityViolation(self.plugin_id, "it closed its lane and went on")
        elif isinstance(reason, wire.ProtocolError) and watch.verdict is None:
            watch.verdict = SecurityViolation(self.plugin_id, f"it broke the lane's protocol: {reason}")
        elif isinstance(watch.verdict, Crashed):
            watch.verdict = Crashed(self.plugin_id, function, watch.verdict.reason)
        end = await _end_of(child)
        limits, cgroup = self.confinement.limits, child.cgroup
        error = watch.verdict or explanation.of_end(self.plugin_id, function, end, cgroup, limits)
        self._tell(error)
        return error, watch.verdict is None and (end is None or explanation.was_killed(end))

    async def _died(
        self, watch: Watch, reason: BaseException, function: str, args: tuple[MessageValue, ...] | None
    ) -> PluginError:
        error, outside = await self._explained(watch, reason, function)
        self._replace(watch, error, function, args, outside=outside)
        return error

    def _replace(
        self,
        watch: Watch,
        error: PluginError,
        function: str,
        args: tuple[MessageValue, ...] | None,
        *,
        outside: bool = False,
    ) -> None:
        self._end(watch)
        if self._child is watch.child:
            self._retire()
            self._keeper.on_down(self, error, outside=outside, function=function, args=args)

    async def _failed(
        self, watch: Watch, failure: wire.Failure, function: str, args: tuple[MessageValue, ...] | None
    ) -> Exception:
        """Map a plugin's own failure; a limit leaves the process unfit, so it is replaced."""
        cgroup, limits = watch.child.cgroup, self.confinement.limits
        error: PluginError
        match failure.kind:
            case "arguments":
                return TypeError(f"{self.plugin_id}.{function}: {failure.message}")
            case "limit":
                error = explanation.of_limit(self.plugin_id, failure, watch.child, limits, watch.timeout_ms)
                self._tell(error)
                self._replace(watch, error, function, args)
                return error
        if cgroup is not None and self.confinement.may_fork and cgroup.pids_refused():
            error = ResourceLimitExceeded(self.plugin_id, "processes", limits.tasks, limits.tasks)
            self._tell(error)
            self._replace(watch, error, function, args)
            return error
        return ExecutionFailed(self.plugin_id, function, failure.message, failure.detail)

    def _retire(self) -> None:
        """Let go of the process; it is killed and reaped meanwhile."""
        child, self._child = self._child, None
        self._loaded, self._condemned = False, None
        if child is None:
            return
        child.on_end = child.on_violation = child.on_denial = None
        if self._printout is not None:
            self._printout.close()
            self._printout = None
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        self._bytes_in += child.lane.bytes_in
        self._bytes_out += child.lane.bytes_out
        self._chore(child.discard())

    def usage(self, *, private: bool = True) -> ResourceUsage:
        """What its process uses now, read from the kernel, and the bytes that its lanes carried."""
        child = self._child
        measured = ResourceUsage()
        if child is not None and not child.exited.done():
            try:
                measured = monitor.measure(child.pid, child.cgroup, private=private)
            except CgroupError:
                measured = monitor.measure(child.pid, None, private=private)
        return replace(
            measured,
            message_bytes_in=self._bytes_in + (child.lane.bytes_in if child else 0),
            message_bytes_out=self._bytes_out + (child.lane.bytes_out if child else 0),
        )

    async def freeze(self) -> None:
        """Stop its processes where they are; see :func:`frys_runtime.suspension.freeze`."""
        if self._child is not None:
            await suspension.freeze(self._child, self.plugin_id, may_fork=self.confinement.may_fork)

    async def thaw(self) -> None:
        """Let its processes go on."""
        if self._child is not None:
            await suspension.thaw(self._child)

    async def stop(self) -> None:
        """End its process for no fault of its own; returns when nothing of it is left."""
        if self._dog.watch is not None:
            self._dog.watch.condemn(CommunicationError(self.plugin_id, "it was unloaded during the call"))
            if self._over is None or self._over.done():
                self._over = self._loop.create_future()
            await asyncio.shield(self._over)
        self._retire()
        while self._chores:
            await asyncio.wait(self._chores)
        self._dog.close()


async def _end_of(child: Child) -> Exit | None:
    """Kill a process; how it ended, unless its launcher keeps that to itself."""
    child.kill()
    try:
        async with asyncio.timeout(_REPORT_SECONDS):
            return await child.end()
    except TimeoutError:
        return None


class _Refusal(Exception):
    """Carries a FAILURE frame from its match to the code that maps it."""

    def __init__(self, failure: wire.Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)
