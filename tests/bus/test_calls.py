"""Calls between the plugins of several supervisors, each of them real."""

import asyncio
import os
import signal
from collections.abc import Awaitable
from pathlib import Path

import psutil
import pytest
from supervisors import knows, managers, meeting_place, no_threads, server, until
from support import live
from talk import ALL, NOTHING, TALKER

from frys_runtime import (
    CommunicationError,
    ExecutionFailed,
    MessageValue,
    PluginManager,
    PluginMessage,
    PluginNotFound,
    Refused,
    Timeout,
    trace,
)
from frys_runtime.bus.frames import Call
from frys_runtime.bus.node import Peer
from frys_runtime.bus.sockets import Credentials
from frys_runtime.ranges import Range
from frys_runtime.refusals import MAX_DEPTH

SLOW_CALLER = """
import frys, time

def wait_and_call(seconds, target):
    time.sleep(seconds)
    try:
        return frys.call(target, "wait_and_call", 0.0, "")
    except frys.Refused as refusal:
        return [refusal.reason, refusal.message]

def call_and_wait(target, seconds):
    return frys.call(target, "nap", seconds)

def nap(seconds):
    time.sleep(seconds)
    return "awake"
"""
MISSING = "no plugin '' is loaded"
MANIFEST = """{"id": "slow", "version": "1.0.0", "format": "python", "entry": "slow.py",
    "exports": {"wait_and_call": {"params": ["float", "string"], "returns": "any"},
                "nap": {"params": ["float"], "returns": "string"}}}"""


@live
async def test_plugins_reach_each_other_across_processes_both_ways() -> None:
    """By id, found without configuration; results are as if they were here; then nothing is left."""
    with meeting_place() as folder:
        async with server(folder, "b") as other, managers(folder, "a") as (talk,):
            await knows(talk.manager, "b")
            assert talk.manager.bus is not None
            (info,) = talk.manager.bus.others
            assert (info.name, info.pid, info.plugins) == (other.name, other.pid, ("b",))
            assert await talk.ask("call", "b", "twice", [21]) == 42
            point = {"x": 1, "y": 2.5}
            assert await talk.ask("call", "b", "move", [point, "red"]) == {"x": 2, "y": 2.5}
            refusal = ["failed", "b.fail failed: RuntimeError: oh no"]
            assert await talk.ask("call", "b", "fail", ["oh no"]) == refusal
            # The other way, from a plugin of the other process: b calls a.
            assert await talk.manager.execute_plugin("b", "ask", "call", ["a", "twice", [4]]) == 8
            message = PluginMessage.FunctionCall("twice", [4])
            answer = await talk.manager.communicator.send_message("b", message)
            assert answer == PluginMessage.FunctionResponse(8)
            beat = await talk.manager.communicator.send_message("b", PluginMessage.Heartbeat(0))
            assert isinstance(beat, PluginMessage.Heartbeat)
            # What the other supervisor could not read is not sent: it would never be answered.
            with pytest.raises(TypeError, match="function must be a str, not int"):
                await talk.manager.execute_plugin("b", 5)  # type: ignore[arg-type]
            for wrong in (-1, 0, 1.5, True, 1 << 64):
                with pytest.raises(ValueError, match="timeout_ms must be"):
                    await talk.manager.communicator.send_message("b", message, timeout_ms=wrong)  # type: ignore[arg-type]
            big = os.urandom(3 << 20)
            assert await talk.manager.execute_plugin("b", "ask", "kv.get", [big.hex()[:1024]]) is None
    await no_threads()


@live
async def test_errors_of_a_plugin_elsewhere_are_those_of_one_here() -> None:
    """Of the same class with the same data, for the host program."""
    with meeting_place() as folder:
        async with managers(folder, "a", "b") as (talk, _):
            manager = talk.manager
            with pytest.raises(ExecutionFailed) as failed:
                await manager.execute_plugin("b", "fail", "oh no")
            assert (failed.value.plugin_id, failed.value.function) == ("b", "fail")
            assert "RuntimeError: oh no" in failed.value.reason
            assert "Traceback" in failed.value.detail
            with pytest.raises(ExecutionFailed, match="nothing"):
                await manager.execute_plugin("b", "nothing")
            with pytest.raises(TypeError, match=r"b\.twice"):
                await manager.execute_plugin("b", "twice")
            with pytest.raises(TypeError, match=r"args\[0\] is of type object"):
                await manager.execute_plugin("b", "twice", object())  # type: ignore[arg-type]
            with pytest.raises(PluginNotFound):
                await manager.execute_plugin("z", "twice", 1)
            with pytest.raises(CommunicationError, match="it runs at another supervisor"):
                await manager.communicator.send_message("b", PluginMessage.Event("tick", 1))


