"""`frys pin`: choose which version of a plugin gets the calls that name none."""

from typing import Annotated

import typer

from .exits import UsageError
from .options import AsJson, BusFolder, OneSupervisor, RunningPlugin
from .ordering import Order, give


def command(
    plugin_id: RunningPlugin,
    version: Annotated[
        str | None, typer.Argument(help="A version or a range: 1.4.0, ^1.2. The best match gets the calls.")
    ] = None,
    *,
    none: Annotated[bool, typer.Option("--none", help="The highest release gets them again.")] = False,
    supervisor: OneSupervisor = None,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """Choose which of the loaded versions gets the calls that name none.

    Exit codes: 0 done; 1 a supervisor ended or refuses; 2 wrong usage; 5 no supervisor runs it, or no such
    version.
    """
    if (version is None) is not none:
        raise UsageError("name a VERSION, or --none for the highest release")
    what = f"pinned to {version}" if version else "pinned no more"
    order = Order("pin", plugin_id, {"version": version})
    give(order, bus, supervisor, as_json=as_json, told=lambda _: f"{plugin_id} {what}")
