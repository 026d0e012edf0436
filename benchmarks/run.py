"""One run: every benchmark that is asked for, printed as it is done, then written."""

import datetime
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from . import (
    bulk,
    bus,
    call,
    component,
    compute,
    density,
    endurance,
    events,
    extism,
    fairness,
    install,
    jail,
    load,
    machine,
    memory,
    messages,
    plot,
    registry,
    reload,
    report,
    restart,
    throughput,
)
from .figures import Benchmark
from .scale import FULL, QUICK, Scale
from .stage import Stage

RESULTS: Final = Path(__file__).parent / "results"

BENCHMARKS: Final[dict[str, Callable[[Stage, Scale], Benchmark | list[Benchmark]]]] = {
    "load": load.run,
    "restart": restart.run,
    "call": call.run,
    "messages": messages.run,
    "events": events.run,
    "fairness": fairness.run,
    "throughput": throughput.run,
    "bulk": bulk.run,
    "bus": bus.run,
    "extism": extism.run,
    "component": component.run,
    "compute": compute.run,
    "memory": memory.run,
    "density": density.run,
    "reload": reload.run,
    "endurance": endurance.run,
    "jail": jail.run,
    "registry": registry.run,
    "install": install.run,
}


def chosen(words: Iterable[str]) -> list[str]:
    """The benchmarks that words name, several of them with commas between; none for all.

    Raises:
        ValueError: There is no such benchmark.
    """
    names = [name.strip() for word in words for name in word.split(",")]
    for name in names:
        if name not in BENCHMARKS:
            raise ValueError(f"there is no benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    return names


def measure(only: Sequence[str], json_file: Path, svg_file: Path, *, quick: bool) -> str:
    """Run benchmarks, print each as a table, and write the report.

    Args:
        only: Names of ``BENCHMARKS``; empty for all.
        json_file: Where the figures go.
        svg_file: Where the picture goes.
        quick: A run that shows that everything works; its figures say little.

    Returns:
        One line about all goals.
    """
    console = Console(highlight=False)
    facts, busy = machine.facts(), machine.Load()
    began = datetime.datetime.now(datetime.UTC)
    console.print(report.head(facts), style="dim")
    done: list[Benchmark] = []
    with Stage() as stage:
        for name in only or BENCHMARKS:
            with console.status(f"measuring {name}"):
                result = BENCHMARKS[name](stage, QUICK if quick else FULL)
                stage.clear()
            for benchmark in result if isinstance(result, list) else [result]:
                report.show(console, benchmark)
                done.append(benchmark)
    run = {"began": began.isoformat(timespec="seconds"), "quick": quick, "only": list(only)} | busy.facts()
    report.write(json_file, report.dump(report.as_json(facts, run, done)))
    report.write(svg_file, plot.draw(facts, done))
    strangers = run["other_processes_percent"]
    console.print(
        f"\n[bold]{report.verdict(done)}[/]; other processes used {strangers} % of the machine's CPU time"
    )
    console.print(f"written: {json_file}, {svg_file}", soft_wrap=True)
    return report.verdict(done)
