"""What becomes of forbidden system calls under each ``on_violation``, and what is told and recorded of it."""

import asyncio
import errno
import os
import resource
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from native_build import library
from support import FIXTURES, live

from frys_runtime import (
    ConfigError,
    ExecutionFailed,
    InvalidFormat,
    LoadFailed,
    PluginManager,
    PluginState,
    ResourceLimitExceeded,
    SandboxConfig,
    SecurityViolation,
    Timeout,
)
from frys_runtime.audit import AuditLog
from frys_runtime.audit_records import Record, parse
from frys_runtime.audit_verify import verify
from frys_runtime.events import Event, EventStream
from frys_runtime.violations import BUDGET

pytestmark = [
    pytest.mark.needs_gcc,
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]


@asynccontextmanager
async def _manager(
    folder: Path, action: str, most: int = 0, level: str = "maximum", limits: SandboxConfig | None = None
) -> AsyncIterator[tuple[PluginManager, str]]:
    policy = folder / "policy.yaml"
    policy.write_text(f"extends: {level}\non_violation: {action}\nmax_violations: {most}\n")
    audit = folder / "audit.jsonl"
    async with PluginManager(policy=policy, audit=audit, resource_limits=limits) as manager:
        yield manager, await manager.load_plugin(library("hostile/violations"))
    assert verify(str(audit)).problems == []


def _records(folder: Path, kind: str | None = None) -> list[Record]:
    records = [parse(line) for line in (folder / "audit.jsonl").read_bytes().splitlines()]
    return [record for record in records if record and (kind is None or record.kind == kind)]


async def _until_stopped(manager: PluginManager, plugin: str) -> None:
    while manager.stats().restarts == 0:  # noqa: ASYNC110 - from outside
        await asyncio.sleep(0.01)


async def _read(stream: EventStream) -> list[Event]:
    """What waits in a stream of a manager that is closed."""
    return [event async for event in stream]


@live
async def test_kill_ends_the_process_and_names_the_call() -> None:
    """The default: the caller gets the name and the numbers, and the next call a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        async with _manager(Path(folder), "kill") as (manager, plugin):
            with pytest.raises(SecurityViolation, match="it called ptrace"):
                await manager.execute_plugin(plugin, "trace", b"3")
            assert await manager.execute_plugin(plugin, "nothing", b"") == b"0"
            assert manager.stats().violations == 1
            assert manager.plugin(plugin).resource_usage().restarts == 1
        told = _records(Path(folder), "violation")
        assert [(one.plugin, one.data["action"], one.data["total"]) for one in told] == [
            ("violations", "kill", 1)
        ]
        assert told[0].data["what"].startswith("it called ptrace(0x0, 0x0")


@live
async def test_deny_answers_eperm_and_the_plugin_goes_on() -> None:
    """Every attempt is refused and counted; the process stays, and the log does not grow with each."""
    with tempfile.TemporaryDirectory() as folder:
        async with _manager(Path(folder), "deny") as (manager, plugin):
            pid = manager.plugin(plugin).pid
            assert await manager.execute_plugin(plugin, "trace", b"500") == b"500"
            assert await manager.execute_plugin(plugin, "set_umask", b"63") == str(-errno.EPERM).encode()
            assert manager.plugin(plugin).pid == pid
            assert manager.plugin(plugin).violations == 501
        told = _records(Path(folder), "violation")
        assert [one.data.get("again") for one in told] == [None, {"it called ptrace": 499}, None]
        assert {one.data["action"] for one in told} == {"deny"}


@live
async def test_deny_is_an_exception_in_python() -> None:
    """A Python plugin gets PermissionError, which it may handle; its process and its state stay."""
    with tempfile.TemporaryDirectory() as folder:
        async with _manager(Path(folder), "deny") as (manager, _):
            plugin = await manager.load_plugin(FIXTURES / "python" / "hostile.py")
            pid = manager.plugin(plugin).pid
            with pytest.raises(ExecutionFailed, match="PermissionError"):
                await manager.execute_plugin(plugin, "open_socket")
            assert manager.plugin(plugin).pid == pid
            assert manager.plugin(plugin).violations == 1
        assert _records(Path(folder), "violation")[0].data["what"].startswith("it called socket(0x2, ")


@live
async def test_log_lets_the_call_happen() -> None:
    """For learning: the kernel makes the call, and the record says that it did."""
    with tempfile.TemporaryDirectory() as folder:
        async with _manager(Path(folder), "log") as (manager, plugin):
            await manager.execute_plugin(plugin, "set_umask", b"63")
            assert await manager.execute_plugin(plugin, "set_umask", b"18") == b"63"
            assert manager.plugin(plugin).violations == 2
        told = _records(Path(folder), "violation")
        assert [one.data["action"] for one in told] == ["log", "log"]
        starts = ("it called umask(0x3f", "it called umask(0x12")
        assert all(one.data["what"].startswith(start) for one, start in zip(told, starts, strict=True))


@pytest.mark.parametrize("action", ["deny", "log"])
@live
async def test_a_flood_is_killed_and_harms_nobody(action: str) -> None:
    """More than the budget in one call kills; meanwhile others are served, and the log stays small."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with _manager(folder, action) as (manager, plugin):
            good = await manager.load_plugin(library("text"))
            flood = asyncio.create_task(manager.execute_plugin(plugin, "trace", b"100000000"))
            served = 0
            while not flood.done():
                assert await manager.execute_plugin(good, "upper", b"x") == b"X"
                served += 1
            with pytest.raises(SecurityViolation, match=f"more than {BUDGET} forbidden"):
                await flood
            assert served > 10
            assert await manager.execute_plugin(plugin, "nothing", b"") == b"0"
            assert manager.plugin(plugin).violations == BUDGET + 1
        assert len(_records(folder, "violation")) == 3


