"""Find the fewest system calls that a level lacks for a plugin's workload.

First the workload runs with every forbidden call let through and written down. That finds all calls that
the kernel announces. Two kinds it does not announce: those that only loading may make, which fail with EPERM
while serving, and those that are answered as by an older kernel. Both are known by name, so they join the
candidates. Then the workload runs again and again as it would in earnest, each time with fewer of the
candidates, until none can be spared.
"""

import asyncio
import functools
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple

import msgspec

from ..communicator import PluginCommunicator
from ..compiled import CompiledCode
from ..config import IsolationLevel
from ..errors import InitializationFailed, PluginError, SandboxError
from ..events import Events
from ..isolation import Confinement, IsolationManager
from ..keyvalue import KeyValueStore
from ..linux.bpf import Condition, SyscallRule, syscall_number
from ..linux.cgroup import CgroupError, CgroupTree
from ..loader import PluginLoader
from ..messages import MessageValue
from ..metadata import Metadata
from ..nursery import Nursery
from ..policy_syscalls import Change
from ..policy_terms import OnViolation
from ..pool import Pool
from ..services import Shared
from ..violations import Violations

_TELLING: Final = {
    "ioctl": 1,
    "fcntl": 1,
    "prctl": 0,
    "socket": 0,
    "socketpair": 0,
    "clone": 0,
    "mmap": 2,
    "mprotect": 2,
}
"""The argument that says what a call is for; only what was seen in it is allowed."""


class Call(NamedTuple):
    """One call of a workload."""

    function: str
    args: tuple[MessageValue, ...]


class Seen(NamedTuple):
    """One forbidden call as the kernel announced it.

    Attributes:
        function: The plugin's function that ran; empty while it was loaded.
        name: The system call.
        telling: The argument that says what it is for; ``None`` for most calls.
    """

    function: str
    name: str
    telling: int | None


class Used(NamedTuple):
    """The most that a workload used.

    Attributes:
        memory: Bytes, at the peak; 0 where no cgroup counts them.
        cpu_ms: Milliseconds of CPU, of the call that took most.
        wall_ms: Milliseconds on the clock, of the call that took most.
    """

    memory: int
    cpu_ms: float
    wall_ms: float


_UNUSED: Final = Used(0, 0.0, 0.0)


@dataclass(slots=True)
class Outcome:
    """What became of a workload.

    Attributes:
        results: What the calls returned, as text.
        error: What ended it.
        used: The most that it used.
        seen: The forbidden calls that were announced.
    """

    results: list[str] = field(default_factory=list)
    error: PluginError | TypeError | ValueError | None = None
    used: Used = _UNUSED
    seen: Counter[Seen] = field(default_factory=Counter)


class Need(NamedTuple):
    """One entry that a policy must have.

    Attributes:
        change: The entry.
        functions: Those that made the call; empty where only loading did, or the kernel does not tell.
        times: How often it was made; 0 where the kernel does not tell.
    """

    change: Change
    functions: tuple[str, ...]
    times: int


class Lesson(NamedTuple):
    """What was learned.

    Attributes:
        metadata: The plugin's.
        needs: The entries that the level lacks; none can be spared.
        unnameable: Calls that were made and that no policy can name.
        used: The most that the workload used.
        results: What the calls returned, or ``None`` when that is another thing each time.
        runs: How often the workload ran.
    """

    metadata: Metadata
    needs: list[Need]
    unnameable: list[str]
    used: Used
    results: list[str] | None
    runs: int


class _Notebook(Violations):
    """Lets every forbidden call pass, and writes it down."""

    def __init__(self, plugin_id: str) -> None:
        super().__init__(plugin_id, "log", 0, Events())
        self.function = ""
        self.seen: Counter[Seen] = Counter()

    def decide(self, call: str) -> tuple[OnViolation, str]:
        """Let it pass."""
        name, _, rest = call.rpartition("(")
        words = re.findall(r"0x[0-9a-f]+", rest)
        telling = int(words[_TELLING[name]], 16) & 0xFFFFFFFF if name in _TELLING else None
        self.seen[Seen(self.function, name, telling)] += 1
        return "log", call


