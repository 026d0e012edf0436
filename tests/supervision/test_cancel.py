"""A caller gives up: the work inside the plugin ends, and where it can the process stays."""

import asyncio
import time
from pathlib import Path

import pytest
from supervised import RULES, supervised, until, write_plugin
from support import live

from frys_runtime import PluginManager, Timeout

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

SCRIPT = """
let kept = 0
function keep() { return ++kept }
function spin() { for (;;) {} }
function stubborn() { for (;;) { try { for (;;) {} } catch {} finally { kept = -1 } } }
async function many() { await Promise.all([1, 2, 3].map(async () => { await null; for (;;) {} })) }
async function nap(ms) { await new Promise((done) => setTimeout(done, ms)) }
"""


async def _give_up(manager: PluginManager, plugin: str, function: str, *args: object) -> None:
    before = manager.stats().calls
    call = asyncio.create_task(manager.execute_plugin(plugin, function, *args))
    await until(lambda: manager.stats().calls > before)
    await asyncio.sleep(0.05)  # so that it is inside, not on its way; either must do
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("function", ["spin", "nap"])
@live
async def test_python_is_interrupted_and_keeps_its_state(function: str, tmp_path: Path) -> None:
    """In the main interpreter a call ends like by Ctrl-C; the process serves the next one."""
    async with supervised(tmp_path) as (manager, story):
        assert await manager.execute_plugin("p", "keep", 1) == 1
        pid = manager.plugin("p").pid
        for count in (2, 3):
            await _give_up(manager, "p", function, *([60] if function == "nap" else []))
            assert await manager.execute_plugin("p", "keep", 1) == count
            await story.until("interrupted", function=function)
        assert manager.plugin("p").pid == pid


ASYNC = """
import asyncio

kept = []

async def work():
    try:
        await asyncio.sleep(0.3)
        kept.append("went on")
    finally:
        kept.append("ended")

async def look():
    await asyncio.sleep(0.5)
    return kept
"""


@live
async def test_a_coroutine_of_python_ends_with_its_call(tmp_path: Path) -> None:
    """Like by Ctrl-C in asyncio.run: it is cancelled, and does not go on while the next call waits."""
    async with supervised(tmp_path, source=ASYNC) as (manager, story):
        assert await manager.execute_plugin("p", "look") == []
        pid = manager.plugin("p").pid
        await _give_up(manager, "p", "work")
        await story.until("interrupted", function="work")
        assert await manager.execute_plugin("p", "look") == ["ended"]
        assert manager.plugin("p").pid == pid


@live
async def test_who_catches_the_interrupt_and_goes_on_is_killed(tmp_path: Path) -> None:
    """Grace is short; the next call finds a fresh process."""
    async with supervised(tmp_path) as (manager, story):
        await manager.execute_plugin("p", "keep", 1)
        await _give_up(manager, "p", "stubborn")
        assert await manager.execute_plugin("p", "keep", 1) == 1
        await story.until("killed", function="stubborn")
        await story.until("restarted")


@pytest.mark.parametrize("function", ["spin", "nap", "stubborn", "many"])
@live
async def test_javascript_is_interrupted_and_keeps_its_state(function: str, tmp_path: Path) -> None:
    """No catch and no finally of the plugin stops the engine; the process serves the next call only."""
    script = tmp_path / "s.js"
    script.write_text(SCRIPT)
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(script)
        assert await manager.execute_plugin(plugin, "keep") == 1
        pid = manager.plugin(plugin).pid
        for count in (2, 3):
            await _give_up(manager, plugin, function, *([60_000] if function == "nap" else []))
            assert await manager.execute_plugin(plugin, "keep") == count
        assert manager.plugin(plugin).pid == pid


@live
async def test_what_cannot_be_interrupted_is_killed(tmp_path: Path) -> None:
    """A subinterpreter: nothing inside can stop it, so its process goes and a fresh one comes."""
    async with supervised(tmp_path, interpreter="own") as (manager, story):
        await manager.execute_plugin("p", "keep", 1)
        await _give_up(manager, "p", "spin")
        assert await manager.execute_plugin("p", "keep", 1) == 1
        await story.until("killed", function="spin")


ASKS = """
import frys

kept = []

def wait():
    return frys.host("wait")

def wait_twice():
    try:
        frys.host("wait")
    except frys.Refused as refusal:
        kept.append(refusal.reason)
    return frys.host("wait")

def look():
    return kept

def echo(value):
    return frys.host("echo", value)
"""