@live
async def test_what_is_not_granted_or_of_another_type_never_leaves() -> None:
    """Refused where the caller is; the other supervisor hears nothing of it."""
    policy = ALL + "plugins: {a: {messages: {call: {b: [twice, lie]}}}}"
    with meeting_place(policy) as folder:
        async with managers(folder, "a", "b") as (talk, other):
            assert (await talk.ask("call", "b", "move", [{"x": 0, "y": 0}]))[0] == "permission"  # type: ignore[index]
            assert await talk.ask("call", "b", "twice", ["1"]) == [
                *("invalid", "b.twice: args[0] must be int, not string")
            ]
            assert (await talk.ask("call", "b", "ask", ["log", []]))[0] == "permission"  # type: ignore[index]
            assert other.manager.communicator.stats().channels == {}
            assert await talk.ask("call", "b", "lie", []) == [
                *("invalid", "the result of b.lie must be int, not string")
            ]
            assert talk.manager.communicator.stats().refused == {"a": 2}


@live
async def test_the_other_supervisor_looks_again() -> None:
    """Whoever believes in a function that is not offered any more is refused by the plugin's own."""
    with meeting_place(ALL) as folder:
        async with managers(folder, "a", "b") as (talk, other):
            bus, communicator = other.manager.bus, other.manager.communicator
            assert talk.manager.bus is not None
            assert bus is not None
            assert talk.manager.bus.find("b", Range.parse("^1.2"), as_host=False) is not None
            assert talk.manager.bus.find("b", Range.parse("^2"), as_host=False) is None

            async def call(line: list[str], function: str, value: MessageValue) -> None:
                request = Call(1, "b", function, [value], 0, line[-1].replace("@1.2.0", ""), line)
                await bus.serve(Peer("x", "supervisor", 0), request, Credentials())

            with pytest.raises(Refused, match="does not offer 'ask'"):
                await call(["a/x"], "ask", "log")
            with pytest.raises(Refused, match="plugins wait for one another already"):
                await call([f"p{number}/x" for number in range(MAX_DEPTH + 1)], "twice", 1)
            with pytest.raises(Refused, match="it would wait for itself"):
                await call([f"b@1.2.0/{bus.name}", "a@1.2.0/x"], "twice", 1)
            with pytest.raises(Refused, match=r"args\[0\] must be int"):
                await call(["a/x"], "twice", "1")
            assert communicator.stats().channels == {}


@live
async def test_a_trace_goes_on_elsewhere() -> None:
    """Both supervisors see the call, with its sizes, as one of the same trace; the other names who calls."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    with meeting_place() as folder:
        async with managers(folder, "a", "b") as (talk, other):
            here, there = (each.manager.communicator.traffic() for each in (talk, other))
            with trace.accepted(f"00-{trace_id}-00f067aa0ba902b7-01"):
                assert await talk.ask("call", "b", "twice", [21]) == 42
            seen, received = await anext(here), await anext(there)
            assert (seen.sender, seen.receiver, seen.name, seen.result) == ("a", "b", "twice", "int")
            assert talk.manager.bus is not None
            assert received.sender == f"a/{talk.manager.bus.name}"
            assert (seen.trace_id, received.trace_id) == (trace_id, trace_id)
            assert min(seen.bytes_out, seen.bytes_in, received.bytes_out, received.bytes_in) > 0


@live
async def test_a_supervisor_that_is_killed_is_noticed_by_those_who_wait_for_it() -> None:
    """At once, by an error that says that it may be tried again; the next one of that id is found."""
    with meeting_place() as folder:
        async with managers(folder, "a") as (talk,):
            async with server(folder, "b") as other:
                await knows(talk.manager, "b")
                by_host = asyncio.create_task(talk.manager.execute_plugin("b", "sleep", 60.0))
                by_plugin = asyncio.create_task(talk.ask("call", "b", "sleep", [60.0]))
                await until(lambda: talk.manager.plugin("a").resource_usage().calls == 1)
                await asyncio.sleep(0.1)
                os.kill(other.pid, signal.SIGKILL)
                with pytest.raises(CommunicationError, match="its supervisor ended") as error:
                    await by_host
                assert error.value.retryable
                assert (await by_plugin)[0] == "unavailable"  # type: ignore[index]
                assert (await talk.ask("call", "b", "twice", [1]))[0] == "missing"  # type: ignore[index]
            async with server(folder, "b"):
                await knows(talk.manager, "b")
                assert await talk.ask("call", "b", "twice", [1]) == 2


@live
async def test_who_gives_up_or_dies_ends_what_it_started_elsewhere() -> None:
    """A deadline, a task that is cancelled, a supervisor that is killed: b's process ends each time."""
    with meeting_place() as folder:
        async with managers(folder, "a", "b") as (talk, other):

            async def ended(pid: int | None) -> None:
                assert pid is not None
                await until(lambda: not psutil.pid_exists(pid))
                assert await other.manager.execute_plugin("b", "twice", 1) == 2

            pid = other.manager.plugin("b").pid
            with pytest.raises(Timeout):
                await talk.manager.execute_plugin("a", "unguarded", "b", "sleep", [60.0], timeout_ms=300)
            await ended(pid)
            pid = other.manager.plugin("b").pid
            with pytest.raises(Timeout, match="within 300 ms"):
                await talk.manager.execute_plugin("b", "sleep", 60.0, timeout_ms=300)
            await ended(pid)
            pid = other.manager.plugin("b").pid
            waiting = asyncio.create_task(talk.manager.execute_plugin("b", "sleep", 60.0))
            await until(lambda: other.manager.plugin("b").resource_usage().calls == 5)
            waiting.cancel()
            await ended(pid)
            pid = other.manager.plugin("b").pid
            async with server(folder, "c") as third:
                await knows(talk.manager, "c")
                call = talk.manager.execute_plugin("c", "ask", "call", ["b", "sleep", [60.0]])
                waiting = asyncio.create_task(call)
                await until(lambda: other.manager.plugin("b").resource_usage().calls == 7)
                os.kill(third.pid, signal.SIGKILL)
                await ended(pid)
                with pytest.raises(CommunicationError):
                    await waiting


