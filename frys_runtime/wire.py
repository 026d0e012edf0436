"""The only code that decodes what a plugin sent.

A plugin process is hostile: it may send anything at any time. So a frame is bounded before it is
read (its length against the limit for results, which a sound launcher keeps by itself), measured before
it is built (a walk counts items and depth without making a single object), and only then decoded, without
extension types but the one by which :mod:`frys_runtime.bulk` brings large bytes. A frame that is too short
to do harm is decoded first, and what came out is looked at. No descriptor is ever accepted. Whatever does
not fit is a ``ProtocolError``, and the caller kills that plugin; nobody else is harmed.

Frames: 32 bit big-endian length, then one MessagePack array whose first element is the kind
(docs/protocol.md).
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

import msgspec

from . import bulk
from .messages import MAX_DEPTH, MessageValue

VERIFY: Final = 0
LOAD: Final = 1
CALL: Final = 2
ANSWER: Final = 3
REFUSAL: Final = 4
PING: Final = 5

HELLO: Final = 0
LISTENER: Final = 1
LOADED: Final = 2
RESULT: Final = 3
FAILURE: Final = 4
ASK: Final = 5

MAX_ITEMS: Final = 1_000_000
"""Items of one result, keys included: what bounds the host's memory against tiny items."""

MIN_QUESTION: Final = 1 << 16
"""Bytes that a question may have, however little a result may; a sound launcher sends no more."""

ENVELOPE: Final = 1 << 18
"""Bytes that a frame may have besides the value: kind, sequence, and a failure's bounded texts."""

_SMALL: Final = 1 << 12
_CHUNK: Final = 1 << 13
"""The receive buffer that every live plugin costs the host; a longer frame gets one of its own size."""
_LENGTH: Final = Struct(">I")
_CALL: Final = Struct(">IBBBQBQBQ")
_RESULT: Final = Struct(">BBBQB")


class ProtocolError(Exception):
    """A plugin broke a rule of the lane; the text says which."""


class Failure(NamedTuple):
    """A plugin's own words about why there is no result; untrusted, bounded text."""

    kind: str
    message: str
    detail: str
    actual: int


def encode(frame: list[object]) -> tuple[bytes, ...]:
    """Encode one frame for a plugin as buffers to be sent in order."""
    body = _encoder.encode(frame)
    return (_LENGTH.pack(len(body)) + body,) if len(body) < _SMALL else (_LENGTH.pack(len(body)), body)


def encode_call(
    sequence: int, timeout_ms: int, limit: int, function: str, args: Sequence[object]
) -> tuple[bytes, ...]:
    """Encode ``[CALL, sequence, timeout_ms, limit, function, args]`` as buffers to be sent in order.

    Its numbers have a fixed width, so that a launcher reads them in one step.
    """
    name, values = _encoder.encode(function), _encoder.encode(args)
    size = _CALL.size - _LENGTH.size + len(name) + len(values)
    head = _CALL.pack(size, 0x96, CALL, 0xCF, sequence, 0xCF, timeout_ms, 0xCF, limit) + name
    return (head + values,) if len(values) < _SMALL else (head, values)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ext_hook=bulk.refuse)


class Reader:
    """Cuts a plugin's byte stream into frames.

    Attributes:
        limit: Bytes that the next frame's value may have.
        size: Bytes of the latest frame, its length and what it took from the buffer included.
        bulk: The buffer that carries large bytes beside the stream, if there is one.
    """

    def __init__(self) -> None:
        self.limit = self.size = 0
        self.bulk: bulk.Bulk | None = None
        self._chunk = memoryview(bytearray(_CHUNK))
        self._buffer = self._chunk
        self._filled = 0

    @property
    def asks_too_much(self) -> bool:
        """Whether the latest frame is larger than a question may be."""
        return self.size - _LENGTH.size > max(self.limit, MIN_QUESTION)

    def space(self) -> memoryview:
        """Where the next received bytes belong; never empty."""
        return self._buffer[self._filled :]

    def received(self, count: int) -> list[Any] | None:
        """Take note of ``count`` bytes in :meth:`space`; give the frame when one is complete.

        Raises:
            ProtocolError: The bytes are not a frame, the frame is above the limit, or another one follows.
        """
        self._filled += count
        if self._filled < 4:
            return None
        (size,) = _LENGTH.unpack_from(self._buffer)
        end = 4 + size
        if size > self.limit + ENVELOPE:
            raise ProtocolError(f"a frame of {size} bytes was announced, and {self.limit} are allowed")
        if self._filled > end:
            raise ProtocolError("a frame came that nobody asked for")
        if self._filled < end:
            if end > len(self._buffer):
                self._grow(end)
            return None
        self.size = end
        if self.bulk is None:
            frame = decode(self._buffer[4:end])
        else:
            self.bulk.allow(self.limit + ENVELOPE)
            frame = decode(self._buffer[4:end], self.bulk.decoder)
            self.size += self.bulk.taken
        self._buffer, self._filled = self._chunk, 0
        return frame

    def _grow(self, end: int) -> None:
        larger = memoryview(bytearray(end))
        larger[: self._filled] = self._buffer[: self._filled]
        self._buffer = larger


