"""Traces through plugins, and the spans that a host program's OpenTelemetry SDK gets to see."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import live
from talk import ALL, talkers

from frys_runtime import ExecutionFailed, InitializationFailed, PluginManager, PluginMessage, trace

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """What a host program exports; its provider is one for the whole process."""
    if not isinstance(otel.get_tracer_provider(), TracerProvider):
        otel.set_tracer_provider(TracerProvider())
    provider = otel.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    memory = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    yield memory
    memory.shutdown()


def _spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_line_of_calls_is_a_line_of_spans(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    """Host to plugin to plugin, below the span of the host program, by the conventions for RPC."""

    @live
    async def run() -> None:
        async with talkers(tmp_path, ALL, "a", "b", tracing=True) as talk:
            with otel.get_tracer("host").start_as_current_span("request"):
                assert await talk.manager.execute_plugin("a", "relay", ["b"]) == "end"
                with pytest.raises(ExecutionFailed):
                    await talk.manager.execute_plugin("a", "fail", "secret")
                with pytest.raises(ExecutionFailed):
                    await talk.manager.execute_plugin("a", "made up")
            assert not otel.get_current_span().get_span_context().is_valid
            assert trace.current.get() is None

    run()
    spans = _spans(exporter)
    outer, inner, request = spans["a/relay"], spans["b/relay"], spans["request"]
    assert request.context is not None
    assert outer.parent is not None
    assert inner.parent is not None
    assert outer.context is not None
    assert (outer.parent.span_id, inner.parent.span_id) == (request.context.span_id, outer.context.span_id)
    assert inner.attributes == {"rpc.system.name": "frys", "rpc.method": "b/relay", "frys.sender": "a"}
    assert inner.kind is otel.SpanKind.CLIENT
    failed = spans["a/fail"]
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ExecutionFailed"
    assert failed.status.status_code is otel.StatusCode.ERROR
    assert "secret" not in failed.to_json()
    assert spans["_OTHER"].attributes == {
        "rpc.system.name": "frys",
        "rpc.method": "_OTHER",
        "error.type": "ExecutionFailed",
    }


class _Broken(SpanProcessor):
    """What a host program may have added; it works until it is told not to."""

    is_broken = True

    def on_end(self, span: ReadableSpan) -> None:
        """Fail."""
        if self.is_broken and span.name.endswith("/twice"):
            raise RuntimeError("on purpose")


def test_a_span_that_cannot_be_ended_is_over(
    tmp_path: Path, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """What the host program does next is no part of it; a plugin that asked has its answer, and serves on."""
    broken = _Broken()
    provider = otel.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(broken)

    @live
    async def run() -> None:
        async with talkers(tmp_path, ALL, "a", "b", tracing=True) as talk:
            for _ in range(3):
                with pytest.raises(RuntimeError, match="on purpose"):
                    await talk.manager.execute_plugin("a", "twice", 1)
                assert not otel.get_current_span().get_span_context().is_valid
                assert trace.current.get() is None
                assert await talk.ask("call", "b", "twice", [1]) == 2
            assert talk.manager.communicator._waits.told() == []
            assert talk.manager.stats().restarts == 0

    try:
        run()
    finally:
        broken.is_broken = False
    assert "on purpose" in caplog.text


def test_headers_and_events_carry_the_trace(tmp_path: Path, exporter: InMemorySpanExporter) -> None:
    """Without a span of the host's own, and on to who handles an event of a plugin."""

    @live
    async def run() -> None:
        async with talkers(tmp_path, ALL, "a", "b", tracing=True) as talk:
            stream = talk.manager.communicator.traffic()
            with trace.accepted(PARENT, "congo=1"):
                await talk.ask("emit", "done", "yes")
            records = [await anext(stream) for _ in range(2)]
            assert {record.trace_id for record in records} == {PARENT.split("-")[1]}
            await talk.manager.communicator.broadcast(PluginMessage.Event("tick"))
            assert (await anext(stream)).trace_id != PARENT.split("-")[1]

    run()
    spans = _spans(exporter)
    asked, handled = spans["a/ask"], spans["process done"]
    assert asked.parent is not None
    assert asked.context is not None
    assert handled.parent is not None
    assert f"{asked.parent.span_id:016x}" == PARENT.split("-")[2]
    assert asked.context.trace_state.to_header() == "congo=1"
    assert handled.parent.span_id == asked.context.span_id
    assert handled.kind is otel.SpanKind.CONSUMER


@live
async def test_a_plugins_lines_in_the_log_have_the_trace(tmp_path: Path) -> None:
    """Without OpenTelemetry the host program's trace goes through unchanged; a plugin cannot set it."""
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    logger = logging.getLogger("frys.plugin")
    logger.addHandler(handler)
    try:
        async with talkers(tmp_path, ALL, "a", "b") as talk:
            with trace.accepted(PARENT):
                await talk.ask("log", "warning", "trace_id=forged")
                assert await talk.ask("trace") == PARENT
                assert await talk.ask("call", "b", "where", []) == PARENT
            await talk.ask("log", "warning", "none")
            assert await talk.ask("trace") is None
    finally:
        logger.removeHandler(handler)
    assert [vars(record)["trace_id"] for record in seen] == [PARENT.split("-")[1], ""]


def test_without_the_package_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """When tracing is asked for, and only then."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    PluginManager()
    with pytest.raises(InitializationFailed, match=r'pip install "frys-runtime\[otel\]"'):
        PluginManager(tracing=True)
