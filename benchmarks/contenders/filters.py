"""Allowed system calls with and without the filters: ``filters.py FORMAT``.

Each turn forks a process that times a loop of each call without a filter, with the one for loading, and with
the one for serving on top, at level Maximum; another one does so with the filter of level Standard.
"""

import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from frys_runtime import IsolationLevel
from frys_runtime.isolation import compile_filters
from frys_runtime.linux import libc, seccomp
from frys_runtime.policy import level_policy

from . import Measure, perform

CALLS: Final[dict[str, Callable[[], object]]] = {
    "getpid": os.getpid,  # allowed whatever its arguments: the kernel has the answer in a bitmap
    "write": lambda: os.write(1, b""),  # allowed for descriptors 1 and 2: the program runs each time
}
_LOOP: Final = 2000
_LOOPS: Final = 5


@contextmanager
def start(format_name: str) -> Iterator[Measure]:
    """Prepare; the answer to a request is the seconds of one call, by level, filters and name."""
    programs = {
        level.value: compile_filters(level_policy(level).syscalls[format_name])
        for level in (IsolationLevel.STANDARD, IsolationLevel.MAXIMUM)
    }

    def measure() -> dict[str, float]:
        found: dict[str, float] = {}
        for level, filters in programs.items():
            found |= {f"{level}, {what}": seconds for what, seconds in _in_child(filters).items()}
        return found

    yield measure


def _in_child(filters: tuple[bytes, bytes]) -> dict[str, float]:
    """A process of its own, because a filter never goes away; at the end it can write to 1 and 2 only."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.dup2(write, 1)
            _say(filters)
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        found: dict[str, float] = json.loads(answer.read())
    os.waitpid(pid, 0)
    return found


def _say(filters: tuple[bytes, bytes]) -> None:
    load, serve = filters
    found = {f"{name}, no filter": _seconds(call) for name, call in CALLS.items()}
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.install(load, listener=True)
    found |= {f"{name}, loading": _seconds(call) for name, call in CALLS.items()}
    if serve:
        seccomp.install(serve, listener=False)
        found |= {f"{name}, serving": _seconds(call) for name, call in CALLS.items()}
    os.write(1, json.dumps(found).encode())


def _seconds(call: Callable[[], object]) -> float:
    """The median of some loops: one call with the loop around it."""
    times = []
    for _ in range(_LOOPS):
        began = time.perf_counter_ns()
        for _ in itertools.repeat(None, _LOOP):
            call()
        times.append((time.perf_counter_ns() - began) / _LOOP / 1e9)
    return statistics.median(times)


if __name__ == "__main__":
    perform(start)
