"""What chaos found, each made to happen on purpose."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from supervised import RULES, supervised, until, write_plugin
from support import leftovers, live

from frys_runtime import Crashed, PluginError, PluginManager, Timeout, launcher
from frys_runtime.launcher import Child, Launcher

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]


def _fork_server() -> psutil.Process:
    (server,) = [server for keeper in psutil.Process().children() for server in keeper.children()]
    return server


def _kill_and_let_the_loop_find_both(pid: int, also: Callable[[], object]) -> None:
    """End a process, and have the event loop do something else in the very turn in which it sees that."""
    os.kill(pid, signal.SIGKILL)
    asyncio.get_running_loop().call_later(0.01, also)
    time.sleep(0.2)  # a host that stands still


@live
async def test_a_caller_gives_up_just_when_the_process_dies(tmp_path: Path) -> None:
    """The plugin comes back; nobody is left to say that its process is gone."""
    async with supervised(tmp_path) as (manager, _):
        call = asyncio.create_task(manager.execute_plugin("p", "nap", 20))
        await asyncio.sleep(0.1)
        _kill_and_let_the_loop_find_both(manager.plugin("p").pid or 0, call.cancel)
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await manager.execute_plugin("p", "echo", 1, timeout_ms=5000) == 1


@live
async def test_a_caller_gives_up_while_the_end_is_being_explained(tmp_path: Path) -> None:
    """The place of the dead process is nobody's until that is done; two restarts would be one too many."""
    async with supervised(tmp_path) as (manager, story):
        server = _fork_server()
        call = asyncio.create_task(manager.execute_plugin("p", "nap", 20))
        await asyncio.sleep(0.1)
        server.suspend()  # the explanation waits for what it says
        os.kill(manager.plugin("p").pid or 0, signal.SIGKILL)
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        others = [asyncio.create_task(manager.execute_plugin("p", "echo", number)) for number in range(3)]
        await asyncio.sleep(0.1)
        server.resume()
        assert await asyncio.gather(*others) == [0, 1, 2]
        await story.until("restarted")
        assert manager.resource_usage("p").restarts == 1


@live
async def test_a_frozen_launcher_keeps_no_caller_waiting(tmp_path: Path) -> None:
    """The caller of a call whose process dies is told while the launcher still stands."""
    async with supervised(tmp_path) as (manager, _):
        server = _fork_server()
        server.suspend()
        with pytest.raises(Crashed, match="its launcher does not say how"):
            await manager.execute_plugin("p", "die")
        assert server.status() == psutil.STATUS_STOPPED
        server.resume()
        assert await manager.execute_plugin("p", "echo", 1) == 1


@live
async def test_a_parked_process_dies_unnoticed(tmp_path: Path) -> None:
    """It is not used for the next plugin, whether or not its launcher has told of its end."""
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        server, serves = _fork_server(), manager.plugin("p").pid
        await until(lambda: len(server.children()) == 2)
        await asyncio.sleep(0.1)  # until it is parked
        (parked,) = [child for child in server.children() if child.pid != serves]
        server.suspend()
        parked.kill()
        await asyncio.sleep(0.1)
        load = asyncio.create_task(manager.load_plugin(write_plugin(tmp_path, "q")))
        await asyncio.sleep(0.1)
        server.resume()
        assert await load == "q"
        assert await manager.execute_plugin("q", "echo", 1) == 1


@live
async def test_a_start_is_given_up_just_when_the_process_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor is closed, and the process ends; the next load works."""
    async with PluginManager(spares=0) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        load = asyncio.create_task(manager.load_plugin(write_plugin(tmp_path, "q")))
        spawned = Launcher._spawned

        def at_that_moment(server: Launcher, child: Child, fds: list[int]) -> None:
            spawned(server, child, fds)
            load.cancel()

        monkeypatch.setattr(Launcher, "_spawned", at_that_moment)
        with pytest.raises(asyncio.CancelledError):
            await load
        monkeypatch.undo()
        await until(lambda: len(_fork_server().children()) == 1)
        assert await manager.load_plugin(tmp_path / "q") == "q"


STATE = """
import time

def export_state():
    time.sleep(1)
    return 1

def import_state(state):
    pass

def echo(value):
    return value
