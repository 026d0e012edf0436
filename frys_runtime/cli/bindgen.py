"""`frys bindgen`: typed code that calls a plugin, from what the plugin declares."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from ..bindgen import Language, generate
from ..config import IsolationLevel
from ..interfaces import Interface
from ..loader import PluginLoader
from ..manager import PluginManager
from ..metadata import Format, Metadata
from ..wit import offered
from .exits import UsageError
from .options import Isolation, PluginPath, PolicyPath


def command(
    plugin: PluginPath,
    *,
    lang: Annotated[Language, typer.Option("--lang", "-l", help="What to write.")] = Language.PYTHON,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; by default to stdout.")
    ] = None,
    from_wit: Annotated[
        bool, typer.Option("--from-wit", help="What a component exports, whatever its plugin.json says.")
    ] = False,
    isolation: Isolation = None,
    policy: PolicyPath = None,
) -> None:
    """Write typed code that calls a plugin: a class or a header, from `exports`, `types` and `events`.

    `python` is for a host program; `python-plugin`, `javascript` and `c` are for another plugin; `json` are
    the keys for a plugin.json. A component that declares nothing is loaded in a jail for the types that it
    exports; nothing else of a plugin is run.

    Exit codes: 0 written; 2 wrong usage, or nothing is declared; else those of `frys run`.
    """
    with PluginLoader().load(plugin) as bundle:
        metadata = bundle.metadata
    interface = offered(metadata, {}, "plugin.json")
    if metadata.format == Format.WASM and (from_wit or not metadata.exports):
        interface = asyncio.run(_exported(plugin, metadata, isolation, policy))
    if not interface.functions and not interface.events:
        raise UsageError(
            f"{plugin} offers nothing to others: its plugin.json has neither exports nor events.publishes"
        )
    code = generate(lang, metadata.id, metadata.version, interface)
    if output is None:
        print(code, end="")
        return
    try:
        output.write_text(code)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from None


async def _exported(
    plugin: str, metadata: Metadata, isolation: IsolationLevel | None, policy: Path | None
) -> Interface:
    bare = replace(metadata, exports={}, dependencies=())
    async with PluginManager(isolation=isolation, policy=policy, spares=0) as manager:
        loaded = manager.plugin(await manager.load_plugin(plugin, metadata=bare))
        return offered(bare, loaded.functions, loaded.id)
