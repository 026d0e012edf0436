"""What is done about a plugin's processes from time to time: health checks, and ending those nobody uses.

One timer for each, however many calls come: it looks when it is due, and sleeps again.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from .errors import ExecutionFailed, PluginError
from .policy_supervision import Supervision
from .sandbox import PluginSandbox

_MAX_WORDS: Final = 500


class Upkeep:
    """Two timers.

    Args:
        rules: How often.
        end_unused: Called to end what was not used for so many seconds; gives the seconds until it may be
            worth another look, or nothing.
        check: Called to begin a health check.
    """

    def __init__(
        self, rules: Supervision, end_unused: Callable[[float], float | None], check: Callable[[], None]
    ) -> None:
        self._rules, self._end_unused, self._check = rules, end_unused, check
        self._loop = asyncio.get_running_loop()
        self._idle: asyncio.TimerHandle | None = None
        self._health: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """A process is there: look after it from now on."""
        rules = self._rules
        if rules.idle_timeout is not None and self._idle is None:
            self._idle = self._loop.call_later(rules.idle_timeout / 1000, self._look_for_unused)
        if rules.health_interval is not None and self._health is None:
            self._health = self._loop.call_later(rules.health_interval / 1000, self._look_after_health)

    def stop(self) -> None:
        """Look no more."""
        for timer in (self._idle, self._health):
            if timer is not None:
                timer.cancel()
        self._idle = self._health = None

    def _look_for_unused(self) -> None:
        self._idle = None
        assert self._rules.idle_timeout is not None
        lasts = self._rules.idle_timeout / 1000
        left = self._end_unused(lasts)
        if left is not None:
            self._idle = self._loop.call_later(max(left, lasts / 8), self._look_for_unused)

    def _look_after_health(self) -> None:
        self._health = None
        self._check()
        self.start()


async def check(slot: PluginSandbox, health: str, timeout_ms: int) -> None:
    """Have an instance answer, and its health function, if it has one, say that all is well.

    Args:
        slot: The instance; free.
        health: The function; empty for none.
        timeout_ms: For each of the two.

    Raises:
        PluginError: It does not, and why. Its process may be gone.
    """
    await slot.ping(timeout_ms)
    if not health:
        return
    try:
        answer = await slot.call(health, (), timeout_ms)
    except TypeError as error:
        raise ExecutionFailed(slot.plugin_id, health, str(error)) from None
    if answer is not None and answer is not True:
        words = answer if isinstance(answer, str) else f"it answered {answer!r}, which is not true"
        raise ExecutionFailed(slot.plugin_id, health, f"it is not well: {words[:_MAX_WORDS]}")


async def is_well(slot: PluginSandbox, health: str, timeout_ms: int) -> PluginError | None:
    """The same, with the error as the answer."""
    try:
        await check(slot, health, timeout_ms)
    except PluginError as error:
        return error
    return None
