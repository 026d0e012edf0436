"""`frys install`: plugins from registries, exactly as frys.lock says."""

import asyncio
from typing import Annotated

import typer

from .exits import UsageError
from .market import Market, Yes, tell_changes, with_market
from .options import PolicyPath
from .registries import Display, Json, Offline


@with_market
def command(
    plugins: Annotated[
        list[str] | None,
        typer.Argument(metavar="PLUGIN", help="ID, ID@RANGE, or oci://host/name:tag. None: what is locked."),
    ] = None,
    *,
    locked: Annotated[
        bool, typer.Option("--locked", help="Take what is locked and nothing else; refuse any difference.")
    ] = False,
    market: Market,
    policy: PolicyPath = None,
    yes: Yes = False,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Install plugins and what they need, each verified from the registry's root to its last byte.

    What is installed already stays as it is, as far as that fits; frys.lock says what that is. The policy's
    signatures are asked for now, and again whenever a plugin is loaded.

    Exit codes: 0 installed; 2 wrong words, or something is asked for that was not approved; 5 no versions fit
    together, or signatures are missing; 7 a registry does not answer, or must not be believed.
    """
    display = Display(quiet=json)
    with display.of(f"installing {', '.join(plugins or ['what is locked'])}"):
        opened = market.open(display, policy=policy, yes=yes, offline=offline)
        found = []
        for word in plugins or [""]:
            name, _, version = (word, "", "") if word.startswith("oci://") else word.partition("@")
            if word and not name:
                raise UsageError(f"{word!r} names no plugin; write ID, or ID@RANGE")
            found += asyncio.run(opened.install(name, version or None, locked=locked))
    tell_changes(found, market.folder, json=json)
