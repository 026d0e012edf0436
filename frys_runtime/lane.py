"""The host's end of a plugin's lane: a stream socket, one exchange at a time, nothing trusted.

While the host waits for an answer, the plugin may ask questions, one at a time.
"""

import array
import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from .bulk import Bulk
from .busy_poll import Patience, attention_of
from .wire import ASK, ProtocolError, Reader

_BUFFER = 1 << 20

# Plain numbers: an operation on enum members costs a microsecond, here for every frame.
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_CTRUNC = int(socket.MSG_CTRUNC)


class LaneClosed(Exception):
    """The other end is gone."""


class HostOutOfMemory(LaneClosed):
    """What came has no room in the host's memory; it is no fault of the other end."""


def pair() -> tuple[socket.socket, socket.socket]:
    """The host's end (non-blocking) and the plugin's end of a new lane, with room for a large value."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (ours, theirs):
        for force, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
            try:
                end.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
            except PermissionError:
                end.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)
    ours.setblocking(False)
    return ours, theirs


_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


class Lane:
    """Sends frames, waits for the one answer, and tells when the other end goes or breaks a rule.

    Args:
        ours: The host's end; owned from here on.
        on_end: Called once, from the event loop, with ``LaneClosed`` or ``ProtocolError``, when nothing more
            can come. A waiting exchange gets the same exception.

    Attributes:
        on_question: Called with a plugin's ASK frame; whoever takes it calls :meth:`answer` later.
        is_plain: The other end's filter forbids to send descriptors, so nobody looks for them, which takes
            a microsecond; the kernel drops them.
        busy_poll: Seconds for which a frame of the plugin is looked for before the event loop waits for it.
        was_found: The latest answer was found by such a look, so the event loop has not told yet what the
            plugin did before it.
        answer_bytes: Bytes of the answer to the latest exchange; 0 until it is there.
    """

    def __init__(self, ours: socket.socket, on_end: Callable[[Exception], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = ours
        self._on_end = on_end
        self._reader = Reader()
        self._waiter: asyncio.Future[list[Any]] | None = None
        self._unsent: list[memoryview] = []
        self._writing = False
        self._descriptors_welcome = True
        self._descriptor = -1
        self._ended: Exception | None = None
        self._asked = False
        self._attention, self._patience = attention_of(self._loop), Patience()
        self._looks, self._until = False, 0.0
        self.busy_poll, self.was_found = 0.0, False
        self.is_plain = False
        self.on_question: Callable[[list[Any]], None] | None = None
        self._bytes_in = self._bytes_out = self.answer_bytes = 0
        self._first = self.expect(0)
        self._loop.add_reader(ours.fileno(), self._readable)

    def exchange(self, buffers: Sequence[bytes], limit: int) -> "asyncio.Future[list[Any]]":
        """Send one frame and wait for the answer; :meth:`look` may be quicker than the event loop.

        Args:
            buffers: The encoded frame, from :func:`frys_runtime.wire.encode`.
            limit: Bytes that the answer's value may have.

        Raises:
            LaneClosed: The other end is gone.
            ProtocolError: It broke a rule of the lane.
        """
        if self._ended is None:
            self._send(buffers)
        return self.expect(limit)  # made while the plugin works already

    def expect(self, limit: int) -> "asyncio.Future[list[Any]]":
        """The next frame, of at most ``limit`` bytes of value."""
        waiter: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._ended is not None:
            waiter.set_exception(self._ended)
            return waiter
        self._reader.limit = limit
        self.answer_bytes = 0
        self._waiter = waiter
        return waiter

    def look(self) -> None:
        """Look for the next frame, where that has paid; otherwise the event loop tells when it comes."""
        if self._looks:  # within a look, which goes on
            now = perf_counter()
            self._until = now + self.busy_poll if self._attention.is_free(now) else 0.0
            return
        self.was_found = False
        waiter = self._waiter
        if waiter is None:
            return
        now = perf_counter()
        if not self.busy_poll or not self._attention.is_free(now) or not self._patience.is_left():
            self._attention.sleep(self)
            return
        self._looks, self._until = True, now + self.busy_poll
        try:
            while True:
                self._readable()
                if waiter.done() or self._asked:
                    self._patience.found()
                    self.was_found = True
                    break
                if perf_counter() > self._until:
                    if self._until:
                        self._patience.lost()
                    self._attention.sleep(self)
                    break
                os.sched_yield()  # to the plugin, if it has no core of its own
        finally:
            self._looks = False

    def answer(self, buffers: Sequence[bytes]) -> None:
        """Answer the question; the plugin goes on, and may ask the next one, which :meth:`look` may find."""
        if self._ended is None:
            self._asked = False
            self._send(buffers)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more can come."""
        return self._ended is not None

    @property
    def is_asked(self) -> bool:
        """Whether the plugin waits for the answer to a question."""
        return self._asked

    @property
    def asks_too_much(self) -> bool:
        """Whether the question is larger than one may be."""
        return self._reader.asks_too_much

    @property
    def bytes_in(self) -> int:
        """Bytes that came, those in the buffer included."""
        return self._bytes_in + (self.bulk.bytes_in if self.bulk is not None else 0)

    @property
    def bytes_out(self) -> int:
        """Bytes that were to be sent, those in the buffer included."""
        return self._bytes_out + (self.bulk.bytes_out if self.bulk is not None else 0)

    @property
    def bulk(self) -> Bulk | None:
        """The buffer for large bytes; none before a plugin is there."""
        return self._reader.bulk

    def add_bulk(self, buffer: Bulk) -> None:
        """From the next frame on, large bytes may travel in a buffer; it is owned from here on."""
        if self._ended is not None:
            buffer.close()
            return
        self._reader.bulk = buffer

    async def receive_descriptor(self) -> tuple[list[Any], int]:
        """The first frame of all, and the descriptor that comes with it; -1 when none came.

        It is sent before a plugin is there. No later frame may bring a descriptor.
        """
        frame = await self._first
        fd, self._descriptor = self._descriptor, -1
        return frame, fd

    def send_descriptors(self, buffers: Sequence[bytes], fds: Sequence[int]) -> None:
        """Send a frame with descriptors; the frame is small enough for the socket's empty buffer."""
        if self._ended is not None:
            return  # who expects an answer is told
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        data = b"".join(buffers)
        try:
            sent = self._socket.sendmsg([data], rights)
        except (BrokenPipeError, ConnectionResetError):
            return  # the reader is told by the end of the stream
        self._bytes_out += sent
        self._send([data[sent:]])

    def close(self) -> None:
        """Close the socket; a waiting exchange ends with ``LaneClosed``."""
        self._end(LaneClosed("the lane was closed"))

    def _send(self, buffers: Sequence[bytes]) -> None:
        for buffer in buffers:
            self._bytes_out += len(buffer)
        if len(buffers) == 1 and not self._unsent:
            try:
                sent = self._socket.send(buffers[0])
            except OSError:
                sent = 0
            if sent == len(buffers[0]):
                return
            buffers = (buffers[0][sent:],)
        self._unsent += [memoryview(buffer) for buffer in buffers if buffer]
        self._writable()

    def _writable(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent[0])
                if sent == len(self._unsent[0]):
                    del self._unsent[0]
                else:
                    self._unsent[0] = self._unsent[0][sent:]
        except (BlockingIOError, InterruptedError):
            if not self._writing:
                self._loop.add_writer(self._socket.fileno(), self._writable)
                self._writing = True
            return
        except OSError:
            self._unsent.clear()  # the reader is told by the end of the stream
        self._stop_writing()

    def _stop_writing(self) -> None:
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
            self._writing = False

    def _readable(self) -> None:
        space = self._reader.space()
        try:
            count = self._socket.recv_into(space) if self.is_plain else self._receive(space)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(LaneClosed(str(error)))
            return
        except (LaneClosed, ProtocolError) as error:
            self._end(error)
            return
        if count:
            self._take(count)
        else:
            self._end(LaneClosed("the plugin's end was closed"))

    def _receive(self, space: memoryview) -> int:
        """Receive bytes, and with the first of them the one descriptor that is welcome."""
        room = socket.CMSG_SPACE(4) if self._descriptors_welcome else 0
        count, rights, flags, _ = self._socket.recvmsg_into([space], room, _CLOEXEC)
        for *_, data in rights:
            self._descriptor = memoryview(data[:4]).cast("i")[0]
            self._descriptors_welcome = False
        if flags & _CTRUNC:
            if room:  # the first one did not come, because there was no room for it here
                raise LaneClosed("this process has too many open files")
            raise ProtocolError("it sent descriptors through its lane")
        return count

    def _take(self, count: int) -> None:
        self._bytes_in += count
        if self._waiter is None or self._asked:
            when = "its question was being answered" if self._asked else "no call was under way"
            self._end(ProtocolError(f"it sent bytes while {when}"))
            return
        try:
            frame = self._reader.received(count)
            if frame is None:
                return
            self._attention.wake(self)
            if frame[0] == ASK and self.on_question is not None:
                self._asked = True
                self.on_question(frame)
                return
        except ProtocolError as error:
            self._end(error)
            return
        except MemoryError:
            self._end(HostOutOfMemory("the host has no memory for its answer"))
            return
        self.answer_bytes = self._reader.size
        waiter, self._waiter = self._waiter, None
        if not waiter.done():
            waiter.set_result(frame)

    def _end(self, reason: Exception) -> None:
        if self._ended is not None:
            return
        self._ended = reason
        self._attention.wake(self)
        self._loop.remove_reader(self._socket.fileno())
        self._stop_writing()
        self._socket.close()
        if self._reader.bulk is not None:
            self._reader.bulk.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(reason)
            waiter.exception()  # who gave up at the same moment does not ask for it
        self._on_end(reason)
