"""Hundreds of live plugins in one supervisor."""

from typing import Any

from .figures import Benchmark, Row, Series, judge, row
from .scale import Scale
from .stage import Stage

_KINDS = ("wasm", "javascript", "native", "python-main")
_AT_ONCE = 4
_HEALTH_SECONDS = 10
_MIB = 1 << 20


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Start them, call them all, watch them idle, end them, and look whether anything is left."""
    kinds = [kind for kind in _KINDS if kind not in stage.missing]
    crowd = stage.contender("crowd", stage.folder, 0)
    facts: dict[str, Any] = {"count": scale.crowd, "kinds": kinds}
    crowd.ask(method="warm", kinds=kinds)
    facts["start"] = crowd.ask(method="start", kinds=kinds, count=scale.crowd, at_once=_AT_ONCE)
    facts["answered"] = crowd.ask(method="call_all", times=1)
    facts["idle"] = crowd.ask(method="idle", seconds=scale.idle_seconds)
    facts["memory"] = crowd.ask(method="memory")
    facts["left"] = crowd.ask(method="leave")
    facts["checked"] = _with_health_checks(stage, scale, kinds)
    how = (
        f"{', '.join(kinds)} in turn, {_AT_ONCE} loads at a time, no spares, launchers warm; a call each, "
        f"{scale.idle_seconds:.0f} s of nothing, and close()."
    )
    return Benchmark(
        name="density",
        title=f"{scale.crowd} live plugins in one supervisor",
        how=how,
        rows=_rows(facts, scale) if not crowd.absent else [_absent(crowd.absent)],
    )


def _with_health_checks(stage: Stage, scale: Scale, kinds: list[str]) -> Any:
    policy = stage.folder / "health.yaml"
    policy.write_text(f"extends: maximum\nsupervision: {{health_interval: {_HEALTH_SECONDS}s}}\n")
    crowd = stage.contender("crowd", stage.folder, 0, policy)
    crowd.ask(method="start", kinds=kinds, count=scale.crowd, at_once=_AT_ONCE)
    idle = crowd.ask(method="idle", seconds=max(scale.idle_seconds, float(_HEALTH_SECONDS)))
    crowd.ask(method="leave")
    return idle


def _absent(why: str) -> Row:
    return Row(what="live, called and answered", unit="", goal="all", verdict="not run", note=why)


def _rows(facts: dict[str, Any], scale: Scale) -> list[Row]:
    start, idle, left, sizes = facts["start"], facts["idle"], facts["left"], facts["memory"]
    speed = facts["count"] / start["total"]
    plugins = sum(sum(sizes.get(kind, ())) for kind in facts["kinds"])
    behind = left["processes"] + left["cgroups"]
    all_goal, none_goal = f"all {facts['count']}", "nothing"
    return [
        _plain(
            "live, called and answered", "", facts["answered"], all_goal, -facts["answered"], -facts["count"]
        ),
        _plain("started per second", "/s", speed, ">= 100 /s", -speed, -100),
        row(f"one start, of {_AT_ONCE} at a time", "ms", Series(rounds=[start["seconds"]]), scale=1e3),
        _plain("idle supervisor", "%", idle["supervisor"], "< 2 % core", idle["supervisor"], 2),
        _plain("idle, all other processes", "%", idle["others"]),
        _plain(
            f"idle supervisor, a health check each {_HEALTH_SECONDS} s",
            "%",
            facts["checked"]["supervisor"],
            "< 2 % core",
            facts["checked"]["supervisor"],
            2,
        ),
        _plain("supervisor, private", "MiB", sizes["supervisor"][0] / _MIB),
        _plain("all plugins, private", "MiB", plugins / _MIB),
        _plain("close()", "ms", left["seconds"] * 1e3),
        _plain("left: processes, cgroups", "", behind, none_goal, behind, 0),
    ]


def _plain(
    what: str,
    unit: str,
    value: float,
    goal: str = "",
    judged: float | None = None,
    limit: float | None = None,
) -> Row:
    return Row(what=what, unit=unit, p50=float(value), samples=1, goal=goal, verdict=judge(judged, limit))
