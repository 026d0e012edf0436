"""What chaos found, each made to happen on purpose."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import wasmtime
from supervised import RULES, Story, supervised, until, write_plugin
from support import leftovers, live

from frys_runtime import (
    CommunicationError,
    Crashed,
    ExecutionFailed,
    PluginError,
    PluginManager,
    Timeout,
    fork_server,
    launcher,
)
from frys_runtime.launcher import Child, Launcher
from frys_runtime.loader import Bundle, PluginLoader

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]


def _fork_server() -> psutil.Process:
    (server,) = [server for keeper in psutil.Process().children() for server in keeper.children()]
    return server


def _first_child(pid: int) -> psutil.Process:
    """The first child of a process, from the moment in which it is there."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (there := children.read_text().split()):
        pass
    return psutil.Process(int(there[0]))


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
async def test_a_load_is_given_up_twice_while_a_thread_reads_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread brings something for which nobody waits at all."""
    load_now = PluginLoader.load

    def slowly(loader: PluginLoader, *args: Any, **more: Any) -> Bundle:
        time.sleep(0.2)
        return load_now(loader, *args, **more)

    monkeypatch.setattr(PluginLoader, "load", slowly)
    async with PluginManager(spares=0) as manager:
        load = asyncio.create_task(manager.load_plugin(write_plugin(tmp_path, "p")))
        for _ in range(3):
            await asyncio.sleep(0.01)
            load.cancel()
        with pytest.raises(asyncio.CancelledError):
            await load
        assert await manager.load_plugin(tmp_path / "p") == "p"


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


@live
async def test_the_end_waits_for_no_trial_of_the_machine_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keeper's first child, stopped, holds the launcher's socket as well; it dies with its keeper."""
    monkeypatch.setattr(launcher, "_START_SECONDS", 10_000)
    script = tmp_path / "q.js"
    script.write_text("function echo(value) { return value }")
    async with PluginManager() as manager:
        load = asyncio.create_task(manager.load_plugin(script))
        await until(lambda: len(psutil.Process().children()) == 1)
        (keeper,) = psutil.Process().children()
        _first_child(keeper.pid).suspend()
        async with asyncio.timeout(60):
            await manager.close()
        with pytest.raises(PluginError):
            await load


@live
async def test_the_end_waits_for_no_suspend_that_waits_for_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draining has its deadline also where it would have to wait before it can begin."""
    monkeypatch.setattr(launcher, "_FORK_SECONDS", 10_000)
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"extends: maximum\nsupervision: {{{RULES}, idle_timeout: 50ms}}\n")
    async with PluginManager(policy=policy, spares=0) as manager:
        story = Story(manager)
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        await story.until("state", new="idle")
        _fork_server().suspend()
        call = asyncio.create_task(manager.execute_plugin("p", "echo", 1))
        await story.until("state", new="starting")
        suspending = asyncio.create_task(manager.plugin("p").suspend())
        await story.until("state", new="suspended")
        async with asyncio.timeout(60):
            await manager.close(drain_ms=100)
        with pytest.raises(PluginError):
            await call
        await asyncio.wait((suspending,))


@live
async def test_two_wait_for_the_same_calls_and_one_gives_up_first(tmp_path: Path) -> None:
    """A version on its way out has more time than the manager's end, which ends it all the same."""
    async with supervised(tmp_path) as (manager, _):
        call = asyncio.create_task(manager.execute_plugin("p", "nap", 20))
        await asyncio.sleep(0.1)
        about = tmp_path / "p" / "plugin.json"
        about.write_text(about.read_text().replace("1.0.0", "1.0.1"))
        await manager.reload_plugin("p", drain_ms=3_600_000)
        async with asyncio.timeout(60):
            await manager.close(drain_ms=100)
        with pytest.raises(CommunicationError):
            await call


