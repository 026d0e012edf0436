"""`frys ps`: the supervisors that run, and their plugins."""

import asyncio
from pathlib import Path
from typing import Any

from ..bus.visitor import Visitor
from .asking import states
from .options import AsJson, BusFolder
from .terminal import milliseconds, print_json, printable, size, stderr, stdout, table


def command(*, bus: BusFolder = None, as_json: AsJson = False) -> None:
    """Show the supervisors that run, and their plugins: state, calls, memory, CPU.

    Exit codes: 0 done, also when none runs; 1 a supervisor did not answer; 2 wrong usage.
    """
    folder, found = asyncio.run(look(bus))
    if as_json:
        print_json(found)
    elif not found:
        stderr().print(printable(f"no supervisor runs in {folder}"))
    else:
        stdout().print(as_table(found))
    for supervisor in found:
        if "error" in supervisor:
            raise SystemExit(1)


async def look(bus: Path | None) -> tuple[str, list[dict[str, Any]]]:
    """Ask every supervisor how it is."""
    async with Visitor(bus) as visitor:
        return visitor.folder, await states(visitor)


def as_table(found: list[dict[str, Any]]) -> Any:
    """The same for people."""
    numbers = ("process", "calls", "memory", "CPU ms")
    made = table("process", "plugin", "version", "format", "level", "state", *numbers[1:], numbers=numbers)
    for supervisor in found:
        first = str(supervisor["pid"])
        rows = [
            (
                plugin["id"],
                plugin["version"],
                plugin["format"],
                plugin["isolation"],
                plugin["state"],
                str(plugin["calls"]),
                size(plugin["memory"]),
                milliseconds(plugin["cpu_ms"]),
            )
            for plugin in supervisor["plugins"]
        ] or [(supervisor.get("error", "(no plugins)"), *[""] * 7)]
        for row in rows:
            made.add_row(first, *map(printable, row))
            first = ""
    return made
