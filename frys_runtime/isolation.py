"""From a policy and a plugin's metadata to a plan that this machine's kernel can enforce."""

import functools
import os
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from . import busy_poll
from .config import IsolationLevel, Permission, SandboxConfig
from .errors import ConfigError, InitializationFailed, LoadFailed, SandboxError
from .jail import Plan
from .linux import landlock
from .linux.bpf import Action, SyscallRule, compile_filter
from .linux.cgroup import CgroupLimits, StorageLimit, Support, probe
from .linux.storage import NoDisk, disks
from .messages import MessageValue
from .metadata import Metadata
from .policy import PolicyFile, level_file, load_policy, settings
from .policy_signatures import Signatures
from .policy_syscalls import Syscalls
from .policy_terms import Limits, Policy
from .signing import Signed, verify
from .sigstore_bundle import verify_bundle

_LIBRARIES: Final = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", *_LIBRARIES),
    *("/etc/alternatives", "/etc/localtime", "/etc/mime.types", "/etc/ssl"),
    *("/dev/null", "/dev/urandom", "/dev/zero"),
)
_NAMES: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/services")
_VIEWS: Final = {"engine": (), "minimal": _LIBRARIES, "system": _SYSTEM}

_CARRIERS: Final = frozenset({"sendmsg", "sendmmsg"})
"""System calls that can send descriptors."""
_PHASES: Final = ("load", "serve")
_PROBES: Final = ("unshare", "mount", "ptrace", "socket")
_SPARE_FILES: Final = 1 << 20
_BASE_DATA: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Confinement:
    """One plugin's policy on this machine: everything that its sandbox enforces.

    Attributes:
        format: The plugin's format.
        policy: The policy with this plugin's limits and grants.
        cgroup: The limits of its cgroup.
        landlock: The kernel's Landlock ABI; 0 for none.
        variant: For a Python plugin, the interpreter that it asks for.
        signatures: What was decided about its signatures, in words for the audit log.
        config: What its ``frys.config`` reads: the defaults of its plugin.json, and the policy's word over
            them.
    """

    format: str
    policy: Policy
    cgroup: CgroupLimits
    landlock: int
    variant: str
    signatures: str = ""
    config: Mapping[str, MessageValue] = field(default_factory=dict, compare=False)

    @property
    def level(self) -> IsolationLevel:
        """The isolation level that the policy extends."""
        return self.policy.level

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self.policy.limits

    @property
    def may_fork(self) -> bool:
        """It may make processes, so its CPU and tasks are counted by its cgroup."""
        return self.policy.processes

    @property
    def may_send_descriptors(self) -> bool:
        """While it serves, its filter lets it send what may carry descriptors."""
        syscalls = self.policy.syscalls[self.format]
        return syscalls.mode == "deny" or any(rule.name in _CARRIERS for rule in syscalls.serve)

    @property
    def busy_poll(self) -> float:
        """Seconds for which its process, and the host, look for each other's next frame before they sleep."""
        serve = self.policy.syscalls[self.format]
        may_yield = serve.mode == "deny" or any(rule.name == "sched_yield" for rule in serve.serve)
        return busy_poll.SECONDS if self.policy.polls and may_yield and busy_poll.is_worthwhile() else 0.0

    def plan(self, engine_paths: Iterable[str], *, needs_files: bool, lacks: tuple[str, ...] = ()) -> Plan:
        """The plan of the jail for a launcher.

        Args:
            engine_paths: What its engine needs to see while it loads.
            needs_files: It needs a plugin's files as files.
            lacks: The layers that this machine does not give.

        Raises:
            SandboxError: The policy allows what cannot be held without one of them.
        """
        if self.may_fork and "pid_namespace" in lacks and "pid_namespace" not in self.policy.require:
            raise SandboxError(
                "the policy allows processes, and without a PID namespace nothing would end them with the "
                "plugin; set `processes: false` (from level high on), or give this user namespaces, see "
                "`frys doctor`"
            )
        return _plan(self, tuple(engine_paths), needs_files, lacks)


