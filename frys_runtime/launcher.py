"""Fork servers seen from the host: one for each format, started on first use, replaced when it dies.

A launcher forks children; each child walks into the jail by itself and then waits, parked, on its lane.
"""

import asyncio
import errno
import itertools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from . import lane as lanes, wire
from .errors import InitializationFailed, SandboxError
from .fork_server import END_SECONDS, ForkServer, outside_uid
from .jail import Plan
from .linux import namespaces, process, seccomp
from .linux.bpf import describe_call, syscall_name
from .linux.cgroup import Cgroup, CgroupError, CgroupLimits, CgroupTree
from .policy_terms import OnViolation
from .wire import ProtocolError

logger = logging.getLogger("frys.launcher")

_REMOVE_SECONDS: Final = 5.0
"""How long the cgroup of an ended process may wait for a free descriptor of the host."""

_START_SECONDS: Final = 30.0
_PARK_SECONDS: Final = 30.0
_FORK_SECONDS: Final = 10.0
"""A fork server that has not answered a request after this time is stuck, and is replaced."""
_REAP_SECONDS: Final = 5.0
"""One that has not reported the death of a child after this time is, too."""
_CLD_KILLED: Final = 2
_SIGKILL: Final = 9


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended, in the terms of waitid(2)."""

    code: int
    status: int


class LauncherKind(NamedTuple):
    """What a fork server is started for.

    Attributes:
        format: The plugins' format.
        variant: ``main`` for Python plugins in the main interpreter, which may fork; otherwise empty.
        network: The host's network is left in place.
    """

    format: str
    variant: str = ""
    network: bool = False


@dataclass(slots=True, eq=False)
class Child:
    """One plugin process seen from the host: jailed, and parked until it gets its plugin.

    Attributes:
        lane: The call lane.
        pidfd: Signals go through this, so they never reach a stranger.
        pid: Its number outside, for clocks and statistics.
        log: The read end of its standard output and error.
        cgroup: Its cgroup, or ``None`` where the machine has none to give.
        layers: The layers of the jail that are in force.
        exited: Resolved when the process has been reaped.
        on_violation: Called with a description when the kernel stopped a forbidden call; it says what
            becomes of the call. For ``kill`` the process sleeps in it until it is dead.
        on_denial: Called with a description when Landlock refused something and the kernel tells the host.
        on_end: Called when the lane ends; see :class:`frys_runtime.lane.Lane`.
        on_stuck: Called when the process is dead and its fork server does not say so.
    """

    number: int
    pidfd: int = -1
    pid: int = -1
    log: int = -1
    listener: int = -1
    cgroup: Cgroup | None = None
    layers: frozenset[str] = frozenset()
    attempts: list[str] = field(default_factory=list)
    exited: "asyncio.Future[Exit]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    spawned: "asyncio.Future[int]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    on_violation: Callable[[str], OnViolation] | None = None
    on_denial: Callable[[str], None] | None = None
    on_end: Callable[[Exception], None] | None = None
    on_stuck: Callable[[], None] | None = None
    _lane: lanes.Lane | None = None

    @property
    def lane(self) -> lanes.Lane:
        """The call lane; there from the first moment."""
        assert self._lane is not None
        return self._lane

    def kill(self) -> None:
        """Kill the process; the kernel takes everything in its PID namespace with it."""
        if self.pidfd >= 0:
            process.kill(self.pidfd)
        if self.cgroup is not None:
            self.cgroup.let_die()

    async def end(self) -> Exit:
        """Wait for the end of the process. A fork server that does not tell of it is replaced."""
        while not self.exited.done():
            await asyncio.wait((self.exited,), timeout=_REAP_SECONDS)
            if not self.exited.done() and self.on_stuck is not None and process.is_dead(self.pidfd):
                self.on_stuck()
        return self.exited.result()

    def denied(self, what: str) -> None:
        """Pass on what Landlock refused, but not what the jail tries on purpose before it is parked."""
        if self.on_denial is not None:
            self.on_denial(what)

    def listen(self, listener: int) -> None:
        """Hear from the kernel what the child's filter stops."""
        self.listener = listener
        seccomp.wake_at_once(listener)  # a third of the round trip where the kernel has it
        asyncio.get_running_loop().add_reader(listener, self._announced)

    def _announced(self) -> None:
        waiting, over = seccomp.look(self.listener)
        if over and not waiting:
            asyncio.get_running_loop().remove_reader(self.listener)
        notification = seccomp.receive(self.listener) if waiting else None
        if notification is None:
            return
        if self.on_violation is None:
            self.attempts.append(syscall_name(notification.number))
            seccomp.deny(self.listener, notification)
            return
        match self.on_violation(describe_call(notification.number, notification.arguments)):
            case "deny":
                seccomp.deny(self.listener, notification)
            case "log":
                seccomp.let_pass(self.listener, notification)

    async def discard(self) -> Exit:
        """Kill, wait for the end, and give back every descriptor and the cgroup."""
        self.kill()
        self.lane.close()
        end = await self.end()
        loop = asyncio.get_running_loop()
        for fd in (self.listener, self.log):
            if fd >= 0:
                loop.remove_reader(fd)
        for fd in (self.listener, self.log, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self.listener = self.log = self.pidfd = -1
        if self.cgroup is not None:
            cgroup, self.cgroup = self.cgroup, None
            await asyncio.to_thread(_remove, cgroup)
        return end


def _remove(cgroup: Cgroup) -> None:
    """Remove an ended process's cgroup, and try again while the host is out of descriptors."""
    until = time.monotonic() + _REMOVE_SECONDS
    while True:
        try:
            cgroup.kill()
            cgroup.remove()
            return
        except CgroupError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE} or time.monotonic() > until:
                logger.warning("a cgroup is left until the manager ends: %s", error)
                return
        time.sleep(0.05)


