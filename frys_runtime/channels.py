"""Counts of messages, by who sends what to whom, in bounded memory."""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

MAX_CHANNELS: Final = 4096
"""Channels that are counted one by one."""
_STEPS: Final = 4
"""Buckets for each doubling of the time."""
_BUCKETS: Final = 26 * _STEPS + 1

type Channel = tuple[str, str, str]
"""Sender and receiver, empty for the host program, and the function or the type of event."""


class Histogram:
    """How long messages took, in 105 fixed buckets from 1 µs to 134 s, four for each doubling.

    Attributes:
        counts: How many fell into each bucket.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = array("Q", bytes(8 * _BUCKETS))

    def add(self, seconds: float) -> None:
        """Count one."""
        bucket = int(seconds * 1_000_000)
        if bucket >= _STEPS:
            bits = bucket.bit_length()
            bucket = (bits - 2) * _STEPS + (bucket >> bits - 3) % _STEPS
        self.counts[bucket if bucket < _BUCKETS else _BUCKETS - 1] += 1

    @staticmethod
    def bound(bucket: int) -> float:
        """Where a bucket begins, in seconds."""
        if bucket < _STEPS:
            return bucket / 1_000_000
        return ((_STEPS + bucket % _STEPS) << bucket // _STEPS - 1) / 1_000_000

    def quantile(self, share: float) -> float:
        """The time, in seconds, that this share of the messages took at most; 0 when there were none.

        Right to a quarter: the place within a bucket is interpolated.

        Args:
            share: 0.5 for the median, 0.99 for the 99th percentile.
        """
        left = share * sum(self.counts)
        for bucket, count in enumerate(self.counts):
            if count and count >= left:
                begin = self.bound(bucket)
                return begin + (self.bound(bucket + 1) - begin) * left / count
            left -= count
        return 0.0

    def merge(self, other: "Histogram") -> None:
        """Add another's counts."""
        self.counts = array("Q", map(int.__add__, self.counts, other.counts))

    def copy(self) -> "Histogram":
        """What it holds now."""
        one = Histogram()
        one.counts = self.counts[:]
        return one


@dataclass(slots=True)
class ChannelStats:
    """Messages from one sender to one function, or of one type of event to one receiver.

    Attributes:
        calls: That were delivered.
        errors_by_kind: Of these, those that gave no value: by the class of the error, or by the reason of a
            refusal; ``cancelled`` when the caller gave up.
        refused: That were turned away before they were delivered: wrong types, a circle, no permission.
        dropped: Events that were lost because the receiver was too slow.
        bytes_out: Bytes that went to the receiver.
        bytes_in: Bytes that came back.
        seconds: The time that all delivered ones took together, waiting included.
        latency: The same, as a histogram.
    """

    calls: int = 0
    errors_by_kind: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    dropped: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    seconds: float = 0.0
    latency: Histogram = field(default_factory=Histogram)

    def add(self, seconds: float, bytes_out: int, bytes_in: int) -> None:
        """Count one that was delivered."""
        self.calls += 1
        self.seconds += seconds
        self.bytes_out += bytes_out
        self.bytes_in += bytes_in
        self.latency.add(seconds)

    @property
    def errors(self) -> int:
        """Delivered ones that gave no value."""
        return sum(self.errors_by_kind.values())

    def merge(self, other: "ChannelStats") -> None:
        """Add another's counts."""
        self.calls += other.calls
        self.refused += other.refused
        self.dropped += other.dropped
        self.bytes_out += other.bytes_out
        self.bytes_in += other.bytes_in
        self.seconds += other.seconds
        for kind, count in other.errors_by_kind.items():
            self.errors_by_kind[kind] = self.errors_by_kind.get(kind, 0) + count
        self.latency.merge(other.latency)

    def copy(self) -> "ChannelStats":
        """What it holds now."""
        return replace(self, errors_by_kind=dict(self.errors_by_kind), latency=self.latency.copy())


@dataclass(frozen=True, slots=True)
class CommunicatorStats:
    """Counts over the manager's life.

    The first 4,096 channels are counted one by one; when there are more, those of plugins that are gone are
    added up in ``other``, and what still finds no place is counted there.

    Attributes:
        channels: Calls by sender (empty for the host program), receiver (empty for it, too) and function.
        events: Events by publisher, receiver and type.
        other: What is not counted by channel any more.
        published: Events that were published.
        delivered: Events that were given to plugins and streams, one for each receiver.
        dropped: Events that were lost because a plugin was too slow for them.
        failed: Events whose handler failed.
        waiting: Events that wait for a plugin now, by plugin.
        refused: Questions that no policy grants, by plugin.
    """

    channels: Mapping[Channel, ChannelStats]
    events: Mapping[Channel, ChannelStats]
    other: ChannelStats
    published: int
    delivered: int
    dropped: int
    failed: int
    waiting: Mapping[str, int]
    refused: Mapping[str, int]


class Channels:
    """The counts of each channel.

    Args:
        is_loaded: Whether a plugin is; channels of others give way when there are too many.
    """

    def __init__(self, is_loaded: Callable[[str], bool]) -> None:
        self._is_loaded = is_loaded
        self._counts: dict[Channel, ChannelStats] = {}
        self._someone_left = False
        self._other = ChannelStats()

    def at(self, channel: Channel) -> ChannelStats:
        """Where a channel is counted."""
        counts = self._counts.get(channel)
        return counts if counts is not None else self._make(channel)

    def _make(self, channel: Channel) -> ChannelStats:
        if len(self._counts) >= MAX_CHANNELS and self._someone_left:
            self._fold()
        if len(self._counts) >= MAX_CHANNELS:
            return self._other
        return self._counts.setdefault(channel, ChannelStats())

    def _fold(self) -> None:
        self._someone_left = False
        for channel in tuple(self._counts):
            if not all(not plugin_id or self._is_loaded(plugin_id) for plugin_id in channel[:2]):
                self._other.merge(self._counts.pop(channel))

    def left(self) -> None:
        """A plugin was unloaded; its channels stay until the room is needed."""
        self._someone_left = True

    def snapshot(self) -> dict[Channel, ChannelStats]:
        """What they hold now."""
        return {channel: counts.copy() for channel, counts in self._counts.items()}

    def other(self) -> ChannelStats:
        """What is counted by no channel."""
        return self._other.copy()
