"""The trace that a call belongs to: W3C Trace Context, carried from the host program through its plugins.

    with trace.accepted(request.headers.get("traceparent"), request.headers.get("tracestate")):
        await manager.execute_plugin("shop", "total", order)

Hosts hand it on, from call to call; a plugin cannot set it. https://www.w3.org/TR/trace-context/
"""

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

# Section 3.2: later versions may add fields behind these, and "ff" is none.
_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?",
    re.DOTALL,
)
_MAX_TRACEPARENT: Final = 512
_MEMBER: Final = re.compile(
    r"(?P<key>[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS: Final = 32
_MAX_TRACESTATE: Final = 8192
"""Characters of a tracestate that are looked at; a longer one is dropped."""
_CARRIED: Final = 512
"""Characters of it that are handed on: what section 3.3.1.5 asks for."""
_KNOWN_FLAGS: Final = 0x03
"""Sampled, and (level 2) that the trace id is random; the others have no meaning yet."""

_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits, not all 0.
        span_id: 16 hexadecimal digits, not all 0: the caller's span.
        flags: 1 for sampled, 2 for a random trace id.
        tracestate: What other tracing systems carry along; empty or a valid header of at most 512 characters.
    """

    trace_id: str
    span_id: str
    flags: int = 0
    tracestate: str = ""

    @property
    def traceparent(self) -> str:
        """The header of that name."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def child(self) -> "TraceContext":
        """A new span of the same trace."""
        return TraceContext(self.trace_id, _identifier(64), self.flags, self.tracestate)


def parse(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """Read the two headers; ``None`` when the first is none. A wrong tracestate is dropped."""
    if len(traceparent) > _MAX_TRACEPARENT:
        return None
    match = _TRACEPARENT.fullmatch(traceparent.strip(" \t"))
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["rest"]):
        return None
    trace_id, span_id = match["trace"], match["span"]
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, int(match["flags"], 16) & _KNOWN_FLAGS, _state(tracestate))


def carried() -> dict[str, str]:
    """Where what runs now belongs, to go along with a message; empty outside of every trace."""
    place = current.get()
    return {} if place is None else {"traceparent": place.traceparent, "tracestate": place.tracestate}


def arrived(context: Mapping[str, str]) -> TraceContext | None:
    """Where a message belongs, by what came along with it."""
    return parse(context.get("traceparent", ""), context.get("tracestate", ""))


def root() -> TraceContext:
    """The beginning of a trace of its own."""
    return TraceContext(_identifier(128), _identifier(64), 0x02)


@contextmanager
def accepted(traceparent: str | None, tracestate: str | None = None) -> Iterator[TraceContext]:
    """What is called in here belongs to this trace; to one of its own when the header is missing or wrong.

    Headers come from strangers, so nothing in them is an error: the standard has such a trace begin anew.
    """
    context = (parse(traceparent, tracestate or "") if traceparent else None) or root()
    token = current.set(context)
    try:
        yield context
    finally:
        current.reset(token)


current: Final[ContextVar[TraceContext | None]] = ContextVar("frys_trace", default=None)
"""Where what runs now belongs; ``None`` outside of every trace."""


def _identifier(bits: int) -> str:
    return f"{_random.randrange(1, 1 << bits):0{bits // 4}x}"


def _state(text: str) -> str:
    """A valid tracestate, cut as section 3.3.1.5 says: first what is long, then what stands last."""
    if not text or len(text) > _MAX_TRACESTATE:
        return ""
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    matches = [_MEMBER.fullmatch(member) for member in members]
    keys = {match["key"] for match in matches if match is not None}
    if len(keys) != len(members) or len(members) > _MAX_MEMBERS:
        return ""
    if len(",".join(members)) > _CARRIED:
        members = [member for member in members if len(member) <= 128]
    while len(",".join(members)) > _CARRIED:
        members.pop()
    return ",".join(members)
