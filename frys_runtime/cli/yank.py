"""`frys yank`: a version that is not to be chosen any more."""

import asyncio
from typing import Annotated

import typer

from .exits import UsageError
from .registries import Json, RegistryUrl, Undo, open_registries, tell_done, token_for


def command(
    version: Annotated[str, typer.Argument(metavar="ID@VERSION", help="Which version of which plugin.")],
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for those who have it.")] = "",
    undo: Undo = False,
    registry: RegistryUrl = None,
    json: Json = False,
) -> None:
    """Have a version not be chosen any more. Who has locked it keeps it, and is told why.

    The token, as for `frys publish`, needs the scope yank: for the plugin.

    Exit codes: 0 it is so; 2 wrong words; 7 the registry does not answer, or does not do it.
    """
    from ..registry.keeping import yank

    plugin, _, number = version.partition("@")
    if not plugin or not number:
        raise UsageError(f"{version!r} names no version; write ID@VERSION")
    client = open_registries(registry)[0]
    token = token_for(client.url)
    changed = asyncio.run(yank(client, plugin, number, token=token, reason=reason, undo=undo))
    what = "is to be chosen again" if undo else "is yanked"
    tell_done(f"{plugin} {number} {what}", changed=changed, json=json)