class Launcher:
    """One fork server: what its engine needs, and the children that it has forked.

    Attributes:
        paths: What the format's engine needs to see while it loads a plugin.
        needs_files: The format needs a plugin's files as files.
        engine: What decides the compiled form of a plugin besides its code; empty for no such form.
        lacks: The layers of the jail that this machine does not give to this user.
        dead: Resolved with a sentence when the fork server has ended; its children have then, too.
    """

    def __init__(self, kind: LauncherKind, tree: CgroupTree | None) -> None:
        self.kind = kind
        self.format = kind.format
        self.paths: list[str] = []
        self.needs_files = False
        self.engine = ""
        self.lacks: tuple[str, ...] = ()
        self._refusal = ""
        self._tree = tree
        self._children: dict[int, Child] = {}
        self._plans: dict[Plan, asyncio.Task[int]] = {}
        self._abandoning: set[asyncio.Task[str]] = set()
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._server = ForkServer(
            (kind.format, kind.variant),
            network=kind.network,
            cgroups=tree.dirs() if tree is not None else (),
            heard=self._heard,
            ended=self._ended,
        )
        self.dead = self._server.dead

    def child_of(self, pid: int) -> Child | None:
        """The child with this number outside."""
        return next((child for child in self._children.values() if child.pid == pid), None)

    async def start(self) -> None:
        """Wait until the engine is warm.

        Raises:
            InitializationFailed: The fork server ended instead; the message has its last words.
        """
        done, _ = await asyncio.wait(
            (self._ready, self.dead), timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if self._ready in done:
            answer = self._ready.result()
            if answer["op"] == "ready":
                self.paths, self.needs_files = answer["paths"], answer["files"]
                self.engine = answer["engine"]
                self.lacks, self._refusal = tuple(answer["lacks"]), answer["why"]
                return
            reason = str(answer["reason"])
        elif self.dead in done:
            reason = self.dead.result()
        else:
            reason = f"it was not ready after {_START_SECONDS:.0f} seconds"
            self.kill()
        await self.close()
        raise InitializationFailed(f"the launcher for {self.format}", reason)

    async def spawn(self, plan: Plan, limits: CgroupLimits, require: frozenset[str]) -> Child:
        """Fork a child, wait until it is parked in its jail, and compare the jail with what is required.

        Raises:
            SandboxError: The jail could not be built, or is not what it has to be.
        """
        if missing := [layer for layer in self.lacks if layer in require]:
            why, how = namespaces.obstacle(self._refusal)
            raise SandboxError(
                f"the policy requires {', '.join(missing)}, which this machine does not give to this user: "
                f"{why}; {how}, or leave them out of the policy's `require`"
            )
        child = Child(next(_child_count))
        try:
            async with asyncio.timeout(_PARK_SECONDS):
                await self._fork(child, plan, limits)
                await _handshake(child, plan, require)
        except (lanes.LaneClosed, ProtocolError, TimeoutError, OSError, CgroupError) as error:
            if isinstance(error, TimeoutError):
                self.kill()  # stuck
                await asyncio.wait((self.dead,), timeout=END_SECONDS)
            words = await self._finish(child)
            raise SandboxError(
                f"the jail for a {self.format} plugin could not be built: "
                f"{str(error) or 'it took too long'}{words}; `frys doctor` says what this machine offers"
            ) from error
        except BaseException:
            await self._finish(child)
            raise
        return child

    async def _finish(self, child: Child) -> str:
        """Abandon a child, to the end, however often its spawn is cancelled; its last words."""
        task = asyncio.create_task(self._abandon(child))
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)
        return await asyncio.shield(task)

    async def _fork(self, child: Child, plan: Plan, limits: CgroupLimits) -> None:
        if self.dead.done():
            raise lanes.LaneClosed(f"the launcher is gone: {self.dead.result()}")
        ours, theirs = lanes.pair()
        child._lane = lanes.Lane(ours, lambda reason: child.on_end and child.on_end(reason))
        given: list[int] = []
        joins: list[int] = []
        try:
            child.log, log = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            given.append(log)
            os.set_blocking(log, True)
            if self._tree is not None:
                child.cgroup = self._tree.create(f"{self.format}-{child.number}", limits)
                joins = child.cgroup.procs_fds()
            self._children[child.number] = child
            request = {
                "op": "spawn",
                "child": child.number,
                "plan": await self._plan_number(plan),
                "uid": outside_uid(),
                "layers": _cgroup_layers(limits) if joins else [],
            }
            await self._server.send(request, [theirs.fileno(), log, *joins])
        finally:
            theirs.close()
            for fd in (*given, *joins):
                os.close(fd)
        child.on_stuck = self.kill
        async with asyncio.timeout(_FORK_SECONDS):
            child.pidfd = await child.spawned
        child.pid = process.pid_of(child.pidfd)

    async def _abandon(self, child: Child) -> str:
        words = b""
        spawned = child.spawned
        if spawned.done() and not (spawned.cancelled() or spawned.exception()) and child.pidfd < 0:
            child.pidfd = spawned.result()  # it came just when nobody waited any more
        if child.number in self._children and not child.spawned.done():
            child.spawned.cancel()
            child.exited.cancel()
        if child._lane is not None and child.pidfd >= 0:
            child.kill()
            await child.end()
            words = _drain(child.log)
            await child.discard()
        elif child._lane is not None:
            child.lane.close()
            if child.log >= 0:
                os.close(child.log)
            if child.cgroup is not None:
                await asyncio.to_thread(_remove, child.cgroup)
        text = words.decode("utf-8", "replace").strip()
        return f" ({text})" if text else ""

    def kill(self) -> None:
        """End a fork server that is stuck, with its children; the next plugin gets a new one."""
        self._server.kill()

    async def _plan_number(self, plan: Plan) -> int:
        """The number by which the fork server knows the plan; it is sent once, whoever gives up waiting."""
        sending = self._plans.get(plan)
        if sending is None:
            sending = self._plans[plan] = asyncio.create_task(self._send_plan(plan, len(self._plans)))
        return await asyncio.shield(sending)

    async def _send_plan(self, plan: Plan, number: int) -> int:
        await self._server.send({"op": "plan", "id": number, "plan": plan._asdict()}, [])
        return number

    def _heard(self, answer: dict[str, Any], fds: list[int]) -> None:
        match answer["op"]:
            case "spawned":
                self._spawned(self._children[answer["child"]], fds)
            case "exited":
                child = self._children.pop(answer["child"])
                if not child.exited.done():
                    child.exited.set_result(Exit(answer["code"], answer["status"]))
            case "unforked":
                child = self._children.pop(answer["child"])
                if not child.spawned.done():
                    reason = f"its launcher could not fork: {answer['reason']}"
                    child.spawned.set_exception(lanes.LaneClosed(reason))
            case _:
                self._ready.set_result(answer)

    def _spawned(self, child: Child, fds: list[int]) -> None:
        if not fds:
            # The kernel keeps a descriptor for which there is no room. The end of its lane ends the child.
            if not child.spawned.done():
                child.spawned.set_exception(lanes.LaneClosed("this process has too many open files"))
        elif child.spawned.done():
            process.kill(fds[0])  # nobody waits for it any more
            os.close(fds[0])
        else:
            child.spawned.set_result(fds[0])

    def _ended(self) -> None:
        for child in self._children.values():
            if not child.spawned.done():
                child.spawned.set_exception(lanes.LaneClosed("the launcher died"))
            if not child.exited.done():
                child.exited.set_result(Exit(_CLD_KILLED, _SIGKILL))
        self._children.clear()

    async def close(self) -> None:
        """End the fork server and with it every child; what does not end in time is named in the log."""
        await self._server.close()
        if self._abandoning:
            await asyncio.wait(self._abandoning)  # the ends of all children are known now


