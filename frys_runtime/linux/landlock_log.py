"""What the kernel tells its audit subsystem about Landlock's denials (admin-guide/LSM/landlock, "Audit").

Since Landlock ABI 7 (Linux 6.15) every denial is a record, and the first one of a domain (one
landlock_restrict_self(2)) is followed by a record that says which process made the domain. The kernel
multicasts them on a netlink socket to who has CAP_AUDIT_READ, without a daemon, as long as auditing is on.
"""

import ctypes
import os
import re
import socket
import struct
from typing import Final, NamedTuple

from . import landlock

_NETLINK_AUDIT: Final = 9
_READ_LOG: Final = 1  # the group AUDIT_NLGRP_READLOG
_GET, _ERROR = 1000, 2  # AUDIT_GET, NLMSG_ERROR
_ACCESS, _DOMAIN = 1423, 1424  # AUDIT_LANDLOCK_ACCESS, AUDIT_LANDLOCK_DOMAIN
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_SO_ATTACH_FILTER: Final = 26
_INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO
_LONGEST: Final = 16 << 10
_MOST_SAID: Final = 300


class Denial(NamedTuple):
    """Something was refused to a process of this domain."""

    domain: int
    what: str  # such as fs.read_file(/etc/passwd); parts of it are the process's own words


class Domain(NamedTuple):
    """Who made a domain, told with its first denial; ``None`` when it has ended."""

    domain: int
    pid: int | None  # in the initial PID namespace


def open_log() -> socket.socket:
    """A non-blocking socket that receives a datagram for each record about Landlock, and no other.

    Raises:
        OSError: The kernel has no auditing, or this user may not hear it.
    """
    log = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_AUDIT)
    try:
        _hear_only(log, _ACCESS, _DOMAIN)
        log.bind((0, _READ_LOG))
        log.setblocking(False)
    except OSError:
        log.close()
        raise
    return log


def _hear_only(log: socket.socket, *kinds: int) -> None:
    """A busy machine audits much else, which must not wake this process (socket(7), SO_ATTACH_FILTER)."""
    load, equal, accept, drop = 0x28, 0x15, (0x06, 0, 0, _LONGEST), (0x06, 0, 0, 0)
    tests = [(equal, len(kinds) - at, 0, socket.htons(kind)) for at, kind in enumerate(kinds)]
    lines = [(load, 0, 0, 4), *tests, drop, accept]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    # SAFETY: struct sock_fprog with the address of code, which lives until the kernel has copied it.
    log.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(lines), ctypes.addressof(code))
    )


def receive(log: socket.socket) -> "Denial | Domain | None":
    """The next record; ``None`` for one that says nothing of use.

    Raises:
        BlockingIOError: There is none.
        OSError: Some were lost, because they came faster than they were read (ENOBUFS).
    """
    datagram = log.recv(_LONGEST)
    kind = _HEADER.unpack_from(datagram)[1]
    return parse(kind, os.fsdecode(datagram[_HEADER.size :]).rstrip("\0\n"))


_RECORD = re.compile(r"audit\([^)]*\): domain=([0-9a-f]{1,16}) (.*)", re.DOTALL)


def parse(kind: int, text: str) -> "Denial | Domain | None":
    """One record of the kernel's; it escapes the texts of hostile processes that are in there."""
    record = _RECORD.fullmatch(text)
    if record is None:
        return None
    domain, rest = int(record[1], 16), record[2]
    if kind == _DOMAIN:
        made = re.match(r"status=allocated mode=\w+ pid=(\d{1,10}) ", rest)
        return Domain(domain, int(made[1]) if made else None)
    blockers, _, target = rest.removeprefix("blockers=").partition(" ")
    if kind != _ACCESS or not rest.startswith("blockers="):
        return None
    path = re.match(r'path=(?:"([^"]*)"|((?:[0-9A-F]{2})+))(?: |$)', target)
    if path is not None:
        target = (
            path[1] if path[1] is not None else bytes.fromhex(path[2]).decode("utf-8", "backslashreplace")
        )
    return Denial(domain, f"{blockers}({target})"[:_MOST_SAID])


def obstacle() -> tuple[str, str]:
    """Why this process is not told of denials, and what to do about it; two empty texts when it is."""
    if silence()[0] or _is_on() is not False:
        return silence()
    return "auditing is switched off", "run auditd, or `auditctl -e 1`, or boot with audit=1"


def silence() -> tuple[str, str]:
    """The same without a look whether auditing is on, which may change at any time."""
    version = landlock.abi()
    if version < 7:
        return f"Landlock's ABI {version} tells nobody", "use Linux 6.15 or newer, whose ABI is 7"
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except FileNotFoundError:
        return "/proc is not mounted", "mount -t proc proc /proc"
    if namespace != _INITIAL_PID_NAMESPACE:
        return "in a container the kernel's process numbers mean others", "run the host outside of containers"
    try:
        open_log().close()
    except PermissionError:
        return "the kernel tells only who has CAP_AUDIT_READ", "run as root, or give the host that capability"
    except OSError as error:
        return f"the kernel's auditing cannot be had ({error.strerror})", "use a kernel with CONFIG_AUDIT"
    return "", ""


def _is_on() -> bool | None:
    """Whether the kernel audits anything; ``None`` if this user may not know."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_AUDIT) as asking:
        asking.settimeout(1)
        try:
            asking.send(_HEADER.pack(_HEADER.size, _GET, 1, 1, 0))  # NLM_F_REQUEST
            answer = asking.recv(_LONGEST)
        except OSError:
            return None
    if _HEADER.unpack_from(answer)[1] != _GET:
        return None
    _, enabled = struct.unpack_from("=II", answer, _HEADER.size)  # struct audit_status
    return bool(enabled)
