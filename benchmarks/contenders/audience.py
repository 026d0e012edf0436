"""Many plugins that get the same event: ``audience.py FOLDER COUNT``, all at level Maximum."""

import asyncio
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from frys_runtime import PluginManager, PluginMessage
from frys_runtime.metadata import Events, Format, Metadata

from . import Measure, methods, perform

_POLICY: Final = """
extends: maximum
limits: {messages: 1000000/s}
host_functions: [heard]
messages: {subscribe: [tick]}
"""
_AT_ONCE: Final = 8
_WARM_TURNS: Final = 3
_REST_SECONDS: Final = 0.02
_DATA: Final = bytes(64)


class Audience:
    """A manager with plugins that all want one type of event, and tell when they have got it."""

    def __init__(self, folder: Path, count: int) -> None:
        policy = folder / "audience.yaml"
        policy.write_text(_POLICY)
        self._file = folder / "listener.py"
        self._names = [f"listener-{number}" for number in range(count)]
        self._manager = PluginManager(policy=policy, max_plugins=count)
        self._manager.host_function("heard", [], "null")(self._hear)
        self._missing = 0
        self._all_have_it: asyncio.Future[None] | None = None

    def _hear(self) -> None:
        self._missing -= 1
        if not self._missing and self._all_have_it is not None:
            self._all_have_it.set_result(None)

    async def open(self) -> None:
        """Load them all, some at a time."""
        turns = asyncio.Semaphore(_AT_ONCE)

        async def load(name: str) -> None:
            metadata = Metadata(
                id=name,
                version="1.0.0",
                format=Format.PYTHON,
                entry=self._file.name,
                events=Events(subscribes=("tick",)),
                options={"interpreter": "main"},
            )
            async with turns:
                await self._manager.load_plugin(self._file, metadata=metadata)

        await asyncio.gather(*map(load, self._names))
        await self.publish(_WARM_TURNS)
        await self.in_turn(_WARM_TURNS)

    async def publish(self, count: int) -> list[float]:
        """Seconds from the publication of an event until the last plugin has it."""
        seconds = []
        for _ in range(count):
            await asyncio.sleep(_REST_SECONDS)  # the handlers of the event before return meanwhile
            self._missing, self._all_have_it = len(self._names), asyncio.get_running_loop().create_future()
            began = time.perf_counter()
            reached = await self._manager.communicator.broadcast(PluginMessage.Event("tick", _DATA))
            assert reached == len(self._names)
            await self._all_have_it
            seconds.append(time.perf_counter() - began)
        self._all_have_it = None
        return seconds

    async def in_turn(self, count: int) -> list[float]:
        """Seconds in which the host calls the same function of every plugin, one after the other."""
        seconds, execute = [], self._manager.execute_plugin
        for _ in range(count):
            await asyncio.sleep(_REST_SECONDS)
            began = time.perf_counter()
            for name in self._names:
                await execute(name, "on_tick", _DATA)
            seconds.append(time.perf_counter() - began)
        return seconds

    async def at_once(self, count: int) -> list[float]:
        """The same, by calls that are all under way together."""
        seconds, execute = [], self._manager.execute_plugin
        for _ in range(count):
            await asyncio.sleep(_REST_SECONDS)
            began = time.perf_counter()
            await asyncio.gather(*(execute(name, "on_tick", _DATA) for name in self._names))
            seconds.append(time.perf_counter() - began)
        return seconds

    async def close(self) -> None:
        """Leave nothing behind."""
        await self._manager.close()


def start(folder: str, count: str) -> AbstractContextManager[Measure]:
    """Prepare; a request names a method of ``Audience`` and its arguments."""
    return methods("asyncio", lambda: Audience(Path(folder), int(count)))


if __name__ == "__main__":
    perform(start)
