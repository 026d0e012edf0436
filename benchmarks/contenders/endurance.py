"""Frys under calls without end: ``endurance.py FOLDER KIND...``, level Maximum."""

import asyncio
import gc
import json
import os
import shutil
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil

from frys_runtime import PluginError, PluginManager
from frys_runtime.metadata import Export, Format, Metadata

from . import Measure, methods, perform
from .frys import FILES

_CALLERS = 2
"""Of each plugin: one is served, one waits, so that no plugin is idle."""
_POLICY = """
extends: maximum
host_functions: [kv]
limits: {messages: 100000/s}
messages: {call: {"*": ["*"]}, publish: ["*"], subscribe: ["*"]}
supervision: {max_failures: 0, max_crashes: 0}
"""
_ECHO = {"echo": Export(params=("bytes",), returns="bytes")}
_KEEPER = {
    "id": "keeper",
    "version": "1.0.0",
    "format": "python",
    "entry": "keeper.py",
    "events": {"publishes": {"done": "int"}, "subscribes": ["done"]},
}


class Endurance:
    """A manager with a plugin of each kind, and one that uses the host's services."""

    def __init__(self, folder: str, kinds: list[str]) -> None:
        self._folder, self._kinds = Path(folder), kinds
        own = self._folder / "endurance"
        own.mkdir()
        (own / "policy.yaml").write_text(_POLICY)
        keeper = own / "keeper"
        keeper.mkdir()
        shutil.copy(Path(__file__).parents[1] / "plugins" / "keeper.py", keeper)
        (keeper / "plugin.json").write_text(json.dumps(_KEEPER))
        self._paths = {kind: self._folder / FILES[kind] for kind in kinds} | {"keeper": keeper}
        self._manager = PluginManager(policy=own / "policy.yaml")
        self._host = psutil.Process()

    async def open(self) -> None:
        """Load the plugins."""
        await self._manager.__aenter__()
        for kind, path in self._paths.items():
            about = None
            if kind != "keeper":
                about = Metadata(
                    id=kind, version="1.0.0", format=Format(kind), entry=path.name, exports=_ECHO
                )
            await self._manager.load_plugin(path, plugin_id=kind, metadata=about)

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._manager.close()

    async def live(self, calls: int, samples: int, upsets: int) -> dict[str, Any]:
        """Call until so many calls have ended.

        Args:
            calls: How many.
            samples: How often the host is looked at meanwhile.
            upsets: How often a process is killed, and how often a plugin is reloaded, meanwhile.

        Returns:
            ``samples`` of the host, ``seconds`` of all, how many were ``killed`` and ``reloaded``, and what
            became of the calls.
        """
        found: dict[str, Any] = {"answered": 0, "crashed": 0, "failed": 0, "killed": 0, "reloaded": 0}
        found["samples"], found["why"] = [], ""
        ended, due, data = 0, {"sample": 0, "kill": 1, "reload": 1}, os.urandom(64)
        step = {"sample": calls / samples, "kill": calls / upsets, "reload": calls / upsets}
        ticks = asyncio.Event()

        async def caller(kind: str, number: int) -> None:
            nonlocal ended
            while ended < calls:
                ended += 1
                number += 1
                try:
                    if kind == "keeper":
                        right = await self._manager.execute_plugin(kind, "work", number) == number
                    else:
                        right = await self._manager.execute_plugin(kind, "echo", data) == data
                    found["answered"] += right
                    found["failed"] += not right
                except PluginError as error:
                    expected = "killed from outside" in str(error)
                    found["crashed" if expected else "failed"] += 1
                    found["why"] = found["why"] if expected else str(error)
                if any(ended >= due[what] * step[what] for what in due):
                    ticks.set()

        began = time.perf_counter()
        tasks = [asyncio.create_task(caller(kind, n)) for kind in self._paths for n in range(_CALLERS)]
        while not all(task.done() for task in tasks):
            ticking = asyncio.create_task(ticks.wait())
            await asyncio.wait(
                {ticking, *(t for t in tasks if not t.done())}, return_when=asyncio.FIRST_COMPLETED
            )
            ticking.cancel()
            ticks.clear()
            if ended >= due["sample"] * step["sample"]:
                due["sample"] += 1
                found["samples"].append(self._look(ended))
            if ended >= due["kill"] * step["kill"]:
                due["kill"] += 1
                found["killed"] += self._kill(due["kill"])
            if ended >= due["reload"] * step["reload"]:
                due["reload"] += 1
                await self._manager.reload_plugin([*self._paths][due["reload"] % len(self._paths)])
                found["reloaded"] += 1
        await asyncio.gather(*tasks)
        found["seconds"] = time.perf_counter() - began
        found["samples"].append(self._look(ended))
        return found

    def _kill(self, turn: int) -> int:
        kind = self._kinds[turn % len(self._kinds)]
        pid = self._manager.plugin(kind).pid
        if pid is None:
            return 0
        os.kill(pid, signal.SIGKILL)
        return 1

    def _look(self, ended: int) -> dict[str, float]:
        gc.collect()
        full = self._host.memory_full_info()
        return {
            "calls": ended,
            "rss": full.rss,
            "uss": full.uss,
            "descriptors": self._host.num_fds(),
            "tasks": len(asyncio.all_tasks()),
            "threads": self._host.num_threads(),
            "processes": len(self._host.children(recursive=True)),
        }


def start(folder: str, *kinds: str) -> AbstractContextManager[Measure]:
    """Prepare; a request names a method of ``Endurance`` and its arguments."""
    return methods("asyncio", lambda: Endurance(folder, list(kinds)))


if __name__ == "__main__":
    perform(start)
