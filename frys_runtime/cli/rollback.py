"""`frys rollback`: end the version that is on trial."""

from .ordering import plain

command = plain(
    "roll_back",
    "rolled back",
    """Have the version that is on trial get no more calls, and end.

    Exit codes: 0 done; 1 a supervisor ended or refuses; 2 wrong usage; 5 no supervisor runs it, or none of
    its versions is on trial.
    """,
)
