"""MessagePack for the plugin's end of the lane, in plain Python.

The host uses msgspec. A plugin process cannot: a C extension costs private memory in every child
and does not load in a subinterpreter with its own GIL. What travels here is small or one large
``bytes``, for which plain Python is as fast as it needs to be.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md, with one extension type: bytes that lie in
the buffer of bulk.py.
"""

import struct

from .bulk import LEAST, Bulk
from .failures import BadValue
from .values import Value

MAX_DEPTH = 64
MAX_ITEMS = 999_000
"""Items of one value, keys included; the host refuses a frame with a million as hostile."""

_SHORT_LIST = 4  # what a question's arguments are
_SHORT_DEPTH = 2  # and those of another plugin's function among them
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_pack_into = struct.pack
_unpack = struct.unpack_from


class _Work:
    """What one walk over a value keeps."""

    __slots__ = ("bulk", "left")

    def __init__(self, bulk: Bulk | None) -> None:
        self.bulk = bulk
        self.left = MAX_ITEMS


def pack(value: object, name: str = "result", bulk: Bulk | None = None) -> bytes:
    """Encode a value.

    Args:
        value: Plain values.
        name: How errors call it.
        bulk: Where large bytes go instead, as far as they fit.

    Raises:
        BadValue: The value, or something inside it, cannot travel; the message names the path.
    """
    if bulk is not None:
        bulk.used = 0
    if short := _short(value):
        return short
    out: list[bytes] = []
    _pack(value, out, 0, name, _Work(bulk))
    return b"".join(out)


def _short(value: object, depth: int = 0) -> bytes:
    """What is short and common, encoded in one step and without a path to name it by; else nothing."""
    if type(value) is bytes:
        size = len(value)
        return bytes((0xC4, size)) + value if size < 0x100 else b""
    if type(value) is str:
        size = len(value)
        return bytes((0xA0 | size,)) + value.encode() if size < 32 and value.isascii() else b""
    if type(value) is int:
        return bytes((value,)) if 0 <= value < 0x80 else b""
    if type(value) is list or type(value) is tuple:
        return _short_list(value, depth + 1) if len(value) <= _SHORT_LIST and depth < _SHORT_DEPTH else b""
    return b""


def _short_list(value: "list[object] | tuple[object, ...]", depth: int) -> bytes:
    encoded = bytes((0x90 | len(value),))
    for item in value:
        if not (short := _short(item, depth)):
            return b""
        encoded += short
    return encoded


def _bytes(value: bytes | bytearray | memoryview, bulk: Bulk | None) -> bytes:
    place = bulk.put(value) if bulk is not None and len(value) >= LEAST else b""
    return place or _head(len(value), 0, 0, 0xC4, 0xC5, 0xC6) + value


def _head(size: int, fix: int, fix_max: int, code8: int, code16: int, code32: int) -> bytes:
    if size < fix_max:
        return bytes((fix | size,))
    if size < 0x100 and code8:
        return bytes((code8, size))
    if size < 0x10000:
        return _pack_into(">BH", code16, size)
    if size < 0x100000000:
        return _pack_into(">BI", code32, size)
    raise BadValue(f"a value of {size} bytes or items is too long for the lane")


def _pack(value: object, out: list[bytes], depth: int, path: str, work: _Work) -> None:
    if type(value) is list or type(value) is tuple:  # first: a question's arguments are one
        _pack_list(value, out, depth, path, work)
    elif value is None:
        out.append(b"\xc0")
    elif value is True:
        out.append(b"\xc3")
    elif value is False:
        out.append(b"\xc2")
    elif isinstance(value, int):
        out.append(_pack_int(value, path))
    elif isinstance(value, float):
        out.append(_pack_into(">Bd", 0xCB, value))
    elif isinstance(value, str):
        out.append(_text(value, path))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        out.append(_bytes(value, work.bulk))
    elif isinstance(value, (list, tuple)):
        _pack_list(value, out, depth, path, work)
    elif isinstance(value, dict):
        _check_bounds(depth, path, work, 2 * len(value))
        out.append(_head(len(value), 0x80, 16, 0, 0xDE, 0xDF))
        for key, item in value.items():
            if not isinstance(key, str):
                raise BadValue(f"{path} has a key of type {type(key).__name__}; keys must be str")
            out.append(_text(key, path))
            _pack(item, out, depth + 1, f"{path}[{key[:40]!r}]", work)
    else:
        raise BadValue(
            f"{path} is of type {type(value).__name__}, which cannot travel; "
            "use None, bool, int, float, str, bytes, list or dict"
        )