@functools.lru_cache(maxsize=256)
def _plan(
    room: Confinement, engine_paths: tuple[str, ...], needs_files: bool, lacks: tuple[str, ...]
) -> Plan:
    policy, limits = room.policy, room.policy.limits
    syscalls = policy.syscalls[room.format]
    if "pid_namespace" in lacks:
        syscalls = _without_signals(syscalls)
    load_filter, serve_filter = compile_filters(syscalls)
    return Plan(
        mounts=_mounts(policy, engine_paths),
        plugin_size=limits.files + _SPARE_FILES if needs_files else 0,
        tmp_size=limits.tmp,
        inodes=limits.inodes,
        rlimits=_rlimits(limits, room.cgroup),
        landlock=room.landlock,
        lacks=lacks,
        network=policy.network,
        keep_files=policy.after_load == "read-only",
        load_filter=load_filter,
        serve_filter=serve_filter,
        probes=tuple(name for name in _PROBES if _is_announced(syscalls, name)),
    )


def _without_signals(syscalls: Syscalls) -> Syscalls:
    """The lists let a plugin signal process 1, which is itself, but only in a PID namespace of its own."""
    rules = {phase: [rule for rule in getattr(syscalls, phase) if rule.name != "tgkill"] for phase in _PHASES}
    absent = SyscallRule("tgkill", "nobody may be signalled; abort goes on to an illegal instruction")
    return msgspec.structs.replace(
        syscalls,
        load=tuple(rules["load"]),
        serve=tuple(rules["serve"]),
        enosys=(*syscalls.enosys, absent),
    )


def _mounts(policy: Policy, engine_paths: tuple[str, ...]) -> tuple[tuple[str, str, bool], ...]:
    """What is shown, without what lies below something that is shown anyway."""
    shown: list[tuple[str, str, bool]] = []
    names = _NAMES if policy.network else ()
    readable = [*_VIEWS[policy.view], *engine_paths, *names, *policy.read]
    for path in sorted({os.path.normpath(path) for path in readable}):
        covered = any(path.startswith(f"{source}/") for source, _, _ in shown if not os.path.islink(source))
        if os.path.lexists(path) and not covered:
            shown.append((path, path, False))
    shown += [(os.path.normpath(path), os.path.normpath(path), True) for path in policy.write]
    return tuple(shown)


def _rlimits(limits: Limits, room: CgroupLimits) -> tuple[tuple[int, int], ...]:
    """What the cgroup does not limit, or not per process; where it counts the tasks, its count is the one."""
    values = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_STACK: limits.stack,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 64,
    }
    if room.memory is None:
        values[resource.RLIMIT_DATA] = limits.memory + _BASE_DATA
    if room.pids is None:
        values[resource.RLIMIT_NPROC] = limits.tasks
    return tuple(values.items())


def compile_filters(syscalls: Syscalls) -> tuple[bytes, bytes]:
    """The two seccomp programs of one format: for loading, and the one that is added for serving.

    Both are in force while serving, and the kernel takes the stricter answer. A call that no list allows
    with these arguments is announced by the first, so the second lets it pass to there; one that only
    loading may make fails with EPERM in the second. A list of forbidden calls needs no second program.
    """
    absent = [(Action.ENOSYS, rule) for rule in syscalls.enosys]
    if syscalls.mode == "deny":
        forbidden = [(Action.NOTIFY, rule) for rule in (*syscalls.load, *syscalls.serve)]
        return compile_filter((*forbidden, *absent), Action.ALLOW), b""
    load = [(Action.ALLOW, rule) for rule in (*syscalls.serve, *syscalls.load)]
    serve = [(Action.ALLOW, rule) for rule in syscalls.serve]
    no_longer = [(Action.EPERM, rule) for rule in syscalls.load]
    return (
        compile_filter((*load, *absent), Action.NOTIFY),
        compile_filter((*serve, *no_longer, *absent), Action.ALLOW),
    )


def _is_announced(syscalls: Syscalls, name: str) -> bool:
    rules = [rule for rule in (*syscalls.load, *syscalls.serve) if rule.name == name]
    return any(not rule.args for rule in rules) if syscalls.mode == "deny" else not rules


class Setting(NamedTuple):
    """One thing that a plugin's policy says.

    Attributes:
        key: In the words of a policy file: ``limits.memory``.
        value: What holds.
        origin: Who decided: a file with a line, ``plugin.json``, or the host program.
    """

    key: str
    value: Any
    origin: str


