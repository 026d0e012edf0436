"""`frys resume`: let a plugin take calls again."""

from .ordering import plain

command = plain(
    "resume",
    "resumed",
    """Let a plugin take calls again: after `frys suspend`, in quarantine, or after failures in a row.

    Exit codes: 0 done; 1 it is in a state in which that cannot be, or a supervisor ended or refuses; 2 wrong
    usage; 5 no supervisor runs it.
    """,
)
