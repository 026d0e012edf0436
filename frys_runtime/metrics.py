"""A manager's counts as Prometheus metrics, for a host program that is scraped already.

    from prometheus_client import REGISTRY
    from frys_runtime.metrics import ManagerCollector

    REGISTRY.register(ManagerCollector(manager))

Needs the extra ``metrics``. docs/observability.md lists the metrics.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from threading import get_ident
from typing import Final, NamedTuple

from .channels import Channel, ChannelStats, Histogram
from .config import ResourceUsage
from .errors import InitializationFailed, PluginNotFound
from .manager import PluginManager

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError:
    raise InitializationFailed(
        "the Prometheus collector",
        'it needs the package prometheus-client: `pip install "frys-runtime[metrics]"`',
    ) from None

_TIMEOUT: Final = 10.0
"""Seconds that a scrape waits for the event loop."""
_AT_ONCE: Final = 16
"""Plugins that are measured before calls get their turn."""
_CHANNEL: Final = ("kind", "sender", "receiver", "name")
# One bucket for each doubling; the histogram has four.
_EDGES: Final = range(4, len(Histogram().counts), 4)


class _Figure(NamedTuple):
    """A field of ResourceUsage as a metric: its name, its unit's share, and whether it only grows."""

    name: str
    help: str
    scale: float = 1
    grows: bool = False


_FIGURES: Final[Mapping[str, _Figure]] = {
    "memory_usage": _Figure("memory_bytes", "Bytes charged to the running instance."),
    "memory_peak": _Figure("memory_peak_bytes", "The most bytes ever charged to the running instance."),
    "cpu_time_used": _Figure("cpu_seconds", "CPU of the running instance.", 0.001),
    "cpu_throttled": _Figure("cpu_throttled_seconds", "For which its CPU quota held it back.", 0.001),
    "storage_read": _Figure("storage_read_bytes", "Bytes that it made storage read."),
    "storage_written": _Figure("storage_written_bytes", "Bytes that it made storage write."),
    "processes": _Figure("processes", "Its processes."),
    "threads": _Figure("threads", "Threads of all of them."),
    "open_files": _Figure("open_files", "Open descriptors of all of them."),
    "calls": _Figure("calls", "Calls that were answered or failed.", grows=True),
    "message_bytes_in": _Figure("lane_in_bytes", "Bytes that came from it.", grows=True),
    "message_bytes_out": _Figure("lane_out_bytes", "Bytes that went to it.", grows=True),
    "http_requests": _Figure("http_requests", "Requests that it asked its host to make.", grows=True),
    "http_bytes_in": _Figure("http_in_bytes", "Bytes that came from servers for it.", grows=True),
    "http_bytes_out": _Figure("http_out_bytes", "Bytes that went to servers for it.", grows=True),
    "violations": _Figure("violations", "Things it tried that its policy forbids.", grows=True),
    "restarts": _Figure("restarts", "Fresh instances that replaced dead ones.", grows=True),
}


