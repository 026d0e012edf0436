"""Events on their way to a plugin: they wait in a queue with an end, and come one at a time."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Final, NamedTuple

from .endpoints import Target, Version
from .errors import PluginError
from .messages import PluginMessage
from .metadata import Overflow
from .trace import TraceContext, current
from .traffic import Traffic

MAX_QUEUE: Final = 1000
"""Events that wait for one plugin."""


@dataclass(slots=True)
class DeliveryCounts:
    """What became of events, over a manager's life."""

    published: int = 0
    delivered: int = 0
    dropped: int = 0
    failed: int = 0


class _Queued(NamedTuple):
    """An event that waits for a plugin, since when, and the trace in which it was published."""

    event: PluginMessage.Event
    since: float
    trace: TraceContext | None


class Subscriber:
    """The events that wait for one plugin, and the task that brings them, one at a time.

    Args:
        target: The plugin.
        counts: Where it is counted what became of them.
        traffic: Where they are shown.

    Attributes:
        connected: It gets events; not any more when it was too slow and its plugin.json says ``disconnect``.
    """

    def __init__(self, target: Target, counts: DeliveryCounts, traffic: Traffic) -> None:
        self.connected = True
        self._target, self._counts, self._traffic = target, counts, traffic
        self._version: Version = target.match()
        self._handlers: Mapping[str, str] = {}
        self._waiting: deque[_Queued] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return len(self._waiting)

    def serve(self, version: Version, handlers: Mapping[str, str]) -> None:
        """From now on it is this version that takes events; those that wait are for it, too."""
        self.connected = True
        self._version, self._handlers = version, handlers

    @property
    def wanted(self) -> list[str]:
        """The types of events that it gets."""
        return list(self._handlers) if self.connected else []

    def wants(self, event_type: str) -> bool:
        """Whether it gets events of a type."""
        return self.connected and event_type in self._handlers

    def put(self, event: PluginMessage.Event) -> bool:
        """Queue an event; whether it was taken."""
        if len(self._waiting) >= MAX_QUEUE:
            match self._version.metadata.events.overflow:
                case Overflow.DROP_NEWEST:
                    self._drop(event)
                    return False
                case Overflow.DISCONNECT:
                    self._drop(event)
                    while self._waiting:
                        self._drop(self._waiting.popleft().event)
                    self.connected = False
                    return False
            self._drop(self._waiting.popleft().event)
        self._waiting.append(_Queued(event, time.perf_counter(), current.get()))
        if self._task is None or self._task.done():
            # Whoever published does not wait for this, so nothing of its context holds here.
            self._task = asyncio.get_running_loop().create_task(self._bring(), context=Context())
        return True

    def _drop(self, event: PluginMessage.Event) -> None:
        self._counts.dropped += 1
        self._traffic.dropped((event.source, self._target.plugin_id, event.event_type), event.data)

    async def _bring(self) -> None:
        while self._waiting:
            event, since, trace = self._waiting.popleft()
            channel = event.source, self._target.plugin_id, event.event_type
            current.set(trace)
            try:
                version = await self._target.reach()
                handler = _listens(version, event.event_type)
                if not handler:
                    self._drop(event)  # this version wants no such events any more
                    continue
                args = (event.event_type, event.data) if handler == "on_event" else (event.data,)
                with self._traffic.passage("event", channel, (event.data,), began=since):
                    await version.call(handler, args)
            except (PluginError, TypeError, ValueError):
                self._counts.failed += 1  # the plugin's own events tell the rest

    def close(self) -> None:
        """Bring no more."""
        self.connected = False
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()


def _listens(version: Version, event_type: str) -> str:
    """The function of a version that handles an event; empty when it gets none such."""
    wants = event_type in version.metadata.events.subscribes and version.messages.may_subscribe(event_type)
    return handler_of(event_type, version.functions) if wants else ""


def handler_of(event_type: str, functions: Mapping[str, str]) -> str:
    """The function of a plugin that handles an event: ``on_NAME``, or ``on_event``; empty for none."""
    own = "on_" + "".join(letter if letter.isalnum() else "_" for letter in event_type)
    return next((name for name in (own, "on_event") if name in functions), "")
