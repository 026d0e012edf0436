"""Plugins with room for very large values: ``large.py FOLDER KIND...``, at level Maximum."""

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from frys_runtime import PluginManager

from . import Measure, methods, perform
from .frys import FILES

_POLICY: Final = """
extends: maximum
limits: {memory: 1GiB, output: 256MiB, cpu_time: 1min, execution_time: 1min}
"""


class Large:
    """A live plugin of each kind."""

    def __init__(self, folder: Path, kinds: list[str]) -> None:
        policy = folder / "large.yaml"
        policy.write_text(_POLICY)
        self._folder, self._kinds = folder, kinds
        self._manager = PluginManager(policy=policy)

    async def open(self) -> None:
        """Load them all."""
        for kind in self._kinds:
            await self._manager.load_plugin(self._folder / FILES[kind], plugin_id=kind)
            await self._manager.execute_plugin(kind, "echo", bytes(64))

    async def call(self, kind: str, size: int) -> list[float]:
        """Seconds of one call of ``echo``."""
        data = b"x" * size
        began = time.perf_counter()
        answer = await self._manager.execute_plugin(kind, "echo", data)
        took = time.perf_counter() - began
        assert answer == data
        return [took]

    async def copy(self, size: int) -> list[float]:
        """Seconds of a plain copy in this process."""
        data = b"x" * size
        began = time.perf_counter()
        bytearray(data)
        return [time.perf_counter() - began]

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._manager.close()


def start(folder: str, *kinds: str) -> AbstractContextManager[Measure]:
    """Prepare; a request names a method of ``Large`` and its arguments."""
    return methods("asyncio", lambda: Large(Path(folder), list(kinds)))


if __name__ == "__main__":
    perform(start)