class Failed(Exception):
    """The workload fails, and no list of system calls would help.

    Attributes:
        error: What ended it.
        unfiltered: Every forbidden call was let through; otherwise, all that it had made were allowed.
    """

    def __init__(self, error: Exception, *, unfiltered: bool) -> None:
        self.error = error
        self.unfiltered = unfiltered
        super().__init__(str(error))


async def learn(
    path: str,
    level: IsolationLevel,
    workload: Iterable[Call],
    progress: Callable[[str], None] = lambda _: None,
) -> Lesson:
    """Learn what a workload needs beyond its level.

    Args:
        path: The plugin.
        level: The level to start from.
        workload: What is called, in order.
        progress: Told what is being done.

    Raises:
        Failed: It needs something that no list of system calls gives, or is different each time.
        PluginError: The plugin cannot be loaded at this level, or the machine cannot build its jail.
    """
    isolation = IsolationManager(level=level)
    async with _nursery(isolation) as nursery:
        return await _Learner(path, isolation, nursery, tuple(workload), progress).learn()


@asynccontextmanager
async def _nursery(isolation: IsolationManager) -> AsyncIterator[Nursery]:
    tree = None
    try:
        if isolation.cgroups.controllers:
            tree = CgroupTree()
            tree.sweep()
    except CgroupError as error:
        raise InitializationFailed("the cgroups", str(error)) from error
    nursery = Nursery(tree, 0)
    try:
        yield nursery
    finally:
        await nursery.close()
        if tree is not None:
            await asyncio.to_thread(tree.close)


class _Learner:
    def __init__(
        self,
        path: str,
        isolation: IsolationManager,
        nursery: Nursery,
        workload: tuple[Call, ...],
        progress: Callable[[str], None],
    ) -> None:
        self._path, self._nursery, self._workload, self._progress = path, nursery, workload, progress
        with PluginLoader().load(path) as bundle:
            self._metadata = bundle.metadata
        self._room = isolation.confine(self._metadata, path=path)
        self._syscalls = self._room.policy.syscalls[self._room.format]
        self._runs = 0
        self._results: list[str] | None = None
        self._everything: list[Change] = []

    async def learn(self) -> Lesson:
        """Watch, then leave out what can be spared."""
        silent = self._silent()
        first, second = [await self._watched(silent) for _ in range(2)]
        self._results = first.results if first.results == second.results else None
        seen = first.seen + second.seen
        unnameable = sorted({call.name for call in seen if not _is_nameable(call.name)})
        announced = self._announced(seen)
        self._everything = [*silent, *announced]
        if error := (await self._run(self._everything, "kill")).error:
            raise Failed(error, unfiltered=False)
        kept = await self._fewest(self._everything, [])
        rules = {change.rule for change in announced}
        for at, change in enumerate(kept):
            if change.rule not in rules:
                kept[at] = await self._narrowed(change, [*kept[:at], *kept[at + 1 :]])
        needs = [self._need(change, first.seen if change.rule in rules else Counter()) for change in kept]
        return Lesson(self._metadata, needs, unnameable, first.used, self._results, self._runs)

    async def _watched(self, silent: list[Change]) -> Outcome:
        outcome = await self._run(silent, "log")
        if outcome.error is not None:
            raise Failed(outcome.error, unfiltered=True)
        return outcome

    def _silent(self) -> list[Change]:
        """Everything that fails without an announcement: the load list while serving, and ENOSYS."""
        lists = self._syscalls
        always = {rule.name for rule in lists.serve if not rule.args} if lists.mode == "allow" else set()
        rules = [*lists.enosys] if lists.mode == "deny" else [*lists.enosys, *lists.load]
        return [
            self._allow(rule, "serve") for rule in dict.fromkeys(map(_bare, rules)) if rule.name not in always
        ]

    def _announced(self, seen: Iterable[Seen]) -> list[Change]:
        """One entry for each call, with the argument that says what it is for."""
        found: dict[SyscallRule, Literal["load", "serve"]] = {}
        for call in seen:
            if not _is_nameable(call.name):
                continue
            rule = SyscallRule(call.name, _WHY)
            if call.telling is not None and self._syscalls.mode == "allow":
                rule = rule._replace(args=(Condition(_TELLING[call.name], "==", call.telling),))
            if call.function or self._syscalls.mode == "deny" or found.get(rule) == "serve":
                found[rule] = "serve"
            else:
                found[rule] = "load"
        return [self._allow(rule, phase) for rule, phase in found.items()]

    def _allow(self, rule: SyscallRule, phase: Literal["load", "serve"]) -> Change:
        plain = rule if self._syscalls.mode == "allow" else rule._replace(args=())
        return Change("allow", self._room.format, phase, plain)

    async def _fewest(self, candidates: list[Change], given: list[Change]) -> list[Change]:
        """Those of the candidates that cannot be spared where others are given (QuickXplain, Junker 2004)."""
        if not candidates or await self._passes(given):
            return []
        if len(candidates) == 1:
            return candidates
        middle = len(candidates) // 2
        front, back = candidates[:middle], candidates[middle:]
        front = await self._fewest(front, [*given, *back])
        return [*front, *await self._fewest(back, [*given, *front])]

    async def _narrowed(self, change: Change, others: list[Change]) -> Change:
        """A call of which the kernel told nothing is not left open while serving if only loading needs it."""
        if self._syscalls.mode == "deny":
            return change
        only_loading = change._replace(phase="load")
        return only_loading if await self._passes([*others, only_loading]) else change

    async def _passes(self, changes: list[Change]) -> bool:
        """Whether the workload gives what it gave. A result that is different by itself does not count."""
        outcome = await self._run(changes, "kill")
        if outcome.error is not None:
            return False
        if self._results is None or outcome.results == self._results:
            return True
        again = await self._run(self._everything, "kill")
        if again.error is None and again.results != self._results:
            self._results = None
        return self._results is None

    def _need(self, change: Change, seen: Counter[Seen]) -> Need:
        values = [condition.value for condition in change.rule.args]
        calls = [
            call for call in seen if call.name == change.rule.name and (not values or call.telling in values)
        ]
        functions = tuple(dict.fromkeys(call.function for call in calls if call.function))
        return Need(change, functions, sum(seen[call] for call in calls))

    async def _run(self, changes: list[Change], action: OnViolation) -> Outcome:
        """Load the plugin, make every call, end it."""
        self._runs += 1
        self._progress(f"run {self._runs}: {len(changes)} system calls more than the level's")
        policy = msgspec.structs.replace(
            self._room.policy, changes=tuple(changes), on_violation=action, max_violations=0
        )
        return await _run_once(self._path, replace(self._room, policy=policy), self._nursery, self._workload)


