"""`frys reload`: replace a plugin that runs by a new version."""

from typing import Annotated, Any

import typer

from .exits import UsageError
from .options import AsJson, BusFolder, Force, OneSupervisor, RunningPlugin
from .ordering import Options, Order, absolute, give
from .terminal import milliseconds


def command(
    plugin_id: RunningPlugin,
    path: Annotated[
        str | None, typer.Argument(help="Where the new version is; by default where the old one came from.")
    ] = None,
    *,
    force: Force = False,
    drain: Annotated[
        int | None,
        typer.Option("--drain", metavar="MS", min=0, help="How long the old version may finish its calls."),
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option("--weight", metavar="SHARE", help="Put it on trial, with a share of the calls: 0.1."),
    ] = None,
    promote_after: Annotated[
        int | None,
        typer.Option(
            "--promote-after", metavar="N", min=0, help="Calls of a trial until it replaces; 0: never."
        ),
    ] = None,
    max_error_rate: Annotated[
        float | None,
        typer.Option("--max-error-rate", metavar="SHARE", help="By how much a trial may fail more often."),
    ] = None,
    supervisor: OneSupervisor = None,
    bus: BusFolder = None,
    as_json: AsJson = False,
) -> None:
    """Replace a plugin that runs, in every supervisor that has it, while calls go on.

    The new version is loaded beside the old one and has to prove itself; a version that fails at any step
    leaves the old one serving. With --weight it gets a share of the calls first; `frys versions` shows how it
    does, and `frys promote` or `frys rollback` end the trial before its time.

    Exit codes: 0 done everywhere; 1 a supervisor ended or refuses; 2 wrong usage; 5 no supervisor runs it, or
    a new version did not get in its place (the one before serves on).
    """
    options: Options = {"force": force}
    if path is not None:
        options["path"] = absolute(path)
    if weight is None:
        if promote_after is not None or max_error_rate is not None:
            raise UsageError("--promote-after and --max-error-rate are for a trial, which needs --weight")
        if drain is not None:
            options["drain_ms"] = drain
        give(Order("reload", plugin_id, options), bus, supervisor, as_json=as_json, told=_reloaded)
        return
    if path is None:
        raise UsageError("a version on trial needs the PATH of its own, beside the one that serves")
    if drain is not None:
        raise UsageError("--drain is for a reload; a trial ends no version yet")
    options["weight"] = weight
    if promote_after is not None:
        options["promote_after"] = promote_after or None
    if max_error_rate is not None:
        options["max_error_rate"] = max_error_rate
    give(Order("canary", plugin_id, options), bus, supervisor, as_json=as_json, told=_begun)


def _reloaded(done: Any) -> str:
    versions = f"{done['old_version']} > {done['version']}"
    return f"{done['plugin_id']} {versions} in {milliseconds(done['ms'])} ms"


def _begun(done: Any) -> str:
    return f"{done['version']} is on trial"
