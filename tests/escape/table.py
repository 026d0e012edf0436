"""The whole table, class by class."""

from . import engines, files, identity, kernel, network, processes, protocol, resources
from .attempts import Attempt

TABLE: dict[str, list[Attempt]] = {
    "A": kernel.ROWS,
    "B": files.ROWS,
    "C": identity.ROWS,
    "D": network.ROWS,
    "E": processes.ROWS,
    "F": resources.ROWS,
    "G": protocol.ROWS,
    "H": engines.ROWS,
}

ATTEMPTS: list[Attempt] = [attempt for rows in TABLE.values() for attempt in rows]
