"""One participant of the bus: who else is there, requests and their answers.

Whatever a peer sends, it can do no more harm than a wrong answer: what is malformed is dropped, counted and
logged, the calls that it may have under way are bounded, and when it is gone everything that it started
ends.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from ..errors import CommunicationError, ConfigError, Timeout
from ..interfaces import Interface
from ..messages import MessageValue
from ..metadata import Metadata
from ..ranges import Range, Version
from ..traffic import Passage, under_way
from ..wire import ProtocolError
from . import frames
from .failures import to_error, to_failure
from .sockets import GOODBYE, Credentials, Hub, Link

logger = logging.getLogger("frys.bus")

MAX_SERVING: Final = 500
"""Calls and questions of one peer that may be under way here: fewer than there is room for answers."""
_MAX_NAME: Final = 64
_MAX_REASONS: Final = 100
"""Different ones that are counted one by one."""
_GRACE: Final = 0.1
"""Seconds that an answer may come too late, so that the plugin's own supervisor can say what was wrong."""
STUCK_SECONDS: Final = 5.0
"""The same where the caller has set no deadline, and the other supervisor is trusted to keep its own."""
_CALL: Final = "frys: a call of a plugin"
_FAREWELL: Final = 1.0
"""Seconds for whoever does not read to make room for the last answers."""
_TRY_AGAIN: Final = 0.02
"""Seconds after which an answer is sent again that found no room."""


@dataclass(frozen=True, slots=True)
class Known:
    """One version of a plugin of another supervisor.

    Attributes:
        metadata: What its plugin.json says.
        version: The version.
        interface: What it offers to plugins.
        functions: What it offers to host programs.
        longest_ms: For how long a call without a deadline can take; 0 where that is not known.
    """

    metadata: Metadata
    version: Version
    interface: Interface
    functions: dict[str, str]
    longest_ms: int


class _Dialled(NamedTuple):
    """A connection whose other end has not answered yet, and what it was told."""

    met: asyncio.Future["Peer | None"]
    told: frames.About


class _Pending(NamedTuple):
    """An answer that is awaited."""

    answer: asyncio.Future[MessageValue]
    target: str
    passage: Passage | None


@dataclass(slots=True, eq=False)
class Peer:
    """Another participant.

    Attributes:
        name: What it calls itself.
        program: ``supervisor`` or ``visitor``.
        pid: Its process, as it says.
        plugins: What it runs, by id, and by ``ID@VERSION`` what is beside that.
        events: Types of events that it wants, and how many receive each.
        links: Its connections; the first is used.
        pending: Answers that are awaited from it.
        serving: What is under way for it.
        dropped: Events for which it was too slow.
    """

    name: str
    program: str
    pid: int
    plugins: dict[str, Known] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    pending: dict[int, _Pending] = field(default_factory=dict)
    serving: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    dropped: int = 0
    _versions: dict[str, dict[str, Known]] = field(default_factory=dict)

    def learn(self, address: str, known: Known | None) -> None:
        """It runs this from now on under an address, or nothing any more."""
        plugin_id = address.partition("@")[0]
        if known is not None:
            self.plugins[address] = known
            self._versions.setdefault(plugin_id, {})[address] = known
        elif self.plugins.pop(address, None) is not None:
            del self._versions[plugin_id][address]
            if not self._versions[plugin_id]:
                del self._versions[plugin_id]

    def best(self, plugin_id: str, wanted: Range | None) -> Known | None:
        """Its version that an address means; ``None`` if it has none such."""
        if wanted is None:
            return self.plugins.get(plugin_id)
        within = (one for one in self._versions.get(plugin_id, {}).values() if wanted.matches(one.version))
        return max(within, key=lambda known: known.version, default=None)

    def forget(self) -> None:
        """Nothing is known any more of what it runs."""
        self.plugins.clear()
        self._versions.clear()

    def send(self, data: bytes) -> bool:
        """Send a message; whether there was room for it."""
        return bool(self.links) and self.links[0].send(data)

    def __str__(self) -> str:
        return f"{self.program} {self.name} (process {self.pid})"


