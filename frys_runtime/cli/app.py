"""The commands of `frys` put together. Help needs all their modules, a command only its own."""

import importlib
import sys
import traceback
from collections.abc import Iterable
from typing import Annotated, Final

import typer

from .. import __version__
from .exits import Exit, leave_quietly, tell, wants_traceback

BUS: Final = (
    *("serve", "ps", "top", "call", "events", "trace", "versions", "reload", "promote", "rollback"),
    *("pin", "suspend", "resume", "load", "unload"),
)
"""Those that talk to running supervisors."""
COMMANDS: Final = (
    "run",
    "inspect",
    "new",
    "dev",
    "bindgen",
    "doctor",
    "demo",
    "bench",
    "audit",
    "policy",
    "pack",
    "registry",
    "publish",
    "yank",
    "deprecate",
    "owners",
    "search",
    "install",
    "upgrade",
    "uninstall",
    "list",
    "outdated",
    "cache",
    "keygen",
    "sign",
    "verify",
    *BUS,
)
"""Each is a module of this package: its ``command`` is the command, or its ``group`` holds several."""


def run(words: list[str]) -> int:
    """Run the command that the words name.

    Returns:
        Its exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a path or a plugin may use what a locale lacks
    named = next((word for word in words if not word.startswith("-")), "")
    try:
        _app((named,) if named in COMMANDS else COMMANDS)(words, prog_name="frys")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.FAILED
    except BrokenPipeError:
        return leave_quietly()
    except Exception as error:  # noqa: BLE001 - the last handler: a person gets a sentence, not a traceback
        if wants_traceback(words):
            traceback.print_exc()
        return tell(error)
    return Exit.OK


def _app(names: Iterable[str]) -> typer.Typer:
    app = typer.Typer(
        name="frys",
        help="Run plugins that nobody trusts, each in a jail that the Linux kernel enforces.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name in names:
        module = importlib.import_module(f".{name}", __package__)
        if hasattr(module, "group"):
            app.add_typer(module.group, name=name)
        else:
            app.command(name)(module.command)
    return app


def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=lambda value: _version(show=value),
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; so does FRYS_DEBUG=1.")] = False,
) -> None:
    """Options of `frys` itself; `run` looks for --debug before Typer does."""


def _version(*, show: bool) -> None:
    if show:
        print(f"frys {__version__}")
        raise typer.Exit
