"""`frys policy`: what a policy says, whether it is sound, what it means for a plugin, and what one needs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from ..config import IsolationLevel
from ..errors import ConfigError
from ..isolation import IsolationManager, Setting
from ..loader import PluginLoader
from ..policy import PolicyFile, level_file, load_policy, settings
from ..policy_check import Difference, Finding, diff as differences, lint
from ..policy_supervision import said as said_of_supervision
from ..policy_terms import quantity
from ..policy_updates import READERS as UPDATES, said as said_of_updates
from .exits import Exit, tell
from .policy_explain import explain, said_by_name
from .policy_learn import learn
from .terminal import print_json, printable, stdout, table

group = typer.Typer(
    help="Show, check, explain and compare policies, and learn the smallest one that a plugin needs.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
group.command()(explain)
group.command()(learn)

_Level = Annotated[
    IsolationLevel | None, typer.Option("--isolation", "-i", help="The level; maximum by default.")
]
_Policy = Annotated[
    Path | None, typer.Option("--policy", "-p", metavar="FILE", help="A policy, instead of a level.")
]
_Calls = Annotated[bool, typer.Option("--calls", help="Name every system call of the lists.")]
_Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]

_BY_LEVEL: Final = "the level and the grants"


@group.command()
def show(
    plugin: Annotated[
        str | None, typer.Argument(help="A plugin, whose own policy is shown; that of all by default.")
    ] = None,
    *,
    isolation: _Level = None,
    policy: _Policy = None,
    calls: _Calls = False,
    json: _Json = False,
) -> None:
    """Show the policy that holds, and who decided each value: a file with a line, or plugin.json.

    No code of the plugin runs.
    """
    manager = IsolationManager(policy=policy, level=isolation)
    if plugin is None:
        about, found = "", _general(manager.file)
    else:
        with PluginLoader().load(plugin) as bundle:
            about, found = bundle.metadata.id, manager.explain(bundle.metadata)
            kind = bundle.metadata.format
        found = [one for one in found if not _is_list(one.key) or one.key.split(".")[1] == kind]
    if json:
        print_json(
            {"policy": manager.file.name, "plugin": plugin, "settings": [_as_json(one) for one in found]}
        )
        return
    section = manager.file.section(about) if about else ""
    by = f", section {section}" if section else ""
    title = f"{manager.file.name}{by}, for {about or 'every plugin that has no section of its own'}"
    console = stdout()
    console.print(Text(printable(title)), soft_wrap=True)
    rows = table("key", "value", "decided by")
    for one in found:
        value = said(one.key, one.value, whole=calls)
        rows.add_row(*(Text(printable(word)) for word in (one.key, value, one.origin or _BY_LEVEL)))
    console.print(rows)
    if not about and manager.file.sections:
        names = ", ".join(manager.file.sections)
        console.print(Text(f"Sections of their own: {names}; name a plugin to see its."), soft_wrap=True)


def _general(file: PolicyFile) -> list[Setting]:
    origins = file.origins()
    return [Setting(key, value, origins.get(key, "")) for key, value in settings(file.policy()).items()]


def _is_list(key: str) -> bool:
    """A resolved list of system calls, such as ``syscalls.native.serve``; changes have longer keys."""
    return key.startswith("syscalls.") and key.count(".") == 2


def _as_json(one: Setting) -> dict[str, Any]:
    return {"key": one.key, "value": plain(one.value), "origin": one.origin}


def plain(value: Any) -> Any:
    """A setting's value for JSON."""
    return msgspec.to_builtins(sorted(value) if isinstance(value, frozenset) else value)


def said(key: str, value: Any, *, whole: bool = True) -> str:
    """A setting's value in the words of a policy file."""
    if key.startswith("limits."):
        return quantity(key, value)
    if key.startswith("supervision."):
        return said_of_supervision(key.partition(".")[2], value)
    if key in UPDATES:
        return said_of_updates(key, value)
    if key.startswith("config.") and value is not None:
        return msgspec.json.encode(value).decode()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset | tuple | list):
        items = sorted(value) if isinstance(value, frozenset) else value
        if _is_list(key) and items and not whole:
            return f"{len(items)} system call{'s' * (len(items) != 1)}"
        return ", ".join(map(str, items)) or "none"
    if isinstance(value, dict):
        return said_by_name(value)
    return "-" if value is None else str(value)


@group.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy file.")], *, json: _Json = False
) -> None:
    """Read a policy file strictly, and say what in it is too wide, contradictory or without effect.

    Exit codes: 0 nothing to say, 1 findings, 2 it cannot be read, or something in it is wrong or unknown.
    """
    try:
        found = lint(load_policy(file))
    except ConfigError as error:
        if not json:
            raise
        print_json({"ok": False, "error": str(error), "findings": []})
        raise typer.Exit(tell(error)) from error
    if json:
        print_json({"ok": not found, "error": None, "findings": [one._asdict() for one in found]})
    else:
        _print_findings(file, found)
    raise typer.Exit(Exit.FAILED if found else Exit.OK)


def _print_findings(file: Path, found: Iterable[Finding]) -> None:
    console = stdout()
    for one in found:
        console.print(Text.assemble((one.kind, "bold yellow"), printable(f": {one.where}")), soft_wrap=True)
        console.print(Text(printable(f"    {one.key} {one.text}")), soft_wrap=True)
    if not found:
        console.print(Text(printable(f"{file}: nothing too wide, contradictory or without effect")))


@group.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A policy file, or a level.")],
    two: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    *,
    calls: _Calls = False,
    json: _Json = False,
) -> None:
    """Show every key in which two policies differ; of a list, what only one of them has.

    Exit codes: 0 they say the same, 1 they differ, 2 one of them cannot be read.
    """
    found = _all_differences(_named(one), _named(two))
    if json:
        print_json(
            [{"key": row.key, "before": plain(row.before), "after": plain(row.after)} for row in found]
        )
    elif found:
        rows = table("key", one, two)
        for row in found:
            key = row.key.rpartition(": ")[2]
            sides = [said(key, side, whole=calls) for side in (row.before, row.after)]
            rows.add_row(*(Text(printable(word)) for word in (row.key, *sides)))
        stdout().print(rows)
    else:
        stdout().print("They say the same.")
    raise typer.Exit(Exit.FAILED if found else Exit.OK)


def _named(word: str) -> PolicyFile:
    return level_file(IsolationLevel(word)) if word in tuple(IsolationLevel) else load_policy(word)


def _all_differences(one: PolicyFile, two: PolicyFile) -> list[Difference]:
    """Those for all plugins, and those of sections where they are others."""
    general = differences(one.policy_of(""), two.policy_of(""))
    found = list(general)
    for section in dict.fromkeys((*one.sections, *two.sections)):
        ours, theirs = (file.policy_of(section if section in file.sections else "") for file in (one, two))
        found += [
            row._replace(key=f"{section}: {row.key}")
            for row in differences(ours, theirs)
            if row not in general
        ]
    return found
