"""`frys bench`: measure everything next to its references, with the benchmarks of the checkout."""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from .exits import UsageError


def command(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few repetitions: shows that it works, its figures say little.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME,...",
            help="load, restart, call, messages, events, fairness, throughput, bulk, bus, extism, component, "
            "compute, memory, density, reload, endurance, jail, registry, install; several with commas "
            "between, or one by one.",
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Where the figures go.")
    ] = None,
    svg_file: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Where the picture goes.")
    ] = None,
) -> None:
    """Measure loading, calling, computing, memory and density, side by side with their references.

    The references are bare ping-pongs between two processes, pyzmq, bubblewrap and Extism; what is not
    installed is reported as not run. Takes a few minutes. Figures and picture go to benchmarks/results/.

    Exit codes: 0 measured, 2 wrong usage or no benchmarks here.
    """
    benchmarks: Any = _find()
    try:
        names = benchmarks.chosen(only or [])
    except ValueError as error:
        raise UsageError(str(error)) from None
    results = benchmarks.RESULTS
    benchmarks.measure(
        names, json_file or results / "latest.json", svg_file or results / "latest.svg", quick=quick
    )


def _find() -> ModuleType:
    """The benchmarks of the checkout that this package runs from.

    Raises:
        UsageError: It runs from an installed wheel.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "__main__.py").is_file():
        raise UsageError(
            "the benchmarks are not part of the installed package; run `make bench` in a source checkout"
        )
    sys.path.insert(0, str(root))
    return importlib.import_module("benchmarks.run")