class IsolationManager:
    """Decides what a plugin gets: the policy, its own wishes for less, and the host program's word.

    Args:
        policy: A policy file for everything, or ``None`` for the level's own.
        level: The level for plugins without a policy; Maximum by default.

    Attributes:
        file: The policy file.
        cgroups: What this machine gives of cgroups, with reasons for what it does not.
        landlock: The kernel's Landlock ABI; 0 for none.
    """

    def __init__(
        self, *, policy: str | os.PathLike[str] | None = None, level: IsolationLevel | str | None = None
    ) -> None:
        if policy is not None and level is not None:
            raise ConfigError("isolation", "a policy file names its level itself; give one of the two")
        self.file = load_policy(policy) if policy is not None else level_file(_level(level))
        if not os.path.exists("/proc/self/status"):
            raise InitializationFailed("the jail", "/proc is not mounted; mount -t proc proc /proc")
        self.cgroups: Support = probe()
        self.landlock = landlock.abi()

    def policy(
        self,
        metadata: Metadata,
        level: IsolationLevel | str | None = None,
        wishes: Iterable[SandboxConfig] = (),
        *,
        plugin_id: str | None = None,
    ) -> Policy:
        """What one plugin may do, whether it asks for more or not.

        Args:
            metadata: Its limits can only tighten the policy's.
            level: Another level than the manager's.
            wishes: The host program's limits, which tighten too, and grants, which widen.
            plugin_id: The id under which it is loaded, if that is not its own.

        Raises:
            ConfigError: A wish cannot be granted, or two patterns of the policy match the id equally well.
        """
        policy = self._file(level).policy(metadata.id if plugin_id is None else plugin_id)
        policy = policy.tightened(metadata.resource_limits)
        for wish in wishes:
            policy = policy.granted(wish)
        return policy

    def explain(
        self,
        metadata: Metadata,
        level: IsolationLevel | str | None = None,
        wishes: Iterable[SandboxConfig] = (),
        *,
        plugin_id: str | None = None,
    ) -> list[Setting]:
        """Everything that :meth:`policy` decides for a plugin, with who decided it.

        Lists of system calls come from the level, the grants and the changes together, and name no origin.
        """
        name = metadata.id if plugin_id is None else plugin_id
        file = self._file(level)
        policy, origins = file.policy(name), dict(file.origins(name))
        stages = [("plugin.json", policy.tightened(metadata.resource_limits))]
        for wish in wishes:
            stages.append(("the host program", stages[-1][1].granted(wish)))
        before = settings(policy)
        for origin, stage in stages:
            after = settings(stage)
            origins |= {key: origin for key, value in after.items() if value != before.get(key)}
            before = after
        defaults = {f"config.{key}": value for key, value in metadata.config.items()}
        origins |= {key: "plugin.json" for key in defaults if key not in before}
        return [Setting(key, value, origins.get(key, "")) for key, value in {**defaults, **before}.items()]

    def confine(
        self,
        metadata: Metadata,
        level: IsolationLevel | str | None = None,
        wishes: Iterable[SandboxConfig] = (),
        *,
        plugin_id: str | None = None,
        path: str = "",
        signed: Signed | None = None,
    ) -> Confinement:
        """The confinement of one plugin.

        Args:
            metadata: Its limits can only tighten the policy's.
            level: Another level than the manager's.
            wishes: The host program's limits, which tighten too, and grants, which widen.
            plugin_id: The id under which it is loaded, if that is not its own.
            path: How the caller named it.
            signed: The package that it is, with its signatures; ``None`` when it is none.

        Raises:
            ConfigError: A wish cannot be granted, or two patterns of the policy match the id equally well.
            LoadFailed: It lacks signatures that the policy requires, or asks for permissions that the policy
                does not grant.
            InvalidFormat: The policy requires signatures, and its signature file is not one of this package.
            SandboxError: The policy sets a limit that this machine cannot enforce.
        """
        policy = self.policy(metadata, level, wishes, plugin_id=plugin_id)
        signatures = judge_signatures(policy.signatures, signed, path or metadata.id)
        _refuse_what_is_not_granted(metadata, policy, path or metadata.id)
        has = self.cgroups.controllers
        if policy.limits.cpu is not None and "cpu" not in has:
            raise SandboxError(
                f"the policy limits {metadata.id} to {policy.limits.cpu:g} cpu (limits.cpu), which only the "
                "cgroup controller cpu can enforce, and this machine does not give it; `frys doctor` says "
                "why, and `cpu: none` does without"
            )
        cgroup = CgroupLimits(
            memory=policy.limits.memory if "memory" in has else None,
            pids=policy.limits.tasks if "pids" in has else None,
            cpu=policy.limits.cpu,
            storage=_storage(policy, metadata.id, may_limit="io" in has),
        )
        variant = "main" if metadata.options.get("interpreter") == "main" else ""
        config = {**metadata.config, **policy.config}
        return Confinement(metadata.format, policy, cgroup, self.landlock, variant, signatures, config)

    def _file(self, level: IsolationLevel | str | None) -> PolicyFile:
        return self.file if level is None else level_file(_level(level))


