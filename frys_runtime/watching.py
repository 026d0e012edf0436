"""Sees that a plugin was saved, and waits until it was saved whole.

The kernel's notes are only hints that something may have changed: what counts is what the loader reads. A
plugin is told of when it was read twice, with a pause, and was the same both times, while nobody had one of
its files open for writing, and when it is not what was loaded before. So half of a file is no plugin, and a
file whose time alone has changed is no new one.

Watched is every folder in which a name is looked up on the way to the plugin, so that a symbolic link on that
way, or a folder, may be exchanged as well.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from .admission import digest
from .closing import made
from .deployment import Release, Source
from .errors import LoadFailed, PluginError
from .extism_manifest import SUFFIXES as MANIFESTS
from .linux.inotify import Inotify
from .linux.lease import is_open_for_writing
from .loader import Bundle

SETTLE_S: Final = 0.1
"""Seconds between two looks that have to see the same."""
_LONGEST_S: Final = 1.0
"""Between two looks while somebody still writes."""
_BURST_S: Final = 0.01
"""Notes that come so soon after another are one burst."""
_RETRY_S: Final = 2.0
_MAX_LINKS: Final = 40
"""Symbolic links on the way to a path, as in path_resolution(7)."""
_ALL: Final = ""

type Key = tuple[str, str]
type Lookups = dict[str, set[str]]


class _Look(NamedTuple):
    """What is at a plugin's path at one moment.

    Attributes:
        stamp: What stat(2) says of all its files.
        content: A digest of what was read; or why there is no plugin; empty while somebody writes.
        found: The bytes, or the error.
    """

    stamp: object
    content: str
    found: Bundle | PluginError | None

    def close(self) -> None:
        if isinstance(self.found, Bundle):
            self.found.close()


class Watching:
    """Watches the files of loaded plugins.

    Args:
        read: Reads and verifies a plugin; may block.
        saved: Told of a version whose file holds something else now: those bytes, which it owns then, or why
            they are no plugin.
        failed: Told why nothing can be watched.
    """

    def __init__(
        self,
        read: Callable[[Source], Bundle],
        saved: Callable[[Release, Bundle | PluginError], Awaitable[None]],
        failed: Callable[[str], None],
    ) -> None:
        self._read, self._saved, self._failed = read, saved, failed
        self._followed: dict[Key, Release] = {}
        self._stamps: dict[Key, object] = {}
        self._refused: dict[Key, str] = {}
        self._looks: dict[Key, asyncio.Task[None]] = {}
        self._hinted: set[Key] = set()
        self._awake = asyncio.Event()
        self._elsewhere = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch from here on."""
        self._task = asyncio.create_task(self._run())

    def follow(self, releases: Iterable[Release]) -> None:
        """Watch the files of these versions, and of no others."""
        followed = {(release.plugin_id, release.source.path): release for release in releases}
        if followed.keys() != self._followed.keys():
            self._elsewhere = True
            self._awake.set()
        for key in self._followed.keys() - followed.keys():
            for known in (self._stamps, self._refused):
                known.pop(key, None)
        self._followed = followed

    async def close(self) -> None:
        """Watch nothing any more; returns when no look is under way."""
        tasks = [*self._looks.values(), *((self._task,) if self._task is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        told = ""
        while True:
            try:
                await self._watch()
                told = ""
            except OSError as error:
                if str(error) != told:  # a folder that went at the wrong moment is not worth a word
                    told = str(error)
                    await asyncio.sleep(SETTLE_S)
                    continue
                self._failed(f"the files of plugins cannot be watched: {error}")
                await asyncio.sleep(_RETRY_S)

    async def _watch(self) -> None:
        """Watch until the kernel refuses something.

        Every folder is asked for again after each burst: a path may lead to another one then.
        """
        with Inotify() as notes:
            while True:
                self._elsewhere = False
                where = await asyncio.to_thread(self._lookups)
                notes.follow(where)
                self._hint(self._followed)  # of what happened before, too
                changed: list[str] = []
                while not (self._elsewhere or any(_counts(where, path) for path in changed)):
                    changed = await self._noted(notes)

    async def _noted(self, notes: Inotify) -> list[str]:
        """The paths of the next burst of notes; none where other plugins are to be followed."""
        loop = asyncio.get_running_loop()
        self._awake.clear()

        def wake() -> None:
            loop.remove_reader(notes)
            self._awake.set()

        loop.add_reader(notes, wake)
        try:
            await self._awake.wait()
        finally:
            loop.remove_reader(notes)
        await asyncio.sleep(_BURST_S)
        return notes.read()

    def _lookups(self) -> Lookups:
        where: Lookups = {}
        for _, path in self._followed:
            for folder, name in lookups(path):
                where.setdefault(folder, set()).add(name)
        return where

    def _hint(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._hinted.add(key)
            if key not in self._looks:
                self._looks[key] = asyncio.create_task(self._settle(key))

    async def _settle(self, key: Key) -> None:
        """Look until there is something to be told, or all is as it was."""
        pause, before = SETTLE_S, _NOTHING
        try:
            while key in self._followed and (key in self._hinted or before.content != _AS_LOADED):
                self._hinted.discard(key)
                now = await self._look(key)
                before.close()
                before, settled = now, now.content and now.content == before.content
                if now.content == _AS_LOADED:
                    self._stamps[key] = now.stamp
                elif settled and key not in self._hinted:
                    before = now._replace(content=_AS_LOADED, found=None)
                    await self._tell(key, now)
                else:
                    pause = SETTLE_S if now.content else min(2 * pause, _LONGEST_S)
                    await asyncio.sleep(pause)
        finally:
            before.close()
            self._looks.pop(key, None)

    async def _look(self, key: Key) -> _Look:
        release, stamp = self._followed[key], self._stamps.get(key)
        return await made(partial(self._look_now, release, stamp, self._refused.get(key)), _Look.close)

    def _look_now(self, release: Release, known: object, refused: str | None) -> _Look:
        path = release.source.path
        stamp = tuple(_stamps(path))
        if stamp and stamp == known:
            return _Look(stamp, _AS_LOADED, None)
        if any(is_open_for_writing(file) for file, *_ in stamp):
            return _Look(stamp, "", None)
        try:
            bundle = self._read(release.source)
        except PluginError as error:
            look = _Look(stamp, str(error), error)
        except OSError as error:  # no memory, no descriptor: nothing is wrong with the plugin
            look = _Look(stamp, str(error), LoadFailed(path, str(error)))
        else:
            look = _Look(stamp, digest(bundle), bundle)
        if look.content == release.digest:
            self._refused.pop((release.plugin_id, path), None)
        elif look.content != refused:
            return look
        look.close()
        return _Look(stamp, _AS_LOADED, None)

    async def _tell(self, key: Key, look: _Look) -> None:
        release = self._followed.get(key)
        if release is None or look.found is None:
            look.close()
            return
        self._stamps[key], self._refused[key] = look.stamp, look.content
        await self._saved(release, look.found)


_AS_LOADED: Final = "as it was loaded"
_NOTHING: Final = _Look(None, "", None)


def lookups(path: str) -> Iterator[tuple[str, str]]:
    """Each folder in which a name is looked up on the way to a plugin, with that name; "" for all names.

    Args:
        path: An absolute path. What is missing ends the way.
    """
    folder, ahead, links = "/", [part for part in reversed(path.split("/")) if part], 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            folder = os.path.dirname(folder)
            continue
        yield folder, part
        step = os.path.join(folder, part)
        try:
            mode = os.lstat(step).st_mode
            target = os.readlink(step) if stat.S_ISLNK(mode) else None
        except OSError:
            return
        if target is None:
            folder = step
            continue
        links += 1
        if links > _MAX_LINKS:
            return
        ahead += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        folder = "/" if target.startswith("/") else folder
    if os.path.isdir(folder):
        for top, folders, _ in os.walk(folder, onerror=_must_have_room):
            folders[:] = [name for name in folders if not _is_left_out(name)]
            yield top, _ALL
    elif folder.endswith(MANIFESTS):
        yield os.path.dirname(folder), _ALL  # the modules that it names


def _must_have_room(error: OSError) -> None:
    """A folder that cannot be read is left out, but not one for which this host has no descriptor now."""
    if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
        raise error


def _counts(where: Lookups, path: str) -> bool:
    folder, name = os.path.split(path)
    names = where.get(folder, set())
    return name in names or (_ALL in names and not _is_left_out(name)) or path in where


def _is_left_out(name: str) -> bool:
    """What the loader leaves out."""
    return name.startswith(".") or name == "__pycache__"


def _stamps(path: str) -> Iterator[tuple[str, int, int, int, int, int]]:
    """Each file of a plugin with what stat(2) says of it."""
    if not os.path.isdir(path):
        files: Iterable[str] = (path,)
        if path.endswith(MANIFESTS):
            files = _beside(path)
    else:
        files = _files(path)
    for file in sorted(files):
        with suppress(OSError):  # it has gone meanwhile: the loader says so
            about = os.stat(file)
            yield file, about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _beside(path: str) -> list[str]:
    with suppress(OSError), os.scandir(os.path.dirname(path)) as entries:
        return [entry.path for entry in entries if entry.is_file()]
    return []


def _files(folder: str) -> Iterator[str]:
    for top, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_left_out(name)]
        yield from (os.path.join(top, name) for name in names if not _is_left_out(name))
