"""Frys itself: ``frys.py LOOP FOLDER SPARES FORMAT...`` with the default policy, which is level Maximum."""

import asyncio
import os
import signal
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from frys_runtime import Crashed, PluginManager
from frys_runtime.linux.process import cpu_ns

from . import WARM_SECONDS, Measure, methods, perform

if TYPE_CHECKING:
    from frys_runtime.messages import MessageValue

FILES: Final = {
    "wasm": "bench.wasm",
    "javascript": "bench.js",
    "native": "bench.so",
    "python": "bench.py",
    "python-main": "python-main",
}
"""A plugin of each kind by its name in the report; ``python`` is an interpreter of its own."""

_ALL: Final = FILES | {
    "extism": "bench_extism.wasm",
    "component": "bench_component.wasm",
    "wasm-large": "large.wasm",
}
_RARE_SECONDS: Final = 0.02
_INSIDE_SECONDS: Final = 0.01


class Frys:
    """A manager with a warm launcher and a live plugin of each kind."""

    def __init__(self, folder: str, spares: int, kinds: list[str]) -> None:
        self._folder = Path(folder)
        self._manager = PluginManager(spares=spares)
        self._kinds = kinds
        self._loads = 0

    async def open(self) -> None:
        """Start the launchers and load one plugin of each kind."""
        for kind in self._kinds:
            await self._load(kind, kind)
            await self._first_answer(kind, kind)

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._manager.close()

    async def _load(self, kind: str, name: str) -> None:
        await self._manager.load_plugin(self._folder / _ALL[kind], plugin_id=name)

    async def _first_answer(self, kind: str, name: str) -> None:
        if kind.startswith("wasm"):
            await self._manager.execute_plugin(name, "answer")  # the export that Extism can call, too
        else:
            await self._manager.execute_plugin(name, "echo", bytes(64))

    async def load(self, kind: str, count: int) -> list[float]:
        """Seconds from the request to load until the answer to the first call."""
        seconds = []
        for _ in range(count):
            self._loads += 1
            name = f"{kind}-{self._loads}"
            await self._settle()
            began = time.perf_counter()
            await self._load(kind, name)
            await self._first_answer(kind, name)
            seconds.append(time.perf_counter() - began)
            await self._manager.unload_plugin(name)
        return seconds

    async def restart(self, kind: str, count: int, *, notice: bool = False) -> list[float]:
        """Kill a process in a call, and call again at once.

        Returns:
            Seconds from the moment that the caller is told until the next answer; with ``notice``, from the
            kill until the caller is told.
        """
        seconds, plugin = [], self._manager.plugin(kind)
        argument: MessageValue = bytes([40]) if kind == "native" else 40
        for _ in range(count):
            await self._settle()
            call = asyncio.ensure_future(plugin.call("fib", argument))
            await asyncio.sleep(_INSIDE_SECONDS)
            assert plugin.pid is not None
            began = time.perf_counter()
            os.kill(plugin.pid, signal.SIGKILL)
            with suppress(Crashed):
                await call
            told = time.perf_counter()
            await self._first_answer(kind, kind)
            seconds.append(told - began if notice else time.perf_counter() - told)
        return seconds

    async def _settle(self) -> None:
        """Wait until the spares are parked: a server that loads one plugin now and then finds them so."""
        nursery = self._manager._premises.nursery
        assert nursery is not None
        await asyncio.gather(*(spare for parked in nursery._parked.values() for spare in parked))

    async def call(self, kind: str, size: int, count: int, function: str = "echo") -> list[float]:
        """Seconds of each call of ``echo``, or of another function that gives its argument back."""
        data, seconds = bytes(size), []
        execute = self._manager.execute_plugin
        warm = time.perf_counter() + WARM_SECONDS
        while time.perf_counter() < warm:
            answer = await execute(kind, function, data)
            assert answer == data
        for _ in range(count):
            began = time.perf_counter()
            await execute(kind, function, data)
            seconds.append(time.perf_counter() - began)
        return seconds

    async def rare(self, kind: str, size: int, count: int) -> list[float]:
        """Seconds of each call of ``echo``, with a pause before it in which both processes fall asleep."""
        data, seconds = bytes(size), []
        for _ in range(count):
            await asyncio.sleep(_RARE_SECONDS)
            began = time.perf_counter()
            await self._manager.execute_plugin(kind, "echo", data)
            seconds.append(time.perf_counter() - began)
        return seconds

    async def work(self, kind: str, n: int) -> tuple[float, float]:
        """Seconds of one ``fib(n)``: by the clock on the wall, and CPU time of the plugin process."""
        pid = self._manager.plugin(kind).pid
        assert pid is not None
        argument: MessageValue = bytes([n]) if kind == "native" else n
        used, began = cpu_ns(pid), time.perf_counter()
        await self._manager.execute_plugin(kind, "fib", argument)
        wall = time.perf_counter() - began
        return wall, ((cpu_ns(pid) or 0) - (used or 0)) / 1e9


def start(loop: str, folder: str, spares: str, *kinds: str) -> AbstractContextManager[Measure]:
    """Prepare; a request names a method of ``Frys`` and its arguments."""
    return methods(loop, lambda: Frys(folder, int(spares), list(kinds)))


if __name__ == "__main__":
    perform(start)
