"""What is worth saying about a policy that can be read: findings, and differences."""

import os
from collections.abc import Iterator
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Any, Final, NamedTuple

import msgspec

from .config import IsolationLevel, Permission
from .policy import PolicyFile, change_key, level_policy, settings, weight
from .policy_http import NetworkGrant, is_private
from .policy_syscalls import FORMATS, Change, Syscalls
from .policy_terms import Policy, quantity


class Kind(StrEnum):
    """What is the matter with a part of a policy."""

    WIDE = "too wide"
    """It opens more than most plugins need, or than its author may think."""
    CONTRADICTORY = "contradictory"
    """Two parts cannot both have an effect."""
    USELESS = "without effect"
    """It changes nothing."""


class Finding(NamedTuple):
    """One remark about a policy file.

    Attributes:
        kind: What is the matter.
        where: File and line.
        key: In the words of the file, with ``plugins.NAME.`` before those of a section.
        text: One sentence.
    """

    kind: Kind
    where: str
    key: str
    text: str


type _Remark = tuple[Kind, str, str]
"""Kind, key, text."""


def lint(file: PolicyFile) -> list[Finding]:
    """What is too wide, contradictory or without effect; what is wrong or unknown is refused on reading.

    What every plugin gets is said once, not again for each section.
    """
    found: list[Finding] = []
    general = set(_remarks(file.policy_of("")))
    for section in ("", *file.sections):
        origins = file.origins_of(section)
        found += [
            Finding(kind, origins.get(key, file.name), f"plugins.{section}.{key}" if section else key, text)
            for kind, key, text in dict.fromkeys(_remarks(file.policy_of(section)))
            if not section or (kind, key, text) not in general
        ]
    return [*found, *_overlaps(file)]


def _overlaps(file: PolicyFile) -> Iterator[Finding]:
    patterns = [section for section in file.sections if "*" in section or "?" in section]
    for one, two in combinations(patterns, 2):
        if weight(one) == weight(two) and _meet(one, two):
            text = f"a plugin that {one} matches as well is refused; make one of them more specific"
            yield Finding(Kind.CONTRADICTORY, file.name, f"plugins.{two}", text)
    for pattern in patterns:
        if not pattern.strip("*"):
            text = "matches every plugin: write its keys at the top of the file"
            yield Finding(Kind.USELESS, file.name, f"plugins.{pattern}", text)


def _meet(one: str, two: str) -> bool:
    """Whether some id matches both patterns."""
    reached = {(0, 0)}
    todo = [(0, 0)]
    while todo:
        at, to = todo.pop()
        first, second = one[at : at + 1], two[to : to + 1]
        if not first and not second:
            return True
        steps = set()
        if first == "*":
            steps |= {(at + 1, to), (at, to + 1)} if second else {(at + 1, to)}
        if second == "*":
            steps |= {(at, to + 1), (at + 1, to)} if first else {(at, to + 1)}
        if first and second and "*" not in (first, second) and (first == second or "?" in (first, second)):
            steps.add((at + 1, to + 1))
        todo += steps - reached
        reached |= steps
    return False


def _remarks(policy: Policy) -> Iterator[_Remark]:
    yield from _grants(policy)
    for at in range(len(policy.http)):
        yield from _requests(policy, at)
    yield from _asks(policy)
    yield from _signatures(policy)
    yield from _updates(policy)
    yield from _permissions(policy)
    yield from _limits(policy)
    for at in range(len(policy.changes)):
        yield from _change(policy, at)


_TOO_MUCH: Final = frozenset(
    ("boot", "dev", "etc", "home", "lib", "media", "mnt", "opt", "root", "run", "srv", "tmp", "usr", "var")
)
_SECRETS: Final = (
    "/etc/shadow*",
    "/etc/ssh/*",
    "/etc/ssl/private*",
    "/root/*",
    "*/.ssh*",
    "*/.gnupg*",
    "*.sock",
)


def _grants(policy: Policy) -> Iterator[_Remark]:
    base = level_policy(policy.level)
    if policy.network:
        text = "opens the host's whole network, with what listens on its localhost"
        yield Kind.WIDE, "network", text
    for key, paths in (("read", policy.read), ("write", policy.write)):
        for path in paths:
            if path.strip("/") in _TOO_MUCH:
                yield Kind.WIDE, key, f"{path} holds much that no plugin needs: name a folder below it"
            if any(fnmatchcase(path, secret) for secret in _SECRETS):
                yield Kind.WIDE, key, f"{path} is where secrets lie"
            if not os.path.lexists(path):
                yield Kind.USELESS, key, f"{path} is not there on this machine"
    for path in sorted({*policy.read} & {*policy.write}):
        yield Kind.CONTRADICTORY, "read", f"{path} stands under write, too, and is writable"
    dropped = sorted(base.require - policy.require - ({"network_namespace"} if policy.network else set()))
    if dropped:
        text = f"does without {', '.join(dropped)}, which level {policy.level} requires"
        yield Kind.WIDE, "require", text
    if policy.on_violation == "log":
        yield Kind.WIDE, "on_violation", "lets forbidden calls happen: it is for learning what a plugin needs"