@live
async def test_a_circle_over_several_supervisors_is_refused() -> None:
    """One line of calls over two and three of them, back to where it began."""
    with meeting_place() as folder:
        async with managers(folder, "a", "b", "c") as (talk, *_):
            for line in (["b", "a"], ["b", "c", "a"], ["b", "c", "b"]):
                refusal = await talk.ask("call", line[0], "relay", [line[1:]])
                assert "would wait for itself" in str(refusal), line
            assert await talk.ask("call", "b", "relay", [["c"]]) == "end"


@live
async def test_a_plugin_with_a_free_instance_is_no_circle() -> None:
    """One of its instances waits for b, and b is answered by the other; were that busy too, it is refused."""
    with meeting_place(ALL + "plugins: {a: {supervision: {instances: 2}}}") as folder:
        async with managers(folder, "a", "b") as (talk, _):
            assert await talk.ask("call", "b", "relay", [["a"]]) == "end"
            assert "would wait for itself" in str(await talk.ask("call", "b", "relay", [["a", "b"]]))
            assert await talk.ask("call", "b", "twice", [1]) == 2


@live
async def test_those_who_come_to_wait_for_each_other_by_different_calls_are_told(tmp_path: Path) -> None:
    """Two and three plugins that are all busy when they call each other in a ring: no hang, a clear error."""
    (tmp_path / "plugin.json").write_text(MANIFEST)
    (tmp_path / "slow.py").write_text(SLOW_CALLER)
    with meeting_place() as folder:
        async with managers(folder, "", "", "") as talks:
            ids = ["x", "y", "z"]
            for talk, plugin_id in zip(talks, ids, strict=True):
                await talk.manager.load_plugin(tmp_path, plugin_id=plugin_id)
            for talk in talks:
                await knows(talk.manager, *ids)
            for size in (2, 3):
                ring = [
                    talks[at].manager.execute_plugin(ids[at], "wait_and_call", 0.3, ids[(at + 1) % size])
                    for at in range(size)
                ]
                answers = await asyncio.gather(*ring)
                reasons = [answer[0] for answer in answers if isinstance(answer, list)]
                assert "cycle" in reasons, answers
                assert {*reasons} <= {"cycle", "missing"}, answers


