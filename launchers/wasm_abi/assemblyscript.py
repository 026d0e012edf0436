"""AssemblyScript: strings and arrays of its runtime, numbers as they are.

Every object has its class and its size in front of it. A module compiled with ``--exportRuntime`` lets its
host make strings and byte arrays. Which number is an object, says the ``.d.ts`` beside the module or
plugin.json. Without them a function that was given a ``str``, ``bytes`` or ``None`` may return
one: a result that points at an object of a known class is that object; all other results are numbers.

Source: https://www.assemblyscript.org/runtime.html and std/assembly/shared/typeinfo.ts.
"""

import codecs
import os
import struct
import time
from functools import partial

from ..artifact import Artifact, Value
from ..failures import BadArguments, BadArtifact, BadValue, LimitReached, PluginRaised
from ..wasm_engine import HostFunction
from ..wasm_library import FunctionType, Pointer
from ..wasm_memory import Caller, Memory
from ..wasm_module import Module, describe
from ..wasm_program import STDERR
from . import Call, Function, Guest
from .bindgen_values import HANDLES, lay_out, lift, list_of, lower, type_of
from .types import FUNCTION, SIZES, Signature, Types, of_artifact

FRESH_INSTANCE = False
BORROWS = False

codecs.lookup("utf-16-le")  # Python loads a codec's module when it is first used: in the jail it could not

_MASK = 0xFFFFFFFF
_HEADER = 8  # class and size, in front of an object
_BUFFER, _STRING = 1, 2
_VIEW, _ARRAY, _STATIC = 1 << 0, 1 << 1, 1 << 2
_ALIGN = tuple(1 << bit for bit in range(6, 10))
_SIGNED, _FLOAT, _MANAGED = 1 << 11, 1 << 12, 1 << 14
_LETTERS = {(0, 0): "u8", (0, 1): "i8", (1, 0): "u16", (1, 1): "i16", (2, 0): "u32", (2, 1): "i32",
            (3, 0): "u64", (3, 1): "i64"}  # fmt: skip
_MAX_DEPTH = 32
_MAX_LINE = 1 << 14
_NEW: FunctionType = (("i32", "i32"), ("i32",))
_PIN: FunctionType = (("i32",), ("i32",))
_UNPIN: FunctionType = (("i32",), ())
_ABORT: FunctionType = (("i32", "i32", "i32", "i32"), ())
_TRACE: FunctionType = (("i32", "i32", "f64", "f64", "f64", "f64", "f64"), ())
_RUNTIME = {"__new": _NEW, "__pin": _PIN, "__unpin": _UNPIN}
_ALIGNMENT = 16  # of every object
_OVERHEAD = 64  # bytes that a Python object costs beside its content


def recognises(module: Module) -> bool:
    """Recognise the runtime's exports, or the import that reports what was thrown."""
    if module.exports.get("memory") != "memory":
        return False
    runtime = all(module.exports.get(name) == kind for name, kind in _RUNTIME.items())
    return runtime or (("env", "abort"), _ABORT) in module.imports


def offer(_artifact: Artifact, module: Module) -> None:
    """Define what the standard library imports of its host."""
    for (origin, name), kind in module.imports:
        offered = _IMPORTS.get(name)
        if origin == "env" and offered is not None and offered[0] == kind:
            module.engine.define(origin, name, kind, offered[1])


def bind(guest: Guest) -> dict[str, Function]:
    """Bind every function but those of the runtime."""
    if "types" not in guest.module.known:
        guest.module.known["types"] = of_artifact(guest.artifact)
    types: Types = guest.module.known["types"]
    objects = _Objects(guest)
    functions: dict[str, Function] = {}
    for name, wasm in guest.module.functions().items():
        if not name.startswith("__"):
            declared = types.get(name)
            text = str(declared) if declared else f"wasm {describe(wasm)}"
            functions[name] = Function(partial(_bind, guest, objects, name, wasm, declared), text)
    return functions


