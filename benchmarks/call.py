"""The round trip of a call, small and large."""

from typing import Any

from .contenders.frys import FILES
from .figures import Benchmark, Row, Series, row
from .scale import Scale
from .stage import Contender, Stage, alternate

_PONGS = {
    "blocking/blocking": ("blocking", "blocking"),
    "asyncio add_reader/blocking": ("add_reader", "blocking"),
    "asyncio protocol/blocking": ("protocol", "blocking"),
    "asyncio streams/blocking": ("streams", "blocking"),
    "asyncio protocol/protocol": ("protocol", "protocol"),
    "asyncio streams/streams": ("streams", "streams"),
    "uvloop protocol/blocking": ("uvloop", "blocking"),
}
_ONE_CORE = {
    "asyncio protocol/blocking, one core": ("protocol", "blocking"),
    "uvloop protocol/blocking, one core": ("uvloop", "blocking"),
}
_BARE = dict(zip(("asyncio", "uvloop"), _ONE_CORE, strict=True))
_ZMQ = {"pyzmq ROUTER/DEALER": "blocking", "pyzmq asyncio ROUTER/DEALER": "asyncio"}
_EXTISM = {"Extism echo, in process": "echo", "Extism pass, in process": "pass"}
_RARE = "python, asyncio, after 20 ms of nothing"
_NOTES = {
    _RARE: "both processes have fallen asleep, and their cores, too",
    "asyncio protocol/blocking, one core": "the reference of the goal: the peer waits as a plugin does, and "
    "the two wake each other on the same core, which is the quickest that they can be",
    "Extism echo, in process": "no process and no jail between",
    "Extism pass, in process": "the plugin does not touch the bytes",
}


def run(stage: Stage, scale: Scale) -> list[Benchmark]:
    """Measure ``execute_plugin`` with an echo function of each format, next to bare ping-pongs."""
    kinds = [kind for kind in FILES if kind not in stage.missing]
    frys = {loop: stage.contender("frys", loop, stage.folder, 0, *kinds) for loop in _BARE}
    extism = stage.contender("extism_sdk", stage.folder, "fresh")
    return [
        _measure(stage, scale, frys, extism, 64, "call-64B", "64 B"),
        _measure(stage, scale, frys, extism, 1 << 20, "call-1MiB", "1 MiB"),
    ]


def _measure(
    stage: Stage,
    scale: Scale,
    frys: dict[str, Contender],
    extism: Contender,
    size: int,
    name: str,
    words: str,
) -> Benchmark:
    count = scale.calls if size == 64 else scale.large_calls
    turns: dict[str, tuple[Contender, dict[str, Any]]] = {}
    for loop, contender in frys.items():
        for kind in FILES:
            if kind not in stage.missing:
                request = {"method": "call", "kind": kind, "size": size, "count": count}
                turns[f"{kind}, {loop}"] = contender, request
    for title, ends in _PONGS.items():
        turns[title] = stage.contender("pingpong", *ends, size), {"count": count}
    for title, ends in _ONE_CORE.items():
        turns[title] = stage.contender("onecore", "pingpong", *ends, size), {"count": count}
    for title, host in _ZMQ.items():
        turns[title] = stage.contender("zmq_pingpong", host, size), {"count": count}
    for title, function in _EXTISM.items():
        request = {"method": "call", "function": function, "size": size, "count": count}
        turns[title] = extism, request
    if size == 64:
        request = {"method": "rare", "kind": "python", "size": size, "count": scale.large_calls}
        turns[_RARE] = frys["asyncio"], request
    series = alternate(turns, scale.rounds)
    rows = [_frys(kind, loop, stage, series, large=size > 64) for loop in frys for kind in FILES]
    for title in (*([_RARE] if size == 64 else []), *_ONE_CORE, *_PONGS, *_ZMQ, *_EXTISM):
        unit, factor = ("ms", 1e3) if size > 64 else ("us", 1e6)
        rows.append(row(title, unit, series[title], scale=factor, note=_NOTES.get(title, "")))
    return Benchmark(
        name=name,
        title=f"Call, {words} in and out, level Maximum",
        how="execute_plugin of an echo function that copies its argument. The references, host/peer, are two "
        "processes that send the same bytes without any frame over a socketpair with the same buffers.",
        rows=rows,
    )


def _frys(kind: str, loop: str, stage: Stage, series: dict[str, Series], *, large: bool) -> Row:
    what, bare = f"{kind}, {loop}", _BARE[loop]
    return row(
        what,
        "ms" if large else "us",
        series[what] if kind not in stage.missing else Series(absent=stage.missing[kind]),
        scale=1e3 if large else 1e6,
        goal="<= 2 ms" if large else "<= 1.5 x",
        limit=2.0 if large else 1.5,
        limit_of="p50" if large else "ratio",
        reference=(bare, series[bare]),
    )
