"""The object ``frys`` of JavaScript plugins, in real jails."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from frys_runtime.launchers.failures import PluginRaised
from javascript_build import call, start_fixture
from support import FIXTURES, live
from web import serve

from frys_runtime import ExecutionFailed, PluginManager, PluginMessage
from frys_runtime.trace import accepted

TALKER = FIXTURES / "javascript" / "talker"
ALL = """
extends: maximum
host_functions: [log, config, kv, price]
messages: {call: {"*": ["*"]}, publish: ["*"], subscribe: ["*"]}
"""


@asynccontextmanager
async def talkers(folder: Path, policy: str, *ids: str) -> AsyncIterator[PluginManager]:
    """Talkers under a policy."""
    file = folder / "policy.yaml"
    file.write_text(policy)
    async with PluginManager(policy=file) as manager:
        for plugin_id in ids or ("a",):
            await manager.load_plugin(TALKER, plugin_id=plugin_id)
        yield manager


@live
async def test_settings_and_store(tmp_path: Path) -> None:
    """frys.config reads what the policy and plugin.json say, also while loading; frys.kv keeps values."""
    async with talkers(tmp_path, ALL + "config: {greeting: good day}\n") as manager:
        settings = {"greeting": "good day", "limit": 3}
        assert await manager.execute_plugin("a", "settings") == ["good day", 3, None, settings]
        value = {"list": [1, None, b"bytes", 2**60, "é"]}
        assert await manager.execute_plugin("a", "store", value) == [
            value,
            None,
            ["a:1", "b:1"],
            ["a:1"],
            True,
            False,
            ["b:1"],
        ]


@live
async def test_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """frys.log writes at every level."""
    caplog.set_level(1, "frys.plugin")
    async with talkers(tmp_path, ALL) as manager:
        await manager.execute_plugin("a", "log", "of mine")
    text = caplog.text
    for level in ("trace", "debug", "info", "warning", "error"):
        assert f"{level} of mine" in text
    assert {record.levelno for record in caplog.records} >= {logging.DEBUG, logging.INFO, logging.ERROR}


@live
async def test_the_trace_of_a_call(tmp_path: Path) -> None:
    """frys.traceparent gives the host program's, or null."""
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with talkers(tmp_path, ALL) as manager:
        with accepted(header):
            assert await manager.execute_plugin("a", "traceparent") == header
        assert await manager.execute_plugin("a", "traceparent") is None


@live
async def test_functions_of_the_host_program_and_of_other_plugins(tmp_path: Path) -> None:
    """frys.host answers at once, frys.call by a promise; failures are FrysErrors with their reason."""
    async with talkers(tmp_path, ALL, "a", "b") as manager:

        @manager.host_function("price", ["string"], "float")
        async def price(article: str) -> float:
            return len(article) / 2

        assert await manager.execute_plugin("a", "host", "price", "abc") == 1.5
        refused = await manager.execute_plugin("a", "host", "price", 5)
        assert refused[:3] == [True, "FrysError", "invalid"]
        assert await manager.execute_plugin("a", "callOther", "b", "twice", 21) == 42
        failed = await manager.execute_plugin("a", "callOther", "b", "fail")
        assert failed[:2] == [True, "failed"]
        assert "on purpose" in failed[2]
        assert (await manager.execute_plugin("a", "callOther", "c", "twice", 1))[1] == "missing"


@live
async def test_events(tmp_path: Path) -> None:
    """What a plugin emits is heard, and what it subscribes to arrives in its function."""
    async with talkers(tmp_path, ALL) as manager:
        stream = manager.communicator.subscribe("done")
        assert await manager.execute_plugin("a", "emit", {"n": [1]}) == 1
        event = await anext(aiter(stream))
        assert (event.source, event.event_type, event.data) == ("a", "done", {"n": [1]})
        await manager.communicator.broadcast(PluginMessage.Event("tick", {"hour": 12}))
        for _ in range(200):
            if seen := await manager.execute_plugin("a", "ticks"):
                break
            await asyncio.sleep(0.01)
        assert seen == [{"hour": 12}]


