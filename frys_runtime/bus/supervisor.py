"""What a manager takes part with: its plugins can be called from elsewhere, and call what is elsewhere.

Authorisation and types are decided where the caller is: its own supervisor knows its policy, and knows what
the other plugin offers from what that one's supervisor has told. What can be checked again there, is.
"""

import asyncio
import itertools
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from .. import trace, waits
from ..communicator import PluginCommunicator
from ..endpoints import Version
from ..errors import CommunicationError, PluginError
from ..messages import MessageValue, PluginMessage, Refused
from ..policy_grants import matches
from ..ranges import Range
from . import frames
from .circles import MAX_LINE, Circles, circle
from .config import BusConfig, default_folder
from .control import Control
from .node import Node, Peer, holders
from .questions import Question
from .remote import MANY, Remote
from .rendezvous import Registration, Rendezvous
from .sockets import Credentials
from .standstill import Standstill, Waiting

logger = logging.getLogger("frys.bus")

_JOIN_SECONDS: Final = 2.0
"""How long a supervisor that starts waits for those that are there; who answers later is met later."""
_WAITS_MS: Final = 1000
"""For how long another supervisor is asked who waits there."""
_FIRST_RETRY, _LONGEST_RETRY = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """Another participant, as :attr:`Supervisor.others` names it.

    Attributes:
        name: What it calls itself.
        program: ``supervisor``, or ``visitor``, which runs no plugins.
        pid: Its process.
        plugins: The ids of its plugins.
        events: Types of events that it wants, with ``*`` and ``?``, and how many receive each.
        dropped: Events for which it was too slow.
    """

    name: str
    program: str
    pid: int
    plugins: tuple[str, ...]
    events: Mapping[str, int]
    dropped: int


