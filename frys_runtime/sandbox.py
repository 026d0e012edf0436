"""One instance of a plugin: a process in its jail, from spawn to reaped, and the calls that it serves."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from . import monitor, suspension, wire
from .bootstrap import Bootstrap
from .compiled import Offer
from .config import ResourceUsage
from .errors import CommunicationError, ExecutionFailed, PluginError, SandboxError
from .events import Events
from .guard import Guard
from .interruption import interrupt
from .isolation import Confinement
from .lane import LaneClosed
from .launcher import Child
from .linux.cgroup import CgroupError, CgroupLimits
from .loader import Bundle
from .messages import MessageValue
from .nursery import Nursery
from .postmortem import Cause, Postmortem
from .questions import Questions
from .services import Services, Shared
from .traffic import under_way
from .violations import Violations
from .waits import Instance
from .watchdog import Watch, Watchdog

logger = logging.getLogger("frys.plugin")


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

    Made by :class:`frys_runtime.instances.Instances`; the bundle is the pool's.
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
        self._keeper, self._events, self._violations = keeper, events, violations
        self._postmortem = Postmortem(self.plugin_id, confinement, events, violations)
        compiled = shared.compiled if shared is not None else None
        self._bootstrap = Bootstrap(self.plugin_id, bundle, confinement, nursery, self._postmortem, compiled)
        self._child: Child | None = None
        self._loaded = False
        self._condemned: Child | None = None
        self._sequence = 0
        self._loop = asyncio.get_running_loop()
        self._dog = Watchdog(self.plugin_id, confinement)
        self._questions = Questions(instance, services, self._dog) if services is not None else None
        self._guard: Guard | None = None
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
            offer = await self._bootstrap.offer(self._compile)
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
            if child.lane.was_found and (guard := self._guard) is not None:
                guard.printout.catch_up()
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
        if (guard := self._guard) is not None:
            guard.printout.begin_call()
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
        child, over = watch.child, False
        try:
            self._result(await interrupt(watch, self._questions, self.confinement), function)
            over = True
        except _Refusal as refusal:
            over = refusal.failure.detail == "time" or refusal.failure.kind != "limit"
        except (TimeoutError, LaneClosed, wire.ProtocolError):
            pass
        self._end(watch)
        if over and watch.verdict is None and self.is_ready:
            self._events.publish("interrupted", self.plugin_id, function=function)
            self._keeper.on_free(self)
        elif self._child is child:
            self._events.publish("killed", self.plugin_id, reason="its caller gave up", function=function)
            self._retire()
            self._keeper.on_down(self, None)

    # Starting.

    async def _compile(self, limits: CgroupLimits, room: Offer) -> int:
        """Have a process compile the plugin's code, and end it."""
        _, size = await self._load(await self._spawn(limits), room)
        self._retire()
        return size

    async def _spawn(self, limits: CgroupLimits) -> Child:
        child = self._child = await self._bootstrap.spawn(limits)
        child.on_end = self._lane_ended
        if self._questions is not None:
            child.lane.on_question = self._questions.take
        self._guard = Guard(
            child, self.plugin_id, self.confinement, self._violations, self._dog, self._accuse
        )
        return child

    async def _load(self, child: Child, offer: Offer) -> tuple[dict[str, str], int]:
        load_time = self.confinement.limits.load_time
        watch = self._begin(child, load_time, load_time)
        try:
            return await self._bootstrap.load(watch, offer)
        finally:
            self._end(watch)

    # What it is stopped for.

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
            self._accuse(child, self._postmortem.broken_protocol(reason))
        else:
            self._condemned = child
            self._chore(self._ended_between_calls(child, None))

    async def _ended_between_calls(self, child: Child, error: PluginError | None) -> None:
        cause = await self._postmortem.examine_idle(child, error)
        if self._child is not child:
            return  # it was replaced meanwhile
        self._postmortem.publish(cause.error)
        self._retire()
        self._keeper.on_down(self, cause.error, outside=cause.outside)

    # When a call has no result.

    async def _died(
        self, watch: Watch, reason: BaseException, function: str, args: tuple[MessageValue, ...] | None
    ) -> PluginError:
        cause = await self._postmortem.examine(watch, reason, function)
        self._replace(watch, cause, function, args)
        return cause.error

    async def _failed(
        self, watch: Watch, failure: wire.Failure, function: str, args: tuple[MessageValue, ...] | None
    ) -> Exception:
        """Map a plugin's own failure; a limit leaves the process unfit, so it is replaced."""
        if (cause := self._postmortem.exhausted(watch, failure)) is not None:
            self._replace(watch, cause, function, args)
            return cause.error
        if failure.kind == "arguments":
            return TypeError(f"{self.plugin_id}.{function}: {failure.message}")
        return ExecutionFailed(self.plugin_id, function, failure.message, failure.detail)

    def _replace(
        self, watch: Watch, cause: Cause, function: str, args: tuple[MessageValue, ...] | None
    ) -> None:
        self._postmortem.publish(cause.error)
        self._end(watch)
        if self._child is watch.child:
            self._retire()
            self._keeper.on_down(self, cause.error, outside=cause.outside, function=function, args=args)

    def _retire(self) -> None:
        """Let go of the process; it is killed and reaped meanwhile."""
        child, self._child = self._child, None
        self._loaded, self._condemned = False, None
        if child is None:
            return
        child.on_end = None
        if self._guard is not None:
            self._guard.close()
            self._guard = None
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


class _Refusal(Exception):
    """Carries a FAILURE frame from its match to the code that maps it."""

    def __init__(self, failure: wire.Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)
