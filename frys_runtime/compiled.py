"""What an engine made of a plugin's code, kept for the next load of the very same bytes.

Compiling is done by a process in the plugin's own jail that then ends, so what comes out is as untrusted as
the plugin: it is kept under the digest of the code that it was made of, and only ever given to a jailed
process that is to load that very code (docs/adr/0006-compiled-code-is-the-plugins-own.md).
"""

import asyncio
import hashlib
import os
import tempfile
from collections import OrderedDict
from contextlib import suppress
from typing import Final, NamedTuple

from .errors import InitializationFailed
from .linux import memory_file

_LEAST_CODE: Final = 4 << 10
"""Bytes of code below which compiling costs less than a process for it: 1 to 3 ms for each KiB."""
_TIMES: Final = 16
"""How much larger than its code a compiled form may be; measured: 3 to 8."""
_ROOM: Final = 256 << 20
"""Bytes of memory for the forms that were used last, and of the largest that is kept."""
_DISK: Final = 1 << 30
"""Bytes of the folder."""
_DIGEST: Final = 32


class Offer(NamedTuple):
    """For one process: a compiled form, or room to leave one, or nothing. Whoever gets it closes it.

    Attributes:
        key: Under what it is kept.
        files: The memory file, by a descriptor of this offer's own; none when there is nothing to offer.
        size: Bytes of the compiled form, sealed; 0 when there is none yet.
        room: Bytes of room for it; 0 when there is one already.
    """

    key: str = ""
    files: tuple[int, ...] = ()
    size: int = 0
    room: int = 0

    def close(self) -> None:
        """Close the descriptor; a compiled form stays with the cache."""
        for file in self.files:
            os.close(file)


class CompiledCode:
    """The compiled forms of one manager's plugins: in memory, and in a folder if there is one.

    Args:
        folder: Where they outlast the manager; made when it is not there, for its owner only.

    Raises:
        InitializationFailed: The folder cannot be used.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder
        self._held: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._size = 0
        self._closed = False
        if folder is not None:
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
            except OSError as error:
                raise InitializationFailed(f"the folder {folder}", error.strerror or str(error)) from None

    async def offer(self, digest: str, code: int, engine: str) -> "Offer":
        """What a process gets that is to load some code.

        Args:
            digest: SHA-256 of the code.
            code: Its size in bytes.
            engine: What else decides the form: the engine with its version and settings, and the processor;
                empty for a format that compiles nothing.
        """
        if not engine or code < _LEAST_CODE:
            return Offer()
        key = hashlib.sha256(f"{digest}\0{engine}".encode()).hexdigest()
        if key not in self._held and self._folder is not None:
            content = await asyncio.to_thread(_read, self._path(key))
            if content is not None and key not in self._held and not self._closed:
                self._hold(key, content)
        if key in self._held:
            return self._found(key)
        # Its pages are charged to whoever writes them.
        file, room = memory_file.create("frys-compiled"), min(code * _TIMES, _ROOM)
        os.ftruncate(file, room)
        return Offer(key, (file,), room=room)

    def _found(self, key: str) -> "Offer":
        self._held.move_to_end(key)
        file, size = self._held[key]
        # A descriptor of its own: this one is closed, and its number used again, when others need the room.
        return Offer(key, (os.dup(file),), size)

    async def keep(self, offer: "Offer", size: int) -> "Offer":
        """Keep what a process says that it has left in its room, and close the offer.

        Returns:
            The same as :meth:`offer` would give from now on; nothing when nothing of use is there.
        """
        # Whoever wrote it may still be able to, so a copy is kept.
        try:
            content = await asyncio.to_thread(os.pread, offer.files[0], min(size, offer.room), 0)
        finally:
            offer.close()
        if not content or self._closed:
            return Offer()
        if offer.key not in self._held:
            self._hold(offer.key, content)
            if self._folder is not None:
                self._put_aside(self._folder, offer.key, content)
        return self._found(offer.key)

    def _put_aside(self, folder: str, key: str, content: bytes) -> None:
        task = asyncio.create_task(asyncio.to_thread(_write, folder, self._path(key), content))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hold(self, key: str, content: bytes) -> None:
        file = memory_file.create("frys-compiled")
        memory_file.write(file, content)
        memory_file.seal(file)
        self._held[key] = file, len(content)
        self._size += len(content)
        while self._size > _ROOM and len(self._held) > 1:
            _, (oldest, size) = self._held.popitem(last=False)
            os.close(oldest)
            self._size -= size

    def _path(self, key: str) -> str:
        return os.path.join(self._folder or "", f"{key}.compiled")

    async def close(self) -> None:
        """Finish what goes on in the background, and give the memory back."""
        self._closed = True
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for file, _ in self._held.values():
            os.close(file)
        self._held.clear()
        self._size = 0


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    content = data[_DIGEST:]
    if hashlib.sha256(content).digest() != data[:_DIGEST]:
        return None  # cut off by a full disk, or rotten: it is compiled again
    with suppress(OSError):
        os.utime(path)
    return content


def _write(folder: str, path: str, content: bytes) -> None:
    """Whole or not at all; the oldest go when there are too many. A full disk only costs the next load."""
    with suppress(OSError):
        fd, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".compiled")
        try:
            with open(fd, "wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
        entries = [entry for entry in os.scandir(folder) if entry.name.endswith(".compiled")]
        found = sorted((entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in entries)
        total = sum(size for _, size, _ in found)
        for _, size, oldest in found:
            if total <= _DISK:
                break
            os.unlink(oldest)
            total -= size