def _pack_list(
    value: "list[object] | tuple[object, ...]", out: list[bytes], depth: int, path: str, work: _Work
) -> None:
    _check_bounds(depth, path, work, len(value))
    out.append(_head(len(value), 0x90, 16, 0, 0xDC, 0xDD))
    for index, item in enumerate(value):
        if short := _short(item, _SHORT_DEPTH):  # no list, which has to be counted
            out.append(short)
        else:
            _pack(item, out, depth + 1, f"{path}[{index}]", work)


def _check_bounds(depth: int, path: str, work: _Work, items: int) -> None:
    if depth >= MAX_DEPTH:
        raise BadValue(f"{path[:80]}... is nested deeper than {MAX_DEPTH} levels, or contains itself")
    work.left -= items
    if work.left < 0:
        raise BadValue(f"{path[:80]} brings it to more than {MAX_ITEMS} items; send them as bytes")


def _text(value: str, path: str) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise BadValue(f"{path} is a str with lone surrogates, which UTF-8 cannot carry") from None
    return _head(len(data), 0xA0, 32, 0xD9, 0xDA, 0xDB) + data


def _pack_int(value: int, path: str) -> bytes:
    if 0 <= value < 0x80:
        return bytes((value,))
    if -0x20 <= value < 0:
        return bytes((value + 0x100,))
    if not _INT_MIN <= value <= _INT_MAX:
        raise BadValue(f"{path} is an integer outside of 64 bits")
    return _pack_into(">Bq", 0xD3, value) if value < 1 << 63 else _pack_into(">BQ", 0xCF, value)


def unpack(data: memoryview, bulk: Bulk | None = None) -> Value:
    """Decode one value that the host sent.

    Args:
        data: The encoded value.
        bulk: Where large bytes lie.

    The host is trusted, so this only has to be right, not suspicious: it raises ``ValueError`` on a
    byte that it does not know.
    """
    value, end = read(data, 0, bulk)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow the value")
    return value


_FIXED = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCA: (">f", 4),
    0xCB: (">d", 8),
    0xCC: (">B", 1),
    0xCD: (">H", 2),
    0xCE: (">I", 4),
    0xCF: (">Q", 8),
    0xD0: (">b", 1),
    0xD1: (">h", 2),
    0xD2: (">i", 4),
    0xD3: (">q", 8),
}
_LENGTHS = {
    0xC5: (">H", 2, "bin"),
    0xC6: (">I", 4, "bin"),
    0xD9: (">B", 1, "str"),
    0xDA: (">H", 2, "str"),
    0xDB: (">I", 4, "str"),
    0xDC: (">H", 2, "list"),
    0xDD: (">I", 4, "list"),
    0xDE: (">H", 2, "dict"),
    0xDF: (">I", 4, "dict"),
}


def read(data: memoryview, at: int, bulk: Bulk | None) -> tuple[Value, int]:
    """Decode the value that begins at ``at``; with it comes where it ends."""
    code = data[at]
    at += 1
    if code < 0x80:
        return code, at
    if code == 0xC4:
        end = at + 1 + data[at]
        return bytes(data[at + 1 : end]), end
    if code >= 0xE0:
        return code - 0x100, at
    if code < 0x90:
        return _read_dict(data, at, code & 0x0F, bulk)
    if code < 0xA0:
        return _read_list(data, at, code & 0x0F, bulk)
    if code < 0xC0:
        return _read_str(data, at, code & 0x1F)
    if code in _FIXED:
        return _FIXED[code], at
    if code in _NUMBERS:
        form, width = _NUMBERS[code]
        return _unpack(form, data, at)[0], at + width
    if code == 0xD7 and bulk is not None:
        return bulk.get(data, at), at + 9
    if code not in _LENGTHS:
        raise ValueError(f"byte 0x{code:02x} is not a value")
    form, width, kind = _LENGTHS[code]
    size = _unpack(form, data, at)[0]
    at += width
    if kind == "bin":
        return bytes(data[at : at + size]), at + size
    if kind == "str":
        return _read_str(data, at, size)
    return _read_list(data, at, size, bulk) if kind == "list" else _read_dict(data, at, size, bulk)


def _read_str(data: memoryview, at: int, size: int) -> tuple[str, int]:
    return str(data[at : at + size], "utf-8"), at + size


def _read_list(data: memoryview, at: int, count: int, bulk: Bulk | None) -> tuple[Value, int]:
    items: list[Value] = []
    for _ in range(count):
        item, at = read(data, at, bulk)
        items.append(item)
    return items, at


def _read_dict(data: memoryview, at: int, count: int, bulk: Bulk | None) -> tuple[Value, int]:
    items: dict[str, Value] = {}
    for _ in range(count):
        key, at = read(data, at, bulk)
        items[str(key)], at = read(data, at, bulk)
    return items, at
