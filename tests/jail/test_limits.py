"""Every limit ends in its own typed error with its numbers, and the next call finds a fresh instance."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support import live

from frys_runtime import IsolationLevel, PluginManager, ResourceLimitExceeded, SandboxConfig, Timeout

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]

SOURCE = """
import os, threading, time

def memory():
    kept = []
    while True:
        kept.append(bytearray(1 << 20))

def cpu():
    while True:
        pass

def cpu_in_children():
    for _ in range(4):
        if not os.fork():
            while True:
                pass
    while True:
        time.sleep(1)

def sleep():
    time.sleep(60)

def open_files():
    kept = []
    while True:
        kept.append(os.open("/dev/null", os.O_RDONLY))

def file_size():
    with open("/tmp/large", "wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()

def processes():
    while True:
        if not os.fork():
            time.sleep(60)

def threads():
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

def output():
    return bytes(1 << 20)

def log():
    while True:
        print("x" * 1000)

def good():
    return "good"
"""

LIMITS = SandboxConfig(
    max_memory=96 << 20,
    max_cpu_time=800,
    max_execution_time=10_000,
    max_processes=8,
    max_open_files=24,
    max_file_size=1 << 20,
    max_output=1 << 16,
)


@asynccontextmanager
async def _plugin(tmp_path: Path) -> AsyncIterator[tuple[PluginManager, str]]:
    """The plugin at level Standard, where the kernel's limits are all that stops it."""
    (tmp_path / "limits.py").write_text(SOURCE)
    (tmp_path / "plugin.json").write_text(
        '{"id": "limits", "version": "1.0.0", "format": "python",'
        ' "entry": "limits.py", "interpreter": "main"}'
    )
    async with PluginManager(isolation=IsolationLevel.STANDARD, resource_limits=LIMITS) as manager:
        plugin = await manager.load_plugin(tmp_path)
        neighbour = await manager.load_plugin(tmp_path, plugin_id="neighbour")
        yield manager, plugin
        assert await manager.execute_plugin(plugin, "good") == "good"
        assert await manager.execute_plugin(neighbour, "good") == "good"
        assert manager.resource_usage(neighbour).restarts == 0


@pytest.mark.parametrize(
    ("function", "resource", "limit"),
    [
        ("memory", "memory", 96 << 20),
        ("cpu", "cpu", 800),
        ("cpu_in_children", "cpu", 800),
        ("open_files", "open_files", 24),
        ("file_size", "file_size", 1 << 20),
        ("processes", "processes", 8),
        ("threads", "processes", 8),
        ("output", "output", 1 << 16),
        ("log", "log", None),
    ],
)
@live
async def test_a_limit_holds(function: str, resource: str, limit: int | None, tmp_path: Path) -> None:
    """The error says which limit it was, how much was granted, and how much was measured."""
    async with _plugin(tmp_path) as (manager, plugin):
        with pytest.raises(ResourceLimitExceeded) as caught:
            await manager.execute_plugin(plugin, function)
        error = caught.value
        assert (error.plugin_id, error.resource) == (plugin, resource)
        assert limit is None or error.limit == limit
        assert error.actual >= error.limit * 0.9
        assert manager.resource_usage(plugin).restarts == 0
        assert await manager.execute_plugin(plugin, "good") == "good"
        assert manager.resource_usage(plugin).restarts == 1


@live
async def test_the_deadline_holds_for_a_sleeper(tmp_path: Path) -> None:
    """A sleeping process is killed from outside, with its children."""
    async with _plugin(tmp_path) as (manager, plugin):
        with pytest.raises(Timeout):
            await manager.execute_plugin(plugin, "sleep", timeout_ms=300)


@live
async def test_a_host_limit_only_tightens(tmp_path: Path) -> None:
    """plugin.json and SandboxConfig can lower what the policy gives, never raise it."""
    (tmp_path / "a.js").write_text("function good() { return 1 }")
    wish = SandboxConfig(max_memory=1 << 40, max_cpu_time=10**9)
    async with PluginManager(resource_limits=wish) as manager:
        await manager.load_plugin(tmp_path / "a.js")
        usage = Path("/sys/fs/cgroup")
        limits = [int(path.read_text()) for path in usage.rglob("frys-*/javascript-*/memory.limit_in_bytes")]
        limits += [int(path.read_text()) for path in usage.rglob("frys-*/javascript-*/memory.max")]
        assert limits
        assert max(limits) <= 64 << 20
