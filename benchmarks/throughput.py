"""Messages in a second, all processes on one core."""

import dataclasses
from typing import Any

from .contenders.frys import FILES
from .figures import Benchmark, Row, Series, row
from .scale import Scale
from .stage import Contender, Stage, alternate

_BARE = "bare ping-pong, asyncio protocol/blocking"
_CALLS = "host calls a plugin"
_TOGETHER = "host calls a plugin of each kind at once"
_MESSAGES = "plugin calls a plugin"
_QUESTIONS = "plugin asks its host (config)"
_TIMES = 5


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Count exchanges of 64 B in a second, where host and plugins share a core."""
    kinds = [kind for kind in FILES if kind not in stage.missing]
    frys = stage.contender("onecore", "messages", "asyncio", stage.folder, *kinds)
    bare = stage.contender("onecore", "pingpong", "protocol", "blocking", 64)
    count = scale.calls * _TIMES
    turns: dict[str, tuple[Contender, dict[str, Any]]] = {
        _CALLS: (frys, {"method": "host", "kind": "python", "count": count}),
        _TOGETHER: (frys, {"method": "host_at_once", "count": count}),
        _MESSAGES: (frys, {"method": "call", "kind": "python", "size": 64, "count": count}),
        _QUESTIONS: (frys, {"method": "ask", "count": count}),
        _BARE: (bare, {"count": count}),
    }
    rates = {what: _rates(series) for what, series in alternate(turns, scale.rounds).items()}
    reference = _BARE, rates[_BARE]
    return Benchmark(
        name="throughput",
        title="Exchanges of 64 B in a second on one core, level Maximum",
        how="The supervisor and all plugin processes are held on one core. A message between plugins is two "
        "exchanges. The ratio is by those of two bare processes on the same core, so here less is slower.",
        rows=[_row(what, rates[what], None if what == _BARE else reference) for what in turns],
    )


def _row(what: str, rates: Series, reference: tuple[str, Series] | None) -> Row:
    made = row(what, "/s", rates, scale=1.0, reference=reference)
    return dataclasses.replace(made, p99=None, low=None, high=None)  # of rounds that were one number each


def _rates(series: Series) -> Series:
    """From the seconds of each exchange, the number in a second of each round."""
    return Series(rounds=[[len(seconds) / sum(seconds)] for seconds in series.rounds], absent=series.absent)
