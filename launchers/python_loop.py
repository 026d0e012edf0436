"""An asyncio event loop that needs no system call but waiting: no sockets, no epoll, no self-pipe.

asyncio's own loops open a socket pair and an epoll instance, which level Maximum does not allow. Tasks,
timers, queues, locks and threads work on this one; there is no network that it could miss.
"""

import asyncio
from _thread import allocate_lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class _Doorbell:
    """Stands where a selector stands: waits for the time to pass or for another thread to ring."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def select(self, timeout: float | None) -> list[Any]:
        """Wait; there are never events, only reasons to look at the queue again."""
        if timeout is not None and timeout <= 0:
            self._lock.acquire(blocking=False)
        else:
            self._lock.acquire(timeout=-1 if timeout is None else timeout)
        return []

    def ring(self) -> None:
        """End the wait."""
        try:
            self._lock.release()
        except RuntimeError:
            return  # it has been rung already


class _Loop(asyncio.BaseEventLoop):
    # BaseEventLoop leaves these three names to its subclasses; they are the same from Python 3.4 to 3.15.

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Doorbell()

    def run_call(self, coroutine: "Coroutine[Any, Any, Any]") -> Any:
        """Run a call to its end; one that is interrupted is cancelled, or it would go on in the next."""
        task = self.create_task(coroutine)
        try:
            return self.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                self.run_until_complete(asyncio.wait((task,)))
            raise

    def _process_events(self, events: list[Any]) -> None:
        """No events ever come."""

    def _write_to_self(self) -> None:
        self._selector.ring()


def make_runner() -> "Callable[[Coroutine[Any, Any, Any]], Any]":
    """Make what runs a plugin's ``async def`` functions, on an event loop of its own."""
    return _Loop().run_call
