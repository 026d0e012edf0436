"""A plugin that calls one of another supervisor: ``bus.py LOOP FOLDER``, both at level Maximum."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from frys_runtime import PluginManager

from . import Measure, methods, perform

_POLICY: Final = """
extends: maximum
limits: {messages: 1000000/s, cpu_time: 1min, execution_time: 1min}
messages: {call: {"*": [echo]}}
"""
_FACTS: Final = {"version": "1.0.0", "format": "python", "entry": "bench.py"}
_ECHO: Final = {"echo": {"params": ["bytes"], "returns": "bytes"}}
_WARM_CALLS: Final = 50
_SERVE: Final = ("-c", "from frys_runtime.cli import main; main()", "serve", "--json")


class Bus:
    """This supervisor with a plugin that calls, and `frys serve` with its target."""

    def __init__(self, folder: Path) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="frys-bench-"))
        policy = self._place / "policy.yaml"
        policy.write_text(_POLICY)
        for name in ("near", "far"):
            plugin = self._place / name
            plugin.mkdir()
            shutil.copy(folder / "bench.py", plugin)
            (plugin / "plugin.json").write_text(json.dumps({"id": name, **_FACTS, "exports": _ECHO}))
        self._caller = folder / "caller.py"
        self._manager = PluginManager(policy=policy, bus=self._place / "bus")
        command = [sys.executable, *_SERVE, "--policy", policy, "--bus", self._place / "bus"]
        self._other = subprocess.Popen([*command, self._place / "far"], stdout=subprocess.PIPE)

    async def open(self) -> None:
        """Load them, and warm the ways between them."""
        assert self._other.stdout is not None
        if not self._other.stdout.readline():
            raise RuntimeError("frys serve did not start")
        await self._manager.__aenter__()
        await self._manager.load_plugin(self._caller)
        await self._manager.load_plugin(self._place / "near")
        for target in ("near", "far"):
            await self.call(target, 64, _WARM_CALLS)
            await self.by_host(target, 64, _WARM_CALLS)

    async def call(self, target: str, size: int, count: int, pause: float = 0.0) -> Any:
        """Seconds of each call of ``echo`` in a plugin, by the clock of the plugin that calls."""
        return await self._manager.execute_plugin("caller", "call", target, bytes(size), count, pause)

    async def by_host(self, target: str, size: int, count: int) -> list[float]:
        """Seconds of each call of the host program."""
        data, seconds = bytes(size), []
        for _ in range(count):
            began = time.perf_counter()
            await self._manager.execute_plugin(target, "echo", data)
            seconds.append(time.perf_counter() - began)
        return seconds

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._manager.close()
        self._other.terminate()
        self._other.wait()
        shutil.rmtree(self._place)


def start(loop: str, folder: str) -> AbstractContextManager[Measure]:
    """Prepare; a request names a method of ``Bus`` and its arguments."""
    return methods(loop, lambda: Bus(Path(folder)))


if __name__ == "__main__":
    perform(start)
