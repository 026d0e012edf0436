"""Whom messages come from and go to, as far as those who carry them know."""

from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Protocol

from .interfaces import Interface
from .messages import MessageValue, PluginMessage
from .metadata import Metadata
from .policy_grants import MessageGrant
from .ranges import Range


class Peer(Protocol):
    """A live plugin that asks for something.

    Attributes:
        plugin_id: Its id.
        key: A number that no other loaded version has.
        metadata: What its plugin.json says.
    """

    plugin_id: str
    key: int
    metadata: Metadata

    @property
    def messages(self) -> MessageGrant:
        """What its policy lets it send and receive."""


class Version(Protocol):
    """One loaded version of a plugin, which calls and events go to.

    Attributes:
        plugin_id: Its id.
        key: A number that no other loaded version has.
        metadata: What its plugin.json says.
    """

    plugin_id: str
    key: int
    metadata: Metadata

    @property
    def interface(self) -> Interface:
        """What it offers to others."""

    @property
    def instances(self) -> int:
        """How many calls it can serve at the same time."""

    @property
    def longest_ms(self) -> int:
        """For how long a call without a deadline can take, waiting included."""

    @property
    def functions(self) -> dict[str, str]:
        """Its functions, in its own words."""

    @property
    def messages(self) -> MessageGrant:
        """What its policy lets it send and receive."""

    def call(
        self, function: str, args: tuple[MessageValue, ...], timeout_ms: int | None = None
    ) -> Awaitable[MessageValue]:
        """Call one function of it."""

    def begin(
        self, function: str, args: tuple[MessageValue, ...], timeout_ms: int | None
    ) -> Awaitable[MessageValue] | None:
        """Begin a call now, if that is possible at once; what is returned must be awaited next."""

    async def ping(self) -> None:
        """Have its process answer."""


class Target(Protocol):
    """A plugin that can be reached by its id, whatever its versions are."""

    plugin_id: str

    @property
    def releases(self) -> Sequence[Version]:
        """Its versions, without one on trial."""

    def match(self, wanted: Range | None = None) -> Version:
        """The version that an address means; without a range, the one that counts for who names none."""

    def settled(self, wanted: Range | None = None) -> Version | None:
        """The version that every call gets now, and at once; ``None`` where :meth:`reach` must say."""

    async def reach(self, wanted: Range | None = None) -> Version:
        """The version for a call or an event, once it takes one."""

    async def reach_in_time(self, wanted: Range | None, timeout_ms: int | None) -> tuple[Version, int | None]:
        """The same within a call's time, and how much of that is left."""

    def interface_of(self, metadata: Metadata) -> Interface:
        """What the version with this metadata declares."""


class Elsewhere(Protocol):
    """The other supervisors, once there is a message bus."""

    def find(self, plugin_id: str, wanted: Range | None, *, as_host: bool) -> Version | None:
        """A plugin that one of them runs, for calls of this host program or of a plugin."""

    def waiting(self, target: Version) -> AbstractContextManager[None]:
        """The last of the line of calls waits for a plugin; Refused if it waits for itself over others."""

    def publish(self, event: PluginMessage.Event) -> int:
        """Tell those who want it of an event; how many plugins and streams will get it."""

    def changed(self) -> None:
        """Other plugins are here now, or other events are wanted."""


def name_of(version: Version) -> str:
    """``ID@VERSION``."""
    return f"{version.plugin_id}@{version.metadata.version}"


_parsed = lru_cache(maxsize=1024)(Range.parse)


def needed_by(source: Peer, plugin_id: str) -> Range | None:
    """The versions of another plugin that fit a plugin, if it depends on it."""
    for needed in source.metadata.dependencies:
        if needed.plugin_id == plugin_id:
            return _parsed(needed.version_range)
    return None