@live
async def test_many_different_attempts_become_a_sum() -> None:
    """Arguments are the plugin's choice, so different ones cannot fill the log either."""
    with tempfile.TemporaryDirectory() as folder:
        async with _manager(Path(folder), "deny") as (manager, plugin):
            await manager.execute_plugin(plugin, "many_kinds", b"1000")
        told = _records(Path(folder), "violation")
        assert len(told) == 65
        assert told[-1].data["again"] == {"it called umask": 936}
        assert told[-1].data["total"] == 1000


@pytest.mark.parametrize(("action", "calls"), [("kill", 3), ("deny", 1)])
@live
async def test_too_many_violations_disable_the_plugin(action: str, calls: int) -> None:
    """After the third it takes no calls, says why and how it comes back; loading it again brings it back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with _manager(folder, action, most=3) as (manager, plugin):
            for _ in range(calls):
                with pytest.raises(SecurityViolation, match="was killed"):
                    await manager.execute_plugin(plugin, "trace", b"5")
            assert manager.plugin(plugin).state is PluginState.DISABLED
            assert manager.plugin(plugin).pid is None
            for _ in range(2):
                with pytest.raises(
                    SecurityViolation, match="unloaded and loaded again: 3 forbidden acts"
                ) as caught:
                    await manager.execute_plugin(plugin, "nothing", b"")
                assert caught.value.disabled
            assert manager.plugin(plugin).violations == 3
            await manager.unload_plugin(plugin)
            await manager.load_plugin(library("hostile/violations"))
            assert await manager.execute_plugin(plugin, "nothing", b"") == b"0"
            assert manager.stats().violations == 3
        assert [record.data["violations"] for record in _records(folder, "disabled")] == [3]


@pytest.mark.parametrize("action", ["kill", "deny"])
@live
async def test_attempts_between_calls_count(action: str) -> None:
    """A thread that goes on when nobody calls is killed in the end, and is in the log."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with _manager(folder, action, level="high") as (manager, plugin):
            # Under "kill" the thread may be quicker than the answer of the call that made it.
            try:
                assert await manager.execute_plugin(plugin, "leave_a_thread", b"") == b"0"
            except SecurityViolation:
                assert action == "kill"
            await _until_stopped(manager, plugin)
            assert await manager.execute_plugin(plugin, "nothing", b"") == b"0"
            assert manager.plugin(plugin).violations >= 1
        assert "ptrace" in _records(folder, "violation")[0].data["what"]


