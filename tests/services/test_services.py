"""What a plugin may ask its host for, from inside a real jail."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path

import pytest
from support import live
from talk import ALL, NOTHING, TALKER, talkers

from frys_runtime import (
    CommunicationError,
    ExecutionFailed,
    MessageValue,
    PluginMessage,
    Refused,
    ResourceLimitExceeded,
    SecurityViolation,
    Timeout,
    caller,
)


@live
async def test_settings_come_from_the_policy_before_the_plugin(tmp_path: Path) -> None:
    """Already while the plugin loads; and what it does to its copy stays there."""
    async with talkers(tmp_path, ALL) as talk:
        assert await talk.ask("config") == {"greeting": "good day", "limit": 3}
        assert await talk.ask("config", "greeting") == "good day"
        assert await talk.ask("config", "limit") == 3
        assert await talk.ask("config", "missing") is None
        assert await talk.manager.execute_plugin("a", "at_load") == "good day"


@live
async def test_a_record_of_the_log_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With its level and plugin, and nothing in it that forges another or talks to a terminal."""
    async with talkers(tmp_path, ALL) as talk:
        with caplog.at_level(logging.DEBUG, "frys.plugin"):
            assert await talk.ask("log", "warning", "one\nERROR two\x1b[2J") is None
            assert await talk.ask("log", "debug", "x" * 9000) is None
        first, second = [record for record in caplog.records if record.name == "frys.plugin"]
        assert (first.levelname, first.plugin_id) == ("WARNING", "a")  # type: ignore[attr-defined]
        assert first.getMessage() == r"a: one\nERROR two\x1b[2J"
        assert second.getMessage() == "a: " + "x" * 2000
        assert (await talk.ask("log", "fatal", "text"))[0] == "invalid"  # type: ignore[index]


@live
async def test_what_is_kept_survives_the_process_and_the_manager(tmp_path: Path) -> None:
    """With a folder for it; each id has its own."""
    folder = tmp_path / "state" / "deep"
    async with talkers(tmp_path, ALL, "a", "b", state_dir=folder) as talk:
        assert await talk.ask("kv.set", "key", {"list": [1, b"x"]}) is None
        assert await talk.ask("kv.get", "key", who="b") is None
        with pytest.raises(Timeout):
            await talk.manager.execute_plugin("a", "sleep", 60, timeout_ms=200)
        assert await talk.ask("kv.get", "key") == {"list": [1, b"x"]}
        assert await talk.ask("kv.keys") == ["key"]
    async with talkers(tmp_path, ALL, state_dir=folder) as talk:
        assert await talk.ask("kv.get", "key") == {"list": [1, b"x"]}
        assert await talk.ask("kv.delete", "key") is True
    assert os.stat(folder).st_mode & 0o777 == 0o700


@live
async def test_the_quota_of_the_policy_holds(tmp_path: Path) -> None:
    """A value that does not fit is refused, and told how much fits."""
    async with talkers(tmp_path, ALL + "plugins: {a: {limits: {kv: 1KiB}}}") as talk:
        refusal = await talk.ask("kv.set", "key", b"x" * 1000)
        assert isinstance(refusal, list)
        assert refusal[0] == "limit"
        assert "limits.kv allows 1024" in str(refusal[1])
        assert await talk.ask("kv.set", "key", b"x" * 900) is None


@live
async def test_nothing_is_granted_by_default(tmp_path: Path) -> None:
    """Each service is refused with the key that would grant it; each refusal is told and counted."""
    keys = {
        "log": ["info", "x"],
        "config": [],
        "kv.get": ["x"],
        "kv.set": ["x", 1],
        "kv.delete": ["x"],
        "kv.keys": [],
        "call": ["b", "twice", [1]],
        "emit": ["done", "x"],
        "host": ["price", ["x"]],
        "http": [{"url": "https://example.com/"}],
    }
    async with talkers(tmp_path, NOTHING) as talk:
        assert (await talk.manager.execute_plugin("a", "at_load"))[0] == "permission"  # type: ignore[index]
        events = talk.manager.events()
        for service, args in keys.items():
            refusal = await talk.ask(service, *args)
            assert isinstance(refusal, list), service
            assert refusal[0] == "permission", (service, refusal)
        assert talk.manager.communicator.stats().refused == {"a": len(keys) + 1}
        told = [event async for event in _first(events, len(keys) - 1, "message_refused")]
        assert {event.plugin_id for event in told} == {"a"}
        assert "messages.call: {b: [twice]}" in [event.data["reason"] for event in told]


