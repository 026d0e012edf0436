"""The decoder of plugins' bytes: nothing that a plugin sends may harm the host."""

import contextlib
import math
import struct

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from plugins_side import codec

from frys_runtime import wire
from frys_runtime.wire import ProtocolError, Reader

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=40,
)


@given(values)
def test_both_codecs_carry_every_value_both_ways(value: object) -> None:
    """What the host encodes the plugin's codec reads, and the other way round."""
    assert codec.unpack(memoryview(msgspec.msgpack.encode(value))) == value
    assert wire.decode(memoryview(codec.pack([3, 1, value]))) == [3, 1, value]


short = st.integers(0, 127) | st.text(st.characters(max_codepoint=127), max_size=31) | st.binary(max_size=255)
few = st.lists(short, max_size=4)
questions = st.lists(short | few, max_size=4)


@given(questions | questions.map(tuple))
def test_a_short_question_is_encoded_as_by_anybody(args: object) -> None:
    """The short cut for few and small values, and lists of them, makes the bytes that the host would."""
    assert codec._short(args) == codec.pack(args) == msgspec.msgpack.encode(args)


@given(st.lists(values, max_size=6), st.lists(values | short | few, max_size=6))
def test_what_is_not_short_goes_the_long_way(one: list[object], other: list[object]) -> None:
    """A value among short ones that is none, or one too many, changes nothing but the way."""
    for args in (one, other, [other], [[other]]):
        encoded = codec._short(args)
        assert encoded in (b"", codec.pack(args))
        assert codec.unpack(memoryview(codec.pack(args))) == args


def test_short_lists_count_against_the_bounds() -> None:
    """A plugin is told that it returns too much; its host would take it for an attack, and end it."""
    for value in ([[1, 2]] * 333_001, [[[]]] * 499_501):
        with pytest.raises(codec.BadValue, match="items"):
            codec.pack(value)
    most = codec.pack([wire.RESULT, 1, [[1, 2]] * 332_000])
    assert len(wire.decode(memoryview(most))[2]) == 332_000


@pytest.mark.parametrize("innermost", [[], [1], [1, "a", b""], [1] * 20])
def test_short_lists_count_against_the_depth(innermost: list[object]) -> None:
    """However short the innermost is."""
    value = innermost
    for _ in range(63):
        value = [value]
    body = struct.pack(">BBBQ", 0x93, wire.RESULT, 0xCF, 1) + codec.pack(value)
    assert wire.decode(memoryview(body))[2] == value
    with pytest.raises(codec.BadValue, match="nested deeper than 64"):
        codec.pack([value])


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=70_000), st.integers(-3, 3))
def test_a_lone_bytes_result_is_measured_exactly(sequence: int, value: bytes, change: int) -> None:
    """The short cut for [RESULT, sequence, bytes] takes the whole frame, and neither more nor less."""
    body = struct.pack(">BBBQ", 0x93, wire.RESULT, 0xCF, sequence) + codec.pack(value)
    assert wire.decode(memoryview(body)) == [wire.RESULT, sequence, value]
    if change:
        wrong = body[:change] if change < 0 else body + b"\xc0" * change
        with pytest.raises(ProtocolError):
            wire.decode(memoryview(wrong))


@given(st.integers(0, (1 << 64) - 1), st.text(), st.lists(values, max_size=5))
def test_a_call_is_plain_messagepack(number: int, function: str, args: list[object]) -> None:
    """Its numbers have a fixed width; any decoder reads the frame, and its length is right."""
    frame = b"".join(wire.encode_call(number, number, number, function, args))
    assert int.from_bytes(frame[:4]) == len(frame) - 4
    expected = [wire.CALL, number, number, number, function, args]
    assert msgspec.msgpack.decode(frame[4:]) == expected


def test_nan_travels() -> None:
    """NaN is a float like any other."""
    assert math.isnan(wire.decode(memoryview(codec.pack([3, 1, math.nan])))[2])


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_random_bytes_are_decoded_or_refused(data: bytes) -> None:
    """No bytes raise anything but ProtocolError."""
    with contextlib.suppress(ProtocolError):
        wire.decode(memoryview(data))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\xdd\x7f\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100 + b"\xc0",
        b"\x91" * 100_000 + b"\xc0",
        b"\xd4\x01\x00",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc7\x00\x05",
        b"\xdb\xff\xff\xff\xff",
        b"\x93\x03\x01\xa2\xff\xfe",
        b"\xc0",
        b"\x93\x03\x01\xc0\xc0",
        b"\x90",
        b"\x91\xa1x",
        b"\x93\x03\x01\x81\x90\xc0",
    ],
    ids=lambda body: body[:8].hex(),
)
def test_hostile_frames_are_refused(body: bytes) -> None:
    """Extensions, timestamps, false lengths, bad UTF-8, depth and trailing bytes break the protocol."""
    with pytest.raises(ProtocolError):
        wire.decode(memoryview(body))


def test_many_tiny_items_are_refused_before_they_are_built() -> None:
    """Two million one-byte items do not become two million objects."""
    with pytest.raises(ProtocolError, match="items"):
        wire.decode(memoryview(b"\xdd" + struct.pack(">I", 2_000_000) + b"\xc0" * 2_000_000))


def test_keys_that_are_not_str_are_refused() -> None:
    """A map with an integer key is no value of ours."""
    with pytest.raises(ProtocolError, match="key"):
        wire.decode(memoryview(msgspec.msgpack.encode([wire.RESULT, 1, {"a": {1: 2}}])))
    with pytest.raises(ProtocolError, match="key"):
        wire.decode(memoryview(msgspec.msgpack.encode([wire.RESULT, 1, bytes(10_000), {"a": {1: 2}}])))


def _feed(reader: Reader, data: bytes) -> list[object]:
    frames: list[object] = []
    while data:
        space = reader.space()
        part, data = data[: len(space)], data[len(space) :]
        space[: len(part)] = part
        frame = reader.received(len(part))
        if frame is not None:
            frames.append(frame)
    return frames


def test_a_frame_larger_than_the_first_buffer_arrives_whole() -> None:
    """A mebibyte comes through a buffer that grows once."""
    reader = Reader()
    reader.limit = 2 << 20
    body = b"".join(wire.encode([3, 1, b"x" * (1 << 20)]))
    assert _feed(reader, body) == [[3, 1, b"x" * (1 << 20)]]


def test_an_announced_size_above_the_limit_is_refused_at_once() -> None:
    """Four bytes are enough to be refused; nothing is reserved for them."""
    reader = Reader()
    reader.limit = 1000
    with pytest.raises(ProtocolError, match="4294967295 bytes"):
        _feed(reader, b"\xff\xff\xff\xff")


def test_a_second_frame_behind_the_first_is_refused() -> None:
    """A plugin that answers twice to one call breaks the protocol."""
    frame = b"".join(wire.encode([3, 1, None]))
    with pytest.raises(ProtocolError, match="nobody asked"):
        _feed(Reader(), frame + frame)


@pytest.mark.parametrize(
    "frame", [[4, 1], [4, 1, "a", "b", "c"], [4, 1, "a", "b", 3, 0], [4, 1, "a", "b", "c", True]]
)
def test_a_failure_of_the_wrong_shape_is_refused(frame: list[object]) -> None:
    """A failure has exactly three texts and a number."""
    with pytest.raises(ProtocolError):
        wire.failure(frame)
