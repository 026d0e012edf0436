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
from typing import Any, Final, NamedTuple

from .config import IsolationLevel, Permission
from .errors import ConfigError
from .messages import pack_config
from .policy_file import BANDWIDTH, CORES, COUNT, Document, Node
from .policy_grants import PLUGIN_PATTERN, MessageGrant, matches, read_calls, read_names
from .policy_http import network_nodes, read_network
from .policy_signatures import read_signatures
from .policy_supervision import READERS as _SUPERVISION, Supervision
from .policy_syscalls import FORMATS, Change, Entry, Mode, read_changes, read_lists
from .policy_terms import LAYERS, LIMITS, Limits, Policy, without_contradiction, wrong_path
from .policy_updates import READERS as _UPDATES

# What the keys of a file mean.

MAY_BE_ZERO: Final = ("tmp", "log", "kv", "state")


def _limit(node: Node) -> Any:
    name = node.path[-1]
    if LIMITS[name] is CORES:
        return node.cores()
    if LIMITS[name] is BANDWIDTH:
        return node.bandwidth()
    return node.amount(LIMITS[name], 0 if name in MAY_BE_ZERO else 1)


def _paths(node: Node) -> tuple[str, ...]:
    for item in node.texts():
        if wrong := wrong_path(item.value):
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


def _choice(*known: str) -> Callable[[Node], str]:
    return lambda node: node.one_of(known)


_READERS: Final[dict[str, Callable[[Node], Any]]] = {
    "description": Node.text,
    "view": _choice("engine", "minimal", "system"),
    "after_load": _choice("none", "read-only"),
    "read": _paths,
    "write": _paths,
    "network": read_network,
    "processes": Node.flag,
    "threads": Node.flag,
    "busy_poll": Node.flag,
    "permissions": _permissions,
    "require": _layers,
    "on_violation": _choice("kill", "deny", "log"),
    "max_violations": lambda node: node.amount(COUNT, 0),
    "host_functions": read_names,
    **_UPDATES,
}

_MESSAGES: Final[dict[str, Callable[[Node], Any]]] = {
    "call": read_calls,
    "publish": read_names,
    "subscribe": read_names,
}
_SIGNATURES: Final = ("required", "keys", "identities", "threshold")

GROUPS: Final[dict[str, Iterable[str] | None]] = {
    "limits": LIMITS,
    "messages": _MESSAGES,
    "config": None,
    "signatures": _SIGNATURES,
    "supervision": _SUPERVISION,
}
"""Keys whose own keys are decided one by one, and those that they know; ``None`` for any."""

KEYS: Final = ("extends", *_READERS, *GROUPS, "syscalls")
"""The keys of a file, and of a section for single plugins."""


class _Layered(NamedTuple):
    """Files laid over each other: every value with the place that decided it.

    Attributes:
        nodes: By key, those of a group as ``limits.memory``.
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
        network, http = values.pop("network")
        policy = Policy(
            level=IsolationLevel(nodes["extends"].value),
            limits=Limits(**{name: _limit(nodes[f"limits.{name}"]) for name in LIMITS}),
            asks=values.pop("permissions"),
            network=network,
            http=http,
            messages=MessageGrant(
                **{name: read(nodes[f"messages.{name}"]) for name, read in _MESSAGES.items()}
            ),
            signatures=read_signatures(*(nodes[f"signatures.{name}"] for name in _SIGNATURES)),
            packed_config=self._packed_config(),
            supervision=Supervision(
                **{name: read(nodes[f"supervision.{name}"]) for name, read in _SUPERVISION.items()}
            ),
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
        return without_contradiction(policy)

    def _packed_config(self) -> bytes:
        prefix = "config."
        nodes = {key[len(prefix) :]: node for key, node in self.nodes.items() if key.startswith(prefix)}
        for key, node in nodes.items():
            _packed({key: node.value}, node)
        *_, last = (self.nodes["extends"], *nodes.values())
        return _packed({key: node.value for key, node in nodes.items()}, last)

    def origins(self) -> dict[str, str]:
        """The place that decided each key."""
        found = {key: node.where for key, node in self.nodes.items() if key not in ("extends", "syscalls")}
        found |= {f"network.{at}": node.where for at, node in enumerate(network_nodes(self.nodes["network"]))}
        changes = {change_key(change): node.where for change, node in self.changes}
        return {"level": self.nodes["extends"].where, **found, **changes}


def _packed(config: Mapping[str, Any], node: Node) -> bytes:
    try:
        return pack_config(config)
    except (TypeError, ValueError) as error:
        node.fail(f"cannot be what frys.config reads: {error}")


def change_key(change: Change) -> str:
    """The key under which a change stands in a file."""
    return f"syscalls.{change.verb}.{change.section}.{change.phase}.{change.rule.name}"


def _nodes(top: Node, also: Iterable[str] = ()) -> dict[str, Node]:
    """The values of a file or a section by key."""
    found = top.mapping((*KEYS, *also))
    for group, known in GROUPS.items():
        for name, node in found.pop(group).mapping(known).items() if group in found else ():
            found[f"{group}.{name}"] = node
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
        matching = [section for section in self.sections if matches(section, plugin_id)]
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


SECTION: Final = re.compile(f"^{PLUGIN_PATTERN.pattern}$")
"""Ids of plugins, and patterns of them."""


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
    found = {name: getattr(policy, name) for name in ("level", *_READERS) if name != "permissions"}
    found |= {f"network.{at}": grant for at, grant in enumerate(policy.http)}
    found["permissions"] = policy.permissions
    found |= {f"limits.{name}": getattr(policy.limits, name) for name in LIMITS}
    found |= {f"messages.{name}": getattr(policy.messages, name) for name in _MESSAGES}
    found["messages.call"] = dict(policy.messages.call)
    found |= {f"signatures.{name}": getattr(policy.signatures, name) for name in _SIGNATURES}
    found["signatures.keys"] = {key.name: str(key) for key in policy.signatures.keys}
    found["signatures.identities"] = {one.name: str(one) for one in policy.signatures.identities}
    found |= {f"supervision.{name}": getattr(policy.supervision, name) for name in _SUPERVISION}
    found |= {f"config.{key}": value for key, value in policy.config.items()}
    found |= {change_key(change): change.rule.why for change in policy.changes}
    for name in FORMATS:
        lists = policy.syscalls[name]
        phases = {"load": lists.load, "serve": lists.serve, "enosys": lists.enosys}
        if lists.mode == "deny":
            phases = {"forbid": lists.load, "enosys": lists.enosys}
        for phase, rules in phases.items():
            found[f"syscalls.{name}.{phase}"] = tuple(sorted({rule.name for rule in rules}))
    return found
