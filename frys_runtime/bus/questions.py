"""What a visitor may ask a supervisor about its manager: how it is, and what happens there."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec

from ..communicator import PluginCommunicator
from ..config import ResourceUsage
from ..errors import PluginNotFound
from ..events import EventStream
from ..messages import MessageValue, Refused
from . import frames
from .node import Peer

type Question = Callable[[Peer, list[Any]], Awaitable[MessageValue]]


class Plugin(Protocol):
    """What :meth:`frys_runtime.manager.PluginManager.list_plugins` gives."""

    @property
    def id(self) -> str: ...  # noqa: D102 - said there
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def format(self) -> str: ...  # noqa: D102
    @property
    def isolation(self) -> str: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102


class Manager(Protocol):
    """Who is asked about."""

    @property
    def communicator(self) -> PluginCommunicator:
        """Its messages."""

    def list_plugins(self) -> Sequence[Plugin]:
        """Its plugins."""

    def versions(self, plugin_id: str) -> Sequence[object]:
        """The versions of one of them."""

    def resource_usage(self, plugin_id: str, *, private: bool = True) -> ResourceUsage:
        """What one of them uses."""

    def events(self) -> EventStream:
        """What happens to them."""


def questions(manager: Manager) -> Mapping[str, Question]:
    """What may be asked, by name."""
    began = time.monotonic()

    async def status(_peer: Peer, _args: list[Any]) -> MessageValue:
        plugins: list[MessageValue] = []
        for plugin in manager.list_plugins():
            with suppress(PluginNotFound):  # unloaded meanwhile
                plugins.append(_facts(manager, plugin))
            await asyncio.sleep(0)  # it reads the kernel's files, and calls go on between two plugins
        return {"pid": os.getpid(), "seconds": time.monotonic() - began, "plugins": plugins}

    async def ping(_peer: Peer, args: list[Any]) -> MessageValue:
        name = str(args[0]) if args else ""
        plugin = manager.communicator.version(name)
        if plugin is None:
            raise PluginNotFound(name)
        await plugin.ping()
        return None

    async def versions(_peer: Peer, args: list[Any]) -> MessageValue:
        told: Any = msgspec.to_builtins(manager.versions(str(args[0]) if args else ""))
        return told  # type: ignore[no-any-return]

    async def watch(peer: Peer, args: list[Any]) -> MessageValue:
        what = str(args[0]) if args else ""
        if what not in _STREAMS:
            raise Refused("missing", f"{what[:40]!r} cannot be watched; there are {', '.join(_STREAMS)}")
        async for item in _STREAMS[what](manager):
            if not peer.send(frames.encode(frames.Event(f"frys:{what}", item))):
                peer.dropped += 1
        return None

    return {"status": status, "ping": ping, "versions": versions, "watch": watch}


def _facts(manager: Manager, plugin: Plugin) -> MessageValue:
    usage = manager.resource_usage(f"{plugin.id}@={plugin.version}", private=False)
    return {
        "id": plugin.id,
        "version": plugin.version,
        "format": str(plugin.format),
        "isolation": str(plugin.isolation),
        "state": str(plugin.state),
        "calls": usage.calls,
        "restarts": usage.restarts,
        "violations": usage.violations,
        "memory": usage.memory_usage,
        "cpu_ms": usage.cpu_time_used,
    }


async def _happenings(manager: Manager) -> AsyncIterator[MessageValue]:
    async for event in manager.events():
        yield {
            "kind": event.kind,
            "plugin": event.plugin_id,
            "time": event.time,
            "data": dict(event.data),
        }


async def _traffic(manager: Manager) -> AsyncIterator[MessageValue]:
    async for record in manager.communicator.traffic():
        yield msgspec.to_builtins(record)


_STREAMS: Final[dict[str, Callable[[Manager], AsyncIterator[MessageValue]]]] = {
    "events": _happenings,
    "traffic": _traffic,
}
