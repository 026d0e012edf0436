"""How much of everything is measured."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Repetitions of one run.

    Attributes:
        rounds: Rounds of turns, wherever contenders alternate.
        loads: Loads of one contender in a round.
        calls: Calls of 64 bytes in a round.
        large_calls: Calls of 1 MiB in a round.
        pairs: Runs inside and outside the jail, by the same two processes.
        processes: How many pairs of processes run them, and sets of them send messages: where its memory
            lies, and on which core it is, changes a process's speed.
        instances: Idle instances of each format.
        reloads: Reloads under calls.
        crowd: Live plugins at once.
        idle_seconds: How long the crowd is watched doing nothing.
        endurance: Calls of the long run.
        flood_seconds: How long a flood lasts.
        plugins: Plugins in the registry that is searched.
    """

    rounds: int
    loads: int
    calls: int
    large_calls: int
    pairs: int
    processes: int
    instances: int
    reloads: int
    crowd: int
    idle_seconds: float
    endurance: int
    flood_seconds: float
    plugins: int


FULL: Final = Scale(
    rounds=20,
    loads=5,
    calls=200,
    large_calls=20,
    pairs=8,
    processes=8,
    instances=20,
    reloads=100,
    crowd=500,
    idle_seconds=5.0,
    endurance=1_000_000,
    flood_seconds=1.0,
    plugins=100_000,
)
QUICK: Final = Scale(
    rounds=5,
    loads=2,
    calls=50,
    large_calls=5,
    pairs=5,
    processes=2,
    instances=4,
    reloads=10,
    crowd=40,
    idle_seconds=1.0,
    endurance=50_000,
    flood_seconds=0.3,
    plugins=2000,
)