def _storage(policy: Policy, plugin: str, *, may_limit: bool) -> tuple[StorageLimit, ...]:
    """How fast it may read from each disk that holds something of what it is shown."""
    rate = policy.limits.storage_read
    if rate is None:
        return ()
    shown = [source for source, _, _ in _mounts(policy, ())]
    try:
        if not may_limit:
            raise NoDisk("only cgroup v2's controller io can do that, which this machine does not give it")
        return tuple(StorageLimit(disk, rate) for disk in sorted(disks(shown)))
    except NoDisk as error:
        raise SandboxError(
            f"the policy limits how fast {plugin} reads from disks (limits.storage_read), but {error}; "
            "`storage_read: none` does without"
        ) from None


def judge_signatures(signatures: Signatures, signed: Signed | None, path: str) -> str:
    """Whether a plugin carries the signatures that its policy requires.

    Args:
        signatures: The policy's word.
        signed: The package that it is, read from the bytes that are loaded, with what lies beside it.
        path: How the caller named the plugin.

    Returns:
        What was decided, in words for the audit log.

    Raises:
        LoadFailed: It does not.
        InvalidFormat: What lies beside it is no signature file of this package.
    """
    if not signatures.required:
        return "none required"
    wanted = signatures if signed is None else signatures.for_plugin(signed.package.metadata.id)
    names, why = _signers(wanted, signed)
    if len(names) >= signatures.threshold:
        return f"signed by {', '.join(names)}"
    whose = ", ".join(one.name for one in wanted.signers) or "none"
    have = f" ({', '.join(names)})" if names else ""
    raise LoadFailed(
        path,
        f"its policy requires signatures of {signatures.threshold} of the keys {whose}, and it has "
        f"{len(names)}{have}: {why}",
        by_policy=True,
    )


def _signers(wanted: Signatures, signed: Signed | None) -> tuple[tuple[str, ...], str]:
    """Who of those whom the policy trusts for a plugin has signed, and what to say when they are too few."""
    if signed is None:
        return (), "it is no package, and only packages carry signatures; `frys pack` makes one"
    if len(wanted.signers) < wanted.threshold:
        return (), f"its policy lets no other sign {signed.package.metadata.id}"
    names: tuple[str, ...] = ()
    reasons = []
    if wanted.keys:
        file = os.path.basename(signed.path)
        if signed.envelope is None:
            reasons.append(f"there is no file {file} beside it; `frys sign` makes it")
        else:
            names = verify(signed.envelope, signed.package, wanted.keys, signed.path).names
            reasons.append(f"no other signature in {file} is one of theirs over this package")
    if wanted.identities:
        file = os.path.basename(signed.bundle_path)
        if signed.bundle is None:
            reasons.append(f"there is no file {file} beside it; `sigstore sign` makes it")
        else:
            digest, where = signed.package.digest, signed.bundle_path
            outcome = verify_bundle(signed.bundle, digest, wanted.identities, where)
            names += outcome.names
            reasons.append(f"the signature in {file} is none of theirs over this package: {outcome.why}")
    return names, "; ".join(reasons)


_GRANTED_BY: Final = {
    Permission.READ: "`after_load: read-only` with `read` or a `view`",
    Permission.WRITE: "`write` or `limits.tmp`",
    Permission.NETWORK: "`network: {hosts: [...]}` or `network: true`",
    Permission.EXECUTE: "`permissions`",
    Permission.ADMIN: "`permissions`, though nothing in this version needs it",
}


def _refuse_what_is_not_granted(metadata: Metadata, policy: Policy, path: str) -> None:
    missing = sorted(metadata.permissions - metadata.optional_permissions - policy.permissions)
    if not missing:
        return
    ways = "; ".join(f"{permission} by {_GRANTED_BY[permission]}" for permission in missing)
    raise LoadFailed(
        path,
        f"it asks for {' and '.join(missing)}, which its policy (level {policy.level}) does not grant: "
        f"a policy file grants {ways}; what it can do without belongs into its optionalPermissions",
        by_policy=True,
    )


def _level(level: IsolationLevel | str | None) -> IsolationLevel:
    try:
        return IsolationLevel(level if level is not None else IsolationLevel.MAXIMUM)
    except ValueError:
        names = ", ".join(IsolationLevel)
        raise ConfigError("isolation", f"{level!r} is no isolation level; choose one of {names}") from None
