"""JSON without the standard library's ``json``.

The C half of it is used directly: with ``json`` comes ``re``, and the two cost each plugin process 170 kB of
its own.
"""

import _json
from typing import Any

from .values import Value

_SPACE = " \t\r\n"
_WORDS = {None: "null", True: "true", False: "false"}


class _Strict:
    """What the scanner wants to know."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def decode(text: str) -> Any:
    """Read a text.

    Raises:
        ValueError: It is no JSON, or has something behind it.
    """
    whole = text.strip(_SPACE)
    scanner: Any = _json.make_scanner
    try:
        value, end = scanner(_Strict)(whole, 0)
    except (ValueError, StopIteration, RecursionError, ImportError):
        # The scanner imports json.decoder for its own error, and finds none in a plugin's process.
        raise ValueError("is not JSON") from None
    if end != len(whole):
        raise ValueError(f"is JSON with {len(whole) - end} characters too many")
    return value


def encode(value: Value) -> str:
    """Write a value.

    Raises:
        ValueError: It has bytes, or a float that JSON does not know, in it.
    """
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, str):
        return _json.encode_basestring_ascii(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value - value == 0:
        return repr(value)
    if isinstance(value, list):
        return f"[{','.join(map(encode, value))}]"
    if isinstance(value, dict):
        quote = _json.encode_basestring_ascii
        return f"{{{','.join(f'{quote(name)}:{encode(item)}' for name, item in value.items())}}}"
    raise ValueError(f"has a {type(value).__name__} in it, for which JSON has no word")
