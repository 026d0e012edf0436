"""Quiet plugins beside plugins that flood their host with calls."""

import statistics
from typing import NamedTuple

from .figures import Benchmark, Row, Series, row
from .scale import Scale
from .stage import Contender, Stage

_FLOODERS = 4
_ANY_NUMBER, _SLOWED = 1_000_000, 200


class _Kind(NamedTuple):
    """A way in which a quiet plugin is called, and how many exchanges that takes."""

    what: str
    exchanges: int


_KINDS = (_Kind("call", 1), _Kind("message", 2))


class _Turns:
    """What one number of flooders gave, round by round."""

    def __init__(self, contender: Contender, flooders: int) -> None:
        self._contender, self.flooders = contender, flooders
        self.series = Series(absent=contender.absent)
        self._floods: list[float] = []

    def take(self, what: str, seconds: float) -> None:
        """One turn."""
        facts = self._contender.ask(method="measure", what=what, seconds=seconds, flooders=self.flooders)
        if self._contender.absent:
            self.series.absent = self._contender.absent
        else:
            self.series.rounds.append(facts["seconds"])
            self._floods.append(facts["flood"])

    @property
    def flood(self) -> float:
        """Calls of all flooders together in a second."""
        return statistics.median(self._floods)


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Measure calls of quiet plugins alone, beside a flood, and beside one that the policy slows."""
    free = stage.contender("flood", stage.folder, _FLOODERS, _ANY_NUMBER)
    slowed = stage.contender("flood", stage.folder, _FLOODERS, _SLOWED)
    rows: list[Row] = []
    for kind in _KINDS:
        turns = {
            "alone": _Turns(free, 0),
            "one floods": _Turns(free, 1),
            f"{_FLOODERS} flood": _Turns(free, _FLOODERS),
            f"{_FLOODERS} flood, {_SLOWED}/s allowed": _Turns(slowed, _FLOODERS),
        }
        for number in range(scale.rounds):
            first = number % len(turns)
            for name in [*turns, *turns][first : first + len(turns)]:
                turns[name].take(kind.what, scale.flood_seconds)
        rows += [_row(kind, name, turn, turns["alone"]) for name, turn in turns.items()]
    return Benchmark(
        name="fairness",
        title="A quiet plugin beside a flood, 64 B, level Maximum, one supervisor",
        how="A call is the host program's, a message another plugin's. A flooder calls a target of its "
        "own without a pause. It has one question open at a time, and the host works off one frame of each "
        "process in a turn of its loop. So each exchange of a quiet call may wait for one message of each "
        "flooder: that is the bound. A quiet call begins 5 ms after the answer to the one before.",
        rows=rows,
    )


def _row(kind: _Kind, name: str, turns: _Turns, alone: _Turns) -> Row:
    what = f"{kind.what}, {name}"
    if turns is alone or turns.series.absent:
        return row(what, "us", turns.series, scale=1e6)
    reference = f"{kind.what}, alone", alone.series
    note = f"beside {turns.flood:,.0f} calls a second of the flood"
    if name.endswith("allowed"):
        return row(what, "us", turns.series, scale=1e6, reference=reference, note=note)
    # At full speed, the time between two messages of the flood is what the host takes for one.
    bound = alone.series.p50 + kind.exchanges * turns.flooders / turns.flood
    return row(
        what,
        "us",
        turns.series,
        scale=1e6,
        goal=f"<= {bound * 1e6:.0f} us",
        limit=bound * 1e6,
        reference=reference,
        note=note,
    )
