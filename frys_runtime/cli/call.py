"""`frys call`: call a function of a plugin that runs already."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ..bus.visitor import Visitor
from ..messages import MessageValue
from .arguments import argument
from .asking import nowhere
from .exits import UsageError
from .options import BusFolder
from .terminal import print_value


def command(
    plugin_id: Annotated[str, typer.Argument(metavar="ID", help="The plugin; `frys ps` lists them.")],
    function: Annotated[str, typer.Argument(help="One of its functions.")],
    args: Annotated[list[str] | None, typer.Argument(help="What to call it with.")] = None,
    *,
    timeout: Annotated[
        int | None,
        typer.Option("--timeout", "-t", metavar="MS", min=1, help="A tighter deadline than the policy's."),
    ] = None,
    bus: BusFolder = None,
) -> None:
    """Call a function of a plugin that a supervisor runs, and print what it returns.

    Arguments and results are as with `frys run`. Of several copies of the plugin, any one is called.

    Exit codes: those of `frys run`; 5 also when no supervisor runs the plugin.
    """
    values = [argument(word) for word in args or ()]
    print_value(asyncio.run(_call(plugin_id, function, values, timeout, bus)))


async def _call(
    plugin_id: str, function: str, values: list[MessageValue], timeout_ms: int | None, bus: Path | None
) -> MessageValue:
    async with Visitor(bus) as visitor:
        try:
            if not visitor.running(plugin_id):
                raise nowhere(visitor, f"runs a plugin {plugin_id!r}", plugin_id)
            return await visitor.call(plugin_id, function, *values, timeout_ms=timeout_ms)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error
