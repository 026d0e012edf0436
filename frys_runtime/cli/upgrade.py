"""`frys upgrade`: installed plugins as new as their ranges allow."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import UsageError
from .market import Market, Yes, running, tell_changes, with_market
from .options import BusFolder, PolicyPath
from .registries import Display, Json
from .terminal import printable, stderr

if TYPE_CHECKING:
    from ..marketplace.changes import Change


@with_market
def command(
    plugins: Annotated[
        list[str] | None,
        typer.Argument(metavar="PLUGIN", help="ID, or ID@RANGE for another range; all by default."),
    ] = None,
    *,
    market: Market,
    policy: PolicyPath = None,
    yes: Yes = False,
    bus: BusFolder = None,
    json: Json = False,
) -> None:
    """Bring installed plugins to the newest versions in the ranges in which they were asked for.

    An upgrade that asks for more than before (permissions, capabilities, another format, signatures by other
    keys, a new plugin) needs a yes: on the terminal, or --yes.

    Exit codes: as of `frys install`.
    """
    ranges = {
        name: version for name, _, version in (word.partition("@") for word in plugins or []) if version
    }
    if ranges and len(plugins or ()) != 1:
        raise UsageError("a range is for one plugin; upgrade the others by themselves")
    names = [word.partition("@")[0] for word in plugins or []]
    display = Display(quiet=json)
    with display.of("upgrading"):
        opened = market.open(display, policy=policy, yes=yes)
        version = next(iter(ranges.values()), None)
        found = asyncio.run(opened.upgrade(*names, version=version))
    tell_changes(found, market.folder, json=json)
    if not json:
        _tell_running(found, bus)


def _tell_running(found: "list[Change]", bus: Path | None) -> None:
    """Say who runs something else than what is installed now."""
    runs = asyncio.run(running(bus)) if found else {}
    for change in found:
        for version, processes in runs.get(change.plugin, {}).items():
            if change.after is not None and version != change.after.version:
                where = ", ".join(map(str, processes))
                text = f"{change.plugin} {version} runs in process {where}; with auto_update in its policy it"
                stderr().print(printable(f"{text} follows by itself, otherwise reload it"), soft_wrap=True)
