"""What a policy says: limits and grants, and what a plugin's and a host program's wishes make of them."""

import functools
import os
import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal, Protocol

import msgspec

from .config import IsolationLevel, Permission, SandboxConfig
from .errors import ConfigError
from .messages import MessageValue
from .policy_file import BANDWIDTH, BYTES, CORES, COUNT, RATE, TIME, in_units
from .policy_grants import MessageGrant, one_matches
from .policy_http import NetworkGrant, wished_grant
from .policy_signatures import Signatures
from .policy_supervision import Supervision
from .policy_syscalls import Change, Entry, Mode, Syscalls, resolve
from .policy_updates import AutoUpdate

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
        output: Bytes of one result, and of one question to the host.
        log: Bytes printed during one call.
        stack: Bytes.
        tmp: Bytes of a private ``/tmp``; 0 for none.
        storage_read: Bytes a second from each disk that holds what it is shown; ``None`` for no limit.
        messages: How often a second it may ask the host for something.
        compile_memory: Bytes for the process that compiles its code, which runs nothing of it; the format
            wasm needs it for code of more than 4 KiB. Where ``memory`` is more, that holds.
        kv: Bytes of its key-value store; 0 for none.
        state: Bytes of what it may hand to its next version; 0 for none.
        state_time: Milliseconds for that, in which new calls wait.
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
    storage_read: int | None
    messages: int
    compile_memory: int
    kv: int
    state: int
    state_time: int


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
    "storage_read": BANDWIDTH,
    "messages": RATE,
    "compile_memory": BYTES,
    "kv": BYTES,
    "state": BYTES,
    "state_time": TIME,
}
"""The limits with their units."""

MAY_BE_NONE: Final = (CORES, BANDWIDTH)
"""Units of limits that can be left away."""


