"""Calls in the order in which they came, and instances that wait for one."""

import asyncio

from .errors import PluginError, Timeout, Unavailable
from .sandbox import PluginSandbox


class Turns:
    """Brings calls and free instances of one plugin together.

    Args:
        plugin_id: For errors.
        most: Calls that may wait.

    Attributes:
        free: Instances that wait for a call; the one that was used last is used next.
        open: Whether calls are given to instances; otherwise they wait.
    """

    def __init__(self, plugin_id: str, most: int) -> None:
        self._plugin_id, self._most = plugin_id, most
        self._loop = asyncio.get_running_loop()
        self._queue: dict[asyncio.Future[PluginSandbox], None] = {}
        self.free: list[PluginSandbox] = []
        self.open = True

    def __len__(self) -> int:
        """How many calls wait."""
        return len(self._queue)

    def take(self) -> PluginSandbox | None:
        """A free instance, if there is one."""
        while self.open and self.free:
            slot = self.free.pop()
            if slot.is_ready:
                return slot
        return None

    def queue(self) -> "asyncio.Future[PluginSandbox]":
        """A place in the queue.

        Raises:
            Unavailable: Too many calls wait.
        """
        if len(self._queue) >= self._most:
            raise Unavailable(self._plugin_id, f"{len(self._queue)} calls wait already; slow down")
        turn: asyncio.Future[PluginSandbox] = self._loop.create_future()
        self._queue[turn] = None
        return turn

    async def wait(
        self, turn: "asyncio.Future[PluginSandbox]", deadline: float, timeout_ms: int
    ) -> PluginSandbox:
        """Wait for an instance; it may have died meanwhile.

        Args:
            turn: From :meth:`queue`.
            deadline: How long at most, by the event loop's clock.
            timeout_ms: How long the caller said that is.

        Raises:
            Timeout: None was free in time.
            PluginError: Whatever the queue was failed with.
        """
        timer = self._loop.call_at(deadline, self._expire, turn, timeout_ms)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.offer(turn.result())
            raise
        finally:
            timer.cancel()
            self._queue.pop(turn, None)

    def _expire(self, turn: "asyncio.Future[PluginSandbox]", timeout_ms: int) -> None:
        if not turn.done():
            turn.set_exception(Timeout(self._plugin_id, timeout_ms, waiting=True))

    def offer(self, slot: PluginSandbox) -> None:
        """Give an instance to the call that waits longest; keep it for the next if none does."""
        if not slot.is_ready:
            return
        while self.open and self._queue:
            turn = next(iter(self._queue))
            del self._queue[turn]
            if not turn.done():
                turn.set_result(slot)
                return
        if slot not in self.free:
            self.free.append(slot)

    def offer_all(self) -> None:
        """Give every free instance to a call that waits."""
        free, self.free = self.free, []
        for slot in free:
            self.offer(slot)

    def fail(self, error: PluginError) -> None:
        """Tell every call that waits that it waits in vain."""
        waiting = [turn for turn in self._queue if not turn.done()]
        self._queue.clear()
        for turn in waiting:
            turn.set_exception(error)