_USUAL: Final = NetworkGrant(hosts=())


def _requests(policy: Policy, at: int) -> Iterator[_Remark]:
    grant, earlier, limits = policy.http[at], policy.http[:at], policy.limits
    key = f"network.{at}"
    patterns = [host for host in grant.hosts if host.startswith("*")]
    for host in patterns:
        if host == "*":
            yield Kind.WIDE, key, "reaches every host, so whatever the plugin knows can leave: name the hosts"
        elif host.count(".") == 1:
            yield Kind.WIDE, key, f"reaches {host}, which is a whole top-level domain"
    if grant.private and patterns:
        text = f"is private with {patterns[0]}: who answers for such a name chooses a machine of your network"
        yield Kind.WIDE, key, text
    public = [host for host in grant.hosts if not is_private(host)]
    for host in () if grant.private else sorted({*grant.hosts} - {*public}):
        text = f"names {host}, which is this machine or its network: refused unless private is true"
        yield Kind.CONTRADICTORY, key, text
    if grant.plain and public:
        text = f"is plain with {public[0]}: what is sent and received can be read and changed on the way"
        yield Kind.WIDE, key, text
    if grant.plain and grant.ports == _USUAL.ports:
        yield Kind.USELESS, key, "is plain, but its one port, 443, speaks TLS: name the port of http://, too"
    if _USUAL.max_response != grant.max_response > limits.memory:
        text = f"lets in more than the {quantity('memory', limits.memory)} of memory that there are"
        yield Kind.CONTRADICTORY, key, text
    if _USUAL.timeout != grant.timeout > limits.execution_time:
        text = f"waits longer than a call may: {quantity('execution_time', limits.execution_time)}"
        yield Kind.CONTRADICTORY, key, text
    reached = ((host, port) for host in grant.hosts for port in grant.ports)
    if all(any(before.reaches(host, port) for before in earlier) for host, port in reached):
        yield Kind.USELESS, key, "is never asked: those before it decide about all its hosts and ports"


def _asks(policy: Policy) -> Iterator[_Remark]:
    """Messages, host functions, and what belongs to them."""
    messages, kv = policy.messages, policy.limits.kv
    everything = {
        "messages.call": ([target for target, _ in messages.call], "opens every plugin, also later ones"),
        "messages.publish": (messages.publish, "lets it raise every event, also those that others act upon"),
        "messages.subscribe": (messages.subscribe, "shows it every event, whatever that holds"),
        "host_functions": (
            policy.host_functions,
            "opens every host function, also later ones",
        ),
    }
    for key, (names, text) in everything.items():
        if any(not name.strip("*") for name in names):
            yield Kind.WIDE, key, f"{text}: name them"
    if policy.may_use("kv") and not kv:
        yield Kind.CONTRADICTORY, "host_functions", "has kv, but limits.kv is 0"
    if not policy.may_use("kv") and 0 != kv != level_policy(policy.level).limits.kv:
        yield Kind.USELESS, "limits.kv", "is of a store that it may not use: host_functions has no kv"
    if policy.config and not policy.may_use("config"):
        key = f"config.{next(iter(policy.config))}"
        yield Kind.USELESS, key, "cannot be read: host_functions has no config"


def _signatures(policy: Policy) -> Iterator[_Remark]:
    wanted = policy.signatures
    if not wanted.required:
        for name in ("keys", "identities"):
            if getattr(wanted, name):
                text = "are not asked for: signatures.required is false"
                yield Kind.USELESS, f"signatures.{name}", text
        return
    # With each signer, those that may sign one of the same plugins: too few for all of them is too few.
    together = [
        sum(any(_meet(one, two) for one in signer.ids for two in other.ids) for other in wanted.signers)
        for signer in wanted.signers
    ]
    if max(together) < wanted.threshold:
        text = f"refuses every plugin: none is one that {wanted.threshold} of the keys may sign"
        yield Kind.CONTRADICTORY, "signatures.threshold", text


def _updates(policy: Policy) -> Iterator[_Remark]:
    if policy.auto_update == "none":
        if policy.auto_update_canary:
            yield Kind.USELESS, "auto_update_canary", "tries nothing: auto_update is none"
        return
    if not policy.signatures.required:
        text = (
            "runs new code of whoever holds the registry's keys: signatures.required is false, so no "
            "publisher has to sign it"
        )
        yield Kind.WIDE, "auto_update", text
    if not policy.auto_update_min_age:
        text = "takes a version in the moment it is published, before anybody can have looked at it"
        yield Kind.WIDE, "auto_update_min_age", text


