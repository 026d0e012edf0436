"""Frys under calls while its plugin is replaced: ``reloading.py FOLDER``, default policy, level Maximum."""

import asyncio
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from frys_runtime import PluginManager

from . import Measure, methods, perform

_PARTS = 8
_SOURCES = {
    "javascript": "const parts = Array({0}).fill({1}); export function answer() {{ return [...parts]; }}\n",
    "python": "PARTS = [{1}] * {0}\ndef answer():\n    return list(PARTS)\n",
}
_SUFFIXES = {"javascript": "mjs", "python": "py"}


class Reloading:
    """A manager that watches its plugins' files, and versions that answer with their number, many times."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) / "reloading"
        self._folder.mkdir()
        self._manager = PluginManager(hot_reload=True)
        self._explicit = PluginManager()
        self._number = 0

    async def open(self) -> None:
        """Start both managers, and load a plugin of each kind into the one that watches."""
        await self._manager.__aenter__()
        await self._explicit.__aenter__()
        for kind in _SOURCES:
            self._save(kind)
            await self._manager.load_plugin(self._path(kind), plugin_id=kind)

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._manager.close()
        await self._explicit.close()

    def _path(self, kind: str) -> Path:
        return self._folder / f"{kind}.{_SUFFIXES[kind]}"

    def _save(self, kind: str) -> int:
        self._number += 1
        draft = self._folder / ".draft"
        draft.write_text(_SOURCES[kind].format(_PARTS, self._number))
        draft.replace(self._path(kind))
        return self._number

    async def load(self, kind: str, count: int) -> list[float]:
        """Seconds from the request to load until the first answer."""
        seconds = []
        for _ in range(count):
            self._save(kind)
            began = time.perf_counter()
            await self._explicit.load_plugin(self._path(kind), plugin_id="plain")
            await self._explicit.execute_plugin("plain", "answer")
            seconds.append(time.perf_counter() - began)
            await self._explicit.unload_plugin("plain")
        return seconds

    async def saved(self, kind: str, count: int) -> list[float]:
        """Seconds from a save until a call is answered by the new version."""
        seconds = []
        for _ in range(count):
            number, began = self._save(kind), time.perf_counter()
            async with asyncio.timeout(30):
                while True:
                    if await self._manager.execute_plugin(kind, "answer") == [number] * _PARTS:
                        break
                    await asyncio.sleep(0.0005)
            seconds.append(time.perf_counter() - began)
        return seconds

    async def replace(self, kind: str, reloads: int, rate: int) -> dict[str, Any]:
        """Reload again and again while calls come at a fixed rate, whether they are answered or not."""
        manager, first = self._explicit, self._save(kind)
        await manager.load_plugin(self._path(kind), plugin_id="live")
        found: dict[str, Any] = {"sent": 0, "answered": 0, "failed": 0, "mixed": 0, "old": 0}
        calls: list[float] = []
        newest, done = first, False

        async def call() -> None:
            least, began = newest, time.perf_counter()
            try:
                parts = await manager.execute_plugin("live", "answer")
            except Exception:  # noqa: BLE001 - every failure counts
                found["failed"] += 1
                return
            calls.append(time.perf_counter() - began)
            found["answered"] += 1
            found["mixed"] += not (isinstance(parts, list) and len(parts) == _PARTS and len(set(parts)) == 1)
            found["old"] += isinstance(parts, list) and parts[0] < least

        async def caller() -> None:
            tasks, due = [], time.perf_counter()
            while not done:
                tasks.append(asyncio.create_task(call()))
                due += 1 / rate
                await asyncio.sleep(max(due - time.perf_counter(), 0))
            found["sent"] = len(tasks)
            await asyncio.wait(tasks, timeout=30)

        sending, times = asyncio.create_task(caller()), []
        for _ in range(reloads):
            number = self._save(kind)
            began = time.perf_counter()
            await manager.reload_plugin("live")
            times.append(time.perf_counter() - began)
            newest = number
            await asyncio.sleep(0.02)
        done = True
        await sending
        await manager.unload_plugin("live")
        return found | {"seconds": times, "calls": calls}

    async def quiet(self, kind: str, count: int, rate: int) -> list[float]:
        """Seconds of calls that come at the same rate while nothing is replaced."""
        self._save(kind)
        await self._explicit.load_plugin(self._path(kind), plugin_id="quiet")
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            await self._explicit.execute_plugin("quiet", "answer")
            seconds.append(time.perf_counter() - began)
            await asyncio.sleep(1 / rate)
        await self._explicit.unload_plugin("quiet")
        return seconds


def start(folder: str) -> AbstractContextManager[Measure]:
    """Prepare; a request names a method of ``Reloading`` and its arguments."""
    return methods("asyncio", lambda: Reloading(folder))


if __name__ == "__main__":
    perform(start)
