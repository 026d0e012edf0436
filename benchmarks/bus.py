"""The way from a plugin of one supervisor to a plugin of another."""

from typing import Any

from .figures import Benchmark, row
from .scale import Scale
from .stage import Contender, Stage, alternate

_FAR = "plugin to plugin, two supervisors"
_PACED = "the same, at most 1,000 a second"
_LARGE = "the same, 1 MiB"
_HOST = "host to plugin of another supervisor"
_NEAR = "plugin to plugin, one supervisor"
_NEAR_LARGE = "one supervisor, 1 MiB"
_BARE = "bare pyzmq, blocking"
_ASYNCIO = "bare pyzmq, zmq.asyncio"


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Measure calls over the message bus, next to a bare ping-pong over the same kind of socket."""
    frys = stage.contender("bus", "asyncio", stage.folder)
    count = scale.calls
    turns: dict[str, tuple[Contender, dict[str, Any]]] = {
        _FAR: (frys, {"method": "call", "target": "far", "size": 64, "count": count}),
        _PACED: (frys, {"method": "call", "target": "far", "size": 64, "count": count, "pause": 0.001}),
        _LARGE: (frys, {"method": "call", "target": "far", "size": 1 << 20, "count": scale.large_calls}),
        _HOST: (frys, {"method": "by_host", "target": "far", "size": 64, "count": count}),
        _NEAR: (frys, {"method": "call", "target": "near", "size": 64, "count": count}),
        _NEAR_LARGE: (
            frys,
            {"method": "call", "target": "near", "size": 1 << 20, "count": scale.large_calls},
        ),
        _BARE: (stage.contender("zmq_pingpong", "blocking", 64), {"count": count}),
        _ASYNCIO: (stage.contender("zmq_pingpong", "asyncio", 64), {"count": count}),
    }
    series = alternate(turns, scale.rounds)
    bare = _BARE, series[_BARE]
    goal: dict[str, Any] = {"goal": "< 1 ms", "limit": 1000.0, "reference": bare}
    return Benchmark(
        name="bus",
        title="Plugin to plugin across two supervisors, 64 B in and out, level Maximum",
        how="A Python plugin calls an echo function of a Python plugin whose supervisor is another process, "
        "and times it by its own clock: plugin > host > bus > host > plugin, and back the same way.",
        rows=[
            row(_FAR, "us", series[_FAR], scale=1e6, **goal),
            row(_PACED, "us", series[_PACED], scale=1e6, reference=bare),
            row(_LARGE, "us", series[_LARGE], scale=1e6),
            row(_HOST, "us", series[_HOST], scale=1e6, reference=bare),
            row(_NEAR, "us", series[_NEAR], scale=1e6, reference=bare),
            row(_NEAR_LARGE, "us", series[_NEAR_LARGE], scale=1e6),
            row(_BARE, "us", series[_BARE], scale=1e6, note="one exchange between two processes over ipc"),
            row(_ASYNCIO, "us", series[_ASYNCIO], scale=1e6, reference=bare),
        ],
    )
