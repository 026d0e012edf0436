"""The seccomp compiler: against a model, against libseccomp, and in the kernel."""

import errno
import itertools
import os
import signal
import struct
import subprocess
import sys

import pyseccomp
import pytest
from hypothesis import given, strategies as st

from frys_runtime.config import IsolationLevel
from frys_runtime.errors import SandboxError
from frys_runtime.linux import bpf
from frys_runtime.linux.bpf import (
    Action,
    Condition,
    SyscallRule,
    compile_filter,
    syscall_name,
    syscall_number,
)
from frys_runtime.policy import FORMATS, level_policy

ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
I386, ARM = 0x40000003, 0x40000028


def verdict(program: bytes, number: int, args=(), machine: str = bpf.MACHINE, arch: int | None = None) -> int:
    """Run a classic BPF program over one struct seccomp_data, as the kernel does."""
    args = [arg & 0xFFFFFFFFFFFFFFFF for arg in (*args, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, ARCHES[machine] if arch is None else arch, 0, *args)
    accumulator = at = 0
    while True:
        code, true, false, k = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:
                accumulator &= k
            case 0x05:
                at += k
            case 0x15 | 0x25 | 0x35:
                holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[code]
                at += true if holds else false
            case 0x06:
                return k
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


def rule(name: str, *conditions: Condition) -> SyscallRule:
    return SyscallRule(name, "a test", conditions)


@pytest.mark.parametrize("machine", ARCHES)
def test_foreign_abis_die(machine):
    """Another architecture and x32 kill the process, whatever the rules allow."""
    program = compile_filter(((Action.ALLOW, rule("getpid")),), Action.ALLOW, machine)

    assert verdict(program, 20, arch=I386, machine=machine) == Action.KILL
    assert verdict(program, 20, arch=ARM, machine=machine) == Action.KILL
    other = next(arch for name, arch in ARCHES.items() if name != machine)
    assert verdict(program, 20, arch=other, machine=machine) == Action.KILL
    x32 = Action.KILL if machine == "x86_64" else Action.ENOSYS
    assert verdict(program, 0x40000000 + 39, machine=machine) == x32
    assert verdict(program, -1, machine=machine) == x32


@pytest.mark.parametrize("default", [Action.ALLOW, Action.NOTIFY, Action.EPERM])
def test_unknown_numbers_get_enosys(default):
    """Calls that are newer than the list do not exist, also where everything else is allowed."""
    program = compile_filter((), default)

    assert verdict(program, bpf.NEWEST) == default
    assert verdict(program, bpf.NEWEST + 1) == Action.ENOSYS
    assert verdict(program, 0x3FFFFFFF) == Action.ENOSYS


def test_first_matching_rule_decides():
    """Rules are read in order, several of one name are alternatives, and the default comes last."""
    program = compile_filter(
        (
            (Action.ALLOW, rule("write", Condition(0, "==", 1))),
            (Action.ALLOW, rule("write", Condition(0, "==", 2))),
            (Action.EPERM, rule("write")),
            (Action.ALLOW, rule("write", Condition(0, "==", 7))),
        ),
        Action.NOTIFY,
    )
    write = syscall_number("write")

    assert [verdict(program, write, (fd,)) for fd in (1, 2, 3, 7)] == [
        Action.ALLOW,
        Action.ALLOW,
        Action.EPERM,
        Action.EPERM,
    ]
    assert verdict(program, syscall_number("read"), (1,)) == Action.NOTIFY


def test_conditions_look_at_32_bits():
    """High bits of an argument neither hide a forbidden value nor spoil an allowed one."""
    tiocsti = Condition(1, "==", 0x5412)
    program = compile_filter(((Action.EPERM, rule("ioctl", tiocsti)),), Action.ALLOW)

    assert verdict(program, syscall_number("ioctl"), (0, 0x5412)) == Action.EPERM
    assert verdict(program, syscall_number("ioctl"), (0, 0x5412 + (1 << 32))) == Action.EPERM
    assert verdict(program, syscall_number("ioctl"), (0, 0x5413)) == Action.ALLOW


NAMES = ["read", "write", "close", "mmap", "mprotect", "ioctl", "openat", "socket", "clone", "futex_waitv"]
NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF])
CONDITIONS = st.builds(
    Condition,
    st.integers(0, 5),
    st.sampled_from(bpf.OPERATORS),
    NUMBERS,
    st.sampled_from([0xFFFFFFFF, 0xFFFF, 4, 1]),
)
RULES = st.tuples(
    st.sampled_from([Action.ALLOW, Action.EPERM, Action.ENOSYS, Action.NOTIFY]),
    st.builds(SyscallRule, st.sampled_from(NAMES), st.just(""), st.lists(CONDITIONS, max_size=3).map(tuple)),
)
COMPARE = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@given(
    st.lists(RULES, max_size=30).map(tuple),
    st.sampled_from([Action.ALLOW, Action.NOTIFY]),
    st.sampled_from([*NAMES, "getpid"]),
    st.lists(NUMBERS, min_size=6, max_size=6),
)
def test_programs_do_what_the_rules_say(rules, default, name, args):
    """A compiled program and a plain reading of the rules agree."""
    expected = default
    for action, one in rules:
        if one.name == name and _holds(one, args):
            expected = action
            break

    assert verdict(compile_filter(rules, default), syscall_number(name), args) == expected


