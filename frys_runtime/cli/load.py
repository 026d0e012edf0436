"""`frys load`: have running supervisors load a plugin."""

from typing import Annotated

import typer

from .options import AsJson, BusFolder, OneSupervisor
from .ordering import Order, absolute, give


def command(
    plugin: Annotated[str, typer.Argument(help="A plugin, or a name in the supervisor's plugin paths.")],
    *,
    plugin_id: Annotated[
        str,
        typer.Option("--id", metavar="ID", help="Another id than its own; ID@2: beside other versions."),
    ] = "",
    supervisor: OneSupervisor = None,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """Load a plugin in every supervisor that runs, or in one; their policies decide what it gets.

    Exit codes: 0 done; 1 a supervisor ended or refuses; 2 wrong usage, policy or plugin.json, or the id is
    taken; 5 no supervisor runs, or the plugin cannot be loaded; 6 the jail cannot be built.
    """
    order = Order("load", plugin_id, {"path": absolute(plugin)}, everywhere=True)
    give(order, bus, supervisor, as_json=as_json, told=lambda done: f"{done['plugin']} loaded")