@live
async def test_refusals_are_in_the_audit_log(tmp_path: Path) -> None:
    """What a plugin asked for and may not have, with the key that would grant it; each thing once."""
    log = tmp_path / "audit.jsonl"
    async with talkers(tmp_path, NOTHING, audit=log) as talk:
        for _ in range(3):
            for args in (("call", "b", "twice", [1]), ("emit", "done", "x"), ("kv.get", "x")):
                assert (await talk.ask(*args))[0] == "permission"  # type: ignore[index, arg-type]
    records = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(one["plugin"], one["data"]) for one in records if one["kind"] == "message_refused"][1:]
    assert told == [
        ("a", {"what": "called b.twice", "reason": "messages.call: {b: [twice]}"}),
        ("a", {"what": "published 'done'", "reason": "messages.publish: [done]"}),
        ("a", {"what": "used kv.get", "reason": "host_functions: [kv]"}),
    ]


@live
async def test_of_many_refusals_some_are_told_and_all_are_counted(tmp_path: Path) -> None:
    """Each once, and no more than 64 of one plugin; of the next one under its id they are told again."""
    async with talkers(tmp_path, NOTHING) as talk:
        events = talk.manager.events()
        for number in range(70):
            for _ in range(2):
                refusal = await talk.ask("call", "b", f"f{number}", [])
                assert refusal[0] == "permission"  # type: ignore[index]
        await talk.manager.unload_plugin("a")
        await talk.manager.load_plugin(TALKER, plugin_id="a")
        await talk.ask("call", "b", "f0", [])
        refused = talk.manager.communicator.stats().refused
    told = [event.data["what"] async for event in events if event.kind == "message_refused"]
    assert told == [*(f"called b.f{number}" for number in range(63)), "used config", "called b.f0"]
    assert refused == {"a": 143}


async def _first(stream, count, kind):  # type: ignore[no-untyped-def]
    while count:
        event = await anext(stream)
        if event.kind == kind:
            count -= 1
            yield event


@live
async def test_a_question_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """The plugin is told what would make sense, and lives on."""
    async with talkers(tmp_path, ALL) as talk:
        for service, args in (
            ("log", ["info"]),
            ("log", ["info", 1]),
            ("config", [1]),
            ("kv.get", []),
            ("kv.set", [1, 1]),
            ("call", ["b", "f"]),
            ("call", ["b", "f", "args"]),
            ("host", ["price", 1]),
            ("http", ["https://example.com"]),
        ):
            refusal = await talk.ask(service, *args)
            assert isinstance(refusal, list)
            assert refusal[0] == "invalid", (service, args, refusal)
        assert (await talk.ask("nonsense"))[0] == "missing"  # type: ignore[index]
        assert talk.manager.plugin("a").resource_usage().restarts == 0


@live
async def test_who_asks_too_often_waits(tmp_path: Path) -> None:
    """One second's worth at once, then one after the other."""
    slow = "plugins: {a: {limits: {messages: 20/s}}}"
    async with talkers(tmp_path, ALL + slow, "a", "b") as talk:
        loop = asyncio.get_running_loop()

        async def asks(who: str, count: int) -> float:
            began = loop.time()
            for _ in range(count):
                await talk.ask("config", who=who)
            return loop.time() - began

        slowed, _ = await asyncio.gather(asks("a", 40), asks("b", 40))
        # That is the limit itself: 20 at once, one of them while loading, and 21 more at 20 a second.
        assert slowed >= 0.95


@live
async def test_the_deadline_goes_on_while_it_waits(tmp_path: Path) -> None:
    """Being slowed down gives no time."""
    slow = "plugins: {a: {limits: {messages: 1/s}}}"
    async with talkers(tmp_path, ALL + slow) as talk:
        with pytest.raises(Timeout):
            await talk.manager.execute_plugin("a", "ask", "config", [], timeout_ms=200)
        assert (await talk.manager.execute_plugin("a", "twice", 4)) == 8