@given(st.lists(st.sampled_from([0, 1, 2, 3, 9, 10, 60, 231, 300, 448, 449, 450]), max_size=12, unique=True))
def test_same_verdicts_as_libseccomp(numbers):
    """What libseccomp can express, it compiles to the same verdicts for every call."""
    names = [syscall_name(number) for number in numbers]
    known = [number for number, name in zip(numbers, names, strict=True) if " " not in name]
    theirs = pyseccomp.SyscallFilter(pyseccomp.NOTIFY)
    theirs.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
    for number in known:
        theirs.add_rule(pyseccomp.ALLOW, number, pyseccomp.Arg(2, pyseccomp.MASKED_EQ, 4, 0))
    with open(os.memfd_create("libseccomp"), "w+b") as file:
        theirs.export_bpf(file)
        exported = os.pread(file.fileno(), 1 << 20, 0)
    ours = compile_filter(
        tuple((Action.ALLOW, rule(syscall_name(number), Condition(2, "==", 0, 4))) for number in known),
        Action.NOTIFY,
    )

    for number, prot in itertools.product(range(bpf.NEWEST + 1), (0, 3, 4, 7)):
        assert verdict(ours, number, (0, 0, prot)) == verdict(exported, number, (0, 0, prot))


def test_long_programs_jump_far():
    """A search tree whose halves are longer than a conditional jump still finds every call."""
    names = [name for name in map(syscall_name, range(0, 330, 2)) if " " not in name]
    conditions = [Condition(arg, "!=", 9) for arg in range(4)]
    program = compile_filter(tuple((Action.ALLOW, rule(name, *conditions)) for name in names), Action.EPERM)

    assert len(program) // 8 > 1000
    for name in names:
        assert verdict(program, syscall_number(name), (1, 1, 1, 1)) == Action.ALLOW
        assert verdict(program, syscall_number(name), (1, 1, 9, 1)) == Action.EPERM
        assert verdict(program, syscall_number(name) + 1, (1, 1, 1, 1)) == Action.EPERM


def test_too_long_a_program_is_refused():
    """The kernel takes 4096 instructions; more are an error here, not an EINVAL in the jail."""
    names = [name for name in map(syscall_name, range(330)) if " " not in name]
    tests = [
        rule(name, *(Condition(arg, "!=", value) for arg in range(6))) for value, name in enumerate(names)
    ]
    with pytest.raises(SandboxError, match="4096"):
        compile_filter(tuple((Action.ALLOW, one) for one in tests), Action.EPERM)


def test_unknown_and_newer_calls_are_errors():
    """A name that nobody knows, or that is newer than the list, is not silently ignored."""
    for name in ("no_such_call", "cachestat"):
        with pytest.raises(LookupError):
            syscall_number(name)
        with pytest.raises(LookupError):
            compile_filter(((Action.ALLOW, rule(name)),), Action.NOTIFY)


def test_calls_of_other_architectures_are_passed_over():
    """A list may name calls that only some architectures have."""
    assert syscall_number("open", "aarch64") is None
    assert syscall_number("open", "x86_64") == 2
    program = compile_filter(((Action.ALLOW, rule("open")),), Action.NOTIFY, "aarch64")

    assert all(verdict(program, number, machine="aarch64") == Action.NOTIFY for number in range(450))


def test_numbers_have_names():
    """A violation is reported by name; numbers without one are shown as they are."""
    assert syscall_name(syscall_number("unshare")) == "unshare"
    assert syscall_name(444) == "landlock_create_ruleset"
    assert syscall_name(449) == "futex_waitv"
    assert syscall_name(9999) == "system call 9999"


@pytest.mark.parametrize("machine", ARCHES)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("level", IsolationLevel)
def test_shipped_lists_hold(level, name, machine):
    """Under every shipped list each entry gets its verdict, and each call without an entry the default."""
    lists = level_policy(level).syscalls[name]
    listed = Action.ALLOW if lists.mode == "allow" else Action.NOTIFY
    default = Action.NOTIFY if lists.mode == "allow" else Action.ALLOW
    verdicts = [(listed, one) for one in (*lists.serve, *lists.load)]
    verdicts += [(Action.ENOSYS, one) for one in lists.enosys]
    program = compile_filter(tuple(verdicts), default, machine)
    mentioned = {syscall_number(one.name, machine) for _, one in verdicts} - {None}

    for _, one in verdicts:
        number, args = syscall_number(one.name, machine), _matching(one)
        expected = next(
            action for action, other in verdicts if other.name == one.name and _holds(other, args)
        )
        if number is not None:
            assert verdict(program, number, args, machine) == expected, one
    for number in set(range(bpf.NEWEST + 1)) - mentioned:
        assert verdict(program, number, machine=machine) == default


