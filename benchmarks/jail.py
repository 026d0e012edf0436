"""What the jail costs: each step of the way in, each allowed or forbidden system call, each message."""

from typing import Any, Final

from .figures import Benchmark, Row, Series, row
from .scale import Scale
from .stage import Contender, Stage, alternate

_FORMATS: Final = ("javascript", "python")
_BWRAP: Final = "bwrap true"
_OUTSIDE: Final = ("fork", "verify", "seal")
_CALLS: Final = {
    "getpid": "allowed whatever its arguments, which the kernel finds in a bitmap",
    "write": "allowed for two descriptors, for which the programs run each time",
}
_FILTERS: Final = {
    "both": "both filters",
    "loading": "without the one for serving",
    "open": "one that allows everything",
}
_PING: Final = "ping-pong, asyncio add_reader/blocking"


def run(stage: Stage, scale: Scale) -> list[Benchmark]:
    """Measure everything about the jail that has a price."""
    done = [*_steps(stage, scale), _allowed(stage, scale)]
    stage.clear()
    return [*done, _messages(stage, scale)]


def _steps(stage: Stage, scale: Scale) -> list[Benchmark]:
    contenders = {kind: stage.contender("steps", stage.folder, kind) for kind in _FORMATS}
    bwrap = stage.contender("bubblewrap")
    found: dict[str, dict[str, Series]] = {kind: {} for kind in _FORMATS}
    reference = Series(absent=bwrap.absent)
    for _ in range(scale.rounds):
        for kind, contender in contenders.items():
            _add_round(found[kind], contender.ask(count=scale.loads) or [])
        if not bwrap.absent:
            reference.rounds.append(bwrap.ask(count=scale.loads))
    return [_table(kind, found[kind], contenders[kind], reference) for kind in _FORMATS]


def _add_round(series: dict[str, Series], loads: list[dict[str, int]]) -> None:
    if not loads:
        return
    for name in loads[0]:
        series.setdefault(name, Series()).rounds.append([load[name] / 1e9 for load in loads])
    steps = [sum(ns for name, ns in load.items() if name not in _OUTSIDE) / 1e9 for load in loads]
    series.setdefault("total", Series()).rounds.append(steps)
    series.setdefault("all", Series()).rounds.append([sum(load.values()) / 1e9 for load in loads])


def _table(kind: str, series: dict[str, Series], contender: Contender, bwrap: Series) -> Benchmark:
    rows = [Row(what="the steps", unit="us", verdict="not run", note=contender.absent)]
    if series:
        totals = {"total": "the steps together", "all": "with fork, verify and seal"}
        rows = [_micro(name, values) for name, values in series.items() if name not in totals]
        rows += [_micro(words, series[name], (_BWRAP, bwrap)) for name, words in totals.items()]
    return Benchmark(
        name=f"jail-{kind}",
        title=f"The way into the jail, step by step: {kind}, level Maximum",
        how="Timed in the child of the real fork server, for loads without a parked process. fork: from the "
        "call to the child's first line. verify and seal stand before and after the plugin's load. "
        "join_cgroup follows other joins within milliseconds; after 50 ms of quiet, version 1 makes it wait "
        "for 7 to 15 ms. The reference is `bwrap --unshare-all --ro-bind / / true`, exec included.",
        rows=[*rows, _micro(_BWRAP, bwrap)],
    )


def _micro(what: str, series: Series, reference: tuple[str, Series] | None = None, note: str = "") -> Row:
    return row(what, "us", series, scale=1e6, reference=reference, note=note)


def _allowed(stage: Stage, scale: Scale) -> Benchmark:
    contender = stage.contender("filters", "python")
    series: dict[str, Series] = {}
    for _ in range(scale.rounds):
        found: dict[str, float] = contender.ask() or {}
        for name, seconds in found.items():
            series.setdefault(name, Series()).rounds.append([seconds])
    rows = []
    for name, values in sorted(series.items(), key=lambda item: item[0].split(", ")[1]):
        level, call, _ = name.split(", ")
        bare = f"{level}, {call}, no filter"
        reference = (bare, series[bare]) if name != bare else None
        rows.append(row(name, "ns", values, scale=1e9, reference=reference, note=_CALLS[call]))
    if contender.absent:
        rows = [Row(what="an allowed call", unit="ns", verdict="not run", note=contender.absent)]
    return Benchmark(
        name="seccomp-call",
        title="One allowed system call, with the filters and without",
        how="A loop in one process, before and after it installs the filters of a Python plugin; Python's "
        "own share of the loop is in every line. serving: both filters are in force.",
        rows=rows,
    )


def _messages(stage: Stage, scale: Scale) -> Benchmark:
    guarded = {filters: stage.contender("guarded", filters) for filters in _FILTERS}
    turns: dict[str, tuple[Contender, dict[str, Any]]] = {}
    for filters, words in _FILTERS.items():
        turns[f"call of 64 B, {words}"] = guarded[filters], {"method": "call", "count": scale.calls}
    for name, announced in (
        ("forbidden, announced to the host", True),
        ("forbidden, EPERM by the filter", False),
    ):
        request = {"method": "attempts", "count": scale.calls, "announced": announced}
        turns[name] = guarded["both"], request
    turns[_PING] = stage.contender("pingpong", "add_reader", "blocking", 64), {"count": scale.calls}
    series = alternate(turns, scale.rounds)
    bare = f"call of 64 B, {_FILTERS['open']}"
    references = {name: bare for name in turns if name.startswith("call") and name != bare}
    references["forbidden, announced to the host"] = _PING
    rows = [
        _micro(name, values, (references[name], series[references[name]]) if name in references else None)
        for name, values in series.items()
    ]
    return Benchmark(
        name="seccomp-message",
        title="The filters' share of a message, and the way of a forbidden call to the host",
        how="execute_plugin of a Python plugin's echo. Under a policy with `on_violation: deny`, a forbidden "
        "call is announced by the kernel, described, counted and answered by the host's event loop; the time "
        "is the plugin's own. A call that only loading may make is refused by the filter for serving.",
        rows=rows,
    )
