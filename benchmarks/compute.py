"""Computing inside the jail against the same engine outside it."""

import statistics

from .contenders.frys import FILES
from .figures import Benchmark, Row, median_interval
from .scale import Scale
from .stage import Contender, Stage

_N = {"wasm": 35, "javascript": 28, "native": 39, "python": 30, "python-main": 30}
"""The argument of fib: enough for 30 to 100 ms, beside which the call's 0.1 ms vanishes."""

_GOAL, _LIMIT = "<= 1.01", 1.01


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Measure fib(n) in pairs of one run inside and one outside, the first of a pair in turn."""
    from frys_runtime import IsolationLevel
    from frys_runtime.policy import level_policy

    limits = level_policy(IsolationLevel.MAXIMUM).limits
    rows = []
    for kind in FILES:
        if kind in stage.missing:
            absent = stage.missing[kind]
            rows.append(Row(what=kind, unit="", goal=_GOAL, verdict="not run", note=absent))
            continue
        runs = _Runs()
        for _ in range(scale.processes):
            inside = stage.contender("frys", "asyncio", stage.folder, 0, kind)
            outside = stage.contender("unjailed", stage.folder, kind, limits.memory, limits.stack)
            runs.compare(kind, inside, outside, scale.pairs)
            stage.clear()
        rows += runs.rows(kind)
    return Benchmark(
        name="compute",
        title="Compute inside the jail, against the same engine outside",
        how="fib(n) of the same plugin over the same lane; the process outside is forked from a warm one. "
        "Median of the ratios, inside by outside, of alternating pairs, with its 95 % interval; reached or "
        "missed only when the whole interval is.",
        rows=rows,
    )


class _Runs:
    """The runs of one format: ratios of clock and CPU time, and how long it took outside."""

    def __init__(self) -> None:
        self.clocks: list[float] = []
        self.cpus: list[float] = []
        self.outside: list[float] = []
        self.absent = ""

    def compare(self, kind: str, inside: Contender, outside: Contender, pairs: int) -> None:
        """Run in pairs, the first of each pair in turn; one more pair warms both."""
        n = _N[kind]
        for number in range(pairs + 1):
            if number % 2:
                mine, theirs = inside.ask(method="work", kind=kind, n=n), outside.ask(n=n)
            else:
                theirs, mine = outside.ask(n=n), inside.ask(method="work", kind=kind, n=n)
            self.absent = inside.absent or outside.absent
            if self.absent:
                return
            if number:
                self.clocks.append(mine[0] / theirs[0])
                self.cpus.append(mine[1] / theirs[1])
                self.outside.append(theirs[0])

    def rows(self, kind: str) -> list[Row]:
        """The lines of this format."""
        if self.absent:
            return [Row(what=kind, unit="", goal=_GOAL, verdict="not run", note=self.absent)]
        note = f"fib({_N[kind]}), {statistics.median(self.outside) * 1e3:.0f} ms outside"
        return [_row(f"{kind}, clock", self.clocks, note), _row(f"{kind}, CPU time", self.cpus, "")]


def _row(what: str, ratios: list[float], note: str) -> Row:
    low, high = median_interval(ratios)
    return Row(
        what=what,
        unit="",
        p50=statistics.median(ratios),
        low=low,
        high=high,
        samples=len(ratios),
        goal=_GOAL,
        limit=_LIMIT,
        verdict="reached" if high <= _LIMIT else "missed" if low > _LIMIT else "unclear",
        note=note,
    )
