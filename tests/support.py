"""What the tests of live plugins share."""

import asyncio
import functools
import os
import time
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path

import psutil

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def live[**P](test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run an async test in a fresh event loop, and fail it when anything of Frys is left afterwards."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        descriptors, before = len(os.listdir("/proc/self/fd")), frozenset(processes(os.getpid()))
        asyncio.run(test(*args, **kwargs))
        assert leftovers(os.getpid(), before) == []
        for _ in range(500):  # a thread that ends closes its own a moment later
            if len(os.listdir("/proc/self/fd")) <= descriptors:
                break
            time.sleep(0.02)
        # Fewer than before are no fault of this test's: what an earlier one left to the collector is gone.
        assert len(os.listdir("/proc/self/fd")) <= descriptors, "descriptors were left open"

    return wrapper


def leftovers(host: int, before: Collection[str] = ()) -> list[str]:
    """Processes below ``host`` and cgroups that name it; waits a moment for those that are going.

    Args:
        host: A process.
        before: What ran below it already, such as a server that several tests share.
    """
    found: list[str] = []
    for _ in range(100):
        found = [*(one for one in processes(host) if one not in before), *_cgroups(host)]
        if not found:
            break
        time.sleep(0.02)
    return found


def processes(host: int) -> list[str]:
    """What runs below a process."""
    if not psutil.pid_exists(host):
        return []
    return [f"{child.pid} {child.name()}" for child in psutil.Process(host).children(recursive=True)]


def _cgroups(host: int) -> list[str]:
    namespace = os.stat("/proc/self/ns/pid").st_ino
    return [str(path) for path in Path("/sys/fs/cgroup").rglob(f"frys-{namespace}-{host}-*") if path.is_dir()]
