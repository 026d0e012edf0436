"""Hostile native code in the real jail at level Maximum: each attempt ends as the policy says, and alone.

The verdict is the host's, never the plugin's own word; afterwards the plugin answers from a fresh process.
"""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from native_build import library
from support import live

from frys_runtime import (
    ExecutionFailed,
    IsolationLevel,
    LoadFailed,
    PluginManager,
    ResourceLimitExceeded,
    SandboxConfig,
    SecurityViolation,
    Timeout,
)

pytestmark = [
    pytest.mark.needs_gcc,
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]

LIMITS = SandboxConfig(max_cpu_time=300, max_execution_time=1500)


@asynccontextmanager
async def _hostile(
    level: IsolationLevel = IsolationLevel.MAXIMUM, limits: SandboxConfig = LIMITS
) -> AsyncIterator[tuple[PluginManager, str]]:
    """The hostile plugin beside a good one, which must not notice anything."""
    async with PluginManager(isolation=level, resource_limits=limits) as manager:
        good = await manager.load_plugin(library("text"))
        bad = await manager.load_plugin(library("hostile/hostile"))
        yield manager, bad
        assert await manager.execute_plugin(bad, "read_shadow", b"") is not None
        assert await manager.execute_plugin(good, "upper", b"still here") == b"STILL HERE"
        assert manager.plugin(good).resource_usage().restarts == 0


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("fork_bomb", "clone"),
        ("fork_once", "clone"),
        ("thread_bomb", "clone"),
        ("kill_process", "kill"),
        ("trace_parent", "ptrace"),
        ("make_namespace", "unshare"),
        ("open_socket", "socket"),
        ("open_local_socket", "socket"),
        ("kill_everything", "kill"),
    ],
)
@live
async def test_a_forbidden_system_call_is_named_and_kills(function: str, call: str) -> None:
    """The kernel announces the call, the host kills, and the caller reads which call it was."""
    async with _hostile() as (manager, plugin):
        with pytest.raises(SecurityViolation) as caught:
            await manager.execute_plugin(plugin, function, b"1")
        assert f"it called {call}" in caught.value.violation
        assert caught.value.plugin_id == plugin


@pytest.mark.parametrize(
    ("function", "resource"),
    [
        ("busy_loop", "cpu"),
        ("busy_loop_without_signals", "cpu"),
        ("memory_bomb", "memory"),
        ("flood_output", "log"),
    ],
)
@live
async def test_a_limit_kills_with_its_name_and_numbers(function: str, resource: str) -> None:
    """What ran out, how much was granted, and how much was measured."""
    async with _hostile() as (manager, plugin):
        with pytest.raises(ResourceLimitExceeded) as caught:
            await manager.execute_plugin(plugin, function, b"")
        assert caught.value.resource == resource
        assert caught.value.actual >= caught.value.limit > 0


@live
async def test_a_sleep_past_the_deadline_dies_on_time() -> None:
    """A plugin that waits in the kernel is killed by the host, not by its own good will."""
    async with _hostile() as (manager, plugin):
        with pytest.raises(Timeout) as caught:
            await manager.execute_plugin(plugin, "sleep_long", b"", timeout_ms=200)
        assert caught.value.timeout_ms == 200


@pytest.mark.parametrize("function", ["exit_in_call", "leave_at_once"])
@live
async def test_an_exit_in_mid_call_is_told_with_its_status(function: str) -> None:
    """A plugin that ends its own process gives its caller an error at once."""
    async with _hostile() as (manager, plugin):
        with pytest.raises(ExecutionFailed, match="exited with status"):
            await manager.execute_plugin(plugin, function, b"0")


@pytest.mark.parametrize("function", ["crash", "abort_in_call", "overflow_stack", "bad_address"])
@live
async def test_a_crash_is_told_with_its_signal(function: str) -> None:
    """SIGSEGV and its like are the plugin's failure, with the signal's name."""
    async with _hostile() as (manager, plugin):
        with pytest.raises(ExecutionFailed, match=r"crashed \(SIG"):
            await manager.execute_plugin(plugin, function, b"")


@pytest.mark.parametrize("function", ["huge_length", "length_without_address"])
@live
async def test_a_false_length_is_refused(function: str) -> None:
    """A result's length is checked before a byte of it is read."""
    async with _hostile() as (manager, plugin):
        with pytest.raises((ExecutionFailed, ResourceLimitExceeded)):
            await manager.execute_plugin(plugin, function, b"")


