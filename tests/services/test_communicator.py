"""Calls between plugins in real jails, and messages of their host program."""

import asyncio
from pathlib import Path

import psutil
import pytest
from support import live
from talk import ALL, talkers

from frys_runtime import CommunicationError, PluginMessage, PluginNotFound, Timeout
from frys_runtime.refusals import MAX_DEPTH


@live
async def test_a_plugin_calls_another(tmp_path: Path) -> None:
    """Arguments and results travel as they do from the host program, and the call is counted."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        assert await talk.ask("call", "b", "twice", [21]) == 42
        assert await talk.ask("call", "b", "move", [{"x": 1, "y": 2.5}]) == {"x": 2, "y": 2.5}
        assert await talk.ask("call", "b", "move", [{"x": 1, "y": 2.5}, "red"]) == {"x": 2, "y": 2.5}
        channels = talk.manager.communicator.stats().channels
        assert channels["a", "b", "twice"].calls == 1
        assert (channels["a", "b", "move"].calls, channels["a", "b", "move"].errors) == (2, 0)


@live
async def test_many_calls_during_one(tmp_path: Path) -> None:
    """Each of them begins a line of its own."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        numbers = list(range(2 * MAX_DEPTH))
        doubled = await talk.manager.execute_plugin("a", "twice_each", "b", numbers)
        assert doubled == [2 * number for number in numbers]


@live
async def test_what_does_not_fit_is_refused_at_the_border(tmp_path: Path) -> None:
    """Before the other plugin is told anything, with the path and what was expected."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        for args, message in (
            (["x"], "b.twice: args[0] must be int, not string"),
            ([], "b.twice takes 1 arguments, not 0"),
            ([1, 2], "b.twice takes 1 arguments, not 2"),
        ):
            assert await talk.ask("call", "b", "twice", args) == ["invalid", message]
        assert (await talk.ask("call", "b", "move", [{"x": 1}]))[
            1
        ] == "b.move: args[0] lacks the field 'y' of Point"  # type: ignore[index]
        assert (await talk.ask("call", "b", "ask", ["log", []]))[0] == "missing"  # type: ignore[index]
        assert (await talk.ask("call", "c", "twice", [1]))[0] == "missing"  # type: ignore[index]
        assert talk.manager.plugin("b").resource_usage().calls == 0
        refusal = await talk.ask("call", "b", "lie", [])
        assert refusal == ["invalid", "the result of b.lie must be int, not string"]


@live
async def test_failures_of_the_other_plugin(tmp_path: Path) -> None:
    """The caller gets the message, no traceback, and goes on."""
    async with talkers(tmp_path, ALL + "plugins: {b: {limits: {execution_time: 300ms}}}", "a", "b") as talk:
        refusal = await talk.ask("call", "b", "fail", ["oh no"])
        assert refusal == ["failed", "b.fail failed: RuntimeError: oh no"]
        assert await talk.ask("call", "b", "sleep", [60.0]) == ["timeout", "b.sleep did not answer in time"]
        assert await talk.ask("call", "b", "twice", [1]) == 2
        await talk.manager.unload_plugin("b")
        assert (await talk.ask("call", "b", "twice", [1]))[0] == "missing"  # type: ignore[index]
        assert talk.manager.plugin("a").resource_usage().restarts == 0


@live
async def test_a_line_of_calls_has_an_end(tmp_path: Path) -> None:
    """As many plugins as are allowed may wait for one another; one more is refused, not hung."""
    ids = [f"p{number}" for number in range(MAX_DEPTH + 2)]
    async with talkers(tmp_path, ALL, *ids) as talk:
        line = ids[1 : MAX_DEPTH + 1]
        assert await talk.ask("call", line[0], "relay", [line[1:]], who=ids[0]) == "end"
        line = ids[1:]
        refusal = await talk.ask("call", line[0], "relay", [line[1:]], who=ids[0])
        assert f"{MAX_DEPTH} plugins wait for one another already" in str(refusal)


@live
async def test_a_circle_is_refused_at_once(tmp_path: Path) -> None:
    """To itself, over another, over two others."""
    async with talkers(tmp_path, ALL, "a", "b", "c") as talk:
        for line in (["a"], ["b", "a"], ["b", "c", "a"], ["b", "c", "b"]):
            refusal = await talk.ask("call", line[0], "relay", [line[1:]])
            assert "would wait for itself" in str(refusal), line
        assert await talk.ask("call", "b", "twice", [1]) == 2


@live
async def test_two_that_call_each_other_do_not_hang(tmp_path: Path) -> None:
    """Each called by the host program at the same time: one gets its answer, or both are told."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        for _ in range(20):
            both = await asyncio.gather(
                talk.ask("call", "b", "twice", [1]), talk.ask("call", "a", "twice", [1], who="b")
            )
            assert all(answer == 2 or answer[0] == "cycle" for answer in both), both  # type: ignore[index]


