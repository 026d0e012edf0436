"""W3C Trace Context: what is read from headers of strangers, and what is handed on."""

import pytest
from hypothesis import given, strategies as st

from frys_runtime import trace
from frys_runtime.trace import TraceContext, accepted, parse

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "header",
    [GOOD, f"  {GOOD}\t", f"cc-{TRACE}-{SPAN}-01", f"01-{TRACE}-{SPAN}-01-what-the-future-brings"],
)
def test_a_traceparent_is_read(header: str) -> None:
    """Of this version, and of later ones as far as this one goes; handed on as version 00."""
    context = parse(header)
    assert context == TraceContext(TRACE, SPAN, 1)
    assert context.traceparent == GOOD


@pytest.mark.parametrize(
    "header",
    [
        *(
            "",
            "00",
            GOOD.upper(),
            GOOD + "-more",
            GOOD + "\n",
            f"ff-{TRACE}-{SPAN}-01",
            f"0-{TRACE}-{SPAN}-01",
        ),
        *(
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE}-{SPAN}-1",
            f"00-{TRACE}-{SPAN}",
        ),
        *(f"00-{TRACE[:-1]}g-{SPAN}-01", f"01-{TRACE}-{SPAN}-01.x", f"01-{TRACE}-{SPAN}-01-" + "x" * 1000),
    ],
)
def test_what_is_no_traceparent_is_none(header: str) -> None:
    """And whoever comes with it gets a trace of its own, as the standard says."""
    assert parse(header, "a=b") is None
    with accepted(header, "a=b") as context:
        assert trace.current.get() == context
        assert context.trace_id != TRACE
        assert parse(context.traceparent) == context
        assert context.tracestate == ""
    assert trace.current.get() is None


@pytest.mark.parametrize(
    ("state", "carried"),
    [
        ("congo=t61rcWkgMzE", "congo=t61rcWkgMzE"),
        ("rojo=1, congo=2 ,\t,x@y=3", "rojo=1,congo=2,x@y=3"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a", ""),
        ("a=b=c", ""),
        ("a=", ""),
        ("a=\x07", ""),
        (",".join(f"k{n}=v" for n in range(33)), ""),
        (",".join(f"k{n}=v" for n in range(32)), ",".join(f"k{n}=v" for n in range(32))),
        ("long=" + "x" * 200 + ",long2=" + "y" * 250 + ",short=1,b=" + "z" * 100, "short=1,b=" + "z" * 100),
        ("x" * 9000, ""),
    ],
)
def test_a_tracestate_is_valid_or_dropped_and_cut_from_what_is_long(state: str, carried: str) -> None:
    """At most 32 members, no key twice, 512 characters handed on."""
    context = parse(GOOD, state)
    assert context is not None
    assert context.tracestate == carried


@given(st.text(max_size=80), st.text(max_size=600))
def test_any_headers_end_in_a_valid_context(parent: str, state: str) -> None:
    """Whatever strangers send, what is handed on can be read by everybody."""
    with accepted(parent, state) as context:
        assert parse(context.traceparent, context.tracestate) == context
        assert len(context.tracestate) <= 512
        child = context.child()
        assert (child.trace_id, child.flags) == (context.trace_id, context.flags)
        assert child.span_id != context.span_id
