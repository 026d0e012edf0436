"""`frys doctor`: what holds a plugin on this machine, proved by starting one of each format at each level."""

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from .. import __version__
from ..config import IsolationLevel
from ..policy import load_policy
from .exits import Exit
from .machine import Fact, engines, facts
from .options import PolicyPath
from .terminal import FORMATS, print_json, printable, stderr, stdout, table
from .trials import Trial, try_all
from .trust import facts as trusts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LAYERS: Final[dict[str, tuple[str, str]]] = {
    "cgroup_memory": ("the kernel counts and limits its memory", "cgroup"),
    "cgroup_tasks": ("the kernel limits its processes and threads", "cgroup"),
    "mount_namespace": ("mounts of its own", "user namespaces"),
    "private_root": ("sees no file but what is granted", "user namespaces"),
    "pid_namespace": ("sees and signals no other process", "user namespaces"),
    "network_namespace": ("has no network", "user namespaces"),
    "ipc_namespace": ("shares no memory segments or queues", "user namespaces"),
    "uts_namespace": ("does not learn the machine's name", "user namespaces"),
    "cgroup_namespace": ("does not learn its place in the system", "user namespaces"),
    "user_namespace": ("is nobody outside", "user namespaces"),
    "rlimits": ("open files, file size, stack, core dumps", ""),
    "capabilities": ("every right of root dropped for good", ""),
    "no_new_privs": ("no program can give it rights", ""),
    "landlock": ("files are denied a second time", "Landlock"),
    "seccomp": ("few system calls; others kill it", "seccomp notification"),
}
"""Every layer in the order of the jail's steps: what it does, and the fact of the machine that it needs."""

_SEE_DOCTOR: Final = "; `frys doctor` says what this machine offers"