def _holds(one: SyscallRule, args: list[int]) -> bool:
    return all(COMPARE[c.op](args[c.arg] & c.mask, c.value) for c in one.args)


def _matching(one: SyscallRule) -> list[int]:
    """Arguments that fulfil a rule's conditions, found by trying."""
    args = [0] * 6
    for index in range(6):
        wanted = [c for c in one.args if c.arg == index]
        near = {0, 8, *(c.value + step for c in wanted for step in (-1, 0, 1)), *(c.mask for c in wanted)}
        args[index] = next(
            value
            for value in sorted(near)
            if value >= 0 and all(COMPARE[c.op](value & c.mask, c.value) for c in wanted)
        )
    return args


# In the kernel: each child installs a program and says what happened.

PRELUDE = """
import ctypes, os, sys
from frys_runtime.linux import bpf, libc, seccomp
from frys_runtime.linux.bpf import Action, Condition, SyscallRule, compile_filter
raw = ctypes.CDLL(None, use_errno=True)
raw.syscall.restype = ctypes.c_long
def call(number, *args):
    result = raw.syscall(ctypes.c_long(number), *map(ctypes.c_long, args))
    return result if result >= 0 else -ctypes.get_errno()
def rule(name, *args):
    return SyscallRule(name, "", args)
libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
def install(*verdicts, default=Action.ALLOW):
    seccomp.install(compile_filter(verdicts, default), listener=False)
"""


def child(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_kernel_enforces_the_verdicts():
    """The kernel takes the program and gives each call its error, or lets it through."""
    done = child(
        "getppid, getpgid = map(bpf.syscall_number, ('getppid', 'getpgid'))\n"
        "install((Action.EPERM, rule('getppid')),\n"
        "        (Action.ENOSYS, rule('getpgid', Condition(0, '==', 1))))\n"
        "print(call(getppid), call(getpgid, 1), call(getpgid, 0) == os.getpgid(0), call(bpf.NEWEST + 5))\n"
    )

    assert done.stdout.split() == [str(-errno.EPERM), str(-errno.ENOSYS), "True", str(-errno.ENOSYS)], (
        done.stderr
    )


def test_kernel_takes_the_stricter_of_two_programs():
    """Stacked programs add up: what either denies is denied."""
    done = child(
        "install((Action.EPERM, rule('getppid')))\n"
        "install((Action.ENOSYS, rule('getpgid')), (Action.ALLOW, rule('getppid')))\n"
        "print(call(bpf.syscall_number('getppid')), call(bpf.syscall_number('getpgid'), 0))\n"
    )

    assert done.stdout.split() == [str(-errno.EPERM), str(-errno.ENOSYS)], done.stderr


def test_kernel_runs_an_allow_list():
    """Under an allow-list the process lives by what it lists and dies of anything else."""
    done = child(
        "install(*((Action.ALLOW, rule(name)) for name in ('write', 'exit_group')), default=Action.KILL)\n"
        "os.write(1, b'alive')\n"
        "call(bpf.syscall_number('getppid'))\n"
        "os.write(1, b' too long')\n"
    )

    assert (done.stdout, done.returncode) == ("alive", -signal.SIGSYS), done.stderr


INT80 = """
import mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("53b814000000cd805bc3"))  # push rbx; mov eax, 20 (getpid); int 0x80; pop rbx; ret
getpid = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
"""


@pytest.mark.skipif(bpf.MACHINE != "x86_64", reason="i386 and x32 are ABIs of x86-64")
def test_kernel_kills_i386_calls():
    """A call by int 0x80, which works without the filter, kills the process under it."""
    control = child(INT80 + "print(getpid() == os.getpid())\n")
    if control.stdout != "True\n":
        pytest.skip("this kernel has no i386 ABI")

    done = child(INT80 + "install()\nprint(getpid())\n")

    assert (done.stdout, done.returncode) == ("", -signal.SIGSYS), done.stderr


@pytest.mark.skipif(bpf.MACHINE != "x86_64", reason="i386 and x32 are ABIs of x86-64")
def test_kernel_kills_x32_calls():
    """A call with the x32 bit kills the process, whether or not the kernel has that ABI."""
    done = child("install()\nprint(call(0x40000000 + 39))\n")

    assert (done.stdout, done.returncode) == ("", -signal.SIGSYS), done.stderr
