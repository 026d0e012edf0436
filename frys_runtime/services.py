"""What a plugin may ask its host for: one object for each live plugin, between its lane and everything else.

A question is a service's name and plain values, decoded under bounds and otherwise as hostile as the plugin.
Nothing is granted by default; what is, the plugin's policy says. Whoever asks too often is answered later,
which slows nobody else: the plugin waits for its answer.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from . import trace
from .communicator import PluginCommunicator
from .compiled import CompiledCode
from .endpoints import Peer
from .http_broker import HttpBroker
from .keyvalue import KeyValueStore
from .messages import MessageValue, Refused
from .policy_terms import Policy

logger = logging.getLogger("frys.plugin")

_LEVELS: Final = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_LINE: Final = 2000


class Asked(Protocol):
    """A question, as far as those who answer it know.

    Attributes:
        deadline: When the call ends in which it was asked, by the event loop's clock.
    """

    deadline: float

    def answer(self, value: MessageValue) -> None:
        """Send a value that is certain before the work is done; what that returns later is not sent."""


type Answer = Callable[["Services", list[Any], Asked], Awaitable[MessageValue]]


class Shared(NamedTuple):
    """What the services of all plugins of one manager share."""

    communicator: PluginCommunicator
    store: Callable[[], KeyValueStore]
    compiled: CompiledCode


class Services:
    """The services of one plugin.

    Args:
        shared: What the manager's plugins share.
        peer: The plugin.
        policy: What it is granted.
        config: What its ``frys.config`` reads.
    """

    def __init__(
        self, shared: Shared, peer: Peer, policy: Policy, config: Mapping[str, MessageValue]
    ) -> None:
        self._shared, self._peer, self._policy, self._config = shared, peer, policy, config
        self._broker: HttpBroker | None = None
        self._loop = asyncio.get_running_loop()
        self._interval = 1 / policy.limits.messages
        self._next = -math.inf

    def answer(self, service: str, args: list[MessageValue], asked: Asked) -> Awaitable[MessageValue]:
        """Answer a question.

        Args:
            service: The service's name.
            args: What it is to work on.
            asked: The question.

        Raises:
            Refused: It gets no value, and the reason; now, or when the answer is awaited.
        """
        now = self._loop.time()
        # Up to one second's worth may come at once; then each waits until it is due.
        self._next = max(self._next, now - 1.0) + self._interval
        if self._next > now:
            return self._work_later(self._next - now, service, args, asked)
        return self._work(service, args, asked)

    async def refuse(self, refusal: Refused) -> MessageValue:
        """Refuse a question without a look at it; it counts as one, and waits as one.

        Raises:
            Refused: That.
        """
        self._next = max(self._next, self._loop.time() - 1.0) + self._interval
        await asyncio.sleep(self._next - self._loop.time())
        raise refusal

    async def _work_later(
        self, seconds: float, service: str, args: list[MessageValue], asked: Asked
    ) -> MessageValue:
        await asyncio.sleep(seconds)
        return await self._work(service, args, asked)

    def _work(self, service: str, args: list[MessageValue], asked: Asked) -> Awaitable[MessageValue]:
        known = _SERVICES.get(service)
        if known is None:
            raise Refused(
                "missing", f"there is no service {service[:40]!r}; there are {', '.join(_SERVICES)}"
            )
        shape, grant, work = known
        if tuple(map(type, args)) != shape.types and not shape.fits(args):
            raise Refused("invalid", f"{service} takes {shape.text}")
        if grant and not self._policy.may_use(grant):
            raise self._shared.communicator.refuse(
                self._peer, f"host_functions: [{grant}]", f"used {service}"
            )
        return work(self, args, asked)

    def http_usage(self) -> dict[str, int]:
        """What its requests took, by the names of :class:`frys_runtime.config.ResourceUsage`."""
        broker = self._broker
        if broker is None:
            return {}
        return {
            "http_requests": broker.requests,
            "http_bytes_in": broker.bytes_in,
            "http_bytes_out": broker.bytes_out,
        }

    async def close(self) -> None:
        """End what is under way."""
        if self._broker is not None:
            await self._broker.close()

    async def _log(self, args: list[Any], _asked: Asked) -> None:
        level, text = args
        if level not in _LEVELS:
            raise Refused("invalid", f"{level[:40]!r} is no level; there are {', '.join(_LEVELS)}")
        # One record is one line, whatever stands in it: nobody forges a record, or talks to a terminal.
        line = text[:_LINE] if text[:_LINE].isprintable() else ascii(text[:_LINE])[1:-1]
        context = trace.current.get()
        who = {"plugin_id": self._peer.plugin_id, "trace_id": context.trace_id if context is not None else ""}
        logger.log(_LEVELS[level], "%s: %s", self._peer.plugin_id, line, extra=who)

    async def _read_trace(self, _args: list[Any], _asked: Asked) -> MessageValue:
        context = trace.current.get()
        return context.traceparent if context is not None else None

    async def _read_config(self, args: list[Any], _asked: Asked) -> MessageValue:
        return self._config.get(args[0]) if args else dict(self._config)

    async def _kv_get(self, args: list[Any], _asked: Asked) -> MessageValue:
        return await self._shared.store().get(self._peer.plugin_id, args[0])

    async def _kv_set(self, args: list[Any], _asked: Asked) -> None:
        await self._shared.store().put(self._peer.plugin_id, args[0], args[1], self._policy.limits.kv)

    async def _kv_delete(self, args: list[Any], _asked: Asked) -> bool:
        return await self._shared.store().delete(self._peer.plugin_id, args[0])

    async def _kv_keys(self, args: list[Any], _asked: Asked) -> MessageValue:
        return await self._shared.store().keys(self._peer.plugin_id, *args)

    async def _http(self, args: list[Any], asked: Asked) -> MessageValue:
        if self._broker is None:
            self._broker = HttpBroker(self._policy.http)
        try:
            return await self._broker.request(args[0], asked.deadline)
        except Refused as refusal:
            if refusal.reason == "permission":
                self._shared.communicator.refuse(self._peer, "network", f"asked for HTTP: {refusal.message}")
            raise

    def _call(self, args: list[Any], asked: Asked) -> Awaitable[MessageValue]:
        target, function, values = args
        left = math.ceil((asked.deadline - self._loop.time()) * 1000)
        if left <= 0:
            raise Refused("timeout", "no time is left for another plugin's call")
        return self._shared.communicator.call(self._peer, target, function, values, left, asked.answer)

    async def _emit(self, args: list[Any], _asked: Asked) -> int:
        return self._shared.communicator.publish(self._peer, args[0], args[1] if len(args) > 1 else None)

    async def _host_names(self, _args: list[Any], _asked: Asked) -> MessageValue:
        return [name for name in self._shared.communicator.host_functions if self._policy.may_use(name)]

    async def _host_types(self, _args: list[Any], _asked: Asked) -> MessageValue:
        types: dict[str, MessageValue] = {}
        for name, function in self._shared.communicator.host_functions.items():
            if self._policy.may_use(name):
                types[name] = None if function.types is None else list(function.types)
        return types

    async def _call_host(self, args: list[Any], _asked: Asked) -> MessageValue:
        name, values = args
        if not self._policy.may_use(name):
            what = f"called the host's {name[:128]}"
            raise self._shared.communicator.refuse(self._peer, f"host_functions: [{name[:128]}]", what)
        return await self._shared.communicator.call_host(self._peer, name, values)


class _Shape(NamedTuple):
    """What a service takes: the types of its arguments, how many there may be, and that in words."""

    types: tuple[type, ...]
    counts: tuple[int, ...]
    text: str

    def fits(self, args: list[MessageValue]) -> bool:
        """Whether these are such arguments."""
        return len(args) in self.counts and all(map(isinstance, args, self.types))


# By name: the arguments, the grant that it needs (empty where the service looks itself), the work.
_SERVICES: Final[dict[str, tuple[_Shape, str, Answer]]] = {
    "log": (_Shape((str, str), (2,), "(level, text)"), "log", Services._log),
    "trace": (_Shape((), (0,), "()"), "log", Services._read_trace),
    "config": (_Shape((str,), (0, 1), "() or (key)"), "config", Services._read_config),
    "kv.get": (_Shape((str,), (1,), "(key)"), "kv", Services._kv_get),
    "kv.set": (_Shape((str, object), (2,), "(key, value)"), "kv", Services._kv_set),
    "kv.delete": (_Shape((str,), (1,), "(key)"), "kv", Services._kv_delete),
    "kv.keys": (_Shape((str,), (0, 1), "() or (prefix)"), "kv", Services._kv_keys),
    "http": (_Shape((dict,), (1,), "({url, method, headers, body, timeout_ms})"), "", Services._http),
    "call": (_Shape((str, str, list), (3,), "(plugin, function, [arguments])"), "", Services._call),
    "emit": (_Shape((str, object), (1, 2), "(event) or (event, data)"), "", Services._emit),
    "host": (_Shape((str, list), (2,), "(function, [arguments])"), "", Services._call_host),
    "host.names": (_Shape((), (0,), "()"), "", Services._host_names),
    "host.types": (_Shape((), (0,), "()"), "", Services._host_types),
}