def _bind(
    guest: Guest, objects: "_Objects", name: str, wasm: FunctionType, declared: Signature | None
) -> Call:
    entry = guest.instance.entry(name, wasm)
    kinds, results = wasm

    def call(args: list[Value]) -> Value:
        params = declared.params if declared else tuple(map(type_of, args))
        missing = len(params) - len(args)
        optional = all(kind.endswith("?") for kind in params[len(args) :])
        if len(params) != len(kinds) or missing < 0 or not optional:
            raise BadArguments(f"{name} takes {describe(wasm)}, {len(kinds)} arguments, not {len(args)}")
        pinned: list[int] = []
        words: list[int | float] = []
        try:
            for index, (kind, value) in enumerate(zip(params, [*args, *[None] * missing], strict=True)):
                where = f"{name}: argument {index + 1}"
                words.append(_word(objects, kind, kinds[index], value, where, pinned))
        except BadArguments:
            objects.unpin(pinned)
            raise
        for index, (kind, word) in enumerate(zip(kinds, words, strict=True)):
            if kind in _FLOATS:
                _FLOATS[kind].pack_into(entry.window, 16 * index, word)
            else:
                entry.words[2 * index] = word
        entry.run()
        result: Value = None
        if results and (declared is None or declared.returns != "void"):
            given = bool(pinned) or None in args
            result = _value(objects, declared, results[0], int(entry.words[0]), given=given)
        objects.unpin(pinned)
        return result

    return call


_FLOATS = {"f32": struct.Struct("<f"), "f64": struct.Struct("<d")}


def _word(
    objects: "_Objects", kind: str, wasm: str, value: Value, where: str, pinned: list[int]
) -> int | float:
    """Turn an argument into the word for its slot; objects that were made for it are noted in ``pinned``."""
    base = kind.removesuffix("?")
    managed = base in ("str", "bytes", "buffer", "none") or (base[:5] == "list:" and base[5:] in SIZES)
    if not managed:
        chosen = lay_out([kind], (wasm,))
        if base in ("any", FUNCTION, *HANDLES) or chosen is None:
            raise BadArguments(f"{where}: AssemblyScript has no {base} here; the module takes {wasm}")
        word = lower(kind, chosen[0], value, where)[0]
        assert isinstance(word, int | float)  # lower() makes blocks and references of other types only
        return word
    if wasm != "i32":
        raise BadArguments(f"{where} takes {wasm}, not {base}")
    if value is None and (base == "none" or kind != base):
        return 0
    address = objects.make(base, value, where)
    pinned.append(address)
    return address


def _value(objects: "_Objects", declared: Signature | None, wasm: str, word: int, *, given: bool) -> Value:
    kind = declared.returns if declared is not None else "number"
    base = kind.removesuffix("?")
    if declared is None:
        if wasm == "i32" and given and objects.liftable(word & _MASK):
            return objects.read(word & _MASK)
    elif wasm == "i32" and (base in ("str", "bytes", "buffer", "any") or base.startswith("list:")):
        return objects.read(word & _MASK) if word & _MASK else None
    chosen = lay_out([kind], (wasm,))
    return lift(kind if chosen else "number", (wasm,), [word])


