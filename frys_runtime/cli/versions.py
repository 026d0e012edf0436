"""`frys versions`: the versions of a plugin that run."""

import asyncio
from typing import Any, Final

from ..bus.node import Peer
from ..bus.visitor import Visitor
from ..errors import PluginError
from .options import AsJson, BusFolder, OneSupervisor, RunningPlugin
from .ordering import Answer, each, report
from .terminal import printable, stdout, table

_ANSWER_MS: Final = 3000


def command(
    plugin_id: RunningPlugin,
    *,
    supervisor: OneSupervisor = None,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show a plugin's versions: their shares of the calls, what became of those, who is on trial or pinned.

    Exit codes: 0 done; 1 or 3 a supervisor did not answer; 2 wrong usage; 5 no supervisor runs it.
    """

    async def work(visitor: Visitor, peer: Peer) -> Any:
        return await visitor.ask(peer, "versions", plugin_id, timeout_ms=_ANSWER_MS)

    answers = asyncio.run(each(plugin_id, bus, supervisor, work))
    if not as_json:
        stdout().print(as_table(answers))
    report(answers, as_json=as_json)


def as_table(answers: list[tuple[Peer, Answer]]) -> Any:
    """The same for people."""
    numbers = ("process", "share", "calls", "errors")
    made = table("process", "version", "state", "", *numbers[1:], "from", numbers=numbers)
    for peer, answer in answers:
        first = str(peer.pid)
        if isinstance(answer, PluginError) or not isinstance(answer, list):
            continue
        for version in answer:
            row: Any = version
            marks = [word for word, key in (("on trial", "canary"), ("pinned", "pinned")) if row[key]]
            figures = (f"{row['weight']:.0%}", str(row["calls"]), str(row["errors"]))
            cells = (row["version"], row["state"], " ".join(marks), *figures, row["path"])
            made.add_row(first, *map(printable, cells))
            first = ""
    return made
