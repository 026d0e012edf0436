"""Options and arguments that several commands share, so that they mean the same everywhere."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ..config import IsolationLevel

PluginPath = Annotated[str, typer.Argument(help="A file, a folder with plugin.json, or a package (.frys).")]
Isolation = Annotated[
    IsolationLevel | None, typer.Option("--isolation", "-i", help="The level; maximum by default.")
]
PolicyPath = Annotated[
    Path | None, typer.Option("--policy", "-p", metavar="FILE", help="A policy, instead of a level.")
]
PluginPaths = Annotated[
    list[Path] | None,
    typer.Option("--plugin-path", metavar="DIR", help="Where names, and what plugins depend on, are found."),
]
Timeout = Annotated[
    int | None,
    typer.Option("--timeout", "-t", metavar="MS", min=1, help="A tighter deadline than the policy's."),
]
NoLoad = Annotated[
    bool, typer.Option("--no-load", help="Only what can be told without running any of its code.")
]
BusFolder = Annotated[
    Path | None,
    typer.Option("--bus", metavar="DIR", help="Where supervisors meet: /run/frys, or $XDG_RUNTIME_DIR/frys."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print facts for a program.")]
Count = Annotated[int | None, typer.Option("--count", "-n", metavar="N", min=1, help="End after so many.")]
RunningPlugin = Annotated[
    str, typer.Argument(metavar="ID", help="The plugin; with versions behind @ if that matters: tax@^1.2.")
]
OneSupervisor = Annotated[
    str | None,
    typer.Option("--supervisor", metavar="NAME", help="Only this one, by its name or process (`frys ps`)."),
]
Force = Annotated[bool, typer.Option("--force", help="Also when a plugin that depends on it would break.")]


def search_paths(plugin: str | Path, named: list[Path] | None) -> list[Path]:
    """Where a plugin's dependencies are looked up: where a person says, and then beside it.

    A plugin that is no path here is a name to be looked up itself, and only where a person says.
    """
    beside = [Path(os.path.abspath(plugin)).parent] if os.path.lexists(plugin) else []
    return [*(named or ()), *beside]
