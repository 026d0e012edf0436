"""`frys rollback`: end the version that is on trial."""

from .options import AsJson, BusFolder, OneSupervisor, RunningPlugin
from .ordering import Order, give


def command(
    plugin_id: RunningPlugin,
    *,
    supervisor: OneSupervisor = None,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """Have the version that is on trial get no more calls, and end.

    Exit codes: 0 done; 1 a supervisor ended or refuses; 2 wrong usage; 5 no supervisor runs it, or none of
    its versions is on trial.
    """
    order = Order("roll_back", plugin_id, {})
    give(order, bus, supervisor, as_json=as_json, told=lambda _: f"{plugin_id} rolled back")
