"""The machine fails the host: frozen launchers, no descriptor, no process, no memory, no disk, no cgroup."""

import ast
import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from supervised import supervised, until, write_plugin
from support import leftovers, live

from frys_runtime import Crashed, Plugin, PluginError, PluginManager, PluginState, launcher

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

ROOT = Path(__file__).resolve().parents[2]


def _fork_server() -> psutil.Process:
    (server,) = [server for keeper in psutil.Process().children() for server in keeper.children()]
    return server


def _is_gone(server: psutil.Process) -> bool:
    return not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


@live
async def test_a_frozen_launcher_that_reaps_nobody_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of it dies and it does not say so: it is ended, and what it served comes back."""
    monkeypatch.setattr(launcher, "_REAP_SECONDS", 0.2)
    async with supervised(tmp_path) as (manager, story):
        server = _fork_server()
        server.suspend()
        os.kill(manager.plugin("p").pid or 0, signal.SIGKILL)
        await story.until("crashed")
        assert await manager.execute_plugin("p", "echo", 1) == 1
        assert _is_gone(server)
        assert manager.plugin("p").circuit == "closed"


@live
async def test_a_frozen_launcher_that_forks_nobody_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load waits a bounded time for it, and then finds another one."""
    monkeypatch.setattr(launcher, "_FORK_SECONDS", 0.5)
    async with PluginManager(spares=0) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        server = _fork_server()
        server.suspend()
        assert await manager.load_plugin(write_plugin(tmp_path, "q")) == "q"
        assert await manager.execute_plugin("q", "echo", 1) == 1
        assert await manager.execute_plugin("p", "echo", 1) == 1
        assert _is_gone(server)


@live
async def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """At a load and at a restart: a typed error, nothing leaked, and all is well once there are some."""
    async with PluginManager(spares=0) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        other = write_plugin(tmp_path, "q")
        with _without_holes():
            failed, loaded = 0, ""
            while not loaded:
                before = _descriptors()
                with _room_for(failed + 1):
                    try:
                        loaded = await manager.load_plugin(other)
                    except PluginError:
                        failed += 1
                        assert _descriptors() == before, f"with room for {failed}"
            assert failed > 5
            before = _descriptors()
            with _room_for(-3):
                with pytest.raises(Crashed):
                    await manager.execute_plugin("q", "die")
                with pytest.raises(PluginError):
                    await manager.execute_plugin("q", "echo", 1)
            assert await manager.execute_plugin("q", "echo", 1) == 1
            assert len(_descriptors()) == len(before)


def _descriptors() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1]  # without that of the look itself


@contextmanager
def _without_holes() -> Iterator[None]:
    """Every number below the highest descriptor is taken, so that a limit is a count."""
    highest, fillers = _descriptors()[-1], [os.open("/dev/null", os.O_RDONLY)]
    while fillers[-1] < highest:
        fillers.append(os.open("/dev/null", os.O_RDONLY))
    try:
        yield
    finally:
        for fd in fillers:
            os.close(fd)


@contextmanager
def _room_for(count: int) -> Iterator[None]:
    """So many more descriptors may be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_descriptors()[-1] + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.needs_root
@pytest.mark.needs_cgroup_v1
@live
async def test_the_kernel_gives_no_process(tmp_path: Path) -> None:
    """The launcher lives on and says why; its plugins do not notice; later loads work."""
    group = Path(f"/sys/fs/cgroup/pids/frys-test-{os.getpid()}")
    group.mkdir()
    try:
        async with PluginManager(spares=0) as manager:
            await manager.load_plugin(write_plugin(tmp_path, "p"))
            server = _fork_server()
            home = Path("/sys/fs/cgroup/pids", _pids_group(server.pid).lstrip("/"))
            (group / "cgroup.procs").write_text(str(server.pid))
            (group / "pids.max").write_text("1")
            with pytest.raises(PluginError, match=r"could not fork: .*Resource temporarily unavailable"):
                await manager.load_plugin(write_plugin(tmp_path, "q"))
            assert await manager.execute_plugin("p", "echo", 1) == 1
            (home / "cgroup.procs").write_text(str(server.pid))
            assert await manager.load_plugin(tmp_path / "q") == "q"
            assert server.is_running()
    finally:
        group.rmdir()


def _pids_group(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line.split(":", 2)[2] for line in lines if line.split(":")[1] == "pids")


@pytest.mark.needs_cgroup
@live
async def test_somebody_removes_the_cgroups(tmp_path: Path) -> None:
    """An empty tree may be tidied away by another program; the next plugin finds a new one."""
    async with PluginManager(spares=0) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "p"))
        await manager.unload_plugin("p")
        tree = manager._premises.tree
        assert tree is not None
        for folder in tree.dirs():
            os.rmdir(folder)
        await manager.load_plugin(tmp_path / "p")
        assert await manager.execute_plugin("p", "echo", 1) == 1


BIG = """
import asyncio, resource, sys
from frys_runtime import CommunicationError, PluginManager

