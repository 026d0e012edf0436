"""The processes that are measured, one module each: ``python -m benchmarks.contenders.<module> ARGUMENTS``.

A contender prints ``true`` when it is ready, or why it cannot run here, as one line of JSON, and then
answers each line of its standard input with one line.
"""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, Protocol

type Measure = Callable[..., Any]

WARM_SECONDS: Final = 0.1
"""With how many seconds of exchanges that do not count a turn begins: by then the scheduler has given two
processes that talk to each other a core each, as it does on a server that is busy."""


class Absent(Exception):
    """This contender cannot run here; the text says why and what would help."""


def perform(start: Callable[..., AbstractContextManager[Measure]]) -> None:
    """Be a contender until standard input ends.

    Args:
        start: Gets the words of the command line and prepares everything; what it yields gets each request
            as keyword arguments, and what that returns is the answer.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        with start(*sys.argv[1:]) as measure:
            print("true", file=answers)
            for line in sys.stdin:
                print(json.dumps(measure(**json.loads(line))), file=answers)
    except Absent as why:
        print(json.dumps(str(why)), file=answers)


@contextmanager
def event_loop(name: str) -> Iterator[asyncio.Runner]:
    """The event loop ``asyncio`` or ``uvloop``; it stands still between the turns.

    Raises:
        Absent: uvloop is not installed.
    """
    factory = None
    if name == "uvloop":
        try:
            factory = importlib.import_module("uvloop").new_event_loop
        except ImportError:
            raise Absent("uvloop is not installed; the extra `uvloop` of frys-runtime has it") from None
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner


class Opened(Protocol):
    """Something of Frys that is opened before it is measured and closed afterwards."""

    async def open(self) -> None:
        """Be ready."""

    async def close(self) -> None:
        """Leave nothing behind."""


@contextmanager
def methods(loop: str, make: Callable[[], Opened]) -> Iterator[Measure]:
    """Measure by the methods of an object: a request names one and its arguments."""
    with event_loop(loop) as runner:

        async def opened() -> Opened:
            made = make()
            try:
                await made.open()
            except BaseException:
                await made.close()
                raise
            return made

        measured = runner.run(opened())

        def measure(method: str, **arguments: Any) -> Any:
            return runner.run(getattr(measured, method)(**arguments))

        try:
            yield measure
        finally:
            runner.run(measured.close())
