"""`frys owners`: who may publish versions of a plugin."""

import asyncio
from typing import Annotated

import typer

from .exits import UsageError
from .registries import Json, RegistryUrl, open_registries, tell_done, token_for
from .terminal import print_json, printable, stdout


def command(
    plugin: Annotated[str, typer.Argument(metavar="ID", help="The plugin.")],
    *,
    add: Annotated[str | None, typer.Option(metavar="PUBLISHER", help="Make one an owner.")] = None,
    remove: Annotated[str | None, typer.Option(metavar="PUBLISHER", help="Have one be none.")] = None,
    registry: RegistryUrl = None,
    json: Json = False,
) -> None:
    """List the owners of a plugin, or add or remove one; one always stays.

    To change them, the token, as for `frys publish`, needs the scope owners: for the plugin.

    Exit codes: 0 listed, or it is so; 2 wrong words; 7 the registry does not answer, or does not do it.
    """
    from ..registry.keeping import change_owner, owners

    if add is not None and remove is not None:
        raise UsageError("--add and --remove are two changes; make one after the other")
    client = open_registries(registry)[0]
    who = add if add is not None else remove
    if who is not None:
        undo = add is None
        done = change_owner(client, plugin, who, token=token_for(client.url), undo=undo)
        what = "is no owner of" if undo else "is an owner of"
        tell_done(f"{who} {what} {plugin}", changed=asyncio.run(done), json=json)
        return
    found = asyncio.run(owners(client, plugin))
    if json:
        print_json({"id": plugin, "owners": list(found)})
        return
    stdout().print(printable("\n".join(found)), markup=False, soft_wrap=True)
