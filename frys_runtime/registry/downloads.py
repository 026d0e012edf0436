"""Files that come in pieces: a download that broke off goes on where it was, and the end is verified."""

import contextlib
import fcntl
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from .transport import Answered, Head, Odd, Session, Start

_MAX_ETAG: Final = 200

type OnBytes = Callable[[int], object]
"""Is told how many bytes are there."""


class WrongBytes(Exception):
    """What came is not what was signed; it was deleted."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    session: Session,
    url: str,
    target: Path,
    *,
    size: int,
    digest: str,
    on_bytes: OnBytes = lambda _: None,
    headers: Mapping[str, str] | None = None,
    elsewhere: bool = False,
) -> None:
    """Fetch a file whose size and SHA-256 are known, unless it is there already.

    What came of it before is in ``target`` with ``.part`` behind, and is gone on with. Several processes may
    do this at once; one fetches, the others wait and find it.

    Args:
        session: Fetches.
        url: Where.
        target: Where it goes, once every byte is right.
        size: Its bytes.
        digest: Its SHA-256.
        on_bytes: Is told how many bytes are there.
        headers: More headers of the request.
        elsewhere: Whether the server may send us to another host.

    Raises:
        TransferError: It did not come; what came of it is kept for the next time.
        WrongBytes: It is something else.
        OSError: The disk is full, or may not be written to.
    """
    if is_there(target, size, digest):
        on_bytes(size)
        return
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(part, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if is_there(target, size, digest):  # somebody else was quicker
            on_bytes(size)
            return
        fetch = functools.partial(session.fetch, url, size, headers=headers, elsewhere=elsewhere)
        resumed = _fetch(fetch, file.fileno(), part, size, on_bytes)
        if resumed and _digest(part, size) != digest:
            _forget(file.fileno(), part)  # a beginning of something else, which the file may well have been
            _fetch(fetch, file.fileno(), part, size, on_bytes)
        found = _digest(part, size)
        if found != digest:
            _forget(file.fileno(), part)
            part.unlink()
            raise WrongBytes(f"the bytes that came have the SHA-256 {found}, and signed is {digest}")
        os.fsync(file.fileno())
        os.replace(part, target)
        _etag_file(part).unlink(missing_ok=True)


def is_there(target: Path, size: int, digest: str) -> bool:
    """Whether a file has the size and the SHA-256 that it should have."""
    try:
        return target.stat().st_size == size and sha256_of(target) == digest
    except OSError:
        return False


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _fetch(fetch: Callable[..., None], fd: int, part: Path, size: int, on_bytes: OnBytes) -> bool:
    """Get what is missing; whether there was something before."""
    start = _start(fd, part)
    if start.size > size:
        _forget(fd, part)
        start = Start(0, "")
    if start.size == size:
        return True
    at = 0

    def begin(head: Head) -> None:
        nonlocal at
        at = head.start
        if at == 0:
            _forget(fd, part)
            if 0 < len(head.etag) <= _MAX_ETAG and not head.etag.startswith("W/"):
                _etag_file(part).write_text(head.etag)
        on_bytes(at)

    def write(piece: bytes) -> None:
        nonlocal at
        left = memoryview(piece)
        while left:
            left = left[os.write(fd, left) :]  # to the file's end: it was opened for appending
        at += len(piece)
        on_bytes(at)

    try:
        fetch(write, start=start, begin=begin)
    except Answered as refused:
        if refused.status != 416 or not start.size:
            raise
        _forget(fd, part)  # what is there is longer than what the server has
        fetch(write, begin=begin)
    if at != size:
        raise Odd(f"it ended after {at} of {size} bytes; the next try goes on from there")
    return start.size > 0


def _start(fd: int, part: Path) -> Start:
    there = os.fstat(fd).st_size
    if there:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return Start(there, _etag_file(part).read_text("ascii")[:_MAX_ETAG])
        os.ftruncate(fd, 0)  # nobody knows of what it is the beginning
    return Start(0, "")


def _forget(fd: int, part: Path) -> None:
    os.ftruncate(fd, 0)
    _etag_file(part).unlink(missing_ok=True)


def _digest(part: Path, size: int) -> str:
    """The SHA-256 of what came; of too few or too many bytes it is none."""
    return sha256_of(part) if part.stat().st_size == size else "of another length"