def holders(peers: Iterable[Peer], plugin_id: str, wanted: Range | None) -> dict[Peer, Known]:
    """Who runs what an address means: with a range, the highest version that anybody has in it."""
    found = {peer: known for peer in peers if (known := peer.best(plugin_id, wanted)) is not None}
    if wanted is None or not found:
        return found
    highest = max(known.version for known in found.values())
    return {peer: known for peer, known in found.items() if known.version == highest}


class Program(Protocol):
    """What takes part by a node."""

    def about(self) -> frames.About:
        """What it tells of itself."""

    async def serve(self, peer: Peer, request: frames.Request, who: Credentials) -> MessageValue:
        """A plugin of it is called, an event is to be published, or it is asked itself."""

    def event(self, peer: Peer, event: frames.Event) -> None:
        """An event that it wants."""

    def chase(self, chase: frames.Chase) -> None:
        """It is to follow who waits for whom."""

    def left(self, peer: Peer) -> None:
        """A participant is gone."""


class Node:
    """One participant.

    Args:
        name: Unlike any other's.
        program: What takes part.
        secret_key: See :class:`frys_runtime.bus.config.BusConfig`.
        allow: The same.

    Attributes:
        hub: Its connections.
        peers: Everybody else, by name.
        malformed_messages: What came and was no message, by reason.
    """

    def __init__(
        self, name: str, program: Program, secret_key: bytes | None = None, allow: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.hub = Hub(self, secret_key, allow)
        self.peers: dict[str, Peer] = {}
        self.malformed_messages: dict[str, int] = {}
        self._program = program
        self._peer_of: dict[Link, Peer] = {}
        self._dialled: dict[Link, _Dialled] = {}
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()

    # Who is there.

    def dial(self, address: str, server_key: str | None = None) -> asyncio.Future[Peer | None]:
        """Connect to another one.

        Returns:
            What becomes of it: who is there, or ``None`` when nobody is.
        """
        link = self.hub.dial(address, server_key)
        dialled = self._dialled[link] = _Dialled(self._loop.create_future(), self._program.about())
        link.send(frames.encode(frames.Hello(frames.VERSION, self.name, dialled.told)))
        return dialled.met

    def receive(self, link: Link, data: memoryview) -> None:
        """A message came."""
        try:
            message = frames.decode(data)
        except ProtocolError as error:
            self.malformed(link, str(error))
            return
        match message:
            case frames.Hello():
                if self._meet(link, message) is not None:
                    answer = frames.Welcome(frames.VERSION, self.name, self._program.about())
                    link.send(frames.encode(answer))
            case frames.Welcome():
                self._welcomed(link, message)
            case _ if (peer := self._peer_of.get(link)) is not None:
                self._take(peer, link, message, len(data))
            case _:
                self.malformed(link, "a message before HELLO")

    def _welcomed(self, link: Link, message: frames.Welcome) -> None:
        dialled = self._dialled.pop(link, None)
        if dialled is None:
            self.malformed(link, "a WELCOME that nobody waits for")
            return
        peer = self._meet(link, message)
        if peer is None:
            link.close()
        elif (news := frames.news(dialled.told, self._program.about())) is not None:
            link.send(frames.encode(news))  # what happened since HELLO
        if not dialled.met.done():
            dialled.met.set_result(peer)

    def _meet(self, link: Link, message: frames.Hello | frames.Welcome) -> Peer | None:
        name, about = message.name, message.about
        if message.version != frames.VERSION:
            self.malformed(link, f"another version of the bus: {message.version}, not {frames.VERSION}")
            if isinstance(message, frames.Hello):
                link.send(
                    frames.encode(frames.Welcome(frames.VERSION, self.name, frames.About("supervisor")))
                )
            return None
        if name == self.name or not 0 < len(name) <= _MAX_NAME or not (name.isascii() and name.isalnum()):
            self.malformed(link, "a name that is none, or ours")
            return None
        if (met := self._peer_of.get(link)) is not None and met.name != name:
            self.malformed(link, "another name than before")
            return None
        peer = self.peers.get(name)
        if peer is None:
            peer = self.peers[name] = Peer(name, about.program, about.pid)
        if link not in peer.links:
            peer.links.append(link)
            self._peer_of[link] = peer
        peer.forget()
        self._learn(peer, link, dict(about.plugins), about.events)
        return peer

    def _learn(
        self,
        peer: Peer,
        link: Link,
        plugins: dict[str, frames.Plugin | None],
        events: dict[str, int] | None,
    ) -> None:
        for address, plugin in plugins.items():
            peer.learn(address, None)
            if plugin is not None:
                try:
                    metadata, interface = plugin.as_metadata(address.partition("@")[0])
                    version = Version.parse(metadata.version)
                except (ConfigError, ValueError) as error:
                    self.malformed(link, f"a plugin that makes no sense: {error}")
                else:
                    known = Known(metadata, version, interface, plugin.functions, plugin.longest_ms)
                    peer.learn(address, known)
        if events is not None:
            peer.events = events

    def malformed(self, link: Link, reason: str) -> None:
        """Something came that is dropped."""
        kind = reason.partition(":")[0]
        if kind not in self.malformed_messages and len(self.malformed_messages) >= _MAX_REASONS:
            kind = "more"
        count = self.malformed_messages[kind] = self.malformed_messages.get(kind, 0) + 1
        if count & (count - 1) == 0:  # the first, second, fourth, eighth: a flood is no flood of lines
            logger.warning(
                "the message bus dropped %s from %s (%d so far)", reason[:500], link.address, count
            )

    def gone(self, link: Link) -> None:
        """A connection ended."""
        dialled = self._dialled.pop(link, None)
        if dialled is not None and not dialled.met.done():
            dialled.met.set_result(None)
        peer = self._peer_of.pop(link, None)
        if peer is not None:
            # Of two connections, which there are when both sides connected at once, nobody knows what was
            # under way on which: so both end, and a supervisor that lives is met anew.
            peer.links.remove(link)
            self._lose(peer)

    def _lose(self, peer: Peer) -> None:
        if self.peers.get(peer.name) is not peer:
            return
        del self.peers[peer.name]
        for link in peer.links:
            self._peer_of.pop(link, None)
            link.close()
        peer.links.clear()
        for pending in peer.pending.values():
            _end(pending.answer, _Gone())
        for task in tuple(peer.serving.values()):
            task.cancel()
        self._program.left(peer)

    def tell(self, message: frames.Message) -> None:
        """Send a message to everybody."""
        data = frames.encode(message)
        for peer in tuple(self.peers.values()):
            if not peer.send(data):
                # What it knows would be wrong from now on, so it has to begin anew.
                logger.warning("the message bus gave up %s, which does not read", peer)
                self._lose(peer)

    # What they ask each other.

    async def request(
        self,
        peer: Peer,
        target: str,
        make: Callable[[int], frames.Request],
        timeout_ms: int | None = None,
        grace: float = _GRACE,
    ) -> MessageValue:
        """Send a request and wait for its answer; who gives up waiting, cancels it.

        Args:
            peer: To whom.
            target: What it is for, to be named in errors.
            make: The request, from its number.
            timeout_ms: How long to wait.
            grace: Seconds beyond that in which the answer may still come.

        Raises:
            CommunicationError: There was no room for it, or its receiver is gone; both may be tried again.
            Timeout: No answer came.
            PluginError, Refused, TypeError, ValueError: What the answer is.
        """
        number = next(self._numbers)
        data = frames.encode(make(number))
        answer: asyncio.Future[MessageValue] = self._loop.create_future()
        passage = under_way.get()
        if passage is not None:
            passage.bytes_out += len(data)
        peer.pending[number] = _Pending(answer, target, passage)
        timer = None
        try:
            if not peer.send(data):
                reason = f"too many messages wait for {peer} already"
                raise CommunicationError(target, reason, retryable=True)
            if timeout_ms is not None:
                seconds = timeout_ms / 1000 + grace
                timer = self._loop.call_later(seconds, _end, answer, Timeout(target, timeout_ms))
            return await answer
        except _Gone:
            raise CommunicationError(target, f"its supervisor ended: {peer}", retryable=True) from None
        except (asyncio.CancelledError, Timeout, _GivenUp) as end:
            peer.send(frames.encode(frames.Cancel(number)))
            if isinstance(end, _GivenUp):
                raise end.error from None
            raise
        finally:
            peer.pending.pop(number, None)
            if timer is not None:
                timer.cancel()

    def give_up(self, peer: Peer, number: int, error: Exception) -> None:
        """Have a request end with an error; its answer is not wanted any more."""
        if pending := peer.pending.get(number):
            _end(pending.answer, _GivenUp(error))

    def _take(self, peer: Peer, link: Link, message: frames.Message, size: int) -> None:
        match message:
            case frames.Result(number, value):
                # Whoever gave up meanwhile, is not there.
                if (pending := peer.pending.get(number)) and not pending.answer.done():
                    if pending.passage is not None:
                        pending.passage.bytes_in += size
                    pending.answer.set_result(value)
            case frames.Failure(number):
                if pending := peer.pending.get(number):
                    _end(pending.answer, to_error(message, pending.target))
            case frames.Call() | frames.Publish() | frames.Ask() | frames.Control():
                self._serve(peer, link, message)
            case frames.Cancel(number):
                if task := peer.serving.get(number):
                    task.cancel()
            case frames.Event():
                self._program.event(peer, message)
            case frames.News(plugins, events):
                self._learn(peer, link, plugins, events)
            case frames.Chase():
                self._program.chase(message)
            case frames.Bye():
                self._lose(peer)

    def _serve(self, peer: Peer, link: Link, request: frames.Request) -> None:
        number = request.number
        if number in peer.serving:
            self.malformed(link, "a number that is in use")
            return
        if len(peer.serving) >= MAX_SERVING:
            busy = CommunicationError("", f"{MAX_SERVING} calls of this peer wait already", retryable=True)
            link.send(frames.encode(to_failure(number, busy)))
            return
        # Eager: what can be answered at once needs no turn of the event loop.
        task = asyncio.Task(self._work(peer, link, request), loop=self._loop, eager_start=True)
        if not task.done():
            peer.serving[number] = task
            if isinstance(request, frames.Call):
                task.set_name(_CALL)
            task.add_done_callback(lambda _task: peer.serving.pop(number, None))

    async def _work(self, peer: Peer, link: Link, request: frames.Request) -> None:
        number = request.number
        try:
            data = frames.encode(
                frames.Result(number, await self._program.serve(peer, request, link.credentials))
            )
        except Exception as error:
            failure = to_failure(number, error)
            if failure.kind == "internal":
                logger.exception("a request of the message bus failed")
            data = frames.encode(failure)
        while not link.send(data) and link in self._peer_of:  # noqa: ASYNC110 - nothing tells of new room
            await asyncio.sleep(_TRY_AGAIN)

    async def finish_calls(self) -> None:
        """Let the answers of calls that have ended leave."""
        serving = (task for peer in self.peers.values() for task in peer.serving.values())
        calls = [task for task in serving if task.get_name() == _CALL]
        if calls:
            await asyncio.wait(calls, timeout=_FAREWELL)

    async def close(self) -> None:
        """Say goodbye and end everything."""
        for peer in tuple(self.peers.values()):
            for task in tuple(peer.serving.values()):
                task.cancel()
            peer.send(GOODBYE)
        for dialled in self._dialled.values():
            dialled.met.cancel()
        await self.hub.close()
        for peer in tuple(self.peers.values()):
            self._lose(peer)


class _Gone(Exception):
    """Who was asked is gone."""


class _GivenUp(Exception):
    """The answer is not wanted any more; who waited for it is told an error in its place."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _end(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
