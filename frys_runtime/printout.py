"""What a plugin prints to its standard output and error: read from a pipe, bounded, handed to the log.

While a call is under way, ``limit`` bytes may come; more is a broken limit. Between calls nobody waits for
what a plugin still prints (a thread of it may), so the same number of bytes is read per minute, and the
rest stays in the pipe, where the plugin waits when that is full. Whatever it prints, the host's log gets
a bounded number of lines in a second.
"""

import array
import asyncio
import fcntl
import logging
import os
import termios
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("frys.plugin")

_CHUNK: Final = 1 << 16
"""As much as a pipe holds."""
_LINE: Final = 2000
_LINES_PER_SECOND: Final = 1000
_WINDOW: Final = 60.0


class Printout:
    """Reads one plugin process's pipe.

    Args:
        plugin_id: For the log.
        pipe: The read end, non-blocking; not owned.
        limit: Bytes.
        is_calling: Whether a call is under way.
        on_excess: Called with the number of bytes when a call printed more than the limit.
    """

    def __init__(
        self,
        plugin_id: str,
        pipe: int,
        limit: int,
        is_calling: Callable[[], bool],
        on_excess: Callable[[int], None],
    ) -> None:
        self._plugin_id, self._pipe, self._limit = plugin_id, pipe, limit
        self._is_calling, self._on_excess = is_calling, on_excess
        self._loop = asyncio.get_running_loop()
        self._printed = 0
        self._resume: asyncio.TimerHandle | None = None
        self._second = 0
        self._lines = 0
        self._unshown = 0
        self._waits = array.array("i", [0])
        self._loop.add_reader(pipe, self._readable)

    def begin_call(self) -> None:
        """Count from here on what the call prints."""
        self._printed = 0
        if self._resume is not None:
            self._go_on()
            self._printed = -_CHUNK  # what lies in the pipe was printed before

    def catch_up(self) -> None:
        """Read what the plugin has printed, before the event loop tells of it."""
        fcntl.ioctl(self._pipe, termios.FIONREAD, self._waits)
        if self._waits[0] and self._resume is None:
            self._readable()

    def close(self) -> None:
        """Hand over the last words, and read no more."""
        if self._resume is not None:
            self._resume.cancel()
        elif self._loop.remove_reader(self._pipe):
            self._show(self._read())
        self._tell_unshown()

    def _read(self) -> bytes | None:
        try:
            return os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return None

    def _readable(self) -> None:
        data = self._read()
        if data is None:
            return
        if not data:
            self._loop.remove_reader(self._pipe)
            return
        self._printed += len(data)
        if self._printed <= self._limit:
            self._show(data)
        elif self._is_calling():
            self._on_excess(self._printed)
        else:
            self._show(data)
            self._loop.remove_reader(self._pipe)
            self._resume = self._loop.call_later(_WINDOW, self._go_on)

    def _go_on(self) -> None:
        if self._resume is not None:
            self._resume.cancel()
        self._resume = None
        self._printed = 0
        self._loop.add_reader(self._pipe, self._readable)

    def _show(self, data: bytes | None) -> None:
        if not data or not logger.isEnabledFor(logging.INFO):
            return
        second = int(self._loop.time())
        if second != self._second:
            self._tell_unshown()
            self._second, self._lines = second, 0
        lines = data.decode("utf-8", "replace").splitlines()
        room = _LINES_PER_SECOND - self._lines
        for line in lines[:room]:
            logger.info("%s: %s", self._plugin_id, line[:_LINE], extra={"plugin_id": self._plugin_id})
        self._lines += min(len(lines), room)
        self._unshown += max(len(lines) - room, 0)

    def _tell_unshown(self) -> None:
        if self._unshown:
            logger.warning("%s: %d more lines of its output left out", self._plugin_id, self._unshown)
            self._unshown = 0
