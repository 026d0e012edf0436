"""How commands have running supervisors change what they run, and how what came of it is told."""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bus.node import Peer
from ..bus.visitor import Visitor
from ..errors import PluginError
from ..messages import MessageValue
from .asking import nowhere
from .exits import UsageError, code_of, tell
from .options import AsJson, BusFolder, OneSupervisor, RunningPlugin
from .terminal import print_json, printable

type Answer = MessageValue | PluginError
type Options = dict[str, MessageValue]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done, and by whom.

    Attributes:
        operation: One of those in docs/protocol.md.
        plugin: Which plugin, with a range of versions behind ``@`` if that matters.
        options: By operation.
        everywhere: Also where the plugin does not run.
    """

    operation: str
    plugin: str
    options: Options
    everywhere: bool = False


def absolute(path: str) -> str:
    """What is here, by its full path, because a supervisor has another current folder; else a name."""
    return os.path.abspath(path) if Path(path).exists() or os.sep in path else path


def plain(operation: str, done: str, text: str) -> Callable[..., None]:
    """A command that gives an order without options.

    Args:
        operation: One of those in docs/protocol.md.
        done: What the plugin then is, in a word.
        text: The command's help.
    """

    def command(
        plugin_id: RunningPlugin,
        *,
        supervisor: OneSupervisor = None,
        bus: BusFolder = None,
        as_json: AsJson = False,
    ) -> None:
        order = Order(operation, plugin_id, {})
        give(order, bus, supervisor, as_json=as_json, told=lambda _: f"{plugin_id} {done}")

    command.__doc__ = text
    return command


def give(
    order: Order, bus: Path | None, supervisor: str | None, *, as_json: bool, told: Callable[[Any], str]
) -> None:
    """Give an order to every supervisor that it concerns, or to one, and print what came of it.

    Args:
        order: The order.
        bus: The folder in which they meet.
        supervisor: The name of one of them, or its process.
        as_json: Print facts for a program.
        told: The answer as a line for people.

    Raises:
        NotRunning: It concerns none that runs.
        UsageError: The plugin is no address, or a number makes no sense.
        SystemExit: Somewhere it failed, with the exit code of that error.
    """
    report(asyncio.run(_give(order, bus, supervisor)), as_json=as_json, told=told)


async def _give(order: Order, bus: Path | None, supervisor: str | None) -> list[tuple[Peer, Answer]]:
    async def work(visitor: Visitor, peer: Peer) -> MessageValue:
        return await visitor.control(peer, order.operation, order.plugin, order.options)

    return await each(order.plugin, bus, supervisor, work, everywhere=order.everywhere)


async def each(
    plugin: str,
    bus: Path | None,
    supervisor: str | None,
    work: Callable[[Visitor, Peer], Any],
    *,
    everywhere: bool = False,
) -> list[tuple[Peer, Answer]]:
    """Do something with every supervisor that has a plugin, at the same time.

    Raises:
        NotRunning: There is none.
        UsageError: The plugin is no address, or the supervisor refuses the words.
    """
    async with Visitor(bus) as visitor:
        try:
            running = visitor.supervisors if everywhere else visitor.running(plugin)
        except ValueError as error:
            raise UsageError(str(error)) from None
        peers = [peer for peer in running if supervisor in (None, peer.name, str(peer.pid))]
        if not peers:
            what = "runs" if everywhere else f"runs a plugin {plugin!r}"
            raise nowhere(visitor, what, plugin, supervisor)
        answers = await asyncio.gather(*(work(visitor, peer) for peer in peers), return_exceptions=True)
    found: list[tuple[Peer, Answer]] = []
    for peer, answer in zip(peers, answers, strict=True):
        if isinstance(answer, TypeError | ValueError):
            raise UsageError(str(answer)) from answer
        if isinstance(answer, BaseException) and not isinstance(answer, PluginError):
            raise answer
        found.append((peer, answer))
    return found


def report(
    answers: Sequence[tuple[Peer, Answer]], *, as_json: bool, told: Callable[[Any], str] | None = None
) -> None:
    """Print what came of an order, and end with the code of the first error.

    Args:
        answers: By supervisor.
        as_json: Print facts for a program.
        told: An answer as a line for people; ``None`` when those were shown already.
    """
    if as_json:
        print_json([_facts(peer, answer) for peer, answer in answers])
    code = 0
    for peer, answer in answers:
        if isinstance(answer, PluginError):
            code = code or code_of(answer)
            if not as_json:
                print(printable(f"process {peer.pid}:"), file=sys.stderr)
                tell(answer)
        elif told is not None and not as_json:
            print(printable(f"process {peer.pid}: {told(answer)}"), flush=True)
    if code:
        raise SystemExit(code)


def _facts(peer: Peer, answer: Answer) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": peer.name, "pid": peer.pid}
    if isinstance(answer, PluginError):
        data = {key: value for key, value in vars(answer).items() if not key.startswith("_")}
        return facts | {"error": type(answer).__name__, "message": str(answer), "facts": data}
    return facts | {"answer": answer}
