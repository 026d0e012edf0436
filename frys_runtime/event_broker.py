"""Which event goes to whom: to plugins that subscribed and may hear it, and to streams of the host program.

What a plugin publishes is authorised (default: no), and its type is checked, before anybody hears of it.
"""

from collections import Counter
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from .endpoints import Peer, Target
from .errors import CommunicationError
from .events import EventStream
from .interfaces import Type, check
from .messages import MessageValue, PluginMessage, Refused
from .policy_grants import matches
from .refusals import Refusals
from .routing import Router
from .subscriptions import MAX_QUEUE, DeliveryCounts, Subscriber, handler_of
from .traffic import Traffic


class EventBroker:
    """Hands out the events of one manager.

    Args:
        router: Knows the plugins, and the other supervisors.
        refusals: Where it is told what no policy grants.
        traffic: Where events are counted one by one.

    Attributes:
        counts: What became of all of them.
    """

    def __init__(self, router: Router, refusals: Refusals, traffic: Traffic) -> None:
        self.counts = DeliveryCounts()
        self._router, self._refusals, self._traffic = router, refusals, traffic
        self._subscribers: dict[str, Subscriber] = {}
        self._streams: WeakKeyDictionary[EventStream[PluginMessage.Event], str] = WeakKeyDictionary()

    # Who gets them.

    def subscribe(self, pattern: str, size: int) -> EventStream[PluginMessage.Event]:
        """A stream of those whose type fits a pattern; it is forgotten when its reader forgets it."""
        stream: EventStream[PluginMessage.Event] = EventStream(size)
        self._streams[stream] = pattern
        return stream

    def add(self, target: Target) -> dict[str, str]:
        """A plugin was loaded, or another version of it: events that wait are for that one then.

        Returns:
            The events that it wants and will not get, each with the reason.
        """
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
            subscriber = Subscriber(target, self.counts, self._traffic)
            self._subscribers[target.plugin_id] = subscriber
        if subscriber is not None:
            subscriber.serve(version, handlers)
        return unheard

    def remove(self, plugin_id: str) -> None:
        """A plugin is gone."""
        if subscriber := self._subscribers.pop(plugin_id, None):
            subscriber.close()

    @property
    def wanted(self) -> dict[str, int]:
        """Types of events, or patterns of them, each with how many plugins and streams here want it."""
        subscribers = (name for subscriber in self._subscribers.values() for name in subscriber.wanted)
        return dict(Counter((*subscribers, *self._streams.values())))

    @property
    def waiting(self) -> dict[str, int]:
        """How many events wait for a plugin, by plugin."""
        return {plugin_id: subscriber.waiting for plugin_id, subscriber in self._subscribers.items()}

    # Where they come from.

    def publish(self, source: Peer, event_type: str, data: MessageValue) -> int:
        """A plugin publishes an event; how many plugins and streams will get it.

        Raises:
            Refused: It may not, or the event is not declared, or its data has another type.
        """
        target = self._router.targets.get(source.plugin_id)
        declared = target.interface_of(source.metadata).events if target is not None else {}
        try:
            self._authorise(source, event_type, data, declared)
        except Refused as refusal:
            channel = source.plugin_id, "", event_type
            self._traffic.refused("event", channel, event_type in declared, (data,), refusal.reason)
            raise
        return self.broadcast(PluginMessage.Event(event_type, data, source.plugin_id))

    def _authorise(
        self, source: Peer, event_type: str, data: MessageValue, declared: Mapping[str, Type]
    ) -> None:
        if not source.messages.may_publish(event_type):
            what = f"published {event_type[:128]!r}"
            raise self._refusals.refuse(source, f"messages.publish: [{event_type[:128]}]", what)
        if event_type not in declared:
            raise Refused(
                "missing", f"{event_type[:40]!r} is none of the events that its plugin.json publishes"
            )
        try:
            check(declared[event_type], data, "data")
        except TypeError as error:
            raise Refused("invalid", str(error)) from None

    def broadcast(self, event: PluginMessage.Event) -> int:
        """Hand out an event, here and elsewhere; how many plugins and streams will get it."""
        receivers = self._give(event, but=event.source)
        if self._router.elsewhere is not None:
            receivers += self._router.elsewhere.publish(event)
        self.counts.published += 1
        self.counts.delivered += receivers
        return receivers

    def receive(self, event: PluginMessage.Event) -> int:
        """Hand out an event of another supervisor; a copy of its publisher that is here gets it, too."""
        receivers = self._give(event, but="")
        self.counts.delivered += receivers
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

    def send(self, address: str, event: PluginMessage.Event) -> None:
        """Queue an event for one plugin.

        Raises:
            CommunicationError: It is none that the plugin takes, or its queue is full.
        """
        subscriber = self._subscribers.get(address.partition("@")[0])
        if subscriber is None or not subscriber.wants(event.event_type):
            raise CommunicationError(address, f"it does not take events {event.event_type!r}")
        if not subscriber.put(event):
            raise CommunicationError(address, f"{MAX_QUEUE} events wait for it already")

    def close(self) -> None:
        """End every stream."""
        for stream in tuple(self._streams):
            stream.close()
