"""`frys policy explain`: what a plugin asks, what it gets, and which layer of the kernel holds it to that."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from ..config import IsolationLevel
from ..errors import PluginError
from ..isolation import IsolationManager
from ..loader import PluginLoader
from ..manager import PluginManager
from ..metadata import Metadata
from ..policy_terms import LAYERS, Limits, Policy, quantity
from ..policy_updates import READERS as UPDATES, said as updates_said
from .exits import Exit, code_of, tell
from .options import Isolation, NoLoad, PluginPath, PolicyPath
from .terminal import FORMATS, print_json, printable, stdout, table
from .trials import open_calls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ASKED: Final = {
    "memory": "max_memory",
    "cpu_time": "max_cpu_time",
    "execution_time": "max_execution_time",
}
_VIEWS: Final = {
    "engine": "what its engine needs",
    "minimal": "what its engine needs, and shared libraries",
    "system": "a read-only view of the system",
}
_THEN: Final = {
    "kill": "the plugin is killed",
    "deny": "the call is denied with EPERM",
    "log": "the call is only logged, and let pass",
}


_HOST: Final = "the host"
_BROKER: Final = "the host's broker"


@dataclass(slots=True)
class _Explanation:
    """What was found.

    Attributes:
        metadata: What the plugin says of itself.
        policy: What it gets.
        decided: Who decided, by key of the policy.
        config: What its ``frys.config`` reads.
        loaded: Whether its jail was really built and the plugin loaded in it.
        layers: The layers that were in force around it.
        error: Why it would not be loaded, or was not.
        signatures: What was found about its signatures; empty where that is why it would not be loaded.
    """

    metadata: Metadata
    policy: Policy
    decided: dict[str, str]
    config: dict[str, Any]
    loaded: bool = False
    layers: frozenset[str] = field(default_factory=frozenset)
    error: PluginError | None = None
    signatures: str = ""


def explain(
    plugin: PluginPath,
    *,
    isolation: Isolation = None,
    policy: PolicyPath = None,
    no_load: NoLoad = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Explain what a plugin asks, what it gets, and which layer of the kernel holds it to that.

    The layers are proved by really loading the plugin in its jail. Exit codes are those of `frys run`; what
    would be refused is named.
    """
    found = _look(plugin, isolation, policy)
    if not no_load and found.error is None:
        asyncio.run(_load(plugin, found, isolation, policy))
    if json:
        print_json(_as_json(plugin, found))
    else:
        _print(plugin, found, stdout())
    if found.error is not None:
        raise typer.Exit(code_of(found.error) if json else tell(found.error))
    raise typer.Exit(Exit.OK)


def _look(plugin: str, isolation: IsolationLevel | None, policy: Path | None) -> _Explanation:
    manager = IsolationManager(policy=policy, level=isolation)
    with PluginLoader().load(plugin) as bundle:
        about, signed = bundle.metadata, bundle.signed
    settings = manager.explain(about)
    decided = {one.key: one.origin for one in settings}
    config = {one.key.removeprefix("config."): one.value for one in settings if one.key.startswith("config.")}
    found = _Explanation(about, manager.policy(about), decided, config)
    try:
        found.signatures = manager.confine(about, path=plugin, signed=signed).signatures
    except PluginError as error:
        found.error = error
    return found


async def _load(
    plugin: str, found: _Explanation, isolation: IsolationLevel | None, policy: Path | None
) -> None:
    async with PluginManager(isolation=isolation, policy=policy, spares=0) as manager:
        try:
            loaded = manager.plugin(await manager.load_plugin(plugin))
        except PluginError as error:
            found.error = error
            return
        found.loaded, found.layers = True, loaded.layers


def _print(plugin: str, found: _Explanation, console: "Console") -> None:
    about, policy = found.metadata, found.policy
    title = f"{plugin}: {about.id} {about.version}, a {FORMATS[about.format]} plugin, at level {policy.level}"
    console.print(Text(printable(f"{title}\n")), soft_wrap=True)
    console.print(_asks_table(found))
    console.print()
    console.print(_gets_table(found))
    console.print()
    console.print(_layers_table(found))
    if found.loaded:
        console.print(f"\nLoaded in its jail: {len(found.layers)} layers reported that they are in force.")
    elif found.error is None:
        console.print("\nNot loaded: nothing here is proved; without --no-load it would be.")