class _Objects:
    """The objects of an instance: its classes, making them, reading them."""

    def __init__(self, guest: Guest) -> None:
        instance, exports = guest.instance, guest.module.exports
        self._memory = instance.memory()
        self._most = self._left = guest.artifact.memory_limit
        self._entries = {
            name: instance.entry(name, kind) for name, kind in _RUNTIME.items() if exports.get(name) == kind
        }
        self._flags: tuple[int, ...] = ()
        if exports.get("__rtti_base") == "global":
            self._flags = self._read_flags(instance.number("__rtti_base"))

    def _read_flags(self, base: int) -> tuple[int, ...]:
        try:
            (count,) = struct.unpack("<I", self._memory.read(base, 4))
            return struct.unpack(f"<{count}I", self._memory.read(base + 4, 4 * count))
        except BadValue as error:
            raise BadArtifact(f"the module's type information is damaged: {error.message}") from None

    def _run(self, name: str, *args: int) -> int:
        entry = self._entries[name]
        for index, value in enumerate(args):
            entry.words[2 * index] = value
        entry.run()
        return int(entry.words[0]) & _MASK

    def make(self, base: str, value: Value, where: str) -> int:
        """Make an object of an argument, pinned until unpin().

        Raises:
            BadArguments: The value is of another type, or the module cannot have such objects.
        """
        if "__new" not in self._entries:
            raise BadArguments(
                f"{where}: the module does not export its runtime; compile it with asc --exportRuntime"
            )
        if base == "str":
            if not isinstance(value, str):
                raise BadArguments(f"{where} takes a str, not {type(value).__name__}")
            return self._allocate(value.encode("utf-16-le", "surrogatepass"), _STRING)
        item = base[5:] if base.startswith("list:") else "u8"
        data = _packed(item, value, where)
        view = self._view_of(item)
        if base == "buffer" or (base == "bytes" and not view):
            return self._allocate(data, _BUFFER)
        if not view:
            raise BadArguments(f"{where}: the module has no array of {item}")
        buffer = self._allocate(data, _BUFFER)
        address = self._allocate(struct.pack("<III", buffer, buffer, len(data)), view)
        self._run("__unpin", buffer)
        return address

    def _allocate(self, data: bytes, kind: int) -> int:
        address = self._run("__new", len(data), kind)
        if not address:
            raise LimitReached("memory", f"the plugin found no room for {len(data)} bytes", len(self._memory))
        self._memory.write(address, data)
        return self._run("__pin", address)

    def unpin(self, addresses: list[int]) -> None:
        """Let the collector have objects again."""
        for address in addresses:
            self._run("__unpin", address)

    def _view_of(self, item: str) -> int:
        for number, flags in enumerate(self._flags):
            if flags & _VIEW and not flags & (_ARRAY | _MANAGED) and _item(flags) == item:
                return number
        return 0

    def _header(self, address: int) -> tuple[int, int]:
        kind, size = struct.unpack("<II", self._memory.read(address - _HEADER, _HEADER))
        return kind, size

    def liftable(self, address: int) -> bool:
        """Whether an object of a class that has a value seems to be there."""
        if address % _ALIGNMENT or not 2 * _ALIGNMENT < address < len(self._memory):
            return False
        kind, size = self._header(address)
        if address + size > len(self._memory):
            return False
        flags = self._flags[kind] if kind < len(self._flags) else 0
        return kind in (_BUFFER, _STRING) or bool(flags & (_VIEW | _ARRAY | _STATIC))

    def read(self, address: int) -> Value:
        """Copy an object out.

        Raises:
            BadValue: It lies outside of the memory, is too large or deep, or of a class without a value.
        """
        self._left = self._most
        return self._read(address, 0)

    def _read(self, address: int, depth: int) -> Value:
        if depth > _MAX_DEPTH:
            raise BadValue(f"the plugin's arrays are nested deeper than {_MAX_DEPTH} levels")
        if address < _HEADER:
            raise BadValue(f"the plugin returned the address {address}, where no object can be")
        kind, size = self._header(address)
        if kind == _STRING:
            self._take(size)
            return self._memory.read(address, size & ~1).decode("utf-16-le", "replace")
        if kind == _BUFFER:
            self._take(size)
            return self._memory.read(address, size)
        flags = self._flags[kind] if kind < len(self._flags) else 0
        if flags & _STATIC:
            return self._items(flags, address, size, depth)
        if flags & (_ARRAY | _VIEW):
            _, start, length = struct.unpack("<III", self._memory.read(address, 12))
            if flags & _ARRAY:
                (count,) = struct.unpack("<I", self._memory.read(address + 12, 4))
                length = count * _size(flags)
            return self._items(flags, start, length, depth)
        raise BadValue(f"the plugin returned an object of its class {kind}, which is no string and no array")

    def _take(self, size: int) -> None:
        # One object may stand in many places of an array, and so come out many times.
        self._left -= size + _OVERHEAD
        if self._left < 0:
            raise BadValue(f"the plugin returned arrays and strings of more than {self._most} bytes together")

    def _items(self, flags: int, start: int, length: int, depth: int) -> Value:
        self._take(length)
        data = self._memory.read(start, length)
        item = _item(flags)
        if flags & _MANAGED:
            pointers = struct.unpack(f"<{len(data) // 4}I", data)
            return [self._read(pointer, depth + 1) if pointer else None for pointer in pointers]
        if item == "u8" and not flags & _ARRAY:
            return data
        if item not in SIZES:
            raise BadValue("the plugin returned an array whose items are no numbers and no objects")
        return list_of(item, data)


