"""Spans of OpenTelemetry for calls of plugins, by its conventions for RPC and messaging.

Their parent is the host program's current span, else the trace that came with
:func:`frys_runtime.trace.accepted`; a call that a plugin makes is a child of the call that it serves. A span
never has contents of a message.
"""

from contextvars import Token
from typing import TYPE_CHECKING, NamedTuple

from . import trace
from .errors import InitializationFailed
from .trace import TraceContext

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind
    from opentelemetry.util.types import AttributeValue


class Open(NamedTuple):
    """A span that is current, and what to put back when it ends."""

    span: "Span"
    otel: "Token[Context]"
    trace: Token[TraceContext | None]


class Spans:
    """Makes a span for each call and each event that a plugin handles.

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
        self._context, self._otel = context, otel
        self._tracer = otel.get_tracer("frys_runtime")

    def call(self, sender: str, receiver: str, function: str) -> Open:
        """Begin the span of a call."""
        # A name that a caller made up would be one of its own in every backend; the convention has this word.
        method = f"{receiver}/{function}" if function else "_OTHER"
        attributes: dict[str, AttributeValue] = {"rpc.system.name": "frys", "rpc.method": method}
        return self._begin(method, self._otel.SpanKind.CLIENT, attributes, sender)

    def event(self, sender: str, receiver: str, event_type: str) -> Open:
        """Begin the span of an event's way to one plugin that handles it."""
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "frys",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": event_type,
            "frys.receiver": receiver,
        }
        return self._begin(f"process {event_type}", self._otel.SpanKind.CONSUMER, attributes, sender)

    def _begin(
        self, name: str, kind: "SpanKind", attributes: "dict[str, AttributeValue]", sender: str
    ) -> Open:
        if sender:
            attributes["frys.sender"] = sender
        parent = self._parent()
        span = self._tracer.start_span(name, parent, kind, attributes)
        current = span.get_span_context()
        here = TraceContext(
            f"{current.trace_id:032x}",
            f"{current.span_id:016x}",
            int(current.trace_flags),
            current.trace_state.to_header(),
        )
        return Open(
            span,
            self._context.attach(self._otel.set_span_in_context(span, parent)),
            trace.current.set(here if current.is_valid else trace.current.get()),
        )

    def _parent(self) -> "Context":
        context = self._context.get_current()
        carried = trace.current.get()
        if carried is None or self._otel.get_current_span(context).get_span_context().is_valid:
            return context
        remote = self._otel.SpanContext(
            int(carried.trace_id, 16),
            int(carried.span_id, 16),
            is_remote=True,
            trace_flags=self._otel.TraceFlags(carried.flags),
            trace_state=self._otel.TraceState.from_header([carried.tracestate]),
        )
        return self._otel.set_span_in_context(self._otel.NonRecordingSpan(remote), context)

    def end(self, opened: Open, error: str) -> None:
        """End a span.

        Args:
            opened: It.
            error: Empty, or how the message failed, in one word.
        """
        if error:
            opened.span.set_attribute("error.type", error)
            opened.span.set_status(self._otel.StatusCode.ERROR)
        opened.span.end()
        trace.current.reset(opened.trace)
        self._context.detach(opened.otel)
