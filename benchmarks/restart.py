"""A plugin's process dies in a call: how long until another one answers."""

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
        for method in ("load", "restart"):
            turns[f"{kind}, {method}"] = frys, {"method": method, "kind": kind, "count": scale.loads}
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
    return Benchmark(
        name="restart",
        title="From the death of a process to the next answer, level Maximum",
        how="The process is killed in the middle of a call; its caller is told, and calls again at once. "
        "Load is load_plugin and one call of the same plugin. Both find a parked process.",
        rows=rows,
    )
