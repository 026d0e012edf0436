"""`frys serve`: run plugins where others can call them."""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..bus.config import BusConfig
from ..config import IsolationLevel
from ..daemon import Serving, serve
from ..metadata import is_id
from .options import AsJson, BusFolder, Isolation, PolicyPath
from .registries import DEFAULT_FOLDER, Folder, RegistryUrl, Root, open_registries
from .terminal import printable, show_log

if TYPE_CHECKING:
    from ..marketplace.market import PluginMarketplace


def command(
    plugins: Annotated[list[str], typer.Argument(help="Plugins; ID=PLUGIN loads one under another id.")],
    *,
    policy: PolicyPath = None,
    isolation: Isolation = None,
    bus: BusFolder = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="Keeps what the plugins store.")
    ] = None,
    registry: RegistryUrl = None,
    root: Root = None,
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Run plugins until SIGTERM or SIGINT, and let others call them over the message bus.

    Once all of them run, one line on stdout says so. `frys ps` shows them, `frys call` calls them, and the
    plugins of other supervisors in the same folder reach them as far as their policies grant it.

    With --registry, ID@RANGE is installed in --dir if it is not there, and updated as its policy says.

    Exit codes: 0 ended by a signal; 2 wrong usage, policy or plugin.json; 5 a plugin cannot be loaded;
    6 this machine cannot build the jail, or the folder cannot be had; 7 a registry does not answer, or must
    not be believed.
    """
    show_log()
    market = _market(registry, root, folder, policy) if registry else None
    asyncio.run(_serve(plugins, policy, isolation, bus, state, market, as_json=as_json))


def _market(urls: list[str], root: str | None, folder: Path, policy: Path | None) -> "PluginMarketplace":
    registries = open_registries(urls, None, root)
    from ..marketplace.market import PluginMarketplace

    return PluginMarketplace(registries, folder, policy=policy)


async def _serve(
    plugins: list[str],
    policy: Path | None,
    isolation: IsolationLevel | None,
    bus: Path | None,
    state: Path | None,
    market: "PluginMarketplace | None",
    *,
    as_json: bool,
) -> None:
    def ready(serving: Serving) -> None:
        if as_json:
            facts = {"name": serving.name, "folder": serving.folder, "plugins": serving.plugins}
            print(json.dumps(facts), flush=True)
        else:
            print(printable(f"serving {', '.join(serving.plugins)} in {serving.folder}"), flush=True)
            print("ends with Ctrl-C or SIGTERM", file=sys.stderr)

    await serve(
        [_named(word) for word in plugins],
        bus=BusConfig(folder=bus),
        policy=policy,
        isolation=isolation,
        state_dir=state,
        registry=market,
        ready=ready,
    )


def _named(word: str) -> tuple[str | None, str]:
    plugin_id, sign, path = word.partition("=")
    return (plugin_id, path) if sign and is_id(plugin_id) else (None, word)
