"""`frys trace`: messages as they pass, without their contents."""

import asyncio
import json
from pathlib import Path
from typing import Any

from ..bus.visitor import Visitor
from .asking import tell_absent
from .options import AsJson, BusFolder, Count
from .terminal import milliseconds, printable, size


def command(*, count: Count = None, bus: BusFolder = None, as_json: AsJson = False) -> None:
    """Show every call and event of all supervisors as it passes: from whom to whom, shapes, sizes, time.

    Contents are never shown. A call between two supervisors is seen by both: as sent by the one, and as
    received from `PLUGIN/NAME` by the other. Supervisors that start later are watched, too. With --json,
    each line is an object, which also has the supervisor's name.

    Exit codes: 0 done; 2 wrong usage; 130 ended by Ctrl-C.
    """
    try:
        asyncio.run(_watch(count, bus, as_json=as_json))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


async def _watch(count: int | None, bus: Path | None, *, as_json: bool) -> None:
    seen = 0
    async with Visitor(bus) as visitor:
        tell_absent(visitor)
        async for event in visitor.events("traffic"):
            facts: Any = event.data
            print(json.dumps({"supervisor": event.source} | facts) if as_json else _line(facts), flush=True)
            seen += 1
            if seen == count:
                return


def _line(facts: Any) -> str:
    sign = {"event": "~", "host": ">"}.get(facts["kind"], ">")
    name = ".".join(part for part in (facts["receiver"], facts["name"]) if part)
    text = f"{facts['sender'] or '(host)'} {sign} {name}({', '.join(facts['arguments'])})"
    if facts["result"]:
        text += f" = {facts['result']}"
    if facts["error"]:
        text += f" ! {facts['error']}"
    figures = f"{milliseconds(facts['seconds'] * 1000)} ms"
    if facts["bytes_out"] or facts["bytes_in"]:
        figures += f", {size(facts['bytes_out'])} out, {size(facts['bytes_in'])} in"
    return printable(f"{text}  [{figures}]")
