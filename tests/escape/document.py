"""docs/what-the-jail-stops.md, made from the table of attempts; ``python scripts/escape-table`` writes it."""

from collections import Counter
from pathlib import Path

from .attempts import CLASSES, HIGH, MAXIMUM, STANDARD, Attempt, Control, Modest
from .table import ATTEMPTS, TABLE
from .verdicts import Allowed, Exited

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "what-the-jail-stops.md"

_LANGUAGES = {
    "c": "C",
    "python": "Python",
    "python-main": "Python (main interpreter)",
    "javascript": "JavaScript",
    "wasm": "WASM",
    "wasi": "WASM (WASI)",
}

_HEAD = """\
# What the jail stops, and what it does not

This page is generated from the escape suite, [tests/escape](../tests/escape/table.py), by
`scripts/escape-table`; do not edit it. Every row is an attempt that `make test` makes at every level, from a
plugin that was loaded for it alone. How it ended is judged by the host: by its typed error, the call that the
kernel announced, the counters of the cgroup; only the error number of a refused call is what the plugin was
told, and there the host looks that nothing happened. After each attempt the host's own state is compared with
what it was before, no process and no cgroup is left, the plugins beside it answer, and so does the next call.
[The threat model](threat-model.md) says what stands behind the words.

The last column says how it is known that the attempt is a real one: *succeeds outside* means that the very
same code, run by the same test without a jail in a child that nobody misses, does what the row says, or gets
as far as the kernel lets anybody. *Works in small* means that it works in the jail with an amount that is
granted.
"""


def render() -> str:
    """The whole document."""
    parts = [_HEAD, _counts(), _open_rows()]
    for letter, rows in TABLE.items():
        parts += [f"## {letter}. {CLASSES[letter]}\n", _table(rows)]
    return "\n".join(parts)


def _counts() -> str:
    languages = Counter(_LANGUAGES[attempt.language].split(" ")[0] for attempt in ATTEMPTS)
    runs = sum(len(attempt.verdicts) for attempt in ATTEMPTS)
    each = ", ".join(f"{count} in {name}" for name, count in languages.most_common())
    return f"{len(ATTEMPTS)} attempts ({each}), {runs} runs over the three levels.\n"


def _open_rows() -> str:
    """Rows that are not stopped somewhere, gathered where nobody overlooks them."""
    lines = ["## What is not stopped\n", "| attempt | level | what happens |", "|---|---|---|"]
    for attempt in ATTEMPTS:
        ends: dict[str, list[str]] = {}
        for level, verdict in attempt.verdicts.items():
            if isinstance(verdict, Allowed | Exited) and "only it ends" not in verdict.words:
                ends.setdefault(verdict.words, []).append(level.capitalize())
        lines += [f"| {attempt.what} | {', '.join(names)} | {words} |" for words, names in ends.items()]
    return "\n".join(lines) + "\n"


def _table(rows: list[Attempt]) -> str:
    lines = [
        "| attempt | in | Standard | High | Maximum | because | how it is known |",
        "|---|---|---|---|---|---|---|",
    ]
    for attempt in rows:
        given = [attempt.verdicts.get(level) for level in (STANDARD, HIGH, MAXIMUM)]
        words = [verdict.words if verdict else "-" for verdict in given]
        cells = [attempt.what, _LANGUAGES[attempt.language], *words, attempt.why, _control(attempt)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _control(attempt: Attempt) -> str:
    if isinstance(attempt.control, Control):
        return "succeeds outside"
    if isinstance(attempt.control, Modest):
        return "works in small"
    return attempt.control.removeprefix("none: ")