@live
async def test_a_life_is_told_to_every_listener_and_recorded() -> None:
    """Granted, loaded, limits, crashes, refusals, the end: the streams and the log agree."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        limits = SandboxConfig(max_execution_time=9000, max_cpu_time=9000)
        policy = folder / "policy.yaml"
        policy.write_text("extends: maximum\n")
        (folder / "broken.py").write_text("def f(:\n")
        manager = PluginManager(policy=policy, audit=folder / "audit.jsonl", resource_limits=limits)
        streams = [manager.events(), manager.events()]
        async with manager:
            plugin = await manager.load_plugin(FIXTURES / "python" / "hostile.py")
            with pytest.raises(Timeout):
                await manager.execute_plugin(plugin, "busy_loop", timeout_ms=300)
            with pytest.raises(ResourceLimitExceeded):
                await manager.execute_plugin(plugin, "memory_bomb")
            with pytest.raises((LoadFailed, InvalidFormat)):
                await manager.load_plugin(folder / "broken.py")
            call = asyncio.create_task(manager.execute_plugin(plugin, "busy_loop"))
            while manager.stats().calls < 3:  # noqa: ASYNC110 - it waits for a fresh process
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        told = [await _read(stream) for stream in streams]
        assert told[0] == told[1]
        kinds = Counter(event.kind for event in told[0])
        assert kinds == Counter(
            granted=2, loaded=1, timeout=1, limit=1, restarted=2, refused=1, killed=1, unloaded=1, state=8
        )
        assert [record.kind for record in _records(folder)[1:-1]] == [event.kind for event in told[0]]
        granted = _records(folder, "granted")[0].data
        assert granted["level"] == "maximum"
        assert len(granted["sha256"]["hostile.py"]) == 64
        assert granted["limits"]["execution_time"] == 9000


@live
async def test_a_successful_call_is_no_event() -> None:
    """Calls that give a result are neither told nor recorded."""
    with tempfile.TemporaryDirectory() as folder:
        async with _manager(Path(folder), "kill") as (manager, plugin):
            events = manager.events()
            for _ in range(20):
                await manager.execute_plugin(plugin, "nothing", b"")
        assert [event.kind for event in await _read(events)] == ["state", "unloaded"]


@live
async def test_a_crash_is_told() -> None:
    """A process that ends by itself is a crash: during a call with its signal, and between calls."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with _manager(folder, "kill") as (manager, plugin):
            pid = manager.plugin(plugin).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await _until_stopped(manager, plugin)
            assert await manager.execute_plugin(plugin, "nothing", b"") == b"0"
            hostile = await manager.load_plugin(library("hostile/hostile"))
            with pytest.raises(ExecutionFailed, match="SIGSEGV"):
                await manager.execute_plugin(hostile, "crash", b"")
        told = [record.data["reason"] for record in _records(folder, "crashed")]
        assert told == [
            "its process was killed from outside between calls (SIGKILL)",
            "its process crashed (SIGSEGV)",
        ]


@live
async def test_required_audit_refuses_loads_on_a_full_disk() -> None:
    """When the log cannot be written no plugin's code runs; when it can again, loading works again."""
    with tempfile.TemporaryDirectory() as name:
        path, small = Path(name, "audit.jsonl"), Path(name, "small.js")
        small.write_text("function f() { return 1 }")  # reading a plugin counts as a file, too
        log = AuditLog(path)
        async with PluginManager(audit=log, audit_required=True) as manager:
            plugin = await manager.load_plugin(library("hostile/violations"))
            assert await asyncio.to_thread(log.flush)
            events = manager.events()
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))
            try:
                with pytest.raises(LoadFailed, match="cannot be written: File too large, and audit_required"):
                    await manager.load_plugin(small)
                assert await manager.execute_plugin(plugin, "nothing", b"") == b"0"
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert await manager.load_plugin(small) == "small"
        kinds = [event.kind for event in await _read(events) if event.kind != "state"]
        assert kinds[0] == "granted"
        assert set(kinds[1:3]) == {"refused", "audit_failed"}
        assert kinds[3:] == ["granted", "loaded", "unloaded", "unloaded"]
        verdict = verify(str(path))
        assert verdict.problems == []
        assert any("cannot be written" in note.text for note in verdict.notes)


@live
async def test_two_managers_need_two_logs() -> None:
    """The second manager on one file is refused before anything starts, and leaves nothing behind."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "audit.jsonl")
        async with PluginManager(audit=path):
            with pytest.raises(ConfigError, match="each needs a file of its own"):
                await PluginManager.builder().with_audit(path).build()
        async with await PluginManager.builder().with_audit(AuditLog(path, keep=2), required=True).build():
            pass
        assert verify(str(path)).records == 4


@live
async def test_requiring_an_audit_log_needs_one() -> None:
    """The setting alone is an error, not a silent nothing."""
    with pytest.raises(ConfigError, match="audit="):
        PluginManager(audit_required=True)
