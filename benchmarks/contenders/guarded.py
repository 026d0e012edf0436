"""Calls of a plugin, and its forbidden system calls: ``guarded.py FILTERS``, level Maximum.

FILTERS is ``both`` for the product as it is, ``loading`` for a jail that adds no filter for serving, ``open``
for one whose only filter lets everything pass.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frys_runtime import PluginManager, isolation
from frys_runtime.jail import Plan
from frys_runtime.linux.bpf import Action, compile_filter

from . import Measure, event_loop, perform

_PLUGIN = """
import os, time

def echo(data):
    return data

def attempts(count, announced):
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        if announced:
            try:
                os.unshare(os.CLONE_NEWUSER)
            except OSError:
                pass
        else:
            os.getppid()
        seconds.append(time.perf_counter() - began)
    return seconds
"""
_POLICY = "extends: maximum\non_violation: deny\nmax_violations: 0\nlimits:\n  cpu_time: 30s\n"


def _change_filters(filters: str) -> None:
    planned = isolation._plan

    def plan(*arguments: Any) -> Plan:
        made = planned(*arguments)
        if filters == "loading":
            return made._replace(serve_filter=b"")
        return made._replace(load_filter=compile_filter((), Action.ALLOW), serve_filter=b"", probes=())

    if filters != "both":
        isolation._plan = plan  # type: ignore[assignment]


@contextmanager
def start(filters: str) -> Iterator[Measure]:
    """Prepare; a request names ``call`` or ``attempts``, and the answer is the seconds of each."""
    _change_filters(filters)
    with tempfile.TemporaryDirectory() as name, event_loop("asyncio") as runner:
        folder = Path(name)
        (folder / "guarded.py").write_text(_PLUGIN)
        (folder / "policy.yaml").write_text(_POLICY)
        manager = PluginManager(policy=folder / "policy.yaml")

        async def call(count: int) -> list[float]:
            seconds = []
            for _ in range(count):
                began = time.perf_counter()
                await manager.execute_plugin("guarded", "echo", b"x" * 64)
                seconds.append(time.perf_counter() - began)
            return seconds

        async def attempts(count: int, *, announced: bool) -> Any:
            return await manager.execute_plugin("guarded", "attempts", count, announced)

        runner.run(manager.load_plugin(folder / "guarded.py"))
        methods: dict[str, Any] = {"call": call, "attempts": attempts}
        try:
            runner.run(call(20))
            yield lambda method, **words: runner.run(methods[method](**words))
        finally:
            runner.run(manager.close())


if __name__ == "__main__":
    perform(start)
