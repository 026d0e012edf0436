"""One component, called through Frys in a jail and by wasmtime's component API in the caller's process."""

from .figures import Benchmark, row
from .scale import Scale
from .stage import Stage, alternate

_API = "wasmtime's component API"
_SLOW = 50  # calls of the other contender take so much longer: this part of them is enough


def run(stage: Stage, scale: Scale) -> list[Benchmark]:
    """Measure ``bench_component.wat`` at both sizes, by both in turns."""
    frys = stage.contender("frys", "asyncio", stage.folder, 0, "component")
    api = stage.contender("wasmtime_component", stage.folder)
    done = []
    for size, words in ((64, "64 B"), (1 << 16, "64 KiB")):
        few = max(scale.calls // _SLOW, 1) if size > 64 else scale.calls
        series = alternate(
            {
                "Frys": (frys, {"method": "call", "kind": "component", "size": size, "count": scale.calls}),
                _API: (api, {"size": size, "count": few}),
            },
            scale.rounds,
        )
        done.append(
            Benchmark(
                name=f"component-{words.replace(' ', '')}",
                title=f"A component, {words} of list<u8> in and out",
                how="The same component called by execute_plugin, in a process of its own at level Maximum, "
                "and by wasmtime's component API in the caller's process, without a jail.",
                rows=[
                    row("Frys", "us", series["Frys"], scale=1e6, reference=(_API, series[_API])),
                    row(_API, "us", series[_API], scale=1e6, note="a Python object for each byte"),
                ],
            )
        )
    return done
