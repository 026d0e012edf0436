"""Words of the command line that stand for values."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ..messages import MessageValue
from .exits import UsageError


def argument(word: str) -> MessageValue:
    """The value that a word of the command line stands for.

    Raises:
        UsageError: It cannot be read as what its prefix says.
    """
    if word == "-":
        return sys.stdin.buffer.read()
    if word.startswith("@"):
        try:
            return Path(word[1:]).read_bytes()
        except OSError as error:
            raise UsageError(
                f"{word} cannot be read: {error.strerror}; text that begins with @ is str:{word}"
            ) from error
    prefix, colon, rest = word.partition(":")
    if not colon or prefix not in _PREFIXES:
        return word
    try:
        value: MessageValue = _PREFIXES[prefix](rest)
        return value
    except ValueError as error:
        raise UsageError(
            f"{word!r} is no {prefix}: {error}; text that begins like this is str:{word}"
        ) from error


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON (float:nan and float:inf are known)")


_PREFIXES: Final[dict[str, Callable[[str], Any]]] = {
    "str": str,
    "int": int,
    "float": float,
    "bytes": str.encode,
    "json": _json,
}


_SIZE: Final = re.compile(r"(\d+)\s*([kmg]?)(?:i?b)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes from ``65536``, ``64k``, ``64M`` or ``1GiB``; the units are powers of 1024.

    Raises:
        UsageError: It is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise UsageError(f"{text!r} is no size; write bytes, or a number with K, M or G, such as 64M")
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2].lower()]
