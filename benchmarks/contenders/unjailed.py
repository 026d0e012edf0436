"""The same engine, launcher module and lane without the jail: ``unjailed.py FOLDER KIND MEMORY STACK``.

The plugin process is forked from a warmed one, as in Frys, so that the jail is the only difference.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frys_runtime import wire
from frys_runtime.fork_server import import_paths, launchers_folder
from frys_runtime.lane import Lane, pair
from frys_runtime.linux.process import cpu_ns

from . import Absent, Measure, event_loop, perform
from .frys import FILES

_LIMIT = 1 << 24


@contextmanager
def start(folder: str, kind: str, memory: str, stack: str) -> Iterator[Measure]:
    """Prepare; a request gives ``n``, and the answer is the seconds of one ``fib(n)``: wall and CPU."""
    entry = Path(folder, FILES[kind])
    facts: dict[str, Any] = {
        "launchers": str(launchers_folder()),
        "memory": int(memory),
        "stack": int(stack),
    }
    facts |= {"format": kind.removesuffix("-main"), "paths": import_paths()}
    facts["options"] = {"interpreter": "main"} if kind == "python-main" else {}
    facts["file"] = str(entry / "bench.py" if entry.is_dir() else entry)
    ours, theirs = pair()
    with theirs:
        script = str(Path(__file__).with_name("unjailed_plugin.py"))
        command = [sys.executable, "-I", "-S", "-X", "utf8", script, str(theirs.fileno()), json.dumps(facts)]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), env={}, stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = process.stdout.readline()
    if not pid:
        raise Absent(f"{kind} could not be loaded without the jail")
    with event_loop("asyncio") as runner:
        lane = runner.run(_open(ours))
        yield lambda n: runner.run(_work(lane, int(pid), kind, n))
        runner.run(_close(lane))
    process.wait()


async def _open(ours: Any) -> Lane:
    return Lane(ours, lambda reason: None)


async def _close(lane: Lane) -> None:
    lane.close()
    await asyncio.sleep(0)


async def _work(lane: Lane, pid: int, kind: str, n: int) -> tuple[float, float]:
    argument = bytes([n]) if kind == "native" else n
    used, began = cpu_ns(pid), time.perf_counter()
    frame = wire.encode_call(1, 30_000, _LIMIT, "fib", [argument])
    answer = await lane.exchange(frame, _LIMIT)
    wall = time.perf_counter() - began
    assert answer[0] == wire.RESULT, answer
    return wall, ((cpu_ns(pid) or 0) - (used or 0)) / 1e9


if __name__ == "__main__":
    perform(start)
