"""`frys events`: what happens on the message bus, as it happens."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..bus.visitor import Visitor
from ..messages import PluginMessage
from .asking import tell_absent
from .options import AsJson, BusFolder, Count
from .terminal import as_text, encode_bytes


def command(
    pattern: Annotated[str, typer.Argument(help="Which events: a type, with * and ?.")] = "*",
    *,
    count: Count = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C, as without it.")] = True,
    plugins: Annotated[
        bool, typer.Option("--plugins", help="What happens to plugins (loaded, violation, ...) instead.")
    ] = False,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """Print the events that plugins and host programs publish, from all supervisors, as they come.

    One line for each: its source (- for a host program), its type, its data. Supervisors that start later
    are heard, too. With --json, each line is an object, and the source of a host program is empty.

    Exit codes: 0 done; 2 wrong usage; 130 ended by Ctrl-C.
    """
    del follow  # which is what happens anyway; the word is there because people know it
    try:
        asyncio.run(_listen(pattern, count, bus, plugins=plugins, as_json=as_json))
    except KeyboardInterrupt:
        raise SystemExit(130) from None


async def _listen(pattern: str, count: int | None, bus: Path | None, *, plugins: bool, as_json: bool) -> None:
    wanted, watched = ((), ("events",)) if plugins else ((pattern,), ())
    seen = 0
    async with Visitor(bus, wanted) as visitor:
        tell_absent(visitor)
        async for event in visitor.events(*watched):
            print(_line(event, plugins=plugins, as_json=as_json), flush=True)
            seen += 1
            if seen == count:
                return


def _line(event: PluginMessage.Event, *, plugins: bool, as_json: bool) -> str:
    facts: Any = event.data
    if not plugins:
        facts = {"source": event.source, "type": event.event_type, "data": event.data}
    if as_json and plugins:
        facts = {"supervisor": event.source} | facts
    if as_json:
        return json.dumps(facts, default=encode_bytes)
    if plugins:
        return f"{facts['plugin'] or '-'} {facts['kind']} {json.dumps(facts['data'], default=encode_bytes)}"
    return as_text(f"{event.source or '-'} {event.event_type} ") + json.dumps(
        event.data, default=encode_bytes
    )
