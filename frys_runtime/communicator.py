"""Messages between the plugins of one manager, and between them and the host program.

A plugin's message comes here after its bytes were decoded under bounds. Here it is authorised (default: no)
and its types are checked, both before the receiver is told anything. Calls of plugins wait for each other
only along a line that ends: whoever would close a circle is refused.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from .channels import Channel, CommunicatorStats
from .endpoints import Elsewhere, Peer, Target, Version, name_of, needed_by
from .errors import (
    CommunicationError,
    PluginError,
    PluginNotFound,
)
from .events import Event, Events, EventStream
from .host_functions import HostFunction
from .interfaces import Function, Type, check, usual_types
from .messages import MessageValue, PluginMessage, Refused, check_value
from .policy_grants import matches
from .ranges import Range, split_address
from .refusals import MAX_DEPTH, MAX_TEXT, as_refusal, offered, refuse_mismatch, too_deep
from .spans import Spans
from .subscriptions import MAX_QUEUE, DeliveryCounts, Subscriber, handler_of
from .traffic import Reply, Traffic, TrafficRecord, size
from .waits import Circle, Instance, Told, Waits, enter_line, line

_SERVICES: Final = ("log", "config", "kv")
"""What policies grant by these names is no function of the host program's."""
_ROUTES: Final = 1024
"""Kinds of calls of plugins whose way is known."""
_TOLD: Final = 64
"""Different refusals of one plugin that are told one by one; all are counted."""


def caller() -> str:
    """The plugin whose call or question the running host function serves; empty outside of one."""
    waiting = line()
    return waiting[-1].plugin_id if waiting else ""


class _Route(NamedTuple):
    """Where calls of one plugin to one function go.

    Attributes:
        target: The plugin, if it is here.
        wanted: Which of its versions.
        version: The one that was found.
        declared: The function's types.
        usual: The Python types of its arguments, where each can be of one only; nothing where not.
        channel: Where they are counted.
    """

    target: Target | None
    wanted: Range | None
    version: Version
    declared: Function
    usual: tuple[type, ...] | None
    channel: Channel


