"""Switch the kernel's auditing on for a moment, as a daemon would; netlink messages of <linux/audit.h>."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_NETLINK_AUDIT = 9
_HEADER = struct.Struct("=IHHII")
_ERROR, _GET, _SET, _ADD_RULE = 2, 1000, 1001, 1011
_REQUEST, _ACK = 1, 4
_STATUS = struct.Struct("=10I")  # mask, enabled, failure, pid, ...
_ENABLED = 1
_NEVER_TASK = struct.pack("=3I64I192II", 1, 0, 0, *[0xFFFFFFFF] * 64, *[0] * 192, 0)


def is_on() -> bool:
    """Whether the kernel audits.

    Raises:
        OSError: It cannot, or does not say so to this process.
    """
    return bool(_STATUS.unpack_from(_ask(_GET))[1])


@contextmanager
def auditing() -> Iterator[None]:
    """Auditing is on inside.

    A kernel that audited once keeps records for every later process until it is booted anew, which costs each
    of their system calls some time; the rule "no task" prevents that, and stays.
    """
    if is_on():
        yield
        return
    with suppress(FileExistsError):
        _ask(_ADD_RULE, _NEVER_TASK)
    _ask(_SET, _STATUS.pack(_ENABLED, 1, *[0] * 8))
    try:
        yield
    finally:
        _ask(_SET, _STATUS.pack(_ENABLED, 0, *[0] * 8))


def _ask(kind: int, payload: bytes = b"") -> bytes:
    """Send a request, and return the body of its answer."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_AUDIT) as log:
        log.settimeout(5)
        log.send(_HEADER.pack(_HEADER.size + len(payload), kind, _REQUEST | _ACK, 1, 0) + payload)
        while True:
            answer = log.recv(1 << 14)
            found, rest = _HEADER.unpack_from(answer)[1], answer[_HEADER.size :]
            if found == _ERROR:
                (error,) = struct.unpack_from("=i", rest)
                if error:
                    raise OSError(-error, os.strerror(-error))
                if kind != _GET:  # its answer comes apart from the word that there was no error
                    return b""
            elif found == kind:
                return rest
