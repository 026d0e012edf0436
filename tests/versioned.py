"""Plugins in several versions, for the tests of reloading."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from frys_runtime import Event, EventStream, PluginManager

MARKS = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

ANSWER = """
PARTS = [{version!r}] * 8
def answer(*_):
    return list(PARTS)
"""


def write(folder: Path, version: str, code: str = ANSWER, **more: Any) -> Path:
    """Write a Python plugin of this version, one file after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"id": "sample", "version": version, "format": "python", "entry": "main.py", **more}
    (folder / "plugin.json").write_text(json.dumps(about))
    (folder / "main.py").write_text(code.replace("{version!r}", repr(version)))
    return folder


async def until(events: EventStream, kind: str) -> Event:
    """The next event of a kind."""
    async for event in events:
        if event.kind == kind:
            return event
    raise AssertionError(f"the stream ended without {kind}")


class Callers:
    """Tasks that call a plugin without a pause, and what they got; every failure is one of the test's."""

    def __init__(self, manager: PluginManager, function: str = "answer", count: int = 4) -> None:
        self.answers: list[Any] = []
        self._manager, self._function, self._go_on = manager, function, True
        self._tasks = [asyncio.create_task(self._call()) for _ in range(count)]

    async def _call(self) -> None:
        while self._go_on:
            self.answers.append(await self._manager.execute_plugin("sample", self._function))

    async def more(self, count: int) -> None:
        """Wait for so many more answers."""
        least = len(self.answers) + count
        while len(self.answers) < least:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.001)

    async def end(self) -> list[Any]:
        """Every answer, once the last has come."""
        self._go_on = False
        await asyncio.gather(*self._tasks)
        return self.answers
