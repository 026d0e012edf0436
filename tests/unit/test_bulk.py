"""The buffer for large bytes: what goes in comes out, and nothing is believed that a plugin says of it."""

import asyncio
import mmap
import os
import struct
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path

import pytest
from plugins_side import codec

from frys_runtime import wire
from frys_runtime.bulk import LEAST, Bulk
from frys_runtime.lane import Lane, pair

SIZE = 1 << 20


def with_buffer(test: Callable[[Bulk], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Give a test a buffer of a mebibyte."""

    @wraps(test)
    def run() -> None:
        async def inner() -> None:
            buffer = Bulk(SIZE)
            try:
                await test(buffer)
            finally:
                buffer.close()

        asyncio.run(inner())

    del run.__wrapped__  # pytest would ask for its parameters
    return run


def _plugins_side(buffer: Bulk) -> "codec.Bulk":  # type: ignore[name-defined]
    return codec.Bulk(memoryview(mmap.mmap(buffer.fd, buffer.size)))


def _frame(*places: tuple[int, int], code: int = 1) -> bytes:
    items = b"".join(b"\xd7" + bytes((code,)) + struct.pack(">II", *place) for place in places)
    body = b"\x93\x03\x01" + bytes((0x90 | len(places),)) + items
    return struct.pack(">I", len(body)) + body


def _received(buffer: Bulk, frame: bytes, limit: int) -> list[object] | None:
    reader = wire.Reader()
    reader.bulk, reader.limit = buffer, limit
    reader.space()[: len(frame)] = frame
    return reader.received(len(frame))


@with_buffer
async def test_both_ends_read_what_the_other_laid_in(buffer: Bulk) -> None:
    """From the smallest size on, several at once, at any depth; the rest goes as before."""
    plugin = _plugins_side(buffer)
    values = [b"a" * LEAST, "between", b"b" * (LEAST - 1), b"c" * (LEAST + 1), b"d" * SIZE]
    frame = b"".join(wire.encode([wire.ANSWER, buffer.place(values)]))
    assert len(frame) < SIZE + 2 * LEAST
    assert codec.unpack(memoryview(frame)[4:], plugin) == [wire.ANSWER, values]

    deep = [{"x": [b"e" * LEAST, [b"f" * 3 * LEAST]], "y": [b"g", None, 1]}, "h"]
    frame = b"".join(wire.encode([wire.ANSWER, buffer.place(deep)]))
    assert len(frame) < 100
    assert buffer.placed == 4 * LEAST
    assert codec.unpack(memoryview(frame)[4:], plugin) == [wire.ANSWER, deep]

    result = {"x": [b"e" * LEAST, [b"f" * 3 * LEAST]], "y": b"g"}
    body = codec.pack([wire.RESULT, 1, result], bulk=plugin)
    assert len(body) < 100
    assert plugin.used == 4 * LEAST
    received = _received(buffer, struct.pack(">I", len(body)) + body, limit=4 * LEAST)
    assert received == [wire.RESULT, 1, result]


@with_buffer
async def test_what_was_taken_out_does_not_change_any_more(buffer: Bulk) -> None:
    """The plugin overwrites the buffer, and the host's value stays what it was."""
    plugin = _plugins_side(buffer)
    plugin.view[:LEAST] = b"a" * LEAST
    received = _received(buffer, _frame((0, LEAST)), LEAST)
    plugin.view[:LEAST] = b"z" * LEAST
    assert received == [wire.RESULT, 1, [b"a" * LEAST]]


@pytest.mark.parametrize(
    ("places", "code"),
    [
        ([(0, SIZE + 1)], 1),
        ([(SIZE, 1)], 1),
        ([(0xFFFFFFFF, 0xFFFFFFFF)], 1),
        ([(0, SIZE // 2)], 2),
        ([(0, SIZE // 2)], 0xFF),
        ([(0, SIZE // 2)] * 3, 1),
    ],
    ids=["longer", "behind", "wraps", "other-type", "timestamp", "the-same-again-and-again"],
)
def test_a_place_that_may_not_be_named(places: list[tuple[int, int]], code: int) -> None:
    """Beyond the end, of another type, or in sum more than the result may have: the protocol is broken."""

    @with_buffer
    async def attempt(buffer: Bulk) -> None:
        with pytest.raises(wire.ProtocolError, match=r"shared buffer|not an allowed value"):
            _received(buffer, _frame(*places, code=code), SIZE)

    attempt()


def test_a_lane_without_a_buffer_knows_no_places() -> None:
    """Before a plugin is there, the extension is as foreign as any."""
    with pytest.raises(wire.ProtocolError, match="there is none"):
        wire.decode(memoryview(_frame((0, 1)))[4:])


@with_buffer
async def test_the_memory_is_given_back(buffer: Bulk) -> None:
    """Some time after the last large message the buffer takes next to nothing."""
    buffer.place([bytes(range(256)) * (SIZE // 256)])
    assert os.fstat(buffer.fd).st_blocks * 512 >= SIZE
    for _ in range(600):
        if os.fstat(buffer.fd).st_blocks * 512 <= 16 * LEAST:
            break
        await asyncio.sleep(0.05)
    assert os.fstat(buffer.fd).st_blocks * 512 <= 16 * LEAST
    assert os.fstat(buffer.fd).st_size == SIZE


@with_buffer
async def test_its_size_is_fixed(buffer: Bulk) -> None:
    """Nobody can cut it short under the other's hands."""
    for change in (0, SIZE // 2, 2 * SIZE):
        with pytest.raises(PermissionError):
            os.ftruncate(buffer.fd, change)


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    """A closed buffer leaves values where they are: its number may be another file's by now."""

    async def attempt() -> None:
        buffer = Bulk(SIZE)
        number = buffer.fd
        buffer.close()
        other = tmp_path / "other"
        fd = os.open(other, os.O_RDWR | os.O_CREAT)
        try:
            assert fd == number
            values = [b"a" * LEAST]
            assert buffer.place(values) is values
            assert buffer.placed == 0
            assert other.read_bytes() == b""
        finally:
            os.close(fd)

    asyncio.run(attempt())


def test_a_lane_that_has_ended_takes_no_buffer() -> None:
    """The process died before its plugin came; the descriptor is given back all the same."""

    async def attempt() -> None:
        ours, theirs = pair()
        lane = Lane(ours, lambda _reason: None)
        theirs.close()
        lane.close()
        buffer = Bulk(SIZE)
        number = buffer.fd
        lane.add_bulk(buffer)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        assert lane.bulk is None

    asyncio.run(attempt())
