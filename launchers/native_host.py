"""The table of functions through which C asks the host: include/frys.h.

The functions stand between two parties that are both foreign here: whatever C passes is read under bounds and
may end this process, and the host decides on every question as if the plugin had written its bytes by hand.
"""

from collections.abc import Callable
from typing import Any

from ._native_abi import ffi
from .codec import pack, unpack
from .failures import BadValue, Failure, HostRefused
from .host import Host
from .native_entries import Entries
from .native_library import NULL, CData, bytes_of
from .values import Value

INIT = "frys_init"
"""What a plugin exports that wants the table."""

_VERSION = 1
_OK, _INVALID, _FAILED = 0, 2, 6
_REASONS = {
    "permission": 1,
    "invalid": _INVALID,
    "missing": 3,
    "limit": 4,
    "unavailable": 5,
    "failed": _FAILED,
    "timeout": 7,
    "cycle": 8,
}
_MAX_TEXT = 1 << 16


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
        self._host = host
        self._limit = limit
        self._answer: CData = NULL  # what C may look at until the next question
        self._refusal = ffi.new("char[]", b"")
        functions: dict[str, Callable[..., int]] = {
            "log": self._log,
            "config": self._config,
            "kv_get": self._kv_get,
            "kv_set": self._kv_set,
            "kv_delete": self._kv_delete,
            "emit": self._emit,
            "call": self._call,
            "http": self._http,
            "ask": self._ask,
        }
        types = {name: field.type for name, field in ffi.typeof("struct frys_host").fields}
        members: dict[str, Any] = {"version": _VERSION}
        members["refusal"] = entries.make(types["refusal"], lambda: self._refusal, NULL)
        for name, function in functions.items():
            members[name] = entries.make(types[name], self._guard(function), _FAILED)
        self.table = ffi.new("struct frys_host *", members)

    def _guard(self, function: Callable[..., int]) -> Callable[..., int]:
        """Turn what a question raises into what C gets."""

        def guarded(*args: Any) -> int:
            try:
                return function(*args)
            except HostRefused as refusal:
                return self._refuse(_REASONS.get(refusal.reason, _FAILED), refusal.message)
            except Failure as failure:
                return self._refuse(_INVALID, failure.message)
            except Exception as error:
                return self._refuse(_FAILED, f"{type(error).__name__}: {error}")

        return guarded

    def _refuse(self, code: int, message: str) -> int:
        self._refusal = ffi.new("char[]", message.encode("utf-8", "replace").replace(b"\0", b"?"))
        return code

    # ---- what C passes and gets

    def _text(self, text: CData, name: str) -> str:
        if text == NULL:
            raise BadValue(f"{name} is NULL")
        # SAFETY: that the pointer leads to a text is for the plugin to see to; the search stops at the limit.
        found = bytes_of(text, _MAX_TEXT + 1)
        if len(found) > _MAX_TEXT:
            raise BadValue(f"{name} has more than {_MAX_TEXT} bytes")
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

    def _give(self, answer: Value, target: Any) -> int:
        if answer is not None and not isinstance(answer, bytes | str):
            raise BadValue(f"the answer is of type {type(answer).__name__}; `ask` can return it")
        if target == NULL:
            return _OK
        data = answer.encode("utf-8", "replace") if isinstance(answer, str) else answer
        self._answer = NULL if data is None else ffi.new("char[]", data)
        # SAFETY: the plugin owns the struct; `_answer` keeps the memory until the next question.
        target.data = self._answer
        target.size = 0 if data is None else len(data)
        return _OK

    # ---- the questions

    def _log(self, level: CData, message: CData) -> int:
        self._host.ask("log", self._text(level, "the level"), self._text(message, "the message"))
        return _OK

    def _config(self, key: CData, value: CData) -> int:
        return self._give(self._host.ask("config", self._text(key, "the key")), value)

    def _kv_get(self, key: CData, value: CData) -> int:
        return self._give(self._host.ask("kv.get", self._text(key, "the key")), value)

    def _kv_set(self, key: CData, data: CData, size: int) -> int:
        self._host.ask("kv.set", self._text(key, "the key"), self._data(data, size))
        return _OK

    def _kv_delete(self, key: CData) -> int:
        self._host.ask("kv.delete", self._text(key, "the key"))
        return _OK

    def _emit(self, event: CData, data: CData, size: int) -> int:
        self._host.ask("emit", self._text(event, "the type"), self._data(data, size))
        return _OK

    def _call(self, plugin: CData, function: CData, data: CData, size: int, answer: CData) -> int:
        names = self._text(plugin, "the plugin"), self._text(function, "the function")
        return self._give(self._host.ask("call", *names, [self._data(data, size)]), answer)

    def _http(self, method: CData, url: CData, body: CData, size: int, status: CData, answer: CData) -> int:
        request: dict[str, Value] = {
            "method": self._text(method, "the method"),
            "url": self._text(url, "the URL"),
            "headers": {},
            "body": self._data(body, size) if body != NULL else None,
        }
        response: Any = self._host.ask("http", request)
        if status != NULL:
            # SAFETY: the plugin owns the number.
            status[0] = response["status"]
        return self._give(response["body"], answer)

    def _ask(self, service: CData, arguments: CData, size: int, answer: CData) -> int:
        try:
            values = unpack(memoryview(self._data(arguments, size)))
        except Exception as error:
            # The decoder is made for what the host sends, and what it raises for an odd byte is its own.
            raise BadValue(f"the arguments are no MessagePack: {error}") from None
        if not isinstance(values, list):
            raise BadValue("the arguments have to be one array")
        return self._give(pack(self._host.ask(self._text(service, "the service"), *values)), answer)
