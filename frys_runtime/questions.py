"""What a plugin asks its host during a call: one question at a time, answered in its caller's context."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Final

from . import wire
from .lane import Lane
from .messages import MessageValue, Refused
from .services import Services
from .waits import Instance, extend_line
from .watchdog import Watch, Watchdog

logger = logging.getLogger("frys.plugin")

CANCELLED: Final = wire.encode([wire.REFUSAL, "cancelled", "the caller gave the call up"])
"""What a plugin is told when nobody waits for its call any more."""
_TOO_LARGE: Final = "a question has more bytes than are allowed (limits.output)"


class Question:
    """One question; the first answer is sent, and there is no other.

    Args:
        lane: Where it came from.
        deadline: When the call ends in which it was asked, by the event loop's clock.

    Attributes:
        deadline: As above.
    """

    __slots__ = ("_is_answered", "_lane", "deadline")

    def __init__(self, lane: Lane, deadline: float) -> None:
        self._lane, self.deadline, self._is_answered = lane, deadline, False

    def answer(self, value: MessageValue) -> None:
        """Send a value; the plugin goes on, while the books are closed here."""
        if not self._is_answered:
            bulk = self._lane.bulk
            (placed,) = (value,) if bulk is None else bulk.place((value,))
            self._send(wire.encode([wire.ANSWER, placed]))

    def refuse(self, reason: str, message: str) -> None:
        """Send why there is no value; the plugin goes on."""
        if not self._is_answered:
            # A function of the host program may speak of a file whose name is no UTF-8.
            self._send(wire.encode([wire.REFUSAL, reason, message.encode(errors="replace").decode()]))

    def withdraw(self) -> None:
        """Nobody waits for it any more: the plugin is told that, and nothing after it."""
        self._send(CANCELLED)

    def _send(self, frame: tuple[bytes, ...]) -> None:
        self._is_answered = True
        self._lane.answer(frame)


class Questions:
    """Answers one instance.

    Args:
        instance: The instance.
        services: What it may ask.
        dog: Knows what is under way.
    """

    def __init__(self, instance: Instance, services: Services, dog: Watchdog) -> None:
        self._instance, self._services, self._dog = instance, services, dog
        self._loop = asyncio.get_running_loop()
        self._latest: Question | None = None

    def take(self, frame: list[Any]) -> None:
        """Take an ASK frame; its answer goes out when it is known.

        Raises:
            ProtocolError: It is none, or nothing is under way.
        """
        watch = self._dog.watch
        if watch is None:
            raise wire.ProtocolError("it asked its host while no call was under way")
        service, args = wire.question(frame)
        lane = watch.child.lane
        if watch.given_up:
            lane.answer(CANCELLED)
            lane.look()
            return
        if watch.asking is None:
            watch.asking = watch.context.copy()
            watch.asking.run(extend_line, self._instance)
        context, question = watch.asking.copy(), Question(lane, watch.deadline)
        self._latest = question
        try:
            if lane.asks_too_much:
                work: Awaitable[MessageValue] = self._services.refuse(Refused("limit", _TOO_LARGE))
            else:
                work = context.run(self._services.answer, service, args, question)
        except Exception as error:  # noqa: BLE001 - a mistake of the host's must not end it; it is logged
            self._refuse(question, service, error)
            lane.look()
            return
        # Eager: what can be answered at once needs no turn of the event loop.
        answer = self._answer(watch, question, service, work)
        watch.question = asyncio.Task(answer, loop=self._loop, context=context, eager_start=True)
        if watch.question.done():
            lane.look()

    async def _answer(
        self, watch: Watch, question: Question, service: str, work: Awaitable[MessageValue]
    ) -> None:
        try:
            question.answer(await work)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._refuse(question, service, error)  # not this was cancelled, but what it waited for
        except Exception as error:  # noqa: BLE001 - a mistake of the host's must not end it; it is logged
            self._refuse(question, service, error)
        if watch.question is asyncio.current_task():  # not before the next question can take its place
            watch.child.lane.look()

    def withdraw(self, watch: Watch) -> bool:
        """Nobody waits for a call any more: end the work on its question, and tell the plugin if it waits.

        Returns:
            Whether it does.
        """
        if watch.question is not None:
            watch.question.cancel()  # which a function of the host program may not heed
            watch.question = None  # the end of the call must not cancel it again, while it tidies up
        waits = watch.child.lane.is_asked
        if waits and self._latest is not None:
            self._latest.withdraw()
        return waits

    def _refuse(self, question: Question, service: str, error: BaseException) -> None:
        if isinstance(error, Refused):
            question.refuse(error.reason, error.message)
            return
        plugin_id = self._instance.plugin_id
        logger.error("%s asked for %s, which failed in the host", plugin_id, service[:40], exc_info=error)
        question.refuse("failed", "the host could not do it; its log says why")
