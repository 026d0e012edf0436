"""A manager scraped by Prometheus's own client, over HTTP."""

import asyncio
import importlib
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from support import live
from talk import ALL, talkers

from frys_runtime import ExecutionFailed, InitializationFailed, PluginMessage
from frys_runtime.metrics import ManagerCollector


def _samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@live
async def test_a_scrape_shows_the_manager_its_messages_and_its_plugins(tmp_path: Path) -> None:
    """Scraped from another thread over HTTP, while the event loop serves calls."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        registry = CollectorRegistry()
        registry.register(ManagerCollector(talk.manager))
        server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
        try:
            await talk.ask("call", "b", "twice", [21])
            await talk.ask("call", "b", "twice", ["x"])
            with pytest.raises(ExecutionFailed):
                await talk.manager.execute_plugin("b", "fail", "no")
            await talk.manager.communicator.broadcast(PluginMessage.Event("nothing", None))
            url = f"http://127.0.0.1:{server.server_port}/metrics"
            text = await asyncio.to_thread(lambda: urlopen(url).read().decode())
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        samples = _samples(text)

        def value(metric: str, **labels: str) -> float:
            return samples[metric, frozenset(labels.items())]

        channel = {"kind": "call", "sender": "a", "receiver": "b", "name": "twice"}
        assert value("frys_plugins") == 2
        assert value("frys_calls_total") == 4
        assert value("frys_call_failures_total") == 1
        assert value("frys_events_published_total") == 1
        assert value("frys_message_seconds_count", **channel) == 1
        assert value("frys_message_seconds_bucket", **channel, le="+Inf") == 1
        assert value("frys_message_seconds_bucket", **channel, le="4e-06") == 0
        assert 0 < value("frys_message_seconds_sum", **channel) < 10
        assert value("frys_messages_refused_total", **channel) == 1
        assert value("frys_message_bytes_total", **channel, direction="out") > 10
        failed = {"kind": "call", "sender": "", "receiver": "b", "name": "fail", "error": "ExecutionFailed"}
        assert value("frys_message_errors_total", **failed) == 1
        assert value("frys_plugin_memory_bytes", plugin="a") > 100_000
        assert value("frys_plugin_calls_total", plugin="b") == 2


@live
async def test_a_closed_manager_keeps_its_counts(tmp_path: Path) -> None:
    """A scrape that comes late, or in the event loop itself, is no error."""
    registry = CollectorRegistry()
    async with talkers(tmp_path, ALL, "a") as talk:
        registry.register(ManagerCollector(talk.manager))
        await talk.manager.execute_plugin("a", "twice", 1)
        assert b'frys_plugin_restarts_total{plugin="a"} 0.0' in generate_latest(registry)
    assert b"frys_calls_total 1.0" in generate_latest(registry)
    assert b"frys_plugins 0.0" in generate_latest(registry)


def test_without_the_package_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At import, where the host program asks for it."""
    monkeypatch.setitem(sys.modules, "prometheus_client.core", None)
    monkeypatch.delitem(sys.modules, "frys_runtime.metrics")
    with pytest.raises(InitializationFailed, match=r'pip install "frys-runtime\[metrics\]"'):
        importlib.import_module("frys_runtime.metrics")
