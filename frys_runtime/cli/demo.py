"""`frys demo`: four plugins work on a real text, eight attack, and a table says what became of each."""

import asyncio
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import psutil
import typer
from rich.text import Text

from .. import __version__
from ..manager import PluginManager
from .exits import Exit
from .hostile import Outcome, attack_all
from .pipeline import MAX_TEXT, Figures, Step, find_text, pass_through, read_text
from .terminal import FORMATS, milliseconds, print_json, printable, size, stderr, stdout, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_CGROUPS: Final = "/sys/fs/cgroup"
_NUMBERS: Final = ("load", "call", "after", "memory")


def command(
    file: Annotated[Path | None, typer.Argument(help="A text file; by default a licence.")] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Run a plugin of each format on a real text, then eight hostile ones.

    Exit code 0 means: every good plugin gave the right result, every hostile one was stopped in the expected
    way, a good plugin answered after each of them, and no process and no cgroup is left.
    """
    path = file or find_text()
    text = read_text(path)
    report = asyncio.run(_demo(text))
    if json:
        print_json({"file": str(path), "bytes": len(text), **_as_json(report)})
    else:
        _print(report, path, len(text), stdout())
    raise typer.Exit(Exit.OK if report.ok else Exit.FAILED)


@dataclass(slots=True)
class Report:
    """What the demo found."""

    steps: list[Step] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    processes: int = 0
    cgroups: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Everything was as it has to be."""
        return (
            not self.left
            and all(step.right for step in self.steps)
            and all(outcome.stopped and outcome.others_answer for outcome in self.outcomes)
        )


async def _demo(text: bytes) -> Report:
    report = Report()
    with stderr().status("starting the launchers") as status:
        async with PluginManager() as manager:
            async for step in pass_through(manager, text):
                report.steps.append(step)
                status.update(f"{step.plugin} is done")
            async for outcome in attack_all(manager, manager.plugin("checksum")):
                report.outcomes.append(outcome)
                status.update(f"{outcome.attack.act}: {outcome.error or 'got through'}")
            processes, cgroups = _processes(), _cgroups()
        report.processes, report.cgroups = len(processes), len(cgroups)
        report.left = [f"process {process.pid}" for process in processes if process.is_running()] + _cgroups()
    return report


def _processes() -> list[psutil.Process]:
    """Every process that this one has started, and what those have started."""
    return psutil.Process().children(recursive=True)


def _cgroups() -> list[str]:
    """Every cgroup that this process has made; their names have its number in them."""
    mine = f"-{os.getpid()}-"
    return [
        os.path.join(folder, name)
        for folder, names, _ in os.walk(_CGROUPS)
        for name in names
        if name.startswith("frys-") and mine in name
    ]


def _print(report: Report, path: Path, count: int, console: "Console") -> None:
    who = "as root" if os.geteuid() == 0 else "as an ordinary user"
    console.print(f"Frys {__version__}, Linux {platform.release()}, {who}: every plugin at level maximum.\n")
    part = f"the first {size(count)} of " if count == MAX_TEXT else ""
    console.print(Text(f"Four plugins work on {part}{printable(str(path))}:\n"), soft_wrap=True)
    console.print(_steps_table(report.steps))
    console.print(
        "\nright: the host computed the same. load, call: ms. memory: what only that process holds"
        + (" (only root may read it)." if os.geteuid() else ".")
    )
    starts = ", ".join(f"{FORMATS[step.format]} {milliseconds(step.launcher_ms)}" for step in report.steps)
    console.print(f"The very first load of a format starts its launcher: {starts} ms.\n")
    console.print("Eight plugins attack:\n")
    console.print(_outcomes_table(report.outcomes))
    _print_verdict(report, console)


def _steps_table(steps: list[Step]) -> "Table":
    rows = table("plugin", "what it did", "result", "load", "call", "memory", numbers=_NUMBERS)
    for step in steps:
        verdict = Text("right", "green") if step.right else Text("WRONG", "bold red")
        rows.add_row(
            _named(FORMATS[step.format], step.plugin), printable(step.said), verdict, *_figures(step.figures)
        )
    return rows


def _outcomes_table(outcomes: list[Outcome]) -> "Table":
    rows = table("attack", "how it ended", "load", "after", "memory", numbers=_NUMBERS)
    for outcome in outcomes:
        verdict = ("stopped", "green") if outcome.stopped else ("FAILED", "bold red")
        ended = Text.assemble(verdict, f": {outcome.error or 'no error'}")
        rows.add_row(
            _named(outcome.attack.act, FORMATS.get(outcome.format, "")),
            ended.append(f"\n{printable(outcome.said)}", "dim"),
            *_figures(outcome.figures),
        )
    return rows


def _named(name: str, detail: str) -> Text:
    return Text.assemble(name, "\n", (detail, "dim"))


def _figures(figures: Figures) -> tuple[str, str, str]:
    memory = size(figures.memory) if figures.memory else "-"
    return milliseconds(figures.load_ms), milliseconds(figures.call_ms), memory


def _print_verdict(report: Report, console: "Console") -> None:
    right = sum(step.right for step in report.steps)
    stopped = sum(outcome.stopped for outcome in report.outcomes)
    answered = sum(outcome.others_answer for outcome in report.outcomes)
    left = "; ".join(report.left)
    console.print(f"\nA good plugin answered after {answered} of {len(report.outcomes)} attacks.")
    held = f"{report.processes} processes and {report.cgroups} cgroups"
    console.print(f"Before the manager was closed there were {held}; left: {left or 'none'}.\n")
    verdict = (
        f"{right} of {len(report.steps)} plugins right, {stopped} of {len(report.outcomes)} attacks stopped"
    )
    word, style = ("PASSED", "bold green") if report.ok else ("FAILED", "bold red")
    console.print(Text.assemble((word, style), f": {verdict}, {left or 'nothing'} left behind."))


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "plugins": [{**asdict(step), "figures": _figures_as_json(step.figures)} for step in report.steps],
        "attacks": [_outcome_as_json(outcome) for outcome in report.outcomes],
        "processes": report.processes,
        "cgroups": report.cgroups,
        "left": report.left,
    }


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "attack": outcome.attack.act,
        "plugin": outcome.attack.plugin,
        "format": outcome.format,
        "expected": outcome.attack.expected,
        "error": outcome.error,
        "said": outcome.said,
        "stopped": outcome.stopped,
        "others_answer": outcome.others_answer,
        "figures": _figures_as_json(outcome.figures),
    }


def _figures_as_json(figures: Figures) -> dict[str, float | None]:
    return {**asdict(figures), "memory": figures.memory or None}