_WHY: Final = "being learned"


def _bare(rule: SyscallRule) -> SyscallRule:
    return rule._replace(why=_WHY)


def _is_nameable(name: str) -> bool:
    try:
        return syscall_number(name) is not None
    except LookupError:
        return False


async def _run_once(path: str, room: Confinement, nursery: Nursery, workload: tuple[Call, ...]) -> Outcome:
    bundle = PluginLoader().load(path)
    name, outcome = bundle.metadata.id, Outcome()
    notebook, events = _Notebook(name), Events()
    # What it asks its host for is answered as in earnest, and forgotten after each run.
    store = functools.cache(KeyValueStore)
    shared = Shared(PluginCommunicator(events), store, CompiledCode())
    violations = notebook if room.policy.on_violation == "log" else None
    plugin = Pool(name, bundle, room, nursery, events, shared, violations)
    try:
        await plugin.start()
        for call in workload:
            notebook.function = call.function
            before, began = plugin.usage(private=False).cpu_time_used, time.perf_counter()
            outcome.results.append(repr(await plugin.call(call.function, call.args)))
            wall, usage = (time.perf_counter() - began) * 1000, plugin.usage(private=False)
            cpu, most = usage.cpu_time_used - before, outcome.used
            outcome.used = Used(
                max(most.memory, usage.memory_peak), max(most.cpu_ms, cpu), max(most.wall_ms, wall)
            )
    except (InitializationFailed, SandboxError):
        raise
    except (PluginError, TypeError, ValueError) as error:
        outcome.error = error
    finally:
        await plugin.close()
        await shared.compiled.close()
        if store.cache_info().currsize:
            store().close()
    outcome.seen = notebook.seen
    return outcome
