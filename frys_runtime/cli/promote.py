"""`frys promote`: have the version that is on trial replace the other one."""

from .options import AsJson, BusFolder, OneSupervisor, RunningPlugin
from .ordering import Order, give


def command(
    plugin_id: RunningPlugin,
    *,
    supervisor: OneSupervisor = None,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """Have the version that is on trial replace the other one now.

    Exit codes: 0 done; 1 a supervisor ended or refuses; 2 wrong usage; 5 no supervisor runs it, or none of
    its versions is on trial.
    """
    order = Order("promote", plugin_id, {})
    give(order, bus, supervisor, as_json=as_json, told=lambda _: f"{plugin_id} promoted")
