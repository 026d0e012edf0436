"""`frys inspect`: what a plugin is and says of itself, and what it offers once it is loaded in a jail."""

import asyncio
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from ..config import IsolationLevel
from ..errors import PluginError
from ..isolation import IsolationManager
from ..loader import PluginLoader
from ..manager import PluginManager
from ..metadata import Format, Metadata
from ..wit import offered
from .exits import Exit, code_of, tell
from .options import Isolation, NoLoad, PluginPath, PolicyPath
from .terminal import FORMATS, milliseconds, print_json, printable, size, stdout, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..policy_terms import Limits

_SHOWN_FILES: Final = 12
_SHOWN_IMPORTS: Final = 40
_INSPECT: Final = "inspect"  # the option and the function of launchers/wasm_inspect.py


@dataclass(frozen=True, slots=True)
class File:
    """One file of a plugin."""

    path: str
    size: int
    sha256: str


class Entity(msgspec.Struct, frozen=True):
    """An import or export of a module; ``provided`` tells whether Frys serves the import."""

    name: str
    type: str
    module: str = ""
    provided: bool = True


class Pages(msgspec.Struct, frozen=True):
    """Bytes of a memory; ``maximum`` is None for no limit of its own."""

    initial: int
    maximum: int | None


class Module(msgspec.Struct, frozen=True):
    """What launchers/wasm_inspect.py tells of a module; ``abi`` is None for none that Frys knows."""

    abi: str | None
    imports: tuple[Entity, ...]
    exports: tuple[Entity, ...]
    memories: dict[str, Pages]


@dataclass(slots=True)
class Inspection:
    """What was found; the second half stays empty when the plugin was not loaded.

    Attributes:
        metadata: What the plugin says of itself.
        files: Its files.
        level: The level whose limits are shown, and at which it was loaded.
        limits: The limits that would hold.
        functions: Its functions with signatures, in its own words.
        offered: Those that other plugins may call, where a policy lets them, with their types.
        layers: The layers of the jail that it was loaded in.
        load_ms: Milliseconds of the load, the launcher's start included.
        memory: Bytes that only its process held.
        error: Why it could not be loaded.
        module: What a WebAssembly module is made of; also there when it was refused, but could be compiled.
        package: The SHA-256 of the package that it is; empty for another kind of file.
    """

    metadata: Metadata
    files: list[File]
    level: IsolationLevel
    limits: "Limits"
    functions: dict[str, str] = field(default_factory=dict)
    offered: dict[str, str] = field(default_factory=dict)
    layers: frozenset[str] = frozenset()
    load_ms: float = 0.0
    memory: int = 0
    error: PluginError | None = None
    module: Module | None = None
    package: str = ""


