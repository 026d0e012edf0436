"""Every message counted, and shown to whoever listens: from whom to whom, how large, how long, how it ended.

A :class:`Passage` is one message on its way. The communicator opens it, and the sandbox of the receiver adds
the bytes. What listeners see has shapes, never contents, and is made only when somebody listens.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Final, Literal, Self
from weakref import ref

import msgspec

from . import trace
from .channels import Channel, Channels, ChannelStats
from .errors import PluginError
from .events import EventStream
from .interfaces import Function, Type, check
from .messages import MessageValue, Refused
from .shapes import printable, shape
from .spans import Open, Spans

_MAX_NAME: Final = 128
_MAX_ARGUMENTS: Final = 16
_ANY: Final = Type("any", "any")

type Kind = Literal["call", "host", "event"]
type Reply = Callable[[MessageValue], None]
"""Sends a value to the plugin that asked for it."""


@dataclass(frozen=True, slots=True)
class TrafficRecord:
    """One message, as a listener sees it.

    Attributes:
        time: When it ended, in seconds since 1970.
        kind: ``call`` of a plugin's function, ``host`` for one of the host program's, or ``event``.
        sender: A plugin; empty for the host program.
        receiver: A plugin; empty for the host program. Of a refused message, what the sender wrote.
        name: The function, or the type of event; of a refused message, what the sender wrote.
        arguments: The shape of each argument, or of the event's data.
        result: The shape of what came back; empty when nothing did.
        bytes_out: Bytes that went to the receiver.
        bytes_in: Bytes that came back.
        seconds: How long it took, waiting included.
        error: Empty, or how it failed: an error's class, a refusal's reason, ``dropped``, ``cancelled``.
        trace_id: The trace that it belongs to: 32 hexadecimal digits, or empty.
    """

    time: float
    kind: Kind
    sender: str
    receiver: str
    name: str
    arguments: tuple[str, ...]
    result: str
    bytes_out: int
    bytes_in: int
    seconds: float
    error: str
    trace_id: str


def error_kind(error: BaseException) -> str:
    """One word for how something failed, out of a small set, whatever a plugin says."""
    match error:
        case Refused():
            return error.reason
        case PluginError() | TypeError() | ValueError():
            return type(error).__name__
        case asyncio.CancelledError():
            return "cancelled"
    return "failed"


class Passage:
    """One message on its way: a context manager around its delivery.

    Attributes:
        value: What came back, set by who delivers it.
        has_arrived: Whether something came back, and is of the declared type.
        reply: Sends that to the plugin that waits for it, which goes on while the books are closed here.
        bytes_out: Bytes that went to the receiver.
        bytes_in: Bytes that came back.
    """

    value: MessageValue = None
    bytes_out = bytes_in = 0
    has_arrived = False
    _put_back: "Open | Token[trace.TraceContext | None] | None" = None
    _token: "Token[Passage | None]"

    def __init__(
        self,
        traffic: "Traffic",
        kind: Kind,
        channel: Channel,
        args: Sequence[MessageValue],
        declared: Function | None,
        reply: Reply | None,
        began: float,
    ) -> None:
        self._traffic, self._kind, self._channel = traffic, kind, channel
        self._args, self._declared, self._began = args, declared, began
        self.reply = reply

    def __enter__(self) -> Self:
        traffic = self._traffic
        if traffic.spans is not None or traffic.listeners:
            self._put_back = self._begin_trace(traffic.spans)
        self._token = under_way.set(self)
        return self

    def arrive(self, value: MessageValue) -> None:
        """The receiver has given a value, which whoever waits for a reply is told at once.

        Raises:
            TypeError: It is not of the declared type.
        """
        if self._declared is not None:
            check(self._declared.returns, value, f"the result of {self._channel[1]}.{self._channel[2]}")
        self.value, self.has_arrived = value, True
        if self.reply is not None:
            self.reply(value)

    def _begin_trace(self, spans: Spans | None) -> "Open | Token[trace.TraceContext | None] | None":
        if spans is not None and self._kind == "call":
            return spans.call(*self._channel)
        if spans is not None and self._kind == "event" and self._channel[1]:
            return spans.event(*self._channel)
        return trace.current.set(trace.root()) if trace.current.get() is None else None

    def __exit__(
        self, _class: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        under_way.reset(self._token)
        seconds, counts = perf_counter() - self._began, self._traffic.counts(self._kind, self._channel)
        counts.add(seconds, self.bytes_out, self.bytes_in)
        kind = ""
        if error is not None:
            kind = error_kind(error)
            counts.errors_by_kind[kind] = counts.errors_by_kind.get(kind, 0) + 1
        if self._traffic.listeners:
            self._tell(kind, seconds)
        if self._put_back is not None:
            self._end_trace(self._put_back, kind)
        self._args, self.value = (), None  # a task that was begun meanwhile keeps its context, and so this

    def _end_trace(self, put_back: "Open | Token[trace.TraceContext | None]", error: str) -> None:
        if isinstance(put_back, Open):
            put_back.end(error)
        else:
            trace.current.reset(put_back)

    def _tell(self, error: str, seconds: float) -> None:
        declared = self._declared
        result = "" if error else shape(self.value, declared.returns if declared is not None else _ANY)
        sizes = self.bytes_out, self.bytes_in
        self._traffic.tell(self._kind, self._channel, self._args, declared, error, result, sizes, seconds)


under_way: Final[ContextVar[Passage | None]] = ContextVar("frys_passage", default=None)
"""The message that is being delivered now."""


class Traffic:
    """All messages of one manager.

    Args:
        is_loaded: Whether a plugin is.
        spans: Who makes spans, if anybody does.

    Attributes:
        spans: As above.
        calls: Counts of calls, of plugins and of the host program's functions.
        events: Counts of events.
        listeners: Who listens; each goes when its reader forgets it.
    """

    def __init__(self, is_loaded: Callable[[str], bool], spans: Spans | None = None) -> None:
        self.spans = spans
        self.calls = Channels(is_loaded)
        self.events = Channels(is_loaded)
        self.listeners: set[ref[EventStream[TrafficRecord]]] = set()

    @property
    def is_watched(self) -> bool:
        """Whether somebody follows each message."""
        return bool(self.listeners) or self.spans is not None

    def listen(self, size: int) -> EventStream[TrafficRecord]:
        """What passes from now on; forgotten when its reader forgets it."""
        stream: EventStream[TrafficRecord] = EventStream(size)
        self.listeners.add(ref(stream, self.listeners.discard))
        return stream

    def counts(self, kind: Kind, channel: Channel) -> ChannelStats:
        """Where a channel is counted."""
        return (self.events if kind == "event" else self.calls).at(channel)

    def passage(
        self,
        kind: Kind,
        channel: Channel,
        args: Sequence[MessageValue],
        declared: Function | None = None,
        *,
        reply: Reply | None = None,
        began: float | None = None,
    ) -> Passage:
        """A message that is about to be delivered.

        Args:
            kind: What it is.
            channel: Who sends what to whom.
            args: What travels.
            declared: Its types.
            reply: Sends what comes back to the plugin that waits for it.
            began: When it was sent, by ``time.perf_counter``; now by default.
        """
        if len(channel[2]) > _MAX_NAME:
            channel = channel[0], channel[1], channel[2][:_MAX_NAME]
        began = perf_counter() if began is None else began
        return Passage(self, kind, channel, args, declared, reply, began)

    def refused(
        self, kind: Kind, channel: Channel, known: bool, args: Sequence[MessageValue], reason: str
    ) -> None:
        """A message was turned away.

        Args:
            kind: What it is.
            channel: Who wanted to send what to whom, in the words of a plugin.
            known: Whether there is such a receiver and name; what is made up is not counted by channel.
            args: What was to travel.
            reason: Why.
        """
        if known:
            self.counts(kind, channel).refused += 1
        if self.listeners:
            self.tell(kind, channel, args, None, reason)

    def dropped(self, channel: Channel, data: MessageValue) -> None:
        """An event was lost because its receiver is too slow."""
        self.counts("event", channel).dropped += 1
        if self.listeners:
            self.tell("event", channel, (data,), None, "dropped")

    def tell(
        self,
        kind: Kind,
        channel: Channel,
        args: Sequence[MessageValue],
        declared: Function | None,
        error: str,
        result: str = "",
        sizes: tuple[int, int] = (0, 0),
        seconds: float = 0.0,
    ) -> None:
        """Show a message to all who listen."""
        types = declared.params if declared is not None else ()
        shown = args[:_MAX_ARGUMENTS]
        shapes = [shape(value, types[at] if at < len(types) else _ANY) for at, value in enumerate(shown)]
        if len(args) > len(shown):
            shapes.append("...")
        context = trace.current.get()
        record = TrafficRecord(
            time.time(),
            kind,
            channel[0],
            printable(channel[1]),
            printable(channel[2]),
            tuple(shapes),
            result,
            *sizes,
            seconds,
            error,
            context.trace_id if context is not None else "",
        )
        for listener in tuple(self.listeners):
            if (stream := listener()) is not None:
                stream.put(record)

    def close(self) -> None:
        """End every stream."""
        for listener in tuple(self.listeners):
            if (stream := listener()) is not None:
                stream.close()


def size(value: object) -> int:
    """Bytes of a value as MessagePack, for what does not go through a lane."""
    return len(value) if type(value) is bytes else len(_encoder.encode(value))


_encoder: Final = msgspec.msgpack.Encoder()
