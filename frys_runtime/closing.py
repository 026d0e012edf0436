"""What ends while others wait for it: a manager, step by step, and threads whose result nobody wants.

Every wait in a manager's end has a deadline, and the log has what was given up on. What is waited for are
processes that the kernel has been told to kill, threads that write to a disk, and tasks that were cancelled.
Each of them ends at once on a sound machine. docs/supervision.md has the deadlines.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

logger = logging.getLogger("frys.manager")

STEP_SECONDS: Final = 5.0
"""For what has no reason to take any time: tasks that were cancelled, a file that is written to its end."""
PROCESS_SECONDS: Final = 20.0
"""For processes that were killed, and what they leave: many take their time on a busy machine."""
REPORT_SECONDS: Final = 2.0
"""In which fork servers have to tell that their plugins are dead; then they are killed themselves."""
_left: set[asyncio.Task[Any]] = set()


async def step(what: str, work: Coroutine[Any, Any, object], seconds: float = STEP_SECONDS) -> bool:
    """Wait for a step of the end, at most for so long; then cancel it, say so in the log, and go on.

    Args:
        what: What is waited for, for the log.
        work: The wait.
        seconds: How long at most.

    Returns:
        Whether it has ended.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait((task,), timeout=seconds)
        raise
    if task.done():
        task.result()
        return True
    logger.warning("the manager is closed without waiting any longer for %s (%g s)", what, seconds)
    task.cancel()
    _left.add(task)
    task.add_done_callback(_late)
    return False


def _late(task: "asyncio.Task[Any]") -> None:
    _left.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("what a closed manager did not wait for has failed: %s", error)


async def made[T](work: Callable[[], T], discard: Callable[[T], object]) -> T:
    """Have a thread make something that has to be given back.

    Args:
        work: Makes it, in a thread, which nothing stops.
        discard: Gives back what comes when nobody waits for it any more, however often who did was cancelled.
    """
    making = asyncio.ensure_future(asyncio.to_thread(work))

    def give_back(done: "asyncio.Future[T]") -> None:
        if not done.cancelled() and done.exception() is None:
            discard(done.result())

    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(give_back)
        await asyncio.wait((making,))
        raise
