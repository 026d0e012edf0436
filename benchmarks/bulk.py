"""Large bytes into a plugin and back, beside the socket and a plain copy."""

from typing import Any

from .contenders.frys import FILES
from .figures import Benchmark, Series, row
from .scale import Scale
from .stage import Contender, Stage, alternate

_SIZE = 100 << 20
_COPY = "one copy into fresh memory"
_SOCKET = "asyncio protocol/blocking"


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Measure an echo of 100 MiB by each format."""
    kinds = [kind for kind in FILES if kind not in stage.missing]
    frys = stage.contender("large", stage.folder, *kinds)
    turns: dict[str, tuple[Contender, dict[str, Any]]] = {
        kind: (frys, {"method": "call", "kind": kind, "size": _SIZE}) for kind in kinds
    }
    turns[_SOCKET] = stage.contender("pingpong", "protocol", "blocking", _SIZE), {"count": 1}
    turns[_COPY] = frys, {"method": "copy", "size": _SIZE}
    series = alternate(turns, max(3, scale.rounds // 4))
    copy = _COPY, series[_COPY]
    rows = [
        row(
            kind,
            "ms",
            series[kind] if kind in kinds else Series(absent=stage.missing[kind]),
            scale=1e3,
            reference=copy,
        )
        for kind in FILES
    ]
    rows += [
        row(
            _SOCKET,
            "ms",
            series[_SOCKET],
            scale=1e3,
            reference=copy,
            note="streamed: nobody holds the whole",
        ),
        row(_COPY, "ms", series[_COPY], scale=1e3),
    ]
    return Benchmark(
        name="bulk",
        title="100 MiB in and out, level Maximum with room for it",
        how="execute_plugin of an echo function that copies its argument: the bytes go through the buffer "
        "that a plugin shares with its host, once in each direction.",
        rows=rows,
    )
