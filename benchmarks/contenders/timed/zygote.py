"""The fork server with a clock beside every step: run in place of launchers/zygote.py, with its arguments.

Each child prints one line of JSON on its standard error when its plugin is loaded: nanoseconds by step. What
is timed is the product's own code; the clock adds 0.1 us to each step.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

_spent: dict[str, int] = {}


def _timed[**P, T](name: str, work: Callable[P, T]) -> Callable[P, T]:
    def run(*arguments: P.args, **words: P.kwargs) -> T:
        began = time.perf_counter_ns()
        result = work(*arguments, **words)
        _spent[name] = time.perf_counter_ns() - began
        return result

    run.__name__ = name
    return run


def _with_clock(jail: Any, libc: Any) -> None:
    jail.STEPS = tuple(_timed(step.__name__, step) for step in jail.STEPS)
    jail.verify = _timed("verify", jail.verify)
    enter, fork, seal = jail.Jail.enter, libc.fork, _timed("seal", jail.seal)

    def timed_fork() -> int:
        _spent["fork"] = -time.perf_counter_ns()
        return int(fork())

    def timed_enter(room: Any) -> None:
        _spent["fork"] += time.perf_counter_ns()
        enter(room)

    def seal_and_tell(plan: Any) -> None:
        seal(plan)
        os.write(2, json.dumps(_spent).encode() + b"\n")

    libc.fork, jail.Jail.enter, jail.seal = timed_fork, timed_enter, seal_and_tell


def main(argv: list[str]) -> None:
    """Put the clock in, and go on as the product does."""
    sys.path.insert(0, os.path.join(_ROOT, "launchers"))
    zygote: Any = importlib.import_module("zygote")
    del sys.path[0]
    zygote._bootstrap(argv[5:])
    _with_clock(
        importlib.import_module("frys_runtime.jail"), importlib.import_module("frys_runtime.linux.libc")
    )
    zygote.main(argv)


if __name__ == "__main__":
    main(sys.argv[1:])
