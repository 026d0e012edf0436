"""`frys search`: find plugins in a registry."""

import asyncio
from typing import Annotated

import typer

from .registries import Display, Json, RegistryUrl, open_registries
from .terminal import print_json, printable, stdout, table


def command(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD", help="Words; the last one may be unfinished.")
    ] = None,
    *,
    capability: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Repeatable.")] = None,
    permission: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Repeatable.")] = None,
    license: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,  # noqa: A002 - the option
    format: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,  # noqa: A002
    sort: Annotated[
        str, typer.Option(metavar="ORDER", help="relevance, downloads, updated or name.")
    ] = "relevance",
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many.")] = 20,
    registry: RegistryUrl = None,
    json: Json = False,
) -> None:
    """Search the first registry. What is found is the words of publishers; installing verifies.

    Exit codes: 0 searched, also when nothing was found; 2 wrong words; 7 the registry does not answer.
    """
    display = Display(quiet=json)
    with display.of("searching"):
        client = open_registries(registry, display=display)[0]
        page = asyncio.run(
            client.search(
                " ".join(words or []),
                limit=limit,
                capability=capability or (),
                permission=permission or (),
                license=license or (),
                format=format or (),
                sort=sort,
            )
        )
    if json:
        import msgspec

        print_json(msgspec.to_builtins(page))
        return
    if page.corrected:
        stdout().print(printable(f"nothing has these words; found instead: {page.corrected}"), markup=False)
    shown = table("plugin", "latest", "description", "permissions", "downloads", numbers=["downloads"])
    for one in page.plugins:
        about = f"{one.description or one.name}{' (not kept up)' if one.deprecated else ''}"
        row = (
            one.id,
            one.latest,
            " ".join(about.split())[:200],
            ", ".join(one.permissions),
            f"{one.downloads:,}",
        )
        shown.add_row(*map(printable, row))
    stdout().print(shown)
    if page.total > len(page.plugins):
        stdout().print(f"{len(page.plugins)} of {page.total:,}; --limit shows more")
