"""`frys outdated`: of which installed plugins there is something newer."""

import asyncio
from dataclasses import asdict

from .options import BusFolder
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
    open_market,
    open_registries,
    running,
)
from .terminal import print_json, printable, stdout, table


def command(
    *,
    folder: Folder = DEFAULT_FOLDER,
    registry: RegistryUrl = None,
    mirror: Mirrors = None,
    root: Root = None,
    first_root: FirstRoot = False,
    min_age: MinAge = "0",
    bus: BusFolder = None,
    json: Json = False,
) -> None:
    """List installed plugins that have newer versions, are yanked, or are not kept up any more.

    What supervisors (`frys serve`) run of them is shown, too: that is what counts, until they reload.

    Exit codes: 0 told, also when there is something newer; 2 wrong words; 7 a registry does not answer,
    or must not be believed.
    """
    display = Display(quiet=json)
    with display.of("looking for newer versions"):
        registries = open_registries(registry, mirror, root, first_root=first_root, display=display)
        found = asyncio.run(open_market(registries, folder, display, min_age=min_age).outdated())
    runs = asyncio.run(running(bus))
    if json:
        listed = [{**asdict(one), "runs": runs.get(one.plugin, {})} for one in found]
        print_json({"folder": str(folder), "outdated": listed})
        return
    shown = table("plugin", "installed", "runs", "in range", "latest", "note")
    for one in found:
        notes = []
        if one.yanked is not None:
            notes.append(f"yanked: {one.yanked}" if one.yanked else "yanked")
        if one.deprecated is not None:
            notes.append(f"not kept up: {one.deprecated}")
        runs_now = ", ".join(runs.get(one.plugin, ())) or "-"
        cells = (one.plugin, one.version, runs_now, one.compatible, one.latest, "; ".join(notes))
        shown.add_row(*map(printable, cells))
    stdout().print(shown)
