"""One event to a hundred plugins."""

from typing import Any

from .figures import Benchmark, row
from .scale import Scale
from .stage import Stage, alternate

_LISTENERS = 100
_TOLD = f"an event, until all {_LISTENERS} have it"
_LOOP = f"{_LISTENERS} calls, one after the other"
_TOGETHER = f"{_LISTENERS} calls at once"


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Measure how long an event takes to all its subscribers, next to calls of the same functions."""
    audience = stage.contender("audience", stage.folder, _LISTENERS)
    methods = {_TOLD: "publish", _LOOP: "in_turn", _TOGETHER: "at_once"}
    series = alternate(
        {what: (audience, {"method": method, "count": scale.loads}) for what, method in methods.items()},
        scale.rounds,
    )
    told, loop = series[_TOLD], (_LOOP, series[_LOOP])
    goal: dict[str, Any] = {"goal": "<= 1 x", "limit": 1.0, "limit_of": "ratio"}
    return Benchmark(
        name="events",
        title=f"An event of 64 B to {_LISTENERS} plugins, level Maximum, one supervisor",
        how="Python plugins of the main interpreter subscribe to the event, and their handler calls a "
        "function of the host program, so that the moment is known at which a plugin has it. Host calls of "
        "the very same function in a loop, and all at once, are the references.",
        rows=[
            row(_TOLD, "ms", told, scale=1e3, reference=loop, **goal),
            row(_TOGETHER, "ms", series[_TOGETHER], scale=1e3, reference=loop),
            row(_LOOP, "ms", series[_LOOP], scale=1e3, note="each answers before the next is called"),
        ],
    )
