"""A program in another language on the bus: the example in JavaScript, with ZeroMQ's binding for Node.js."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import node_modules
import pytest
from supervisors import managers, meeting_place, server, until
from support import live

from frys_runtime.bus.rendezvous import Rendezvous
from frys_runtime.bus.visitor import Visitor

EXAMPLE = Path(__file__).parents[2] / "examples" / "bus_client"

pytestmark = pytest.mark.needs_npm


@pytest.fixture
def client(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with its packages."""
    packages = json.loads((EXAMPLE / "package.json").read_text())["dependencies"]
    modules = node_modules.installed(tmp_path_factory.getbasetemp(), packages, "npm-bus")
    shutil.copy(EXAMPLE / "bus.mjs", tmp_path)
    shutil.copy(EXAMPLE / "package.json", tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    return tmp_path / "bus.mjs"


def test_it_lists_calls_publishes_and_listens(client: Path) -> None:
    """Without a line of Frys's code, by what docs/protocol.md says."""

    @live
    async def talk_with_node() -> None:
        with meeting_place() as folder:
            async with managers(folder, "a", "b") as (one, two):

                async def node(*words: str, code: int = 0) -> list[object]:
                    process = await asyncio.create_subprocess_exec(
                        *("node", client, folder / "bus", *words), stdout=asyncio.subprocess.PIPE
                    )
                    assert process.stdout is not None
                    lines = [json.loads(line) async for line in process.stdout if line != b"listening\n"]
                    assert await process.wait() == code
                    return lines

                listed = await node("list")
                assert sorted(plugin["id"] for plugin in listed) == ["a", "b"]  # type: ignore[index]
                assert "twice" in listed[0]["exports"]  # type: ignore[index]
                assert await node("call", "b", "move", '[{"x": 1, "y": 0.5}]') == [{"x": 2, "y": 0.5}]
                (failure,) = await node("call", "b", "fail", '["oh no"]', code=1)
                assert (failure["why"], failure["facts"]["function"]) == ("failed", "fail")  # type: ignore[index]
                assert await node("publish", "tick", '{"hour": 12}') == [2]
                for talk, plugin in ((one, "a"), (two, "b")):
                    assert await _seen(talk, plugin) == [["tick", {"hour": 12}]]
                listening = asyncio.create_task(node("listen", "d*", "2"))
                await until(lambda: all(_wanted(talk) for talk in (one, two)))
                await one.ask("emit", "done", "from one")
                await two.ask("emit", "done", "from the other", who="b")
                heard = await listening
                assert {"source": "a", "type": "done", "data": "from one"} in heard
                assert {"source": "b", "type": "done", "data": "from the other"} in heard
                assert all(talk.manager.bus.counts["malformed"] == 0 for talk in (one, two))

    talk_with_node()


def test_a_supervisor_that_dies_is_noticed(client: Path) -> None:
    """Who waits for its answer gets an error that may be tried again; what it left is named and left out."""

    @live
    async def kill_while_node_waits() -> None:
        with meeting_place() as folder:
            async with server(folder, "b") as other:

                def node(*words: str) -> Awaitable[asyncio.subprocess.Process]:
                    pipe = asyncio.subprocess.PIPE
                    command = ("node", client, folder / "bus", *words)
                    return asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)

                calling = await node("call", "b", "sleep", "[60]")
                async with Visitor(folder / "bus") as visitor:
                    await _until_called(visitor)
                os.kill(other.pid, signal.SIGKILL)
                told, _ = await calling.communicate()
                failure = json.loads(told)
                assert (failure["why"], failure["facts"]) == ("undelivered", {"retryable": True})
                _, words = await (await node("list")).communicate()
                assert b"the supervisor ended" in words
                assert b"no supervisor answers in" in words
                assert Rendezvous(str(folder / "bus")).others() == []

    kill_while_node_waits()


async def _until_called(visitor: Visitor) -> None:
    for _ in range(1000):
        status: Any = await visitor.ask(visitor.supervisors[0], "status")
        if status["plugins"][0]["calls"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no call came")


def _wanted(talk) -> bool:  # type: ignore[no-untyped-def]
    return any("d*" in info.events for info in talk.manager.bus.everybody)


async def _seen(talk, plugin: str) -> object:  # type: ignore[no-untyped-def]
    for _ in range(200):
        seen = await talk.manager.execute_plugin(plugin, "seen")
        if seen:
            return seen
        await asyncio.sleep(0.01)
    raise AssertionError("no event came")
