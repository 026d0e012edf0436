"""A plugin's process dies in a call: how long until its caller knows, and until another one answers."""

from typing import Any

from .figures import Benchmark, row
from .scale import Scale
from .stage import Contender, Stage, alternate

_KINDS = ("wasm", "javascript", "native", "python", "python-main")
_MORE_MS = 2.0


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Measure the way back after a crash beside loading the same plugin, in turns."""
    kinds = [kind for kind in _KINDS if kind not in stage.missing]
    frys = stage.contender("frys", "asyncio", stage.folder, 1, *kinds)
    turns: dict[str, tuple[Contender, dict[str, Any]]] = {}
    for kind in kinds:
        facts = {"kind": kind, "count": scale.loads}
        turns[f"{kind}, load"] = frys, {"method": "load", **facts}
        turns[f"{kind}, restart"] = frys, {"method": "restart", **facts}
        turns[f"{kind}, notice"] = frys, {"method": "restart", "notice": True, **facts}
    series = alternate(turns, scale.rounds)
    rows = []
    for kind in kinds:
        load, restart = series[f"{kind}, load"], series[f"{kind}, restart"]
        rows.append(row(f"{kind}, load", "ms", load, scale=1e3))
        limit = load.p50 * 1e3 + _MORE_MS if load.rounds else None
        rows.append(
            row(
                f"{kind}, restart",
                "ms",
                restart,
                scale=1e3,
                goal=f"<= load + {_MORE_MS:.0f} ms",
                limit=limit,
                reference=(f"{kind}, load", load),
            )
        )
        rows.append(row(f"{kind}, death noticed", "ms", series[f"{kind}, notice"], scale=1e3))
    return Benchmark(
        name="restart",
        title="A process dies, and the next one answers, level Maximum",
        how="The process is killed in the middle of a call; its caller is told, and calls again at once. "
        "restart: from being told to the answer; death noticed: from the kill to being told, which is the "
        "kernel's work, and its scheduler's. Load is load_plugin and one call of the same plugin. Both find "
        "a parked process.",
        rows=rows,
    )
