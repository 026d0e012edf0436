"""How a call ends whose caller has given up, so that its process can serve the next one."""

import asyncio
import signal
from typing import Any, Final

from .isolation import Confinement
from .linux import process
from .questions import Questions
from .watchdog import Watch

_INTERRUPTIBLE: Final = frozenset({("javascript", ""), ("python", "main")})
"""Formats, with their variant, whose engine ends a call when its process gets SIGUSR1."""
_SECONDS: Final = 0.05
"""How long such a call may take to end before its process is killed."""


async def interrupt(watch: Watch, questions: Questions | None, confinement: Confinement) -> list[Any]:
    """Have a call end; the frame that its process sends because it has.

    Args:
        watch: The call.
        questions: What it asks; that is not answered any more.
        confinement: That of its process.

    Raises:
        TimeoutError: It does not end, or nothing can end it.
        LaneClosed, ProtocolError: Its process ended, or broke a rule of the lane.
    """
    hears = questions is not None and questions.withdraw(watch)
    if (confinement.format, confinement.variant) in _INTERRUPTIBLE:
        process.send_signal(watch.child.pidfd, signal.SIGUSR1)
        hears = True
    if not hears:
        raise TimeoutError
    async with asyncio.timeout(_SECONDS):
        return await watch.child.lane.expect(confinement.limits.output)
