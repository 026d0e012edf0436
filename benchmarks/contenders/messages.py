"""Plugins that call each other: ``messages.py LOOP FOLDER KIND...``, all at level Maximum."""

import asyncio
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from frys_runtime import PluginManager
from frys_runtime.metadata import Export, Format, Metadata

from . import Measure, methods, perform
from .frys import FILES

_POLICY: Final = """
extends: maximum
limits: {messages: 1000000/s, cpu_time: 1min, execution_time: 1min}
messages: {call: {"*": [echo]}}
"""
_ECHO: Final = {"echo": Export(params=("bytes",), returns="bytes")}
_WARM_CALLS: Final = 50
_TURN_WARM_CALLS: Final = 1000
_WARM_SECONDS: Final = 0.3
"""Until the scheduler has found cores for three processes that pass work round."""


class Messages:
    """A plugin that calls, and a target of each kind."""

    def __init__(self, folder: Path, kinds: list[str]) -> None:
        policy = folder / "messages.yaml"
        policy.write_text(_POLICY)
        self._folder, self._kinds = folder, kinds
        self._manager = PluginManager(policy=policy)

    async def open(self) -> None:
        """Load them all, and warm the ways between them."""
        await self._manager.load_plugin(self._folder / "caller.py")
        for kind in self._kinds:
            file = self._folder / FILES[kind]
            options = {"interpreter": "main"} if kind == "python-main" else {}
            metadata = Metadata(
                id=kind,
                version="1.0.0",
                format=Format(kind.removesuffix("-main")),
                entry=file.name if file.is_file() else "bench.py",
                exports=_ECHO,
                options=options,
            )
            await self._manager.load_plugin(file, metadata=metadata)
            await self.call(kind, 64, _WARM_CALLS)
        await self.ask(_WARM_CALLS)

    async def call(self, kind: str, size: int, count: int, pause: float = 0.0) -> Any:
        """Seconds of each call of ``echo`` in a plugin, by the clock of the plugin that calls."""
        execute, data = self._manager.execute_plugin, bytes(size)
        if size <= 64 and not pause:
            warm = time.perf_counter() + _WARM_SECONDS
            while time.perf_counter() < warm:
                await execute("caller", "call", kind, data, _TURN_WARM_CALLS, 0.0)
        return await execute("caller", "call", kind, data, count, pause)

    async def host(self, kind: str, count: int) -> list[float]:
        """Seconds of each call of ``echo`` by the host."""
        data, seconds = bytes(64), []
        for _ in range(count):
            began = time.perf_counter()
            await self._manager.execute_plugin(kind, "echo", data)
            seconds.append(time.perf_counter() - began)
        return seconds

    async def host_at_once(self, count: int) -> list[float]:
        """The same, to one plugin of each kind at a time; seconds by the number of them."""
        data, seconds, execute = bytes(64), [], self._manager.execute_plugin
        for _ in range(count // len(self._kinds)):
            began = time.perf_counter()
            await asyncio.gather(*(execute(kind, "echo", data) for kind in self._kinds))
            each = (time.perf_counter() - began) / len(self._kinds)
            seconds += [each] * len(self._kinds)
        return seconds

    async def ask(self, count: int) -> Any:
        """Seconds of each question of the smallest kind."""
        await self._manager.execute_plugin("caller", "ask", _TURN_WARM_CALLS)
        return await self._manager.execute_plugin("caller", "ask", count)

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._manager.close()


def start(loop: str, folder: str, *kinds: str) -> AbstractContextManager[Measure]:
    """Prepare; a request names a method of ``Messages`` and its arguments."""
    return methods(loop, lambda: Messages(Path(folder), list(kinds)))


if __name__ == "__main__":
    perform(start)