class PluginCommunicator:
    """Calls and events between plugins, and the host program's part in them: ``manager.communicator``.

    Args:
        events: Where refusals are told.
        spans: Who makes spans of OpenTelemetry, if anybody does.
    """

    def __init__(self, events: Events, spans: Spans | None = None) -> None:
        self._events = events
        self._targets: dict[str, Target] = {}
        self._subscribers: dict[str, Subscriber] = {}
        self._streams: WeakKeyDictionary[EventStream[PluginMessage.Event], str] = WeakKeyDictionary()
        self._tells_status = False
        self._status_streams: WeakSet[EventStream[PluginMessage.StatusUpdate]] = WeakSet()
        self._host_functions: dict[str, HostFunction] = {}
        self._waits = Waits()
        self.elsewhere: Elsewhere | None = None
        self._told: dict[str, set[str]] = {}
        self._routes: dict[tuple[int, str, str], _Route] = {}
        self._counts = DeliveryCounts()
        self._traffic = Traffic(self._targets.__contains__, spans)

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
            ValueError: The target is no address.
            CommunicationError: The event is none that the plugin takes, or its queue is full.
            PluginError: Whatever the call ended with.
            TypeError: The message is of another kind.
        """
        plugin_id, wanted = split_address(target)
        found = self._targets.get(plugin_id)
        match message:
            case PluginMessage.FunctionCall(function, args):
                if found is None or self.version(target) is None:
                    version, left = self.find(target), timeout_ms
                else:
                    version, left = await found.reach_in_time(wanted, timeout_ms)
                with self.waits(version):
                    value = await self.deliver("", version, function, args, left)
                return PluginMessage.FunctionResponse(value)
            case PluginMessage.Event():
                check_value(message.data, "data")
                subscriber = self._subscribers.get(plugin_id)
                if found is None:
                    self.find(target)
                if subscriber is None or not subscriber.wants(message.event_type):
                    raise CommunicationError(target, f"it does not take events {message.event_type!r}")
                if not subscriber.put(message):
                    raise CommunicationError(target, f"{MAX_QUEUE} events wait for it already")
                return None
            case PluginMessage.Heartbeat():
                await (await self._reach_as_host(target)).ping()
                return PluginMessage.Heartbeat(time.monotonic_ns())
        raise TypeError(
            f"message must be a FunctionCall, an Event or a Heartbeat, not {type(message).__name__}"
        )

    async def _reach_as_host(self, address: str) -> Version:
        here = self.version(address)
        if here is None:
            return self.find(address)
        plugin_id, wanted = split_address(address)
        return await self._targets[plugin_id].reach(wanted)

    def find(self, address: str) -> Version:
        """A plugin that another supervisor of the bus runs, to be called by this host program.

        Raises:
            PluginNotFound: None does.
            ValueError: That is no address.
        """
        plugin_id, wanted = split_address(address)
        found = self.elsewhere.find(plugin_id, wanted, as_host=True) if self.elsewhere is not None else None
        if found is None:
            raise PluginNotFound(address)
        return found

    async def broadcast(self, event: PluginMessage.Event) -> int:
        """Publish an event of the host program; how many plugins and streams will get it."""
        check_value(event.data, "data")
        return self._publish(PluginMessage.Event(event.event_type, event.data))

    def subscribe(self, event_type: str = "*", *, size: int = 1000) -> EventStream[PluginMessage.Event]:
        """The events of a type from now on: ``async for event in communicator.subscribe("data_ready")``.

        Args:
            event_type: A name, or a pattern with ``*`` and ``?``.
            size: Events that may wait; who is slower loses the oldest and sees how many in ``dropped``.
        """
        stream: EventStream[PluginMessage.Event] = EventStream(size)
        self._streams[stream] = event_type
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
        counts, traffic = self._counts, self._traffic
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
            waiting={plugin_id: subscriber.waiting for plugin_id, subscriber in self._subscribers.items()},
            refused=dict(counts.refused),
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
        self._targets[target.plugin_id] = target
        self._routes.clear()
        version = target.match()
        handlers: dict[str, str] = {}
        unheard: dict[str, str] = {}
        for name in version.metadata.events.subscribes:
            if not version.messages.may_subscribe(name):
                unheard[name] = f"its policy does not grant messages.subscribe: [{name}]"
            elif not (handler := handler_of(name, version.functions)):
                unheard[name] = "it has no function that would handle it"
            else:
                handlers[name] = handler
        subscriber = self._subscribers.get(target.plugin_id)
        if subscriber is None and handlers:
            subscriber = Subscriber(target, self._counts, self._traffic)
            self._subscribers[target.plugin_id] = subscriber
        if subscriber is not None:
            subscriber.serve(version, handlers)
        self._changed()
        return unheard

    def remove(self, plugin_id: str) -> None:
        """A plugin is gone."""
        self._targets.pop(plugin_id, None)
        self._routes.clear()
        self._told.pop(plugin_id, None)
        self._traffic.calls.left()
        self._traffic.events.left()
        if subscriber := self._subscribers.pop(plugin_id, None):
            subscriber.close()
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
        route = self._known(source, target, function)
        if (
            route is None
            or tuple(map(type, args)) != route.usual
            or len(line()) > MAX_DEPTH
            or self._may_refuse(route.version)
            or (call := route.version.begin(function, tuple(args), timeout_ms)) is None
        ):
            return self._call(source, target, function, args, timeout_ms, reply)
        return self._deliver(route, args, timeout_ms, reply, call)

    def _may_refuse(self, version: Version) -> bool:
        """Whether opening the books of a call of a plugin can fail, so that it has to come first."""
        return self.elsewhere is not None or self._traffic.is_watched or self._waits.has(version)

    async def _call(
        self,
        source: Peer,
        target: str,
        function: str,
        args: list[MessageValue],
        timeout_ms: int,
        reply: Reply | None,
    ) -> MessageValue:
        plugin_id, route = target.partition("@")[0], None
        try:
            if len(line()) > MAX_DEPTH:
                raise too_deep(line())
            route = self._known(source, target, function) or await self._route(source, target, function)
            refuse_mismatch(route.declared.params, args, f"{plugin_id}.{function}")
        except Refused as refusal:
            channel = source.plugin_id, plugin_id, function
            self._traffic.refused("call", channel, route is not None, args, refusal.reason)
            raise
        return await self._deliver(route, args, timeout_ms, reply)

    async def _deliver(
        self,
        route: "_Route",
        args: list[MessageValue],
        timeout_ms: int,
        reply: Reply | None,
        call: Awaitable[MessageValue] | None = None,
    ) -> MessageValue:
        """Keep the books of an authorised call, and make it if it has not begun yet."""
        version, (_, plugin_id, function) = route.version, route.channel
        try:
            with (
                self._waits.waiting(version) if self.elsewhere is None else self._waiting(version),
                self._traffic.passage("call", route.channel, args, route.declared, reply=reply) as passage,
            ):
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

    def _known(self, source: Peer, address: str, function: str) -> "_Route | None":
        """Where a call goes, if one of its kind was authorised before and nothing has changed."""
        route = self._routes.get((source.key, address, function))
        if route is None or route.target is None:
            return None
        return route if route.target.settled(route.wanted) is route.version else None

    async def _route(self, source: Peer, address: str, function: str) -> "_Route":
        """Authorise a plugin's call, and find the version that it goes to.

        Raises:
            Refused: The policy does not grant it, or there is no such plugin or function.
        """
        plugin_id = address.partition("@")[0]
        if not source.messages.may_call(plugin_id, function):
            what = f"called {plugin_id[:128]}.{function[:128]}"
            raise self.refuse(source, f"messages.call: {{{plugin_id[:128]}: [{function[:128]}]}}", what)
        try:
            wanted = split_address(address)[1] or needed_by(source, plugin_id)
        except ValueError as error:
            raise Refused("invalid", f"{error}"[:MAX_TEXT]) from None
        version = await self._reach(plugin_id, wanted)
        declared, channel = offered(version, function), (source.plugin_id, version.plugin_id, function)
        target, usual = self._targets.get(plugin_id), usual_types(declared.params)
        route = _Route(target, wanted, version, declared, usual, channel)
        if len(self._routes) >= _ROUTES:
            self._routes.clear()
        if version.functions:  # before it has run, a component's types are not known
            self._routes[source.key, address, function] = route
        return route

    async def _reach(self, plugin_id: str, wanted: Range | None) -> Version:
        """The version that a plugin's call goes to: by what it asks for, or else by what it depends on."""
        try:
            if (target := self._targets.get(plugin_id)) is not None:
                return await target.reach(wanted)
        except PluginNotFound:
            pass  # another supervisor may have a version that fits
        except CommunicationError as error:
            raise Refused("unavailable", f"{plugin_id} takes no call now: {error.reason}") from None
        there = self.elsewhere.find(plugin_id, wanted, as_host=False) if self.elsewhere else None
        if there is None:
            address = plugin_id if wanted is None else f"{plugin_id}@{wanted}"
            raise Refused("missing", f"no plugin {address!r} is loaded")
        return there

    @contextmanager
    def _waiting(self, version: Version) -> Iterator[None]:
        elsewhere = self.elsewhere
        with self._waits.waiting(version), elsewhere.waiting(version) if elsewhere else nullcontext():
            yield

    def _changed(self) -> None:
        if self.elsewhere is not None:
            self.elsewhere.changed()

    # What comes from other supervisors.

    @property
    def plugins(self) -> dict[str, Version]:
        """Every version that is here: by id the one that counts for who names none, else ``ID@VERSION``."""
        found: dict[str, Version] = {}
        for plugin_id, target in self._targets.items():
            usual = found[plugin_id] = target.match()
            if len(target.releases) > 1:
                found |= {name_of(one): one for one in target.releases if one is not usual}
        return found

    def version(self, address: str) -> Version | None:
        """The version here that an address means, if there is one.

        Raises:
            ValueError: That is no address.
        """
        plugin_id, wanted = split_address(address)
        try:
            return self._targets[plugin_id].match(wanted)
        except (KeyError, PluginNotFound):
            return None

    def version_name(self, plugin_id: str, key: int) -> str:
        """``ID@VERSION`` of a loaded version; unlike any other's, too, for one on trial or on its way out."""
        target = self._targets.get(plugin_id)
        releases = target.releases if target is not None else ()
        return next((name_of(one) for one in releases if one.key == key), f"{plugin_id}@#{key}")

    @property
    def wanted(self) -> dict[str, int]:
        """Types of events, or patterns of them, each with how many plugins and streams here want it."""
        subscribers = (name for subscriber in self._subscribers.values() for name in subscriber.wanted)
        return dict(Counter((*subscribers, *self._streams.values())))

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
        found = self._targets.get(plugin_id)
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
        receivers = self._give(event, but="")
        self._counts.delivered += receivers
        return receivers

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
        channel = sender, version.plugin_id, function if function in version.functions else ""
        with self._traffic.passage("call", channel, args) as passage:
            value = passage.value = await version.call(function, tuple(args), timeout_ms)
        return value

    def publish(self, source: Peer, event_type: str, data: MessageValue) -> int:
        """A plugin publishes an event; how many plugins and streams will get it.

        Raises:
            Refused: It may not, or the event is not declared, or its data has another type.
        """
        target = self._targets.get(source.plugin_id)
        declared = target.interface_of(source.metadata).events if target is not None else {}
        try:
            self._refuse_event(source, event_type, data, declared)
        except Refused as refusal:
            channel = source.plugin_id, "", event_type
            self._traffic.refused("event", channel, event_type in declared, (data,), refusal.reason)
            raise
        return self._publish(PluginMessage.Event(event_type, data, source.plugin_id))

    def _refuse_event(
        self, source: Peer, event_type: str, data: MessageValue, declared: Mapping[str, Type]
    ) -> None:
        if not source.messages.may_publish(event_type):
            what = f"published {event_type[:128]!r}"
            raise self.refuse(source, f"messages.publish: [{event_type[:128]}]", what)
        if event_type not in declared:
            raise Refused(
                "missing", f"{event_type[:40]!r} is none of the events that its plugin.json publishes"
            )
        try:
            check(declared[event_type], data, "data")
        except TypeError as error:
            raise Refused("invalid", str(error)) from None

    def _publish(self, event: PluginMessage.Event) -> int:
        receivers = self._give(event, but=event.source)
        if self.elsewhere is not None:
            receivers += self.elsewhere.publish(event)
        self._counts.published += 1
        self._counts.delivered += receivers
        return receivers

    def _give(self, event: PluginMessage.Event, but: str) -> int:
        receivers = 0
        for stream, pattern in tuple(self._streams.items()):
            if matches(pattern, event.event_type):
                with self._traffic.passage("event", (event.source, "", event.event_type), (event.data,)):
                    stream.put(event)
                receivers += 1
        for plugin_id, subscriber in self._subscribers.items():
            if plugin_id != but and subscriber.wants(event.event_type):
                receivers += subscriber.put(event)
        return receivers

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
        self._counts.refused[source.plugin_id] = self._counts.refused.get(source.plugin_id, 0) + 1
        told = self._told.setdefault(source.plugin_id, set())
        if what not in told and len(told) < _TOLD:
            told.add(what)
            self._events.publish("message_refused", source.plugin_id, what=what, reason=reason)
        return Refused("permission", f"{source.plugin_id} {what}, and its policy does not grant {reason}")

    def close(self) -> None:
        """End every stream and every delivery."""
        for plugin_id in tuple(self._targets):
            self.remove(plugin_id)
        for stream in tuple(self._streams):
            stream.close()
        for updates in tuple(self._status_streams):
            updates.close()
        self._traffic.close()
