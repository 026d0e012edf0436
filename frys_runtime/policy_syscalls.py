"""The system calls of a policy: the full lists of a level, and what a deployment changes in them.

A level lists every call with its reason, by phase and section (``serve: {native: {sched_yield: why}}``). A
deployment only adds or takes single calls (``allow: {native: {serve: {getcpu: why}}}``).
"""

import fcntl
import mmap
import os
import re
import socket
import termios
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

import msgspec

from .linux.bpf import OPERATORS, Condition, SyscallRule, syscall_number
from .policy_file import Node

FORMATS: Final = ("wasm", "javascript", "native", "python")
GRANTS: Final = ("files", "writes", "locks", "network", "threads", "processes", "busy_poll")
"""Sections of a level's lists that a grant opens."""

_PHASES: Final = {"allow": ("enosys", "load", "serve"), "deny": ("enosys", "forbid")}

type Mode = Literal["allow", "deny"]
type Phase = Literal["load", "serve"]


class Entry(NamedTuple):
    """One rule of a level's lists."""

    phase: str
    section: str
    rule: SyscallRule


class Change(NamedTuple):
    """One call that a deployment adds or takes.

    Attributes:
        verb: ``allow`` or ``forbid``.
        section: A format, or ``common`` for all.
        phase: ``serve``: always for a call that is allowed, after loading for one that is forbidden.
            ``load``: while loading for a call that is allowed, never for one that is forbidden.
        rule: The call with its reason.
    """

    verb: Literal["allow", "forbid"]
    section: str
    phase: Phase
    rule: SyscallRule


class Syscalls(msgspec.Struct, frozen=True, cache_hash=True):
    """The system calls of one format under one policy.

    Attributes:
        mode: ``allow``: what is not listed is forbidden. ``deny``: what is listed is forbidden.
        load: ``allow``: what only loading may do. ``deny``: what is forbidden.
        serve: ``allow``: what may be done always.
        enosys: What is answered as by an older kernel, where the other lists do not allow it.
    """

    mode: Mode
    load: tuple[SyscallRule, ...]
    serve: tuple[SyscallRule, ...]
    enosys: tuple[SyscallRule, ...]

    def changed(self, change: Change) -> "Syscalls":
        """The lists after one change."""
        name = change.rule.name
        if change.verb == "allow" and self.mode == "allow":
            if change.phase == "serve":
                return msgspec.structs.replace(self, serve=(*self.serve, change.rule))
            return msgspec.structs.replace(self, load=(*self.load, change.rule))
        if change.verb == "forbid" and self.mode == "deny":
            return msgspec.structs.replace(self, load=(*self.load, change.rule))
        if change.phase == "serve" and self.mode == "allow":
            no_longer = tuple(rule for rule in self.serve if rule.name == name)
            return msgspec.structs.replace(
                self, load=(*self.load, *no_longer), serve=_without(self.serve, name)
            )
        load, serve, enosys = (_without(rules, name) for rules in (self.load, self.serve, self.enosys))
        return Syscalls(self.mode, load, serve, enosys)


def _without(rules: Iterable[SyscallRule], name: str) -> tuple[SyscallRule, ...]:
    return tuple(rule for rule in rules if rule.name != name)


def resolve(
    mode: Mode, entries: Iterable[Entry], changes: Iterable[Change], granted: Iterable[str]
) -> dict[str, Syscalls]:
    """The system calls of every format.

    Args:
        mode: The level's.
        entries: The level's.
        changes: The deployment's; a later one decides over an earlier one.
        granted: The sections of grants that are given.
    """
    shared = {"common", *granted}
    found: dict[str, Syscalls] = {}
    for name in FORMATS:
        chosen: dict[str, list[SyscallRule]] = {phase: [] for phases in _PHASES.values() for phase in phases}
        for phase, section, rule in entries:
            if section == name or section in shared:
                chosen[phase].append(rule)
        load = chosen["load"] if mode == "allow" else chosen["forbid"]
        lists = Syscalls(mode, tuple(load), tuple(chosen["serve"]), tuple(chosen["enosys"]))
        for change in changes:
            if change.section in (name, "common"):
                lists = lists.changed(change)
        found[name] = lists
    return found