async def _handshake(child: Child, plan: Plan, require: frozenset[str]) -> None:
    frame, listener = await child.lane.receive_descriptor()
    if listener >= 0:
        child.listen(listener)
    if frame != [wire.LISTENER] or listener < 0:
        raise ProtocolError("the jail did not hand over its listener")
    match await child.lane.exchange(wire.encode([wire.VERIFY]), 0):
        case [kind, list(layers), list(broken)] if kind == wire.HELLO:
            pass
        case _:
            raise ProtocolError("the jail did not report")
    child.layers = frozenset(layers)
    unseen = set(plan.probes) - set(child.attempts)
    missing = sorted(require - child.layers)
    if broken or unseen:
        raise ProtocolError("; ".join([*broken, *(f"nothing stopped {name}" for name in sorted(unseen))]))
    if missing:
        raise ProtocolError(f"the policy requires {', '.join(missing)}, which this machine did not give")
    child.attempts.clear()


def _cgroup_layers(limits: CgroupLimits) -> list[str]:
    pairs = ((limits.memory, "cgroup_memory"), (limits.pids, "cgroup_tasks"))
    return [layer for limit, layer in pairs if limit is not None]


_child_count = itertools.count(1)


def _drain(log: int) -> bytes:
    try:
        return os.read(log, 2000)
    except BlockingIOError:
        return b""
