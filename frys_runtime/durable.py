"""A file that stands there whole or not at all, whatever the machine does meanwhile."""

import os
import tempfile
from collections.abc import Iterable


def replace_file(path: str, parts: Iterable[bytes], mode: int = 0o644) -> None:
    """Write a file so that its name stands for the old content or for all of the new, even after a crash.

    Raises:
        OSError: It cannot be written; nothing is left then.
    """
    where = os.path.dirname(path) or "."
    fd, temporary = tempfile.mkstemp(dir=where, prefix=f".{os.path.basename(path)[:64]}.")
    try:
        with open(fd, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    below = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(below)
    finally:
        os.close(below)