"""


@live
async def test_a_deadline_counts_while_state_moves(tmp_path: Path) -> None:
    """A call that comes in the middle of a reload ends in its own time, and is not begun."""
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "p", STATE, state=True))
        reload = asyncio.create_task(manager.reload_plugin("p"))
        release = manager._loaded.deployments["p"].releases[0]
        await until(lambda: release.gate is not None)
        with pytest.raises(Timeout) as caught:
            await manager.execute_plugin("p", "echo", 1, timeout_ms=100)
        assert caught.value.waiting
        assert not reload.done()
        await reload
        assert await manager.execute_plugin("p", "echo", 1, timeout_ms=5000) == 1


@live
async def test_a_load_is_given_up_while_a_thread_reads_the_files(tmp_path: Path) -> None:
    """What the thread brings is closed, at whatever moment that is."""
    async with PluginManager(spares=0) as manager:
        plugin = write_plugin(tmp_path, "p")
        for turns in range(8):
            load = asyncio.create_task(manager.load_plugin(plugin))
            for _ in range(turns):
                await asyncio.sleep(0)
            load.cancel()
            with pytest.raises(asyncio.CancelledError):
                await load
        assert await manager.load_plugin(plugin) == "p"


@live
async def test_the_end_waits_for_nothing_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for a launcher that is being started, nor for a process that is being parked."""
    for patience in ("_START_SECONDS", "_PARK_SECONDS"):
        monkeypatch.setattr(launcher, patience, 10_000)
    async with PluginManager() as manager:
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        server, serves = _fork_server(), manager.plugin("p").pid
        await until(lambda: len(server.children()) == 2)
        (parked,) = [child for child in server.children() if child.pid != serves]
        with suppress(psutil.NoSuchProcess):
            parked.suspend()
        script = tmp_path / "q.js"
        script.write_text("function echo(value) { return value }")
        load = asyncio.create_task(manager.load_plugin(script))
        await until(lambda: len(psutil.Process().children()) == 2)
        psutil.Process().children()[1].suspend()
        async with asyncio.timeout(60):
            await manager.close()
        with pytest.raises(PluginError):
            await load


DIES_LATE = """
import os, time

def nap(seconds):
    time.sleep(seconds)

def work():
    time.sleep(0.5)
    os.abort()
"""


@live
async def test_a_second_try_has_what_is_left_of_the_time(tmp_path: Path) -> None:
    """Also where another process of the plugin is free at once."""
    exports = {"work": {"idempotent": True}}
    rules = f"{RULES}, instances: 2"
    async with supervised(tmp_path, rules, source=DIES_LATE, exports=exports) as (manager, _):
        await asyncio.gather(*(manager.execute_plugin("p", "nap", 0.1) for _ in range(2)))
        with pytest.raises(Timeout):
            await manager.execute_plugin("p", "work", timeout_ms=800)


HOST = """
import asyncio, sys
from frys_runtime import PluginManager

async def main():
    async with PluginManager() as manager:
        await manager.load_plugin(sys.argv[1])
        print("ready", flush=True)
        await manager.execute_plugin("p", "nap", 60)

asyncio.run(main())
"""


def test_a_host_is_killed_while_all_below_it_is_frozen(tmp_path: Path) -> None:
    """What stands still goes on for as long as it takes to end: nothing is left."""
    command = [sys.executable, "-c", HOST, write_plugin(tmp_path, "p")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
        below = psutil.Process(host.pid).children(recursive=True)
        for process in below:
            process.suspend()
        host.kill()
        host.wait(10)
    _, alive = psutil.wait_procs(below, timeout=10)
    for process in alive:
        process.kill()
    assert alive == []
    assert leftovers(host.pid) == []


@pytest.mark.needs_cgroup
@live
async def test_a_cgroup_waits_for_a_descriptor_of_the_host(tmp_path: Path) -> None:
    """A process ends while its host has none left: the cgroup goes when there is one again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with supervised(tmp_path) as (manager, _):
        pid = str(manager.plugin("p").pid)
        rooms = Path("/sys/fs/cgroup").rglob(f"frys-*-{os.getpid()}-*/**/cgroup.procs")
        its_own = [room.parent for room in rooms if pid in room.read_text().split()]
        assert its_own
        unloading = asyncio.create_task(manager.unload_plugin("p"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            await asyncio.sleep(0.3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await unloading
        assert not any(room.exists() for room in its_own)  # the manager has not swept yet
