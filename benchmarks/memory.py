"""Private memory of idle plugin processes."""

from typing import Any

from .contenders.frys import FILES
from .figures import Benchmark, Row, Series, row
from .scale import Scale
from .stage import Stage

_LIMITS = {"wasm": 2.0, "javascript": 2.0, "native": 2.0, "python": 3.2, "python-main": 2.0}
_CALLS = 100
_MIB = 1 / (1 << 20)


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Measure the USS of idle, called instances, read from outside, and of what makes them."""
    kinds = [kind for kind in FILES if kind not in stage.missing]
    crowd = stage.contender("crowd", stage.folder, 0)
    crowd.ask(method="start", kinds=kinds, count=scale.instances * len(kinds), at_once=2)
    crowd.ask(method="call_all", times=_CALLS)
    crowd.ask(method="idle", seconds=scale.idle_seconds)
    found: dict[str, list[int]] = crowd.ask(method="memory") or {}
    absent = crowd.absent
    if found and not found.get(kinds[0], [0])[0]:
        absent = "the kernel lets only root read the memory of a jailed process"
    rows = [
        _row(f"{kind} plugin", found.get(kind), stage.missing.get(kind, absent), limit=_LIMITS[kind])
        for kind in FILES
    ]
    rows += [
        _row(f"{name} launcher", found.get(f"frys-{name}"), absent)
        for name in ("wasm", "javascript", "native", "python")
    ]
    rows += [_row("keeper of a launcher", found.get("frys-keeper"), absent)]
    return Benchmark(
        name="memory",
        title="Private memory (USS) of an idle, called plugin process",
        how=f"Private_Clean + Private_Dirty of /proc/PID/smaps_rollup after {_CALLS} calls each, "
        f"{scale.instances} instances of each kind.",
        rows=rows,
    )


def _row(what: str, sizes: list[int] | None, absent: str, limit: float | None = None) -> Row:
    series = (
        Series(rounds=[[float(size) for size in sizes]]) if sizes and not absent else Series(absent=absent)
    )
    if not sizes and not absent:
        series.absent = "there was no such process"
    options: dict[str, Any] = {"goal": f"<= {limit} MiB", "limit": limit} if limit else {}
    return row(what, "MiB", series, scale=_MIB, **options)
