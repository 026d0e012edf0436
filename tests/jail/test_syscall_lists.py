"""The system-call lists that are shipped, replayed call by call under the filters that are made of them.

What a call should meet is read off the YAML lists by a model in these tests; what it does meet is what the
kernel says, in processes that make every call of the table with arguments that harm nobody. A call that is
allowed answers just as it does in a process without any filter.
"""

import errno
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from replay import ANNOUNCED, INT_80

from frys_runtime.cli.trials import open_calls
from frys_runtime.config import IsolationLevel
from frys_runtime.isolation import compile_filters
from frys_runtime.linux.bpf import MACHINE, NEWEST, Condition, SyscallRule, syscall_name, syscall_number
from frys_runtime.policy import level_policy
from frys_runtime.policy_syscalls import FORMATS, Syscalls

ROOT = Path(__file__).parents[2]
REPLAY = ROOT / "tests" / "replay.py"
PHASES = ("load", "serve")
MOST = {"wasm": 25, "javascript": 25, "native": 25, "python": 35}

pytestmark = [pytest.mark.needs_seccomp_notify, pytest.mark.timeout(120)]

ALONE = ("exit", "exit_group", "pause", "rt_sigreturn")
"""Calls that end or stop their process when they are allowed."""

TRAMPOLINES = (335, 336) if MACHINE == "x86_64" else ()
"""uretprobe and uprobe, which the kernel shows to no filter: it puts these calls there itself."""

INVALID = (-1, -1, -1, -1, -1, -1)
HARMLESS = {
    "futex": (0, 0, 0, 0),  # -1 is an operation that does not exist: ENOSYS
    "kill": (0x7FFFFFFE, 0),  # -1 is everybody
    "msgget": (0x7FFFFFFE, 0),  # -1 makes a queue
    "semget": (0x7FFFFFFE, 0, 0),
    "shmget": (0x7FFFFFFE, 1, 0),
    "clone": (0, 0, 0, 0, 0),
    "mremap": (1, 1, 1, 0),
    "setsid": (),
}
"""Where six times -1 would not do."""

type Call = tuple[int, tuple[int, ...]]
type Outcome = int | str


# The model.


def _matches(rule: SyscallRule, words: tuple[int, ...]) -> bool:
    return all(_holds(condition, words[condition.arg]) for condition in rule.args)