def command(
    plugin: PluginPath,
    *,
    isolation: Isolation = None,
    policy: PolicyPath = None,
    no_load: NoLoad = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what a plugin is: what it says of itself, its files, its limits, its functions.

    The functions come from loading it in a jail; nothing of it ever runs outside of one. Everything that it
    says of itself is its own claim. Exit codes are those of `frys run`.
    """
    found = look(plugin, isolation, policy)
    if not no_load:
        asyncio.run(_load(plugin, found, isolation, policy))
    if json:
        print_json(_as_json(plugin, found))
    else:
        _print(plugin, found, stdout(), loaded=not no_load)
    if found.error is not None:
        raise typer.Exit(code_of(found.error) if json else tell(found.error))
    raise typer.Exit(Exit.OK)


def look(plugin: str, isolation: IsolationLevel | None, policy: Path | None) -> Inspection:
    """Read a plugin's files and metadata without running any of its code.

    Raises:
        PluginError: It is no plugin, or the policy is wrong.
    """
    with PluginLoader().load(plugin) as bundle:
        files = [File(file.path, file.size, bundle.digests[file.path]) for file in bundle.files]
        package = bundle.package.digest if bundle.package is not None else ""
    given = IsolationManager(policy=policy, level=isolation).policy(bundle.metadata)
    return Inspection(bundle.metadata, files, given.level, given.limits, package=package)


async def _load(
    plugin: str, found: Inspection, isolation: IsolationLevel | None, policy: Path | None
) -> None:
    async with PluginManager(isolation=isolation, policy=policy, spares=0) as manager:
        if found.metadata.format == Format.WASM:
            found.module = await _take_apart(manager, plugin, found.metadata)
        about = found.metadata
        # What it depends on is not there; what it is made of can be seen all the same.
        alone = msgspec.structs.replace(about, dependencies=()) if about.dependencies else None
        try:
            loaded = manager.plugin(await manager.load_plugin(plugin, metadata=alone))
        except PluginError as error:
            found.error = error
            return
        found.functions, found.layers = loaded.functions, loaded.layers
        interface = offered(loaded.metadata, loaded.functions, loaded.id)
        found.offered = {name: str(function) for name, function in interface.functions.items()}
        found.load_ms, found.memory = loaded.load_ms, loaded.resource_usage().memory_private


async def _take_apart(manager: PluginManager, plugin: str, metadata: Metadata) -> Module | None:
    """Ask the engine in a jail what a module is made of; ``None`` if it is none, which loading will tell."""
    asking = Metadata(
        id=_INSPECT, version="0.0.0", format=Format.WASM, entry=metadata.entry, options={_INSPECT: True}
    )
    try:
        plugin_id = await manager.load_plugin(plugin, metadata=asking)
        facts = await manager.execute_plugin(plugin_id, _INSPECT)
        await manager.unload_plugin(plugin_id)
        return msgspec.convert(facts, Module)
    except (PluginError, msgspec.ValidationError):
        return None


def _print(plugin: str, found: Inspection, console: "Console", *, loaded: bool) -> None:
    about = found.metadata
    console.print(Text(f"{printable(plugin)}: a {FORMATS[about.format]} plugin\n"), soft_wrap=True)
    console.print(_claims_table(about))
    console.print()
    if found.package:
        console.print(f"A package with the SHA-256 {found.package}\n", soft_wrap=True)
    if found.files:
        console.print(_files_table(found.files))
        if len(found.files) > _SHOWN_FILES:
            console.print(f"... and {len(found.files) - _SHOWN_FILES} more; --json lists all")
        console.print()
    console.print(_limits_line(found))
    if found.module is not None:
        console.print()
        _print_module(found.module, console)
    if not loaded or found.error is not None:
        return
    console.print()
    console.print(_functions_table("function", "as it describes it", found.functions))
    if found.offered:
        console.print()
        console.print(_functions_table("offered to plugins", "its types", found.offered))
    console.print(
        f"\nLoaded at level {found.level} in {milliseconds(found.load_ms)} ms, its launcher's start "
        f"included; {size(found.memory)} of memory are its own; {len(found.layers)} layers hold it."
    )


def _claims_table(about: Metadata) -> "Table":
    claims = {
        "id": about.id,
        "version": about.version,
        "name": about.name,
        "description": about.description,
        "author": about.author,
        "license": about.license,
        "entry": about.entry or str(about.options.get("library", "")),
        "capabilities": ", ".join(about.capabilities),
        "asks for": ", ".join(sorted(about.permissions)) or "no permission",
        "needs": ", ".join(f"{other.plugin_id} {other.version_range}" for other in about.dependencies),
        "publishes": ", ".join(about.events.publishes),
        "subscribes to": ", ".join(about.events.subscribes),
    }
    rows = table("it says", "")
    for name, claim in claims.items():
        if claim:
            rows.add_row(name, Text(printable(claim)))
    return rows


def _files_table(files: list[File]) -> "Table":
    rows = table("file", "size and SHA-256")
    for file in files[:_SHOWN_FILES]:
        rows.add_row(Text(printable(file.path)), f"{size(file.size)}\n{file.sha256}")
    return rows


def _limits_line(found: Inspection) -> str:
    limits = found.limits
    tasks = f"{limits.tasks} processes and threads" if limits.tasks > 1 else "no further process or thread"
    return (
        f"Limits at level {found.level}: {size(limits.memory)} memory; {limits.cpu_time} ms of CPU and "
        f"{limits.execution_time} ms a call; {tasks}; "
        f"{size(limits.output)} a result. A permission asks; only a policy grants."
    )


def _print_module(module: Module, console: "Console") -> None:
    abi = printable(module.abi) if module.abi else "none that Frys knows"
    console.print(Text(f"ABI: {abi}; {len(module.exports)} exports, {len(module.imports)} imports"))
    for name, pages in module.memories.items():
        most = f"at most {size(pages.maximum)}" if pages.maximum is not None else "no limit of its own"
        console.print(Text(f"Memory {printable(name)}: {size(pages.initial)} at the start, {most}"))
    imports = module.imports
    if not imports:
        return
    rows = table("import", "provided, and its type")
    for item in imports[:_SHOWN_IMPORTS]:
        answer = "yes" if item.provided else "no "
        wanted = Text(printable(f"{item.module}.{item.name}" if item.name else item.module))
        rows.add_row(wanted, Text(printable(f"{answer} {item.type}")))
    console.print(rows)
    if len(imports) > _SHOWN_IMPORTS:
        console.print(f"... and {len(imports) - _SHOWN_IMPORTS} more; --json lists all")


def _functions_table(first: str, second: str, functions: dict[str, str]) -> "Table":
    rows = table(first, second)
    for name, signature in sorted(functions.items()):
        rows.add_row(Text(printable(name)), Text(printable(signature)))
    return rows


def _as_json(plugin: str, found: Inspection) -> dict[str, Any]:
    error = found.error
    return {
        "path": plugin,
        "metadata": msgspec.to_builtins(found.metadata),
        "files": [asdict(file) for file in found.files],
        "package": {"sha256": found.package} if found.package else None,
        "level": found.level,
        "limits": msgspec.to_builtins(found.limits),
        "functions": found.functions,
        "offered": found.offered,
        "layers": sorted(found.layers),
        "loadMs": found.load_ms,
        "memoryPrivate": found.memory,
        "module": msgspec.to_builtins(found.module),
        "error": {"kind": type(error).__name__, "message": str(error)} if error else None,
    }
