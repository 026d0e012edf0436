"""What plugins may do: YAML files, read strictly, and what a caller's wishes make of them.

Each isolation level is one file in ``policies/``. A deployment's file names the level that it extends and
then says only what is different. Every error names the file, the key and the line.
"""

import fcntl
import functools
import mmap
import os
import re
import socket
import termios
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fractions import Fraction
from importlib.resources import files
from typing import Any, Final, Literal, NoReturn, Protocol

import msgspec
import yaml

from .config import IsolationLevel, SandboxConfig
from .errors import ConfigError
from .linux.bpf import OPERATORS, Condition, SyscallRule, syscall_number

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

FORMATS: Final = ("wasm", "javascript", "native", "python")

_GRANTS: Final = ("files", "writes", "network", "threads", "processes")
_SECTIONS: Final = ("common", *FORMATS, *_GRANTS)
_PHASES: Final = {"allow": ("enosys", "load", "serve"), "deny": ("enosys", "forbid")}

type View = Literal["engine", "minimal", "system"]
type AfterLoad = Literal["none", "read-only"]
type Mode = Literal["allow", "deny"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a plugin may use.

    Attributes:
        memory: Bytes that the kernel charges to the plugin.
        cpu_time: Milliseconds of CPU per call.
        execution_time: Milliseconds of wall-clock time per call.
        load_time: Milliseconds from the first byte of the plugin to ready.
        tasks: Processes and threads together.
        open_files: Descriptors.
        file_size: Bytes of one file.
        files: Bytes of all the plugin's own files, for the formats that need them as files.
        output: Bytes of one result.
        log: Bytes printed during one call.
        stack: Bytes.
        tmp: Bytes of a private ``/tmp``; 0 for none.
    """

    memory: int
    cpu_time: int
    execution_time: int
    load_time: int
    tasks: int
    open_files: int
    file_size: int
    files: int
    output: int
    log: int
    stack: int
    tmp: int


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


type _Entry = tuple[str, str, SyscallRule]
"""Phase, section, rule."""


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
        require: The layers without which it must not start.
        mode: Whether ``entries`` allow or forbid.
        entries: Every entry of the system-call lists.
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
    require: frozenset[str]
    mode: Mode
    entries: tuple[_Entry, ...]

    @property
    def syscalls(self) -> Mapping[str, Syscalls]:
        """The system calls of every format, with those that the grants open."""
        return _syscalls(self)

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
        return _without_contradiction(
            msgspec.structs.replace(
                limited,
                view="system" if wish.allow_fs else self.view,
                after_load="read-only" if opened else self.after_load,
                read=tuple(dict.fromkeys(self.read + read)),
                write=tuple(dict.fromkeys(self.write + write)),
                network=self.network or wish.allow_network,
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
    if not path.startswith("/") or "\0" in path or os.path.normpath(path) != path.rstrip("/"):
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
        "network": policy.network,
        "threads": policy.threads,
        "processes": policy.processes,
    }
    shared = {"common", *(name for name, given in grants.items() if given)}
    found: dict[str, Syscalls] = {}
    for name in FORMATS:
        chosen: dict[str, list[SyscallRule]] = {phase: [] for phases in _PHASES.values() for phase in phases}
        for phase, section, rule in policy.entries:
            if section == name or section in shared:
                chosen[phase].append(rule)
        load = chosen["load"] if policy.mode == "allow" else chosen["forbid"]
        found[name] = Syscalls(policy.mode, tuple(load), tuple(chosen["serve"]), tuple(chosen["enosys"]))
    return found


@functools.cache
def level_policy(level: IsolationLevel) -> Policy:
    """The policy of a level, from the YAML file that comes with Frys."""
    return _policy(_level_file(level), level)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """The policy of a deployment's file.

    Raises:
        ConfigError: The file cannot be read, or something in it is wrong; file, key and line are named.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(name, f"cannot be read: {error.strerror}") from None
    document = _Document(name, data)
    level = document.tree.get("extends")
    if level not in tuple(IsolationLevel):
        document.fail(("extends",), f"must name the level to start from: {', '.join(IsolationLevel)}")
    return _policy(document, IsolationLevel(level))


@functools.cache
def _level_file(level: IsolationLevel) -> "_Document":
    data = files(f"{__package__}.policies").joinpath(f"{level}.yaml").read_bytes()
    document = _Document(f"{level}.yaml", data)
    if "extends" in document.tree:
        parent = _level_file(IsolationLevel(document.tree["extends"]))
        document.tree = _merge(parent.tree, document.tree)
    return document


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Objects are merged key by key; anything else is replaced."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merge(below[key], above[key])
    return merged


# Reading YAML: plain values with the line of every key.

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_BYTES: Final = 1 << 18
_MAX_DEPTH: Final = 16
_MAX_NODES: Final = 20_000

type _Path = tuple[str, ...]


class _Document:
    """One YAML file as plain values.

    Attributes:
        tree: The values.
    """

    def __init__(self, file: str, data: bytes) -> None:
        self._file = file
        self._lines: dict[_Path, int] = {}
        self._nodes = 0
        self._scalars = yaml.constructor.SafeConstructor()
        tree = self._plain(self._compose(data), ())
        if not isinstance(tree, dict):
            raise ConfigError(file, "must be a mapping of keys to values")
        self.tree: dict[str, Any] = tree

    def fail(self, path: _Path, reason: str) -> NoReturn:
        """Raise the ConfigError for a key."""
        line = next(
            (self._lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._lines), 0
        )
        where = f"{self._file}, line {line}" if line else self._file
        raise ConfigError(f"{where}: {'.'.join(path)}" if path else where, reason)

    def _compose(self, data: bytes) -> yaml.Node | None:
        if len(data) > _MAX_BYTES:
            raise ConfigError(self._file, f"is longer than {_MAX_BYTES} bytes")
        try:
            node: yaml.Node | None = yaml.compose(data.decode(), Loader=_LOADER)
        except UnicodeDecodeError as error:
            raise ConfigError(self._file, f"is not UTF-8: byte {error.start}") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f"{self._file}, line {mark.line + 1}, column {mark.column + 1}" if mark else self._file
            raise ConfigError(where, f"is not YAML: {error.problem}") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(self._file, f"is not YAML: {error}") from None
        return node

    def _plain(self, node: yaml.Node | None, path: _Path) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            self.fail(path, "is nested too deeply, or the file has too many values")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*path, str(index))) for index, item in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node) if node is not None else None
        except (yaml.YAMLError, ValueError):
            return self.fail(path, "has a value that YAML cannot read")

    def _mapping(self, node: yaml.MappingNode, path: _Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{self._file}, line {line}", "a key must be a word")
            key = key_node.value
            self._lines[*path, key] = line
            if key in found:
                self.fail((*path, key), "stands there twice")
            found[key] = self._plain(value_node, (*path, key))
        return found


# From plain values to a policy.


def _policy(document: _Document, level: IsolationLevel) -> Policy:
    below = _level_file(level).tree
    tree = _merge(below, document.tree)
    known = {*_KEYS, "limits", "syscalls", "extends"}
    _check_keys(document, (), tree, known, complete=known - {"extends"})
    values = {key: check(document, (key,), tree[key]) for key, check in _KEYS.items()}
    mode, entries = _read_syscalls(document, tree["syscalls"], below["syscalls"]["mode"])
    policy = Policy(
        level=level, limits=_read_limits(document, tree["limits"]), mode=mode, entries=entries, **values
    )
    if policy.after_load == "none" and (policy.read or policy.write):
        key = "read" if policy.read else "write"
        document.fail((key,), "shows nothing while the plugin serves, unless after_load is read-only, too")
    if policy.mode == "deny" and not (policy.processes and policy.threads):
        key = "threads" if policy.processes else "processes"
        document.fail(
            (key,), "cannot be false here; lower limits.tasks, or extend high, which forbids by default"
        )
    return _without_contradiction(policy)


def _check_keys(
    document: _Document, path: _Path, found: Any, known: Iterable[str], complete: Iterable[str] = ()
) -> None:
    if not isinstance(found, dict):
        document.fail(path, "must be a mapping of keys to values")
    for key in found:
        if key not in known:
            close = get_close_matches(key, list(known), 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            document.fail((*path, key), f"is not a key that belongs here; {hint}")
    for key in complete:
        if key not in found:
            document.fail((*path, key), "is missing")


def _text(document: _Document, path: _Path, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        document.fail(path, "must be a text")
    return value


def _flag(document: _Document, path: _Path, value: Any) -> bool:
    if not isinstance(value, bool):
        document.fail(path, f"must be true or false, not {value!r}")
    return value


def _one_of(*known: str) -> Callable[[_Document, _Path, Any], str]:
    def check(document: _Document, path: _Path, value: Any) -> str:
        if value not in known:
            document.fail(path, f"is {value!r}; it must be one of {', '.join(known)}")
        return str(value)

    return check


def _list(document: _Document, path: _Path, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        document.fail(path, "must be a list of texts: [...]")
    return value


def _paths(document: _Document, path: _Path, value: Any) -> tuple[str, ...]:
    found = _list(document, path, value)
    for item in found:
        if wrong := _wrong_path(item):
            document.fail(path, f"{item!r} {wrong}")
    return tuple(found)


def _layers(document: _Document, path: _Path, value: Any) -> frozenset[str]:
    found = _list(document, path, value)
    for item in found:
        if item not in LAYERS:
            document.fail(path, f"{item!r} is not a layer; known are {', '.join(LAYERS)}")
    return frozenset(found)


_KEYS: Final[dict[str, Callable[[_Document, _Path, Any], Any]]] = {
    "description": _text,
    "view": _one_of("engine", "minimal", "system"),
    "after_load": _one_of("none", "read-only"),
    "read": _paths,
    "write": _paths,
    "network": _flag,
    "processes": _flag,
    "threads": _flag,
    "require": _layers,
}

_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_TIME: Final = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}
_COUNT: Final[dict[str, int]] = {}
_LIMIT_UNITS: Final = {
    "memory": _BYTES,
    "cpu_time": _TIME,
    "execution_time": _TIME,
    "load_time": _TIME,
    "tasks": _COUNT,
    "open_files": _COUNT,
    "file_size": _BYTES,
    "files": _BYTES,
    "output": _BYTES,
    "log": _BYTES,
    "stack": _BYTES,
    "tmp": _BYTES,
}
_MAY_BE_ZERO: Final = ("tmp", "log")


def _read_limits(document: _Document, found: Any) -> Limits:
    path = ("limits",)
    _check_keys(document, path, found, _LIMIT_UNITS, complete=_LIMIT_UNITS)
    return Limits(
        **{
            name: _quantity(document, (*path, name), found[name], units)
            for name, units in _LIMIT_UNITS.items()
        }
    )


def _quantity(document: _Document, path: _Path, value: Any, units: Mapping[str, int]) -> int:
    """A number, with a unit unless it is a count or 0."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]*)", str(value))
    number, unit = match.groups() if match and not isinstance(value, bool) else ("", "")
    factor = units.get(unit) if units else 1 if not unit else None
    if not unit and number.strip("0.") == "":
        factor = 1
    if not number or factor is None:
        form = f"a number with one of the units {', '.join(units)}" if units else "a whole number"
        document.fail(path, f"is {value!r}; it must be {form}")
    amount = Fraction(number) * factor
    least = 0 if path[-1] in _MAY_BE_ZERO else 1
    if not amount.is_integer() or not least <= amount < 1 << 63:
        document.fail(
            path, f"is {value!r}, which is not a whole number of at least {least} in the smallest unit"
        )
    return int(amount)


# System calls.


def _read_syscalls(document: _Document, found: Any, level_mode: Mode) -> tuple[Mode, tuple[_Entry, ...]]:
    path = ("syscalls",)
    if not isinstance(found, dict):
        document.fail(path, "must be a mapping of keys to values")
    mode: Mode = "allow" if found.get("mode") == "allow" else "deny"
    if found.get("mode") != mode or mode != level_mode:
        document.fail((*path, "mode"), f"must be {level_mode}, as in the level that the policy extends")
    _check_keys(document, path, found, ("mode", *_PHASES[mode]))
    entries: list[_Entry] = []
    for phase in _PHASES[mode]:
        sections = found.get(phase, {})
        _check_keys(
            document, (*path, phase), sections, _SECTIONS if phase == "serve" else ("common", *FORMATS)
        )
        for section, rules in sections.items():
            _check_keys(document, (*path, phase, section), rules, rules)
            for name, rule in rules.items():
                read = _read_rules(document, (*path, phase, section, name), name, rule)
                entries += [(phase, section, one) for one in read]
    return mode, tuple(entries)


def _read_rules(document: _Document, path: _Path, name: str, found: Any) -> list[SyscallRule]:
    """``name: why``, or ``name: {when: ..., why: ...}`` with alternatives in a list."""
    try:
        syscall_number(name)
    except LookupError as error:
        document.fail(path, str(error))
    if not isinstance(found, dict):
        return [SyscallRule(name, _text(document, path, found))]
    _check_keys(document, path, found, ("when", "why"), complete=("when", "why"))
    why = _text(document, (*path, "why"), found["why"])
    when = found["when"]
    alternatives = _list(document, (*path, "when"), when if isinstance(when, list) else [when])
    if not alternatives:
        document.fail((*path, "when"), "must name at least one condition")
    return [
        SyscallRule(
            name, why, tuple(_condition(document, (*path, "when"), part) for part in one.split(" and "))
        )
        for one in alternatives
    ]


_CONDITION: Final = re.compile(r"arg([0-5])(?: & (\w+))? (\S+) (\w+)")


def _condition(document: _Document, path: _Path, text: str) -> Condition:
    """``arg0 == 1`` or ``arg2 & PROT_EXEC == 0``; numbers, or names of the kernel's constants."""
    match = _CONDITION.fullmatch(text.strip())
    if match is None or match[3] not in OPERATORS:
        document.fail(
            path,
            f"{text!r} is not a condition like 'arg0 == 1' or 'arg2 & PROT_EXEC == 0'; operators are "
            f"{' '.join(OPERATORS)}, several conditions are joined by ' and '",
        )
    mask = 0xFFFFFFFF if match[2] is None else _number(document, path, match[2])
    return Condition(int(match[1]), match[3], _number(document, path, match[4]), mask)


_CONSTANTS: Final = {
    "CLONE_NEW_ANY": 0x7E020000,  # every CLONE_NEW* but NEWTIME, which clone(2) cannot take
    "PR_SET_NAME": 15,
    "PR_CAPBSET_READ": 23,
    "PR_GET_NO_NEW_PRIVS": 39,
    "SECCOMP_SET_MODE_FILTER": 1,
    "TIOCLINUX": 0x541C,
}


def _number(document: _Document, path: _Path, word: str) -> int:
    if re.fullmatch(r"0x[0-9a-fA-F]{1,8}|\d{1,10}", word):
        number = int(word, 0)
    else:
        spellings = (getattr(module, word, None) for module in (mmap, fcntl, termios, socket, os))
        known = [int(value) for value in (_CONSTANTS.get(word), *spellings) if isinstance(value, int)]
        if not word.isupper() or not known:
            document.fail(path, f"{word} is neither a number nor a constant that Frys knows")
        number = known[0]
    if not 0 <= number <= 0xFFFFFFFF:
        document.fail(path, f"{word} does not fit into 32 bits")
    return number
