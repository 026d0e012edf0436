"""`frys install`: plugins from registries, exactly as frys.lock says."""

import asyncio
from typing import Annotated

import typer

from .exits import UsageError
from .options import PolicyPath
from .registries import (
    DEFAULT_FOLDER,
    Display,
    FirstRoot,
    Folder,
    Json,
    MinAge,
    Mirrors,
    Offline,
    RegistryUrl,
    Root,
    Yes,
    open_market,
    open_registries,
    tell_changes,
)


def command(
    plugins: Annotated[
        list[str] | None,
        typer.Argument(metavar="PLUGIN", help="ID, ID@RANGE, or oci://host/name:tag. None: what is locked."),
    ] = None,
    *,
    locked: Annotated[
        bool, typer.Option("--locked", help="Take what is locked and nothing else; refuse any difference.")
    ] = False,
    folder: Folder = DEFAULT_FOLDER,
    registry: RegistryUrl = None,
    mirror: Mirrors = None,
    root: Root = None,
    first_root: FirstRoot = False,
    policy: PolicyPath = None,
    min_age: MinAge = "0",
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
        registries = open_registries(
            registry, mirror, root, first_root=first_root, offline=offline, display=display
        )
        market = open_market(registries, folder, display, policy=policy, min_age=min_age, yes=yes)
        found = []
        for word in plugins or [""]:
            name, _, version = (word, "", "") if word.startswith("oci://") else word.partition("@")
            if word and not name:
                raise UsageError(f"{word!r} names no plugin; write ID, or ID@RANGE")
            found += asyncio.run(market.install(name, version or None, locked=locked))
    tell_changes(found, folder, json=json)
