"""Memory by every road that a kernel has ends at the same limit or is closed; so do disk space and inodes."""

import errno
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support import live

from frys_runtime import (
    ExecutionFailed,
    IsolationLevel,
    PluginManager,
    ResourceLimitExceeded,
    SandboxConfig,
    SecurityViolation,
)

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]

SOURCE = """
import _posixshmem, ctypes, fcntl, mmap, os, socket, threading, time

MIB = 1 << 20
F_SETPIPE_SZ = 1031
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
kept = []

def fill(fd):
    while True:
        os.write(fd, bytes(MIB))

def heap():
    while True:
        kept.append(bytearray(MIB))

def threads():
    def work():
        kept.append(bytearray(8 * MIB))
        time.sleep(60)
    while True:
        threading.Thread(target=work, daemon=True).start()

def forked_child():
    if not os.fork():
        heap()
    while True:
        time.sleep(1)

def page_tables():
    while True:
        area = mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)
        area.madvise(mmap.MADV_NOHUGEPAGE)
        for at in range(0, 1 << 30, 2 * MIB):
            area[at]  # maps the shared page of zeros, and needs a page table of its own for that
        kept.append(area)

def shared_anonymous():
    while True:
        area = mmap.mmap(-1, MIB)
        area.write(bytes(MIB))
        kept.append(area)

def memfd():
    fill(os.memfd_create("road"))

def private_tmp():
    fill(os.open("/tmp/road", os.O_CREAT | os.O_WRONLY))

def own_folder():
    fill(os.open("/plugin/road", os.O_CREAT | os.O_WRONLY))

def root():
    fill(os.open("/road", os.O_CREAT | os.O_WRONLY))

def sysv_shared():
    while True:
        segment = libc.shmget(0, MIB, 0o1600)
        ctypes.memset(libc.shmat(segment, None, 0), 1, MIB)

def posix_shared():
    fill(_posixshmem.shm_open("/road", os.O_CREAT | os.O_RDWR, 0o600))

def pipes():
    while True:
        _, write = os.pipe()
        os.set_blocking(write, False)
        try:
            fcntl.fcntl(write, F_SETPIPE_SZ, MIB)
        except OSError:
            pass  # past the user's share of large pipes the small ones go on
        try:
            fill(write)
        except BlockingIOError:
            pass

def sockets():
    while True:
        pair = socket.socketpair()
        kept.append(pair)
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
            end.setblocking(False)
            try:
                while True:
                    end.send(bytes(1 << 16))
            except BlockingIOError:
                pass

def good():
    return "good"
"""

MEMORY = 40 << 20
LIMITS = SandboxConfig(max_memory=MEMORY)

ROADS = {
    #                    Standard         High                Maximum
    "heap": ("memory", "memory", "memory"),
    "threads": ("memory", "memory", "killed: clone"),
    "forked_child": ("memory", "killed: clone", "killed: clone"),
    "page_tables": ("memory", "memory", "memory"),
    "shared_anonymous": ("memory", "memory", "memory"),
    "memfd": ("memory", "ENOSYS", "ENOSYS"),
    "private_tmp": ("memory", "ENOSPC", "EPERM"),
    "own_folder": ("EACCES", "EACCES", "EPERM"),
    "root": ("EROFS", "EROFS", "EPERM"),
    "sysv_shared": ("memory", "killed: shmget", "killed: shmget"),
    "posix_shared": ("ENOENT", "ENOENT", "EPERM"),
    "pipes": ("memory", "ENOSYS", "ENOSYS"),
    "sockets": ("memory", "ENOSYS", "ENOSYS"),
}
"""How each road ends at each level: the limit that is reached, the call it is killed for, or the refusal."""


@asynccontextmanager
async def _plugin(
    folder: Path, level: IsolationLevel, limits: SandboxConfig, source: str = SOURCE
) -> AsyncIterator[tuple[PluginManager, str]]:
    (folder / "roads.py").write_text(source)
    facts = {"id": "roads", "version": "1.0.0", "format": "python", "entry": "roads.py"}
    (folder / "plugin.json").write_text(json.dumps(facts | {"interpreter": "main"}))
    async with PluginManager(isolation=level, resource_limits=limits) as manager:
        yield manager, await manager.load_plugin(folder)


async def _end(manager: PluginManager, plugin: str, road: str) -> str:
    try:
        answer = await manager.execute_plugin(plugin, road)
    except ResourceLimitExceeded as error:
        sound = error.resource != "memory" or MEMORY * 0.99 <= error.actual <= MEMORY == error.limit
        return error.resource if sound else f"{error.resource}, but measured {error.actual}"
    except SecurityViolation as error:
        called = re.search(r"called (\w+)", error.violation)
        return f"killed: {called[1] if called else error.violation}"
    except ExecutionFailed as error:
        number = re.search(r"\[Errno (\d+)\]", error.reason)
        return errno.errorcode[int(number[1])] if number else error.reason
    return f"answered {answer!r}"


@pytest.mark.parametrize(("level", "column"), [(level, at) for at, level in enumerate(IsolationLevel)])
@live
async def test_every_road_ends(level: IsolationLevel, column: int, tmp_path: Path) -> None:
    """A road that is open ends at the memory limit, by the kernel's own count; the others are closed."""
    async with _plugin(tmp_path, level, LIMITS) as (manager, plugin):
        neighbour = await manager.load_plugin(tmp_path, plugin_id="neighbour")
        ends = {road: await _end(manager, plugin, road) for road in ROADS}
        assert ends == {road: expected[column] for road, expected in ROADS.items()}
        assert await manager.execute_plugin(plugin, "good") == "good"
        assert await manager.execute_plugin(neighbour, "good") == "good"
        assert manager.resource_usage(neighbour).restarts == 0


DISK = """
import os

def space():
    with open("/tmp/road", "wb") as file:
        while True:
            file.write(bytes(1 << 20))

def inodes():
    number = 0
    while True:
        os.mkdir(f"/tmp/{number}")
        number += 1

def clean():
    os.system("rm -rf /tmp/*")
    with open("/tmp/again", "wb") as file:
        file.write(bytes(1 << 20))
    return os.listdir("/tmp")
"""


@pytest.mark.parametrize("road", ["space", "inodes"])
@live
async def test_a_full_tmp_is_an_error_like_any_other(road: str, tmp_path: Path) -> None:
    """The plugin gets ENOSPC, as on any full disk; it is not killed, and can make room and go on."""
    async with _plugin(tmp_path, IsolationLevel.STANDARD, SandboxConfig(), DISK) as (manager, plugin):
        assert await _end(manager, plugin, road) == "ENOSPC"
        assert await manager.execute_plugin(plugin, "clean") == ["again"]
        assert manager.resource_usage(plugin).restarts == 0


QUOTA = """
import time

def spin():
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    return "done"
"""


@live
async def test_the_quota_slows_down_and_does_not_kill(tmp_path: Path) -> None:
    """A plugin with a tenth of a core waits for its next share; the kernel counts for how long."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits:\n  cpu: 0.1 cpu\n  cpu_time: 20s\n")
    (tmp_path / "spin.py").write_text(QUOTA)
    async with PluginManager(policy=policy) as manager:
        plugin = await manager.load_plugin(tmp_path / "spin.py")
        assert await manager.execute_plugin(plugin, "spin") == "done"
        usage = manager.resource_usage(plugin)
        assert usage.cpu_throttled > 0
        assert usage.restarts == 0
