"""Plugins under rules of supervision, for the tests in tests/supervision/."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from frys_runtime import Event, PluginManager

PYTHON = """
import os, time

kept = []

def echo(value):
    return value

def keep(value):
    kept.append(value)
    return len(kept)

def nap(seconds):
    time.sleep(seconds)
    return os.getpid()

def spin():
    while True:
        pass

def stubborn():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

def die(value=None):
    os.abort()


def fail():
    raise ValueError("on purpose")

def health():
    return kept[-1] if kept else True
"""
RULES = "max_failures: 0, max_crashes: 0, backoff: 0"
"""Nothing follows from failures but restarts."""


def write_plugin(folder: Path, name: str, source: str = PYTHON, **metadata: Any) -> Path:
    """A Python plugin in the main interpreter, whose calls can be interrupted."""
    plugin = folder / name
    plugin.mkdir()
    about = {"id": name, "version": "1.0.0", "format": "python", "entry": "p.py", "interpreter": "main"}
    (plugin / "plugin.json").write_text(json.dumps(about | metadata))
    (plugin / "p.py").write_text(source)
    return plugin


class Story:
    """What a manager tells, read as it comes."""

    def __init__(self, manager: PluginManager) -> None:
        self._stream = manager.events()
        self.told: list[Event] = []

    async def until(self, kind: str, **data: object) -> Event:
        """Read until an event of this kind with these values."""
        async with asyncio.timeout(20):
            async for event in self._stream:
                self.told.append(event)
                if event.kind == kind and data.items() <= dict(event.data).items():
                    return event
        raise AssertionError(f"{kind} was never told, only {self.told}")

    def states(self) -> list[str]:
        """The states that were entered so far."""
        return [event.data["new"] for event in self.told if event.kind == "state"]


@asynccontextmanager
async def supervised(
    folder: Path, rules: str = RULES, *, policy: str = "", source: str = PYTHON, **metadata: Any
) -> AsyncIterator[tuple[PluginManager, Story]]:
    """A manager with the plugin ``p`` under these rules."""
    file = folder / "policy.yaml"
    file.write_text(f"extends: maximum\nsupervision: {{{rules}}}\n{policy}")
    async with PluginManager(policy=file) as manager:
        story = Story(manager)
        await manager.load_plugin(write_plugin(folder, "p", source, **metadata))
        yield manager, story


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes soon."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it looks at tells nobody
            await asyncio.sleep(0.005)
