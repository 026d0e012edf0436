"""Install a compiled seccomp filter, and hear from the kernel what it stopped (seccomp(2))."""

import ctypes
import errno
import os
import select
from typing import NamedTuple

from .libc import syscall

_NR_SECCOMP = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
_SET_MODE_FILTER = 1
_FLAG_ALL_THREADS, _FLAG_NEW_LISTENER = 1, 8
_NOTIF_RECV, _NOTIF_SEND, _NOTIF_SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
_FLAG_CONTINUE, _FLAG_SYNC_WAKE_UP = 1, 1


class Notification(NamedTuple):
    """One system call that a filter stopped; the caller sleeps in it until it is answered or killed."""

    id: int
    pid: int
    number: int
    arch: int
    arguments: tuple[int, int, int, int, int, int]


def install(program: bytes, *, listener: bool) -> int:
    """Put a BPF program in force, for good.

    With a listener it holds for this thread and all that come after it (there is no other yet); without,
    for every thread of the process.

    Args:
        program: ``struct sock_filter`` records, as libseccomp exports them.
        listener: Ask for the descriptor on which forbidden calls are announced.

    Returns:
        The listener's descriptor, or 0.

    Raises:
        OSError: The kernel refused; EBUSY when a filter with a listener is in force already.
    """
    code = ctypes.create_string_buffer(program, len(program))
    prog = ctypes.create_string_buffer(
        (len(program) // 8).to_bytes(8, "little") + ctypes.addressof(code).to_bytes(8, "little"), 16
    )
    flags = _FLAG_NEW_LISTENER if listener else _FLAG_ALL_THREADS
    # SAFETY: prog is struct sock_fprog (u16 length, padding, pointer) and points at code; both are owned
    # here until the call returns, and the kernel copies and verifies the program.
    return syscall("seccomp", _NR_SECCOMP, _SET_MODE_FILTER, flags, prog)


def look(listener: int) -> tuple[bool, bool]:
    """Whether there is an announcement to take, and whether none can come any more because all are dead.

    Neither holds when the process that was announced has died before anybody took the announcement.
    """
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    found = sum(events for _, events in poller.poll(0))
    return bool(found & select.POLLIN), bool(found & (select.POLLHUP | select.POLLERR))


def wake_at_once(listener: int) -> bool:
    """Have the kernel switch to the other end with each answer; ``False`` before Linux 6.6."""
    import fcntl  # the host's end only: a plugin process never gets here

    try:
        fcntl.ioctl(listener, _NOTIF_SET_FLAGS, _FLAG_SYNC_WAKE_UP)
    except OSError:
        return False
    return True


def receive(listener: int) -> Notification | None:
    """Take one announcement that :func:`look` saw; ``None`` when its process has died meanwhile."""
    import fcntl  # the host's end only: a plugin process never gets here

    buffer = bytearray(80)
    try:
        fcntl.ioctl(listener, _NOTIF_RECV, buffer)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    u64 = [int.from_bytes(buffer[at : at + 8], "little") for at in range(0, 80, 8)]
    return Notification(
        u64[0],
        u64[1] & 0xFFFFFFFF,
        u64[2] & 0xFFFFFFFF,
        u64[2] >> 32,
        (u64[4], u64[5], u64[6], u64[7], u64[8], u64[9]),
    )


def deny(listener: int, notification: Notification, error: int = errno.EPERM) -> None:
    """Answer an announced call with an error; nothing happens when its process has died meanwhile."""
    _answer(listener, notification, -error, 0)


def let_pass(listener: int, notification: Notification) -> None:
    """Have an announced call made as if there were no filter.

    Never after a look at its arguments: another thread can change what they point at meanwhile
    (seccomp_unotify(2)), so this is for policies that let everything pass and only want to know.
    """
    _answer(listener, notification, 0, _FLAG_CONTINUE)


def _answer(listener: int, notification: Notification, error: int, flags: int) -> None:
    """The kernel knows by the id when the process is gone, so a stranger is never answered."""
    import fcntl

    answer = (
        notification.id.to_bytes(8, "little")
        + (0).to_bytes(8, "little")
        + error.to_bytes(4, "little", signed=True)
        + flags.to_bytes(4, "little")
    )
    try:
        fcntl.ioctl(listener, _NOTIF_SEND, answer)
    except OSError as failure:
        if failure.errno not in (errno.ENOENT, errno.EINPROGRESS):
            raise
