"""Health checks, idle plugins, lazy ones, suspended ones, and the end with a drain."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from supervised import RULES, Story, supervised, until, write_plugin
from support import live

from frys_runtime import (
    CommunicationError,
    ExecutionFailed,
    LoadFailed,
    PluginManager,
    PluginState,
    Timeout,
    Unavailable,
)

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]


@live
async def test_the_health_function_decides(tmp_path: Path) -> None:
    """True or nothing is well; a text says what is wrong, and the process is replaced with a sound one."""
    async with supervised(tmp_path, health="health") as (manager, story):
        plugin = manager.plugin("p")
        await plugin.check_health()
        for answer, words in (("out of paper", "out of paper"), (False, "answered False"), (7, "answered 7")):
            await plugin.call("keep", answer)
            with pytest.raises(ExecutionFailed, match=words):
                await plugin.check_health()
            assert words in (await story.until("unhealthy")).data["reason"]
            await story.until("restarted")
            await plugin.check_health()
        assert manager.stats().restarts == 3


@live
async def test_health_is_looked_after_from_time_to_time(tmp_path: Path) -> None:
    """Without anybody asking, an unhealthy process is replaced; one that hangs in its check as well."""
    source = """
import time

bad = []

def spoil(how):
    bad.append(how)

def health():
    if bad == ["hang"]:
        time.sleep(60)
    return bad[0] if bad else True
