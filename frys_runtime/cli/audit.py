"""`frys audit`: verify an audit log, and show it."""

import json as jsons
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from ..audit_records import Record, files_of, parse, read_lines
from ..audit_verify import Finding, Verdict, verify as verify_log
from .exits import Exit, UsageError
from .terminal import print_json, printable, stdout, table

group = typer.Typer(
    help="Verify an audit log, and show what it records.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_Files = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="Audit logs; older files are found by name.")
]
_File = Annotated[str, typer.Argument(help="The audit log; older files are found by name.")]
_Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]


@group.command()
def verify(
    files: _Files,
    *,
    contains: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="The last hash of an earlier run, which must still be there."),
    ] = None,
    json: _Json = False,
) -> None:
    """Find records that were removed, altered or moved, and say which line it is.

    Each FILE is a log of its own, verified with its older files FILE.1, FILE.2 and so on. Keep the last hash
    that is printed somewhere else: `--contains` then also finds out when the end was cut off.

    Exit codes: 0 when the chain is whole, 1 when it is not, 2 when a file cannot be read.
    """
    if contains is not None and len(files) > 1:
        raise UsageError("--contains names a record of one log; verify that log alone")
    verdicts = [verify_log(file, contains=contains) for file in files]
    ok = not any(verdict.problems for verdict in verdicts)
    if json:
        print_json({"ok": ok, "logs": [_as_json(verdict) for verdict in verdicts]})
    else:
        for verdict in verdicts:
            _print(verdict)
    raise typer.Exit(Exit.OK if ok else Exit.FAILED)


def _as_json(verdict: Verdict) -> dict[str, Any]:
    return {"ok": not verdict.problems, **asdict(verdict)}


def _print(verdict: Verdict) -> None:
    console = stdout()
    for title, found in (("PROBLEM", verdict.problems), ("note", verdict.notes)):
        for one in found:
            console.print(f"{title}: {_place(one)}: {printable(one.text)}", markup=False, soft_wrap=True)
    state = "BROKEN" if verdict.problems else "WHOLE"
    numbers = f"{verdict.first} to {verdict.last}" if verdict.records else "none"
    console.print(
        f"{state}: {verdict.files[-1]}, records {numbers} in {len(verdict.files)} file(s)\n"
        f"last hash: {verdict.tip}",
        markup=False,
        soft_wrap=True,
    )


def _place(found: Finding) -> str:
    return f"{found.file}, line {found.line}" if found.line else found.file


@group.command()
def show(
    file: _File,
    *,
    kind: Annotated[str | None, typer.Option("--kind", "-k", help="Only records of this kind.")] = None,
    plugin: Annotated[str | None, typer.Option("--plugin", help="Only records of this plugin.")] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="How many, from the end.")] = 50,
    json: _Json = False,
) -> None:
    """Show records, oldest first, without verifying the chain; lines that are no records are passed over."""
    found = [
        record
        for record in _records(file)
        if (kind is None or record.kind == kind) and (plugin is None or record.plugin == plugin)
    ][-last:]
    if json:
        print_json([record._asdict() for record in found])
        return
    rows = table("record", "time", "kind", "plugin", "data", numbers=["record"])
    for record in found:
        data = ", ".join(f"{name}: {_short(value)}" for name, value in record.data.items())
        words = (str(record.seq), record.time[:19], record.kind, record.plugin, data)
        rows.add_row(*(Text(printable(word)) for word in words))
    stdout().print(rows)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else jsons.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _records(path: str) -> Iterator[Record]:
    for file in files_of(path):
        for line, _ in read_lines(file):
            record = parse(line)
            if record is not None:
                yield record
