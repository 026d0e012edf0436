"""`frys run`: load a plugin, call one function, print what it returns."""

import asyncio
import sys
import time
from typing import Annotated, Any

import typer

from ..config import SandboxConfig
from ..manager import PluginManager
from ..messages import MessageValue
from ..plugin import Plugin
from .arguments import argument, parse_size
from .exits import UsageError
from .options import Isolation, PluginPath, PluginPaths, PolicyPath, Timeout, search_paths
from .terminal import milliseconds, print_value, show_log, size


def command(
    plugin: PluginPath,
    function: Annotated[str, typer.Argument(help="A function; `frys inspect` lists them.")],
    args: Annotated[list[str] | None, typer.Argument(help="What to call it with.")] = None,
    *,
    isolation: Isolation = None,
    policy: PolicyPath = None,
    timeout: Timeout = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", "-m", metavar="SIZE", help="Less memory than the policy's: 64M, 1G."),
    ] = None,
    plugin_path: PluginPaths = None,
    stats: Annotated[bool, typer.Option("--stats", "-s", help="Print times and memory to stderr.")] = False,
) -> None:
    """Call a function of a plugin and print what it returns.

    An argument is text. Another value has a prefix: `int:42`, `float:1.5`, `bytes:TEXT`, `json:VALUE`; and
    `str:TEXT` is for text that begins like one of these. `@FILE` is the bytes of a file, `-` those of stdin.

    Bytes are printed as they are, text with a line end, anything else as JSON (bytes in it as
    `{"base64": ...}`). On a terminal, control characters are shown as escapes. What the plugin itself
    prints goes to stderr.

    Plugins that it depends on are looked up in the folders of --plugin-path, and beside it.

    Exit codes: 0 done; 1 the function failed; 2 wrong usage, policy or plugin.json; 3 stopped by a limit or
    its deadline; 4 killed for a forbidden act; 5 the plugin cannot be loaded; 6 this machine cannot build
    the jail.
    """
    values = [argument(word) for word in args or ()]
    limits = SandboxConfig(max_memory=parse_size(memory)) if memory else None
    show_log()
    settings = {
        "isolation": isolation,
        "policy": policy,
        "plugin_paths": search_paths(plugin, plugin_path),
    }
    result = asyncio.run(_run(plugin, function, values, settings, timeout, limits, stats=stats))
    print_value(result)


async def _run(
    path: str,
    function: str,
    args: list[MessageValue],
    settings: dict[str, Any],
    timeout_ms: int | None,
    limits: SandboxConfig | None,
    *,
    stats: bool,
) -> MessageValue:
    async with PluginManager(**settings, spares=0) as manager:
        plugin = manager.plugin(await manager.load_plugin(path, sandbox=limits))
        load_ms, began = plugin.load_ms, time.perf_counter()
        try:
            return await plugin.call(function, *args, timeout_ms=timeout_ms)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error
        finally:
            if stats:
                _print_stats(plugin, load_ms, (time.perf_counter() - began) * 1000)


def _print_stats(plugin: Plugin, load_ms: float, call_ms: float) -> None:
    usage = plugin.resource_usage()
    figures = f"load {milliseconds(load_ms)} ms, launcher included; call {milliseconds(call_ms)} ms"
    if usage.memory_usage:
        figures += f"; memory {size(usage.memory_private)} private, {size(usage.memory_usage)} charged"
    print(figures, file=sys.stderr)