def _asks_table(found: _Explanation) -> "Table":
    rows = table("it asks for", "it gets")
    about, policy = found.metadata, found.policy
    for permission in sorted(about.permissions | about.optional_permissions):
        rows.add_row(permission, verdict(about, policy, permission))
    for name, asked in _asked_limits(about).items():
        given = quantity(name, getattr(policy.limits, name))
        decided = found.decided.get(f"limits.{name}", "")
        reason = "" if decided == "plugin.json" else f"; {decided} allows no more"
        rows.add_row(f"{name} {quantity(name, asked)}", Text(printable(f"{given}{reason}")))
    if not rows.row_count:
        rows.add_row("nothing", "what the policy gives to everyone")
    return rows


def verdict(about: Metadata, policy: Policy, permission: Any) -> str:
    """What becomes of a permission that a plugin asks for."""
    if permission in policy.permissions:
        return "granted" if permission in policy.opened else "accepted, though nothing opens it"
    if permission in about.optional_permissions:
        return "not granted; it says that it can do without"
    return "REFUSED: it is not loaded"


def _asked_limits(about: Metadata) -> dict[str, int]:
    """In the words and units of a policy."""
    asked = {name: getattr(about.resource_limits, theirs) for name, theirs in _ASKED.items()}
    return {name: limit for name, limit in asked.items() if limit is not None}


def _gets_table(found: _Explanation) -> "Table":
    rows = table("it gets", "")
    policy, limits = found.policy, found.policy.limits
    after = "the same" if policy.after_load == "read-only" else "nothing"
    paths = [*policy.read, *(f"{path} (writable)" for path in policy.write)]
    rows.add_row("files, loading", ", ".join((_VIEWS[policy.view], *map(printable, paths))))
    rows.add_row("files, serving", after + (f"; {quantity('tmp', limits.tmp)} of /tmp" if limits.tmp else ""))
    rows.add_row("network", "the host's" if policy.network else "none")
    rows.add_row("processes", "yes" if policy.processes else "no")
    rows.add_row("threads", "yes" if policy.threads else "no")
    for name, what in _granted_by_host(policy).items():
        rows.add_row(name, Text(printable(what)))
    if policy.signatures.required and found.signatures:
        rows.add_row("signed", found.signatures)
    rows.add_row("config", Text(printable(", ".join(found.config) or "none")))
    for name in msgspec.structs.asdict(limits):
        rows.add_row(f"limits.{name}", quantity(name, getattr(limits, name)))
    return rows


def _granted_by_host(policy: Policy) -> dict[str, str]:
    messages, signatures = policy.messages, policy.signatures
    names = ", ".join(
        one.name if one.ids == ("*",) else f"{one.name} (for {', '.join(one.ids)})"
        for one in signatures.signers
    )
    return {
        "http": "\n".join(map(str, policy.http)) or "none",
        "calls": said_by_name(dict(messages.call)),
        "publishes": ", ".join(messages.publish) or "none",
        "subscribes to": ", ".join(messages.subscribe) or "none",
        "host functions": ", ".join(policy.host_functions) or "none",
        "signatures": f"{signatures.threshold} of {names}" if signatures.required else "none required",
        "instances": str(policy.supervision.instances),
        "updates itself": _updates(policy),
    }


def _updates(policy: Policy) -> str:
    if policy.auto_update == "none":
        return "never"
    said = {key: updates_said(key, getattr(policy, key)) for key in UPDATES}
    which = "to any version" if policy.auto_update == "any" else f"to each new {policy.auto_update} version"
    trial = f", first on {said['auto_update_canary']} of the calls" if policy.auto_update_canary else ""
    return f"{which} after {said['auto_update_min_age']}, asked every {said['auto_update_interval']}{trial}"


def enforced(policy: Policy, kind: str) -> dict[str, str]:
    """For each layer of the jail, what it holds a plugin of this format to."""
    limits = policy.limits

    def amount(name: str) -> str:
        return quantity(name, getattr(limits, name))

    loading, serving = open_calls(policy.syscalls[kind])
    quota = "" if limits.cpu is None else f"; {amount('cpu')}"
    if limits.storage_read is not None:
        quota += f"; {amount('storage_read')} from a disk"
    files = "files and folders that it was not given are not there"
    return {
        "cgroup_memory": f"{amount('memory')} of memory, whatever kind",
        "cgroup_tasks": (
            f"{limits.tasks} processes and threads" if limits.tasks > 1 else "no further process or thread"
        )
        + quota,
        "mount_namespace": "mounts of its own, all but the granted read-only",
        "private_root": files,
        "pid_namespace": "sees and signals no process but its own",
        "network_namespace": "not made: it is on the host's network" if policy.network else "no network",
        "ipc_namespace": "no shared memory segments or queues of others",
        "uts_namespace": "a host name of its own",
        "cgroup_namespace": "does not learn its place in the system",
        "user_namespace": "is nobody outside",
        "rlimits": f"{amount('open_files')} open files of {amount('file_size')}; {amount('stack')} of stack; "
        "no core dump",
        "capabilities": "every right of root dropped for good",
        "no_new_privs": "no program can give it rights",
        "landlock": "the same files a second time"
        if policy.after_load == "read-only"
        else "no file at all once it is loaded",
        "seccomp": f"{loading} system calls while loading, {serving} while serving; "
        f"on any other {_THEN[policy.on_violation]}",
    }


