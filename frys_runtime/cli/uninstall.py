"""`frys uninstall`: remove a plugin, and what nobody needs any more."""

import asyncio
from typing import Annotated

import typer

from .market import DEFAULT_FOLDER, Folder, tell_changes
from .registries import Json


def command(
    plugin: Annotated[str, typer.Argument(metavar="PLUGIN", help="Its id.")],
    *,
    force: Annotated[bool, typer.Option("--force", help="Also when others need it.")] = False,
    folder: Folder = DEFAULT_FOLDER,
    json: Json = False,
) -> None:
    """Remove an installed plugin, and what came only because it needs it.

    Exit codes: 0 removed; 2 it is not installed; 5 others need it; 7 another process changes the folder.
    """
    from ..marketplace.market import PluginMarketplace

    tell_changes(asyncio.run(PluginMarketplace([], folder).uninstall(plugin, force=force)), folder, json=json)
