"""Plugins that do nothing but call, beside quiet ones: ``flood.py FOLDER FLOODERS MESSAGES``.

MESSAGES is what the policy allows each plugin in a second. All are at level Maximum.
"""

import asyncio
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from frys_runtime import PluginManager
from frys_runtime.metadata import Export, Format, Metadata

from . import Measure, methods, perform

_POLICY: Final = """
extends: maximum
limits: {{messages: {messages}/s, cpu_time: 1min, execution_time: 1min}}
messages: {{call: {{"*": [echo]}}}}
"""
_ECHO: Final = {"echo": Export(params=("bytes",), returns="bytes")}
_DATA: Final = bytes(64)
_PAUSE_SECONDS: Final = 0.005
_WARM_CALLS: Final = 50


class Flood:
    """A quiet plugin that calls, one that is called, and flooders, each with a target of its own."""

    def __init__(self, folder: Path, flooders: int, messages: str) -> None:
        policy = folder / f"flood-{messages}.yaml"
        policy.write_text(_POLICY.format(messages=messages))
        self._folder, self._flooders = folder, flooders
        self._manager = PluginManager(policy=policy)

    async def open(self) -> None:
        """Load them all."""
        names = ("quiet", *(f"flooder-{number}" for number in range(self._flooders)))
        for name in names:
            await self._load(name, "caller.py", {})
            await self._load(f"{name}-target", "bench.py", _ECHO)
            await self._manager.execute_plugin(name, "call", f"{name}-target", _DATA, _WARM_CALLS, 0.0)

    async def _load(self, name: str, file: str, exports: dict[str, Export]) -> None:
        metadata = Metadata(id=name, version="1.0.0", format=Format.PYTHON, entry=file, exports=exports)
        await self._manager.load_plugin(self._folder / file, metadata=metadata)

    async def measure(self, what: str, seconds: float, flooders: int) -> dict[str, Any]:
        """What a quiet plugin sees meanwhile.

        Args:
            what: ``call``, from the host program to a plugin, or ``message``, from a plugin to another.
            seconds: How long.
            flooders: How many plugins flood.

        Returns:
            ``seconds`` of each quiet call, and ``flood``: calls of the flooders in a second.
        """
        execute = self._manager.execute_plugin
        floods = [
            asyncio.ensure_future(execute(name, "flood", f"{name}-target", _DATA, seconds))
            for name in (f"flooder-{number}" for number in range(flooders))
        ]
        count = int(seconds / _PAUSE_SECONDS * 0.8)
        quiet: Any
        if what == "call":
            quiet = await self._call(count)
        else:
            quiet = await execute("quiet", "call", "quiet-target", _DATA, count, _PAUSE_SECONDS)
        sent: list[Any] = await asyncio.gather(*floods)
        return {"seconds": quiet, "flood": sum(sent) / seconds}

    async def _call(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            await asyncio.sleep(_PAUSE_SECONDS)
            began = time.perf_counter()
            await self._manager.execute_plugin("quiet-target", "echo", _DATA)
            seconds.append(time.perf_counter() - began)
        return seconds

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._manager.close()


def start(folder: str, flooders: str, messages: str) -> AbstractContextManager[Measure]:
    """Prepare; a request names a method of ``Flood`` and its arguments."""
    return methods("asyncio", lambda: Flood(Path(folder), int(flooders), messages))


if __name__ == "__main__":
    perform(start)