@live
async def test_a_function_of_the_host_program(tmp_path: Path) -> None:
    """Plain or async, with types, and knowing who calls."""
    async with talkers(tmp_path, ALL) as talk:
        callers = []

        @talk.manager.host_function("price", ["string"], "float")
        async def price(article: str) -> float:
            callers.append(caller())
            await asyncio.sleep(0)
            return len(article) * 1.5

        @talk.manager.host_function("slow_echo")
        def echo(*values: MessageValue) -> MessageValue:
            return list(values)

        assert await talk.ask("host", "price", ["apple"]) == 7.5
        assert callers == ["a"]
        assert caller() == ""
        assert await talk.ask("host", "slow_echo", [1, b"x"]) == [1, b"x"]
        assert await talk.ask("host", "price", [1]) == ["invalid", "price: args[0] must be string, not int"]
        assert (await talk.ask("host", "slow_other", []))[0] == "missing"  # type: ignore[index]
        assert (await talk.ask("host", "other", []))[0] == "permission"  # type: ignore[index]
        for taken in ("price", "log"):
            with pytest.raises(ValueError, match="already"):
                talk.manager.host_function(taken)(echo)


@live
async def test_a_function_of_the_host_program_cannot_call_who_waits_for_it(tmp_path: Path) -> None:
    """By whichever way it calls; and another plugin, which calls back, cannot either."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        communicator = talk.manager.communicator

        @talk.manager.host_function("slow_execute")
        async def execute(who: str, function: str, *args: MessageValue) -> MessageValue:
            try:
                return await talk.manager.execute_plugin(who, function, *args)
            except CommunicationError as error:
                return error.reason

        @talk.manager.host_function("slow_send")
        async def send(who: str, function: str, *args: MessageValue) -> MessageValue:
            try:
                answer = await communicator.send_message(
                    who, PluginMessage.FunctionCall(function, list(args))
                )
            except CommunicationError as error:
                return error.reason
            assert isinstance(answer, PluginMessage.FunctionResponse)
            return answer.value

        circle = "it waits for the very function of the host program that calls it: a > a"
        for way in ("slow_execute", "slow_send"):
            assert await talk.ask("host", way, ["a", "twice", 1]) == circle, way
            assert await talk.ask("host", way, ["b", "twice", 1]) == 2, way
            assert await talk.ask("host", way, ["b", "ask", "call", ["a", "twice", [1]]]) == [
                *("cycle", "it would wait for itself: b > a > b")
            ], way


@live
async def test_what_one_question_leaves_in_its_context_is_not_there_in_the_next(tmp_path: Path) -> None:
    """Neither of the same call nor of the next, nor with who called; what the caller has set, all see."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        outside: ContextVar[str] = ContextVar("outside", default="")
        inside: ContextVar[str] = ContextVar("inside", default="")

        @talk.manager.host_function("slow_leave")
        async def leave(turns: int) -> str:
            found = outside.get() + inside.get()
            for _ in range(turns):
                await asyncio.sleep(0)
            inside.set("inside")
            return found

        @talk.manager.host_function("slow_nested")
        async def nested() -> MessageValue:
            inside.set("nested")
            return await talk.manager.execute_plugin("b", "asks_host", ["slow_leave", "slow_leave"], 0)

        outside.set("outside")
        for turns in (0, 1):
            functions: list[MessageValue] = ["slow_leave"] * 5
            found = await talk.manager.execute_plugin("a", "asks_host", functions, turns)
            assert found == ["outside"] * 5
        assert inside.get() == ""
        assert await talk.ask("host", "slow_nested", []) == ["outsidenested"] * 2
        assert await talk.ask("host", "slow_leave", [0]) == "outside"


