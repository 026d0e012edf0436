"""`frys resume`: let a plugin take calls again."""

from .options import AsJson, BusFolder, OneSupervisor, RunningPlugin
from .ordering import Order, give


def command(
    plugin_id: RunningPlugin,
    *,
    supervisor: OneSupervisor = None,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """Let a plugin take calls again: after `frys suspend`, in quarantine, or after failures in a row.

    Exit codes: 0 done; 1 it is in a state in which that cannot be, or a supervisor ended or refuses; 2 wrong
    usage; 5 no supervisor runs it.
    """
    order = Order("resume", plugin_id, {})
    give(order, bus, supervisor, as_json=as_json, told=lambda _: f"{plugin_id} resumed")
