"""An asyncio event loop that needs no system call but waiting: no sockets, no epoll, no self-pipe.

asyncio's own loops open a socket pair and an epoll instance, which level Maximum does not allow. Tasks,
timers, queues, locks and threads work on this one; there is no network that it could miss.
"""

import asyncio
from _thread import allocate_lock
from typing import Any


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

    def _process_events(self, events: list[Any]) -> None:
        """No events ever come."""

    def _write_to_self(self) -> None:
        self._selector.ring()


def make_loop() -> asyncio.AbstractEventLoop:
    """Make the event loop on which a plugin's ``async def`` functions run."""
    return _Loop()
