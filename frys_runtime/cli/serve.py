"""`frys serve`: run plugins where others can call them."""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..bus.config import BusConfig
from ..daemon import Serving, Settings, serve
from ..metadata import is_id
from .exits import UsageError
from .market import DEFAULT_FOLDER, Folder
from .options import AsJson, BusFolder, Isolation, PluginPaths, PolicyPath
from .registries import RegistryUrl, Root, open_registries
from .terminal import printable, show_log

if TYPE_CHECKING:
    from ..marketplace.market import PluginMarketplace


def command(
    plugins: Annotated[
        list[str] | None, typer.Argument(help="Plugins; ID=PLUGIN loads one under another id.")
    ] = None,
    *,
    policy: PolicyPath = None,
    isolation: Isolation = None,
    bus: BusFolder = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="Keeps what the plugins store.")
    ] = None,
    plugin_path: PluginPaths = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Load again what ran when it last ended; needs --state.")
    ] = False,
    hot_reload: Annotated[
        bool, typer.Option("--hot-reload", help="Reload a plugin when its files are saved.")
    ] = False,
    drain: Annotated[
        int,
        typer.Option("--drain", metavar="MS", min=0, help="How long calls may end after the first signal."),
    ] = 0,
    audit: Annotated[
        Path | None, typer.Option("--audit", metavar="FILE", help="Write an audit log; docs/audit.md.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="[HOST:]PORT", help="Show metrics to Prometheus; 127.0.0.1:PORT."),
    ] = None,
    no_control: Annotated[
        bool, typer.Option("--no-control", help="Let nobody reload, load or unload plugins over the bus.")
    ] = False,
    registry: RegistryUrl = None,
    root: Root = None,
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Run plugins until SIGTERM or SIGINT, and let others call them over the message bus.

    Once all of them run, one line on stdout says so, and systemd is told (Type=notify). `frys ps` shows them,
    `frys call` calls them, `frys reload` replaces them, and the plugins of other supervisors in the same
    folder reach them as far as their policies grant it.

    With --drain, the first signal lets the calls under way end and takes no new ones; a second one ends them.
    With --restore, a plugin that is remembered is loaded as it was, also if it is named here.

    With --registry, ID@RANGE is installed in --dir if it is not there, and updated as its policy says.

    Exit codes: 0 ended by a signal; 2 wrong usage, policy or plugin.json; 5 a plugin cannot be loaded;
    6 this machine cannot build the jail, or the folder or the address for metrics cannot be had; 7 a registry
    does not answer, or must not be believed.
    """
    if not plugins and not restore:
        raise UsageError("name a plugin, or --restore what ran when it last ended")
    if restore and state is None:
        raise UsageError("--restore needs a folder to remember in: --state DIR")
    settings = Settings(
        bus=BusConfig(folder=bus, control=not no_control),
        policy=policy,
        isolation=isolation,
        state_dir=state,
        plugin_paths=plugin_path or (),
        hot_reload=hot_reload,
        restore=restore,
        audit=audit,
        metrics=_address(metrics) if metrics is not None else None,
        drain_ms=drain,
        registry=_market(registry, root, folder, policy) if registry else None,
    )
    show_log()
    tell = _tell_a_program if as_json else _tell_a_person
    asyncio.run(serve([_named(word) for word in plugins or ()], settings, tell))


def _market(urls: list[str], root: str | None, folder: Path, policy: Path | None) -> "PluginMarketplace":
    registries = open_registries(urls, None, root)
    from ..marketplace.market import PluginMarketplace

    return PluginMarketplace(registries, folder, policy=policy)


def _tell_a_program(serving: Serving) -> None:
    facts = {"name": serving.name, "folder": serving.folder, "plugins": serving.plugins}
    if serving.metrics:
        facts["metrics"] = serving.metrics
    print(json.dumps(facts), flush=True)


def _tell_a_person(serving: Serving) -> None:
    what = ", ".join(serving.plugins) or "no plugin yet"
    print(printable(f"serving {what} in {serving.folder}"), flush=True)
    more = f"metrics at {serving.metrics}; " if serving.metrics else ""
    print(f"{more}ends with Ctrl-C or SIGTERM", file=sys.stderr)


def _named(word: str) -> tuple[str | None, str]:
    plugin_id, sign, path = word.partition("=")
    return (plugin_id, path) if sign and is_id(plugin_id) else (None, word)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--metrics {text}: it must be PORT or HOST:PORT, such as 9464 or 10.0.0.5:9464")
    return host.strip("[]") or "127.0.0.1", int(port)