@live
async def test_a_host_function_cannot_call_who_waits_for_it(tmp_path: Path) -> None:
    """It would never end; another plugin it may call, and its refusals are the caller's."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:

        @talk.manager.host_function("slow")
        async def slow(target: str) -> object:
            try:
                return await talk.manager.execute_plugin(target, "twice", 1)
            except CommunicationError as error:
                return str(error)

        assert await talk.ask("host", "slow", ["b"]) == 2
        assert "it waits for the very function" in str(await talk.ask("host", "slow", ["a"]))


@live
async def test_who_ends_ends_what_it_waits_for(tmp_path: Path) -> None:
    """A caller that is stopped cancels the call that it made; both serve again."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        pid = talk.manager.plugin("b").pid
        assert pid is not None
        with pytest.raises(Timeout):
            await talk.manager.execute_plugin("a", "unguarded", "b", "sleep", [60.0], timeout_ms=300)
        for _ in range(100):
            if not psutil.pid_exists(pid):
                break
            await asyncio.sleep(0.02)
        assert not psutil.pid_exists(pid)
        assert await talk.ask("call", "b", "twice", [1]) == 2


@live
@pytest.mark.parametrize("questions", [1, 2, 5])
async def test_who_is_given_up_ends_what_it_waits_for(tmp_path: Path, questions: int) -> None:
    """Also where one question was found while the host still looked for it after the one before."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        pid = talk.manager.plugin("b").pid
        assert pid is not None
        for _ in range(20):  # until looking has paid
            await talk.manager.execute_plugin("a", "asks_then", 20, "b", "twice", [1])
        args = [questions, "b", "sleep", [60.0]]
        call = asyncio.create_task(talk.manager.execute_plugin("a", "asks_then", *args))
        await asyncio.sleep(0.2)
        call.cancel()
        await asyncio.wait((call,))
        for _ in range(100):
            if not psutil.pid_exists(pid):
                break
            await asyncio.sleep(0.02)
        assert not psutil.pid_exists(pid)
        assert await talk.ask("call", "b", "twice", [1]) == 2


@live
async def test_unloading_the_target_of_a_call_ends_the_call(tmp_path: Path) -> None:
    """The caller is told and lives."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        waiting = asyncio.create_task(talk.ask("call", "b", "sleep", [60.0]))
        await asyncio.sleep(0.2)
        await talk.manager.unload_plugin("b")
        assert (await waiting)[0] == "unavailable"  # type: ignore[index]


@live
async def test_messages_of_the_host_program(tmp_path: Path) -> None:
    """A call is answered, an event is queued, what goes nowhere is an error."""
    async with talkers(tmp_path, ALL) as talk:
        communicator = talk.manager.communicator
        answer = await communicator.send_message("a", PluginMessage.FunctionCall("twice", [4]))
        assert answer == PluginMessage.FunctionResponse(8)
        await communicator.send_message("a", PluginMessage.Event("tick", 7))
        assert await talk.seen("a", 1) == [["tick", 7]]
        with pytest.raises(CommunicationError, match="does not take events 'other'"):
            await communicator.send_message("a", PluginMessage.Event("other", 7))
        with pytest.raises(PluginNotFound):
            await communicator.send_message("z", PluginMessage.FunctionCall("twice", [4]))
        for timeout in (0, -1, 1.5, True, "x"):
            with pytest.raises(ValueError, match="timeout_ms must be a positive whole number"):
                await communicator.send_message(
                    "a",
                    PluginMessage.FunctionCall("twice", [4]),
                    timeout_ms=timeout,  # type: ignore[arg-type]
                )
        with pytest.raises(TypeError, match="must be a FunctionCall"):
            await communicator.send_message("a", "hello")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="data is of type object"):
            await communicator.broadcast(PluginMessage.Event("tick", object()))  # type: ignore[arg-type]


def test_a_message_that_is_none_is_not_made() -> None:
    """Nobody could read it, here or at another supervisor."""
    with pytest.raises(TypeError, match="function must be a str, not int"):
        PluginMessage.FunctionCall(5, [])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="args must be a list, not str"):
        PluginMessage.FunctionCall("twice", "ab")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="event_type must be a str, not NoneType"):
        PluginMessage.Event(None)  # type: ignore[arg-type]


@live
async def test_changes_of_state_are_messages(tmp_path: Path) -> None:
    """Each once, to each who listens, however often somebody began to; other news is none."""
    async with talkers(tmp_path, ALL) as talk:
        communicator = talk.manager.communicator
        communicator.status_updates()  # which nobody keeps
        first, second = communicator.status_updates(), communicator.status_updates()
        assert await talk.ask("kv.get", "key") is None
        await talk.manager.plugin("a").suspend()
        await talk.manager.plugin("a").resume()
        await talk.manager.unload_plugin("a")
    told = [(update.plugin_id, update.state) async for update in first]
    assert told == [("a", "suspended"), ("a", "ready"), ("a", "unloaded")]
    assert [(update.plugin_id, update.state) async for update in second] == told
