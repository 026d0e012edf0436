"""One version of a plugin as its callers see it, whatever number of processes serves it."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from .config import ResourceUsage
from .errors import CommunicationError, ExecutionFailed
from .events import Events
from .isolation import Confinement
from .loader import Bundle
from .messages import MessageValue
from .nursery import Nursery
from .policy_grants import MessageGrant
from .sandbox import PluginSandbox, PluginState
from .services import Shared


class Pool:
    """The live processes of one loaded version of a plugin; owns its bundle.

    Made by :class:`frys_runtime.manager.PluginManager`.
    """

    def __init__(
        self,
        plugin_id: str,
        bundle: Bundle,
        confinement: Confinement,
        nursery: Nursery,
        events: Events,
        shared: Shared | None = None,
    ) -> None:
        self.plugin_id = plugin_id
        self.metadata = bundle.metadata
        self.confinement = confinement
        self._bundle = bundle
        self._under_way = 0
        self._idle: asyncio.Future[None] | None = None
        self._draining = False
        self._sandbox = PluginSandbox(plugin_id, bundle, confinement, nursery, events, shared=shared)

    @property
    def state(self) -> PluginState:
        """Where it is in its life."""
        return self._sandbox.state

    @property
    def functions(self) -> dict[str, str]:
        """Callable functions with signatures for people, in the plugin's own (untrusted) words."""
        return self._sandbox.functions

    @property
    def messages(self) -> MessageGrant:
        """What its policy lets it send to other plugins and receive from them."""
        return self.confinement.policy.messages

    @property
    def layers(self) -> frozenset[str]:
        """The layers of the jail that are in force; empty while no process runs."""
        return self._sandbox.layers

    @property
    def pid(self) -> int | None:
        """A process of it, as the host's kernel numbers it; ``None`` while none runs."""
        return self._sandbox.pid

    @property
    def load_ms(self) -> float:
        """Milliseconds that the last start took."""
        return self._sandbox.load_ms

    @property
    def calls(self) -> int:
        """Calls that were made."""
        return self._sandbox.calls

    @property
    def failures(self) -> int:
        """Calls that did not give a result."""
        return self._sandbox.failures

    @property
    def restarts(self) -> int:
        """Fresh processes that replaced dead ones."""
        return max(self._sandbox.starts - 1, 0)

    @property
    def violations(self) -> int:
        """How often it tried what is forbidden."""
        return self._sandbox.violations

    @property
    def unloaded(self) -> asyncio.Future[None]:
        """Done when it is closed."""
        return self._sandbox.unloaded

    async def start(self) -> None:
        """Load the plugin; see :meth:`PluginSandbox.start`."""
        await self._sandbox.start()

    async def call(
        self, function: str, args: tuple[MessageValue, ...], timeout_ms: int | None = None
    ) -> MessageValue:
        """Call one function; see :meth:`PluginSandbox.call`."""
        if self._draining:
            raise CommunicationError(self.plugin_id, "this version takes no new calls any more")
        self._under_way += 1
        try:
            return await self._sandbox.call(function, args, timeout_ms)
        finally:
            self._under_way -= 1
            if self._idle is not None and not self._under_way and not self._idle.done():
                self._idle.set_result(None)

    async def ping(self) -> None:
        """Have a process of it answer; see :meth:`PluginSandbox.ping`."""
        await self._sandbox.ping()

    async def check_health(self) -> None:
        """Have a process answer, and its health function, if it declares one, say that all is well.

        Raises:
            PluginError: It does not, and why.
        """
        await self.ping()
        health = self.metadata.health
        if health and (answer := await self._sandbox.call(health, ())) not in (True, None, b"", ""):
            what = answer if isinstance(answer, str) else repr(answer)
            raise ExecutionFailed(self.plugin_id, health, f"it is not well: {what[:500]}")

    async def idle(self, deadline: float) -> int:
        """Wait until no call is under way or waits.

        Args:
            deadline: How long at most, by the event loop's clock.

        Returns:
            How many calls there are still.
        """
        if self._under_way:
            self._idle = self._idle or asyncio.get_running_loop().create_future()
            await asyncio.wait((self._idle,), timeout=deadline - asyncio.get_running_loop().time())
            self._idle = None
        return self._under_way

    async def drain(self, deadline: float) -> int:
        """Take no new calls, let those that were taken end, and close.

        Args:
            deadline: How long at most, by the event loop's clock; what is under way then fails.

        Returns:
            How many calls were cut off.
        """
        self._draining = True
        cut = await self.idle(deadline)
        await self.close()
        return cut

    def usage(self, *, private: bool = True) -> ResourceUsage:
        """What it uses now, read from the kernel; see :meth:`PluginSandbox.usage`."""
        return self._sandbox.usage(private=private)

    def watch(self, interval: float, thresholds: Mapping[str, float]) -> AsyncIterator[ResourceUsage]:
        """Samples until it is closed; see :meth:`PluginSandbox.watch`."""
        return self._sandbox.watch(interval, thresholds)

    async def close(self) -> None:
        """End every process and give back everything; calls under way fail."""
        await self._sandbox.close()
        self._bundle.close()