def quantity(key: str, value: float | None) -> str:
    """A limit as a file has it: ``64MiB``, ``1s``, ``0.5 cpu``, ``100/s``, ``none``."""
    units = LIMITS[key.removeprefix("limits.")]
    if value is None and units in MAY_BE_NONE:
        return "none"
    return f"{value:g} cpu" if units is CORES else in_units(int(value or 0), units)


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
        http: What the host's broker may be asked to fetch.
        processes: Whether it may start processes.
        threads: Whether it may start threads.
        busy_poll: Whether its process and the host look for each other's next frame for a moment before they
            sleep, where that has paid.
        asks: The permissions that a plugin.json may ask for, or ``None`` for those that the grants open.
        require: The layers without which it must not start.
        on_violation: What becomes of a forbidden system call: ``kill`` the plugin, ``deny`` the call, or
            ``log`` it and let it happen.
        max_violations: After how many violations the plugin is disabled; 0 for never.
        mode: Whether ``entries`` allow or forbid.
        entries: Every entry of the level's system-call lists.
        changes: What a deployment changes in them; a later one decides over an earlier one.
        messages: Which plugins it may call, and which events publish and receive.
        host_functions: What it may ask of the host by name: ``log``, ``config``, ``kv``, and functions of
            the host program. Names may have ``*`` and ``?``.
        signatures: Whose signatures it must carry.
        packed_config: What its ``frys.config`` reads, as MessagePack, so that policies stay hashable.
        supervision: How many processes it gets, when they start, and what follows when they fail.
        auto_update: Which new versions of a plugin from a registry replace it by themselves: none, those with
            the same major and minor number, those with the same major number, or any.
        auto_update_interval: Milliseconds between looks at the registry, give or take a tenth.
        auto_update_min_age: Milliseconds for which a version has to be out before it is taken by itself.
        auto_update_canary: The share of the calls, in percent, on which a new version is tried first; 0 for
            no trial.
    """

    level: IsolationLevel
    description: str
    limits: Limits
    view: View
    after_load: AfterLoad
    read: tuple[str, ...]
    write: tuple[str, ...]
    network: bool
    http: tuple[NetworkGrant, ...]
    processes: bool
    threads: bool
    busy_poll: bool
    asks: frozenset[Permission] | None
    require: frozenset[str]
    on_violation: OnViolation
    max_violations: int
    mode: Mode
    entries: tuple[Entry, ...]
    changes: tuple[Change, ...]
    messages: MessageGrant
    host_functions: tuple[str, ...]
    signatures: Signatures
    packed_config: bytes
    supervision: Supervision
    auto_update: AutoUpdate
    auto_update_interval: int
    auto_update_min_age: int
    auto_update_canary: int

    @property
    def config(self) -> dict[str, MessageValue]:
        """What the plugin's ``frys.config`` reads, without the defaults of its plugin.json."""
        found: dict[str, MessageValue] = msgspec.msgpack.decode(self.packed_config)
        return found

    def may_use(self, name: str) -> bool:
        """Whether it may use a service of the host, or call a function of the host program."""
        return one_matches(self.host_functions, name)

    @property
    def polls(self) -> bool:
        """Whether looking instead of sleeping is allowed; it would use up a CPU quota for nothing."""
        return self.busy_poll and self.limits.cpu is None

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
            Permission.NETWORK: self.network or bool(self.http),
        }
        return frozenset(permission for permission, yes in given.items() if yes)

    @property
    def shown_while_serving(self) -> list[tuple[str, bool]]:
        """The granted paths that it sees while it serves, each with whether it may write there."""
        if self.after_load == "none":
            return []
        writable = {os.path.normpath(path): True for path in self.write}
        return list(({os.path.normpath(path): False for path in self.read} | writable).items())

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
        network, http = wish.allow_network, _with_hosts(self.http, wish.allowed_hosts)
        given = {
            Permission.READ: opened,
            Permission.WRITE: bool(write),
            Permission.NETWORK: network or bool(wish.allowed_hosts),
        }
        more = {permission for permission, yes in given.items() if yes}
        return without_contradiction(
            msgspec.structs.replace(
                limited,
                view="system" if wish.allow_fs else self.view,
                after_load="read-only" if opened else self.after_load,
                read=tuple(dict.fromkeys(self.read + read)),
                write=tuple(dict.fromkeys(self.write + write)),
                network=self.network or network,
                http=http,
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
        if wrong := wrong_path(path.removesuffix(":rw")):
            raise ConfigError("SandboxConfig.allowed_paths", f"{path!r} {wrong}")
    read = tuple(path for path in paths if not path.endswith(":rw"))
    write = tuple(path.removesuffix(":rw") for path in paths if path.endswith(":rw"))
    return read, write


def _with_hosts(granted: tuple[NetworkGrant, ...], hosts: Iterable[str]) -> tuple[NetworkGrant, ...]:
    """With the host program's hosts.

    A single host decides before the policy's grants, whose rights for that host it keeps. A pattern decides
    after them, where it takes nothing away.
    """
    single: list[NetworkGrant] = []
    patterns: list[NetworkGrant] = []
    for host in hosts:
        try:
            wished = wished_grant(host, granted)
        except ValueError as error:
            raise ConfigError("SandboxConfig.allowed_hosts", f"{host!r} {error}") from None
        (patterns if wished.hosts[0].startswith("*") else single).append(wished)
    return tuple(dict.fromkeys((*single, *granted, *patterns)))


def wrong_path(path: str) -> str:
    """Why a path cannot be granted; empty when it can."""
    # normpath keeps two leading slashes, as POSIX lets them mean something of their own.
    if not re.match("/[^/]", path) or "\0" in path or os.path.normpath(path) != path.rstrip("/"):
        return "must be an absolute path without . and .. (and not / itself)"
    if path.split("/")[1] in ("proc", "sys", "plugin"):
        return "lies where the jail has its own; /proc, /sys and /plugin cannot be granted"
    return ""


def without_contradiction(policy: Policy) -> Policy:
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
        "busy_poll": policy.polls,
        "processes": policy.processes,
    }
    given = [name for name, yes in grants.items() if yes]
    return resolve(policy.mode, policy.entries, policy.changes, given)
