"""A program that runs plugins and takes part in the message bus: what ``frys serve`` is."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .bus.config import BusConfig
from .config import IsolationLevel
from .manager import PluginManager

if TYPE_CHECKING:
    from .marketplace.market import PluginMarketplace


@dataclass(frozen=True, slots=True)
class Serving:
    """What runs now.

    Attributes:
        name: The supervisor's, on the bus.
        folder: Where it can be found.
        plugins: The ids of its plugins.
    """

    name: str
    folder: str
    plugins: tuple[str, ...]


async def serve(
    plugins: Sequence[tuple[str | None, str]],
    *,
    bus: BusConfig,
    policy: Path | None = None,
    isolation: IsolationLevel | None = None,
    state_dir: Path | None = None,
    registry: "PluginMarketplace | None" = None,
    ready: Callable[[Serving], None],
) -> None:
    """Run plugins until SIGTERM or SIGINT, or until the calling task is cancelled.

    Args:
        plugins: Each with the id to load it under, or ``None`` for its own.
        bus: Where others find it.
        policy: A policy file for all of them.
        isolation: A level, instead of a policy.
        state_dir: Where what they store is kept.
        registry: Where plugins named as ``my-plugin@^1.2`` come from.
        ready: Called once everything runs.

    Raises:
        PluginError: The manager or a plugin cannot be started; nothing is left running then.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings: Mapping[str, object] = {
        "policy": policy,
        "isolation": isolation,
        "state_dir": state_dir,
        "registry": registry,
    }
    try:
        async with PluginManager(bus=bus, **settings) as manager:  # type: ignore[arg-type]
            loading = asyncio.ensure_future(_load(manager, plugins))
            stopped = asyncio.ensure_future(stop.wait())
            await asyncio.wait((loading, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
                return
            ids = await loading
            assert manager.bus is not None
            ready(Serving(manager.bus.name, manager.bus.folder, ids))
            await stopped
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _load(manager: PluginManager, plugins: Sequence[tuple[str | None, str]]) -> tuple[str, ...]:
    return tuple(
        [await manager.load_plugin(os.fspath(path), plugin_id=plugin_id) for plugin_id, path in plugins]
    )
