"""One Extism plugin, called through Frys in a jail and by Extism's own SDK in the caller's process."""

from typing import Any

from .figures import Benchmark, Row, Series, row
from .scale import Scale
from .stage import Contender, Stage, alternate

_SDK = "Extism's SDK"
_GOALS = {64: 2.5, 1 << 20: 1.0}
_FUNCTIONS = {
    "echo": "the plugin copies input and output, as development kits do",
    "pass": "it touches neither",
}


def run(stage: Stage, scale: Scale) -> list[Benchmark]:
    """Measure both functions of ``bench_extism.wat`` at both sizes, by both hosts in turns."""
    hosts = {
        "Frys": stage.contender("frys", "asyncio", stage.folder, 0, "extism"),
        _SDK: stage.contender("extism_sdk", stage.folder, "fresh"),
    }
    return [
        _measure(hosts, scale, 64, "extism-64B", "64 B"),
        _measure(hosts, scale, 1 << 20, "extism-1MiB", "1 MiB"),
    ]


def _measure(hosts: dict[str, Contender], scale: Scale, size: int, name: str, words: str) -> Benchmark:
    turns: dict[str, tuple[Contender, dict[str, Any]]] = {}
    for function in _FUNCTIONS:
        for host, contender in hosts.items():
            request = {
                "method": "call",
                "function": function,
                "size": size,
                "count": scale.calls if size == 64 else scale.large_calls,
            }
            turns[f"{host}, {function}"] = contender, request | ({"kind": "extism"} if host == "Frys" else {})
    series = alternate(turns, scale.rounds)
    return Benchmark(
        name=name,
        title=f"An Extism plugin, {words} in and out",
        how="The same module called by execute_plugin, in a process of its own at level Maximum, and by "
        "Extism's SDK in the caller's process, without a jail.",
        rows=[
            _row(turn, function, size, series)
            for function in _FUNCTIONS
            for turn in turns
            if function in turn
        ],
    )


def _row(turn: str, function: str, size: int, series: dict[str, Series]) -> Row:
    unit, factor = ("us", 1e6) if size == 64 else ("ms", 1e3)
    if turn.startswith(_SDK):
        return row(turn, unit, series[turn], scale=factor, note=_FUNCTIONS[function])
    theirs = f"{_SDK}, {function}"
    goal: dict[str, Any] = {}
    if function == "echo":
        goal = {"goal": f"<= {_GOALS[size]} x", "limit": _GOALS[size], "limit_of": "ratio"}
    return row(turn, unit, series[turn], scale=factor, reference=(theirs, series[theirs]), **goal)
