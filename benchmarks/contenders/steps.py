"""The way into the jail, step by step: ``steps.py FOLDER KIND``, at level Maximum, nothing parked."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frys_runtime import PluginManager, fork_server

from . import Measure, event_loop, perform
from .frys import FILES


class _Lines(logging.Handler):
    """Keeps what the plugin processes print."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().partition(": ")[2])


@contextmanager
def start(folder: str, kind: str) -> Iterator[Measure]:
    """Prepare; a request gives a count, and the answer is for each load the nanoseconds by step."""
    fork_server.launchers_folder = lambda: Path(__file__).with_name("timed")
    kept = _Lines()
    log = logging.getLogger("frys.plugin")
    log.addHandler(kept)
    log.setLevel(logging.INFO)
    manager = PluginManager(spares=0)

    async def load(count: int) -> list[dict[str, int]]:
        kept.lines.clear()
        for _ in range(1 + count):
            plugin = await manager.load_plugin(Path(folder, FILES[kind]))
            await manager.unload_plugin(plugin)
        return [json.loads(line) for line in kept.lines[1:]]  # the first had to wait for its cgroup

    with event_loop("asyncio") as runner:
        runner.run(load(2))
        try:
            yield lambda count: runner.run(load(count))
        finally:
            runner.run(manager.close())


if __name__ == "__main__":
    perform(start)
