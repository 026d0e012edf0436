"""A day of calls in minutes: whether the host grows."""

import statistics
from typing import Any

from .figures import Benchmark, Curve, Row, judge
from .scale import Scale
from .stage import Stage

_KINDS = ("wasm", "javascript", "native", "python")
_SAMPLES = 100
_CALLS_PER_UPSET = 5000
_WARM = 0.1
"""The share of the calls after which nothing may grow any more."""
_MOST_KIB = 32.0
"""KiB by which memory may seem to grow in 100,000 calls: less than half a byte for a call."""
_MIB = 1 << 20


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Call plugins of each format at once, kill and reload them meanwhile, and watch the host."""
    kinds = [kind for kind in _KINDS if kind not in stage.missing]
    frys = stage.contender("endurance", stage.folder, *kinds)
    facts = frys.ask(
        method="live", calls=scale.endurance, samples=_SAMPLES, upsets=scale.endurance // _CALLS_PER_UPSET
    )
    if frys.absent:
        rows = [Row(what="host", unit="MiB", goal="flat", verdict="not run", note=frys.absent)]
        return Benchmark(name="endurance", title="Calls without end", how="", rows=rows)
    samples = facts["samples"]
    curves = [
        Curve(
            what=f"host, {name.upper()}",
            unit="MiB",
            points=[[one["calls"], one[name] / _MIB] for one in samples],
        )
        for name in ("rss", "uss")
    ]
    how = (
        f"{', '.join(kinds)}: an echo of 64 B; and a Python plugin that stores a value, publishes an event "
        f"and calls another plugin. Two callers each, level Maximum. Meanwhile {facts['killed']} processes "
        f"are killed and {facts['reloaded']} plugins reloaded. Growth is the slope of a line through "
        f"the samples after {_WARM:.0%} of the calls."
    )
    return Benchmark(
        name="endurance",
        title=f"{scale.endurance:,} calls, {facts['seconds']:.0f} s",
        how=how,
        rows=_rows(facts),
        curves=curves,
    )


def _rows(facts: dict[str, Any]) -> list[Row]:
    samples = facts["samples"]
    later = [one for one in samples if one["calls"] >= _WARM * samples[-1]["calls"]]
    rows = [_plain("calls a second", "/s", facts["answered"] / facts["seconds"])]
    for name in ("rss", "uss"):
        rows += [
            _plain(f"host, {name.upper()} after {_WARM:.0%}", "MiB", later[0][name] / _MIB),
            _plain(f"host, {name.upper()} at the end", "MiB", later[-1][name] / _MIB),
            _most(f"host, {name.upper()}, growth per 100,000 calls", "KiB", _slope(later, name), _MOST_KIB),
        ]
    for name in ("descriptors", "tasks", "threads", "processes"):
        # A reload or a restart holds some for a moment; what leaks would lift the median of the end.
        third = max(len(later) // 3, 1)
        first, last = (
            statistics.median(one[name] for one in part) for part in (later[:third], later[-third:])
        )
        rows.append(_most(f"host, {name}, more at the end", "", last - first, 0))
    notes = {"failed": facts["why"], "crashed": "their process was killed under them"}
    rows.append(_most("calls that failed for no reason", "", facts["failed"], 0, notes["failed"]))
    rows.append(_plain("calls that failed with their process", "", facts["crashed"], notes["crashed"]))
    return rows


def _slope(samples: list[dict[str, float]], name: str) -> float:
    """KiB in 100,000 calls, by least squares."""
    line = statistics.linear_regression([one["calls"] for one in samples], [one[name] for one in samples])
    return line.slope * 100_000 / 1024


def _plain(what: str, unit: str, value: float, note: str = "") -> Row:
    return Row(what=what, unit=unit, p50=float(value), samples=1, note=note)


def _most(what: str, unit: str, value: float, limit: float, note: str = "") -> Row:
    goal, verdict = f"<= {limit:g} {unit}".strip(), judge(value, limit)
    return Row(what=what, unit=unit, p50=float(value), samples=1, goal=goal, verdict=verdict, note=note)