def command(
    *,
    policy: PolicyPath = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Prove what holds a plugin on this machine: each layer in force, or why not and how to get it.

    Starts a plugin of each format at each level. What it says is true for the user who runs it.

    It also says whose signatures are asked for, by level maximum or by a policy, and whether the roots of
    registries are in date. Nobody is asked over the network for that.

    Exit code 0 means: level maximum is there for all four formats, with every layer.
    """
    found, trusted = facts(), trusts(load_policy(policy) if policy is not None else None)
    trials = asyncio.run(_try_all())
    ok = is_full(trials)
    if json:
        print_json(_as_json(found, trusted, trials, ok=ok))
    else:
        _print(found, trusted, trials, stdout())
    raise typer.Exit(Exit.OK if ok else Exit.FAILED)


async def _try_all() -> list[Trial]:
    trials = []
    with stderr().status("starting plugins") as status:
        async for trial in try_all():
            trials.append(trial)
            status.update(f"{trial.format} at level {trial.level}: {trial.why or 'works'}")
    return trials


def is_full(trials: Iterable[Trial]) -> bool:
    """Level Maximum is there for every format, with every layer."""
    best = [trial for trial in trials if trial.level is IsolationLevel.MAXIMUM]
    return all(not trial.why and trial.layers >= LAYERS.keys() for trial in best)


def _print(found: list[Fact], trusted: list[Fact], trials: list[Trial], console: "Console") -> None:
    console.print(f"Frys {__version__}: {', '.join(engines().values())}\n")
    console.print(_facts_table("this machine", found))
    console.print()
    console.print(_layers_table(found, trials))
    console.print()
    console.print(_levels_table(trials))
    console.print(
        "\nworks 50 / 25: one was loaded and called; it could make 50 different system calls "
        "while it was loaded and 25 while it served.\n"
    )
    console.print(_facts_table("whom you trust", trusted, yes="fine", no="wrong"))
    console.print()
    for reason, which in _failures(trials).items():
        console.print(Text.assemble((f"{', '.join(which)}: ", "bold"), f"{printable(reason)}\n"))
    console.print(_verdict(trials))


def _failures(trials: list[Trial]) -> dict[str, list[str]]:
    """Each reason once, with the formats and levels that it holds for."""
    found: dict[str, list[str]] = {}
    for trial in trials:
        if trial.why:
            reason = trial.why.removesuffix(_SEE_DOCTOR).replace(f"a {trial.format} plugin", "a plugin")
            found.setdefault(reason, []).append(f"{FORMATS[trial.format]} at {trial.level}")
    return found


def _facts_table(title: str, found: list[Fact], *, yes: str = "yes", no: str = "no") -> "Table":
    rows = table(title, "", "")
    for fact in found:
        state = Text(yes, "green") if fact.ok else Text(no, "red")
        rows.add_row(printable(fact.name), state, _explained(printable(fact.found), fact))
    return rows


def _layers_table(found: list[Fact], trials: list[Trial]) -> "Table":
    rows = table("layer", "", "what it does for a plugin")
    for layer, (purpose, needs) in LAYERS.items():
        state, reason = _layer_state(layer, trials)
        fact = next((fact for fact in found if needs and fact.name.startswith(needs) and not fact.ok), None)
        if reason and fact:
            state, reason = Text("missing", "red"), f"see {fact.name} above"
        rows.add_row(layer, state, Text.assemble(purpose, ("\n" if reason else ""), (reason, "dim")))
    return rows


def _layer_state(layer: str, trials: list[Trial]) -> tuple[Text, str]:
    """Whether the plugins that were started have the layer, and what is to be said if some have it not."""
    started = [trial for trial in trials if not trial.why]
    without = [f"{FORMATS[trial.format]} at {trial.level}" for trial in started if layer not in trial.layers]
    if not started:
        return Text("unproved", "yellow"), "no plugin could be started, see below"
    if not without:
        return Text("in force", "green"), ""
    if len(without) == len(started):
        return Text("missing", "red"), "no plugin has it"
    return Text("partly", "yellow"), f"not for {', '.join(without)}"


def _levels_table(trials: list[Trial]) -> "Table":
    rows = table("a plugin in", *(f"level {level}" for level in IsolationLevel))
    for name, title in FORMATS.items():
        cells = [_cell(trial) for trial in trials if trial.format == name]
        rows.add_row(title, *cells)
    return rows


def _cell(trial: Trial) -> Text:
    if trial.why:
        return Text("no, see below", "red")
    return Text.assemble(("works", "green"), f" {trial.loading} / {trial.serving}")


def _explained(text: str, fact: Fact) -> Text:
    explained = Text(text)
    for label, words in (("why", fact.why), ("how", fact.how)):
        if words:
            explained.append(f"\n{label}: ", "bold").append(printable(words))
    return explained


def _verdict(trials: list[Trial]) -> Text:
    best = [trial for trial in trials if trial.level is IsolationLevel.MAXIMUM]
    failed = [FORMATS[trial.format] for trial in best if trial.why]
    if failed:
        return Text.assemble(("NOT READY", "bold red"), f": no level maximum for {', '.join(failed)}.")
    if lacking := sorted({layer for trial in best for layer in LAYERS.keys() - trial.layers}):
        text = f": level maximum for all four formats, but without {', '.join(lacking)}"
        polled = "; limits are polled then, which is less exact" if "cgroup_memory" in lacking else ""
        return Text.assemble(("LIMITED", "bold yellow"), f"{text}{polled}.")
    return Text.assemble(("READY", "bold green"), ": level maximum for all four formats, with every layer.")


def _as_json(found: list[Fact], trusted: list[Fact], trials: list[Trial], *, ok: bool) -> dict[str, Any]:
    return {
        "ok": ok,
        "version": __version__,
        "engines": engines(),
        "machine": [{**asdict(fact), "ok": fact.ok} for fact in found],
        "trust": [{**asdict(fact), "ok": fact.ok} for fact in trusted],
        "trials": [{**asdict(trial), "layers": sorted(trial.layers)} for trial in trials],
    }