def _size(flags: int) -> int:
    return next((1 << power for power, bit in enumerate(_ALIGN) if flags & bit), 1)


def _item(flags: int) -> str:
    power = next((power for power, bit in enumerate(_ALIGN) if flags & bit), -1)
    if flags & _FLOAT:
        return {2: "f32", 3: "f64"}.get(power, "")
    return _LETTERS.get((power, int(bool(flags & _SIGNED))), "")


def _packed(item: str, value: Value, where: str) -> bytes:
    if isinstance(value, str):
        raise BadArguments(f"{where} takes bytes or a list of {item}, not str")
    block = lower(f"list:{item}", ("i32", "i32"), value, where)[0]
    data: bytes = getattr(block, "data", b"")
    return data


# ---- what the standard library imports


def _text(memory: Memory, address: int) -> str:
    if address < _HEADER:
        return ""
    (size,) = struct.unpack("<I", memory.read(address - 4, 4))
    return memory.read(address, min(size, _MAX_LINE) & ~1).decode("utf-16-le", "replace")


def _abort(caller: Caller, slots: Pointer) -> None:
    memory = caller.memory()
    message, file = _text(memory, slots[0].u32), _text(memory, slots[1].u32)
    place = f" in {file}:{slots[2].u32}:{slots[3].u32}" if file else ""
    raise PluginRaised(f"{message or 'abort'}{place}")


def _write(line: str) -> None:
    try:
        os.write(STDERR, f"{line}\n".encode("utf-8", "replace"))
    except OSError:
        pass


def _trace(caller: Caller, slots: Pointer) -> None:
    count = min(slots[1].u32, 5)
    numbers = [struct.unpack("<d", slots[2 + n].u64.to_bytes(8, "little"))[0] for n in range(count)]
    _write(f"trace: {_text(caller.memory(), slots[0].u32)} {', '.join(map(str, numbers))}".rstrip())


def _log(caller: Caller, slots: Pointer) -> None:
    _write(_text(caller.memory(), slots[0].u32))


def _seed(_caller: Caller, _slots: Pointer) -> int:
    return _double(float(int.from_bytes(os.urandom(6), "little")))


def _milliseconds(_caller: Caller, _slots: Pointer) -> int:
    return _double(float(time.time_ns() // 1_000_000))


def _elapsed(_caller: Caller, _slots: Pointer) -> int:
    return _double(time.monotonic() * 1000)


def _double(number: float) -> int:
    return int.from_bytes(struct.pack("<d", number), "little")


_TEXT: FunctionType = (("i32",), ())
_NUMBER: FunctionType = ((), ("f64",))
_IMPORTS: dict[str, tuple[FunctionType, HostFunction]] = {
    "abort": (_ABORT, _abort),
    "trace": (_TRACE, _trace),
    "seed": (_NUMBER, _seed),
    "Date.now": (_NUMBER, _milliseconds),
    "performance.now": (_NUMBER, _elapsed),
    **{f"console.{level}": (_TEXT, _log) for level in ("log", "debug", "info", "warn", "error")},
}
