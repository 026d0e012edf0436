"""Supervisors in processes of their own, for the tests of the message bus."""

import asyncio
import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from command import FRYS
from support import leftovers
from talk import ALL, TALKER, Talk

from frys_runtime import PluginManager


@contextmanager
def meeting_place(policy: str = ALL) -> Iterator[Path]:
    """A folder with a short name (a socket's path has 107 bytes), and in it a policy and a place ``bus``."""
    folder = Path(tempfile.mkdtemp(prefix="frys-bus-"))
    try:
        (folder / "policy.yaml").write_text(policy)
        yield folder
        left = sorted(path.name for path in (folder / "bus").iterdir()) if (folder / "bus").exists() else []
        assert left == [], "supervisors left something in their folder"
    finally:
        shutil.rmtree(folder)


class Server:
    """`frys serve`, running."""

    def __init__(self, folder: Path, *plugins: str, options: tuple[str, ...] = ()) -> None:
        words = ["serve", "--json", "--bus", folder / "bus", "--policy", folder / "policy.yaml", *options]
        command = [*FRYS, *map(str, words), *plugins]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - stop closes it
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log)
        assert self._process.stdout is not None
        self._line = self._process.stdout
        self.pid = self._process.pid
        self.name = ""

    def wait_ready(self) -> dict[str, Any]:
        """What it says once everything runs."""
        line = self._line.readline()
        self.log.seek(0)
        assert line, self.log.read().decode()
        facts: dict[str, Any] = json.loads(line)
        self.name = facts["name"]
        return facts

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; nothing may be left of it."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        code = self._process.wait(timeout=30)
        self._line.close()
        self.log.close()
        assert leftovers(self.pid) == []
        return code


@asynccontextmanager
async def server(folder: Path, *plugins: str, options: tuple[str, ...] = ()) -> AsyncIterator[Server]:
    """`frys serve` with talkers under the given ids, or with ID=PLUGIN."""
    named = [plugin if "=" in plugin else f"{plugin}={TALKER}" for plugin in plugins]
    made = Server(folder, *named, options=options)
    try:
        await asyncio.to_thread(made.wait_ready)  # it waits for those who are there, this process too
        yield made
    finally:
        code = await asyncio.to_thread(made.stop)
        assert code in (0, -signal.SIGKILL), code


@asynccontextmanager
async def managers(folder: Path, *ids: str) -> AsyncIterator[list[Talk]]:
    """A manager on the bus for each id, with a talker of that id, in this process; all know of each other."""
    async with AsyncExitStack() as stack:
        talks = []
        for plugin_id in ids:
            manager = PluginManager(policy=folder / "policy.yaml", bus=folder / "bus", spares=0)
            await stack.enter_async_context(manager)
            if plugin_id:
                await manager.load_plugin(TALKER, plugin_id=plugin_id)
            talks.append(Talk(manager))
        for talk in talks:
            await knows(talk.manager, *filter(None, ids))
        yield talks


async def knows(manager: PluginManager, *ids: str) -> None:
    """Wait until a manager knows where plugins are."""
    assert manager.bus is not None
    bus = manager.bus
    await until(
        lambda: (
            {*ids}
            <= {info.id for info in manager.list_plugins()} | {i for o in bus.others for i in o.plugins}
        )
    )


async def until(true: Callable[[], object]) -> None:
    """Wait for what must become true."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never became true")


async def no_threads() -> None:
    """Wait until libzmq's threads have ended, a moment after their context."""
    await until(lambda: not any("ZMQ" in path.read_text() for path in Path("/proc/self/task").glob("*/comm")))