async def main():
    async with PluginManager(policy=sys.argv[2]) as manager:
        await manager.load_plugin(sys.argv[1])
        assert await manager.execute_plugin("p", "big", 1) == b"x"
        now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + (48 << 20), now + (48 << 20)))
        for _ in range(2):
            try:
                await manager.execute_plugin("p", "big", 100 << 20)
            except CommunicationError as error:
                print(error, flush=True)
            assert await manager.execute_plugin("p", "big", 2) == b"xx"
        assert manager.stats().violations == 0

asyncio.run(main())
"""


def test_the_host_has_no_memory_for_an_answer(tmp_path: Path) -> None:
    """The caller is told; the plugin is not blamed, and it and the host go on."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {memory: 512MiB, output: 256MiB}\n")
    plugin = write_plugin(tmp_path, "p", "def big(size):\n    return b'x' * size\n")
    command = [sys.executable, "-c", BIG, plugin, policy]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the host has no memory for its answer; its process was replaced") == 2


async def _refused(plugin: Plugin, key: str) -> str:
    try:
        await plugin.call("put", key, 4000)
    except PluginError as error:
        return str(error)
    return ""


@pytest.mark.needs_root
@live
async def test_the_disk_is_full(tmp_path: Path) -> None:
    """Stored values are refused, and nothing else fails: loads, calls, restarts."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    await asyncio.to_thread(subprocess.run, mount, check=True)
    try:
        policy = tmp_path / "policy.yaml"
        policy.write_text("extends: maximum\nhost_functions: [kv]\nlimits: {kv: 64MiB, messages: 1000/s}\n")
        source = "import frys\ndef put(key, size):\n    frys.kv.set(key, bytes(size))\n"
        source += "def die():\n    import os\n    os.abort()\n"
        async with PluginManager(policy=policy, state_dir=disk / "state") as manager:
            plugin = manager.plugin(await manager.load_plugin(write_plugin(tmp_path, "p", source)))
            await plugin.call("put", "a", 10)
            (disk / "ballast").write_bytes(b"")
            with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            refused = [await _refused(plugin, f"b{number}") for number in range(100)]
            assert "full" in refused[-1]
            with pytest.raises(Crashed):
                await plugin.call("die")
            with pytest.raises(PluginError, match="full"):
                await plugin.call("put", "c", 4000)
            await manager.load_plugin(write_plugin(tmp_path, "q"))
            assert await manager.execute_plugin("q", "echo", 1) == 1
            (disk / "ballast").unlink()
            await plugin.call("put", "c", 10)
            await until(lambda: plugin.state is PluginState.READY)
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", disk], check=True)


_WALL_CLOCK = {
    "frys_runtime/events.py": "when an event happened",
    "frys_runtime/audit.py": "when a record was written",
    "frys_runtime/traffic.py": "when a message came",
    "launchers/wasm_abi/assemblyscript.py": "the clock that a plugin sees",
    "launchers/wasm_abi/bindgen_imports.py": "the same",
    "launchers/wasm_files.py": "when a plugin's file was changed",
    "launchers/wasi/cli.py": "the clock that a component sees",
    "launchers/wasi/files.py": "when a component's file was changed",
    "frys_runtime/signing.py": "when a package was signed, in the signer's own words",
    "frys_runtime/marketplace/planning.py": "how long a version is out, by the registry's signed date",
    "frys_runtime/registry/attacks.py": "what this machine's clock shows, in the words of an error",
    "frys_runtime/registry/repository.py": "whether signed metadata has expired",
    "frys_runtime/cli/trust.py": "whether a root or a certificate has",
}


def test_only_monotonic_clocks_decide():
    """A clock that is set while plugins run changes no deadline: nobody reads it but what dates something."""
    readers = set()
    for folder in ("frys_runtime", "launchers"):
        for path in (ROOT / folder).rglob("*.py"):
            if "registry_server" in path.parts:
                continue  # what it signs is valid until a date
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    name = f"{node.value.id}.{node.attr}"
                    if name in ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow"):
                        readers.add(str(path.relative_to(ROOT)))
    assert readers <= _WALL_CLOCK.keys()


FROZEN = """
import asyncio, os, signal, sys
from frys_runtime import PluginManager

async def main():
    async with PluginManager() as manager:
        plugin = manager.plugin(await manager.load_plugin(sys.argv[1]))
        await plugin.suspend()
        print(plugin.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_a_killed_host_takes_its_frozen_plugins_along(tmp_path: Path) -> None:
    """Nobody is left to thaw them, and they die all the same."""
    command = [sys.executable, "-c", FROZEN, write_plugin(tmp_path, "p")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        frozen = psutil.Process(int(host.stdout.readline()))
        assert host.wait(60) == -9
    frozen.wait(20)
    assert leftovers(host.pid) == []
