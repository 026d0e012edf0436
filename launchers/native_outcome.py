"""Whether a call of C failed, and the words for it."""

import errno
import os
from collections.abc import Callable
from typing import Any

from ._native_abi import ffi
from .failures import PluginRaised
from .native_binding import Binding, Context
from .native_library import NULL, CData
from .native_memory import Text
from .native_options import Mapping, Ok
from .native_outputs import Frame
from .native_parameters import RETURNED
from .values import Value

_INTEGER_WORDS = ("in", "not", "non-negative", "positive")


class Outcome:
    """Decides on the results of one C function.

    Args:
        mapping: What plugin.json says about it.
        binding: Its parameters and its result.
        context: The plugin.

    Raises:
        ValueError: The mapping does not fit the type.
        LookupError: A function that makes the message is not there.
    """

    def __init__(self, mapping: Mapping, binding: Binding, context: Context) -> None:
        result, kind = binding.returned.shape.ctype, binding.returned.kind
        self._mapping = mapping
        self._ok = mapping.ok or Ok("")
        word = self._ok.word
        if word in _INTEGER_WORDS and kind not in ("int", "bool"):
            raise ValueError(f"ok needs an integer, but {mapping.symbol} returns {result.cname}")
        if word == "not-null" and result.kind != "pointer":
            raise ValueError(f"ok needs a pointer, but {mapping.symbol} returns {result.cname}")
        self.clears_errno = word == "no-errno"
        self._names = dict(result.elements) if result.kind == "enum" else {}
        self._names |= mapping.errors
        self._words = _words(mapping, binding, context)

    def check(self, frame: Frame, result: Any) -> None:
        """Look at a result, right after the call.

        Raises:
            PluginRaised: It says that the call failed.
        """
        if self._ok.word == "in" and result in self._ok.values:
            return
        code = ffi.errno
        if self._is_good(result, code):
            return
        shown = "NULL" if isinstance(result, CData) else result
        message = f"{self._mapping.symbol} returned {shown}"
        if not isinstance(result, CData) and result in self._names:
            message += f" ({self._names[result]})"
        if self._mapping.errno or self.clears_errno:
            message += f": {os.strerror(code)} ({errno.errorcode.get(code, code)})"
        words = self._words(frame, result) if self._words else None
        raise PluginRaised(message + (f": {_line(words)}" if words else ""))

    def _is_good(self, result: Any, code: int) -> bool:
        match self._ok.word:
            case "in":
                return False
            case "not":
                return result not in self._ok.values
            case "non-negative":
                return bool(result >= 0)
            case "positive":
                return bool(result > 0)
            case "not-null":
                return bool(result != NULL)
            case _:
                return not code


def _line(words: Value) -> str:
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)


def _words(mapping: Mapping, binding: Binding, context: Context) -> Callable[[Frame, Any], Value] | None:
    """Make the function that fetches a failure's message."""
    message = mapping.message
    if message is None:
        return None
    of, ctype = message.of, binding.types[message.of]
    steps: list[CData] = []
    for symbol in message.by:
        function = context.declared.find(symbol)
        parameters = ffi.typeof(function).args
        if len(parameters) != 1 or parameters[0] != ctype:
            raise ValueError(f"message: {symbol} has to take one {ctype.cname}, which {of} is")
        steps.append(function)
        ctype = ffi.typeof(function).result
    if ctype.kind != "pointer" or ctype.item.cname != "char":
        raise ValueError(f"message: it ends in {ctype.cname}, and a text is needed")
    text = Text(ctype, 1 << 16)

    def fetch(frame: Frame, result: Any) -> Value:
        value = result if of == RETURNED else binding.value(frame, of)
        for step in steps:
            # SAFETY: the function takes what the C function got or gave, of the very type that it declares.
            value = step(value)
        return text.from_c(value)

    return fetch
