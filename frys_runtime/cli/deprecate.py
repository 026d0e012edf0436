"""`frys deprecate`: a plugin that is not kept up any more."""

import asyncio
from typing import Annotated

import typer

from .registries import Json, RegistryUrl, Undo, open_registries, tell_done, token_for


def command(
    plugin: Annotated[str, typer.Argument(metavar="ID", help="The plugin.")],
    *,
    message: Annotated[str, typer.Option(metavar="TEXT", help="Why, for those who use it.")] = "",
    replacement: Annotated[str, typer.Option(metavar="ID", help="What to use instead.")] = "",
    undo: Undo = False,
    registry: RegistryUrl = None,
    json: Json = False,
) -> None:
    """Say that a plugin is not kept up any more; `frys search`, `frys outdated` and its page tell it.

    The token, as for `frys publish`, needs the scope yank: for the plugin.

    Exit codes: 0 it is so; 2 wrong words; 7 the registry does not answer, or does not do it.
    """
    from ..registry.keeping import deprecate

    client = open_registries(registry)[0]
    done = deprecate(
        client,
        plugin,
        token=token_for(client.url),
        message=message,
        replacement=replacement,
        undo=undo,
    )
    what = "is kept up again" if undo else "is deprecated"
    tell_done(f"{plugin} {what}", changed=asyncio.run(done), json=json)
