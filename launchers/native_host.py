"""The table of functions through which C asks the host: include/frys.h.

The functions stand between two parties that are both foreign here: whatever C passes is read under bounds and
may end this process, and the host decides on every question as if the plugin had written its bytes by hand.
"""

from collections.abc import Callable
from typing import Any

from ._native_abi import ffi
from .failures import BadValue
from .host import Host
from .host_bytes import FAILED, MAX_TEXT, OK, TEXTS, WITH_DATA, Questions, refused
from .native_entries import Entries
from .native_library import NULL, CData, bytes_of

INIT = "frys_init"
"""What a plugin exports that wants the table."""

_VERSION = 2


class HostTable:
    """A ``struct frys_host`` that lives as long as the plugin.

    Args:
        host: Who answers.
        entries: Where C finds the functions.
        limit: Bytes that C may pass at once.

    Attributes:
        table: The struct.
    """

    def __init__(self, host: Host, entries: Entries, limit: int) -> None:
        self._questions = Questions(host)
        self._limit = limit
        self._answer: CData = NULL  # what C may look at until the next question
        self._refusal = ffi.new("char[]", b"")
        types = {name: field.type for name, field in ffi.typeof("struct frys_host").fields}
        members: dict[str, Any] = {"version": _VERSION}
        members["refusal"] = entries.make(types["refusal"], lambda: self._refusal, NULL)
        for name in TEXTS:
            function = self._http if name == "http" else self._function(name)
            members[name] = entries.make(types[name], self._guard(function), FAILED)
        self.table = ffi.new("struct frys_host *", members)

    def _guard(self, function: Callable[..., int]) -> Callable[..., int]:
        """Turn what a question raises into what C gets."""

        def guarded(*args: Any) -> int:
            try:
                return function(*args)
            except Exception as error:
                code, message = refused(error)
                self._refusal = ffi.new("char[]", message)
                return code

        return guarded

    # ---- what C passes and gets

    def _text(self, text: CData, name: str) -> str:
        if text == NULL:
            raise BadValue(f"{name} is NULL")
        # SAFETY: that the pointer leads to a text is for the plugin to see to; the search stops at the limit.
        found = bytes_of(text, MAX_TEXT + 1)
        if len(found) > MAX_TEXT:
            raise BadValue(f"{name} has more than {MAX_TEXT} bytes")
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise BadValue(f"{name} is not UTF-8") from None

    def _data(self, data: CData, size: int) -> bytes:
        if size > self._limit:
            raise BadValue(f"{size} bytes are more than the plugin may use")
        if data == NULL and size:
            raise BadValue(f"{size} bytes at no address (NULL)")
        # SAFETY: the plugin says that it has so many bytes there; the kernel ends this process if not.
        return bytes(ffi.buffer(data, size)) if size else b""

    def _give(self, answer: bytes | None, target: Any) -> int:
        if target == NULL:
            return OK
        self._answer = NULL if answer is None else ffi.new("char[]", answer)
        # SAFETY: the plugin owns the struct; `_answer` keeps the memory until the next question.
        target.data = self._answer
        target.size = 0 if answer is None else len(answer)
        return OK

    # ---- the questions

    def _function(self, name: str) -> Callable[..., int]:
        """What C calls: with texts, perhaps an address and a size, and perhaps where the answer goes."""
        question, texts, with_data = getattr(self._questions, name), TEXTS[name], name in WITH_DATA

        def function(*given: Any) -> int:
            args: list[str | bytes] = [
                self._text(text, what) for text, what in zip(given, texts, strict=False)
            ]
            rest = given[len(texts) :]
            if with_data:
                args.append(self._data(rest[0], rest[1]))
                rest = rest[2:]
            answer = question(*args)
            return self._give(answer, rest[0]) if rest else OK

        return function

    def _http(self, method: CData, url: CData, body: CData, size: int, status: CData, answer: CData) -> int:
        texts = self._text(method, "the method"), self._text(url, "the URL")
        number, content = self._questions.http(*texts, self._data(body, size) if body != NULL else None)
        if status != NULL:
            # SAFETY: the plugin owns the number.
            status[0] = number
        return self._give(content, answer)