def decode(body: memoryview, decoder: "msgspec.msgpack.Decoder[Any]" = _decoder) -> list[Any]:
    """Decode one frame's array.

    Raises:
        ProtocolError: It is not an array of plain values within the bounds.
        MemoryError: The host has no memory for it.
    """
    if len(body) > _RESULT.size and body[1] == RESULT and (common := _bytes_result(body)) is not None:
        return common
    if len(body) > _SMALL:
        measure(body)
    try:
        frame = decoder.decode(body)
    except bulk.BulkError as error:
        raise ProtocolError(str(error)) from None
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"a frame cannot be decoded: {error}") from None
    if type(frame) is not list or not frame or type(frame[0]) is not int:
        raise ProtocolError("a frame is not an array that begins with its kind")
    _look_over(frame, 1)
    return frame


_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})


def _look_over(items: Iterable[object], depth: int) -> None:
    """Refuse what no value of ours has: other types, keys that are not str, and more depth."""
    for item in items:
        if type(item) in _SCALARS:
            continue
        if depth > MAX_DEPTH + 1:
            raise ProtocolError(f"a value is nested deeper than {MAX_DEPTH} levels")
        if isinstance(item, list):
            _look_over(item, depth + 1)
        elif isinstance(item, dict):
            for key in item:
                if type(key) is not str:
                    raise ProtocolError("a map has a key that is not a str")
            _look_over(item.values(), depth + 1)
        else:
            raise ProtocolError(f"a {type(item).__name__} is not an allowed value")


_RAW: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}


def _bytes_result(body: memoryview) -> list[Any] | None:
    """``[RESULT, sequence, bytes]`` as launchers write it, which is common and needs no walk; or nothing."""
    array, _, number, sequence, code = _RESULT.unpack_from(body)
    if array != 0x93 or number != 0xCF or code not in _RAW:
        return None
    begin = _RESULT.size + _RAW[code]
    if begin + int.from_bytes(body[_RESULT.size : begin]) != len(body):
        return None
    return [RESULT, sequence, bytes(body[begin:])]


# fmt: off
_SIZES: Final = {
    0xC4: (1, "raw"), 0xC5: (2, "raw"), 0xC6: (4, "raw"), 0xD7: (9, "place"),
    0xD9: (1, "raw"), 0xDA: (2, "raw"), 0xDB: (4, "raw"),
    0xDC: (2, "list"), 0xDD: (4, "list"), 0xDE: (2, "map"), 0xDF: (4, "map"),
}
_PLAIN: Final = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8,
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
}
# fmt: on
_SKIPPED: Final = [
    0 if code < 0x80 or code >= 0xE0 else code & 0x1F if 0xA0 <= code < 0xC0 else _PLAIN.get(code, -1)
    for code in range(256)
]
"""By the first byte of an item, how many follow it; -1 where a look at those that follow must say."""


def measure(body: memoryview) -> None:
    """Walk over encoded bytes and check type bytes, depth, count and lengths, building nothing.

    Raises:
        ProtocolError: A bound is broken, a type is not allowed, or the bytes end too early or too late.
    """
    at, end, items, left = 0, len(body), 1, 1
    outer: list[int] = []  # how many items each container around this one still lacks
    while left or outer:
        if not left:
            left = outer.pop()
            continue
        if at >= end:
            raise ProtocolError("a frame ends in the middle of a value")
        left -= 1
        code = body[at]
        at += 1
        skip = _SKIPPED[code]
        if skip >= 0:
            at += skip
            continue
        children, at = _step(body, code, at, end)
        if children:
            outer.append(left)
            left = children
            items += children
            if len(outer) > MAX_DEPTH + 2:
                raise ProtocolError(f"a value is nested deeper than {MAX_DEPTH} levels")
            if items > MAX_ITEMS or children > end - at:
                raise ProtocolError(f"a value has more than {min(MAX_ITEMS, end)} items")
    if at > end:
        raise ProtocolError("a frame ends in the middle of a value")
    if at != end:
        raise ProtocolError("bytes follow a frame's value")


def _step(body: memoryview, code: int, at: int, end: int) -> tuple[int, int]:
    """One item: how many items it contains, and where the next one begins."""
    if code < 0x90:
        return 2 * (code & 0x0F), at
    if code < 0xA0:
        return code & 0x0F, at
    if code not in _SIZES:
        raise ProtocolError(f"byte 0x{code:02x} is not an allowed value")
    width, kind = _SIZES[code]
    if kind == "place":
        if body[_within(at, end - 1)] != bulk.EXTENSION:
            raise ProtocolError("an extension is no place in the shared buffer")  # -1 would be a timestamp
        return 0, _within(at + width, end)
    size = int.from_bytes(body[at : _within(at + width, end)], "big")
    at += width
    if kind == "raw":
        return 0, _within(at + size, end)
    return (size if kind == "list" else 2 * size), at


def _within(at: int, end: int) -> int:
    if at > end:
        raise ProtocolError("a frame ends in the middle of a value")
    return at


def failure(frame: list[Any]) -> Failure:
    """Read a FAILURE frame ``[kind, sequence, kind word, message, detail, actual]``.

    Raises:
        ProtocolError: It has another shape.
    """
    match frame:
        case [_, _, str(kind), str(message), str(detail), int(actual)] if type(actual) is int:
            return Failure(kind, message, detail, actual)
    raise ProtocolError("a failure has the wrong shape")


def question(frame: list[Any]) -> tuple[str, list[MessageValue]]:
    """Read an ASK frame ``[kind, service, args]``.

    Raises:
        ProtocolError: It has another shape.
    """
    if len(frame) != 3 or type(frame[1]) is not str or type(frame[2]) is not list:
        raise ProtocolError("a question has the wrong shape")
    return frame[1], frame[2]
