"""A coverage-guided fuzzer of the decoder: ``python tests/fuzz/fuzz_wire.py -runs=1000000 CORPUS...``.

It stops with a traceback at the first input that raises anything but ``ProtocolError``, gives a value that
is no plain value, or takes more from the shared buffer than it may. Options are libFuzzer's (``-help=1``).
New inputs that reach new code are kept in the first CORPUS folder.
"""

import asyncio
import os

import atheris
from fuzzing import fuzz, must_be_plain

with atheris.instrument_imports(include=["frys_runtime"]):
    from frys_runtime import bulk, wire

_LIMITS = (0, 64, 1 << 16)
_STEPS = (512, 3, 64, 1)
_BUFFER = 1 << 18  # so that two places of it are more than a frame may take


class Target:
    """Feeds one input as a plugin's bytes, in pieces, to a reader with and without a buffer."""

    def __init__(self, buffer: bulk.Bulk) -> None:
        self._buffer = buffer

    def __call__(self, data: bytes) -> None:
        choice, step = (data[0], _STEPS[data[1] % len(_STEPS)]) if len(data) > 1 else (0, 1)
        reader = wire.Reader()
        reader.limit = _LIMITS[choice % len(_LIMITS)]
        reader.bulk = self._buffer if choice & 0x80 else None
        self._feed(reader, data[2:], step)

    def _feed(self, reader: wire.Reader, data: bytes, step: int) -> None:
        at = 0
        while at < len(data):
            space = reader.space()
            assert len(space)
            piece = data[at : at + min(step, len(space))]
            space[: len(piece)] = piece
            at += len(piece)
            taken = self._buffer.bytes_in
            try:
                frame = reader.received(len(piece))
            finally:
                most = reader.limit + wire.ENVELOPE  # of each frame
                assert self._buffer.bytes_in - taken <= most
            if frame is not None:
                self._use(frame)

    def _use(self, frame: list[object]) -> None:
        match frame[0]:
            case wire.FAILURE:
                wire.failure(frame)
            case wire.ASK:
                wire.question(frame)
            case wire.RESULT:
                for value in frame[2:]:
                    must_be_plain(value)


async def _buffer() -> bulk.Bulk:
    buffer = bulk.Bulk(_BUFFER)
    os.pwrite(buffer.fd, bytes(range(256)) * (_BUFFER // 256), 0)
    return buffer


def main() -> None:
    """Fuzz until libFuzzer has had enough."""
    loop = asyncio.new_event_loop()  # stays open: the buffer sets a timer once it has been used
    fuzz(Target(loop.run_until_complete(_buffer())), wire.ProtocolError)


if __name__ == "__main__":
    main()
