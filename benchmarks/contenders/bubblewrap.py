"""``bwrap --unshare-all --ro-bind / / true``: nothing, in new namespaces, from exec to reaped."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import Absent, Measure, perform


@contextmanager
def start() -> Iterator[Measure]:
    """Prepare; a request gives a count, and the answer is the seconds of each run."""
    path = shutil.which("bwrap")
    if path is None:
        raise Absent("bwrap is not installed (Debian's package is bubblewrap)")
    command = [path, "--unshare-all", "--ro-bind", "/", "/", "true"]
    if _seconds(command) < 0:
        raise Absent(f"{' '.join(command)} failed: this machine does not let this user make the namespaces")
    yield lambda count: [_seconds(command) for _ in range(count)]


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    return seconds if status == 0 else -1.0


if __name__ == "__main__":
    perform(start)
