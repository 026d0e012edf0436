"""A plugin that another supervisor runs, as those here see it who call it."""

from collections.abc import Callable
from typing import Final, Protocol

from .. import trace, waits
from ..messages import MessageValue, check_name, check_timeout, check_value
from ..policy_grants import MessageGrant
from ..ranges import Range
from . import frames
from .node import STUCK_SECONDS, Known, Peer

MANY: Final = 1 << 30
"""Calls that a plugin elsewhere may serve at the same time; its own supervisor knows how many."""


class Caller(Protocol):
    """The supervisor here: :class:`frys_runtime.bus.supervisor.Supervisor`."""

    def key(self, address: str) -> int: ...  # noqa: D102 - said there
    def line(self) -> list[str]: ...  # noqa: D102
    def everywhere(self, plugin: str) -> str: ...  # noqa: D102
    def sent(self, target: "Remote", peer: Peer, number: int) -> None: ...  # noqa: D102
    async def request(  # noqa: D102
        self,
        peer: Peer,
        target: str,
        make: Callable[[int], frames.Request],
        timeout_ms: int | None = None,
        **grace: float,
    ) -> MessageValue: ...


class Remote:
    """A plugin of another supervisor, for one call.

    Args:
        supervisor: This one.
        peer: The other.
        plugin_id: The plugin.
        wanted: The versions that were asked for. The other supervisor chooses among them once more, when it
            has the call: there may be new ones, and which are on trial only it knows.
        known: The version that it is as far as is known here.
        as_host: The call is the host program's.
    """

    def __init__(
        self,
        supervisor: Caller,
        peer: Peer,
        plugin_id: str,
        wanted: Range | None,
        known: Known,
        *,
        as_host: bool,
    ) -> None:
        self.plugin_id = plugin_id
        self.address = f"{plugin_id}@{known.metadata.version}/{peer.name}"
        self.key = supervisor.key(self.address)
        self.metadata, self.interface, self.functions = known.metadata, known.interface, known.functions
        self.longest_ms = known.longest_ms
        self._target = plugin_id if wanted is None else f"{plugin_id}@{wanted}"
        self._supervisor, self._peer, self._as_host = supervisor, peer, as_host

    @property
    def instances(self) -> int:
        """More than ever wait."""
        return MANY

    @property
    def messages(self) -> MessageGrant:
        """Nothing."""
        return MessageGrant()  # its own supervisor decides about what it does

    async def call(
        self, function: str, args: tuple[MessageValue, ...], timeout_ms: int | None = None
    ) -> MessageValue:
        """Have its supervisor call one function of it."""
        check_name(function, "function")
        values = list(args)
        check_value(values, "args")
        check_timeout(timeout_ms)
        waiting, line = waits.line(), self._supervisor.line()
        source = "" if self._as_host or not waiting else self._supervisor.everywhere(waiting[-1].plugin_id)

        def make(number: int) -> frames.Call:
            left = timeout_ms or 0
            if waiting:
                self._supervisor.sent(self, self._peer, number)
            return frames.Call(number, self._target, function, values, left, source, line, trace.carried())

        if timeout_ms is not None:
            return await self._supervisor.request(self._peer, self.plugin_id, make, timeout_ms)
        return await self._patiently(make)

    def begin(self, _function: str, _args: tuple[MessageValue, ...], _timeout_ms: int | None) -> None:
        """Nothing: a call of it begins at its supervisor."""

    async def ping(self) -> None:
        """Have its process answer."""

        def make(number: int) -> frames.Ask:
            return frames.Ask(number, "ping", [self._target])

        await self._patiently(make)

    async def _patiently(self, make: Callable[[int], frames.Request]) -> MessageValue:
        """As long as the plugin's own policy allows: its supervisor sees to that, unless it is stuck."""
        longest = self.longest_ms or None
        return await self._supervisor.request(self._peer, self.plugin_id, make, longest, grace=STUCK_SECONDS)
