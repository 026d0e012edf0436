"""Load to first answer."""

from typing import Any

from .figures import Benchmark, Row, Series, row
from .scale import Scale
from .stage import Contender, Stage, alternate

_LIMITS = {
    "wasm": 10.0,
    "wasm-large": 10.0,
    "javascript": 10.0,
    "native": 10.0,
    "python": 20.0,
    "python-main": 20.0,
}
_BWRAP, _FRESH, _CACHED = "bwrap true", "Extism, compiling", "Extism, compile cache"


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Measure ``load_plugin`` and the first call together, with a parked process and without."""
    turns: dict[str, tuple[Contender, dict[str, Any]]] = {}
    kinds = [kind for kind in _LIMITS if kind not in stage.missing]
    for name, spares in (("parked", 1), ("cold", 0)):
        frys = stage.contender("frys", "asyncio", stage.folder, spares, *kinds)
        for kind in kinds:
            turns[f"{kind}, {name}"] = frys, {"method": "load", "kind": kind, "count": scale.loads}
    turns[_BWRAP] = stage.contender("bubblewrap"), {"count": scale.loads}
    for name, cache in ((_FRESH, "fresh"), (_CACHED, "cached")):
        extism = stage.contender("extism_sdk", stage.folder, cache)
        turns[name] = extism, {"method": "load", "count": scale.loads}
    series = alternate(turns, scale.rounds)
    return Benchmark(
        name="load",
        title="Load to first answer, launcher warm, level Maximum",
        how="load_plugin and one call. parked: a jailed process was ready and only gets its plugin; cold: it "
        "is forked and jailed first. wasm-large has 2.3 MB of code and was compiled before. Extism loads the "
        "very same bench.wasm into its own process, without a jail. bwrap true is `bwrap --unshare-all "
        "--ro-bind / / true`.",
        rows=[_frys(name, kind, stage, series) for name in ("parked", "cold") for kind in _LIMITS]
        + [
            row(_BWRAP, "ms", series[_BWRAP], scale=1e3),
            row(_FRESH, "ms", series[_FRESH], scale=1e3, note="as Frys does with less than 4 KiB of code"),
            row(_CACHED, "ms", series[_CACHED], scale=1e3, note="its default: compiled once per machine"),
        ],
    )


def _frys(name: str, kind: str, stage: Stage, series: dict[str, Series]) -> Row:
    what, limit = f"{kind}, {name}", _LIMITS[kind]
    theirs = _FRESH if kind == "wasm" else _BWRAP
    return row(
        what,
        "ms",
        series[what] if kind not in stage.missing else Series(absent=stage.missing[kind]),
        scale=1e3,
        goal=f"<= {limit:.0f} ms",
        limit=limit,
        reference=(theirs, series[theirs]),
    )
