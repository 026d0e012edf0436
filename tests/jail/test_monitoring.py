"""What a plugin uses is read from the kernel, without its noticing, once or as a stream."""

import asyncio
import dataclasses
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support import live

from frys_runtime import (
    ExecutionFailed,
    IsolationLevel,
    PluginManager,
    ResourceUsage,
    SandboxConfig,
    SecurityViolation,
    monitor,
)
from frys_runtime.linux import process
from frys_runtime.printout import Printout

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]

SOURCE = """
import os, threading, time

kept = []

def echo(value):
    return value

def memory(size):
    kept.append(bytearray(size))

def give_back():
    kept.clear()

def cpu(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        os.getppid()

def thread():
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

def child():
    if not os.fork():
        time.sleep(60)

def files(count):
    for _ in range(count):
        kept.append(open("/dev/null"))

def write(path, size):
    with open(path, "wb") as file:
        file.write(bytes(size))
        os.fsync(file.fileno())

def print_later(lines):
    def work():
        for _ in range(lines):
            os.write(1, b"x" * 1023 + b"\\n")
    threading.Thread(target=work, daemon=True).start()

def die():
    os._exit(3)

def forbidden():
    os.unshare(os.CLONE_NEWUSER)
"""


@asynccontextmanager
async def _plugin(folder: Path, **settings: object) -> AsyncIterator[tuple[PluginManager, str]]:
    """The plugin at level Standard, where it may do most."""
    (folder / "monitored.py").write_text(SOURCE)
    (folder / "plugin.json").write_text(
        '{"id": "monitored", "version": "1.0.0", "format": "python",'
        ' "entry": "monitored.py", "interpreter": "main"}'
    )
    chosen = settings or {"isolation": IsolationLevel.STANDARD}
    async with PluginManager(**chosen) as manager:  # type: ignore[arg-type]
        yield manager, await manager.load_plugin(folder)


@live
async def test_the_figures_follow_what_the_plugin_does(tmp_path: Path) -> None:
    """Memory, its peak, CPU time, processes, threads, files and messages are those of the plugin."""
    async with _plugin(tmp_path) as (manager, plugin):
        before = manager.resource_usage(plugin)
        assert (before.processes, before.threads, before.calls, before.restarts) == (1, 1, 0, 0)
        assert before.memory_private > 0
        assert 0 < before.memory_usage <= before.memory_peak
        await manager.execute_plugin(plugin, "memory", 32 << 20)
        full = manager.resource_usage(plugin)
        assert full.memory_usage >= before.memory_usage + (30 << 20)
        await manager.execute_plugin(plugin, "give_back")
        await manager.execute_plugin(plugin, "cpu", 0.2)
        await manager.execute_plugin(plugin, "thread")
        await manager.execute_plugin(plugin, "child")
        await manager.execute_plugin(plugin, "files", 7)
        await manager.execute_plugin(plugin, "echo", bytes(1 << 20))
        after = manager.resource_usage(plugin)
        assert after.memory_usage < full.memory_usage <= after.memory_peak
        assert after.cpu_time_used >= before.cpu_time_used + 200
        assert after.cpu_user > 0 < after.cpu_system
        assert (after.processes, after.threads) == (2, 3)
        assert after.open_files >= before.open_files + 7
        assert after.calls == 7
        assert after.message_bytes_out >= before.message_bytes_out + (1 << 20)
        assert after.message_bytes_in >= before.message_bytes_in + (1 << 20)


@live
async def test_bytes_that_reach_storage_are_counted(tmp_path: Path) -> None:
    """A granted folder on a disk: what is written there shows; a private /tmp in memory does not count."""
    written = process.storage_bytes(os.getpid())[1]
    with (tmp_path / "control").open("wb") as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())
    counts = process.storage_bytes(os.getpid())[1] > written  # not so where the folder itself is in memory
    tmp_path.chmod(0o777)
    grant = SandboxConfig(allowed_paths=(f"{tmp_path}:rw",))
    settings = {"isolation": IsolationLevel.STANDARD, "resource_limits": grant}
    async with _plugin(tmp_path, **settings) as (manager, plugin):
        await manager.execute_plugin(plugin, "write", "/tmp/in-memory", 8 << 20)
        assert manager.resource_usage(plugin).storage_written < 1 << 20
        await manager.execute_plugin(plugin, "write", f"{tmp_path}/on-disk", 4 << 20)
        assert (manager.resource_usage(plugin).storage_written >= 4 << 20) == counts