@live
async def test_the_end_says_what_it_does_not_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A launcher whose end nobody can see is given up, by name."""
    monkeypatch.setattr(fork_server, "END_SECONDS", 0.2)
    protect, kept = fork_server._protect, []

    def keep_its_end(theirs: socket.socket) -> None:
        kept.append(theirs.dup())
        protect(theirs)

    monkeypatch.setattr(fork_server, "_protect", keep_its_end)
    async with asyncio.timeout(60):
        async with PluginManager() as manager:
            await manager.load_plugin(write_plugin(tmp_path, "p"))
    assert "the launcher for python was killed and is not gone after 0.2 s" in caplog.text
    for end in kept:
        end.close()


@live
async def test_a_start_is_given_up_twice(tmp_path: Path) -> None:
    """What it had is given back all the same."""
    async with PluginManager(spares=0) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        server = _fork_server()
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
        for number in range(50):  # until one is caught before it has loaded
            known = set(children.read_text().split())
            load = asyncio.create_task(manager.load_plugin(write_plugin(tmp_path, f"q{number}")))
            while not (born := set(children.read_text().split()) - known):  # noqa: ASYNC110 - /proc tells nobody
                await asyncio.sleep(0)
            parked = psutil.Process(int(born.pop()))
            parked.suspend()
            await asyncio.sleep(0.1)  # until its number is known
            if not load.done():
                break
            parked.resume()
        server.suspend()
        for _ in range(4):
            load.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await load
        server.resume()


TRAPS = """
(module
  (memory (export "memory") 1)
  (func (export "one") (result i32) i32.const 1)
  (func (export "far") (result i32) (i32.load (i32.const 70000))))
"""


@live
async def test_somebody_sends_an_engine_the_signal_of_a_fault(tmp_path: Path) -> None:
    """It is no forbidden act and no crash: the plugin serves on, and its traps are traps."""
    plugin = tmp_path / "traps.wasm"
    plugin.write_bytes(wasmtime.wat2wasm(TRAPS))
    async with PluginManager() as manager:
        await manager.load_plugin(plugin)
        pid = manager.plugin("traps").pid
        assert pid
        for number in (signal.SIGSEGV, signal.SIGILL):
            os.kill(pid, number)
            await asyncio.sleep(1.1)  # one that comes sooner again is a crash
            with pytest.raises(ExecutionFailed, match="out of bounds"):
                await manager.execute_plugin("traps", "far")
        assert await manager.execute_plugin("traps", "one") == 1
        assert manager.plugin("traps").pid == pid
        assert manager.stats().violations == 0


@live
async def test_an_engine_faults_again_at_once(tmp_path: Path) -> None:
    """That is a crash, told as such and not as a forbidden act."""
    plugin = tmp_path / "traps.wasm"
    plugin.write_bytes(wasmtime.wat2wasm(TRAPS))
    async with PluginManager() as manager:
        story = Story(manager)
        await manager.load_plugin(plugin)
        for _ in range(2):
            os.kill(manager.plugin("traps").pid or 0, signal.SIGSEGV)
            await asyncio.sleep(0.1)
        await story.until("crashed", reason="its engine crashed (SIGSEGV)")
        assert await manager.execute_plugin("traps", "one") == 1
        assert manager.stats().violations == 0


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


BORN = """
import asyncio, os, signal, sys
from pathlib import Path
from frys_runtime.launcher import Launcher, LauncherKind

async def main():
    keeper = Launcher(LauncherKind("python"), None)._server._process.pid
    stands = keeper
    while sys.argv[1] == "child" and stands == keeper:
        stands = int(next(iter(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()), keeper))
    os.kill(stands, signal.SIGSTOP)
    print(keeper, stands, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("which", ["keeper", "child"])
def test_a_host_is_killed_while_its_first_launcher_is_stopped_at_birth(which: str) -> None:
    """Also a keeper, or its first child, that has not come to ask for a parent-death signal ends."""
    command = [sys.executable, "-c", BORN, which]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    below = {int(pid) for pid in done.stdout.split()}
    until_seconds = time.monotonic() + 20
    while time.monotonic() < until_seconds and any(map(_runs, below)):
        time.sleep(0.02)
    left = [pid for pid in below if _runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def _runs(pid: int) -> bool:
    """Whether a process is there and not only its number, which who adopted it may keep for a while."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


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
