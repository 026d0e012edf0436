"""wasi:io: errors, pollables and streams, whatever the streams lead to."""

import time
from collections.abc import Callable
from typing import Any

from ..failures import PluginRaised
from ..wasm_entry import WasiError
from .errors import word
from .interface import Interface

type Answer = dict[str, Any]

STREAM_ERROR = "variant {last-operation-failed: own<error>, closed}"
AT_ONCE = 1 << 20
"""Bytes that one read gives at most, and one write takes."""

_BLOCKING = 4096  # bytes that the blocking writes take, by the specification
_LONGEST_SLEEP = 1e9  # seconds, because time.sleep() overflows; the deadline comes long before


class Error:
    """Why a stream failed.

    Attributes:
        text: For people.
        code: The word of wasi:filesystem for it.
    """

    def __init__(self, text: str, code: str | None = None) -> None:
        self.text, self.code = text, code


class Pollable:
    """Something to wait for.

    Args:
        left: Nanoseconds until it is there, 0 when it is, ``None`` when it never will be.
    """

    def __init__(self, left: Callable[[], int | None]) -> None:
        self.left = left


class InputStream:
    """Something to read from.

    Args:
        read: Takes how many bytes are wanted, and returns as many or fewer; none at the end.
        close: Called when nobody reads any more.
    """

    def __init__(self, read: Callable[[int], bytes], close: Callable[[], None] | None = None) -> None:
        self._read, self.close = read, close

    def read(self, size: int) -> bytes:
        """Read; an empty answer is none of the end.

        Raises:
            EOFError: It has ended.
        """
        data = self._read(min(size, AT_ONCE)) if size else b""
        if size and not data:
            raise EOFError
        return data


class OutputStream:
    """Something to write to.

    Args:
        write: Takes bytes and returns how many of them were taken, at least one.
        close: Called when nobody writes any more.

    Attributes:
        permit: How much may be written now, as the writer was told.
    """

    def __init__(self, write: Callable[[bytes], int], close: Callable[[], None] | None = None) -> None:
        self._write, self.close = write, close
        self.permit = 0

    def write(self, data: bytes) -> None:
        """Write everything.

        Raises:
            OSError, WasiError: It cannot be written.
        """
        view = memoryview(data)
        while view:
            view = view[self._write(bytes(view)) :]


def attempt(work: Callable[..., Any], *arguments: Any) -> Answer:
    """The result of an operation on a stream."""
    try:
        return {"ok": work(*arguments)}
    except EOFError:
        return {"err": "closed"}
    except (OSError, WasiError) as error:
        code = word(error)
        return {"err": {"last-operation-failed": Error(code, code)}}


def _skip(stream: InputStream, size: int) -> Answer:
    return attempt(lambda: len(stream.read(size)))


def _check(stream: OutputStream) -> Answer:
    stream.permit = AT_ONCE
    return {"ok": AT_ONCE}


def _write(stream: OutputStream, data: bytes) -> Answer:
    if len(data) > stream.permit:
        raise PluginRaised(f"the component writes {len(data)} bytes, and {stream.permit} were permitted")
    stream.permit -= len(data)
    return attempt(stream.write, data)


def _write_blocking(stream: OutputStream, data: bytes) -> Answer:
    if len(data) > _BLOCKING:
        raise PluginRaised(f"the component writes {len(data)} bytes at once, and {_BLOCKING} is the most")
    return attempt(stream.write, data)


def _splice(stream: OutputStream, source: InputStream, size: int) -> Answer:
    def splice() -> int:
        data = source.read(size)
        stream.write(data)
        return len(data)

    return attempt(splice)


def _flush(_stream: OutputStream) -> Answer:
    return {"ok": None}


def _subscribe(_stream: object) -> Pollable:
    return Pollable(lambda: 0)


def _zeroes(write: Callable[[OutputStream, bytes], Answer]) -> Callable[[OutputStream, int], Answer]:
    return lambda stream, size: write(stream, bytes(min(size, AT_ONCE + 1)))


def _poll(waited: list[Pollable]) -> list[int]:
    if not waited:
        raise PluginRaised("the component waits for nothing")
    left = [one.left() for one in waited]
    least = min((one for one in left if one is not None), default=None)
    if least is None:
        raise PluginRaised("the component waits for what will never be there")
    if least:
        time.sleep(min(least / 1e9, _LONGEST_SLEEP))
    return [index for index, one in enumerate(left) if one is not None and one <= least]


def _block(waited: Pollable) -> None:
    _poll([waited])


def _close(stream: InputStream | OutputStream) -> None:
    if stream.close is not None:
        stream.close()


_RESULT = f"result<_, {STREAM_ERROR}>"
_SIZE = f"result<u64, {STREAM_ERROR}>"
_BYTES = f"result<list<u8>, {STREAM_ERROR}>"
_IN, _OUT = "self: borrow<input-stream>", "self: borrow<output-stream>"

INTERFACES = {
    "wasi:io/error": Interface(
        {"[method]error.to-debug-string": ("func(self: borrow<error>) -> string", lambda error: error.text)},
        {"error": None},
    ),
    "wasi:io/poll": Interface(
        {
            "[method]pollable.ready": (
                "func(self: borrow<pollable>) -> bool",
                lambda waited: waited.left() == 0,
            ),
            "[method]pollable.block": ("func(self: borrow<pollable>)", _block),
            "poll": ("func(in: list<borrow<pollable>>) -> list<u32>", _poll),
        },
        {"pollable": None},
    ),
    "wasi:io/streams": Interface(
        {
            **{
                f"[method]input-stream.{name}": (f"func({_IN}, len: u64) -> {result}", run)
                for names, result, run in (
                    (("read", "blocking-read"), _BYTES, lambda stream, size: attempt(stream.read, size)),
                    (("skip", "blocking-skip"), _SIZE, _skip),
                )
                for name in names
            },
            "[method]input-stream.subscribe": (f"func({_IN}) -> own<pollable>", _subscribe),
            "[method]output-stream.check-write": (f"func({_OUT}) -> {_SIZE}", _check),
            "[method]output-stream.write": (f"func({_OUT}, contents: list<u8>) -> {_RESULT}", _write),
            "[method]output-stream.blocking-write-and-flush": (
                f"func({_OUT}, contents: list<u8>) -> {_RESULT}",
                _write_blocking,
            ),
            "[method]output-stream.flush": (f"func({_OUT}) -> {_RESULT}", _flush),
            "[method]output-stream.blocking-flush": (f"func({_OUT}) -> {_RESULT}", _flush),
            "[method]output-stream.subscribe": (f"func({_OUT}) -> own<pollable>", _subscribe),
            "[method]output-stream.write-zeroes": (f"func({_OUT}, len: u64) -> {_RESULT}", _zeroes(_write)),
            "[method]output-stream.blocking-write-zeroes-and-flush": (
                f"func({_OUT}, len: u64) -> {_RESULT}",
                _zeroes(_write_blocking),
            ),
            **{
                f"[method]output-stream.{name}": (
                    f"func({_OUT}, src: borrow<input-stream>, len: u64) -> {_SIZE}",
                    _splice,
                )
                for name in ("splice", "blocking-splice")
            },
        },
        {"input-stream": _close, "output-stream": _close},
    ),
}
