"""A program that runs plugins and takes part in the message bus: what ``frys serve`` is."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .bus.config import BusConfig
from .config import IsolationLevel
from .errors import AlreadyLoaded, InitializationFailed
from .manager import PluginManager

if TYPE_CHECKING:
    from .marketplace.market import PluginMarketplace

logger = logging.getLogger("frys.serve")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Serving:
    """What runs now.

    Attributes:
        name: The supervisor's, on the bus.
        folder: Where it can be found.
        plugins: What its plugins are called by.
        metrics: Where its metrics are read; empty for nowhere.
    """

    name: str
    folder: str
    plugins: tuple[str, ...]
    metrics: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a manager is made, and how it ends; see :class:`PluginManager`.

    Attributes:
        bus: Where others find it.
        policy: A policy file for all plugins.
        isolation: A level, instead of a policy.
        state_dir: Where what they store is kept.
        plugin_paths: Folders in which names, and what plugins depend on, are looked up.
        hot_reload: Plugins are reloaded when their files are saved.
        restore: What was loaded when it last ended, is loaded again.
        audit: A file for the audit log.
        metrics: Where metrics of Prometheus are offered: host and port, 0 for any that is free.
        drain_ms: Milliseconds in which calls may end, after the first signal and before a second one.
        registry: Where plugins named as ``my-plugin@^1.2`` come from.
    """

    bus: BusConfig
    policy: Path | None = None
    isolation: IsolationLevel | None = None
    state_dir: Path | None = None
    plugin_paths: Sequence[Path] = ()
    hot_reload: bool = False
    restore: bool = False
    audit: Path | None = None
    metrics: tuple[str, int] | None = None
    drain_ms: int = 0
    registry: "PluginMarketplace | None" = None

    def manager(self) -> PluginManager:
        """A manager with these settings."""
        return PluginManager(
            bus=self.bus,
            policy=self.policy,
            isolation=self.isolation,
            state_dir=self.state_dir,
            plugin_paths=self.plugin_paths,
            hot_reload=self.hot_reload,
            restore=self.restore,
            audit=self.audit,
            registry=self.registry,
        )


async def serve(
    plugins: Sequence[tuple[str | None, str]], settings: Settings, ready: Callable[[Serving], None]
) -> None:
    """Run plugins until SIGTERM or SIGINT, or until the calling task is cancelled; then the program ends.

    Args:
        plugins: Each with the id to load it under, or ``None`` for its own.
        settings: How.
        ready: Called once everything runs.

    Raises:
        PluginError: The manager or a plugin cannot be started; nothing is left running then.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        async with settings.manager() as manager, _metrics(manager, settings.metrics) as metrics:
            loading = asyncio.ensure_future(_load(manager, plugins))
            stopped = asyncio.ensure_future(stop.wait())
            await asyncio.wait((loading, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
                return
            await loading
            assert manager.bus is not None
            names = tuple(manager.communicator.plugins)
            ready(Serving(manager.bus.name, manager.bus.folder, names, metrics))
            _notify("READY=1")
            await stopped
            _notify("STOPPING=1")
            if settings.drain_ms:
                stop.clear()
                await _drain(manager, settings.drain_ms, stop)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(
                number, signal.SIG_IGN
            )  # all has ended: one more of them shall not make it a failure


async def _load(manager: PluginManager, plugins: Sequence[tuple[str | None, str]]) -> None:
    for name, reason in manager.unrestored.items():
        logger.warning("%s is not there again: %s", name or "what is remembered", reason)
    restored = {name for one in manager.list_plugins() for name in (one.id, f"{one.id}@{one.version}")}
    for plugin_id, path in plugins:
        try:
            await manager.load_plugin(os.fspath(path), plugin_id=plugin_id)
        except AlreadyLoaded as error:
            if error.plugin_id not in restored:
                raise


async def _drain(manager: PluginManager, drain_ms: int, stop: asyncio.Event) -> None:
    """Let calls end, until they have, or the time is over, or a second signal comes."""
    closing = asyncio.ensure_future(manager.close(drain_ms=drain_ms))
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((closing, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        await manager.close()
        await closing


@asynccontextmanager
async def _metrics(manager: PluginManager, address: tuple[str, int] | None) -> AsyncIterator[str]:
    """Offer the manager's metrics over HTTP; where."""
    if address is None:
        yield ""
        return
    from .metrics import ManagerCollector  # first: it says which extra is missing

    from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server  # isort: skip

    registry = CollectorRegistry()
    registry.register(ManagerCollector(manager))
    ProcessCollector(registry=registry)
    host, port = address
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        where = f"{host}:{port}"
        raise InitializationFailed(f"the page of metrics at {where}", error.strerror or str(error)) from None
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        # A scrape that is under way waits for this loop, so the loop goes on meanwhile.
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)


def _notify(state: str) -> None:
    """Tell systemd, if it has started this (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notices:
        try:
            notices.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            logger.warning("systemd could not be told %s: %s", state, error.strerror)