@live
async def test_counts_outlive_the_instance(tmp_path: Path) -> None:
    """What the host counts goes on after a death; what the kernel counts begins anew."""
    async with _plugin(tmp_path) as (manager, plugin):
        await manager.execute_plugin(plugin, "echo", bytes(1000))
        await manager.execute_plugin(plugin, "memory", 32 << 20)
        before = manager.resource_usage(plugin)
        with pytest.raises(SecurityViolation):
            await manager.execute_plugin(plugin, "forbidden")
        assert manager.resource_usage(plugin).message_bytes_out > before.message_bytes_out > 1000
        await manager.execute_plugin(plugin, "echo", 1)
        fresh = manager.resource_usage(plugin)
        assert (fresh.calls, fresh.violations, fresh.restarts) == (4, 1, 1)
        assert 0 < fresh.memory_peak < before.memory_peak


@live
async def test_a_stream_begins_at_once_and_ends_with_the_plugin(tmp_path: Path) -> None:
    """Samples come while the plugin lives, through a crash and a restart, and stop when it is unloaded."""
    async with _plugin(tmp_path) as (manager, plugin):
        samples: list[ResourceUsage] = []

        async def watch() -> None:
            async for usage in manager.plugin(plugin).watch(0.01):
                samples.append(usage)  # noqa: PERF401 - read while it grows

        watching = asyncio.create_task(watch())
        await _until(lambda: len(samples) >= 2)
        with pytest.raises(ExecutionFailed):
            await manager.execute_plugin(plugin, "die")
        await manager.execute_plugin(plugin, "echo", 1)
        await _until(lambda: samples[-1].restarts == 1)
        await manager.unload_plugin(plugin)
        await asyncio.wait_for(watching, 10)
        assert samples[0].processes == 1
        assert {sample.memory_private for sample in samples} == {0}


async def _until(condition: object) -> None:
    assert callable(condition)
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come to that")


@live
async def test_thresholds_raise_events(tmp_path: Path) -> None:
    """An event comes when a sample reaches the value, once, and again after one below it."""
    async with _plugin(tmp_path) as (manager, plugin):
        events = manager.events()
        limit = manager.resource_usage(plugin).memory_usage + (16 << 20)
        stream = manager.plugin(plugin).watch(0.01, thresholds={"memory_usage": limit, "threads": 100})
        for size in (0, 32 << 20, 0, 0, 32 << 20):
            await manager.execute_plugin(plugin, "give_back")
            await manager.execute_plugin(plugin, "memory", size)
            for _ in range(3):
                await anext(stream)
        await manager.unload_plugin(plugin)
    reached = [event async for event in events if event.kind == "threshold"]
    assert [(event.plugin_id, event.data["figure"]) for event in reached] == [(plugin, "memory_usage")] * 2
    assert {event.data["threshold"] for event in reached} == {limit}
    assert all(event.data["actual"] >= limit for event in reached)


@pytest.mark.parametrize("thresholds", [{"memory": 1}, {"memory_private": 1}, {"threads": 0}])
@live
async def test_a_senseless_threshold_is_refused(thresholds: dict[str, float], tmp_path: Path) -> None:
    """A figure that no sample has would never be reached, and nobody would know."""
    async with _plugin(tmp_path) as (manager, plugin):
        with pytest.raises(ValueError, match="thresholds"):
            manager.plugin(plugin).watch(thresholds=thresholds)


@live
async def test_a_stream_ends_with_the_manager(tmp_path: Path) -> None:
    """Nobody waits for samples of a manager that was closed."""
    async with _plugin(tmp_path) as (manager, plugin):
        stream = manager.plugin(plugin).watch(60)
        assert (await anext(stream)).processes == 1
        second = asyncio.ensure_future(anext(stream, None))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(second, 10) is None


@pytest.mark.parametrize("interval", [0, -1, 0.001, float("nan"), float("inf")])
@live
async def test_a_senseless_interval_is_refused(interval: float, tmp_path: Path) -> None:
    """The mistake is told where it is made, not at the first sample."""
    async with _plugin(tmp_path) as (manager, plugin):
        with pytest.raises(ValueError, match="interval"):
            manager.plugin(plugin).watch(interval)


