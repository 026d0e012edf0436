"""Waiting for a plugin without sleeping, where that has paid: a wake-up costs more than a short call.

Networks know it as busy polling (``SO_BUSY_POLL`` of socket(7)). Both ends of a lane do it, each for itself;
docs/adr/0019-busy-polling.md has the figures and what it costs.
"""

import asyncio
import os
from typing import Final
from weakref import WeakKeyDictionary

SECONDS: Final = 100e-6
"""How long a plugin's process looks; a call between two plugins returns within that."""
HOST_SECONDS: Final = 50e-6
"""How long the host does, which has others to serve."""

_RUN_SECONDS: Final = 300e-6
"""How long the host looks, for one frame after the other, before its event loop has a turn."""
_MOST_LEFT_OUT: Final = 1023


def is_worthwhile() -> bool:
    """Whether two processes can run at the same time here; otherwise who looks keeps the other waiting."""
    return len(os.sched_getaffinity(0)) > 1


class Patience:
    """Whether to look for a lane's next frame, as it went before.

    After a look in vain, the next 1, 3, 7 ... 1023 frames are waited for asleep.
    """

    __slots__ = ("_left_out", "_misses")

    def __init__(self) -> None:
        self._misses = self._left_out = 0

    def is_left(self) -> bool:
        """Whether to look for the frame that comes now."""
        if not self._left_out:
            return True
        self._left_out -= 1
        return False

    def found(self) -> None:
        """The look was not in vain."""
        self._misses >>= 1

    def lost(self) -> None:
        """It was."""
        self._misses = self._left_out = min(2 * self._misses + 1, _MOST_LEFT_OUT)


class Attention:
    """What one event loop waits for.

    While it looks for one frame it serves nobody else, so it looks only when no other plugin is at work for
    it, and has a turn for everybody in between.
    """

    def __init__(self) -> None:
        self._awaited: set[object] = set()
        self._began: float | None = None

    def is_free(self, now: float) -> bool:
        """Whether a look may begin now, by ``time.perf_counter``."""
        if self._awaited:
            return False
        if self._began is None:
            self._began = now
        return now - self._began <= _RUN_SECONDS

    def sleep(self, lane: object) -> None:
        """The event loop will tell when something comes; meanwhile it serves others."""
        self._awaited.add(lane)
        self._began = None

    def wake(self, lane: object) -> None:
        """What was waited for has come, or never will."""
        self._awaited.discard(lane)


_attentions: WeakKeyDictionary[asyncio.AbstractEventLoop, Attention] = WeakKeyDictionary()


def attention_of(loop: asyncio.AbstractEventLoop) -> Attention:
    """The one of an event loop, which all of its managers share."""
    return _attentions.setdefault(loop, Attention())