def read_lists(node: Node) -> tuple[Mode, tuple[Entry, ...]]:
    """The lists of a level's file.

    Raises:
        ConfigError: Something in them is wrong.
    """
    keys = node.mapping()
    mode: Mode = "allow" if keys["mode"].one_of(_PHASES) == "allow" else "deny"
    phases = node.mapping(("mode", *_PHASES[mode]))
    entries = [
        Entry(phase, section, rule)
        for phase in _PHASES[mode]
        if phase in phases
        for section, calls in phases[phase]
        .mapping(("common", *FORMATS, *(GRANTS if phase == "serve" else ())))
        .items()
        for name, call in calls.mapping().items()
        for rule in _rules(name, call)
    ]
    return mode, tuple(entries)


def read_changes(node: Node, mode: Mode) -> list[tuple[Change, Node]]:
    """The changes of a deployment, each with where it stands.

    Raises:
        ConfigError: Something in them is wrong, or cannot be done at a level of this mode.
    """
    found: list[tuple[Change, Node]] = []
    for verb, sections in node.mapping(("allow", "forbid")).items():
        for section, phases in sections.mapping(("common", *FORMATS)).items():
            for phase, calls in phases.mapping(("load", "serve")).items():
                if mode == "deny" and phase == "load":
                    calls.fail("has no meaning at level standard, whose one filter always holds: write serve")
                for name, call in calls.mapping().items():
                    rules = _rules(name, call)
                    if (verb == "allow") != (mode == "allow") and rules[0].args:
                        call.fail("is taken from a list with all its arguments: write only the reason")
                    found += [(_change(verb, section, phase, rule), call) for rule in rules]
    return found


def _change(verb: str, section: str, phase: str, rule: SyscallRule) -> Change:
    return Change(
        "allow" if verb == "allow" else "forbid", section, "load" if phase == "load" else "serve", rule
    )


def _rules(name: str, node: Node) -> list[SyscallRule]:
    """``name: why``, or ``name: {when: ..., why: ...}`` with alternatives in a list."""
    try:
        syscall_number(name)
    except LookupError as error:
        node.fail(str(error))
    if not isinstance(node.value, dict):
        return [SyscallRule(name, node.text())]
    keys = node.mapping(("when", "why"))
    for key in ("when", "why"):
        if key not in keys:
            node.child(key).fail("is missing")
    why, when = keys["why"].text(), keys["when"]
    alternatives = when.texts() if isinstance(when.value, list) else [when]
    if not alternatives:
        when.fail("must name at least one condition")
    return [
        SyscallRule(name, why, tuple(_condition(one, part) for part in one.text().split(" and ")))
        for one in alternatives
    ]


_CONDITION: Final = re.compile(r"arg([0-5])(?: & (\w+))? (\S+) (\w+)")


def _condition(node: Node, text: str) -> Condition:
    """``arg0 == 1`` or ``arg2 & PROT_EXEC == 0``; numbers, or names of the kernel's constants."""
    match = _CONDITION.fullmatch(text.strip())
    if match is None or match[3] not in OPERATORS:
        node.fail(
            f"{text!r} is not a condition like 'arg0 == 1' or 'arg2 & PROT_EXEC == 0'; operators are "
            f"{' '.join(OPERATORS)}, several conditions are joined by ' and '"
        )
    mask = 0xFFFFFFFF if match[2] is None else _number(node, match[2])
    return Condition(int(match[1]), match[3], _number(node, match[4]), mask)


_CONSTANTS: Final = {
    "CLONE_NEW_ANY": 0x7E020000,  # every CLONE_NEW* but NEWTIME, which clone(2) cannot take
    "PR_SET_NAME": 15,
    "PR_CAPBSET_READ": 23,
    "PR_GET_NO_NEW_PRIVS": 39,
    "SECCOMP_SET_MODE_FILTER": 1,
    "TIOCLINUX": 0x541C,
}


def _number(node: Node, word: str) -> int:
    if re.fullmatch(r"0x[0-9a-fA-F]{1,8}|\d{1,10}", word, re.ASCII):
        number = int(word, 16 if word.startswith("0x") else 10)
    else:
        spellings = (getattr(module, word, None) for module in (mmap, fcntl, termios, socket, os))
        known = [int(value) for value in (_CONSTANTS.get(word), *spellings) if isinstance(value, int)]
        if not word.isupper() or not known:
            node.fail(f"{word} is neither a number nor a constant that Frys knows")
        number = known[0]
    if not 0 <= number <= 0xFFFFFFFF:
        node.fail(f"{word} does not fit into 32 bits")
    return number
