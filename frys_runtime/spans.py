"""Spans of OpenTelemetry for calls of plugins, by its conventions for RPC and messaging.

Their parent is the host program's current span, else the trace that came with
:func:`frys_runtime.trace.accepted`; a call that a plugin makes is a child of the call that it serves. A span
never has contents of a message.
"""

from typing import TYPE_CHECKING

from . import trace
from .errors import InitializationFailed
from .trace import TraceContext

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind
    from opentelemetry.util.types import AttributeValue


class Open:
    """A span that is current until it ends."""

    __slots__ = ("_current", "_here", "_span", "_spans")

    def __init__(self, spans: "Spans", span: "Span", parent: "Context") -> None:
        self._spans, self._span = spans, span
        self._current = spans.context.attach(spans.otel.set_span_in_context(span, parent))
        made = span.get_span_context()
        here = TraceContext(
            f"{made.trace_id:032x}",
            f"{made.span_id:016x}",
            int(made.trace_flags),
            made.trace_state.to_header(),
        )
        self._here = trace.current.set(here if made.is_valid else trace.current.get())

    def end(self, error: str) -> None:
        """End it.

        Args:
            error: Empty, or how the message failed, in one word.
        """
        try:
            if error:
                self._span.set_attribute("error.type", error)
                self._span.set_status(self._spans.otel.StatusCode.ERROR)
            self._span.end()
        finally:  # a processor of the host program's may fail; what it does next is no part of this
            trace.current.reset(self._here)
            self._spans.context.detach(self._current)


class Spans:
    """Makes a span for each call and each event that a plugin handles.

    Attributes:
        context: The module ``opentelemetry.context``.
        otel: The module ``opentelemetry.trace``.

    Raises:
        InitializationFailed: The package opentelemetry-api is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import context, trace as otel
        except ImportError:
            raise InitializationFailed(
                "tracing", 'it needs the package opentelemetry-api: `pip install "frys-runtime[otel]"`'
            ) from None
        self.context, self.otel = context, otel
        self._tracer = otel.get_tracer("frys_runtime")

    def call(self, sender: str, receiver: str, function: str) -> Open:
        """Begin the span of a call."""
        # A name that a caller made up would be one of its own in every backend; the convention has this word.
        method = f"{receiver}/{function}" if function else "_OTHER"
        attributes: dict[str, AttributeValue] = {"rpc.system.name": "frys", "rpc.method": method}
        return self._begin(method, self.otel.SpanKind.CLIENT, attributes, sender)

    def event(self, sender: str, receiver: str, event_type: str) -> Open:
        """Begin the span of an event's way to one plugin that handles it."""
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "frys",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": event_type,
            "frys.receiver": receiver,
        }
        return self._begin(f"process {event_type}", self.otel.SpanKind.CONSUMER, attributes, sender)

    def _begin(
        self, name: str, kind: "SpanKind", attributes: "dict[str, AttributeValue]", sender: str
    ) -> Open:
        if sender:
            attributes["frys.sender"] = sender
        parent = self._parent()
        return Open(self, self._tracer.start_span(name, parent, kind, attributes), parent)

    def _parent(self) -> "Context":
        context = self.context.get_current()
        carried = trace.current.get()
        if carried is None or self.otel.get_current_span(context).get_span_context().is_valid:
            return context
        remote = self.otel.SpanContext(
            int(carried.trace_id, 16),
            int(carried.span_id, 16),
            is_remote=True,
            trace_flags=self.otel.TraceFlags(carried.flags),
            trace_state=self.otel.TraceState.from_header([carried.tracestate]),
        )
        return self.otel.set_span_in_context(self.otel.NonRecordingSpan(remote), context)
