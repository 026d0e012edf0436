"""Make system calls under compiled filters, and tell what became of each; for test_syscall_lists.py.

Reads jobs as JSON from its standard input, a list of ``{"filters": [hex], "calls": [[number, words]],
"alone": bool}``. For each job it writes a list with one outcome per call: 0 when it succeeded, the errno
with which it failed, ``"signal N"`` or ``"exit N"`` when it ended its process. The first filter gets a
listener; this program answers what the kernel announces there with ``ANNOUNCED``, an errno that no kernel
uses.

Every job runs in a forked child that is nobody and may have no further process, so fork(2) fails harmlessly;
with ``alone`` every call has a child of its own, for those that end or stop it.
"""

import ctypes
import fcntl
import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys

from frys_runtime.linux import libc, seccomp

ANNOUNCED = 1234
INT_80 = -80
"""Stands for a number: getpid of the i386 ABI, by the instruction ``int 0x80``."""

_NOBODY = 65534
_PIDFD_GETFD = 438
_NOT_MADE = -(1 << 62)
_SLOT = struct.Struct("q")

# PyDLL: the interpreter lock stays held, so nothing but the call itself happens in between.
_system = ctypes.PyDLL(None, use_errno=True)
_system.syscall.restype = ctypes.c_long


def _int_80() -> "ctypes._CFunctionType":
    """``mov eax, 20; int 0x80; ret``, in memory that is made executable before any filter."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("b814000000cd80c3"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    # SAFETY: the page holds a whole function, and lives as long as the reference that is kept here.
    function = ctypes.PYFUNCTYPE(ctypes.c_long)(address)
    function.page = page  # type: ignore[attr-defined]
    return function


def _settle() -> None:
    """Be nobody, with an empty input, an output that takes nothing, and a socket as descriptor 3."""
    null = os.open("/dev/null", os.O_RDWR)
    pair = socket.socketpair()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in (null, null, null, *(end.detach() for end in pair))]
    for target, fd in enumerate(high):
        os.dup2(fd, target)
    os.closerange(len(high), 1024)
    signal.setitimer(signal.ITIMER_REAL, 20)
    os.chdir("/")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)


def _walk(filters: list[bytes], calls: list[tuple[int, list[int]]], shared: mmap.mmap, alone: bool) -> None:
    """The child: fill one slot for every call; slot 0 is the listener's number."""
    gc.disable()
    foreign = _int_80() if any(number == INT_80 for number, _ in calls) else None
    prepared = [
        (number, [ctypes.c_long(number), *(ctypes.c_ulong(word) for word in (*words, *[-1] * 6)[:6])])
        for number, words in calls
    ]
    _settle()
    if alone:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 1)  # ends a call that waits for a signal
    for index, program in enumerate(filters):
        listener = seccomp.install(program, listener=index == 0)
        if index == 0:
            _SLOT.pack_into(shared, 0, listener)
    for slot, (number, words) in enumerate(prepared, 1):
        # SAFETY: invalid pointers are the point: the kernel answers EFAULT, and this process is thrown away.
        result = foreign() if number == INT_80 else _system.syscall(*words)
        failed = ctypes.get_errno() if result == -1 else 0
        _SLOT.pack_into(shared, slot * 8, failed)
    os._exit(0)


def _run(filters: list[bytes], calls: list[tuple[int, list[int]]], alone: bool) -> list[int | str]:
    shared = mmap.mmap(-1, 8 * (len(calls) + 1))
    for slot in range(len(calls) + 1):
        _SLOT.pack_into(shared, slot * 8, _NOT_MADE)
    child = os.fork()
    if not child:
        try:
            _walk(filters, calls, shared, alone)
        finally:
            os._exit(99)
    process = os.pidfd_open(child)
    if filters:
        try:
            _answer(process, shared)
        except BaseException:
            os.kill(child, signal.SIGKILL)  # it would wait for its answer for ever
            raise
    _, status = os.waitpid(child, 0)
    os.close(process)
    outcomes: list[int | str] = []
    for slot in range(1, len(calls) + 1):
        (outcome,) = _SLOT.unpack_from(shared, slot * 8)
        if outcome == _NOT_MADE:
            code = os.waitstatus_to_exitcode(status)
            outcomes.append(f"signal {-code}" if code < 0 else f"exit {code}")
            break
        outcomes.append(outcome)
    return outcomes


def _answer(process: int, shared: mmap.mmap) -> None:
    """Answer announcements until the child has ended."""
    ended = select.poll()
    ended.register(process, select.POLLIN)
    while (number := _SLOT.unpack_from(shared, 0)[0]) == _NOT_MADE:
        if ended.poll(1):
            return
    try:
        listener = libc.syscall("pidfd_getfd", _PIDFD_GETFD, process, number, 0)
    except ProcessLookupError:
        return
    ended.register(listener, select.POLLIN)
    while not any(fd == process for fd, _ in ended.poll()):
        if seccomp.look(listener)[0] and (notification := seccomp.receive(listener)):
            seccomp.deny(listener, notification, ANNOUNCED)
    os.close(listener)


def main() -> None:
    """Run the jobs one after the other."""
    answers = []
    for job in json.load(sys.stdin):
        filters = [bytes.fromhex(text) for text in job["filters"]]
        calls = [(number, words) for number, words in job["calls"]]
        if job["alone"]:
            answers.append([outcome for call in calls for outcome in _run(filters, [call], True)])
        else:
            answers.append(_run(filters, calls, False))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
