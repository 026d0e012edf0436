"""Versions side by side over several supervisors, and supervisors that are stuck."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from supervisors import managers, meeting_place, until
from support import live
from talk import ALL, TALKER
from versioned import write

from frys_runtime import (
    Crashed,
    MessageValue,
    PluginManager,
    PluginMessage,
    PluginNotFound,
    ReloadFailed,
    Timeout,
    Unavailable,
)
from frys_runtime.bus import remote
from frys_runtime.bus.frames import Control
from frys_runtime.bus.visitor import Visitor

OFFERS = {"exports": {"answer": {"params": [], "returns": "list<string>"}}}

DIES = """
import os

def answer():
    os._exit(3)
"""
STUCK = """
import asyncio, sys, time
from frys_runtime import PluginManager

def block():
    print("stuck", flush=True)
    time.sleep(600)

async def main(policy, bus, plugin):
    async with PluginManager(policy=policy, bus=bus, spares=0) as manager:
        await manager.load_plugin(plugin, plugin_id="b")
        print("ready", flush=True)
        asyncio.get_running_loop().add_reader(sys.stdin, block)
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


def _knows(manager: PluginManager, *addresses: str) -> bool:
    assert manager.bus is not None
    return {*addresses} <= {address for other in manager.bus.others for address in other.plugins}


def _holders(manager: PluginManager) -> int:
    assert manager.bus is not None
    return sum("sample" in other.plugins for other in manager.bus.others)


@live
async def test_the_version_that_fits_is_found_wherever_it_is() -> None:
    """The highest in the range, of all supervisors; the own one only if it fits; also after a reload."""
    with meeting_place() as folder:
        paths = {
            version: write(folder / version, version, **OFFERS) for version in ("1.0.0", "1.5.0", "2.0.0")
        }
        async with managers(folder, "a", "", "") as (talk, other, third):
            await other.manager.load_plugin(paths["1.0.0"], plugin_id="sample@1")
            await other.manager.load_plugin(paths["2.0.0"], plugin_id="sample@2")
            await third.manager.load_plugin(paths["1.5.0"])
            await until(
                lambda: _knows(talk.manager, "sample@1.0.0", "sample") and _holders(talk.manager) == 2
            )

            async def answers(address: str) -> tuple[MessageValue, MessageValue]:
                host = await talk.manager.execute_plugin(address, "answer")
                plugin = await talk.ask("call", address, "answer", [])
                assert isinstance(host, list)
                assert isinstance(plugin, list)
                return host[0], plugin[0]

            for address, version in (("^1", "1.5.0"), ("<1.5", "1.0.0"), ("2", "2.0.0"), ("*", "2.0.0")):
                assert await answers(f"sample@{address}") == (version, version), address
            with pytest.raises(PluginNotFound):
                await talk.manager.execute_plugin("sample@3", "answer")
            refusal = await talk.ask("call", "sample@3", "answer", [])
            assert refusal == ["missing", "no plugin 'sample@3' is loaded"]
            message = PluginMessage.FunctionCall("answer", [])
            answer = await talk.manager.communicator.send_message("sample@<1.5", message)
            assert answer == PluginMessage.FunctionResponse(["1.0.0"] * 8)
            await talk.manager.communicator.send_message("sample@<1.5", PluginMessage.Heartbeat(0))

            await talk.manager.load_plugin(paths["2.0.0"])
            assert await answers("sample") == ("2.0.0", "2.0.0")
            assert talk.manager.plugin("sample").resource_usage().calls == 2
            assert await answers("sample@^1") == ("1.5.0", "1.5.0")

            newer = write(folder / "newer", "1.6.0", **OFFERS)
            await other.manager.reload_plugin("sample@1", newer)
            await until(lambda: _knows(talk.manager, "sample@1.6.0"))
            assert await answers("sample@^1") == ("1.6.0", "1.6.0")
            await other.manager.unload_plugin("sample@1")
            await until(lambda: not _knows(talk.manager, "sample@1.6.0"))
            assert await answers("sample@^1") == ("1.5.0", "1.5.0")

            # Which calls a version on trial gets is decided where it is.
            await third.manager.canary("sample", newer, weight=0.5)
            got = [version for _ in range(2) for version in await answers("sample@^1")]
            assert sorted(map(str, got)) == ["1.5.0", "1.5.0", "1.6.0", "1.6.0"]


