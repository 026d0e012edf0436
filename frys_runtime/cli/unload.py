"""`frys unload`: have running supervisors end a plugin."""

from typing import Annotated

import typer

from .options import AsJson, BusFolder, Force, OneSupervisor, RunningPlugin
from .ordering import Options, Order, give


def command(
    plugin_id: RunningPlugin,
    *,
    force: Force = False,
    drain: Annotated[
        int, typer.Option("--drain", metavar="MS", min=0, help="How long it may finish its calls.")
    ] = 0,
    supervisor: OneSupervisor = None,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """End a plugin in every supervisor that has it; with a version behind @, that one of several.

    Exit codes: 0 done; 1 a supervisor ended or refuses; 2 wrong usage; 5 no supervisor runs it, or another
    plugin depends on it.
    """
    options: Options = {"force": force, "drain_ms": drain}
    order = Order("unload", plugin_id, options)
    give(order, bus, supervisor, as_json=as_json, told=lambda _: f"{plugin_id} unloaded")
