"""What a plugin asks its host during a call: one question at a time, answered in its caller's context."""

import asyncio
import logging
from typing import Any, Final

from . import wire
from .messages import MessageValue, Refused
from .services import Services
from .waits import Instance, extend_line
from .watchdog import Watch, Watchdog

logger = logging.getLogger("frys.plugin")

CANCELLED: Final = wire.encode([wire.REFUSAL, "cancelled", "the caller gave the call up"])
"""What a plugin is told when nobody waits for its call any more."""
_TOO_LARGE: Final = wire.encode(
    [wire.REFUSAL, "limit", "a question has more bytes than are allowed (limits.output)"]
)


class Questions:
    """Answers one instance.

    Args:
        instance: The instance.
        services: What it may ask.
        dog: Knows what is under way.
    """

    def __init__(self, instance: Instance, services: Services, dog: Watchdog) -> None:
        self._instance, self._services, self._dog = instance, services, dog

    def take(self, frame: list[Any]) -> None:
        """Take an ASK frame; its answer goes out when it is known.

        Raises:
            ProtocolError: It is none, or nothing is under way.
        """
        watch = self._dog.watch
        if watch is None:
            raise wire.ProtocolError("it asked its host while no call was under way")
        service, args = wire.question(frame)
        if watch.given_up:
            watch.child.lane.answer(CANCELLED)
            return
        if watch.child.lane.asks_too_much:
            watch.child.lane.answer(_TOO_LARGE)
            return
        context = watch.context.copy()
        context.run(extend_line, self._instance)
        loop = asyncio.get_running_loop()
        # Eager: what can be answered at once needs no turn of the event loop.
        answer = self._answer(watch, service, args)
        watch.question = asyncio.Task(answer, loop=loop, context=context, eager_start=True)

    async def _answer(self, watch: Watch, service: str, args: list[MessageValue]) -> None:
        plugin_id = self._instance.plugin_id
        try:
            answer = await self._services.answer(service, args, watch.deadline)
            bulk = watch.child.lane.bulk
            (value,) = (answer,) if bulk is None else bulk.place((answer,))
            frame = wire.encode([wire.ANSWER, value])
        except Refused as refusal:
            frame = wire.encode([wire.REFUSAL, refusal.reason, refusal.message])
        except Exception:
            logger.exception("%s asked for %s, which failed in the host", plugin_id, service[:40])
            frame = wire.encode([wire.REFUSAL, "failed", "the host could not do it; its log says why"])
        watch.child.lane.answer(frame)
