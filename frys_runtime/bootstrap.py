"""How a process of an instance starts: a child in its jail, compiled code for it if need be, the load."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from . import busy_poll, explanation, wire
from .bulk import Bulk
from .compiled import CompiledCode, Offer
from .errors import (
    ExecutionFailed,
    LoadFailed,
    PluginError,
    ResourceLimitExceeded,
    SandboxError,
    Timeout,
)
from .isolation import Confinement
from .lane import LaneClosed
from .launcher import Child, Launcher, LauncherKind
from .linux.cgroup import CgroupLimits
from .loader import Bundle
from .nursery import Nursery
from .postmortem import Cause, Postmortem
from .watchdog import Watch

type Compile = Callable[[CgroupLimits, Offer], Awaitable[int]]
"""Has a process with such limits compile the code into the room on offer; how many bytes it has left."""


class Bootstrap:
    """Starts the processes of one instance, one after the other.

    Args:
        plugin_id: For errors.
        bundle: What they load.
        confinement: Their jail.
        nursery: Where they come from.
        postmortem: Says why one ended while it loaded.
        compiled: What compiling gave is kept there; ``None`` compiles in each process anew.
    """

    def __init__(
        self,
        plugin_id: str,
        bundle: Bundle,
        confinement: Confinement,
        nursery: Nursery,
        postmortem: Postmortem,
        compiled: CompiledCode | None,
    ) -> None:
        self._plugin_id, self._bundle, self._room = plugin_id, bundle, confinement
        self._nursery, self._postmortem, self._compiled = nursery, postmortem, compiled

    async def offer(self, compile_code: Compile) -> Offer:
        """The compiled form of the plugin's code, made now if there is none; nothing where none is needed.

        Args:
            compile_code: Called where there is none.

        Raises:
            PluginError: What compiling raised; memory that it lacked is ``compile_memory``.
        """
        bundle, limits = self._bundle, self._room.limits
        code = next((file.size for file in bundle.files if file.path == bundle.metadata.entry), 0)
        if self._compiled is None or not code:
            return Offer()
        engine = (await self._launcher()).engine
        offer = await self._compiled.offer(bundle.digests[bundle.metadata.entry], code, engine)
        if not offer.room:
            return offer
        memory = max(limits.memory, limits.compile_memory)
        cgroup = self._room.cgroup
        try:
            size = await compile_code(
                cgroup._replace(memory=memory) if cgroup.memory is not None else cgroup, offer
            )
        except ResourceLimitExceeded as error:
            offer.close()
            if error.resource != "memory":
                raise
            raise ResourceLimitExceeded(self._plugin_id, "compile_memory", memory, error.actual) from None
        except BaseException:
            offer.close()
            raise
        return await self._compiled.keep(offer, size)

    async def _launcher(self) -> Launcher:
        room = self._room
        return await self._nursery.launcher(LauncherKind(room.format, room.variant, room.policy.network))

    async def spawn(self, limits: CgroupLimits) -> Child:
        """A process in its jail that waits for its plugin.

        Raises:
            InitializationFailed: There is no launcher for it.
            SandboxError: The jail is not what the policy requires.
        """
        room = self._room
        launcher = await self._launcher()
        plan = room.plan(launcher.paths, needs_files=launcher.needs_files, lacks=launcher.lacks)
        try:
            return await self._nursery.take(launcher, plan, limits, room.policy.require)
        except SandboxError:
            if not launcher.dead.done():
                raise
            # It died under our hands; the one that replaces it gets one try.
            launcher = await self._launcher()
            return await self._nursery.take(launcher, plan, limits, room.policy.require)

    async def load(self, watch: Watch, offer: Offer) -> tuple[dict[str, str], int]:
        """Have a process load the plugin, or only compile it where the offer has room for that.

        Args:
            watch: The process, and the clocks of the load, which run already.
            offer: Compiled code, or room for it; stays the caller's.

        Returns:
            The functions, and how many bytes of compiled code it has left.

        Raises:
            PluginError: It did not, and why.
        """
        try:
            return await self._exchange(watch, offer)
        except (LaneClosed, wire.ProtocolError) as reason:
            cause = await self._postmortem.examine(watch, reason, "load")
            self._postmortem.publish(cause.error)
            raise self._of_load(cause) from None

    async def _exchange(self, watch: Watch, offer: Offer) -> tuple[dict[str, str], int]:
        room, lane = self._room, watch.child.lane
        request, fds = self._request(offer), [self._bundle.fd, *offer.files]
        if not offer.room:
            bulk = Bulk(room.limits.memory // 2)
            lane.add_bulk(bulk)
            request["bulk"] = bulk.size
            fds.append(bulk.fd)
        answer = lane.expect(0)
        lane.send_descriptors(wire.encode([wire.LOAD, request]), fds)
        frame = await answer
        if watch.verdict is not None:
            raise LaneClosed("it was stopped with its answer on the way")
        match frame:
            case [wire.LOADED, dict(functions), int(kept)]:
                lane.busy_poll = min(room.busy_poll, busy_poll.HOST_SECONDS)
                lane.is_plain = not room.may_send_descriptors
                return {str(name): str(text) for name, text in functions.items()}, max(kept, 0)
            case [wire.FAILURE, 0, *_]:
                raise explanation.of_failed_load(self._bundle, wire.failure(frame))
        raise wire.ProtocolError("its answer to the load is not an answer")

    def _request(self, offer: Offer) -> dict[str, Any]:
        bundle, limits = self._bundle, self._room.limits
        return {
            "id": self._plugin_id,
            "entry": bundle.metadata.entry,
            "files": [list(file) for file in bundle.files],
            "size": bundle.size,
            "options": bundle.metadata.options,
            "exports": msgspec.to_builtins(bundle.metadata.exports),
            "paths": self._room.policy.shown_while_serving,
            "memory": limits.memory,
            "stack": limits.stack,
            "compiled": offer.size,
            "room": offer.room,
            "bulk": 0,
            "poll": self._room.busy_poll,
        }

    def _of_load(self, cause: Cause) -> PluginError:
        """What whoever loads the plugin is told."""
        match cause.error:
            case ExecutionFailed() as error if cause.outside:
                return SandboxError(error.reason)
            case ExecutionFailed() as error:
                return LoadFailed(self._bundle.path, error.reason)
            case Timeout():
                return Timeout(self._plugin_id, self._room.limits.load_time, loading=True)
        return cause.error
