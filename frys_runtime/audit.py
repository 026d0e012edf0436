"""The audit log: what happened, recorded one chained record after the other, written in the background.

Who records never waits for the disk: a thread writes what has come together, and syncs once for all of it.
"""

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from .audit_chain import Chain
from .audit_records import MAX_DATA
from .errors import ConfigError
from .events import Event, bounded

logger = logging.getLogger("frys.audit")

_RETRY_SECONDS: Final = 1.0


class _Entry(NamedTuple):
    when: float
    kind: str
    plugin: str
    data: Mapping[str, Any]


class AuditLog:
    """An audit log that is open for writing; one process and one object at a time.

    Records go to the disk in groups: a thread writes what has come together since the last write, followed
    by one fdatasync(2). Nothing that was recorded is lost by :meth:`close`, nor while the disk is full, up
    to ``room`` records; what is lost beyond is counted, and a ``gap`` record says so.

    Args:
        path: The file; made with mode 0600.
        max_bytes: Size at which another file is begun.
        keep: Files to keep, the current one included: ``path``, ``path.1`` (newer) to ``path.N`` (older).
        room: Records that may wait for the disk.

    Attributes:
        on_failure: Called from the writing thread with a sentence when the log can no longer be written.
        lost: Records that never reached the file.

    Raises:
        ConfigError: The file cannot be used: another process writes it, it is no audit log, it was altered.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 16 << 20,
        keep: int = 8,
        room: int = 10_000,
    ) -> None:
        for name, value, least in (("max_bytes", max_bytes, 1), ("keep", keep, 2), ("room", room, 1)):
            if type(value) is not int or value < least:
                raise ConfigError(f"AuditLog.{name}", f"must be at least {least}, not {value!r}")
        self.path = os.fspath(path)
        self.on_failure: Callable[[str], None] | None = None
        self.lost = 0
        self._room = room
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._lost_now = 0
        self._recorded, self._synced, self._tries = 0, -1, 0
        self._failure: str | None = None
        self._closing = False
        self._wanted = True
        self._chain = Chain(self.path, max_bytes, keep)
        self._chain.begin(_now())
        self._thread = threading.Thread(target=self._run, name="frys-audit", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def failure(self) -> str | None:
        """Why the log cannot be written now; ``None`` when it can."""
        return self._failure

    def record(self, event: Event) -> None:
        """Record an event; returns at once, from any thread."""
        entry = _Entry(event.time, event.kind, event.plugin_id, event.data)
        with self._changed:
            if len(self._waiting) >= self._room or self._closing:
                self._lost_now += 1
                self.lost += 1
            else:
                self._waiting.append(entry)
                self._recorded += 1
                self._changed.notify_all()

    def flush(self) -> bool:
        """Wait until what was recorded so far is on the disk, or a try to bring it there has failed.

        Returns:
            Whether it is there.
        """
        with self._changed:
            target, tries = self._recorded, self._tries
            self._wanted = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: (
                    (self._synced >= target and self._failure is None)
                    or (self._failure is not None and self._tries > tries)
                    or not self._thread.is_alive()
                )
            )
            return self._failure is None

    def close(self) -> None:
        """Bring everything to the disk and give up the file. Safe to call twice.

        What cannot be written now is counted in :attr:`lost`, and said in the program's own log.
        """
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        atexit.unregister(self.close)
        self._chain.close()
        if self.lost:
            logger.error("%s: %d records were lost (%s)", self.path, self.lost, self._failure or "too many")

    # The writing thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, _RETRY_SECONDS if self._failure else None)
                closing, self._wanted = self._closing, False
            if self._try(closing=closing) and closing:
                return
            if closing and self._failure is not None:
                with self._changed:
                    self.lost += len(self._waiting) + self._chain.unwritten_records
                    self._changed.notify_all()
                return

    def _has_work(self) -> bool:
        return self._closing or self._wanted or (bool(self._waiting) and self._failure is None)

    def _try(self, *, closing: bool) -> bool:
        """Write what waits.

        Returns:
            Whether nothing is left.
        """
        failure, synced = None, self._synced
        try:
            self._chain.write()  # what an earlier try left
            synced = self._take_all()
            self._chain.write()
            if closing and not self._waiting:
                self._chain.add(_now(), "closed", "", {})
                self._chain.write()
        except OSError as error:
            failure = f"the audit log {self.path} cannot be written: {error.strerror or error}"
        if failure is not None and self._failure is None:
            self._failure = failure
            logger.error("%s", failure)
            if self.on_failure is not None:
                self.on_failure(failure)  # before flush() returns: nobody meets the failure untold
        with self._changed:
            if failure is None:
                self._synced = synced
            self._failure, self._tries = failure, self._tries + 1
            done = failure is None and not self._waiting
            self._changed.notify_all()
        return done

    def _take_all(self) -> int:
        """Put all that waits behind the chain; returns the count of records so far."""
        while True:
            with self._changed:
                entry = self._waiting.popleft() if self._waiting else None
                lost = 0
                if entry is None:
                    lost, self._lost_now = self._lost_now, 0
                recorded = self._recorded - len(self._waiting)
            if entry is None:
                if lost or self._failure is not None:
                    self._chain.add(_now(), "gap", "", {"reason": bounded(self._failure), "lost": lost})
                return recorded
            if self._chain.is_full():
                self._rotate(entry)
            self._chain.add(entry.when, entry.kind, bounded(entry.plugin), bounded(entry.data))
            if self._chain.unwritten > MAX_DATA:
                self._chain.write()

    def _rotate(self, entry: _Entry) -> None:
        try:
            self._chain.write()
            self._chain.rotate(_now())
        except OSError:
            with self._changed:
                self._waiting.appendleft(entry)
            raise


def _now() -> float:
    return datetime.now(UTC).timestamp()