@live
async def test_another_version_of_who_waits_is_no_circle() -> None:
    """1 of a waits for b, which calls 2 of a on the first supervisor; calling 1 of it is a circle."""
    with meeting_place() as folder:
        shutil.copytree(TALKER, folder / "second")
        about = json.loads((TALKER / "plugin.json").read_text()) | {"version": "2.0.0"}
        (folder / "second" / "plugin.json").write_text(json.dumps(about))
        async with managers(folder, "", "b") as (talk, other):
            await talk.manager.load_plugin(TALKER, plugin_id="a@1")
            await talk.manager.load_plugin(folder / "second", plugin_id="a@2")
            await until(lambda: _knows(other.manager, "a", "a@1.2.0"))
            assert await talk.ask("call", "b", "relay", [["a@2"]], who="a@1") == "end"
            assert await talk.ask("call", "b", "relay", [["a"]], who="a@1") == "end"
            refusal = await talk.ask("call", "b", "relay", [["a@1"]], who="a@1")
            assert "would wait for itself" in str(refusal)


@live
async def test_errors_of_a_plugin_elsewhere_keep_their_class() -> None:
    """Crashed, Unavailable with when to try again, and ReloadFailed with its step."""
    policy = ALL + "plugins: {b: {supervision: {max_failures: 1, failure_pause: 1min}}}"
    with meeting_place(policy) as folder:
        dies = write(folder / "dies", "1.0.0", DIES)
        async with managers(folder, "a", "") as (talk, other):
            await other.manager.load_plugin(dies, plugin_id="b")
            await until(lambda: _knows(talk.manager, "b"))
            with pytest.raises(Crashed) as crashed:
                await talk.manager.execute_plugin("b", "answer")
            assert (crashed.value.plugin_id, crashed.value.retryable) == ("b", False)
            with pytest.raises(Unavailable) as unavailable:
                await talk.manager.execute_plugin("b", "answer")
            assert unavailable.value.retryable
            assert unavailable.value.retry_after_ms is not None
            (folder / "dies" / "main.py").write_text("def answer(:\n")
            async with Visitor(folder / "bus") as visitor:
                (peer,) = visitor.running("b")
                with pytest.raises(ReloadFailed) as failed:
                    await visitor.control(peer, "reload", "b", {})
                assert failed.value.step == "start"
                for operation, options, reason in (
                    ("format_disk", {}, "missing"),
                    ("reload", {"sudo": True}, "invalid"),
                    ("reload", {"force": "yes"}, "invalid"),
                    ("canary", {}, "invalid"),
                ):
                    refused = await _refusal(visitor, operation, dict(options))
                    assert refused == reason, operation


async def _refusal(visitor: Visitor, operation: str, options: dict[str, MessageValue]) -> str:
    """Why an operation is refused, in one word."""
    assert visitor._node is not None
    (peer,) = visitor.running("b")
    try:
        await visitor._node.request(peer, "b", lambda number: Control(number, operation, "b", options))
    except Exception as error:  # noqa: BLE001 - looked at below
        return str(getattr(error, "reason", error))
    return ""


@live
async def test_a_call_of_a_supervisor_that_is_stuck_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection lives, and its event loop does not turn: what its plugin may take at most is over."""
    monkeypatch.setattr(remote, "STUCK_SECONDS", 0.2)
    short = ALL.replace("execution_time: 10s", "execution_time: 200ms, state_time: 100ms")
    with meeting_place(short) as folder:
        command = [sys.executable, "-c", STUCK, folder / "policy.yaml", folder / "bus", TALKER]
        # It only begins here; nothing of it is waited for in the event loop.
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
                async with managers(folder, "a") as (talk,):
                    assert await talk.manager.execute_plugin("b", "twice", 1) == 2
                    process.stdin.write(b"\n")
                    process.stdin.flush()
                    assert await asyncio.to_thread(process.stdout.readline) == b"stuck\n"
                    with pytest.raises(Timeout) as late:
                        await talk.manager.execute_plugin("b", "twice", 1)
                    assert (late.value.timeout_ms, late.value.retryable) == (500, False)
                    with pytest.raises(Timeout):
                        await talk.manager.communicator.send_message("b", PluginMessage.Heartbeat(0))
            finally:
                process.kill()
        await asyncio.to_thread(_sweep, folder / "bus")


def _sweep(bus: Path) -> None:
    """Remove what the killed one left, as the next supervisor would."""
    for path in bus.iterdir():
        path.unlink()
