"""`frys upgrade`: installed plugins as new as their ranges allow."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import UsageError
from .options import BusFolder, PolicyPath
from .registries import (
    DEFAULT_FOLDER,
    Display,
    FirstRoot,
    Folder,
    Json,
    MinAge,
    Mirrors,
    RegistryUrl,
    Root,
    Yes,
    open_market,
    open_registries,
    running,
    tell_changes,
)
from .terminal import printable, stderr

if TYPE_CHECKING:
    from ..marketplace.changes import Change


def command(
    plugins: Annotated[
        list[str] | None,
        typer.Argument(metavar="PLUGIN", help="ID, or ID@RANGE for another range; all by default."),
    ] = None,
    *,
    folder: Folder = DEFAULT_FOLDER,
    registry: RegistryUrl = None,
    mirror: Mirrors = None,
    root: Root = None,
    first_root: FirstRoot = False,
    policy: PolicyPath = None,
    min_age: MinAge = "0",
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
        registries = open_registries(registry, mirror, root, first_root=first_root, display=display)
        market = open_market(registries, folder, display, policy=policy, min_age=min_age, yes=yes)
        version = next(iter(ranges.values()), None)
        found = asyncio.run(market.upgrade(*names, version=version))
    tell_changes(found, folder, json=json)
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
