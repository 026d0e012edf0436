"""`frys promote`: have the version that is on trial replace the other one."""

from .ordering import plain

command = plain(
    "promote",
    "promoted",
    """Have the version that is on trial replace the other one now.

    Exit codes: 0 done; 1 a supervisor ended or refuses; 2 wrong usage; 5 no supervisor runs it, or none of
    its versions is on trial.
    """,
)
