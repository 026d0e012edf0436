"""What an Extism plugin may import: the kernel beside it, and the functions that its host implements.

Everything travels in blocks of the kernel's memory and is named by their addresses ("offsets"). The functions
here belong to ``Extism.session``, the plugin that runs now: a process has one.

Source: https://extism.org/docs/concepts/pdk and the host SDK of the Extism project (pdk.rs).
"""

import struct
from functools import partial

from .bulk import LEAST
from .failures import BadValue, HostRefused, LimitReached, PluginRaised
from .host import Host
from .values import Value
from .wasm_engine import Engine, HostFunction
from .wasm_extism_http import Http
from .wasm_extism_kernel import KERNEL, STATE_SIZE
from .wasm_instance import Instance
from .wasm_library import FunctionType, Pointer
from .wasm_memory import Caller
from .wasm_module import Module

ENV = "extism:host/env"
HIDDEN = frozenset({"memory", "ledger", "begin", "release"})
_VAR_OVERHEAD = 48  # what Extism counts for each variable, beside its name and its value
_NUMBERS = ("int", "float", "number")  # the types that a number of the plugin's can be taken for
_INTEGERS = ("i32", "i64")
_LEVELS = ("trace", "debug", "info", "warn", "error")
_STATE = struct.Struct("<QQQQQ")  # input, output: address and length; error: address
_ALLOC: FunctionType = (("i64",), ("i64",))
_FREE: FunctionType = (("i64",), ())


class Kernel:
    """The host's view of a kernel: blocks in and out, each copied once."""

    __slots__ = ("_alloc", "_begin", "_length", "_release", "_state", "memory")

    def __init__(self, instance: Instance) -> None:
        self.memory = instance.steady_memory("memory")
        self._state = instance.steady_memory("ledger").window(STATE_SIZE)
        self._begin = instance.entry("begin", _ALLOC)
        self._alloc = instance.entry("alloc", _ALLOC)
        self._length = instance.entry("length", _ALLOC)
        self._release = instance.entry("release", _FREE)

    def begin(self, data: bytes | memoryview) -> None:
        """Forget all blocks, and make ``data`` the input of the call that follows.

        Raises:
            LimitReached: There is no room for it.
        """
        words = self._begin.words
        words[0] = len(data)
        self._begin.run()
        if data:
            self._write(words[0], data)

    def result(self, *, lend: bool) -> tuple[bytes | memoryview, str]:
        """What the plugin left as its output and as its error; empty where there is none.

        Args:
            lend: Large output is lent, until anything else runs, and not copied.

        Raises:
            BadValue: The output lies outside the memory.
        """
        _, _, address, length, error = _STATE.unpack(self._state)
        text = self._text(error) if error else ""
        if text or not length:
            return b"", text
        if lend and length >= LEAST:
            return self.memory.lend(address, length), ""
        return self.memory.read(address, length), ""

    def error(self) -> str:
        """What the plugin left as its error; empty when there is none."""
        return self._text(_STATE.unpack(self._state)[4])

    def _text(self, address: int) -> str:
        length = self._measure(address)
        return self.memory.read(address, length).decode("utf-8", "replace") if length else ""

    def store(self, data: bytes) -> int:
        """Put bytes into a new block; the address is 0 for no bytes.

        Raises:
            LimitReached: There is no room for them.
        """
        if not data:
            return 0
        words = self._alloc.words
        words[0] = len(data)
        self._alloc.run()
        address: int = words[0]
        self._write(address, data)
        return address

    def load(self, address: int, what: str) -> bytes:
        """Copy a block out.

        Raises:
            BadValue: There is none at that address.
        """
        if not address:
            return b""
        length = self._measure(address)
        if not length:
            raise BadValue(f"the plugin names {address} as {what}, and no block of its memory begins there")
        return self.memory.read(address, length)

    def take(self, address: int, what: str) -> bytes:
        """Copy a block out and free it: the functions of the host own what is passed to them."""
        data = self.load(address, what)
        self.free(address)
        return data

    def free(self, address: int) -> None:
        """Free a block; what is none is left alone."""
        self._release.words[0] = address
        self._release.run()

    def _write(self, address: int, data: bytes | memoryview) -> None:
        if not address:
            raise LimitReached("memory", f"the plugin has no room for {len(data)} bytes", len(self.memory))
        self.memory.write(address, data)

    def _measure(self, address: int) -> int:
        self._length.words[0] = address
        self._length.run()
        length: int = self._length.words[0]
        return length


