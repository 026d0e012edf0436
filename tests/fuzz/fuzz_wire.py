"""A coverage-guided fuzzer of the decoder: ``python tests/fuzz/fuzz_wire.py -runs=1000000 CORPUS...``.

It stops with a traceback at the first input that raises anything but ``ProtocolError``, gives a value that
is no plain value, or takes more from the shared buffer than it may. Options are libFuzzer's (``-help=1``).
New inputs that reach new code are kept in the first CORPUS folder.
"""

import asyncio
import os
import resource
import sys

import atheris

with atheris.instrument_imports(include=["frys_runtime"]):
    from frys_runtime import bulk, wire

_LIMITS = (0, 64, 1 << 16)
_STEPS = (512, 3, 64, 1)
_BUFFER = 1 << 18  # so that two places of it are more than a frame may take
_PLAIN = (type(None), bool, int, float, str, bytes)
_SETTLED = 100_000
"""Inputs after which caches are filled and the corpus has grown, so that memory should stay where it is."""


class Target:
    """Feeds one input as a plugin's bytes, in pieces, to a reader with and without a buffer."""

    def __init__(self, buffer: bulk.Bulk) -> None:
        self._buffer = buffer
        self.runs = self.refused = self.settled = 0

    def __call__(self, data: bytes) -> None:
        self.runs += 1
        if self.runs == _SETTLED:
            self.settled = _resident()
        choice, step = (data[0], _STEPS[data[1] % len(_STEPS)]) if len(data) > 1 else (0, 1)
        reader = wire.Reader()
        reader.limit = _LIMITS[choice % len(_LIMITS)]
        reader.bulk = self._buffer if choice & 0x80 else None
        try:
            self._feed(reader, data[2:], step)
        except wire.ProtocolError:
            self.refused += 1
        if not self.runs % _SETTLED:
            self._report()  # libFuzzer ends the process by itself, and nothing runs after that

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
                    _must_be_plain(value)

    def _report(self) -> None:
        print(
            f"runs={self.runs} refused={self.refused} settled={self.settled} resident={_resident()}",
            flush=True,
        )


def _must_be_plain(value: object) -> None:
    if type(value) is list:
        for item in value:
            _must_be_plain(item)
    elif type(value) is dict:
        for key, item in value.items():
            assert type(key) is str
            _must_be_plain(item)
    else:
        assert type(value) in _PLAIN, type(value)


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def _buffer() -> bulk.Bulk:
    buffer = bulk.Bulk(_BUFFER)
    os.pwrite(buffer.fd, bytes(range(256)) * (_BUFFER // 256), 0)
    return buffer


def main() -> None:
    """Fuzz until libFuzzer has had enough."""
    loop = asyncio.new_event_loop()  # stays open: the buffer sets a timer once it has been used
    atheris.Setup(sys.argv, Target(loop.run_until_complete(_buffer())))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
