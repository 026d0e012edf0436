"""The way from one plugin to another, and to its host."""

from typing import Any

from .contenders.frys import FILES
from .figures import Benchmark, Series, row
from .scale import Scale
from .stage import Contender, Stage, alternate

_BARE = "asyncio protocol/blocking, one core"
_APART = "asyncio protocol/blocking"
_PACED = "python, at most 1,000 a second"
_LARGE = "python, 1 MiB"
_QUESTION = "a question (config)"


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Measure calls from a Python plugin to one of each format, next to a bare ping-pong."""
    kinds = [kind for kind in FILES if kind not in stage.missing]
    series: dict[str, Series] = {}
    for _ in range(scale.processes):
        for name, more in alternate(_turns(stage, scale, kinds), -(-scale.rounds // scale.processes)).items():
            series.setdefault(name, Series(absent=more.absent)).rounds += more.rounds
        stage.clear()
    return _benchmark(stage, kinds, series)


def _turns(stage: Stage, scale: Scale, kinds: list[str]) -> dict[str, tuple[Contender, dict[str, Any]]]:
    frys = stage.contender("messages", "asyncio", stage.folder, *kinds)
    count = scale.calls
    turns: dict[str, tuple[Contender, dict[str, Any]]] = {
        kind: (frys, {"method": "call", "kind": kind, "size": 64, "count": count}) for kind in kinds
    }
    turns[_PACED] = frys, {"method": "call", "kind": "python", "size": 64, "count": count, "pause": 0.001}
    turns[_LARGE] = frys, {"method": "call", "kind": "python", "size": 1 << 20, "count": scale.large_calls}
    turns[_QUESTION] = frys, {"method": "ask", "count": count}
    turns[_BARE] = stage.contender("onecore", "pingpong", "protocol", "blocking", 64), {"count": count}
    turns[_APART] = stage.contender("pingpong", "protocol", "blocking", 64), {"count": count}
    return turns


def _benchmark(stage: Stage, kinds: list[str], series: dict[str, Series]) -> Benchmark:
    bare = _BARE, series[_BARE]
    rows = [
        row(kind, "us", series[kind], scale=1e6, goal="<= 2.5 x", limit=2.5, limit_of="ratio", reference=bare)
        if kind in kinds
        else row(kind, "us", Series(absent=stage.missing[kind]), scale=1e6, goal="<= 2.5 x")
        for kind in FILES
    ]
    rows += [
        row(_PACED, "us", series[_PACED], scale=1e6, reference=bare, note="goal: p99 < 1 ms"),
        row(_LARGE, "us", series[_LARGE], scale=1e6),
        row(_QUESTION, "us", series[_QUESTION], scale=1e6, reference=bare),
        row(_BARE, "us", series[_BARE], scale=1e6, note="one exchange between two processes"),
        row(
            _APART,
            "us",
            series[_APART],
            scale=1e6,
            note="the same, on whatever cores the scheduler gives them",
        ),
    ]
    return Benchmark(
        name="messages",
        title="Plugin to plugin, 64 B in and out, level Maximum, one supervisor",
        how="A Python plugin calls an echo function of another plugin and times it by its own clock. The way "
        "is plugin > host > plugin > host > plugin: two exchanges and the host's checks between them. There "
        "are several sets of processes: on which core each ends up is luck that lasts.",
        rows=rows,
    )
