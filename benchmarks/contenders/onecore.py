"""Another contender on one core, with everything that it starts: ``onecore.py MODULE ARGUMENT...``."""

import importlib
import os
from contextlib import AbstractContextManager

from . import Measure, perform


def start(module: str, *arguments: str) -> AbstractContextManager[Measure]:
    """Prepare; a request is one of that contender's."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    contender: AbstractContextManager[Measure] = importlib.import_module(
        f"benchmarks.contenders.{module}"
    ).start(*arguments)
    return contender


if __name__ == "__main__":
    perform(start)
