"""Compile rules about system calls into a seccomp program (seccomp(2), struct sock_filter).

libseccomp knows the names and numbers; the code generator is our own, because a policy needs three things
that libseccomp's cannot say: numbers above a bound, "the first rule that matches decides", and two
conditions on one argument. tests/unit/test_bpf.py holds it against libseccomp's programs and the kernel.

Every program begins alike: a call by a foreign ABI (i386 or x32 on x86-64, 32-bit Arm on aarch64) kills the
process, a number above ``NEWEST`` gets ENOSYS. A binary search over ranges of numbers follows, so an
allowed call costs few instructions, and the kernel caches calls that are allowed without conditions.

Conditions look at the low 32 bits of an argument. The arguments worth looking at (descriptors, flags,
commands, families) are 32 bits wide in the kernel, and comparing 64 of them is how CVE-2019-10063 was made.
"""

import errno
import functools
import os
import struct
from enum import IntEnum
from typing import Any, Final, NamedTuple

from ..errors import SandboxError


class Action(IntEnum):
    """What the kernel does with a call; the values are those of <linux/seccomp.h>."""

    ALLOW = 0x7FFF0000
    NOTIFY = 0x7FC00000
    """Hold the caller and tell the listener; the call fails with ENOSYS where there is no listener."""
    ENOSYS = 0x00050000 | errno.ENOSYS
    """As if the kernel were too old to know the call; C libraries then take the older way."""
    EPERM = 0x00050000 | errno.EPERM
    KILL = 0x80000000


class Condition(NamedTuple):
    """``(argument & mask) op value``, on the low 32 bits."""

    arg: int
    op: str
    value: int
    mask: int = 0xFFFFFFFF


class SyscallRule(NamedTuple):
    """One system call that a policy speaks of.

    Attributes:
        name: As in syscalls(2).
        why: The reason why the entry stands in its list.
        args: The rule matches when all of these hold; several rules of one name are alternatives.
    """

    name: str
    why: str
    args: tuple[Condition, ...] = ()


type Verdicts = tuple[tuple[Action, SyscallRule], ...]

NEWEST: Final = 450
"""set_mempolicy_home_node (Linux 5.17), the newest call that rules may name; later ones get ENOSYS."""

_X32: Final = 0x40000000
_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINE: Final = os.uname().machine

# Younger than libseccomp 2.5.0; from 424 on a call has one number on all architectures.
_YOUNG: Final = {
    "process_madvise": 440,
    "epoll_pwait2": 441,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
}

_LD, _AND, _RET, _JA = 0x20, 0x54, 0x06, 0x05
_JEQ, _JGT, _JGE = 0x15, 0x25, 0x35
_NR, _ARCH, _ARG0 = 0, 4, 16
_LONGEST_JUMP = 255

# op: the comparison to make, and whether the condition holds when that is true.
_OPS: Final = {
    "==": (_JEQ, True),
    "!=": (_JEQ, False),
    ">": (_JGT, True),
    "<=": (_JGT, False),
    ">=": (_JGE, True),
    "<": (_JGE, False),
}
OPERATORS: Final = tuple(_OPS)

type _Instruction = tuple[int, int, int, int]
type _Leaf = tuple[tuple[Action, tuple[Condition, ...]], ...]


def syscall_number(name: str, machine: str = MACHINE) -> int | None:
    """The number of a call.

    Returns:
        The number, or ``None`` for a call that exists only on other architectures.

    Raises:
        LookupError: No such call, or one newer than ``NEWEST``.
        SandboxError: libseccomp is missing.
    """
    number = _YOUNG.get(name)
    if number is None:
        number = _libseccomp().resolve_syscall(_AUDIT_ARCH[machine], name)
    if number == -1:
        raise LookupError(f"{name!r} is no system call that libseccomp knows")
    if number > NEWEST:
        raise LookupError(f"{name} is newer than Linux 5.17; such calls always get ENOSYS and need no rule")
    return number if number >= 0 else None


_ARGUMENTS: Final = {
    **dict.fromkeys(("fork", "vfork", "getppid", "sync", "setsid"), 0),
    **dict.fromkeys(("unshare", "chroot", "chdir", "unlink", "close", "setuid", "setgid"), 1),
    **dict.fromkeys(("kill", "tkill", "setns", "umount2", "memfd_create", "io_uring_setup", "pipe2"), 2),
    **dict.fromkeys(("socket", "connect", "bind", "execve", "open", "ioctl", "bpf", "tgkill", "fcntl"), 3),
    **dict.fromkeys(("ptrace", "openat", "socketpair", "newfstatat", "prlimit64", "rt_sigaction"), 4),
    **dict.fromkeys(("clone", "mount", "execveat", "prctl", "keyctl", "perf_event_open"), 5),
}
"""How many arguments a call has, for those that are often forbidden; the rest of the registers is rubbish."""


