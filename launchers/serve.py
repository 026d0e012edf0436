"""The plugin's end of the lane: frames in, calls, frames out.

A frame is a length (32 bit, big-endian, of what follows) and one MessagePack array. docs/protocol.md
lists them all. The loop needs two system calls per call, recvfrom and sendto, and nothing else; it also
runs inside a Python subinterpreter, so it imports only what loads there.
"""

import _socket
import posix
import struct
import time

from .bulk import Bulk, Lender
from .codec import pack, read, unpack
from .failures import Failure, LimitReached, PluginRaised
from .host import Host
from .values import Value

TYPE_CHECKING = False  # importing typing would cost memory in every subinterpreter
if TYPE_CHECKING:
    from typing import Any

LOAD, CALL, PING = 1, 2, 5
HELLO, LISTENER, LOADED, RESULT, FAILURE = 0, 1, 2, 3, 4

_CHUNK = 1 << 13
_LARGE = 1 << 15
_MAX_TEXT = 1 << 16
_MOST_LEFT_OUT = 1023
_ANSWER_SHARE = 2  # an answer that takes longer is another plugin's, which may need the core
_TAKEN_SECONDS = 4e-6
"""In which a host that looks takes what was sent; the kernel wakes whoever sleeps on the socket then, for
nothing (unix_write_space() in net/unix/af_unix.c)."""
_SIZE = struct.Struct(">I")
_CALL = struct.Struct(">xxxQxQxQ")  # the numbers of [2, sequence, timeout_ms, max_result, function, args]
_RESULT = struct.Struct(">IBBBQ")  # the length of [3, sequence, value], and all of it but the value


class Plugin:
    """What a format's ``load()`` returns; the formats match it by shape.

    Attributes:
        deadline: ``time.monotonic()`` seconds at which the current call ends; 0.0 for none. An engine
            that can interrupt itself does so then; the host kills the process a little later.
        borrows: The next call copies large bytes among its arguments before anything of the plugin runs, so
            they may be views of the buffer; nothing where there is no such attribute.
    """

    deadline: float
    borrows: bool

    def __call__(self, function: str, args: list[Value]) -> Value:
        """Call one function."""
        raise NotImplementedError

    def functions(self) -> dict[str, str]:
        """Name every callable function, with a signature for people."""
        raise NotImplementedError


class Patience:
    """Whether to look for the next frame before sleeping, as it went before.

    After a look in vain, the next 1, 3, 7 ... 1023 frames are waited for asleep.
    """

    __slots__ = ("left_out", "misses")

    def __init__(self) -> None:
        self.misses = self.left_out = 0

    def in_vain(self) -> None:
        """Nothing came while one looked, or while one left that out."""
        if self.left_out:
            self.left_out -= 1
        else:
            self.misses = self.left_out = min(2 * self.misses + 1, _MOST_LEFT_OUT)