@live
async def test_requests_over_http(tmp_path: Path) -> None:
    """frys.http brings status, headers and body; text and JSON are read from it; a refusal rejects."""
    hello = b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\nContent-Type: text/plain\r\n\r\nh\xc3\xa9llo"
    async with serve(hello) as site:
        grant = f"network: [{{hosts: [127.0.0.1], ports: [{site.port}], methods: [GET, POST], plain: true"
        async with talkers(tmp_path, ALL + grant + ", private: true}]\n") as manager:
            url = f"http://127.0.0.1:{site.port}/path"
            answer = {
                "status": 404,
                "type": "text/plain",
                "body": "héllo".encode(),
                "ok": False,
                "text": "héllo",
            }
            assert await manager.execute_plugin("a", "get", url, {}) == answer
            options = {"method": "POST", "headers": {"X-Mine": "1"}, "body": "sent é", "timeoutMs": 5000}
            assert await manager.execute_plugin("a", "get", url, options) == answer
            site.answer = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a":[1]}'
            assert await manager.execute_plugin("a", "json", url) == {"a": [1]}
            with pytest.raises(ExecutionFailed, match="FrysError: "):
                await manager.execute_plugin("a", "get", "http://127.0.0.1:1/", {})
        (head, _), (posted, body), _ = site.requests
        assert head.startswith(b"GET /path ")
        assert b"x-mine: 1" in posted.lower()
        assert body == "sent é".encode()


@live
async def test_nothing_is_granted_by_default(tmp_path: Path) -> None:
    """A refusal is an exception of the plugin's own, with a reason; uncaught, it ends the call."""
    async with talkers(tmp_path, "extends: maximum\n") as manager:
        refused = await manager.execute_plugin("a", "host", "price", 1)
        assert refused[:3] == [True, "FrysError", "permission"]
        with pytest.raises(ExecutionFailed, match="FrysError: ") as raised:
            await manager.execute_plugin("a", "uncaught")
        assert "main.mjs" in str(raised.value.detail)


@live
async def test_what_makes_no_sense_is_refused_in_the_plugin(tmp_path: Path) -> None:
    """Values that cannot travel, unknown options and wrong types say what is wrong; getters may throw."""
    async with talkers(tmp_path, ALL) as manager:
        found = await manager.execute_plugin("a", "wrong")
        assert found[0].startswith(
            "TypeError: what frys.kv.set gets[1] is of type Function, which cannot travel"
        )
        assert "contains itself" in found[1]
        assert found[2].startswith("FrysError: ")
        assert found[3].startswith("FrysError: ")
        assert found[4] == "TypeError: frys.http has no option verb"
        assert found[5] == "TypeError: frys.http: body must be a string, a Uint8Array or an ArrayBuffer"
        assert found[6] == "TypeError: frys.http: options must be an object"
        assert "from a getter" in found[7]


def test_without_a_host_every_question_is_refused() -> None:
    """Where nobody listens, the error says so."""
    plugin = start_fixture("talker", "main.mjs")
    with pytest.raises(PluginRaised, match="FrysError: the host answers only while"):
        plugin("uncaught", [])
    plugin.close()


def test_the_object_cannot_be_changed() -> None:
    """A library in the plugin cannot put itself between the plugin and its host by accident."""
    source = """
    "use strict";
    function f() {
      const caught = (work) => { try { work(); return "changed" } catch (error) { return error.name } };
      return [caught(() => { frys.http = 1 }), caught(() => { frys.kv.get = 1 }), Object.keys(frys)];
    }"""
    keys = ["log", "config", "traceparent", "kv", "http", "call", "emit", "host"]
    assert call(source) == ["TypeError", "TypeError", keys]
