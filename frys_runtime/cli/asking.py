"""What several commands ask running supervisors."""

import asyncio
from typing import Any, Final

from ..bus.visitor import Visitor
from ..errors import PluginError

_ANSWER_MS: Final = 3000


async def states(visitor: Visitor) -> list[dict[str, Any]]:
    """How every supervisor is that a visitor has met."""
    peers = visitor.supervisors
    asked = (visitor.ask(peer, "status", timeout_ms=_ANSWER_MS) for peer in peers)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    found: list[dict[str, Any]] = []
    for peer, answer in zip(peers, answers, strict=True):
        facts: dict[str, Any] = {"name": peer.name, "pid": peer.pid}
        if isinstance(answer, dict):
            facts |= answer
        elif isinstance(answer, PluginError):
            facts |= {"plugins": [], "error": str(answer)}
        elif isinstance(answer, BaseException):
            raise answer
        found.append(facts)
    silent = {"plugins": [], "error": "it does not answer"}
    return found + [{"name": entry.name, "pid": entry.pid, **silent} for entry in visitor.silent]
