"""Messages between the plugins of one manager, and between them and the host program.

A plugin's message comes here after its bytes were decoded under bounds. It is authorised (default: no) by who
knows where it goes, and its types are checked, both before the receiver is told anything. Calls of plugins
wait for each other only along a line that ends: whoever would close a circle is refused.
"""

import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import Final
from weakref import WeakSet

from .channels import CommunicatorStats
from .endpoints import Elsewhere, Peer, Target, Version
from .errors import CommunicationError, PluginError, PluginNotFound
from .event_broker import EventBroker
from .events import Event, Events, EventStream
from .host_functions import HostFunction
from .messages import MessageValue, PluginMessage, Refused, can_travel, check_timeout, check_value
from .ranges import split_address
from .refusals import MAX_DEPTH, Refusals, as_refusal, offered, refuse_mismatch, too_deep
from .routing import Route, Router
from .spans import Spans
from .traffic import Reply, Traffic, TrafficRecord, size
from .waits import Circle, Instance, Told, Waits, enter_line, line

_SERVICES: Final = ("log", "config", "kv")
"""What policies grant by these names is no function of the host program's."""


def caller() -> str:
    """The plugin whose call or question the running host function serves; empty outside of one."""
    waiting = line()
    return waiting[-1].plugin_id if waiting else ""


