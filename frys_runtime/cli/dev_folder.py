"""The folder of `frys dev`: what is in it, what was saved, and how it is built."""

import asyncio
import hashlib
import json
import os
import re
import shlex
import signal
import stat
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from .exits import UsageError

_SETTLED_MS: Final = 200
"""A save is over when nothing has changed for so long; editors write a file in several steps."""
_LONGEST_BURST_MS: Final = 1600
_MAKEFILES: Final = ("GNUmakefile", "makefile", "Makefile")
_TARGET: Final = re.compile(r"^(?:[\w./-]+[ \t]+)*build(?:[ \t]+[\w./-]+)*[ \t]*::?(?!=)", re.MULTILINE)
_SHOWN_BYTES: Final = 16 << 10
_GRACE_S: Final = 2.0


class File(NamedTuple):
    """A file at one moment.

    Attributes:
        stamp: What stat(2) says of it; while it stays the same, the content is not read again.
        digest: Of its content.
    """

    stamp: tuple[int, ...]
    digest: bytes


type Snapshot = dict[str, File]

UNKNOWN: Final = File((), b"")
"""In a snapshot, a file that counts as changed, whatever it is by then."""


def snapshot(folder: Path, before: Snapshot) -> Snapshot:
    """What the folder holds now, without what the loader leaves out as well.

    Args:
        folder: The plugin's.
        before: An earlier snapshot of it, so that only what has changed is read.
    """
    found: Snapshot = {}
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        for name in names:
            if _is_left_out(name):
                continue
            path = os.path.join(top, name)
            with suppress(OSError):  # it has gone meanwhile, or nobody may read it: the loader will say so
                found[os.path.relpath(path, folder)] = _look(path, before.get(os.path.relpath(path, folder)))
    return found


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"


def _look(path: str, before: File | None) -> File:
    about = os.lstat(path)
    stamp = (about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if before is not None and before.stamp == stamp:
        return before
    if not stat.S_ISREG(about.st_mode):
        return File(stamp, repr(stamp).encode())
    with open(path, "rb") as file:
        return File(stamp, hashlib.file_digest(file, "blake2b").digest())


def changes(before: Snapshot, after: Snapshot) -> set[str]:
    """The files whose content differs, and those that came or went."""
    return {
        path
        for path in before.keys() | after.keys()
        if path not in before or path not in after or before[path].digest != after[path].digest
    }


async def saves(folder: Path) -> AsyncGenerator[None]:
    """Tell that something in the folder was saved, once for a burst.

    What happens while nobody asks is told at the next asking.

    Args:
        folder: Its real path, by which the kernel's notes name files.

    Raises:
        UsageError: The package that watches is not installed, or the system lets nobody watch.
    """
    try:
        from watchfiles import awatch
    except ImportError:
        raise UsageError(
            "watching a folder needs the package watchfiles: `pip install frys-runtime[watch]`"
        ) from None

    def counts(_change: object, path: str) -> bool:
        return not any(map(_is_left_out, os.path.relpath(path, folder).split(os.sep)))

    try:
        async for _ in awatch(folder, watch_filter=counts, step=_SETTLED_MS, debounce=_LONGEST_BURST_MS):
            yield
    except OSError as error:
        raise UsageError(f"{folder} cannot be watched: {error}") from error


class Build(NamedTuple):
    """How a folder is built.

    Attributes:
        command: The program and its words.
        source: Where that stands.
    """

    command: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        return shlex.join(self.command) if self.command[:2] != _SHELL else self.command[2]


_SHELL: Final = ("sh", "-c")


def find_build(folder: Path, command: str | None) -> Build | None:
    """The build of a folder: the command that was given, a Makefile's target, or a script of package.json."""
    if command is not None:
        return Build((*_SHELL, command), "--build")
    for name in _MAKEFILES:
        if _TARGET.search(_text(folder / name)):
            return Build(("make", "build"), f"from the {name}")
    with suppress(ValueError):
        package = json.loads(_text(folder / "package.json") or "{}")
        scripts = package.get("scripts") if isinstance(package, dict) else None
        if isinstance(scripts, dict) and "build" in scripts:
            return Build(("npm", "run", "--silent", "build"), "from package.json")
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


class Built(NamedTuple):
    """What became of a build.

    Attributes:
        problem: Why it failed; empty if it did not.
        output: The end of what it printed.
        ms: Milliseconds that it took.
    """

    problem: str
    output: str
    ms: float


async def run_build(build: Build, folder: Path) -> Built:
    """Run a build, in a session of its own: cancelling ends it with all that it has started there."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:  # a pipe would stay open as long as anything that it started
        try:
            process = await asyncio.create_subprocess_exec(
                *build.command,
                cwd=folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            return Built(f"{build.command[0]} cannot be started: {error.strerror}", "", 0.0)
        try:
            code = await process.wait()
        finally:
            await _end_session(process)
        end = output.seek(0, os.SEEK_END)
        output.seek(max(end - _SHOWN_BYTES, 0))
        said = output.read().decode(errors="replace").rstrip()
    problem = (
        f"it ended with status {code}" if code > 0 else f"it was ended by signal {-code}" if code else ""
    )
    return Built(problem, said, (time.perf_counter() - began) * 1000)


async def _end_session(process: asyncio.subprocess.Process) -> None:
    """End what is left of a build: politely while it runs, at once when its first process has gone."""
    with suppress(ProcessLookupError):
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _GRACE_S)
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
