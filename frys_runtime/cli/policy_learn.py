"""`frys policy learn`: run a plugin's workload, and write the smallest policy under which it passes."""

import asyncio
import json as jsons
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from .. import __version__
from ..config import IsolationLevel
from ..errors import PluginError
from ..manager import PluginManager
from ..policy import level_policy, load_policy
from ..policy_check import lint
from ..policy_terms import quantity
from .arguments import argument
from .exits import Exit, UsageError, WorkloadFailed, code_of, tell
from .learning import Call, Failed, Lesson, Need, learn as learn_calls
from .terminal import print_json, printable, stderr

_WARNING: Final = (
    "warning: while it is watched, every forbidden system call is let through. That is no jail for hostile "
    "code; its namespaces, Landlock, dropped rights and limits still hold."
)
_TOLD_FUNCTIONS: Final = 3


def learn(
    plugin: Annotated[str, typer.Argument(help="A file, or a folder with plugin.json.")],
    function: Annotated[str | None, typer.Argument(help="The function to call.")] = None,
    args: Annotated[list[str] | None, typer.Argument(help="What to call it with, as for `frys run`.")] = None,
    *,
    script: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Several calls instead: `FUNCTION ARG...` on each line."),
    ] = None,
    isolation: Annotated[
        IsolationLevel, typer.Option("--isolation", "-i", help="The level that the policy extends.")
    ] = IsolationLevel.MAXIMUM,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Instead of stdout.")
    ] = None,
    limits: Annotated[
        bool, typer.Option("--limits", help="Also set memory and times to what was used, with a margin.")
    ] = False,
    unfiltered: Annotated[
        bool, typer.Option("--yes-run-unfiltered", help="Needed at level maximum: see above.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Run a plugin's workload, and write the smallest policy under which it passes.

    The workload is watched with every forbidden system call let through, so do not do this with code that
    you take for hostile; at level maximum you have to say so. Then it runs again and again as in earnest,
    each time with fewer calls allowed, until none can be spared: it should be quick, give the same result
    each time, and show all that the plugin will have to do. At last the written policy is tried.

    What was refused without an announcement (a call that only loading may make, such as opening a file
    while serving, or one that is answered as by an older kernel) is found the same way: it is kept if the
    workload fails or gives another result without it. No system call opens files, network, threads or
    processes that the level does not give: those are granted by `read`, `network` and so on.

    Exit codes: 0 the plugin passes under the policy; 1 it does not, or its workload fails with every call
    let through; others as `frys run`.
    """
    workload = _workload(function, args or (), script)
    if isolation is IsolationLevel.MAXIMUM and not unfiltered:
        raise UsageError(
            "learning lets a plugin make every system call that its level forbids, and level maximum is for "
            "code that nobody trusts; --yes-run-unfiltered says that you accept this, or use --isolation high"
        )
    console = stderr()
    console.print(_WARNING, style="yellow", soft_wrap=True)
    with console.status("learning") as status:
        try:
            lesson = asyncio.run(learn_calls(plugin, isolation, workload, status.update))
        except Failed as failed:
            raise _explained(failed) from failed
    lower = _lower_limits(lesson, isolation) if limits else {}
    text = written(lesson, isolation, lower)
    error, findings = _verified(plugin, text, workload, lesson)
    if output is not None:
        _write(output, text)
    if json:
        print_json({**_as_json(lesson, isolation, lower), "policy": text, "verified": error is None,
                    "error": str(error) if error else None, "findings": findings})  # fmt: skip
    elif output is None:
        sys.stdout.write(text)
    for finding in findings:
        console.print(f"warning: {printable(finding)}", markup=False, soft_wrap=True)
    for name in lesson.unnameable:
        console.print(f"warning: no policy can allow {printable(name)}", markup=False, soft_wrap=True)
    if error is not None:
        console.print("The plugin does NOT pass under this policy:", style="bold red")
        tell(error)
        raise typer.Exit(Exit.FAILED)
    said = (
        f"Learned {_counted(len(lesson.needs), 'system call')}"
        if lesson.needs
        else f"Level {isolation} suffices"
    )
    console.print(f"{said} in {lesson.runs} runs; the plugin passes under this policy.", style="green")


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from error


def _workload(function: str | None, args: Iterable[str], script: Path | None) -> list[Call]:
    """What is to be called.

    Raises:
        UsageError: Neither or both are given, or the script cannot be read.
    """
    if (function is None) == (script is None):
        raise UsageError("name a function to call, or a file of calls with --script")
    if function is not None:
        return [Call(function, tuple(map(argument, args)))]
    assert script is not None
    try:
        lines = script.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{script} cannot be read: {error}") from error
    calls = []
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise UsageError(f"{script}, line {number}: {error}") from error
        if words:
            calls.append(Call(words[0], tuple(map(argument, words[1:]))))
    if not calls:
        raise UsageError(f"{script} has no calls; write FUNCTION ARG... on each line")
    return calls


def _explained(failed: Failed) -> Exception:
    error = failed.error
    if isinstance(error, TypeError | ValueError):
        return UsageError(str(error))
    if code_of(error) in (Exit.MACHINE, Exit.USAGE, Exit.NOT_LOADED):
        return error
    if failed.unfiltered:
        return WorkloadFailed(
            "the workload fails although every forbidden system call is let through, so it needs something "
            "else: a grant (read, write, network, threads, processes), a higher limit, a lower level, or a "
            f"repair. What it says: {error}"
        )
    return WorkloadFailed(
        "the workload fails although every system call that it made when it was watched is allowed, so it "
        f"does not do the same each time; give it one that does. What it says: {error}"
    )


def _lower_limits(lesson: Lesson, level: IsolationLevel) -> dict[str, tuple[int, str]]:
    """Limits with a margin over what was used, where they are lower than the level's, and what was used."""
    used, given = lesson.used, level_policy(level).limits
    cpu, wall = int(used.cpu_ms * 4), int(used.wall_ms * 10)
    wishes = {
        "memory": (_up(used.memory * 2, 4 << 20), f"{used.memory >> 10} KiB at the peak"),
        "cpu_time": (_up(cpu, 100), f"{used.cpu_ms:.1f} ms in one call"),
        "execution_time": (_up(wall, 5000), f"{used.wall_ms:.1f} ms in one call"),
    }
    if not used.memory:
        del wishes["memory"]
    return {name: wish for name, wish in wishes.items() if wish[0] < getattr(given, name)}


def _up(value: int, step: int) -> int:
    return max(-(-value // step), 1) * step


def written(lesson: Lesson, level: IsolationLevel, limits: dict[str, tuple[int, str]]) -> str:
    """The policy file. JSON's strings are YAML's, too: a plugin's words cannot be more than a string."""
    about = lesson.metadata
    lines = [
        f"# Learned by frys {__version__} on {_today()}; `frys policy check` and a look at it are wise.",
        f"extends: {level}",
        "plugins:",
        f"  {jsons.dumps(about.id)}:",
    ]
    if limits:
        lines.append("    limits:")
        lines += [
            f"      {name}: {quantity(name, value)}  # {used}" for name, (value, used) in limits.items()
        ]
    if lesson.needs:
        lines += ["    syscalls:", "      allow:", f"        {about.format}:"]
        for phase in ("load", "serve"):
            needs = [need for need in lesson.needs if need.change.phase == phase]
            lines += [f"          {phase}:"] * bool(needs)
            lines += [f"            {line}" for line in _entries(lesson, needs)]
    if not limits and not lesson.needs:
        lines[2:] = []
    return "\n".join(lines) + "\n"


def _entries(lesson: Lesson, needs: list[Need]) -> Iterable[str]:
    for name in dict.fromkeys(need.change.rule.name for need in needs):
        same = [need for need in needs if need.change.rule.name == name]
        why = jsons.dumps(_why(lesson, same))
        if not all(need.change.rule.args for need in same):
            yield f"{name}: {why}"
            continue
        yield f"{name}:"
        yield f"  when: {jsons.dumps([_when(need) for need in same])}"
        yield f"  why: {why}"


def _when(need: Need) -> str:
    masks = (f" & {one.mask:#x}" if one.mask != 0xFFFFFFFF else "" for one in need.change.rule.args)
    return " and ".join(
        f"arg{one.arg}{mask} {one.op} {one.value:#x}"
        for one, mask in zip(need.change.rule.args, masks, strict=True)
    )


def _why(lesson: Lesson, same: list[Need]) -> str:
    about = f"{lesson.metadata.id} {lesson.metadata.version} on {_today()}"
    count = sum(need.times for need in same)
    if not count:
        return f"learned from {about}: without it the workload fails or gives another result"
    functions = list(dict.fromkeys(function for need in same for function in need.functions))
    more = f" and {len(functions) - _TOLD_FUNCTIONS} more" if len(functions) > _TOLD_FUNCTIONS else ""
    whom = f"{', '.join(functions[:_TOLD_FUNCTIONS])}{more} of {about}" if functions else f"loading {about}"
    return f"learned from {whom}: made {_counted(count, 'time')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _verified(
    plugin: str, text: str, workload: list[Call], lesson: Lesson
) -> tuple[Exception | None, list[str]]:
    """What ends the workload under the written policy, if anything, and what lint says about the policy."""
    with tempfile.TemporaryDirectory(prefix="frys-learned-") as folder:
        file = Path(folder) / "policy.yaml"
        file.write_text(text, encoding="utf-8")
        findings = [f"{finding.key} {finding.text}" for finding in lint(load_policy(file))]
        return asyncio.run(_try(plugin, file, workload, lesson)), findings


async def _try(plugin: str, policy: Path, workload: list[Call], lesson: Lesson) -> Exception | None:
    async with AsyncExitStack() as stack:
        manager = await stack.enter_async_context(PluginManager(policy=policy, spares=0))
        try:
            name = await manager.load_plugin(plugin)
            results = [
                repr(await manager.execute_plugin(name, call.function, *call.args)) for call in workload
            ]
        except (PluginError, TypeError, ValueError) as error:
            return error
    if lesson.results is not None and results != lesson.results:
        return WorkloadFailed("the workload gives another result than when it was watched")
    return None


def _as_json(lesson: Lesson, level: IsolationLevel, limits: dict[str, tuple[int, str]]) -> dict[str, Any]:
    return {
        "plugin": lesson.metadata.id,
        "version": lesson.metadata.version,
        "format": lesson.metadata.format,
        "level": level,
        "runs": lesson.runs,
        "calls": [
            {
                "name": need.change.rule.name,
                "phase": need.change.phase,
                "when": _when(need) or None,
                "functions": need.functions,
                "count": need.times or None,
            }
            for need in lesson.needs
        ],
        "unnameable": lesson.unnameable,
        "used": lesson.used._asdict(),
        "limits": {name: value for name, (value, _) in limits.items()},
    }
