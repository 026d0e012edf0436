"""Several processes of one plugin: how many, which one serves, what is shared."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from supervised import RULES, supervised, until, write_plugin
from support import live

from frys_runtime import PluginManager, SecurityViolation, Timeout, Unavailable

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]


@live
async def test_processes_are_started_as_calls_need_them(tmp_path: Path) -> None:
    """One at first; calls at the same time are served at the same time, by as many as there may be."""
    async with supervised(tmp_path, f"{RULES}, instances: 3") as (manager, _):
        plugin = manager.plugin("p")
        assert len(plugin.pids) == 1
        await manager.execute_plugin("p", "echo", 1)
        assert len(plugin.pids) == 1
        pids = await asyncio.gather(*(manager.execute_plugin("p", "nap", 0.5) for _ in range(5)))
        assert len(plugin.pids) == 3
        assert len(pids) == 5
        usage = plugin.resource_usage()
        assert (usage.processes, usage.calls, usage.restarts) == (3, 6, 0)
        assert manager.stats().restarts == 0


@pytest.mark.parametrize(
    ("instances", "asked", "number"),
    [
        ("up to 1", 4, 1),
        ("up to 3", 4, 3),
        ("up to 3", 2, 2),
        ("up to 3", None, 1),
        ("2", 4, 2),
        ("2", None, 2),
    ],
)
@live
async def test_who_decides_how_many(instances: str, asked: int | None, number: int, tmp_path: Path) -> None:
    """A plugin asks, up to what its policy lets it; a plain number in the policy decides."""
    metadata = {"instances": asked} if asked else {}
    async with supervised(tmp_path, f"{RULES}, instances: {instances}", **metadata) as (manager, _):
        await asyncio.gather(*(manager.execute_plugin("p", "nap", 0.3) for _ in range(4)))
        assert len(manager.plugin("p").pids) == number


@live
async def test_a_full_queue_refuses_and_says_that_trying_again_helps(tmp_path: Path) -> None:
    """Calls beyond it fail at once; those in it are served in order."""
    async with supervised(tmp_path, f"{RULES}, max_queue: 2") as (manager, _):
        running = asyncio.create_task(manager.execute_plugin("p", "nap", 0.4))
        await until(lambda: manager.stats().calls == 1)
        waiting = [asyncio.create_task(manager.execute_plugin("p", "keep", n)) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="2 calls wait already") as refused:
            await manager.execute_plugin("p", "keep", 9)
        assert refused.value.retryable
        assert await asyncio.gather(running, *waiting) == [1, 1, 2]


@live
async def test_a_deadline_counts_the_wait_for_a_process(tmp_path: Path) -> None:
    """Who waits too long is told that nothing was begun; the call that ran is not disturbed."""
    async with supervised(tmp_path) as (manager, _):
        running = asyncio.create_task(manager.execute_plugin("p", "nap", 0.6))
        await until(lambda: manager.stats().calls == 1)
        with pytest.raises(Timeout, match="never begun") as late:
            await manager.execute_plugin("p", "keep", 1, timeout_ms=100)
        assert (late.value.retryable, late.value.waiting) == (True, True)
        assert await running == 1
        assert await manager.execute_plugin("p", "keep", 1) == 1


@live
async def test_one_of_several_dies_alone(tmp_path: Path) -> None:
    """The calls of the others go on, the plugin stays ready, and the dead one is replaced at once."""
    async with supervised(tmp_path, f"{RULES}, instances: 2") as (manager, story):
        plugin = manager.plugin("p")
        await asyncio.gather(*(plugin.call("nap", 0.2) for _ in range(2)))
        first, second = plugin.pids
        calls = [asyncio.create_task(plugin.call("nap", 0.4)) for _ in range(2)]
        await until(lambda: manager.stats().calls == 4)
        os.kill(first, signal.SIGKILL)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(map(str, results)) == [
            "1",
            "p.nap failed: its process was killed from outside (SIGKILL)",
        ]
        await story.until("restarted")
        assert second in plugin.pids
        assert first not in plugin.pids
        assert plugin.state == "ready"
        assert "starting" not in story.states()


FORBIDDEN = "import os\n\ndef bad():\n    try:\n        os.fork()\n    except OSError:\n        return 1\n"


@live
async def test_violations_count_for_all_instances_together(tmp_path: Path) -> None:
    """Two processes, one count: it is disabled with all of them."""
    policy = "on_violation: deny\nmax_violations: 3\n"
    rules = f"{RULES}, instances: 2"
    async with supervised(tmp_path, rules, policy=policy, source=FORBIDDEN) as (manager, story):
        results = await asyncio.gather(
            *(manager.execute_plugin("p", "bad") for _ in range(4)), return_exceptions=True
        )
        assert sum(isinstance(result, SecurityViolation) for result in results) >= 1
        await story.until("disabled")
        with pytest.raises(SecurityViolation, match="disabled"):
            await manager.execute_plugin("p", "bad")
        await until(lambda: manager.plugin("p").pids == ())


CALLER = """
import frys

def ask(line):
    return frys.call(line[0], "ask", line[1:]) if line else "end"
"""


@live
async def test_a_call_back_is_served_by_another_instance(tmp_path: Path) -> None:
    """With two instances p may call q, and q may call p; a third time round it would wait for itself."""
    exports = {"ask": {"params": ["list<string>"], "returns": "string"}}
    policy = "messages: {call: {'*': ['*']}}"
    rules = f"{RULES}, instances: 2"
    async with supervised(tmp_path, rules, policy=policy, source=CALLER, exports=exports) as (manager, _):
        await manager.load_plugin(write_plugin(tmp_path, "q", CALLER, exports=exports))
        assert await manager.execute_plugin("p", "ask", ["q", "p", "q"]) == "end"
        for line in (["p", "p"], ["q", "p", "q", "p"]):
            with pytest.raises(Exception, match="it would wait for itself"):
                await manager.execute_plugin("p", "ask", line)
        assert manager.stats().restarts == 0


@live
async def test_close_with_several_instances_in_every_condition(tmp_path: Path) -> None:
    """One busy, one being started, calls in the queue: close returns and leaves nothing."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"extends: maximum\nsupervision: {{{RULES}, instances: 4}}\n")
    manager = PluginManager(policy=file)
    async with manager:
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        calls = [asyncio.create_task(manager.execute_plugin("p", "nap", 20)) for _ in range(8)]
        await asyncio.sleep(0.02)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, Exception) for result in results)
