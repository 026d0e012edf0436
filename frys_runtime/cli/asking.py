"""What several commands ask running supervisors."""

import asyncio
from typing import Any, Final

from ..bus.visitor import Visitor
from ..errors import PluginError
from .exits import NotRunning
from .terminal import printable, stderr

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


def nowhere(visitor: Visitor, what: str, plugin: str, supervisor: str | None = None) -> NotRunning:
    """That no supervisor does what is asked for, with what is there in its place.

    Args:
        visitor: Who has looked.
        what: What none of them does.
        plugin: The plugin.
        supervisor: The only one that was asked, by its name or its process.
    """
    who = f"supervisor {supervisor!r}" if supervisor else "supervisor"
    plugin_id = plugin.partition("@")[0]
    versions = {
        str(known.version)
        for peer in visitor.supervisors
        for address, known in peer.plugins.items()
        if address.partition("@")[0] == plugin_id
    }
    text = [f"no {who} in {visitor.folder} {what}"]
    if versions and not supervisor:
        text.append(f"there is {plugin_id} {', '.join(sorted(versions))}")
    return NotRunning("; ".join(text + _silent(visitor)))


def tell_absent(visitor: Visitor) -> None:
    """Tell a person who waits for news of supervisors that there are none yet, or which do not answer."""
    absent = [] if visitor.supervisors else [f"no supervisor in {visitor.folder} answers yet"]
    if said := absent + _silent(visitor):
        stderr().print(printable("; ".join(said)), soft_wrap=True)


def _silent(visitor: Visitor) -> list[str]:
    return [f"the one of process {entry.pid} does not answer" for entry in visitor.silent]
