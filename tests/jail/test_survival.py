"""Processes die in every way; nobody else notices, and nothing is left behind."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support import leftovers, live, processes

from frys_runtime import ExecutionFailed, PluginError, PluginManager, SandboxConfig, Timeout

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

SCRIPT = """\
function echo(value) { return value }
function spin() { for (;;) {} }
async function never() { await new Promise(() => {}) }
"""
SLEEPER = "import time\n\ndef echo(value):\n    return value\n\ndef nap(seconds):\n    time.sleep(seconds)\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A JavaScript plugin."""
    path = tmp_path / "script.js"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    """A Python plugin that can sleep."""
    path = tmp_path / "sleeper.py"
    path.write_text(SLEEPER)
    return path


async def _until_busy() -> None:
    await asyncio.sleep(0.1)


def _launchers() -> list[psutil.Process]:
    """The fork servers of this process: the children of its keepers."""
    own = psutil.Process()
    return [server for keeper in own.children() for server in keeper.children()]


@live
async def test_a_killed_plugin_fails_its_caller_at_once_and_comes_back(sleeper: Path) -> None:
    """Kill -9 in mid-call: that caller gets an error, the next call an answer, the neighbour nothing."""
    async with PluginManager() as manager:
        victim, neighbour = (
            await manager.load_plugin(sleeper),
            await manager.load_plugin(sleeper, plugin_id="n"),
        )
        call = asyncio.create_task(manager.execute_plugin(victim, "nap", 20))
        other = asyncio.create_task(manager.execute_plugin(neighbour, "nap", 0.5))
        await _until_busy()
        os.kill(manager.plugin(victim).pid or 0, signal.SIGKILL)
        with pytest.raises(ExecutionFailed, match="SIGKILL"):
            await asyncio.wait_for(call, 5)
        assert await manager.execute_plugin(victim, "echo", 1) == 1
        assert await other is None
        assert manager.resource_usage(neighbour).restarts == 0


@live
async def test_a_killed_launcher_is_replaced_and_its_plugins_come_back(sleeper: Path, script: Path) -> None:
    """Its plugins die with it, their callers are told at once, and other formats do not notice."""
    async with PluginManager() as manager:
        victim = await manager.load_plugin(sleeper)
        idle = await manager.load_plugin(sleeper, plugin_id="idle")
        call = asyncio.create_task(manager.execute_plugin(victim, "nap", 20))
        await _until_busy()
        for server in _launchers():
            server.kill()
        with pytest.raises(PluginError):
            await asyncio.wait_for(call, 5)
        assert await manager.execute_plugin(victim, "echo", 1) == 1
        assert await manager.execute_plugin(idle, "echo", 2) == 2
        other = await manager.load_plugin(script)
        assert await manager.execute_plugin(other, "echo", 3) == 3


@live
async def test_a_killed_keeper_takes_its_launcher_along(sleeper: Path) -> None:
    """The process above the fork server dies; everything below follows and is replaced."""
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(sleeper)
        for keeper in psutil.Process().children():
            keeper.kill()
        await asyncio.sleep(0.2)
        assert await manager.execute_plugin(plugin, "echo", 1) == 1


@live
async def test_cancelling_the_task_ends_the_call(sleeper: Path) -> None:
    """The process that runs the cancelled call is killed; the next call finds a fresh one."""
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(sleeper)
        call = asyncio.create_task(manager.execute_plugin(plugin, "nap", 20))
        await _until_busy()
        before = manager.plugin(plugin).pid
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await manager.execute_plugin(plugin, "echo", 1) == 1
        assert manager.plugin(plugin).pid != before


@live
async def test_cancelling_a_call_that_waits_does_not_disturb_the_one_that_runs(sleeper: Path) -> None:
    """One call at a time: a waiting call can be cancelled without a kill."""
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(sleeper)
        running = asyncio.create_task(manager.execute_plugin(plugin, "nap", 0.4))
        waiting = asyncio.create_task(manager.execute_plugin(plugin, "echo", 1))
        await _until_busy()
        waiting.cancel()
        assert await running is None
        assert manager.resource_usage(plugin).restarts == 0


@live
async def test_a_promise_that_never_settles_and_a_loop_end(script: Path) -> None:
    """An engine that can interrupt itself does so; either way the caller is told."""
    limits = SandboxConfig(max_execution_time=400, max_cpu_time=5000)
    async with PluginManager(resource_limits=limits) as manager:
        plugin = await manager.load_plugin(script)
        with pytest.raises(Timeout):
            await manager.execute_plugin(plugin, "spin")
        with pytest.raises((Timeout, ExecutionFailed)):
            await manager.execute_plugin(plugin, "never")
        assert await manager.execute_plugin(plugin, "echo", 1) == 1


