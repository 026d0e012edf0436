"""`frys top`: what running plugins use, again and again."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..bus.visitor import Visitor
from .asking import states
from .options import BusFolder
from .terminal import milliseconds, printable, size, stdout, table


def command(
    *,
    interval: Annotated[
        float, typer.Option("--interval", "-d", metavar="SECONDS", min=0.1, help="Between two looks.")
    ] = 1.0,
    count: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", min=1, help="End after so many looks.")
    ] = None,
    bus: BusFolder = None,
) -> None:
    """Show the plugins of all supervisors, the busiest first: CPU, calls a second, memory.

    Exit codes: 0 done; 2 wrong usage; 130 ended by Ctrl-C.
    """
    try:
        asyncio.run(_watch(interval, count, bus))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


async def _watch(interval: float, count: int | None, bus: Path | None) -> None:
    from rich.live import Live

    before: dict[tuple[str, str], dict[str, Any]] = {}
    with Live(console=stdout(), auto_refresh=False, screen=sys.stdout.isatty() and count is None) as live:
        looks = 0
        while True:
            async with Visitor(bus) as visitor:
                now = _by_plugin(await states(visitor))
            live.update(_table(now, before), refresh=True)
            looks += 1
            if looks == count:
                return
            before = now
            await asyncio.sleep(interval)


def _by_plugin(found: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (supervisor["name"], plugin["id"]): {
            **plugin,
            "pid": supervisor["pid"],
            "seconds": supervisor["seconds"],
        }
        for supervisor in found
        for plugin in supervisor["plugins"]
    }


def _table(now: dict[tuple[str, str], dict[str, Any]], before: dict[tuple[str, str], dict[str, Any]]) -> Any:
    numbers = ("process", "CPU %", "calls/s", "memory", "CPU ms")
    made = table("process", "plugin", "state", *numbers[1:], numbers=numbers)
    rows = []
    for key, plugin in now.items():
        # Both rates over the supervisor's own clock; a fresh process begins at 0 again.
        earlier = before.get(key, {"cpu_ms": 0.0, "calls": 0, "seconds": 0.0})
        seconds = max(plugin["seconds"] - earlier["seconds"], 1e-6)
        cpu = max(plugin["cpu_ms"] - earlier["cpu_ms"], 0) / seconds / 10
        calls = max(plugin["calls"] - earlier["calls"], 0) / seconds
        rows.append((cpu, calls, plugin))
    for cpu, calls, plugin in sorted(rows, key=lambda row: row[:2], reverse=True):
        made.add_row(
            str(plugin["pid"]),
            printable(plugin["id"]),
            printable(plugin["state"]),
            f"{cpu:.1f}",
            f"{calls:.0f}",
            size(plugin["memory"]),
            milliseconds(plugin["cpu_ms"]),
        )
    return made
