"""`frys outdated`: of which installed plugins there is something newer."""

import asyncio
from dataclasses import asdict

from .market import Market, running, with_market
from .options import BusFolder
from .registries import Display, Json
from .terminal import print_json, printable, stdout, table


@with_market
def command(
    *,
    market: Market,
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
        found = asyncio.run(market.open(display).outdated())
    runs = asyncio.run(running(bus))
    if json:
        listed = [{**asdict(one), "runs": runs.get(one.plugin, {})} for one in found]
        print_json({"folder": str(market.folder), "outdated": listed})
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