@live
async def test_a_function_of_the_host_program_that_waits_for_what_is_cancelled_has_failed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has given the call up: the plugin is told, at once or later, and goes on."""
    async with talkers(tmp_path, ALL) as talk:

        @talk.manager.host_function("slow_wait")
        async def wait(turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task

        @talk.manager.host_function("slow_refuse")
        def refuse() -> None:
            raise Refused("missing", "no file \udcff")

        for turns in (0, 3):
            refusal = await talk.ask("host", "slow_wait", [turns])
            assert refusal == ["failed", "the host could not do it; its log says why"]
        assert await talk.ask("host", "slow_refuse", []) == ["missing", "no file ?"]
        assert talk.manager.plugin("a").resource_usage().restarts == 0
        assert await talk.ask("kv.get", "key") is None
    assert "asked for host, which failed in the host" in caplog.text


ENDS = """
import asyncio, sys
from frys_runtime import PluginManager, busy_poll

busy_poll.SECONDS = busy_poll.HOST_SECONDS = busy_poll._RUN_SECONDS = float(sys.argv[3])

async def main():
    async with PluginManager(policy=sys.argv[2]) as manager:
        @manager.host_function("slow_end")
        def end():
            sys.exit(7)

        await manager.load_plugin(sys.argv[1])
        await manager.execute_plugin("talker", "ask", "host", ["slow_end", []])

asyncio.run(main())
"""


@pytest.mark.parametrize("looks", ["0", "1"])
def test_a_function_of_the_host_program_may_end_the_program(looks: str, tmp_path: Path) -> None:
    """Whether a look or the event loop finds that the plugin asks for it; nothing is left that waits."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(ALL)
    command = [sys.executable, "-c", ENDS, TALKER, policy, looks]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    assert "do not end in time" not in done.stderr


@live
async def test_a_failure_of_the_host_program_keeps_its_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the traceback, the plugin only hears that it failed."""
    async with talkers(tmp_path, ALL) as talk:

        @talk.manager.host_function("broken")
        def broken() -> MessageValue:
            raise RuntimeError("password: tiger")

        @talk.manager.host_function("slow_object")
        def odd() -> MessageValue:
            return object()  # type: ignore[return-value]

        for name in ("broken", "slow_object"):
            refusal = await talk.ask("host", name, [])
            assert refusal == ["failed", "the host could not do it; its log says why"]
        assert "password: tiger" in caplog.text
        assert await talk.manager.execute_plugin("a", "twice", 4) == 8


@live
async def test_a_refusal_that_nobody_catches_is_the_plugins_failure(tmp_path: Path) -> None:
    """The caller reads what the plugin was refused."""
    async with talkers(tmp_path, NOTHING + "plugins: {a: {host_functions: [config]}}") as talk:
        with pytest.raises(ExecutionFailed, match=r"does not grant messages\.call"):
            await talk.manager.execute_plugin("a", "unguarded", "b", "twice", [1])


@live
async def test_an_answer_may_be_large(tmp_path: Path) -> None:
    """Eight megabytes both ways."""
    async with talkers(tmp_path, ALL) as talk:
        large = os.urandom(8 << 20)

        @talk.manager.host_function("price")
        def echo(value: MessageValue) -> MessageValue:
            return value

        assert await talk.ask("host", "price", [large]) == large


@live
async def test_a_host_function_that_never_answers_meets_the_deadline(tmp_path: Path) -> None:
    """It is cancelled with the call that waits for it."""
    async with talkers(tmp_path, ALL) as talk:
        ended = asyncio.Event()

        @talk.manager.host_function("slow")
        async def slow() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        with pytest.raises(Timeout):
            await talk.manager.execute_plugin("a", "ask", "host", ["slow", []], timeout_ms=200)
        await asyncio.wait_for(ended.wait(), 5)


@live
async def test_a_heartbeat_is_answered_by_the_process(tmp_path: Path) -> None:
    """And a dead process is replaced by it."""
    async with talkers(tmp_path, ALL) as talk:
        beat = PluginMessage.Heartbeat(0)
        answer = await talk.manager.communicator.send_message("a", beat)
        assert isinstance(answer, PluginMessage.Heartbeat)
        plugin = talk.manager.plugin("a")
        first = plugin.pid
        with pytest.raises((Timeout, ResourceLimitExceeded, SecurityViolation)):
            await plugin.call("sleep", 60, timeout_ms=100)
        await talk.manager.communicator.send_message("a", beat)
        assert plugin.pid not in (None, first)
