"""The table of attempts to get out of the jail: what is tried, how it must end at each level, and why.

pytest runs every row at every level that it names (test_escape.py), and docs/what-the-jail-stops.md is
made from it (document.py). Classes are those of its headings; ``{name}`` in an argument stands for a fact of
the host, such as the path of its secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from frys_runtime import IsolationLevel, SandboxConfig

from .verdicts import (
    Verdict,
    killed,
)

STANDARD, HIGH, MAXIMUM = IsolationLevel.STANDARD, IsolationLevel.HIGH, IsolationLevel.MAXIMUM

CLASSES = {
    "A": "Into the kernel",
    "B": "Files",
    "C": "Identity and information",
    "D": "Network and other processes",
    "E": "Processes and signals",
    "F": "Resources",
    "G": "The lane's protocol",
    "H": "The engines",
}

LIMITS = SandboxConfig(max_memory=48 << 20, max_cpu_time=2000, max_execution_time=5000, max_processes=12)
"""Tight enough that a bomb ends soon; a plugin that works within them is not slowed down."""

SHORT = SandboxConfig(max_memory=48 << 20, max_cpu_time=250, max_execution_time=5000, max_processes=12)
"""For those that never end by themselves."""

ROOMY = SandboxConfig(max_cpu_time=5000, max_execution_time=10_000)
"""More memory than a private /tmp has room, so that the file system's own limits are met first."""

NETWORK = SandboxConfig(max_memory=48 << 20, max_cpu_time=2000, allow_network=True)
"""With the host's network."""


@dataclass(frozen=True)
class Outside:
    """The host looks itself, with this entry of host.LOOKS."""

    look: str


@dataclass(frozen=True)
class Control:
    """The same code without a jail (in a child that nobody misses): what it says there.

    Attributes:
        says: The answer of C, or the beginning of Python's line.
        args: Arguments, where they differ.
    """

    says: str = "0"
    args: tuple[object, ...] | None = None


@dataclass(frozen=True)
class Modest:
    """The same function in the jail with an amount that is granted: it works.

    Attributes:
        args: The modest arguments.
        value: The answer.
    """

    args: tuple[object, ...]
    value: object


@dataclass(frozen=True)
class Attempt:
    """One row.

    Attributes:
        id: Its name in the tests' output.
        what: What is tried, for people.
        language: ``c``, ``python``, ``python-main`` (the main interpreter), ``javascript``, ``wasm`` or
            ``wasi``.
        act: The function to call, or what the host looks at; empty when loading is the attempt.
        verdicts: How it ends at each level that it applies to.
        why: What stops it, or why it is left.
        control: How it is known that the attempt is real; a sentence where there is no control.
        args: Arguments of the call.
        limits: Limits of the plugin.
        timeout_ms: Of the call.
        sibling: A function (with arguments) that another plugin is called with before.
        then: A second call, whose end counts.
        plugin: Another plugin than the language's own.
        spoils_itself: Its own process cannot serve another call, by its own doing, and dies of it later.
    """

    id: str
    what: str
    language: str
    act: str | Outside
    verdicts: Mapping[IsolationLevel, Verdict]
    why: str
    control: Control | Modest | str
    args: tuple[object, ...] = ()
    limits: SandboxConfig = LIMITS
    timeout_ms: int | None = None
    sibling: tuple[object, ...] | None = None
    then: tuple[object, ...] | None = None
    plugin: str = ""
    spoils_itself: bool = False


def everywhere(verdict: Verdict) -> dict[IsolationLevel, Verdict]:
    """The same end at every level."""
    return {STANDARD: verdict, HIGH: verdict, MAXIMUM: verdict}


def levels(
    standard: Verdict | None = None, high: Verdict | None = None, maximum: Verdict | None = None
) -> dict[IsolationLevel, Verdict]:
    """One end for each level; ``None`` where it does not apply."""
    given = {STANDARD: standard, HIGH: high, MAXIMUM: maximum}
    return {level: verdict for level, verdict in given.items() if verdict is not None}


def forbidden(*calls: str) -> dict[IsolationLevel, Verdict]:
    """Announced and killed at every level."""
    return everywhere(killed(*calls))


def c(
    function: str,
    what: str,
    verdicts: Mapping[IsolationLevel, Verdict],
    why: str,
    given: str = "",
    control: Control | Modest | str = Control(),
    **more: object,
) -> Attempt:
    """A row in C, whose functions take one text; the id is the function, unless it is given."""
    name = str(more.pop("id", function.replace("_", "-")))
    if isinstance(control, Control) and control.args is not None:
        control = Control(control.says, tuple(str(arg).encode() for arg in control.args))
    return Attempt(name, what, "c", function, verdicts, why, control, (given.encode(),), **more)  # type: ignore[arg-type]