class Session:
    """What one instance of a plugin has around it.

    Args:
        kernel: Its memory.
        host: Whom it asks.
        max_variables: Bytes of all its variables; 0 for none at all.
        http: How it sends requests.

    Attributes:
        variables: What it keeps from call to call.
    """

    __slots__ = ("host", "http", "kernel", "max_variables", "variables")

    def __init__(self, kernel: Kernel, host: Host, max_variables: int, http: Http) -> None:
        self.kernel, self.host, self.http = kernel, host, http
        self.max_variables = max_variables
        self.variables: dict[str, bytes] = {}


class Extism:
    """The kernel, compiled once, and the twelve functions of ``extism:host/env`` that a host implements.

    Attributes:
        kernel: The module that stands beside every plugin.
        session: The plugin that runs now.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.kernel: Module = Module.compile(engine, memoryview(engine.assemble(KERNEL)))
        self.session: Session
        served: dict[str, tuple[FunctionType, HostFunction]] = {
            "config_get": (_ALLOC, self._config_get),
            "var_get": (_ALLOC, self._var_get),
            "var_set": ((("i64", "i64"), ()), self._var_set),
            "http_request": ((("i64", "i64"), ("i64",)), self._http_request),
            "http_status_code": (((), ("i32",)), self._http_status_code),
            "http_headers": (((), ("i64",)), self._http_headers),
            "get_log_level": (((), ("i32",)), self._get_log_level),
        }
        for level in _LEVELS:
            served[f"log_{level}"] = (_FREE, partial(self._log, level))
        for name, (signature, function) in served.items():
            engine.define(ENV, name, signature, function)

    def offers(self) -> dict[tuple[str, str], FunctionType | str]:
        """What the kernel offers to plugins."""
        return {(ENV, name): kind for name, kind in self.kernel.exports.items() if name not in HIDDEN}

    def _config_get(self, _caller: Caller, slots: Pointer) -> int:
        kernel = self.session.kernel
        key = _text(kernel.take(slots[0].u64, "a key of its config"))
        try:
            value = self.session.host.ask("config", key)
        except HostRefused:
            return 0  # as for a setting that is not there: plugins have defaults
        return kernel.store(_setting(key, value).encode())

    def _var_get(self, _caller: Caller, slots: Pointer) -> int:
        kernel = self.session.kernel
        name = _text(kernel.take(slots[0].u64, "a variable's name"))
        return kernel.store(self.session.variables.get(name, b""))

    def _var_set(self, _caller: Caller, slots: Pointer) -> None:
        session, kernel = self.session, self.session.kernel
        if not session.max_variables:
            raise PluginRaised("the plugin sets a variable, and its manifest turns variables off")
        name_address, address = slots[0].u64, slots[1].u64
        name = _text(kernel.load(name_address, "a variable's name"))
        value = kernel.take(address, "a variable's value") if address else None
        kernel.free(name_address)  # only now: both may be one block
        if value is None:
            session.variables.pop(name, None)
            return
        others = sum(
            len(key) + len(data) + _VAR_OVERHEAD for key, data in session.variables.items() if key != name
        )
        size = others + len(name) + len(value) + _VAR_OVERHEAD
        if size > session.max_variables:
            most = session.max_variables
            raise PluginRaised(f"the plugin's variables would take {size} bytes, and may take {most}")
        session.variables[name] = value

    def _http_request(self, _caller: Caller, slots: Pointer) -> int:
        kernel = self.session.kernel
        request_address, body_address = slots[0].u64, slots[1].u64
        request = kernel.take(request_address, "an HTTP request")
        body = kernel.take(body_address, "an HTTP body") if body_address else None
        return kernel.store(self.session.http.request(request, body))

    def _http_status_code(self, _caller: Caller, _slots: Pointer) -> int:
        return self.session.http.status

    def _http_headers(self, _caller: Caller, _slots: Pointer) -> int:
        return self.session.kernel.store(self.session.http.headers())

    def _log(self, level: str, _caller: Caller, slots: Pointer) -> None:
        text = self.session.kernel.take(slots[0].u64, "a message for the log").decode("utf-8", "replace")
        try:
            self.session.host.ask("log", "warning" if level == "warn" else level, text)
        except HostRefused:
            pass  # a plugin does not fail because nobody listens to it

    def _get_log_level(self, _caller: Caller, _slots: Pointer) -> int:
        return 0  # trace: the host's logger decides what to keep

    def offer(self, name: str, signature: FunctionType, declared: list[Value]) -> HostFunction:
        """A function of the host program's for a plugin that imports it.

        An i64 parameter is a block and arrives as ``bytes``, or is what the function declares: a number, or
        the block's text. The other numbers are numbers. An i64 result is a block made of ``bytes``, ``str``
        or ``None``, or an ``int`` as it is.

        Args:
            name: Its name.
            signature: The type of the import.
            declared: The types of its parameters, as in a plugin.json; empty where it declares none.
        """
        parameters, results = signature
        wanted = [*declared, *[""] * len(parameters)]

        def function(_caller: Caller, slots: Pointer) -> int | None:
            kernel = self.session.kernel
            args = [
                _argument(kernel, kind, slots[index], wanted[index]) for index, kind in enumerate(parameters)
            ]
            try:
                value = self.session.host.ask("host", name, args)
            except HostRefused as refusal:
                raise PluginRaised(f"the host's function {name} failed: {refusal.message}") from None
            return _result(kernel, name, results[0], value) if results else None

        return function


def _argument(kernel: Kernel, kind: str, slot: Pointer, wanted: Value) -> Value:
    if kind == "i64" and wanted not in _NUMBERS:
        data = kernel.load(slot.u64, "an argument")
        return _text(data) if wanted == "string" else data
    bits: int = slot.u32 if kind in ("i32", "f32") else slot.u64
    if kind in _INTEGERS:
        width = int(kind[1:])
        return bits - (1 << width) if bits >> (width - 1) else bits
    size, letter = (8, "<d") if kind == "f64" else (4, "<f")
    value: float = struct.unpack(letter, bits.to_bytes(size, "little"))[0]
    return value


def _result(kernel: Kernel, name: str, kind: str, value: Value) -> int:
    if kind == "i64" and isinstance(value, str | bytes):
        return kernel.store(value.encode() if isinstance(value, str) else value)
    if value is None:
        return 0
    if kind in _INTEGERS and isinstance(value, int):
        return value & ((1 << int(kind[1:])) - 1)
    if kind in ("f32", "f64") and isinstance(value, float | int):
        try:
            return int.from_bytes(struct.pack("<d" if kind == "f64" else "<f", value), "little")
        except OverflowError:
            raise PluginRaised(
                f"the host's function {name} returned a number too large for an {kind}"
            ) from None
    raise PluginRaised(
        f"the host's function {name} returned {type(value).__name__} for a result of type {kind}"
    )


def _setting(key: str, value: Value) -> str:
    """A setting as text, which Extism's are; those of a plugin.json may be numbers, too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float):
        return repr(value)
    raise PluginRaised(f"the setting {key!r} is a {type(value).__name__}; an Extism plugin reads text")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadValue(f"the plugin gives {data[:20]!r} for text, and that is not UTF-8") from None
