"""Processes die: they are started again, not too often, and callers are told what holds."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from supervised import RULES, supervised, until
from support import live

from frys_runtime import Crashed, ExecutionFailed, PluginError, PluginState, Unavailable

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]


@live
async def test_a_fresh_process_is_there_before_anybody_asks(tmp_path: Path) -> None:
    """After a crash in a call, and after one between calls: ready again by itself."""
    async with supervised(tmp_path) as (manager, story):
        plugin = manager.plugin("p")
        with pytest.raises(Crashed, match="crashed"):
            await plugin.call("die")
        await story.until("state", new="ready", old="starting")
        assert plugin.state is PluginState.READY
        os.kill(plugin.pid or 0, signal.SIGKILL)
        told = await story.until("crashed", function="")
        assert "killed from outside between calls" in told.data["reason"]
        await story.until("state", new="ready")
        assert story.states() == ["ready", "starting", "ready", "starting", "ready"]
        assert manager.stats().restarts == 2
        assert await plugin.call("echo", 1) == 1


@live
async def test_a_crash_loop_ends_in_quarantine(tmp_path: Path) -> None:
    """The event says which function and which input it was; callers fail at once; resume() is the way out."""
    rules = "max_failures: 0, max_crashes: 3, backoff: 0, quarantine: none"
    async with supervised(tmp_path, rules) as (manager, story):
        plugin = manager.plugin("p")
        for _ in range(3):
            with pytest.raises(Crashed):
                await plugin.call("die", {"same": [1, 2]})
        told = await story.until("quarantined")
        assert told.data["function"] == "die"
        assert len(told.data["input_sha256"]) == 64
        assert told.data["seconds"] is None
        assert plugin.state is PluginState.QUARANTINED
        with pytest.raises(
            Unavailable, match=r"crashed 3 times .* in die with the same arguments.*resume"
        ) as e:
            await plugin.call("echo", 1)
        assert not e.value.retryable
        assert plugin.pids == ()
        await plugin.resume()
        assert await plugin.call("echo", 1) == 1
        assert story.states().count("quarantined") == 1


@live
async def test_a_quarantine_ends_by_itself(tmp_path: Path) -> None:
    """Callers are told when; then a process is started without being asked for."""
    rules = "max_failures: 0, max_crashes: 2, backoff: 0, quarantine: 200ms"
    async with supervised(tmp_path, rules) as (manager, story):
        plugin = manager.plugin("p")
        for value in range(2):
            with pytest.raises(Crashed):
                await plugin.call("die", value)
        told = await story.until("quarantined")
        assert told.data["function"] == told.data["input_sha256"] == ""
        with pytest.raises(Unavailable, match="in quarantine for") as refused:
            await plugin.call("echo", 1)
        assert refused.value.retryable
        assert 0 < (refused.value.retry_after_ms or 0) <= 200
        await story.until("state", new="ready", old="starting")
        while story.states()[-2:] != ["starting", "ready"]:
            await story.until("state", new="ready")
        assert await plugin.call("echo", 1) == 1


@live
async def test_failures_in_a_row_open_the_circuit_and_a_call_closes_it(tmp_path: Path) -> None:
    """Callers are told at once and when; after the pause one tries. An error of the plugin itself is none."""
    rules = "max_failures: 2, failure_pause: 200ms, max_crashes: 0, backoff: 0"
    async with supervised(tmp_path, rules) as (manager, story):
        plugin = manager.plugin("p")
        for _ in range(3):
            with pytest.raises(ExecutionFailed, match="on purpose"):
                await plugin.call("fail")
        for _ in range(2):
            with pytest.raises(Crashed):
                await plugin.call("die")
        await story.until("circuit", new="open")
        assert plugin.circuit == "open"
        with pytest.raises(Unavailable, match="2 calls in a row") as refused:
            await plugin.call("echo", 1)
        assert 0 < (refused.value.retry_after_ms or 0) <= 200
        await asyncio.sleep(0.21)
        assert await plugin.call("echo", 1) == 1
        await story.until("circuit", new="half-open")
        await story.until("circuit", new="closed")


@live
async def test_resume_closes_the_circuit(tmp_path: Path) -> None:
    """A person who knows better need not wait."""
    rules = "max_failures: 1, failure_pause: 1h, max_crashes: 0, backoff: 0"
    async with supervised(tmp_path, rules) as (manager, _):
        plugin = manager.plugin("p")
        with pytest.raises(Crashed):
            await plugin.call("die")
        with pytest.raises(Unavailable):
            await plugin.call("echo", 1)
        await plugin.resume()
        assert await plugin.call("echo", 1) == 1


@live
async def test_another_plugins_impatience_is_no_fault(tmp_path: Path) -> None:
    """Timeouts that a calling plugin chose do not open the circuit of the one it calls."""
    rules = "max_failures: 1, failure_pause: 1h, max_crashes: 0, backoff: 0"
    caller = "import frys\ndef ask():\n    return frys.call('q', 'nap', 60.0)\n"
    policy = "messages: {call: {'*': ['*']}}"
    async with supervised(tmp_path, rules, policy=policy, source=caller) as (manager, _):
        from supervised import write_plugin

        exports = {"nap": {"params": ["float"], "returns": "int"}}
        await manager.load_plugin(write_plugin(tmp_path, "q", exports=exports))
        with pytest.raises(PluginError):
            await manager.execute_plugin("p", "ask", timeout_ms=200)
        assert await manager.execute_plugin("q", "echo", 1) == 1
        assert manager.plugin("q").circuit == "closed"


FLAKY = """
import os

