"""`frys cache`: what was fetched from registries and is kept, and making room."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from .exits import UsageError
from .registries import Json
from .terminal import print_json, printable, size, stdout, table

group = typer.Typer(
    help="Show what was fetched from registries and is kept, and make room.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@group.command()
def show(*, json: Json = False) -> None:
    """Show how large the cache is and may get, and which registries it knows.

    Exit codes: 0 shown; 2 FRYS_CACHE_LIMIT is wrong.
    """
    from ..registry.cache import count_of, size_of
    from ..registry.client import open_cache, require_installed

    require_installed()
    from ..registry.known import known_in

    cache = open_cache()
    count, packages, found = count_of(cache.packages), size_of(cache.packages), known_in(cache)
    whole = packages + size_of(cache.registries)
    if json:
        registries = [
            one._asdict() | {"expires": {role: _iso(when) for role, when in one.expires.items()}}
            for one in found
        ]
        facts = {"folder": str(cache.folder), "limit": cache.limit, "bytes": whole}
        print_json(facts | {"packages": {"count": count, "bytes": packages}, "registries": registries})
        return
    console = stdout()
    say = f"{cache.folder}: {size(whole)} of {size(cache.limit)}; packages: {count}, {size(packages)}"
    console.print(printable(say), markup=False, soft_wrap=True)
    if not found:
        return
    shown = table("registry", "root", "seen until", "plugins", "size", numbers=["plugins", "size"])
    for one in found:
        until = f"{min(one.expires.values()):%Y-%m-%d %H:%M}" if one.expires else "-"
        shown.add_row(
            printable(one.url), f"{one.root_version} ({one.how})", until, str(one.lists), size(one.bytes)
        )
    console.print()
    console.print(shown)


@group.command()
def clear(
    *,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Only what was not used for the longest time, until it has 500MiB, say."
        ),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Also metadata and remembered roots: what this machine has seen is forgotten."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Delete packages from the cache, and lists of versions of plugins that are not installed.

    What another process works with just now stays, and so does what is needed to go on offline with what
    is installed. After --all, a registry's root has to be named again, and what it showed before is
    forgotten, so that it could go back to an older state unnoticed.

    Exit codes: 0 done; 2 wrong words.
    """
    from ..registry.cache import clear as clear_cache, read_limit, trim
    from ..registry.client import open_cache

    if to is not None and everything:
        raise UsageError("--to keeps what was used last, and --all nothing; choose one")
    cache = open_cache()
    if to is not None:
        freed = trim(cache, limit=read_limit(to, "--to"))
    else:
        freed = clear_cache(cache, everything=everything)
    if json:
        print_json({"folder": str(cache.folder)} | freed._asdict())
        return
    busy = f"; {freed.busy} in use, which stay" if freed.busy else ""
    say = f"{cache.folder}: {size(freed.bytes)} deleted, {size(freed.left)} left{busy}"
    stdout().print(printable(say), markup=False, soft_wrap=True)


def _iso(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