"""
    rules = f"{RULES}, health_interval: 50ms, health_timeout: 100ms"
    async with supervised(tmp_path, rules, source=source, health="health") as (manager, story):
        for how in ("ill", "hang"):
            await manager.execute_plugin("p", "spoil", how)
            await story.until("unhealthy")
            await story.until("restarted")
        assert manager.plugin("p").state is PluginState.READY


@live
async def test_a_health_function_has_to_be_there(tmp_path: Path) -> None:
    """plugin.json names one that the plugin does not have: it is not loaded."""
    async with PluginManager() as manager:
        with pytest.raises(LoadFailed, match="'helth' as its health function"):
            await manager.load_plugin(write_plugin(tmp_path, "p", health="helth"))
        assert manager.list_plugins() == []


@live
async def test_nobody_needs_it_and_its_process_goes(tmp_path: Path) -> None:
    """Scale to zero: no process, no memory; the next call starts one and is answered."""
    async with supervised(tmp_path, f"{RULES}, idle_timeout: 100ms, instances: 2") as (manager, story):
        plugin = manager.plugin("p")
        await asyncio.gather(*(plugin.call("nap", 0.05) for _ in range(2)))
        await story.until("state", new="idle")
        await until(lambda: plugin.pids == ())
        assert plugin.resource_usage().memory_usage == 0
        for _ in range(2):
            assert await plugin.call("keep", 1) == 1
            await story.until("state", new="idle")


@live
async def test_a_lazy_plugin_starts_with_its_first_call(tmp_path: Path) -> None:
    """Loading verifies file and policy; what only its code would tell comes with the first call."""
    async with supervised(tmp_path, f"{RULES}, lazy: true") as (manager, _):
        plugin = manager.plugin("p")
        assert (plugin.state, plugin.pids, plugin.functions) == (PluginState.IDLE, (), {})
        assert await plugin.call("echo", 1) == 1
        assert "echo" in plugin.functions
        with pytest.raises(LoadFailed):
            await manager.load_plugin(write_plugin(tmp_path, "asks", permissions=["Network"]))
        await manager.load_plugin(write_plugin(tmp_path, "broken", "def f(:\n"))
        with pytest.raises(Exception, match="invalid syntax"):
            await manager.execute_plugin("broken", "f")


@live
async def test_a_lazy_plugin_that_was_suspended_before_its_first_call_starts_when_it_is_resumed(
    tmp_path: Path,
) -> None:
    """The call that waited meanwhile is what it starts for."""
    async with supervised(tmp_path, f"{RULES}, lazy: true") as (manager, _):
        plugin = manager.plugin("p")
        await plugin.suspend()
        call = asyncio.create_task(plugin.call("echo", 1))
        await asyncio.sleep(0)
        await plugin.resume()
        assert await call == 1


@live
async def test_a_lazy_plugin_that_hears_events_is_started(tmp_path: Path) -> None:
    """Only its running code knows which function handles what."""
    policy = "messages: {subscribe: ['*']}"
    source = "def on_tick(data):\n    pass\n"
    events = {"subscribes": ["tick"]}
    async with supervised(tmp_path, f"{RULES}, lazy: true", policy=policy, source=source, events=events) as (
        manager,
        _,
    ):
        assert manager.plugin("p").state is PluginState.READY


@live
async def test_draining_lets_what_was_taken_end(tmp_path: Path) -> None:
    """The call under way and those in the queue are answered; a new one is refused, and may be retried."""
    async with supervised(tmp_path) as (manager, story):
        plugin = manager.plugin("p")
        taken = [asyncio.create_task(plugin.call("nap", 0.2)) for _ in range(3)]
        await until(lambda: manager.stats().calls == 1)
        pool = manager._loaded.deployments["p"].match().pool
        end = asyncio.create_task(manager.unload_plugin("p", drain_ms=20_000))
        await story.until("state", new="draining")
        with pytest.raises(Unavailable, match="drained") as refused:
            await pool.call("echo", (1,))
        assert refused.value.retryable
        assert await asyncio.gather(*taken) == [1, 1, 1]
        await end
        assert (await story.until("unloaded")).data["cut"] == 0


@live
async def test_what_does_not_end_in_time_is_cut_off(tmp_path: Path) -> None:
    """At the deadline: the call under way fails, and so does the one in the queue."""
    async with supervised(tmp_path) as (manager, story):
        calls = [asyncio.create_task(manager.execute_plugin("p", "nap", 60)) for _ in range(2)]
        await until(lambda: manager.stats().calls == 1)
        await manager.unload_plugin("p", drain_ms=100)
        for call in calls:
            with pytest.raises(CommunicationError, match="unloaded"):
                await call
        assert (await story.until("unloaded")).data["cut"] == 2


@live
async def test_closing_with_a_drain_serves_the_calls_that_serve_calls(tmp_path: Path) -> None:
    """One is under way and calls q only then: q drains, too, and still serves it."""
    policy = "messages: {call: {'*': ['*']}}"
    source = "import frys, time\ndef ask():\n    time.sleep(0.3)\n    return frys.call('q', 'echo', 5)\n"
    async with supervised(tmp_path, policy=policy, source=source) as (manager, _):
        exports = {"echo": {"params": ["int"], "returns": "int"}}
        await manager.load_plugin(write_plugin(tmp_path, "q", exports=exports))
        call = asyncio.create_task(manager.execute_plugin("p", "ask"))
        await until(lambda: manager.stats().calls == 1)
        await manager.close(drain_ms=20_000)
        assert await call == 5


@live
async def test_a_suspended_plugin_is_frozen_and_goes_on(tmp_path: Path) -> None:
    """Its process runs no instruction, keeps its memory, and calls wait; after resume() all is as before."""
    async with supervised(tmp_path) as (manager, story):
        plugin = manager.plugin("p")
        await plugin.call("keep", 1)
        pid = plugin.pid
        assert pid is not None
        await plugin.suspend()
        await plugin.suspend()
        assert plugin.state is PluginState.SUSPENDED
        stopped = (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP, psutil.STATUS_SLEEPING)
        assert psutil.Process(pid).status() in stopped
        with pytest.raises(Timeout) as late:
            await plugin.call("keep", 1, timeout_ms=100)
        assert late.value.retryable
        waiting = asyncio.create_task(plugin.call("keep", 1))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await plugin.resume()
        assert await waiting == 2
        assert plugin.pid == pid
        assert story.states()[:1] + [
            (await story.until("state", new=new)).data["new"] for new in ("ready", "suspended", "ready")
        ] == ["ready", "suspended", "ready"]


@live
async def test_a_call_under_way_keeps_its_deadline_while_it_is_frozen(tmp_path: Path) -> None:
    """The clock of the caller does not stop: its frozen process is killed, and another one serves later."""
    async with supervised(tmp_path) as (manager, _):
        plugin = manager.plugin("p")
        call = asyncio.create_task(plugin.call("nap", 60, timeout_ms=300))
        await until(lambda: manager.stats().calls == 1)
        await plugin.suspend()
        with pytest.raises(Timeout):
            await call
        assert plugin.state is PluginState.SUSPENDED
        await plugin.resume()
        assert await plugin.call("echo", 1) == 1


@live
async def test_a_frozen_plugin_can_be_killed_and_unloaded(tmp_path: Path) -> None:
    """Neither a signal from outside nor unloading waits for anybody to thaw it."""
    async with supervised(tmp_path) as (manager, story):
        plugin = manager.plugin("p")
        await plugin.suspend()
        os.kill(plugin.pid or 0, signal.SIGKILL)
        await story.until("crashed")
        await plugin.resume()
        assert await plugin.call("echo", 1) == 1
        await plugin.suspend()
        await asyncio.wait_for(plugin.unload(), 20)


@live
async def test_what_cannot_be_suspended_says_so(tmp_path: Path) -> None:
    """In quarantine there is nothing to freeze."""
    rules = "max_failures: 0, max_crashes: 1, quarantine: none"
    async with supervised(tmp_path, rules) as (manager, _):
        plugin = manager.plugin("p")
        with pytest.raises(ExecutionFailed):
            await plugin.call("die")
        with pytest.raises(Unavailable, match="it is quarantined"):
            await plugin.suspend()


@live
async def test_every_change_of_state_is_in_the_table(tmp_path: Path) -> None:
    """Asserted where states change; a life with many of them is told without a gap."""
    rules = "max_failures: 0, max_crashes: 2, quarantine: none, backoff: 0, idle_timeout: 100ms, lazy: true"
    file = tmp_path / "policy.yaml"
    file.write_text(f"extends: maximum\nsupervision: {{{rules}}}\n")
    async with PluginManager(policy=file) as manager:
        story = Story(manager)
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        plugin = manager.plugin("p")
        await plugin.call("echo", 1)
        await story.until("state", new="idle", old="ready")
        await plugin.suspend()
        await plugin.resume()
        for _ in range(2):
            with pytest.raises(ExecutionFailed):
                await plugin.call("die")
        await plugin.resume()
        await plugin.call("echo", 1)
        await plugin.unload(drain_ms=1000)
        await story.until("unloaded")
    changes = [event.data for event in story.told if event.kind == "state"]
    assert [one["new"] for one in changes[:-1]] == [one["old"] for one in changes[1:]]
    assert story.states() == [
        *("idle", "starting", "ready", "idle", "suspended", "idle", "starting", "ready", "starting", "ready"),
        *("quarantined", "starting", "ready", "draining", "unloaded"),
    ]
