"""Large bytes on their way to a plugin and back: a buffer that the two processes share beside their lane.

A socket copies every byte into the kernel and out again, in pieces, and both ends wait for each other
meanwhile. So bytes from :data:`LEAST` on are laid into a memory file which the plugin has mapped, and the
frame only says where (docs/protocol.md). It is used for one message at a time, as the lane is.

The plugin can write to it at any moment. The host therefore never maps it, and never looks at it twice: what
it takes is copied out once, and looked at afterwards. No other plugin ever sees this buffer.
"""

import asyncio
import functools
import os
from collections.abc import Collection, Sequence
from struct import Struct
from typing import Any, Final

import msgspec

from .linux import memory_file
from .messages import MessageValue

LEAST: Final = 1 << 13
"""Bytes from which the buffer is faster than the socket; docs/benchmarks.md has the measurement."""
EXTENSION: Final = 1
"""The type of the one MessagePack extension."""
_PLACE: Final = Struct(">II")
_MAY_BE_LARGE: Final = frozenset((bytes, list, dict))
_LARGEST: Final = (1 << 32) - 1
_KEPT: Final = 1 << 16
"""Bytes of the buffer whose memory is not given back between calls."""
_REST_SECONDS: Final = 1.0
_FREED: Final = 1 << 24
"""Twice as much freed memory stays with the process."""


type Placed = msgspec.msgpack.Ext | list[Placed] | dict[str, Placed] | MessageValue
"""A value whose large bytes lie in the buffer."""


class BulkError(Exception):
    """The plugin names bytes that are not there, or more than it may send."""


class Bulk:
    """The host's side of one plugin process's buffer.

    Args:
        size: Bytes that fit; they take memory only where they were written.

    Attributes:
        placed: Bytes of the latest message that were laid in.
        taken: Bytes of the latest frame that were taken out.
        bytes_in: Bytes that were taken out.
        bytes_out: Bytes that were laid in.

    Raises:
        OSError: There is no memory, or no descriptor left.
    """

    def __init__(self, size: int) -> None:
        self.size = min(size, _LARGEST)
        self.fd = memory_file.create("frys-bulk")
        try:
            os.ftruncate(self.fd, self.size)
            memory_file.seal(self.fd, writable=True)
        except BaseException:
            os.close(self.fd)
            raise
        self.decoder = msgspec.msgpack.Decoder(ext_hook=self._take)
        self._loop = asyncio.get_running_loop()
        self._allowed = self.placed = self.taken = 0
        self.bytes_in = self.bytes_out = 0
        self._touched = 0
        self._used_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def place(self, values: Sequence[MessageValue]) -> Sequence[Placed]:
        """The values with large bytes, at any depth, laid into the buffer; those that do not fit stay.

        All stay when the buffer is closed, or memory for it is not to be had: the frame carries them then.
        """
        self.placed = 0
        if not _have_large(values) or self.fd < 0:
            return values
        try:
            placed = [self._lay(value) for value in values]
        except OSError:
            self.placed = 0
            return values
        self.bytes_out += self.placed
        self._touch(self.placed)
        return placed

    def _lay(self, value: MessageValue) -> Placed:
        if type(value) is bytes and LEAST <= len(value) <= self.size - self.placed:
            rest, start = memoryview(value), self.placed
            # A write, not a mapping: where memory ends it fails, and does not kill the host.
            while rest:
                count = os.pwrite(self.fd, rest, self.placed)
                rest, self.placed = rest[count:], self.placed + count
            return msgspec.msgpack.Ext(EXTENSION, _PLACE.pack(start, len(value)))
        if type(value) is list:
            return [self._lay(item) for item in value]
        if type(value) is dict:
            return {key: self._lay(item) for key, item in value.items()}
        return value

    def allow(self, limit: int) -> None:
        """Bytes that the next frame may take from the buffer."""
        self._allowed, self.taken = limit, 0

    def _take(self, code: int, data: memoryview) -> bytes:
        """Copy out what an extension of a frame names."""
        start, size = _PLACE.unpack(data) if len(data) == _PLACE.size else (0, -1)
        if size < 0 or code != EXTENSION or size > self._allowed or start + size > self.size:
            raise BulkError("a frame names bytes of the shared buffer that it may not")
        self._allowed -= size
        self.taken += size
        self.bytes_in += size
        self._touch(start + size)
        parts = []
        while size:
            parts.append(os.pread(self.fd, size, start))
            start, size = start + len(parts[-1]), size - len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _touch(self, end: int) -> None:
        self._touched = max(self._touched, end)
        if self._touched > _KEPT:
            self._used_at = self._loop.time()
            if self._timer is None:
                keep_freed_memory()
                self._timer = self._loop.call_later(_REST_SECONDS, self._give_back)

    def _give_back(self) -> None:
        """Free the memory when nothing large has travelled for a while."""
        quiet_at = self._used_at + _REST_SECONDS
        if self._loop.time() < quiet_at:
            self._timer = self._loop.call_at(quiet_at, self._give_back)
            return
        self._timer = None
        memory_file.free(self.fd, _KEPT, self.size - _KEPT)
        self._touched = 0

    def close(self) -> None:
        """Give everything back; the plugin's mapping goes with its process."""
        if self._timer is not None:
            self._timer.cancel()
        os.close(self.fd)
        self.fd = -1  # whoever still has an answer to lay in must not meet another file under its number


def _have_large(values: Collection[MessageValue]) -> bool:
    """Whether there are large bytes among them, at any depth."""
    for value in values:
        if type(value) is bytes:
            if len(value) >= LEAST:
                return True
        elif isinstance(value, (list, dict)):
            inner = value if isinstance(value, list) else value.values()
            if not _MAY_BE_LARGE.isdisjoint(map(type, inner)) and _have_large(inner):
                return True
    return False


@functools.cache
def keep_freed_memory() -> None:
    """Have the allocator keep what large values leave.

    Otherwise each value's memory is given back and got again, a page fault for each 4 KiB, which takes longer
    than everything else that happens to it (ADR 15). glibc gives back what is free at the end of its heap
    beyond twice the largest block that was ever mapped and freed (mallopt(3), M_MMAP_THRESHOLD), so it
    learns from one whose pages are never touched. Who has set a bound by oneself keeps that.
    """
    bytes(_FREED)


def refuse(_code: int, _data: memoryview) -> Any:
    """For a lane without a buffer."""
    raise BulkError("a frame names a shared buffer, and there is none")