class Supervisor:
    """One manager on the bus; made by it.

    Args:
        config: Where to meet.
        communicator: Whose plugins and events take part.
        questions: What visitors may ask, by name.
        control: What they may have done.

    Raises:
        ConfigError: A setting is wrong.
        InitializationFailed: The folder or an address cannot be had.
    """

    def __init__(
        self,
        config: BusConfig,
        communicator: PluginCommunicator,
        questions: Mapping[str, Question],
        control: Control,
    ) -> None:
        self._config, self._communicator = config, communicator
        self._questions, self._control = {**questions, "waits": self._tell_waits}, control
        self._place = Rendezvous(os.fspath(config.folder) if config.folder else default_folder())
        secret = config.read_secret_key()
        self._registration: Registration = self._place.register()
        self.name = self._registration.name
        self._told = frames.About("supervisor")
        self._news: asyncio.Handle | None = None
        self._retries: dict[str, asyncio.TimerHandle] = {}
        self._turns = itertools.count()
        self._circles = Circles(self._ask_on, self._instances)
        self._standstill = Standstill(self.name, self._waits, self._waits_of, self._end_circle)
        self._keys: dict[str, int] = {}
        self._free_keys = itertools.count(-1, -1)
        self._closed = self._withdrawn = False
        self._node = Node(self.name, self, secret, config.allow)
        self._far: dict[str, tuple[str, str]] = {}
        self._met: list[asyncio.Future[Peer | None]] = []
        try:
            self._join()
        except BaseException:
            self.abort()
            raise

    def _join(self) -> None:
        self._node.hub.listen(self._registration.address, tcp=self._config.listen)
        self._registration.show({"version": frames.VERSION, "pid": os.getpid()})
        self._communicator.elsewhere = self
        self._told = self.about()
        # After it can be found, so that of two who start at once one sees the other.
        self._met = [self._dial(entry.address) for entry in self._place.others() if entry.name != self.name]
        self._met += [self._dial(address, key) for address, key in self._config.connect.items()]

    async def joined(self) -> None:
        """Wait until those who are there know of this one, and it knows of them."""
        met, self._met = self._met, []
        if met:
            await asyncio.wait(met, timeout=_JOIN_SECONDS)

    def _dial(
        self, address: str, key: str | None = None, pause: float = _FIRST_RETRY
    ) -> asyncio.Future[Peer | None]:
        met = self._node.dial(address, key)
        if key is not None:  # of another machine: it may not be up yet

            def look(future: asyncio.Future[Peer | None]) -> None:
                if future.cancelled():
                    return
                if (peer := future.result()) is None:
                    self._dial_later(address, key, pause)
                else:
                    self._far[peer.name] = address, key

            met.add_done_callback(look)
        return met

    def _dial_later(self, address: str, key: str | None, pause: float) -> None:
        if self._closed or address in self._retries:
            return

        def again() -> None:
            del self._retries[address]
            if key is not None or any(address == entry.address for entry in self._place.others()):
                self._dial(address, key, min(2 * pause, _LONGEST_RETRY))

        self._retries[address] = asyncio.get_running_loop().call_later(pause, again)

    @property
    def folder(self) -> str:
        """Where supervisors meet."""
        return self._place.folder

    @property
    def others(self) -> list[PeerInfo]:
        """The other supervisors."""
        return [info for info in self.everybody if info.program == "supervisor"]

    @property
    def everybody(self) -> list[PeerInfo]:
        """The other supervisors, and visitors such as the ``frys`` command."""
        return [
            PeerInfo(peer.name, peer.program, peer.pid, tuple(peer.plugins), dict(peer.events), peer.dropped)
            for peer in self._node.peers.values()
        ]

    @property
    def counts(self) -> dict[str, int]:
        """What was turned away: connections ``refused``, messages ``malformed``."""
        malformed = sum(self._node.malformed_messages.values())
        return {"refused": self._node.hub.refused, "malformed": malformed}

    # What the communicator asks for.

    def find(self, plugin_id: str, wanted: Range | None, *, as_host: bool) -> Version | None:
        """A plugin of another supervisor: of several, the one that has the fewest calls of ours to answer.

        Where they are equal, each gets its turn. Without a range, it is the version that counts there for who
        names none; with one, the highest in it that any of them has.
        """
        found = holders(self._node.peers.values(), plugin_id, wanted)
        if not found:
            return None
        peers = list(found)
        first = next(self._turns) % len(peers)
        peer = min(peers[first:] + peers[:first], key=lambda peer: len(peer.pending))
        return Remote(self, peer, plugin_id, wanted, found[peer], as_host=as_host)

    def publish(self, event: PluginMessage.Event) -> int:
        """Tell each supervisor that wants it of an event, once; how many plugins and streams will get it."""
        receivers, data = 0, b""
        for peer in tuple(self._node.peers.values()):
            wanting = sum(
                count for pattern, count in peer.events.items() if matches(pattern, event.event_type)
            )
            if not wanting:
                continue
            if not data:
                message = frames.Event(event.event_type, event.data, event.source, trace.carried())
                data = frames.encode(message)
            if peer.send(data):
                receivers += wanting
            else:
                peer.dropped += 1
                if peer.dropped & (peer.dropped - 1) == 0:
                    logger.warning("%s is too slow for events (%d dropped so far)", peer, peer.dropped)
        return receivers

    async def request(
        self,
        peer: Peer,
        target: str,
        make: Callable[[int], frames.Request],
        timeout_ms: int | None = None,
        **grace: float,
    ) -> MessageValue:
        """Ask another supervisor; see :meth:`frys_runtime.bus.node.Node.request`."""
        return await self._node.request(peer, target, make, timeout_ms, **grace)

    def changed(self) -> None:
        """Tell the others of plugins and wanted events, once for all changes of this turn of the loop."""
        if self._news is None and not self._closed:
            self._news = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._news = None
        now = self.about()
        news, self._told = frames.news(self._told, now), now
        if news is not None:
            self._node.tell(news)

    def waiting(self, target: Version) -> AbstractContextManager[None]:
        """The last of the line of calls waits for a plugin; Refused if it waits for itself over others."""
        line = tuple(map(self._name, waits.line()))
        address = target.address if isinstance(target, Remote) else self._known_as(target)
        return self._circles.waiting(line, address)

    def key(self, address: str) -> int:
        """A number for a plugin that is elsewhere, and that no plugin here has."""
        if address not in self._keys:
            self._keys[address] = next(self._free_keys)
        return self._keys[address]

    def line(self) -> list[str]:
        """Who waits for what runs now, as every supervisor writes it."""
        return [self.everywhere(self._name(one)) for one in waits.line()]

    def _name(self, one: waits.Instance) -> str:
        """The version that an instance is one of."""
        if "/" in one.plugin_id:  # another supervisor has told of it
            return self._here(one.plugin_id)
        return self._communicator.version_name(one.plugin_id, one.key)

    def _known_as(self, version: Version) -> str:
        return self._communicator.version_name(version.plugin_id, version.key)

    def _version(self, name: str) -> Version | None:
        """A version that is here; its name may be a peer's, and nonsense."""
        with suppress(ValueError):
            return None if "/" in name else self._communicator.version(name)
        return None

    def _instances(self, name: str) -> int:
        here = self._version(name)
        return here.instances if here is not None else MANY

    def _instance(self, name: str) -> waits.Instance:
        """Who waits here, as others have told of it; of several instances nobody tells which."""
        here = self._version(name)
        if here is not None and here.instances == 1:
            return waits.Instance(here.key, 1, here.plugin_id)
        address = self.everywhere(name)
        return waits.Instance(self.key(address), 1, address)

    def chase(self, chase: frames.Chase) -> None:
        """Follow who waits for whom."""
        if 2 <= len(chase.path) <= MAX_LINE:
            self._circles.chase([self._here(address) for address in chase.path])

    def _ask_on(self, path: list[str]) -> None:
        peer = self._node.peers.get(path[-1].partition("/")[2])
        if peer is not None:
            peer.send(frames.encode(frames.Chase([self.everywhere(plugin) for plugin in path])))

    # Those who wait for each other, and have several instances.

    def sent(self, target: "Remote", peer: Peer, number: int) -> None:
        """A call of a plugin goes to another supervisor."""
        waits.sent_as(target.key, peer.name, number)
        self._standstill.begin()

    def _waits(self) -> list[Waiting]:
        return [*map(self._waiting, self._communicator.told_waits())]

    def _waiting(self, one: waits.Told) -> Waiting:
        if isinstance(one.who, str):
            who, plugin = one.who, ""
        else:
            who, plugin = self._instance_name(one.who), self.everywhere(self._name(one.who))
        if one.sent is not None:
            peer, number = one.sent
            return Waiting(who, plugin, one.number, (_call_name(self.name, number),), peer)
        on = tuple(map(self._instance_name, one.servers))
        return Waiting(who, plugin, one.number, on, came=not plugin)

    def _instance_name(self, one: waits.Instance) -> str:
        return f"{one.key}.{one.number}/{self.name}"

    async def _tell_waits(self, _peer: Peer, _args: list[Any]) -> MessageValue:
        told: Any = msgspec.to_builtins(self._waits())
        return told  # type: ignore[no-any-return]

    async def _waits_of(self, name: str) -> list[Waiting]:
        peer = self._node.peers.get(name)
        if peer is None:
            return []
        try:
            told = await self.request(peer, name, lambda number: frames.Ask(number, "waits"), _WAITS_MS)
            return msgspec.convert(told, list[Waiting])
        except (PluginError, Refused, msgspec.ValidationError):
            return []  # it is gone, or stuck, or older than the question: then nobody is known to wait there

    def _end_circle(self, wait: Waiting, path: list[str]) -> None:
        peer = self._node.peers.get(wait.at)
        for one in self._communicator.told_waits():
            if peer is not None and one.number == wait.number and one.sent is not None:
                self._node.give_up(peer, one.sent[1], circle([self._here(name) for name in path]))

    def everywhere(self, plugin: str) -> str:
        """A plugin's address, as every supervisor writes it."""
        return plugin if "/" in plugin else f"{plugin}/{self.name}"

    def _here(self, address: str) -> str:
        """The same, as it is written here."""
        return address.removesuffix(f"/{self.name}")

    # What the others ask for.

    def about(self) -> frames.About:
        """What is told of this supervisor."""
        running = {} if self._withdrawn else self._communicator.plugins
        plugins = {address: frames.as_told(version) for address, version in running.items()}
        return frames.About("supervisor", os.getpid(), plugins, self._communicator.wanted)

    async def serve(self, peer: Peer, request: frames.Request, who: Credentials) -> MessageValue:
        """What another supervisor or a visitor asks for."""
        match request:
            case frames.Call():
                return await self._call(peer, request)
            case frames.Publish(_, event_type, data):
                return await self._communicator.broadcast(PluginMessage.Event(event_type, data))
            case frames.Ask(_, question, args):
                answer = self._questions.get(question)
                if answer is None:
                    known = ", ".join(self._questions)
                    raise Refused("missing", f"{question[:40]!r} is no question; there are {known}")
                return await answer(peer, args)
            case frames.Control():
                return await self._control.obey(peer, who, request)

    async def _call(self, peer: Peer, call: frames.Call) -> MessageValue:
        line = tuple(self._here(address) for address in call.line)
        source = self._here(call.source)
        if call.source and (not line or _without_version(line[-1]) != source):
            raise Refused("invalid", "the line of calls does not end with who calls")
        if call.left_ms < 0:
            raise Refused("invalid", f"left_ms must be 0 or more, not {call.left_ms}")
        called = self._communicator.version(call.target)
        name = self._known_as(called) if called is not None else ""
        if call.source and name:
            self._circles.refuse(line, name)
        elif name and line.count(name) >= self._instances(name):
            what = "it waits for the very function of the host program that calls it"
            raise CommunicationError(call.target, what)
        trace.current.set(trace.arrived(call.context))
        callers = tuple(map(self._instance, line))
        return await self._communicator.call_from_elsewhere(
            _call_name(peer.name, call.number),
            source,
            callers,
            call.target,
            call.function,
            call.args,
            call.left_ms or None,
        )

    def event(self, _peer: Peer, event: frames.Event) -> None:
        """An event that somebody here wants."""
        before = trace.current.set(trace.arrived(event.context))
        try:
            self._communicator.event_from_elsewhere(
                PluginMessage.Event(event.event_type, event.data, event.source)
            )
        finally:
            trace.current.reset(before)

    def left(self, peer: Peer) -> None:
        """A participant is gone; a supervisor that still holds its lock may come back, else it is swept."""
        for address in [address for address in self._keys if address.endswith(f"/{peer.name}")]:
            del self._keys[address]
        if far := self._far.pop(peer.name, None):
            self._dial_later(*far, _FIRST_RETRY)
        elif peer.program == "supervisor" and not self._closed:
            for entry in self._place.others():
                if entry.name == peer.name:
                    self._dial_later(entry.address, None, _FIRST_RETRY)

    def withdraw(self) -> None:
        """Tell the others of no plugin any more, so that they call others; what they called goes on."""
        self._withdrawn = True
        self.changed()

    async def close(self, *, after_calls: bool = False) -> None:
        """Leave.

        Args:
            after_calls: Once the calls that plugins here had taken are answered; they all have ended.
        """
        if after_calls:
            await self._node.finish_calls()
        self._stop()
        await self._node.close()
        self._registration.close()

    def abort(self) -> None:
        """Leave without a word."""
        self._stop()
        self._node.hub.abort()
        self._registration.close()

    def _stop(self) -> None:
        self._closed = True
        self._communicator.elsewhere = None
        for retry in self._retries.values():
            retry.cancel()
        if self._news is not None:
            self._news.cancel()
        self._standstill.close()


def _call_name(caller: str, number: int) -> str:
    """A call that one supervisor has sent to another, as both name it."""
    return f"call {number} of {caller}"


def _without_version(address: str) -> str:
    plugin, sign, name = address.partition("/")
    return plugin.partition("@")[0] + sign + name