@live
async def test_an_exception_in_the_host_leaves_nothing(sleeper: Path) -> None:
    """Leaving the block by an exception closes like leaving it at its end."""
    manager = PluginManager()
    with pytest.raises(ZeroDivisionError):
        async with manager:
            await manager.execute_plugin(await manager.load_plugin(sleeper), "echo", 1 // 0)
    with pytest.raises(PluginError, match="closed"):
        manager.list_plugins()


@live
async def test_close_during_calls_and_loads(sleeper: Path) -> None:
    """Whoever is still waiting gets an error; close returns and leaves nothing."""
    manager = await PluginManager.builder().build()
    plugin = await manager.load_plugin(sleeper)
    call = asyncio.create_task(manager.execute_plugin(plugin, "nap", 20))
    loads = [asyncio.create_task(manager.load_plugin(sleeper, plugin_id=f"p{index}")) for index in range(5)]
    await asyncio.sleep(0.01)
    await asyncio.wait_for(manager.close(), 20)
    results = await asyncio.gather(call, *loads, return_exceptions=True)
    assert all(isinstance(result, (PluginError, str)) for result in results)
    assert isinstance(results[0], PluginError)


HOST = """
import asyncio, sys
from frys_runtime import PluginManager

async def main():
    async with PluginManager() as manager:
        for index in range(3):
            await manager.load_plugin(sys.argv[1], plugin_id=f"p{index}")
        await manager.load_plugin(sys.argv[2])
        print("ready", flush=True)
        await manager.execute_plugin("p0", "nap", 60)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_host_leaves_nothing(how: signal.Signals, sleeper: Path, script: Path) -> None:
    """No process, no cgroup: the kernel and the keepers clean up after kill -9."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST, sleeper, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
        below = psutil.Process(host.pid).children(recursive=True)
        assert len(below) >= 8
        host.send_signal(how)
        host.wait(10)
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
    assert leftovers(host.pid) == []


@live
async def test_two_hosts_do_not_disturb_each_other(sleeper: Path, script: Path) -> None:
    """A second host process loads, is killed, and is swept up, while the first goes on."""
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(sleeper)
        host = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOST, sleeper, script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert host.stdout is not None
        assert await host.stdout.readline() == b"ready\n"
        host.kill()
        await host.communicate()
        assert await manager.execute_plugin(plugin, "echo", 1) == 1
        assert await asyncio.to_thread(leftovers, host.pid) == []


def test_no_mount_and_no_temporary_file_appears(sleeper: Path, tmp_path: Path) -> None:
    """The host's mount table and its folder for temporary files are the same after a run."""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    before = Path("/proc/self/mountinfo").read_text()
    code = HOST.replace('await manager.execute_plugin("p0", "nap", 60)', "pass")
    subprocess.run([sys.executable, "-c", code, sleeper, sleeper], check=True, env=environment, timeout=60)
    assert Path("/proc/self/mountinfo").read_text() == before
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_manager_works_on_uvloop(sleeper: Path) -> None:
    """The faster loop is an extra; the lane works on it unchanged."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with PluginManager(resource_limits=SandboxConfig(max_execution_time=500)) as manager:
            plugin = await manager.load_plugin(sleeper)
            assert await manager.execute_plugin(plugin, "echo", b"x" * (1 << 20)) == b"x" * (1 << 20)
            with pytest.raises(Timeout):
                await manager.execute_plugin(plugin, "nap", 20)
            assert await asyncio.gather(*(manager.execute_plugin(plugin, "echo", n) for n in range(50))) == [
                *range(50)
            ]

    before = processes(os.getpid())
    uvloop.run(main())
    assert leftovers(os.getpid(), before) == []


@live
async def test_children_do_not_share_randomness(tmp_path: Path) -> None:
    """Processes forked from one server draw different numbers, in Python and in JavaScript."""
    python, javascript = tmp_path / "dice.py", tmp_path / "dice.js"
    python.write_text("import random\n\ndef roll():\n    return random.random()\n")
    javascript.write_text("function roll() { return Math.random() }\n")
    async with PluginManager() as manager:
        for path in (python, javascript):
            plugins = [await manager.load_plugin(path, plugin_id=f"{path.suffix}{n}"[1:]) for n in range(4)]
            assert len({await manager.execute_plugin(plugin, "roll") for plugin in plugins}) == 4


@live
async def test_the_hosts_environment_is_not_in_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the variables nor a secret in the host's memory can be found from inside."""
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    spy = tmp_path / "spy.py"
    spy.write_text("import os\n\ndef look():\n    return dict(os.environ)\n")
    async with PluginManager() as manager:
        seen = await manager.execute_plugin(await manager.load_plugin(spy), "look")
        assert isinstance(seen, dict)
        assert "SECRET_TOKEN" not in seen
        assert "hunter2" not in str(seen)
