"""What happens to plugins, told to whoever listens: any number of async streams, and the audit log.

Calls that give a result are no events, so a call costs nothing more when somebody listens. What is told
may hold texts of plugins, so everything is cut to a bounded size before anybody gets it.
"""

import asyncio
import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, Self

type EventKind = Literal[
    "granted",  # a policy gave a plugin its rights; it is about to be loaded
    "loaded",  # it was loaded, and can be called
    "refused",  # it was not loaded, with the reason
    "state",  # it went from one state to another (docs/supervision.md), with the reason
    "restarted",  # a fresh process replaced one that had ended
    "retried",  # its process died in a call of an idempotent function, which is made once more
    "unhealthy",  # it failed a health check; its process is replaced
    "quarantined",  # it crashed too often and takes no calls for a while
    "circuit",  # calls are refused for a moment after failures in a row, tried again, or let through again
    "violation",  # it tried what is forbidden: killed, denied or logged, as its policy says
    "message_refused",  # it asked its host for what its policy does not grant
    "limit",  # it reached a limit and was stopped
    "threshold",  # it uses as much of something as a watch was told to report
    "timeout",  # it did not answer in time and was stopped
    "crashed",  # its process ended by itself, or was killed from outside
    "interrupted",  # a call whose caller gave up was ended, and its process goes on
    "killed",  # the host ended its process because a caller gave up a call
    "disabled",  # it made too many violations and takes no calls any more
    "unloaded",  # it was unloaded
    "reloaded",  # a new version serves in the place of another
    "reload_failed",  # a new version did not get there, with the step and the reason
    "retired",  # a version that was replaced has ended, with the calls that were cut off
    "canary_started",  # a new version gets a share of the calls
    "canary_ended",  # it was promoted, or rolled back, with both error rates
    "update_available",  # its registry has something newer
    "updated",  # a newer version from its registry serves, and is installed
    "update_refused",  # a newer version asks for more than it may, so it does not come by itself
    "update_failed",  # a newer version was rolled back, or could not be had
    "controlled",  # another process had something done to what runs over the message bus, or tried to
    "watch_failed",  # the files of plugins cannot be watched
    "audit_failed",  # the audit log cannot be written
    "forgotten",  # what is loaded cannot be written down for the next start
]

_MAX_TEXT: Final = 2000
_MAX_ITEMS: Final = 64
_MAX_DEPTH: Final = 4
_QUEUE: Final = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: What.
        plugin_id: To which plugin; empty when to none.
        time: When, in seconds since 1970.
        data: What is known about it, as plain values. Texts may come from the plugin: do not trust them.
    """

    kind: EventKind
    plugin_id: str
    time: float
    data: Mapping[str, Any]


class EventStream[T = Event]:
    """What is told from now on: ``async for event in manager.events()``. It ends when the manager is closed.

    Who reads too slowly loses the oldest events, never the newest, and can see how many.

    Attributes:
        dropped: Events that were lost because nobody took them.
    """

    def __init__(self, size: int) -> None:
        self.dropped = 0
        self._size = size
        self._queue: deque[T] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, event: T) -> None:
        """Add an event; the oldest gives way when there are too many."""
        if len(self._queue) >= self._size:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(event)
        self._changed.set()

    def close(self) -> None:
        """Nothing more will come; what is there can still be read."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._queue.popleft()


class Events:
    """Where events are published, from the event loop's thread, and from where they go to every listener."""

    def __init__(self) -> None:
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._sinks: list[Callable[[Event], None]] = []
        self._closed = False

    def publish(self, kind: EventKind, plugin_id: str, /, **data: object) -> None:
        """Tell every listener; returns at once and never fails because of one."""
        if not self._sinks and not self._streams:
            return
        event = Event(kind, bounded(plugin_id), time.time(), MappingProxyType(bounded(data)))
        for sink in self._sinks:
            sink(event)
        for stream in tuple(self._streams):
            stream.put(event)

    def subscribe(self, size: int = _QUEUE) -> EventStream:
        """A stream of what is published from now on; it is forgotten when its reader forgets it.

        Args:
            size: Events that may wait for the reader.

        Raises:
            ValueError: The size is not positive.
        """
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        stream = EventStream(size)
        if self._closed:
            stream.close()
        self._streams.add(stream)
        return stream

    def add_sink(self, sink: Callable[[Event], None]) -> None:
        """Call a function for each event; it must return at once and must not raise."""
        self._sinks.append(sink)

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        self._sinks.clear()
        for stream in tuple(self._streams):
            stream.close()


def bounded(value: Any, depth: int = 0) -> Any:
    """A copy of plain values with what is too long, too many or too deep cut off, and fit for JSON."""
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < 1 << 64 else _text(hex(value))
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return _text(value[:_MAX_TEXT].hex())
        case Mapping() if depth < _MAX_DEPTH:
            items = [(_text(key), bounded(item, depth + 1)) for key, item in _first(value.items())]
            return dict(items) | ({"...": len(value) - _MAX_ITEMS} if len(value) > _MAX_ITEMS else {})
        case list() | tuple() | set() | frozenset() if depth < _MAX_DEPTH:
            cut = [f"... {len(value) - _MAX_ITEMS} more"] if len(value) > _MAX_ITEMS else []
            ordered = sorted(value, key=str) if isinstance(value, set | frozenset) else value
            return [bounded(item, depth + 1) for item in _first(ordered)] + cut
    return _text(value)


def _first(items: Any) -> list[Any]:
    return [item for item, _ in zip(items, range(_MAX_ITEMS), strict=False)]


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}... ({len(text)} characters)"