def describe_call(number: int, arguments: tuple[int, ...]) -> str:
    """A stopped call for people: its name and arguments, such as ``socket(0x2, 0x80001, 0x0)``."""
    name = syscall_name(number)
    return f"{name}({', '.join(hex(word) for word in arguments[: _ARGUMENTS.get(name, 6)])})"


def syscall_name(number: int) -> str:
    """The name of a call on this machine, or ``system call NUMBER`` for an unknown one."""
    for name, young in _YOUNG.items():
        if young == number:
            return name
    try:
        return str(_libseccomp().resolve_syscall(_AUDIT_ARCH[MACHINE], number).decode())
    except ValueError:
        return f"system call {number}"


@functools.cache
def _libseccomp() -> Any:
    try:
        import pyseccomp  # takes 20 ms: it looks for the library with ldconfig
    except (ImportError, RuntimeError) as error:
        raise SandboxError(
            f"system calls cannot be filtered ({error}); install libseccomp (Debian: apt install libseccomp2)"
        ) from None
    return pyseccomp


@functools.cache
def compile_filter(verdicts: Verdicts, default: Action, machine: str = MACHINE) -> bytes:
    """Compile rules; for each call the first rule that matches decides, and ``default`` if none does.

    Args:
        verdicts: Rules in order. Calls that this architecture lacks are passed over.
        default: For everything else up to ``NEWEST``.
        machine: ``x86_64`` or ``aarch64``.

    Returns:
        ``struct sock_filter`` records for seccomp(2).

    Raises:
        LookupError: A rule names an unknown call.
        SandboxError: libseccomp is missing, or the program is longer than the kernel takes.
    """
    table: dict[int, list[tuple[Action, tuple[Condition, ...]]]] = {}
    for action, rule in verdicts:
        number = syscall_number(rule.name, machine)
        if number is not None:
            table.setdefault(number, []).append((action, rule.args))
    starts: list[int] = []
    leaves: list[_Leaf] = []
    for number in range(NEWEST + 1):
        leaf = _decisive(table.get(number, []), default)
        if not leaves or leaves[-1] != leaf:
            starts.append(number)
            leaves.append(leaf)
    program = _prologue(machine) + _search(starts, leaves)
    if len(program) > 4096:
        raise SandboxError(f"a filter of {len(program)} instructions is longer than the 4096 of the kernel")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _decisive(rules: list[tuple[Action, tuple[Condition, ...]]], default: Action) -> _Leaf:
    """Only the rules that make a difference; the last one has no conditions."""
    leaf: list[tuple[Action, tuple[Condition, ...]]] = []
    for action, conditions in [*rules, (default, ())]:
        leaf.append((action, conditions))
        if not conditions:
            break
    while len(leaf) > 1 and leaf[-2][0] == leaf[-1][0]:
        del leaf[-2]
    return tuple(leaf)


def _prologue(machine: str) -> list[_Instruction]:
    foreign: list[_Instruction] = [
        (_LD, 0, 0, _ARCH),
        (_JEQ, 1, 0, _AUDIT_ARCH[machine]),
        (_RET, 0, 0, Action.KILL),
        (_LD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        foreign += [(_JGE, 0, 1, _X32), (_RET, 0, 0, Action.KILL)]
    return [*foreign, (_JGT, 0, 1, NEWEST), (_RET, 0, 0, Action.ENOSYS)]


def _search(starts: list[int], leaves: list[_Leaf]) -> list[_Instruction]:
    """A binary search for the last start that is not above the number in the accumulator."""
    if len(leaves) == 1:
        return _decide(leaves[0])
    middle = len(leaves) // 2
    low = _search(starts[:middle], leaves[:middle])
    high = _search(starts[middle:], leaves[middle:])
    if len(low) <= _LONGEST_JUMP:
        return [(_JGE, len(low), 0, starts[middle]), *low, *high]
    return [(_JGE, 0, 1, starts[middle]), (_JA, 0, 0, len(low)), *low, *high]


def _decide(leaf: _Leaf) -> list[_Instruction]:
    code: list[_Instruction] = []
    for action, conditions in leaf:
        code += _when(conditions, [(_RET, 0, 0, action)])
    return code


def _when(conditions: tuple[Condition, ...], body: list[_Instruction]) -> list[_Instruction]:
    """``body`` behind tests that jump over it; built backwards, for jumps only go forwards."""
    for condition in reversed(conditions):
        jump, wanted = _OPS[condition.op]
        over = len(body)
        test = (jump, 0, over, condition.value) if wanted else (jump, over, 0, condition.value)
        load: list[_Instruction] = [(_LD, 0, 0, _ARG0 + 8 * condition.arg)]
        if condition.mask != 0xFFFFFFFF:
            load.append((_AND, 0, 0, condition.mask))
        body = [*load, test, *body]
    return body
