"""Replacing a plugin under calls, and from a save to the new version."""

from typing import Any

from .figures import Benchmark, Row, Series, judge, row
from .scale import Scale
from .stage import Stage, alternate

_KINDS = ("javascript", "python")
_RATE = 500
_ALONE = 200


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Reload a hundred times at 500 calls a second, count what became of the calls, and time saves."""
    frys = stage.contender("reloading", stage.folder)
    rows: list[Row] = []
    for kind in _KINDS:
        facts = frys.ask(method="replace", kind=kind, reloads=scale.reloads, rate=_RATE)
        if frys.absent:
            rows.append(Row(what=kind, unit="", goal="0", verdict="not run", note=frys.absent))
            continue
        quiet = frys.ask(method="quiet", kind=kind, count=_ALONE, rate=_RATE)
        rows += _counts(kind, facts, scale.reloads)
        alone = f"{kind}, a call alone", Series(rounds=[quiet])
        meanwhile = Series(rounds=[facts["calls"]])
        rows.append(row(f"{kind}, a call meanwhile", "ms", meanwhile, scale=1e3, reference=alone))
        rows.append(row(alone[0], "ms", alone[1], scale=1e3))
        rows += _times(kind, facts["seconds"], frys, scale)
    return Benchmark(
        name="reload",
        title=f"{scale.reloads} reloads at {_RATE} calls a second, level Maximum",
        how="Each version answers with its number, eight times, so that a mix of two would show. Calls are "
        "sent at the rate whether earlier ones were answered or not. A save is a new file by rename, and is "
        "over when a call is answered by the new version; it has two looks at the file in it, 100 ms apart.",
        rows=rows,
    )


def _counts(kind: str, facts: dict[str, Any], reloads: int) -> list[Row]:
    lost = facts["sent"] - facts["answered"] - facts["failed"]
    counted = {
        "failed": facts["failed"],
        "lost": lost,
        "a mix of versions": facts["mixed"],
        "by a version that was replaced before": facts["old"],
    }
    note = f"of {facts['sent']} calls, over {reloads} reloads"
    return [
        Row(
            what=f"{kind}, {what}",
            unit="",
            p50=float(count),
            samples=facts["sent"],
            goal="0",
            verdict=judge(count, 0),
            note=note,
        )
        for what, count in counted.items()
    ]


def _times(kind: str, reloads: list[float], frys: Any, scale: Scale) -> list[Row]:
    load, saved = f"{kind}, plain load", f"{kind}, save to new version"
    series = alternate(
        {
            load: (frys, {"method": "load", "kind": kind, "count": scale.loads}),
            saved: (frys, {"method": "saved", "kind": kind, "count": scale.loads}),
        },
        scale.rounds,
    )
    plain = load, series[load]
    return [
        row(f"{kind}, reload_plugin", "ms", Series(rounds=[reloads]), scale=1e3),
        row(saved, "ms", series[saved], scale=1e3, reference=plain),
        row(load, "ms", series[load], scale=1e3),
    ]
