"""What plugins may do: YAML files, and what a plugin's and a caller's wishes make of them.

Each isolation level is one file in ``policies/``. A deployment's file names the level that it extends and
then says only what is different, for all plugins and for single ones. docs/policy.md explains every key.
"""

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from .config import IsolationLevel, Permission, SandboxConfig
from .errors import ConfigError
from .policy_file import Document, Node
from .policy_syscalls import (
    FORMATS,
    Change,
    Entry,
    Mode,
    Syscalls,
    read_changes,
    read_lists,
    resolve,
)

LAYERS: Final = (
    "user_namespace",
    "mount_namespace",
    "pid_namespace",
    "network_namespace",
    "ipc_namespace",
    "uts_namespace",
    "cgroup_namespace",
    "private_root",
    "capabilities",
    "no_new_privs",
    "rlimits",
    "landlock",
    "seccomp",
    "cgroup_memory",
    "cgroup_tasks",
)
"""The layers of the jail, in the words of ``require`` and of the jail's own report."""

type View = Literal["engine", "minimal", "system"]
type AfterLoad = Literal["none", "read-only"]
type OnViolation = Literal["kill", "deny", "log"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a plugin may use.

    Attributes:
        memory: Bytes that the kernel charges to the plugin.
        cpu: Processors that it may keep busy, such as 0.5; ``None`` for no quota.
        cpu_time: Milliseconds of CPU per call.
        execution_time: Milliseconds of wall-clock time per call.
        load_time: Milliseconds from the first byte of the plugin to ready.
        tasks: Processes and threads together.
        open_files: Descriptors.
        file_size: Bytes of one file.
        files: Bytes of all the plugin's own files, for the formats that need them as files.
        inodes: Files and folders in each of its private file systems.
        output: Bytes of one result.
        log: Bytes printed during one call.
        stack: Bytes.
        tmp: Bytes of a private ``/tmp``; 0 for none.
    """

    memory: int
    cpu: float | None
    cpu_time: int
    execution_time: int
    load_time: int
    tasks: int
    open_files: int
    file_size: int
    files: int
    inodes: int
    output: int
    log: int
    stack: int
    tmp: int


class Asked(Protocol):
    """The limits that a plugin's metadata names; ``None`` where it names none."""

    @property
    def max_memory(self) -> int | None:
        """Bytes."""

    @property
    def max_cpu_time(self) -> int | None:
        """Milliseconds of CPU per call."""

    @property
    def max_execution_time(self) -> int | None:
        """Milliseconds of wall-clock time per call."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """What a plugin may do.

    Attributes:
        level: The isolation level that it extends.
        description: For people.
        limits: How much.
        view: Which files it sees while it loads: ``engine`` (what its engine needs), ``minimal``
            (shared libraries, too) or ``system`` (a read-only view of the system).
        after_load: Whether it sees them, and what is granted, while it serves.
        read: Paths of the host to show read-only.
        write: Paths of the host to show writable.
        network: Whether the host's network is left in place.
        processes: Whether it may start processes.
        threads: Whether it may start threads.
        asks: The permissions that a plugin.json may ask for, or ``None`` for those that the grants open.
        require: The layers without which it must not start.
        on_violation: What becomes of a forbidden system call: ``kill`` the plugin, ``deny`` the call, or
            ``log`` it and let it happen.
        max_violations: After how many violations the plugin is disabled; 0 for never.
        mode: Whether ``entries`` allow or forbid.
        entries: Every entry of the level's system-call lists.
        changes: What a deployment changes in them; a later one decides over an earlier one.
    """

    level: IsolationLevel
    description: str
    limits: Limits
    view: View
    after_load: AfterLoad
    read: tuple[str, ...]
    write: tuple[str, ...]
    network: bool
    processes: bool
    threads: bool
    asks: frozenset[Permission] | None
    require: frozenset[str]
    on_violation: OnViolation
    max_violations: int
    mode: Mode
    entries: tuple[Entry, ...]
    changes: tuple[Change, ...]

    @property
    def syscalls(self) -> Mapping[str, Syscalls]:
        """The system calls of every format, with those that the grants open."""
        return _syscalls(self)

    @property
    def permissions(self) -> frozenset[Permission]:
        """What a plugin.json may ask for: what the policy says, or else what its grants open."""
        return self.opened if self.asks is None else self.asks

    @property
    def opened(self) -> frozenset[Permission]:
        """What the grants open. Every plugin may run its functions; nothing opens Admin."""
        given = {
            Permission.EXECUTE: True,
            Permission.READ: self.after_load == "read-only",
            Permission.WRITE: bool(self.write or self.limits.tmp),
            Permission.NETWORK: self.network,
        }
        return frozenset(permission for permission, yes in given.items() if yes)

    def tightened(self, asked: Asked) -> "Policy":
        """The policy with a plugin's own limits where they are lower."""
        return self._limited(
            memory=asked.max_memory, cpu_time=asked.max_cpu_time, execution_time=asked.max_execution_time
        )

    def granted(self, wish: SandboxConfig) -> "Policy":
        """The policy with the host program's limits where they are lower, and with its grants.

        Raises:
            ConfigError: A grant cannot be given.
        """
        if wish.allowed_hosts:
            raise ConfigError(
                "SandboxConfig.allowed_hosts",
                "there is no brokered HTTP yet; only allow_network opens the network",
            )
        limited = self._limited(
            memory=wish.max_memory,
            cpu_time=wish.max_cpu_time,
            execution_time=wish.max_execution_time,
            tasks=wish.max_processes,
            open_files=wish.max_open_files,
            file_size=wish.max_file_size,
            output=wish.max_output,
        )
        read, write = _split_paths(wish.allowed_paths)
        opened = wish.allow_fs or bool(wish.allowed_paths)
        network = wish.allow_network
        given = {Permission.READ: opened, Permission.WRITE: bool(write), Permission.NETWORK: network}
        more = {permission for permission, yes in given.items() if yes}
        return _without_contradiction(
            msgspec.structs.replace(
                limited,
                view="system" if wish.allow_fs else self.view,
                after_load="read-only" if opened else self.after_load,
                read=tuple(dict.fromkeys(self.read + read)),
                write=tuple(dict.fromkeys(self.write + write)),
                network=self.network or network,
                asks=None if self.asks is None else self.asks | more,
            )
        )

    def _limited(self, **limits: int | None) -> "Policy":
        lower = {
            name: limit
            for name, limit in limits.items()
            if limit is not None and limit < getattr(self.limits, name)
        }
        if not lower:
            return self
        return msgspec.structs.replace(self, limits=msgspec.structs.replace(self.limits, **lower))


def _split_paths(paths: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read-only and writable paths; the suffix ``:rw`` tells them apart."""
    for path in paths:
        if wrong := _wrong_path(path.removesuffix(":rw")):
            raise ConfigError("SandboxConfig.allowed_paths", f"{path!r} {wrong}")
    read = tuple(path for path in paths if not path.endswith(":rw"))
    write = tuple(path.removesuffix(":rw") for path in paths if path.endswith(":rw"))
    return read, write


def _wrong_path(path: str) -> str:
    """Why a path cannot be granted; empty when it can."""
    # normpath keeps two leading slashes, as POSIX lets them mean something of their own.
    if not re.match("/[^/]", path) or "\0" in path or os.path.normpath(path) != path.rstrip("/"):
        return "must be an absolute path without . and .. (and not / itself)"
    if path.split("/")[1] in ("proc", "sys", "plugin"):
        return "lies where the jail has its own; /proc, /sys and /plugin cannot be granted"
    return ""


def _without_contradiction(policy: Policy) -> Policy:
    """A plugin on the host's network is in no network namespace of its own, so none can be required."""
    if not policy.network or "network_namespace" not in policy.require:
        return policy
    return msgspec.structs.replace(policy, require=policy.require - {"network_namespace"})


@functools.lru_cache(maxsize=256)
def _syscalls(policy: Policy) -> dict[str, Syscalls]:
    grants = {
        "files": policy.after_load == "read-only",
        "writes": bool(policy.write or policy.limits.tmp),
        "locks": bool(policy.write),
        "network": policy.network,
        "threads": policy.threads,
        "processes": policy.processes,
    }
    given = [name for name, yes in grants.items() if yes]
    return resolve(policy.mode, policy.entries, policy.changes, given)


# What the keys of a file mean.

BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
TIME: Final = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}
COUNT: Final[dict[str, int]] = {}
CORES: Final = {"cpu": 1}

LIMITS: Final[dict[str, Mapping[str, int]]] = {
    "memory": BYTES,
    "cpu": CORES,
    "cpu_time": TIME,
    "execution_time": TIME,
    "load_time": TIME,
    "tasks": COUNT,
    "open_files": COUNT,
    "file_size": BYTES,
    "files": BYTES,
    "inodes": COUNT,
    "output": BYTES,
    "log": BYTES,
    "stack": BYTES,
    "tmp": BYTES,
}
"""The limits with their units."""

MAY_BE_ZERO: Final = ("tmp", "log")

_LATER: Final = {
    "messages": "this version of Frys has no messages between plugins",
    "host_functions": "this version of Frys has no host functions that a plugin can call",
    "signatures": "this version of Frys does not check signatures",
}
"""Keys that would look as if they did something."""


def _limit(node: Node) -> Any:
    name = node.path[-1]
    if LIMITS[name] is CORES:
        return node.cores()
    return node.amount(LIMITS[name], 0 if name in MAY_BE_ZERO else 1)


def _paths(node: Node) -> tuple[str, ...]:
    for item in node.texts():
        if wrong := _wrong_path(item.value):
            item.fail(f"{item.value!r} {wrong}")
    return tuple(node.value)


def _layers(node: Node) -> frozenset[str]:
    for item in node.texts():
        if item.value not in LAYERS:
            item.fail(f"{item.value!r} is not a layer; known are {', '.join(LAYERS)}")
    return frozenset(node.value)


def _permissions(node: Node) -> frozenset[Permission] | None:
    if node.value == "granted":
        return None
    return frozenset(Permission(item.one_of(Permission)) for item in node.texts())


def _network(node: Node) -> bool:
    if isinstance(node.value, dict):
        node.fail(
            "must be true (the host's network) or false: this version of Frys has no broker that could hold "
            "a plugin to single hosts, ports or methods"
        )
    return node.flag()


def _choice(*known: str) -> Callable[[Node], str]:
    return lambda node: node.one_of(known)


_READERS: Final[dict[str, Callable[[Node], Any]]] = {
    "description": Node.text,
    "view": _choice("engine", "minimal", "system"),
    "after_load": _choice("none", "read-only"),
    "read": _paths,
    "write": _paths,
    "network": _network,
    "processes": Node.flag,
    "threads": Node.flag,
    "permissions": _permissions,
    "require": _layers,
    "on_violation": _choice("kill", "deny", "log"),
    "max_violations": lambda node: node.amount(COUNT, 0),
}

KEYS: Final = ("extends", *_READERS, "limits", "syscalls")
"""The keys of a file, and of a section for single plugins."""

_NAMES: Final = {"asks": "permissions"}
"""Where a key is not called like its attribute."""


class _Layered(NamedTuple):
    """Files laid over each other: every value with the place that decided it.

    Attributes:
        nodes: By key, limits as ``limits.memory``.
        mode: Of the level's system calls.
        entries: The level's system calls.
        changes: What deployments change, with places.
    """

    nodes: Mapping[str, Node]
    mode: Mode
    entries: tuple[Entry, ...]
    changes: tuple[tuple[Change, Node], ...] = ()

    def over(self, nodes: Mapping[str, Node]) -> "_Layered":
        """With the keys of a deployment's file or section, which decide where they stand."""
        changes = read_changes(nodes["syscalls"], self.mode) if "syscalls" in nodes else []
        return self._replace(nodes={**self.nodes, **nodes}, changes=(*self.changes, *changes))

    def policy(self) -> Policy:
        """The policy that it says.

        Raises:
            ConfigError: A value is wrong, or contradicts another.
        """
        nodes = self.nodes
        values = {key: read(nodes[key]) for key, read in _READERS.items()}
        policy = Policy(
            level=IsolationLevel(nodes["extends"].value),
            limits=Limits(**{name: _limit(nodes[f"limits.{name}"]) for name in LIMITS}),
            asks=values.pop("permissions"),
            mode=self.mode,
            entries=self.entries,
            changes=tuple(change for change, _ in self.changes),
            **values,
        )
        if policy.after_load == "none" and (policy.read or policy.write):
            key = "read" if policy.read else "write"
            nodes[key].fail("shows nothing while the plugin serves, unless after_load is read-only, too")
        if policy.mode == "deny" and not (policy.processes and policy.threads):
            key = "threads" if policy.processes else "processes"
            nodes[key].fail(
                "cannot be false here; lower limits.tasks, or extend high, which forbids by default"
            )
        return _without_contradiction(policy)

    def origins(self) -> dict[str, str]:
        """The place that decided each key."""
        found = {key: node.where for key, node in self.nodes.items() if key not in ("extends", "syscalls")}
        changes = {change_key(change): node.where for change, node in self.changes}
        return {"level": self.nodes["extends"].where, **found, **changes}


def change_key(change: Change) -> str:
    """The key under which a change stands in a file."""
    return f"syscalls.{change.verb}.{change.section}.{change.phase}.{change.rule.name}"


def _nodes(top: Node, also: Iterable[str] = ()) -> dict[str, Node]:
    """The values of a file or a section by key."""
    for key, why in _LATER.items():
        if isinstance(top.value, dict) and key in top.value:
            top.child(key).fail(f"cannot be given: {why}")
    found = top.mapping((*KEYS, *also))
    for name, node in found.pop("limits").mapping(LIMITS).items() if "limits" in found else ():
        found[f"limits.{name}"] = node
    return {key: node for key, node in found.items() if key not in also}


@functools.cache
def _level(level: IsolationLevel) -> _Layered:
    data = files(f"{__package__}.policies").joinpath(f"{level}.yaml").read_bytes()
    top = Document(f"{level}.yaml", data).top
    nodes = _nodes(top)
    here = nodes.get("extends", top)._replace(value=level)
    if "extends" in nodes:
        below = _level(IsolationLevel(nodes["extends"].value))
        return below._replace(nodes={**below.nodes, **nodes, "extends": here})
    mode, entries = read_lists(nodes["syscalls"])
    return _Layered({**nodes, "extends": here}, mode, entries)


class PolicyFile:
    """A deployment's file, or a level's: the policy for everything, and those of single plugins.

    Attributes:
        name: The file.
        sections: The ids and patterns below ``plugins``.
    """

    def __init__(self, name: str, general: _Layered, sections: Mapping[str, _Layered]) -> None:
        self.name = name
        self.sections = tuple(sections)
        self._layered = {"": general, **sections}
        self._policies = {section: layered.policy() for section, layered in self._layered.items()}

    def section(self, plugin_id: str) -> str:
        """The section that holds for a plugin; empty for none.

        The id itself goes before every pattern, and among patterns the one with the most letters that
        are not ``*`` or ``?``.

        Raises:
            ConfigError: Two patterns have equally many.
        """
        if plugin_id in self.sections:
            return plugin_id
        matching = [section for section in self.sections if _matches(section, plugin_id)]
        best = max(map(weight, matching), default=0)
        found = [section for section in matching if weight(section) == best]
        if len(found) > 1:
            raise ConfigError(
                f"{self.name}: plugins",
                f"{' and '.join(found)} match {plugin_id!r} equally well; give it a section of its own",
            )
        return found[0] if found else ""

    def policy(self, plugin_id: str = "") -> Policy:
        """The policy of a plugin, or the one for all that have no section.

        Raises:
            ConfigError: Two patterns match it equally well.
        """
        return self._policies[self.section(plugin_id)]

    def origins(self, plugin_id: str = "") -> Mapping[str, str]:
        """Which file and line decided each key of :func:`settings`."""
        return self.origins_of(self.section(plugin_id))

    def origins_of(self, section: str) -> Mapping[str, str]:
        """The same by section; an empty one for all plugins."""
        return MappingProxyType(self._layered[section].origins())

    def policy_of(self, section: str) -> Policy:
        """The policy of a section; an empty one for all plugins."""
        return self._policies[section]


SECTION: Final = re.compile(r"^[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,127}$")
"""Ids of plugins, and patterns of them."""


def _matches(section: str, plugin_id: str) -> bool:
    pattern = re.escape(section).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, plugin_id) is not None


