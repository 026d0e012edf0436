"""`frys suspend`: freeze the processes of a plugin."""

from .ordering import plain

command = plain(
    "suspend",
    "suspended",
    """Freeze the processes of a plugin; calls to it wait until `frys resume`, or until their deadline.

    Exit codes: 0 done; 1 it is in a state in which that cannot be, or a supervisor ended or refuses; 2 wrong
    usage; 5 no supervisor runs it.
    """,
)
