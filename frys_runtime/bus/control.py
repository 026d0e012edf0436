"""What peers may have a supervisor do to the plugins of its manager, if that lets them.

A closed list. Each operation has options of its own, which are typed and by default what they are for the
host program itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from ..events import Events
from ..messages import MessageValue, Refused
from ..ranges import split_address
from . import frames
from .node import Peer
from .sockets import Credentials

logger = logging.getLogger("frys.bus")


class Plugin(Protocol):
    """One of its plugins."""

    async def suspend(self) -> None: ...  # noqa: D102 - frys_runtime.plugin.Plugin says it
    async def resume(self) -> None: ...  # noqa: D102


class Manager(Protocol):
    """Who obeys: :class:`frys_runtime.manager.PluginManager`."""

    @property
    def load_plugin(self) -> Callable[..., Awaitable[str]]: ...  # noqa: D102 - said there
    @property
    def reload_plugin(self) -> Callable[..., Awaitable[object]]: ...  # noqa: D102
    @property
    def canary(self) -> Callable[..., Awaitable[str]]: ...  # noqa: D102
    @property
    def promote(self) -> Callable[[str], Awaitable[None]]: ...  # noqa: D102
    @property
    def roll_back(self) -> Callable[[str], Awaitable[None]]: ...  # noqa: D102
    @property
    def pin(self) -> Callable[[str, str | None], None]: ...  # noqa: D102
    @property
    def unload_plugin(self) -> Callable[..., Awaitable[None]]: ...  # noqa: D102

    def plugin(self, plugin_id: str) -> Plugin:
        """One of its plugins."""


class _Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What an operation is told beside its plugin."""

    def given(self) -> dict[str, Any]:
        """Those that are there."""
        named = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in named if value is not UNSET}


class _Reload(_Options):
    path: str | UnsetType = UNSET
    force: bool | UnsetType = UNSET
    drain_ms: int | UnsetType = UNSET


class _Canary(_Options):
    path: str
    weight: float | UnsetType = UNSET
    promote_after: int | None | UnsetType = UNSET
    max_error_rate: float | UnsetType = UNSET
    min_calls: int | UnsetType = UNSET
    force: bool | UnsetType = UNSET


class _Pin(_Options):
    version: str | None


class _Load(_Options):
    path: str


class _Unload(_Options):
    force: bool | UnsetType = UNSET
    drain_ms: int | UnsetType = UNSET


async def _reload(manager: Manager, plugin: str, options: _Reload) -> MessageValue:
    done: Any = msgspec.to_builtins(await manager.reload_plugin(plugin, **options.given()))
    return done  # type: ignore[no-any-return]


async def _canary(manager: Manager, plugin: str, options: _Canary) -> MessageValue:
    return {"version": await manager.canary(plugin, **options.given())}


async def _promote(manager: Manager, plugin: str, _options: _Options) -> MessageValue:
    await manager.promote(plugin)
    return None


async def _roll_back(manager: Manager, plugin: str, _options: _Options) -> MessageValue:
    await manager.roll_back(plugin)
    return None


async def _pin(manager: Manager, plugin: str, options: _Pin) -> MessageValue:
    manager.pin(plugin, options.version)
    return None


async def _suspend(manager: Manager, plugin: str, _options: _Options) -> MessageValue:
    await manager.plugin(plugin).suspend()
    return None


async def _resume(manager: Manager, plugin: str, _options: _Options) -> MessageValue:
    await manager.plugin(plugin).resume()
    return None


async def _load(manager: Manager, plugin: str, options: _Load) -> MessageValue:
    return {"plugin": await manager.load_plugin(options.path, plugin_id=plugin or None)}


async def _unload(manager: Manager, plugin: str, options: _Unload) -> MessageValue:
    await manager.unload_plugin(plugin, **options.given())
    return None


_OPERATIONS: Final[
    Mapping[str, tuple[type[_Options], Callable[[Manager, str, Any], Awaitable[MessageValue]]]]
] = {
    "reload": (_Reload, _reload),
    "canary": (_Canary, _canary),
    "promote": (_Options, _promote),
    "roll_back": (_Options, _roll_back),
    "pin": (_Pin, _pin),
    "suspend": (_Options, _suspend),
    "resume": (_Options, _resume),
    "load": (_Load, _load),
    "unload": (_Unload, _unload),
}


class Control:
    """What peers may have done.

    Args:
        manager: Who does it.
        events: Where each order is told, with what became of it.
        allowed: Whether they may; reading never needs it.
    """

    def __init__(self, manager: Manager, events: Events, *, allowed: bool) -> None:
        self._manager, self._events, self._allowed = manager, events, allowed

    async def obey(self, peer: Peer, who: Credentials, order: frames.Control) -> MessageValue:
        """Do what a peer asks for, and tell who that was, what it wanted, and what became of it.

        Args:
            peer: By its own words.
            who: By what cannot be forged.
            order: What it asks for.

        Raises:
            Refused: It may not, or there is no such operation, or the options are none of it.
            PluginError: Whatever it ended with.
            ValueError: The plugin is no address, or a number makes no sense.
        """
        outcome = reason = ""
        try:
            answer = await self._do(peer, order)
        except asyncio.CancelledError:
            outcome, reason = "cancelled", "whoever ordered it has gone, or has given it up"
            raise
        except Exception as error:
            outcome, reason = type(error).__name__, str(error)
            raise
        else:
            outcome = "done"
        finally:
            self._events.publish(
                "controlled",
                order.plugin.partition("@")[0],
                operation=order.operation,
                target=order.plugin,
                options=order.options,
                by=f"{peer.program} {peer.name}",
                **{name: fact for name, fact in who._asdict().items() if fact not in (None, "")},
                outcome=outcome,
                reason=reason,
            )
        return answer

    async def _do(self, peer: Peer, order: frames.Control) -> MessageValue:
        if not self._allowed:
            raise Refused("permission", "this supervisor lets nobody control it (BusConfig(control=False))")
        named = _OPERATIONS.get(order.operation)
        if named is None:
            known = ", ".join(_OPERATIONS)
            raise Refused("missing", f"{order.operation[:40]!r} is no operation; there are {known}")
        kind, operate = named
        try:
            options = msgspec.convert(order.options, kind)
        except msgspec.ValidationError as error:
            raise Refused("invalid", f"{order.operation}: {error}") from None
        if order.plugin:
            split_address(order.plugin)
        logger.info("%s has %s done: %s", peer, order.operation, order.plugin[:256])
        return await operate(self._manager, order.plugin, options)