@pytest.mark.parametrize("interpreter", ["own", "main"])
@live
async def test_who_waits_for_its_host_is_told(interpreter: str, tmp_path: Path) -> None:
    """Its question is refused as cancelled, which ends the call in every engine, and so is the next one."""
    async with supervised(
        tmp_path, policy="host_functions: [wait]", source=ASKS, interpreter=interpreter
    ) as (manager, story):
        ended: list[str] = []

        @manager.host_function("wait")
        async def wait() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("ended")

        pid = manager.plugin("p").pid
        await _give_up(manager, "p", "wait")
        await story.until("interrupted", function="wait")
        await _give_up(manager, "p", "wait_twice")
        await story.until("interrupted", function="wait_twice")
        if interpreter == "own":
            assert await manager.execute_plugin("p", "look") == ["cancelled"]
        assert manager.plugin("p").pid == pid
        assert ended == ["ended", "ended"]


@live
async def test_a_function_of_the_host_program_has_time_to_tidy_up(tmp_path: Path) -> None:
    """It is cancelled once, and not again when the call of the plugin has ended."""
    async with supervised(tmp_path, policy="host_functions: [wait]", source=ASKS, interpreter="own") as (
        manager,
        story,
    ):
        tidied: list[bool] = []

        @manager.host_function("wait")
        async def wait() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.3)
                tidied.append(True)

        await _give_up(manager, "p", "wait")
        await story.until("interrupted", function="wait")
        assert await manager.execute_plugin("p", "look") == []
        await until(lambda: tidied == [True])


@pytest.mark.parametrize("again", [0.0, 0.3])
@pytest.mark.parametrize("function", ["wait", "wait_twice"])
@live
async def test_an_answer_that_nobody_waits_for_is_no_answer_to_another_question(
    function: str, again: float, tmp_path: Path
) -> None:
    """A function of the host program may not heed that it is cancelled, and return all the same, or later."""
    async with supervised(
        tmp_path, policy="host_functions: [wait, echo]", source=ASKS, interpreter="own"
    ) as (manager, story):

        @manager.host_function("wait")
        async def wait() -> str:
            ends_at = 0.0
            while not ends_at or time.monotonic() < ends_at:
                try:
                    await asyncio.sleep(60 if not ends_at else again)
                except asyncio.CancelledError:
                    ends_at = ends_at or time.monotonic() + again
            return "too late"

        @manager.host_function("echo")
        async def echo(value: int) -> int:
            await asyncio.sleep(2 * again)
            return value

        pid = manager.plugin("p").pid
        await _give_up(manager, "p", function)
        await story.until("interrupted", function=function)
        assert await manager.execute_plugin("p", "echo", 7) == 7
        assert manager.plugin("p").pid == pid


@live
async def test_a_deadline_reaches_into_nested_calls(tmp_path: Path) -> None:
    """The plugin that is called by another has only the time that is left of the outermost deadline."""
    messages = "messages: {call: {'*': ['*']}}"
    caller = "import frys\ndef ask(seconds):\n    return frys.call('q', 'nap', seconds)\n"
    async with supervised(tmp_path, policy=messages, source=caller) as (manager, story):
        exports = {"nap": {"params": ["float"], "returns": "int"}}
        await manager.load_plugin(write_plugin(tmp_path, "q", exports=exports))
        with pytest.raises(Timeout):
            await manager.execute_plugin("p", "ask", 60.0, timeout_ms=400)
        assert (await story.until("timeout")).data["timeout_ms"] <= 400
        assert await manager.execute_plugin("q", "echo", 1) == 1
        assert await manager.execute_plugin("p", "ask", 0.0) == 1


@live
async def test_a_call_that_waits_is_given_up_without_a_trace(tmp_path: Path) -> None:
    """It never reaches a process, and the call under way does not notice."""
    async with supervised(tmp_path, RULES) as (manager, _):
        running = asyncio.create_task(manager.execute_plugin("p", "nap", 0.3))
        await until(lambda: manager.stats().calls == 1)
        waiting = asyncio.create_task(manager.execute_plugin("p", "keep", 1))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await running == 1
        assert await manager.execute_plugin("p", "keep", 1) == 1
