"""What reaches a person's terminal: Rich's console, tables, and the plugin's words made harmless."""

import base64
import json
import logging
import sys
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from ..messages import MessageValue

FORMATS: Final = {
    "wasm": "WebAssembly",
    "javascript": "JavaScript",
    "native": "native",
    "python": "Python",
}
"""The formats' names for people."""


def printable(text: str) -> str:
    """Text that may come from a plugin, without what could drive a terminal.

    Control characters (escape sequences begin with one) and characters that turn the direction of writing
    around are shown as escapes; line ends and tabs stay.
    """
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else char.encode("unicode_escape").decode()
        for char in text
    )


def show_log() -> None:
    """Print what a plugin prints and logs to stderr, with its name."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Harmless("%(message)s"))
    log = logging.getLogger("frys.plugin")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


class _Harmless(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def as_text(value: "MessageValue", *, harmless: bool = True) -> str:
    """A function's result for a person: bytes as text, what is not text as JSON."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return printable(value) if harmless else value
    return json.dumps(value, indent=2, default=encode_bytes, ensure_ascii=harmless)


def print_value(value: "MessageValue") -> None:
    """Print a function's result: raw for a program, harmless on a terminal."""
    on_terminal = sys.stdout.isatty()
    if isinstance(value, bytes) and not on_terminal:
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()
    else:
        print(as_text(value, harmless=on_terminal), flush=True)


def encode_bytes(value: object) -> object:
    """Bytes in JSON; for ``json.dumps(default=...)``."""
    assert isinstance(value, bytes)
    return {"base64": base64.b64encode(value).decode()}


def stdout() -> "Console":
    """Where results and tables go."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> "Console":
    """Where errors and figures about a run go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def table(*columns: str, numbers: Iterable[str] = ()) -> "Table":
    """An empty table; the columns in ``numbers`` are aligned to the right."""
    from rich import box
    from rich.table import Table

    made = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0), header_style="bold"
    )
    right = frozenset(numbers)
    for column in columns:
        # Numbers must stay whole in 80 columns; text gives way to them.
        made.add_column(
            column, justify="right" if column in right else "left", no_wrap=column in right, overflow="fold"
        )
    return made


def print_json(facts: object) -> None:
    """Facts for a program: ASCII only, so nothing in them can drive a terminal."""
    json.dump(facts, sys.stdout, indent=2)
    sys.stdout.write("\n")


def size(count: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def milliseconds(value: float) -> str:
    """A duration with the digits that matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
