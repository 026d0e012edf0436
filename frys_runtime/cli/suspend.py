"""`frys suspend`: freeze the processes of a plugin."""

from .options import AsJson, BusFolder, OneSupervisor, RunningPlugin
from .ordering import Order, give


def command(
    plugin_id: RunningPlugin,
    *,
    supervisor: OneSupervisor = None,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """Freeze the processes of a plugin; calls to it wait until `frys resume`, or until their deadline.

    Exit codes: 0 done; 1 it is in a state in which that cannot be, or a supervisor ended or refuses; 2 wrong
    usage; 5 no supervisor runs it.
    """
    order = Order("suspend", plugin_id, {})
    give(order, bus, supervisor, as_json=as_json, told=lambda _: f"{plugin_id} suspended")