class ManagerCollector(Collector):
    """Reads a manager whenever it is scraped.

    Make it in the event loop of the manager; any thread may scrape it. Register one for each registry.

    Args:
        manager: An open manager.
    """

    def __init__(self, manager: PluginManager) -> None:
        self._manager = manager
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()

    def collect(self) -> Iterable[Metric]:
        """Everything as it is now.

        Raises:
            TimeoutError: The event loop did not come to it within 10 seconds.
        """
        if get_ident() == self._thread or self._loop.is_closed():
            usages = [usage for plugin_id in self._plugins() for usage in self._measure(plugin_id)]
            return self._families(dict(usages))
        return asyncio.run_coroutine_threadsafe(self._read(), self._loop).result(_TIMEOUT)

    async def _read(self) -> list[Metric]:
        usages: dict[str, ResourceUsage] = {}
        for number, plugin_id in enumerate(self._plugins(), 1):
            usages.update(self._measure(plugin_id))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return self._families(usages)

    def _plugins(self) -> list[str]:
        try:
            return [info.id for info in self._manager.list_plugins()]
        except InitializationFailed:  # the manager was closed: its counts stay
            return []

    def _measure(self, plugin_id: str) -> Iterator[tuple[str, ResourceUsage]]:
        try:
            yield plugin_id, self._manager.resource_usage(plugin_id, private=False)
        except (PluginNotFound, InitializationFailed):
            return  # it was unloaded meanwhile

    def _families(self, usages: Mapping[str, ResourceUsage]) -> list[Metric]:
        return [*self._of_manager(), *self._of_messages(), *_of_plugins(usages)]

    def _of_manager(self) -> Iterator[Metric]:
        stats, messages = self._manager.stats(), self._manager.communicator.stats()
        yield GaugeMetricFamily("frys_plugins", "Plugins that are loaded.", stats.plugins)
        for name, text, value in (
            ("frys_calls", "Calls of plugins' functions.", stats.calls),
            ("frys_call_failures", "Calls that gave no result.", stats.failures),
            ("frys_restarts", "Fresh instances that replaced dead ones.", stats.restarts),
            ("frys_violations", "Times that a plugin tried what is forbidden.", stats.violations),
            ("frys_events_published", "Events that were published.", messages.published),
            ("frys_events_delivered", "Events that were given to receivers.", messages.delivered),
            ("frys_events_dropped", "Events that slow plugins lost.", messages.dropped),
            ("frys_event_failures", "Events whose handler failed.", messages.failed),
        ):
            yield CounterMetricFamily(name, text, value)
        refused = CounterMetricFamily(
            "frys_permission_refusals", "Questions that no policy grants.", labels=("plugin",)
        )
        waiting = GaugeMetricFamily(
            "frys_events_waiting", "Events that wait for a plugin.", labels=("plugin",)
        )
        for metric, by_plugin in ((refused, messages.refused), (waiting, messages.waiting)):
            for plugin_id, count in by_plugin.items():
                metric.add_metric((plugin_id,), count)
            yield metric

    def _of_messages(self) -> Iterator[Metric]:
        stats = self._manager.communicator.stats()
        calls = [(_labels("call", channel), counts) for channel, counts in stats.channels.items()]
        events = [(_labels("event", channel), counts) for channel, counts in stats.events.items()]
        yield from _of_channels([*calls, *events, (("other", "", "", ""), stats.other)])


def _labels(kind: str, channel: Channel) -> tuple[str, ...]:
    return kind, *channel


def _of_channels(channels: list[tuple[tuple[str, ...], ChannelStats]]) -> Iterator[Metric]:
    seconds = HistogramMetricFamily(
        "frys_message_seconds", "From the sender to the result, waiting included.", labels=_CHANNEL
    )
    failed = CounterMetricFamily(
        "frys_message_errors", "Delivered messages that gave no value.", labels=(*_CHANNEL, "error")
    )
    refused = CounterMetricFamily(
        "frys_messages_refused", "Messages turned away before they were delivered.", labels=_CHANNEL
    )
    size = CounterMetricFamily(
        "frys_message_bytes", "Bytes to the receiver and back.", labels=(*_CHANNEL, "direction")
    )
    for labels, counts in channels:
        seconds.add_metric(labels, _buckets(counts.latency), counts.seconds)
        refused.add_metric(labels, counts.refused)
        size.add_metric((*labels, "out"), counts.bytes_out)
        size.add_metric((*labels, "in"), counts.bytes_in)
        for kind, count in counts.errors_by_kind.items():
            failed.add_metric((*labels, kind), count)
    yield from (seconds, failed, refused, size)


def _buckets(latency: Histogram) -> list[tuple[str, float]]:
    total, begin, buckets = 0, 0, []
    for edge in _EDGES:
        total += sum(latency.counts[begin:edge])
        buckets.append((repr(Histogram.bound(edge)), float(total)))
        begin = edge
    return [*buckets, ("+Inf", float(total + sum(latency.counts[begin:])))]


def _of_plugins(usages: Mapping[str, ResourceUsage]) -> Iterator[Metric]:
    for attribute, figure in _FIGURES.items():
        family = CounterMetricFamily if figure.grows else GaugeMetricFamily
        metric = family(f"frys_plugin_{figure.name}", figure.help, labels=("plugin",))
        for plugin_id, usage in usages.items():
            metric.add_metric((plugin_id,), getattr(usage, attribute) * figure.scale)
        yield metric