@live
async def test_the_plugin_does_not_run_for_a_sample(tmp_path: Path) -> None:
    """A hundred samples cost the plugin process not a nanosecond of CPU time and not one call."""
    async with _plugin(tmp_path) as (manager, plugin):
        await manager.execute_plugin(plugin, "echo", 1)
        pid = manager.plugin(plugin).pid
        assert pid is not None
        await asyncio.sleep(0.05)
        used = process.cpu_ns(pid)
        stream = manager.plugin(plugin).watch(0.01)
        samples = [await anext(stream) for _ in range(100)]
        assert process.cpu_ns(pid) == used
        assert {sample.calls for sample in samples} == {1}
        await stream.aclose()  # type: ignore[attr-defined]


@live
async def test_a_call_opens_no_file(tmp_path: Path) -> None:
    """The figures are counted by the kernel and the lane; a call reads none of them."""
    opened: list[str] = []
    listening = False

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(note)
    async with PluginManager() as manager:
        (tmp_path / "echo.py").write_text("def echo(value): return value")
        plugin = await manager.load_plugin(tmp_path / "echo.py")
        await manager.execute_plugin(plugin, "echo", 1)
        await asyncio.sleep(0.5)  # the spare that is parked meanwhile opens files
        listening = True
        for _ in range(100):
            await manager.execute_plugin(plugin, "echo", b"x")
        listening = False
        assert opened == []


@live
async def test_what_is_printed_between_calls_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A thread that prints on after the call is slowed down, not killed; the log gets the limit at most."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: standard\nlimits:\n  log: 128KiB\n")
    caplog.set_level(logging.INFO, "frys.plugin")
    async with _plugin(tmp_path, policy=policy) as (manager, plugin):
        await manager.execute_plugin(plugin, "print_later", 300)
        await _until(lambda: len(caplog.records) >= 128)
        await asyncio.sleep(0.3)
        assert len(caplog.records) <= 128 + 64 + 1
        assert await manager.execute_plugin(plugin, "echo", 1) == 1
        await _until(lambda: sum(len(record.message) for record in caplog.records) >= 300 << 10)
        assert manager.resource_usage(plugin).restarts == 0


@live
async def test_the_log_gets_a_bounded_number_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    """A megabyte of empty lines is no megabyte of records; how many were left out is told."""
    caplog.set_level(logging.INFO, "frys.plugin")
    read, write = os.pipe()
    os.set_blocking(read, False)
    printout = Printout("noisy", read, 1 << 20, lambda: True, lambda size: None)
    try:
        for _ in range(16):
            os.write(write, b"\n" * (1 << 15))
            await asyncio.sleep(0.01)
    finally:
        printout.close()
        os.close(read)
        os.close(write)
    shown = [record for record in caplog.records if record.levelno == logging.INFO]
    left_out = [int(record.message.split()[1]) for record in caplog.records if "left out" in record.message]
    assert len(shown) + sum(left_out) == 16 << 15
    assert len(shown) <= 3000


@live
async def test_the_last_words_are_not_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a process printed just before it ended is in the log."""
    caplog.set_level(logging.INFO, "frys.plugin")
    (tmp_path / "words.py").write_text(
        "import os\ndef go():\n    os.write(2, b'farewell')\n    os._exit(1)\n"
    )
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(tmp_path / "words.py")
        with pytest.raises(ExecutionFailed):
            await manager.execute_plugin(plugin, "go")
        assert "words: farewell" in [record.message for record in caplog.records]


def test_without_a_cgroup_the_first_process_stands_for_all() -> None:
    """Memory, CPU, threads and files show without cgroups, too; a dead process shows nothing."""
    mine = monitor.measure(os.getpid(), None, private=True)
    assert (mine.processes, mine.memory_peak) == (1, 0)
    assert mine.memory_usage > mine.memory_private > 0
    assert min(mine.cpu_time_used, mine.cpu_user, mine.threads, mine.open_files) > 0
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    gone = monitor.measure(pid, None, private=True)
    assert (gone.memory_usage, gone.cpu_time_used, gone.threads, gone.open_files) == (0, 0.0, 0, 0)


def test_every_figure_is_explained() -> None:
    """Each field of ResourceUsage has its line in the docstring and in docs/limits.md."""
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    names = [field.name for field in dataclasses.fields(ResourceUsage)]
    assert [name for name in names if f"{name}:" not in (ResourceUsage.__doc__ or "")] == []
    assert [name for name in names if f"`{name}`" not in text] == []