def weight(section: str) -> int:
    """How specific a pattern is."""
    return sum(letter not in "*?" for letter in section) + 1


def _base(node: Node) -> _Layered:
    if node.value not in tuple(IsolationLevel):
        node.fail(f"must name the level to start from: {', '.join(IsolationLevel)}")
    return _level(IsolationLevel(node.value))


@functools.cache
def level_file(level: IsolationLevel) -> PolicyFile:
    """The file of a level, which comes with Frys."""
    return PolicyFile(f"level {level}", _level(level), {})


def level_policy(level: IsolationLevel) -> Policy:
    """The policy of a level."""
    return level_file(level).policy()


def load_policy(path: str | os.PathLike[str]) -> PolicyFile:
    """A deployment's file.

    Raises:
        ConfigError: It cannot be read, or something in it is wrong; file, line, column and key are named.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read((1 << 18) + 1)
    except OSError as error:
        raise ConfigError(name, f"cannot be read: {error.strerror}") from None
    top = Document(name, data).top
    general = _nodes(top, ("plugins",))
    base = _base(top.child("extends"))
    sections: dict[str, _Layered] = {}
    for section, node in top.child("plugins").mapping().items() if "plugins" in top.value else ():
        if not SECTION.fullmatch(section):
            node.fail("is no id of a plugin, and no pattern of one with * and ?")
        own = _nodes(node)
        start = _base(own["extends"]) if "extends" in own else base
        sections[section] = start.over(general).over(own)
    return PolicyFile(name, base.over(general), sections)


# What a policy says, for people.


def settings(policy: Policy) -> dict[str, Any]:
    """Everything that a policy says, by key in the words of a file; system calls also as resolved lists."""
    found: dict[str, Any] = {}
    for name in policy.__struct_fields__:
        if name not in ("limits", "entries", "changes", "mode", "asks"):
            found[name] = getattr(policy, name)
    found["permissions"] = policy.permissions
    found |= {f"limits.{name}": getattr(policy.limits, name) for name in LIMITS}
    found |= {change_key(change): change.rule.why for change in policy.changes}
    for name in FORMATS:
        lists = policy.syscalls[name]
        phases = {"load": lists.load, "serve": lists.serve, "enosys": lists.enosys}
        if lists.mode == "deny":
            phases = {"forbid": lists.load, "enosys": lists.enosys}
        for phase, rules in phases.items():
            found[f"syscalls.{name}.{phase}"] = tuple(sorted({rule.name for rule in rules}))
    return found


def quantity(key: str, value: float | None) -> str:
    """A limit with the largest unit that says it exactly: ``64MiB``, ``1s``, ``0.5 cpu``, ``none``."""
    units = LIMITS[key.removeprefix("limits.")]
    if units is CORES:
        return "none" if value is None else f"{value:g} cpu"
    if value is None or not value or not units:
        return f"{value or 0}"
    unit, factor = max(
        ((unit, factor) for unit, factor in units.items() if value % factor == 0), key=lambda one: one[1]
    )
    return f"{int(value) // factor}{unit}"