class PluginCommunicator:
    """Calls and events between plugins, and the host program's part in them: ``manager.communicator``.

    Args:
        events: Where refusals are told.
        spans: Who makes spans of OpenTelemetry, if anybody does.
    """

    def __init__(self, events: Events, spans: Spans | None = None) -> None:
        self._events = events
        self._refusals = Refusals(events)
        self._router = Router(self._refusals)
        self._traffic = Traffic(self._router.targets.__contains__, spans)
        self._broker = EventBroker(self._router, self._refusals, self._traffic)
        self._waits = Waits()
        self._host_functions: dict[str, HostFunction] = {}
        self._tells_status = False
        self._status_streams: WeakSet[EventStream[PluginMessage.StatusUpdate]] = WeakSet()

    # The host program's part.

    async def send_message(
        self,
        target: str,
        message: "PluginMessage.FunctionCall | PluginMessage.Event | PluginMessage.Heartbeat",
        *,
        timeout_ms: int | None = None,
    ) -> "PluginMessage.FunctionResponse | PluginMessage.Heartbeat | None":
        """Send a message to one plugin.

        Args:
            target: Its id, with a version behind ``@`` if that matters.
            message: A call, which is answered by a FunctionResponse; an event, which is queued; or a
                heartbeat, which the plugin's process answers with another.
            timeout_ms: A tighter deadline than the policy's, for a call.

        Raises:
            PluginNotFound: No plugin of that id is loaded.
            ValueError: The target is no address, or the deadline is none.
            CommunicationError: The event is none that the plugin takes, or its queue is full.
            PluginError: Whatever the call ended with.
            TypeError: The message is of another kind.
        """
        plugin_id, _ = split_address(target)
        match message:
            case PluginMessage.FunctionCall(function, args):
                check_timeout(timeout_ms)
                version, left = await self._router.reach(target, timeout_ms)
                with self.waits(version):
                    value = await self.deliver("", version, function, args, left)
                return PluginMessage.FunctionResponse(value)
            case PluginMessage.Event():
                check_value(message.data, "data")
                if plugin_id not in self._router.targets:
                    self.find(target)
                    why = "it runs at another supervisor, where only a broadcast or a call reaches it"
                    raise CommunicationError(target, why)
                self._broker.send(target, message)
                return None
            case PluginMessage.Heartbeat():
                version, _ = await self._router.reach(target)
                await version.ping()
                return PluginMessage.Heartbeat(time.monotonic_ns())
        raise TypeError(
            f"message must be a FunctionCall, an Event or a Heartbeat, not {type(message).__name__}"
        )

    def find(self, address: str) -> Version:
        """A plugin that another supervisor of the bus runs, to be called by this host program.

        Raises:
            PluginNotFound: None does.
            ValueError: That is no address.
        """
        return self._router.find(address)

    @contextmanager
    def waits(self, target: Version) -> Iterator[None]:
        """What runs now calls a plugin; where a plugin waits for what runs now, it waits for that one, too.

        Raises:
            CommunicationError: It would wait for itself.
        """
        try:
            with self._waits.waiting(target):
                yield
        except Circle as circle:
            what = f"it waits for the very function of the host program that calls it: {circle}"
            raise CommunicationError(target.plugin_id, what) from None

    async def deliver(
        self,
        sender: str,
        version: Version,
        function: str,
        args: Sequence[MessageValue],
        timeout_ms: int | None = None,
    ) -> MessageValue:
        """Call a plugin's function, and count that.

        Args:
            sender: The plugin that calls; empty for the host program.
            version: The plugin that is called.
            function: Its function.
            args: Plain values.
            timeout_ms: A tighter deadline than the policy's.

        Raises:
            PluginError, TypeError, ValueError: Whatever the call ended with.
        """
        began, values = perf_counter(), tuple(args)
        channel = sender, version.plugin_id, function if function in version.functions else ""
        call = None
        if not self._traffic.is_watched and can_travel(values):
            call = version.begin(function, values, timeout_ms)  # the books are opened while the plugin works
        with self._traffic.passage("call", channel, args, began=began) as passage:
            value = passage.value = await (call or version.call(function, values, timeout_ms))
        return value

    async def broadcast(self, event: PluginMessage.Event) -> int:
        """Publish an event of the host program; how many plugins and streams will get it."""
        check_value(event.data, "data")
        return self._broker.broadcast(PluginMessage.Event(event.event_type, event.data))

    def subscribe(self, event_type: str = "*", *, size: int = 1000) -> EventStream[PluginMessage.Event]:
        """The events of a type from now on: ``async for event in communicator.subscribe("data_ready")``.

        Args:
            event_type: A name, or a pattern with ``*`` and ``?``.
            size: Events that may wait; who is slower loses the oldest and sees how many in ``dropped``.
        """
        stream = self._broker.subscribe(event_type, size)
        self._changed()
        return stream

    def status_updates(self, *, size: int = 1000) -> EventStream[PluginMessage.StatusUpdate]:
        """Each change of a plugin's state from now on: ``async for update in communicator.status_updates()``.

        Args:
            size: Updates that may wait; who is slower loses the oldest and sees how many in ``dropped``.
        """
        stream: EventStream[PluginMessage.StatusUpdate] = EventStream(size)
        if not self._tells_status:
            self._tells_status = True
            self._events.add_sink(self._tell_status)
        self._status_streams.add(stream)
        return stream

    def _tell_status(self, event: Event) -> None:
        if event.kind == "state":
            for stream in tuple(self._status_streams):
                stream.put(PluginMessage.StatusUpdate(event.plugin_id, event.data["new"]))

    def offer(self, function: HostFunction) -> None:
        """Let plugins call a function of the host program, where their policy grants it.

        Raises:
            ValueError: There is one of that name already, or a service.
        """
        if function.name in self._host_functions or function.name in _SERVICES:
            raise ValueError(f"there is a host function {function.name!r} already")
        self._host_functions[function.name] = function

    @property
    def host_functions(self) -> dict[str, HostFunction]:
        """The host program's functions by name."""
        return self._host_functions.copy()

    def stats(self) -> CommunicatorStats:
        """Counts over the manager's life."""
        counts, traffic = self._broker.counts, self._traffic
        other = traffic.calls.other()
        other.merge(traffic.events.other())
        return CommunicatorStats(
            channels=traffic.calls.snapshot(),
            events=traffic.events.snapshot(),
            other=other,
            published=counts.published,
            delivered=counts.delivered,
            dropped=counts.dropped,
            failed=counts.failed,
            waiting=self._broker.waiting,
            refused=dict(self._refusals.counts),
        )

    def traffic(self, *, size: int = 1000) -> EventStream[TrafficRecord]:
        """Every message from now on, without its contents: ``async for record in communicator.traffic()``.

        While nobody listens, no record is made.

        Args:
            size: Records that may wait; who is slower loses the oldest and sees how many in ``dropped``.
        """
        return self._traffic.listen(size)

    # The plugins' part.

    def add(self, target: Target) -> dict[str, str]:
        """Let a loaded plugin take part, or another version of it: events that wait are for that one then.

        Returns:
            The events that it wants and will not get, each with the reason.
        """
        self._router.add(target)
        unheard = self._broker.add(target)
        self._changed()
        return unheard

    def remove(self, plugin_id: str) -> None:
        """A plugin is gone."""
        self._router.remove(plugin_id)
        self._refusals.forget(plugin_id)
        self._traffic.calls.left()
        self._traffic.events.left()
        self._broker.remove(plugin_id)
        self._changed()

    def call(
        self,
        source: Peer,
        target: str,
        function: str,
        args: list[MessageValue],
        timeout_ms: int,
        reply: Reply | None = None,
    ) -> Awaitable[MessageValue]:
        """A plugin calls another one; it may have begun when this returns, and goes on while that is awaited.

        Args:
            source: The plugin that calls.
            target: The id of the other one, with a version behind ``@`` if that matters.
            function: Its function.
            args: What it is called with; decoded, so that they can travel.
            timeout_ms: How long the caller waits.
            reply: Sends the result to the caller as soon as it is known.

        Raises:
            Refused: It may not, the types do not fit, it would wait for itself, or the call failed; when it
                is awaited.
        """
        began = perf_counter()
        route = self._router.known(source, target, function)
        if (
            route is None
            or tuple(map(type, args)) != route.usual
            or len(line()) > MAX_DEPTH
            or self._may_refuse(route.version)
            or (call := route.version.begin(function, tuple(args), timeout_ms)) is None
        ):
            return self._call(source, target, function, args, timeout_ms, reply)
        return self._deliver(route, args, timeout_ms, reply, began, call)

    def _may_refuse(self, version: Version) -> bool:
        """Whether opening the books of a call of a plugin can fail, so that it has to come first."""
        return self._router.elsewhere is not None or self._traffic.is_watched or self._waits.has(version)

    async def _call(
        self,
        source: Peer,
        target: str,
        function: str,
        args: list[MessageValue],
        timeout_ms: int,
        reply: Reply | None,
    ) -> MessageValue:
        began, plugin_id, route = perf_counter(), target.partition("@")[0], None
        try:
            if len(line()) > MAX_DEPTH:
                raise too_deep(line())
            route = self._router.known(source, target, function)
            if route is None:
                route = await self._router.authorise(source, target, function)
            refuse_mismatch(route.declared.params, args, f"{plugin_id}.{function}")
        except Refused as refusal:
            channel = source.plugin_id, plugin_id, function
            self._traffic.refused("call", channel, route is not None, args, refusal.reason)
            raise
        return await self._deliver(route, args, timeout_ms, reply, began)

    async def _deliver(
        self,
        route: Route,
        args: list[MessageValue],
        timeout_ms: int,
        reply: Reply | None,
        began: float,
        call: Awaitable[MessageValue] | None = None,
    ) -> MessageValue:
        """Keep the books of an authorised call, and make it if it has not begun yet."""
        version, (_, plugin_id, function) = route.version, route.channel
        waits = self._waits.waiting(version) if self._router.elsewhere is None else self._waiting(version)
        channel, declared = route.channel, route.declared
        passage = self._traffic.passage("call", channel, args, declared, reply=reply, began=began)
        try:
            with waits, passage:
                value = await (call or version.call(function, tuple(args), timeout_ms))
                if not passage.has_arrived:
                    passage.arrive(value)
                return value
        except Circle as circle:
            raise Refused("cycle", f"it would wait for itself: {circle}") from None
        except PluginNotFound:
            raise Refused("missing", f"{plugin_id} was unloaded") from None
        except (PluginError, TypeError, ValueError) as error:
            raise as_refusal(plugin_id, function, error) from None

    @contextmanager
    def _waiting(self, version: Version) -> Iterator[None]:
        elsewhere = self._router.elsewhere
        with self._waits.waiting(version), elsewhere.waiting(version) if elsewhere else nullcontext():
            yield

    def publish(self, source: Peer, event_type: str, data: MessageValue) -> int:
        """A plugin publishes an event; how many plugins and streams will get it.

        Raises:
            Refused: It may not, or the event is not declared, or its data has another type.
        """
        return self._broker.publish(source, event_type, data)

    async def call_host(self, source: Peer, name: str, args: list[MessageValue]) -> MessageValue:
        """A plugin calls a function of the host program that it was granted.

        Raises:
            Refused: There is none of that name, the types do not fit, or it failed.
        """
        function = self._host_functions.get(name)
        channel = source.plugin_id, "", name
        if function is None:
            self._traffic.refused("host", channel, False, args, "missing")
            raise Refused("missing", f"the host program offers no function {name[:40]!r}")
        with self._traffic.passage("host", channel, args, function.declared) as passage:
            passage.bytes_out = size(args)
            value = passage.value = await function(args)
            passage.bytes_in = size(value)
        return value

    def refuse(self, source: Peer, reason: str, what: str) -> Refused:
        """Count and tell that a plugin asked for what its policy does not grant.

        Returns:
            What the plugin is to be told.
        """
        return self._refusals.refuse(source, reason, what)

    def _changed(self) -> None:
        if self._router.elsewhere is not None:
            self._router.elsewhere.changed()

    # The other supervisors' part.

    @property
    def elsewhere(self) -> Elsewhere | None:
        """These, once there is a message bus."""
        return self._router.elsewhere

    @elsewhere.setter
    def elsewhere(self, supervisors: Elsewhere | None) -> None:
        self._router.elsewhere = supervisors

    @property
    def plugins(self) -> dict[str, Version]:
        """Every version that is here: by id the one that counts for who names none, else ``ID@VERSION``."""
        return self._router.plugins

    def version(self, address: str) -> Version | None:
        """The version here that an address means, if there is one.

        Raises:
            ValueError: That is no address.
        """
        return self._router.version(address)

    def version_name(self, plugin_id: str, key: int) -> str:
        """``ID@VERSION`` of a loaded version; unlike any other's, too, for one on trial or on its way out."""
        return self._router.version_name(plugin_id, key)

    @property
    def wanted(self) -> dict[str, int]:
        """Types of events, or patterns of them, each with how many plugins and streams here want it."""
        return self._broker.wanted

    async def call_from_elsewhere(
        self,
        name: str,
        source: str,
        callers: tuple[Instance, ...],
        target: str,
        function: str,
        args: list[MessageValue],
        timeout_ms: int | None,
    ) -> MessageValue:
        """Another supervisor has authorised a call of a plugin that is here; what can be checked here, is.

        Args:
            name: The call's, unlike any other's.
            source: The plugin that calls, and its supervisor; empty for a host program.
            callers: Who waits for the answer, one for the next; the last is the source, if there is one.
            target: The plugin.
            function: Its function.
            args: What it is called with.
            timeout_ms: How long the caller waits.

        Raises:
            Refused: The plugin does not offer that.
            PluginError: Whatever the call ended with.
        """
        plugin_id, wanted = split_address(target)
        found = self._router.targets.get(plugin_id)
        if found is None:
            raise PluginNotFound(target)
        version = await found.reach(wanted)
        if source:
            if len(callers) > MAX_DEPTH:
                raise too_deep(callers)
            refuse_mismatch(offered(version, function).params, args, f"{plugin_id}.{function}")
        enter_line(callers)
        with self._waits.arriving(name, version):
            return await self.deliver(source, version, function, args, timeout_ms)

    def told_waits(self) -> list[Told]:
        """Who waits for whom at this moment, calls from elsewhere among them."""
        return self._waits.told()

    def event_from_elsewhere(self, event: PluginMessage.Event) -> int:
        """Give an event of another supervisor to those who want it, a copy of its publisher among them."""
        return self._broker.receive(event)

    def close(self) -> None:
        """End every stream and every delivery."""
        for plugin_id in tuple(self._router.targets):
            self.remove(plugin_id)
        self._broker.close()
        for updates in tuple(self._status_streams):
            updates.close()
        self._traffic.close()