def _permissions(policy: Policy) -> Iterator[_Remark]:
    for permission in sorted(policy.permissions - policy.opened):
        text = f"accepts {permission}, which nothing in this policy opens: who asks for it loads without"
        yield Kind.CONTRADICTORY, "permissions", text
    for permission in sorted(policy.opened - policy.permissions - {Permission.EXECUTE}):
        text = f"lacks {permission}, which other keys open for every plugin that does not ask"
        yield Kind.CONTRADICTORY, "permissions", text


def _limits(policy: Policy) -> Iterator[_Remark]:
    """A level's own limit above another that was lowered is no contradiction: the lower one holds."""
    limits, base = policy.limits, level_policy(policy.level).limits
    for name in ("tmp", "output", "stack", "files"):
        if getattr(base, name) != getattr(limits, name) > limits.memory:
            ours, memory = quantity(name, getattr(limits, name)), quantity("memory", limits.memory)
            text = f"is {ours}, but counts as memory, of which there are {memory}"
            yield Kind.CONTRADICTORY, f"limits.{name}", text
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if limits.memory >= machine:
        text = f"is no limit: this machine has {machine >> 20}MiB"
        yield Kind.WIDE, "limits.memory", text
    cores = min(limits.tasks if limits.cpu is None else limits.cpu, os.cpu_count() or 1)
    if base.cpu_time != limits.cpu_time > limits.execution_time * cores:
        time = quantity("execution_time", limits.execution_time)
        text = f"cannot be reached within an execution_time of {time} on {cores:g} processors"
        yield Kind.CONTRADICTORY, "limits.cpu_time", text
    if limits.cpu is not None and limits.cpu > limits.tasks:
        text = f"cannot be used: {limits.tasks} tasks keep no more than {limits.tasks} processors busy"
        yield Kind.USELESS, "limits.cpu", text
    if limits.storage_read is not None and policy.after_load == "none":
        text = "limits nothing once it is loaded: after_load shows it no file"
        yield Kind.USELESS, "limits.storage_read", text
    for name in ("threads", "processes"):
        if getattr(policy, name) and limits.tasks == 1:
            yield Kind.CONTRADICTORY, name, "opens nothing as long as limits.tasks is 1"
    if limits.tasks > 1 and not policy.threads and not policy.processes:
        text = "allows tasks that can never be started: threads and processes are false"
        yield Kind.USELESS, "limits.tasks", text


_LANE: Final = ("recvfrom", "sendto", "exit_group")


def _change(policy: Policy, at: int) -> Iterator[_Remark]:
    change = policy.changes[at]
    key, name = change_key(change), change.rule.name
    before, after = (msgspec.structs.replace(policy, changes=policy.changes[:end]) for end in (at, at + 1))
    concerned = FORMATS if change.section == "common" else (change.section,)
    if all(
        before.syscalls[kind] == after.syscalls[kind] or _holds(before.syscalls[kind], change)
        for kind in concerned
    ):
        text = "was allowed already" if change.verb == "allow" else "was not allowed anyway"
        yield Kind.USELESS, key, text
    if change.verb == "forbid" and name in _LANE:
        yield Kind.CONTRADICTORY, key, "is how a plugin talks to the host: none can be called without it"
    listed = level_policy(IsolationLevel.STANDARD).syscalls["native"].load
    why = next((rule.why for rule in listed if rule.name == name and not rule.args), "")
    if change.verb == "allow" and why:
        yield Kind.WIDE, key, f"even level standard forbids it: {why}"


def _holds(lists: Syscalls, change: Change) -> bool:
    """Whether what a change adds is in the list already, for all arguments."""
    if (change.verb == "allow") != (lists.mode == "allow"):
        return False
    rules = lists.serve if change.phase == "serve" and lists.mode == "allow" else (*lists.load, *lists.serve)
    return any(rule.name == change.rule.name and not rule.args for rule in rules)


class Difference(NamedTuple):
    """One key in which two policies differ.

    Attributes:
        key: In the words of a policy file; ``syscalls.FORMAT.PHASE`` for the resulting lists.
        before: The first policy's value; of a list, what only it has; ``None`` where it has no such key.
        after: The same for the second.
    """

    key: str
    before: Any
    after: Any


def diff(one: Policy, two: Policy) -> list[Difference]:
    """Every key in which two policies differ."""
    ours, theirs = settings(one), settings(two)
    found = []
    for key in dict.fromkeys((*ours, *theirs)):
        before, after = ours.get(key), theirs.get(key)
        if before == after:
            continue
        if isinstance(before, tuple | frozenset) and isinstance(after, tuple | frozenset):
            before, after = sorted({*before} - {*after}), sorted({*after} - {*before})
        found.append(Difference(key, before, after))
    return found
