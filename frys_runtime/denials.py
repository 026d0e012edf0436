"""Which plugin it was that Landlock refused something, heard from the kernel while plugins run.

The plugin is not stopped and does not wait for any of this. Where the kernel tells nobody, or not this user,
nothing is heard (linux/landlock_log.py says why, and `frys doctor` shows it).
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .linux import landlock_log
from .linux.landlock_log import Denial, Domain

if TYPE_CHECKING:
    import socket

_AT_ONCE: Final = 64
_PAUSE: Final = 0.05
"""Seconds after ``_AT_ONCE`` records: a flood costs the host some of its time, and the rest of it is lost."""
_MOST_KNOWN: Final = 10_000
"""Domains that are remembered: the word that one has ended may be among what a flood loses."""
_MOST_UNKNOWN: Final = 256

type Told = Callable[[str], None]


class Denials:
    """Hears of denials and hands each to the plugin that it is about.

    Args:
        who: Finds by process number whom to tell; ``None`` for processes that are no plugins.
    """

    def __init__(self, who: Callable[[int], Told | None]) -> None:
        self._who = who
        self._loop = asyncio.get_running_loop()
        self._known: dict[int, Told] = {}
        self._unknown: dict[int, str] = {}  # what a domain was refused before it is told whose it is
        self._log: socket.socket | None = None
        if not landlock_log.silence()[0]:
            self._log = landlock_log.open_log()
            self._loop.add_reader(self._log, self._readable)

    def _readable(self) -> None:
        assert self._log is not None
        for _ in range(_AT_ONCE):
            try:
                record = landlock_log.receive(self._log)
            except BlockingIOError:
                return
            except OSError:
                continue  # a flood: the kernel dropped some
            if record is not None:
                self._hear(record)
        self._loop.remove_reader(self._log)
        self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._log is not None:
            self._loop.add_reader(self._log, self._readable)

    def _hear(self, record: Denial | Domain) -> None:
        match record:
            case Denial(domain, what) if domain in self._known:
                self._known[domain](what)
            case Denial(domain, what):
                _remember(self._unknown, domain, what, _MOST_UNKNOWN)
            case Domain(domain, None):
                self._known.pop(domain, None)
            case Domain(domain, int(pid)) if told := self._who(pid):
                _remember(self._known, domain, told, _MOST_KNOWN)
                if what := self._unknown.pop(domain, ""):
                    told(what)

    def close(self) -> None:
        """Hear no more."""
        if self._log is not None:
            self._loop.remove_reader(self._log)
            self._log.close()
            self._log = None


def _remember[T](table: dict[int, T], domain: int, value: T, most: int) -> None:
    """The oldest gives way."""
    table[domain] = value
    if len(table) > most:
        del table[next(iter(table))]