def _layers_table(found: _Explanation) -> "Table":
    rows = table("layer", "", "holds it to")
    for layer, what in enforced(found.policy, found.metadata.format).items():
        rows.add_row(layer, _state(layer, found), what)
    for who, what in kept_by_host(found.policy).values():
        rows.add_row(who, Text("always", "green"), what)
    return rows


def kept_by_host(policy: Policy) -> dict[str, tuple[str, str]]:
    """What no layer of the kernel holds a plugin to: who does, and to what."""
    requests = "only granted requests" if policy.http else "no request"
    return {
        "limits": (_HOST, _limits_kept_by_host(policy.limits)),
        "asks": (_HOST, "only granted calls, events and host functions, each time that it asks"),
        "http": (_BROKER, f"{requests}, each time that it asks"),
    }


def said_by_name(value: Mapping[str, Any]) -> str:
    """Names, each with its text or texts."""
    texts = ((name, one if isinstance(one, str) else ", ".join(one)) for name, one in value.items())
    return "; ".join(f"{name}: {text}" for name, text in texts) or "none"


def _limits_kept_by_host(limits: Limits) -> str:
    cpu, wall, load, output, log, messages, kv = (
        quantity(name, getattr(limits, name))
        for name in ("cpu_time", "execution_time", "load_time", "output", "log", "messages", "kv")
    )
    return (
        f"{cpu} of CPU, {wall} a call; {load} to load; {output} a result; {log} printed a call; "
        f"{messages} asked of the host, {kv} stored there"
    )


def _state(layer: str, found: _Explanation) -> Text:
    if layer in found.layers:
        return Text("in force", "green")
    if found.loaded:
        return Text("missing", "red")
    return Text("required" if layer in found.policy.require else "if there", "yellow")


def _as_json(plugin: str, found: _Explanation) -> dict[str, Any]:
    about, policy, error = found.metadata, found.policy, found.error
    loading, serving = open_calls(policy.syscalls[about.format])
    asked = sorted(about.permissions | about.optional_permissions)
    return {
        "path": plugin,
        "id": about.id,
        "version": about.version,
        "format": about.format,
        "level": policy.level,
        "asks": {
            "permissions": {permission: verdict(about, policy, permission) for permission in asked},
            "limits": _asked_limits(about),
        },
        "gets": {
            "permissions": sorted(policy.permissions),
            "limits": msgspec.to_builtins(policy.limits),
            "view": policy.view,
            "afterLoad": policy.after_load,
            "read": policy.read,
            "write": policy.write,
            "network": policy.network,
            "http": msgspec.to_builtins(policy.http),
            "messages": {**msgspec.to_builtins(policy.messages), "call": dict(policy.messages.call)},
            "hostFunctions": policy.host_functions,
            "config": msgspec.to_builtins(found.config),
            "signatures": msgspec.to_builtins(policy.signatures),
            "processes": policy.processes,
            "threads": policy.threads,
            "onViolation": policy.on_violation,
            "autoUpdate": {key: getattr(policy, key) for key in UPDATES},
            "syscalls": {"load": loading, "serve": serving},
        },
        "refused": sorted(about.permissions - about.optional_permissions - policy.permissions),
        "layers": {
            layer: {
                "inForce": layer in found.layers if found.loaded else None,
                "required": layer in policy.require,
                "holdsItTo": enforced(policy, about.format)[layer],
            }
            for layer in LAYERS
        },
        "host": {
            name: {"heldBy": who, "holdsItTo": what} for name, (who, what) in kept_by_host(policy).items()
        },
        "signatures": found.signatures,
        "loaded": found.loaded,
        "error": {"kind": type(error).__name__, "message": str(error)} if error else None,
    }
