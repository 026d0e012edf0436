"""Many live plugins of Frys: ``crowd.py FOLDER SPARES [POLICY]``."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from frys_runtime import PluginManager
from frys_runtime.linux.process import private_memory

from . import Measure, event_loop, perform
from .frys import FILES


class Crowd:
    """A manager with many plugins, looked at from outside."""

    def __init__(self, folder: str, spares: int, policy: str | None) -> None:
        self._folder = Path(folder)
        self._manager = PluginManager(spares=spares, max_plugins=10_000, policy=policy)
        self._host = psutil.Process()
        self._names: list[str] = []

    async def warm(self, kinds: list[str]) -> None:
        """Start the launchers, so that what follows is about plugins."""
        for kind in kinds:
            await self._load(kind, f"{kind}-first")
            await self._manager.unload_plugin(f"{kind}-first")

    async def _load(self, kind: str, name: str) -> float:
        began = time.perf_counter()
        await self._manager.load_plugin(self._folder / FILES[kind], plugin_id=name)
        return time.perf_counter() - began

    async def start(self, kinds: list[str], count: int, at_once: int) -> dict[str, Any]:
        """Load ``count`` plugins, the kinds in turn, ``at_once`` at a time.

        Returns:
            ``seconds`` for each start and ``total`` for all of them.
        """
        turns = asyncio.Semaphore(at_once)

        async def load(number: int) -> float:
            async with turns:
                return await self._load(kinds[(number - first) % len(kinds)], self._names[number])

        first = len(self._names)
        self._names += [f"{kinds[number % len(kinds)]}-{first + number}" for number in range(count)]
        began = time.perf_counter()
        seconds = await asyncio.gather(*map(load, range(first, first + count)))
        return {"total": time.perf_counter() - began, "seconds": seconds}

    async def call_all(self, times: int) -> int:
        """Call every plugin; the number that gave the right answer every time."""
        data = os.urandom(64)

        async def right(name: str) -> bool:
            return all([await self._manager.execute_plugin(name, "echo", data) == data for _ in range(times)])

        return sum(await asyncio.gather(*map(right, self._names)))

    async def idle(self, seconds: float) -> dict[str, float]:
        """Do nothing for a while.

        Returns:
            The shares of one core, in percent, that the supervisor, and all its descendants, used.
        """
        family = self._host.children(recursive=True)
        before, own, began = _cpu(family), time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        passed = time.perf_counter() - began
        return {
            "supervisor": (time.process_time() - own) / passed * 100,
            "others": (_cpu(family) - before) / passed * 100,
        }

    async def memory(self) -> dict[str, list[int]]:
        """Private bytes of every process, by its kind: plugins, launchers, their keepers, the supervisor."""
        plugins = {self._manager.plugin(name).pid: name.rpartition("-")[0] for name in self._names}
        found: dict[str, list[int]] = {"supervisor": [private_memory(os.getpid())]}
        for process in self._host.children(recursive=True):
            kind = plugins.get(process.pid) or process.name()
            found.setdefault(kind, []).append(private_memory(process.pid))
        return found

    async def leave(self) -> dict[str, float]:
        """Close the manager.

        Returns:
            ``seconds`` it took, and the ``processes`` and ``cgroups`` that are still there.
        """
        tree = self._manager._premises.tree
        folders = [Path(folder) for folder in tree.dirs()] if tree is not None else []
        began = time.perf_counter()
        await self._manager.close()
        seconds = time.perf_counter() - began
        left = [process for process in self._host.children(recursive=True) if process.is_running()]
        return {
            "seconds": seconds,
            "processes": len(left),
            "cgroups": sum(folder.exists() for folder in folders),
        }

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._manager.close()


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


@contextmanager
def start(folder: str, spares: str, policy: str | None = None) -> Iterator[Measure]:
    """Prepare; a request names a method of ``Crowd`` and its arguments."""
    with event_loop("asyncio") as runner:

        async def make() -> Crowd:
            return Crowd(folder, int(spares), policy)

        crowd = runner.run(make())

        def measure(method: str, **arguments: Any) -> Any:
            return runner.run(getattr(crowd, method)(**arguments))

        try:
            yield measure
        finally:
            runner.run(crowd.close())


if __name__ == "__main__":
    perform(start)