@pytest.mark.parametrize(
    "frame",
    [
        bytes.fromhex("ffffffff"),
        bytes.fromhex("00000000"),
        bytes.fromhex("00000004 93037fc0"),
        bytes.fromhex("00000007 930301d6ff0000"),
        bytes.fromhex("00000001 c0"),
        bytes.fromhex("00000005 dd7fffffff"),
        bytes.fromhex("00000006 950401a0a0a0"),
        bytes.fromhex("00000003 920203"),
    ],
    ids=lambda frame: frame.hex(),
)
@live
async def test_a_malformed_frame_kills(frame: bytes) -> None:
    """A false length, a foreign type, a wrong sequence or shape: each costs the plugin its process."""
    async with _hostile(IsolationLevel.STANDARD) as (manager, plugin):
        with pytest.raises(SecurityViolation, match="protocol"):
            await manager.execute_plugin(plugin, "send_to_all", frame)


@live
async def test_garbage_on_the_lane_kills() -> None:
    """Bytes that are no frame at all are a broken protocol, not a crash of the host."""
    async with _hostile(IsolationLevel.STANDARD) as (manager, plugin):
        with pytest.raises(SecurityViolation, match="protocol"):
            await manager.execute_plugin(plugin, "write_to_all", b"")


@live
async def test_a_closed_lane_kills() -> None:
    """A plugin that closes its lane and lives on is killed; at level Maximum it cannot even close it."""
    async with _hostile(IsolationLevel.STANDARD) as (manager, plugin):
        with pytest.raises((SecurityViolation, ExecutionFailed)):
            await manager.execute_plugin(plugin, "close_all", b"")
    async with _hostile() as (manager, plugin):
        assert await manager.execute_plugin(plugin, "close_all", b"") == b"0"


@live
async def test_descriptors_through_the_lane_are_refused() -> None:
    """The call sendmsg is closed while serving, so none of a hundred attempts gets through."""
    async with _hostile() as (manager, plugin):
        assert await manager.execute_plugin(plugin, "send_descriptors", b"") == b"0"


@live
async def test_descriptors_through_the_lane_are_refused_at_standard() -> None:
    """Where sendmsg is open, the host kills at the first descriptor and keeps none."""
    async with _hostile(IsolationLevel.STANDARD) as (manager, plugin):
        with pytest.raises(SecurityViolation, match="descriptors"):
            await manager.execute_plugin(plugin, "send_descriptors", b"")


@live
async def test_there_is_nothing_to_read() -> None:
    """/etc/shadow is not there, and the call that would open it is closed while serving."""
    async with _hostile() as (manager, plugin):
        answer = await manager.execute_plugin(plugin, "read_shadow", b"")
        assert answer in (str(errno.EPERM).encode(), str(errno.ENOENT).encode(), str(errno.EACCES).encode())


@pytest.mark.parametrize("path", [b"/etc/shadow", b"/proc/1/environ", b"/root", b"/sys/kernel/version"])
@pytest.mark.parametrize("level", list(IsolationLevel))
@live
async def test_no_level_shows_the_machine(level: IsolationLevel, path: bytes) -> None:
    """Secrets, other processes and the kernel's files are outside the root of every level."""
    async with _hostile(level) as (manager, plugin):
        try:
            answer = await manager.execute_plugin(plugin, "read_path", path)
        except ExecutionFailed:
            return
        assert isinstance(answer, bytes)
        assert answer in {str(number).encode() for number in (errno.EPERM, errno.ENOENT, errno.EACCES)}


@live
async def test_only_the_declared_descriptors_are_open() -> None:
    """Null, the log twice and the lane: nothing of the host leaks in."""
    async with _hostile(IsolationLevel.STANDARD) as (manager, plugin):
        assert await manager.execute_plugin(plugin, "list_descriptors") == b"0 1 2 3 "


@live
async def test_many_open_files_end_at_the_limit() -> None:
    """The kernel refuses with EMFILE; the host's own descriptors do not grow."""
    async with _hostile(IsolationLevel.STANDARD) as (manager, plugin):
        answer = await manager.execute_plugin(plugin, "open_many", b"")
        assert isinstance(answer, bytes)


@live
async def test_a_fork_bomb_at_standard_ends_at_the_task_limit() -> None:
    """Where processes are allowed, the cgroup counts them and all of them die with the first."""
    async with _hostile(IsolationLevel.STANDARD) as (manager, plugin):
        answer = await manager.execute_plugin(plugin, "fork_bomb", b"", timeout_ms=1000)
        assert answer == str(errno.EAGAIN).encode()
        usage = manager.resource_usage(plugin)
        assert 1 < usage.processes <= 64


@pytest.mark.parametrize("name", ["constructor_crash", "constructor_exit", "constructor_loop"])
@live
async def test_a_constructor_is_confined_already(name: str) -> None:
    """Code that runs while the library is loaded fails the load, and nothing else."""
    async with PluginManager(resource_limits=LIMITS) as manager:
        good = await manager.load_plugin(library("text"))
        with pytest.raises((LoadFailed, Timeout, ResourceLimitExceeded)):
            await manager.load_plugin(library(f"hostile/{name}"))
        assert [info.id for info in manager.list_plugins()] == [good]
        assert await manager.execute_plugin(good, "upper", b"x") == b"X"