class Lane:
    """A blocking stream socket that carries frames.

    Args:
        fd: The socket; owned from here on.
        pending: Bytes that another lane on the same socket had read already.
        bulk: The buffer for large bytes.
        busy_poll: Seconds for which the host's next frame is looked for before the process sleeps.
    """

    def __init__(
        self, fd: int, pending: bytes = b"", bulk: Bulk | None = None, busy_poll: float = 0.0
    ) -> None:
        self.bulk = bulk
        self.busy_poll = busy_poll
        self._calls, self._answers = Patience(), Patience()
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        self._buffer = bytearray(_CHUNK)
        self._view = memoryview(self._buffer)
        self._buffer[: len(pending)] = pending
        self._filled = len(pending)

    def hand_over(self) -> tuple[int, bytes, float, memoryview]:
        """For another lane on the same socket: its descriptor, the bytes that it has read, and the rest.

        This one can still send.
        """
        pending, self._filled = bytes(self._view[: self._filled]), 0
        view = self.bulk.view if self.bulk is not None else memoryview(b"")
        return self.socket.fileno(), pending, self.busy_poll, view

    def receive(self, *, answer: bool = False) -> memoryview:
        """Wait for one frame; the view is valid until the next call.

        Args:
            answer: It answers a question.

        Raises:
            EOFError: The host closed the lane.
        """
        if self.busy_poll and not self._filled:
            if answer:
                self._look(self._answers, self.busy_poll / _ANSWER_SHARE)
            else:
                self._look(self._calls, self.busy_poll)
        while self._filled < 4:
            self._fill(self._view[self._filled :])
        (size,) = _SIZE.unpack_from(self._buffer)
        end = 4 + size
        if end <= _CHUNK:
            while self._filled < end:
                self._fill(self._view[self._filled :])
            return self._take(end)
        return self._receive_large(size)

    def receive_with_descriptors(self) -> tuple[memoryview, list[int]]:
        """Wait for the frame that carries the plugin, and for the descriptors that come with it.

        Raises:
            EOFError: The host closed the lane; a parked spare ends so.
        """
        space = _socket.CMSG_SPACE(12)
        count, messages, _, _ = self.socket.recvmsg_into([self._view], space, _socket.MSG_CMSG_CLOEXEC)
        if not count or not messages:
            raise EOFError
        self._filled = count
        return self.receive(), list(memoryview(messages[0][2]).cast("i"))

    def _look(self, patience: Patience, seconds: float) -> None:
        """Look for the host's next frame for a moment, where that has paid: a wake-up costs more."""
        pays = not patience.left_out
        end = time.monotonic() + (seconds if pays else _TAKEN_SECONDS)
        while True:
            try:
                self._filled = self.socket.recv_into(self._view, 0, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                if time.monotonic() > end:
                    patience.in_vain()
                    return
                if pays:
                    posix.sched_yield()  # to the host, if it has no core of its own
            else:
                patience.misses >>= 1
                return  # nothing at the end of the stream, which the next one tells

    def _fill(self, into: memoryview) -> None:
        count = self.socket.recv_into(into)
        if not count:
            raise EOFError
        self._filled += count

    def _take(self, end: int) -> memoryview:
        frame, rest = self._view[4:end], self._filled - end
        if rest:
            # The host sends the next call only after the answer, but LOAD and the first call may touch.
            frame = memoryview(bytes(frame))
            self._buffer[:rest] = self._buffer[end : self._filled]
        self._filled = rest
        return frame

    def _receive_large(self, size: int) -> memoryview:
        large = memoryview(bytearray(size))
        have = self._filled - 4
        large[:have] = self._view[4 : self._filled]
        self._filled = 0
        while have < size:
            count = self.socket.recv_into(large[have:])
            if not count:
                raise EOFError
            have += count
        return large

    def send(self, head: bytes, body: bytes = b"") -> None:
        """Send one frame made of two parts; a large body is not copied."""
        size = _SIZE.pack(len(head) + len(body))
        if len(body) < _LARGE:
            self.socket.sendall(size + head + body)
        else:
            self.socket.sendall(size + head)
            self.socket.sendall(body)

    def send_result(self, sequence: int, body: bytes) -> None:
        """Answer a call with an encoded value."""
        head = _RESULT.pack(_RESULT.size - 4 + len(body), 0x93, RESULT, 0xCF, sequence)
        if len(body) < _LARGE:
            self.socket.sendall(head + body)
        else:
            self.socket.sendall(head)
            self.socket.sendall(body)

    def send_failure(self, sequence: int, failure: Failure) -> None:
        """Send a failure, its texts bounded and made fit for UTF-8."""
        words = [_text(failure.kind), _text(failure.message), _text(failure.detail)]
        actual = getattr(failure, "actual", 0)
        self.send(pack([FAILURE, sequence, *words, actual]))


def _text(value: object) -> str:
    text = str(value)
    if len(text) > _MAX_TEXT:
        text = text[: _MAX_TEXT // 2] + "\n... (shortened) ...\n" + text[-_MAX_TEXT // 2 :]
    return text.encode("utf-8", "replace").decode()


def serve(lane: Lane, plugin: Plugin, host: Host) -> None:
    """Answer calls until the host closes the lane."""
    lender = Lender(lane.bulk.view) if lane.bulk is not None and hasattr(plugin, "borrows") else None
    while True:
        try:
            frame = lane.receive()
        except EOFError:
            return
        # The host is trusted to send the shape of docs/protocol.md.
        if frame[1] == PING:
            ping: Any = unpack(frame)
            lane.send_result(ping[1], b"\xc0")
            continue
        sequence, timeout_ms, max_result = _CALL.unpack_from(frame)
        function, at = read(frame, _CALL.size, lane.bulk)
        args, _ = read(frame, at, lender if lender is not None and plugin.borrows else lane.bulk)
        plugin.deadline = time.monotonic() + timeout_ms / 1000 if timeout_ms else 0.0
        host.begin(max_result)
        try:
            body = _answer(plugin, function, args, max_result, lane.bulk)
        except Failure as failure:
            host.end()
            lane.send_failure(sequence, failure)
        else:
            host.end()
            lane.send_result(sequence, body)


def _answer(plugin: Plugin, function: "Any", args: "Any", max_result: int, bulk: Bulk | None) -> bytes:
    try:
        body = pack(plugin(function, args), bulk=bulk)
    except Failure:
        raise
    except MemoryError:
        raise LimitReached("memory", "the plugin ran out of memory") from None
    except BaseException as error:
        raise PluginRaised(f"{type(error).__name__}: {error}") from None
    size = len(body) + (bulk.used if bulk is not None else 0)
    if size > max_result:
        raise LimitReached("output", "the result is larger than allowed", size)
    return body