def _holds(condition: Condition, word: int) -> bool:
    left = word & 0xFFFFFFFF & condition.mask
    right = condition.value
    return {
        "==": left == right,
        "!=": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[condition.op]


def verdict(syscalls: Syscalls, phase: str, call: Call) -> str | int:
    """``allowed``, or the errno with which the call must fail."""
    number, words = call
    if number > NEWEST:
        return errno.ENOSYS

    def listed(rules: tuple[SyscallRule, ...]) -> bool:
        return any(syscall_number(rule.name) == number and _matches(rule, words) for rule in rules)

    if syscalls.mode == "deny":
        forbidden = listed((*syscalls.load, *syscalls.serve))
        return ANNOUNCED if forbidden else errno.ENOSYS if listed(syscalls.enosys) else "allowed"
    if listed(syscalls.serve):
        return "allowed"
    if listed(syscalls.load):
        return "allowed" if phase == "load" else errno.EPERM
    return errno.ENOSYS if listed(syscalls.enosys) else ANNOUNCED


# The calls.


def _words(number: int) -> tuple[int, ...]:
    words = HARMLESS.get(syscall_name(number), INVALID)
    return (*words, *INVALID)[:6]


def _values(conditions: list[Condition], wanted: bool) -> int:
    """A value of one argument for which all conditions hold, or for which one does not."""
    edges = {0, 1, 0xFFFFFFFF, 0x7FFFFFFF}
    for condition in conditions:
        edges |= {condition.value, condition.value + 1, max(condition.value - 1, 0), condition.mask}
        edges |= {condition.value | 1 << bit for bit in range(32)}
    for value in sorted(edges):
        if all(_holds(condition, value) for condition in conditions) is wanted:
            return value & 0xFFFFFFFF
    raise AssertionError(f"no value makes {conditions} {wanted}")


def _both_sides(rule: SyscallRule, number: int) -> list[Call]:
    """Arguments that pass, and for each argument that the rule looks at the same with one that does not."""
    by_argument: dict[int, list[Condition]] = {}
    for condition in rule.args:
        by_argument.setdefault(condition.arg, []).append(condition)
    words = list(_words(number))
    for arg, conditions in by_argument.items():
        words[arg] = _values(conditions, True)
    calls: list[Call] = [(number, tuple(words))]
    for arg, conditions in by_argument.items():
        wrong = list(words)
        wrong[arg] = _values(conditions, False)
        calls.append((number, tuple(wrong)))
        wrong[arg] |= 0xDEAD << 32  # neither hides it nor lets it pass
        calls.append((number, tuple(wrong)))
    return calls


@functools.cache
def _calls(syscalls: Syscalls) -> list[Call]:
    """Every number of the table and some beyond it, and every condition from both sides."""
    conditional = [
        call
        for rule in (*syscalls.load, *syscalls.serve, *syscalls.enosys)
        if rule.args and (number := syscall_number(rule.name)) is not None
        for call in _both_sides(rule, number)
    ]
    beyond = [NEWEST + 1, NEWEST + 12, 511, 999, 0x3FFFFFFF]
    table = [number for number in range(NEWEST + 1) if number not in TRAMPOLINES]
    plain = [(number, _words(number)) for number in (*table, *beyond)]
    return list(dict.fromkeys([*plain, *conditional]))


def _is_alone(call: Call) -> bool:
    return call[0] <= NEWEST and syscall_name(call[0]) in ALONE


def _replay(jobs: list[tuple[list[bytes], list[Call], bool]]) -> list[list[Outcome]]:
    asked = [
        {"filters": [program.hex() for program in filters], "calls": calls, "alone": alone}
        for filters, calls, alone in jobs
    ]
    done = subprocess.run(
        [sys.executable, str(REPLAY)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _under(filters: list[bytes], calls: list[Call]) -> dict[Call, Outcome]:
    """What became of every call, in one process as far as it survives them."""
    together = [call for call in calls if not _is_alone(call)]
    alone = [call for call in calls if _is_alone(call)]
    first, second = _replay([(filters, together, False), (filters, alone, True)])
    assert len(first) == len(together), f"{_described(together[len(first) - 1])} ended with {first[-1]}"
    return dict(zip([*together, *alone], [*first, *second], strict=True))


def _described(call: Call) -> str:
    return f"{syscall_name(call[0])}({', '.join(hex(word & 0xFFFFFFFFFFFFFFFF) for word in call[1])})"


def _filters(syscalls: Syscalls, phase: str) -> list[bytes]:
    load, serve = compile_filters(syscalls)
    return [load, serve] if phase == "serve" and serve else [load]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("level", IsolationLevel)
def test_every_call_of_the_table(level, name, phase):
    """Each call meets what the lists say, with arguments on both sides of every condition."""
    syscalls = level_policy(level).syscalls[name]
    calls = _calls(syscalls)

    wanted = {call: verdict(syscalls, phase, call) for call in calls}

    free = _under([], [call for call in calls if wanted[call] == "allowed"])
    held = _under(_filters(syscalls, phase), calls)

    wrong = {
        _described(call): f"{held[call]}, but {wanted[call]}; without a filter {free.get(call)}"
        for call in calls
        if held[call] != free.get(call, wanted[call])
    }
    assert wrong == {}


@pytest.mark.parametrize("name", FORMATS)
def test_allowed_calls_are_told_from_refused_ones(name):
    """Without a filter, no allowed call answers as a refused one would, so that the test above can tell."""
    syscalls = level_policy(IsolationLevel.MAXIMUM).syscalls[name]
    allowed = [call for call in _calls(syscalls) if verdict(syscalls, "load", call) == "allowed"]

    free = _under([], allowed)

    alike = {_described(call) for call in allowed if free[call] in (errno.ENOSYS, errno.EPERM, ANNOUNCED)}
    assert alike == set()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("level", IsolationLevel)
@pytest.mark.skipif(MACHINE != "x86_64", reason="the foreign ABIs of x86-64")
def test_foreign_abis_die(level, name, phase):
    """i386 by ``int 0x80``, x32 and negative numbers kill the process at once."""
    syscalls = level_policy(level).syscalls[name]
    foreign: list[Call] = [
        (INT_80, INVALID),
        (0x40000000 + 39, INVALID),
        (0x40000000 + 520, INVALID),
        (0x7FFFFFFF, INVALID),
        (0xFFFFFFFF, INVALID),
    ]

    (outcomes,) = _replay([(_filters(syscalls, phase), foreign, True)])

    assert outcomes == ["signal 31"] * len(foreign)


@pytest.mark.skipif(not TRAMPOLINES, reason="calls of x86-64")
def test_no_filter_sees_uprobes():
    """The two calls that pass every filter do nothing for who makes them from anywhere but a trampoline."""
    syscalls = level_policy(IsolationLevel.MAXIMUM).syscalls["wasm"]

    calls = [(number, INVALID) for number in TRAMPOLINES]

    (outcomes,) = _replay([(_filters(syscalls, "serve"), calls, True)])

    assert set(outcomes) <= {"signal 4", errno.ENXIO, ANNOUNCED}


@pytest.mark.parametrize("name", FORMATS)
def test_few_calls_are_open_at_maximum(name):
    """What a plugin may call while it serves stays below the limit that was set for its format."""
    _, serving = open_calls(level_policy(IsolationLevel.MAXIMUM).syscalls[name])

    assert serving <= MOST[name]


def test_document_counts_what_the_policies_open():
    """The table of docs/system-calls.md has the numbers of the policies."""
    text = (ROOT / "docs" / "system-calls.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)

    assert {(name.lower(), level.lower()): (int(load), int(serve)) for name, level, load, serve in rows} == {
        (name, str(level)): open_calls(level_policy(level).syscalls[name])
        for name in FORMATS
        for level in IsolationLevel
    }
