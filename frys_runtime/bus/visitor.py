"""What the ``frys`` command takes part with: it runs no plugins, and looks, calls and listens."""

import asyncio
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Final, Self

from ..errors import CommunicationError
from ..events import EventStream
from ..messages import MessageValue, PluginMessage, Refused, check_value
from ..ranges import split_address
from . import frames
from .config import default_folder
from .node import STUCK_SECONDS, Node, Peer, holders
from .rendezvous import Entry, Rendezvous
from .sockets import Credentials

_MEET_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0
_STREAM: Final = 10_000
"""Events that may wait for whoever reads them."""


class Visitor:
    """A program that talks to the supervisors of a folder: ``async with Visitor() as visitor: ...``.

    Args:
        folder: Where they meet; by default where they meet when nothing else is said.
        events: Types of events that it wants, with ``*`` and ``?``.

    Attributes:
        silent: Supervisors that live and did not answer.

    Raises:
        ConfigError: There is no such place, or others may enter it.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, events: tuple[str, ...] = ()) -> None:
        self._place = Rendezvous(os.fspath(folder) if folder else default_folder(), make=False)
        self._events = dict.fromkeys(events, 1)
        self._stream: EventStream[PluginMessage.Event] = EventStream(_STREAM)
        self._node: Node | None = None
        self.silent: list[Entry] = []

    @property
    def folder(self) -> str:
        """Where the supervisors meet."""
        return self._place.folder

    async def __aenter__(self) -> Self:
        self._node = node = Node(secrets.token_hex(8), self)
        entries = self._place.others()
        if entries:
            met = [node.dial(entry.address) for entry in entries]
            await asyncio.wait(met, timeout=_MEET_SECONDS)
        unmet = [entry for entry in entries if entry.name not in node.peers]
        self.silent = unmet and [entry for entry in self._place.others() if entry in unmet]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._node is not None:
            await self._node.close()

    @property
    def supervisors(self) -> list[Peer]:
        """Those that live and answered."""
        return list(self._node.peers.values()) if self._node is not None else []

    def running(self, plugin_id: str) -> list[Peer]:
        """The supervisors that run a plugin; with a range of versions behind ``@``, the highest in it.

        Raises:
            ValueError: That is no address.
        """
        return list(holders(self.supervisors, *split_address(plugin_id)))

    async def call(
        self, plugin_id: str, function: str, *args: MessageValue, timeout_ms: int | None = None
    ) -> MessageValue:
        """Call any function of a plugin, as a host program does; of several copies, any.

        Raises:
            CommunicationError: Nobody runs it, or its supervisor ended.
            PluginError, TypeError, ValueError: Whatever the call ended with.
        """
        values = list(args)
        check_value(values, "args")
        found = holders(self.supervisors, *split_address(plugin_id))
        if not found:
            raise CommunicationError(plugin_id, f"no supervisor of {self.folder} runs it")

        def make(number: int) -> frames.Call:
            return frames.Call(number, plugin_id, function, values, timeout_ms or 0)

        peer, known = random.choice([*found.items()])  # noqa: S311 - only to spread the work
        if timeout_ms is not None:
            return await self._request(peer, plugin_id, make, timeout_ms)
        # Its supervisor ends a call in time, unless it is stuck.
        return await self._request(peer, plugin_id, make, known.longest_ms or None, grace=STUCK_SECONDS)

    async def publish(self, event_type: str, data: MessageValue) -> int:
        """Publish an event as one of the host programs does; how many plugins and streams will get it.

        Raises:
            CommunicationError: There is no supervisor.
        """
        check_value(data, "data")
        if not self.supervisors:
            raise CommunicationError(event_type, f"there is no supervisor in {self.folder}")
        receivers = await self._request(
            self.supervisors[0], event_type, lambda number: frames.Publish(number, event_type, data)
        )
        return int(str(receivers))

    async def ask(
        self, peer: Peer, question: str, *args: MessageValue, timeout_ms: int | None = None
    ) -> MessageValue:
        """Ask a supervisor itself.

        Raises:
            CommunicationError: It ended.
            Timeout: It did not answer.
        """
        return await self._request(
            peer, str(peer), lambda number: frames.Ask(number, question, list(args)), timeout_ms
        )

    async def control(
        self, peer: Peer, operation: str, plugin: str, options: dict[str, MessageValue]
    ) -> MessageValue:
        """Have a supervisor do something to its plugins; docs/protocol.md lists what.

        Raises:
            CommunicationError: It ended, or refuses.
            PluginError, ValueError: Whatever that ended with.
        """
        try:
            return await self._request(
                peer, str(peer), lambda number: frames.Control(number, operation, plugin, options)
            )
        except Refused as refusal:
            raise CommunicationError(str(peer), refusal.message) from None

    async def _request(
        self,
        peer: Peer,
        target: str,
        make: Callable[[int], frames.Request],
        timeout_ms: int | None = None,
        **grace: float,
    ) -> MessageValue:
        assert self._node is not None
        return await self._node.request(peer, target, make, timeout_ms, **grace)

    async def events(self, *watched: str) -> AsyncIterator[PluginMessage.Event]:
        """Events as they come, of supervisors that start later, too; it never ends by itself.

        Args:
            watched: What else is to be told of each supervisor, such as ``events``.
        """
        looking = asyncio.create_task(self._look_around(watched))
        try:
            async for event in self._stream:
                yield event
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look_around(self, watched: tuple[str, ...]) -> None:
        """Meet supervisors as they start; who only visits is not told of them."""
        assert self._node is not None
        watches: dict[Peer, list[asyncio.Future[MessageValue]]] = {}
        tried: set[str] = set()
        try:
            while True:
                watches = {peer: tasks for peer, tasks in watches.items() if peer in self.supervisors}
                for peer in self.supervisors:
                    if peer not in watches:
                        asked = (self.ask(peer, "watch", what) for what in watched)
                        watches[peer] = [asyncio.ensure_future(watch) for watch in asked]
                        for watch in watches[peer]:
                            watch.add_done_callback(_forgive)
                here = {entry.name: entry.address for entry in self._place.others()}
                tried &= here.keys()
                for name in here.keys() - self._node.peers.keys() - tried:
                    tried.add(name)
                    self._node.dial(here[name])
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            tasks = [task for tasks in watches.values() for task in tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # What the supervisors say.

    def about(self) -> frames.About:
        """What is told of this visitor."""
        return frames.About("visitor", os.getpid(), {}, self._events)

    async def serve(self, _peer: Peer, _request: frames.Request, _who: Credentials) -> MessageValue:
        """There is nothing here to be called."""
        raise Refused("missing", "a visitor runs no plugins")

    def event(self, peer: Peer, event: frames.Event) -> None:
        """An event that is wanted; the source of what a supervisor tells of itself is its name."""
        source = peer.name if event.event_type.startswith("frys:") else event.source
        self._stream.put(PluginMessage.Event(event.event_type, event.data, source))

    def chase(self, _chase: frames.Chase) -> None:
        """Nobody waits here."""

    def left(self, _peer: Peer) -> None:
        """A supervisor is gone; what was asked of it has ended."""


def _forgive(watch: asyncio.Future[MessageValue]) -> None:
    """A watch ends with its supervisor, which is no news."""
    if not watch.cancelled():
        watch.exception()