def die(value):
    os.abort()

def work(value):
    os.write(1, b"begun\\n")
    os.abort()
"""


@live
async def test_only_an_idempotent_function_is_called_twice(tmp_path: Path) -> None:
    """Once more after a crash, never a third time; any other function never."""
    exports = {"work": {"idempotent": True, "params": ["int"]}, "die": {"params": ["int"]}}
    async with supervised(tmp_path, source=FLAKY, exports=exports) as (manager, story):
        plugin = manager.plugin("p")
        with pytest.raises(Crashed) as crashed:
            await plugin.call("work", 1)
        assert not crashed.value.retryable
        assert manager.stats().calls == 2
        await story.until("retried", function="work")
        with pytest.raises(Crashed):
            await plugin.call("die", 1)
        assert manager.stats().calls == 3


@live
async def test_a_retry_succeeds_when_the_crash_was_no_fault_of_the_input(tmp_path: Path) -> None:
    """Its process is killed from outside in mid-call, and the caller gets its answer all the same."""
    exports = {"nap": {"idempotent": True, "params": ["float"], "returns": "int"}}
    async with supervised(tmp_path, exports=exports) as (manager, story):
        call = asyncio.create_task(manager.execute_plugin("p", "nap", 0.3))
        await until(lambda: manager.stats().calls == 1)
        os.kill(manager.plugin("p").pid or 0, signal.SIGKILL)
        assert await call == 1
        await story.until("retried")


BROKEN_LATER = """
import frys

frys.host("start")

def echo(value):
    return value

def die():
    import os
    os.abort()
"""


@live
async def test_a_plugin_that_cannot_be_loaded_again(tmp_path: Path) -> None:
    """Whoever waits is told why; after some tries it is quarantined, and comes back when it can."""
    rules = "max_failures: 0, max_crashes: 3, backoff: 10ms, quarantine: none"
    file = tmp_path / "policy.yaml"
    file.write_text(f"extends: maximum\nhost_functions: [start]\nsupervision: {{{rules}}}\n")
    from supervised import Story, write_plugin

    from frys_runtime import LoadFailed, PluginManager

    well = [True]
    async with PluginManager(policy=file) as manager:

        @manager.host_function("start")
        async def start() -> None:
            if not well[0]:
                raise RuntimeError("not now")

        story = Story(manager)
        await manager.load_plugin(write_plugin(tmp_path, "p", BROKEN_LATER))
        well[0] = False
        with pytest.raises(Crashed):
            await manager.execute_plugin("p", "die")
        with pytest.raises((LoadFailed, Unavailable)):
            await manager.execute_plugin("p", "echo", 1)
        told = await story.until("quarantined")
        assert "could not be started again" in told.data["reason"]
        well[0] = True
        await manager.plugin("p").resume()
        assert await manager.execute_plugin("p", "echo", 1) == 1


@live
async def test_restarts_are_not_counted_for_what_grew_or_woke(tmp_path: Path) -> None:
    """Only a process that replaces a dead one is a restart."""
    async with supervised(tmp_path, f"{RULES}, instances: 2, idle_timeout: 100ms") as (manager, story):
        await asyncio.gather(*(manager.execute_plugin("p", "nap", 0.1) for _ in range(2)))
        await story.until("state", new="idle")
        assert await manager.execute_plugin("p", "echo", 1) == 1
        assert manager.stats().restarts == 0
