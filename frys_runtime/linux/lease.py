"""Whether a file is open for writing somewhere: the kernel grants a read lease only when it is not.

fcntl(2), "Leases". A lease is taken and given back at once.
"""

import contextlib
import errno
import fcntl
import os
import signal


def is_open_for_writing(path: str) -> bool | None:
    """Tell whether any process has the file open for writing.

    Returns:
        ``None`` where the kernel does not say: another user's file without CAP_LEASE, a file system without
        leases, or no file at all.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # A writer that comes in this moment has the kernel send us a signal: one that is ignored by default,
        # not SIGIO, which would end the process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    else:
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    finally:
        os.close(fd)
