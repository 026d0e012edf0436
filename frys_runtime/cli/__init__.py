"""The command `frys`; each of its commands is a module of this package with a function ``command``."""

import sys

from .. import __version__


def main() -> None:
    """Run the command line and end the process with its exit code; `exits.py` lists the codes."""
    words = sys.argv[1:]
    if words in (["--version"], ["-V"]):
        print(f"frys {__version__}")  # before Typer is imported: scripts ask for this all the time
        return
    from .app import run

    sys.exit(run(words))
