"""A run as a table for people and as JSON for programs."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from .figures import Benchmark, Row

_COLUMNS = ("p50", "p99", "95 % interval", "goal", "ratio", "verdict")
_COLOURS = {"reached": "green", "missed": "bold red", "unclear": "yellow", "not run": "yellow", "": ""}


def head(machine: dict[str, Any]) -> str:
    """The facts about the machine as two lines."""
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in machine["versions"].items())
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_mib']} MiB; Linux {machine['kernel']}"
        f", {machine['libc']}, Python {machine['python']}, {machine['user']} user\n{versions}"
    )


def show(console: Console, benchmark: Benchmark) -> None:
    """Print one benchmark; a letter marks what a ratio compares with."""
    letters = _letters(benchmark.rows)
    lines = [_line(row, letters) for row in benchmark.rows]
    used = [name for name in _COLUMNS if any(line[name] for line in lines)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name in ("", *used):
        table.add_column(name, justify="right" if name in ("p50", "p99", "ratio") else "left", no_wrap=True)
    for row, line in zip(benchmark.rows, lines, strict=True):
        letter = letters.get(row.what, "")
        table.add_row(f"[bold]{letter}[/] {row.what}" if letter else row.what, *(line[name] for name in used))
    console.print(f"\n[bold]{benchmark.title}[/]\n[dim]{benchmark.how}[/]\n")
    console.print(table)
    for note in dict.fromkeys(row.note for row in benchmark.rows if row.note):
        names = "; ".join(row.what for row in benchmark.rows if row.note == note)
        console.print(f"[dim]{names}: {note}[/]")


def _line(row: Row, letters: dict[str, str]) -> dict[str, str]:
    """The cells of one row by their column."""
    return {
        "p50": _value(row.p50, row.unit),
        "p99": _value(row.p99, row.unit) if row.p99 is not None else "",
        "95 % interval": f"{row.low:.3f} .. {row.high:.3f}"
        if row.p99 is None and row.low and row.high
        else "",
        "goal": row.goal,
        "ratio": f"{row.ratio:.2f} x {letters[row.reference]}" if row.ratio else "",
        "verdict": f"[{_COLOURS[row.verdict]}]{row.verdict}[/]" if row.verdict else "",
    }


def _letters(rows: list[Row]) -> dict[str, str]:
    names = dict.fromkeys(row.reference for row in rows if row.reference)
    return {name: chr(ord("A") + place) for place, name in enumerate(names)}


def _value(value: float | None, unit: str) -> str:
    return f"{number(value, unit)} {unit}".strip() if value is not None else "-"


def number(value: float, unit: str) -> str:
    """A value with the digits that matter; a number without a unit is a count or a ratio."""
    if value == int(value) and not unit:
        return str(int(value))
    if not unit:
        return f"{value:.3f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def verdict(benchmarks: list[Benchmark]) -> str:
    """One line about all goals."""
    verdicts = [row.verdict for benchmark in benchmarks for row in benchmark.rows if row.goal]
    parts = [
        f"{verdicts.count(word)} {word}"
        for word in ("reached", "missed", "unclear", "not run")
        if word in verdicts
    ]
    return f"{len(verdicts)} goals: {', '.join(parts)}"


def as_json(machine: dict[str, Any], run: dict[str, Any], benchmarks: list[Benchmark]) -> dict[str, Any]:
    """Everything of a run as plain values."""
    return {
        "format": 1,
        "machine": machine,
        "run": run,
        "benchmarks": [_rounded(dataclasses.asdict(benchmark)) for benchmark in benchmarks],
    }


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.5g}")
        case dict():
            return {key: _rounded(item) for key, item in value.items()}
        case list():
            return [_rounded(item) for item in value]
    return value


def write(path: Path, text: str) -> None:
    """Write a file, with the folder that it belongs into."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dump(facts: dict[str, Any]) -> str:
    """JSON for a file that people may read too."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
