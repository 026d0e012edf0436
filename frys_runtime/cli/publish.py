"""`frys publish`: give a package to a registry."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from .registries import Display, Json, RegistryUrl, open_registries, token_for
from .terminal import print_json, printable, stdout


def command(
    package: Annotated[
        Path, typer.Argument(metavar="PACKAGE", help="What `frys pack` made, or a folder with plugin.json.")
    ],
    *,
    signature: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its signatures; PACKAGE.sig by default.")
    ] = None,
    registry: RegistryUrl = None,
    json: Json = False,
) -> None:
    """Publish a package, with the signatures that lie beside it.

    The token stands in FRYS_TOKEN, or in tokens.json of the configuration folder, which nobody else may read.
    A version is published once and never changes.

    Exit codes: 0 published; 2 wrong words, or a wrong plugin.json; 5 it is no package; 7 the registry does
    not answer, or does not take it.
    """
    display = Display(quiet=json)
    with display.of(f"publishing {package}"):
        client = open_registries(registry, display=display)[0]
        done = asyncio.run(client.publish_plugin(package, signature=signature, token=token_for(client.url)))
    if json:
        print_json({"id": done.id, "version": done.version, "sha256": done.sha256, "url": done.url})
        return
    say = f"{done.id} {done.version} is published\nsha256:{done.sha256}"
    stdout().print(printable(say), markup=False, soft_wrap=True)