@live
async def test_those_with_several_instances_who_wait_for_each_other_are_told(tmp_path: Path) -> None:
    """All instances of x here and y in another process are busy when they call each other: one circle ends.

    While one instance is free there is none; and who waits long for somebody who works is left alone.
    """
    (tmp_path / "plugin.json").write_text(MANIFEST)
    (tmp_path / "slow.py").write_text(SLOW_CALLER)
    policy = ALL + "supervision: {instances: 2}\n"
    with meeting_place(policy) as folder:
        async with server(folder, f"y={tmp_path}"), managers(folder, "") as (talk,):
            await talk.manager.load_plugin(tmp_path, plugin_id="x")
            await knows(talk.manager, "y")
            await until(lambda: _sees(talk.manager, "y", "x"))

            def ring(each: int) -> list[Awaitable[MessageValue]]:
                execute = talk.manager.execute_plugin
                return [
                    execute(who, "wait_and_call", 1.0, other)
                    for who, other in (("x", "y"), ("y", "x"))
                    for _ in range(each)
                ]

            assert await asyncio.gather(*ring(1)) == [["missing", MISSING]] * 2
            answers = await asyncio.gather(*ring(2))
            told = [answer for answer in answers if answer != ["missing", MISSING]]
            assert told, answers
            for answer in told:
                assert isinstance(answer, list)
                reason, message = answer
                assert reason == "cycle", answers
                assert "it would wait for itself: " in str(message)
                assert {name.partition("@")[0] for name in str(message).split(": ")[1].split(" > ")} == {
                    "x",
                    "y",
                }
            # Longer than anybody looks, both ways, with nobody free: they work, and are waited for.
            lasting = [
                talk.manager.execute_plugin(who, "call_and_wait", other, 3.0)
                for who, other in (("x", "y"), ("y", "x"))
            ]
            assert await asyncio.gather(*lasting) == ["awake", "awake"]


@live
async def test_a_ring_of_three_with_several_instances_is_told(tmp_path: Path) -> None:
    """Over three supervisors, each of which sees one wait of the circle; then all of them serve again."""
    (tmp_path / "plugin.json").write_text(MANIFEST)
    (tmp_path / "slow.py").write_text(SLOW_CALLER)
    with meeting_place(ALL + "supervision: {instances: 2}\n") as folder:
        async with managers(folder, "", "", "") as talks:
            ids = ["x", "y", "z"]
            for talk, plugin_id in zip(talks, ids, strict=True):
                await talk.manager.load_plugin(tmp_path, plugin_id=plugin_id)
            for talk in talks:
                await knows(talk.manager, *ids)
            ring = [
                talks[at].manager.execute_plugin(ids[at], "wait_and_call", 1.0, ids[(at + 1) % 3])
                for at in (0, 0, 1, 1, 2, 2)
            ]
            told = [answer for answer in await asyncio.gather(*ring) if answer != ["missing", MISSING]]
            assert told
            for answer in told:
                assert isinstance(answer, list)
                assert answer[0] == "cycle", told
            for talk, plugin_id in zip(talks, ids, strict=True):
                assert await talk.manager.execute_plugin(plugin_id, "nap", 0.0) == "awake"


def _sees(manager: PluginManager, who: str, other: str) -> bool:
    """Whether the supervisor of one plugin can know of another's."""
    assert manager.bus is not None
    return any(who in info.plugins for info in manager.bus.others) and other in {
        info.id for info in manager.list_plugins()
    }


@live
async def test_of_several_copies_the_own_one_is_called_and_else_they_take_turns() -> None:
    """Workers that all have the plugin each call their own; who has none spreads its calls."""
    with meeting_place() as folder:
        async with managers(folder, "b", "b", "a") as (one, two, talk):
            assert await one.manager.execute_plugin("b", "twice", 1) == 2
            assert one.manager.plugin("b").resource_usage().calls == 1
            for _ in range(6):
                assert await talk.ask("call", "b", "twice", [1]) == 2
            counts = [peer.manager.plugin("b").resource_usage().calls for peer in (one, two)]
            assert counts == [4, 3]
            busy = [asyncio.create_task(talk.manager.execute_plugin("b", "sleep", 0.5)) for _ in range(2)]
            await asyncio.gather(*busy)
            counts = [peer.manager.plugin("b").resource_usage().calls for peer in (one, two)]
            assert counts == [5, 4]
            await two.manager.unload_plugin("b")
            await until(lambda: talk.manager.bus is not None and _holders(talk.manager, "b") == 1)
            for _ in range(3):
                assert await talk.ask("call", "b", "twice", [1]) == 2


def _holders(manager: PluginManager, plugin_id: str) -> int:
    assert manager.bus is not None
    return sum(plugin_id in other.plugins for other in manager.bus.others)


@live
async def test_a_plugin_without_grants_reaches_nobody_elsewhere() -> None:
    """Default none, as within one supervisor."""
    with meeting_place(NOTHING) as folder:
        async with managers(folder, "a", "b") as (talk, _):
            refusal = await talk.manager.execute_plugin("a", "ask", "call", ["b", "twice", [1]])
            assert refusal[0] == "permission"  # type: ignore[index]
            refusal = await talk.manager.execute_plugin("a", "ask", "emit", ["done", "x"])
            assert refusal[0] == "permission"  # type: ignore[index]
            assert await talk.manager.load_plugin(TALKER, plugin_id="c") == "c"
