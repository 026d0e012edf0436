"""The Frys bytes ABI: bytes in, bytes out, through the module's own memory.

The module exports ``memory``, ``frys_alloc(len: i32) -> ptr: i32`` and functions
``f(ptr: i32, len: i32) -> i64`` that return ``ptr << 32 | len``; exports of any other type stay plain
numeric functions. ``frys_alloc`` returns 0 when there is no room.

Where ``frys_free(ptr: i32, len: i32)`` is exported, it gets the result back first and then the
argument, unless the result lies within the argument (then only the argument), or is empty.
"""

from collections.abc import Callable
from functools import partial

from ..artifact import Value
from ..failures import LimitReached
from ..wasm_library import FunctionType
from ..wasm_module import Module
from . import Call, Function, Guest, numeric, only_bytes

FRESH_INSTANCE = False
BORROWS = True

_ALLOC: FunctionType = (("i32",), ("i32",))
_FREE: FunctionType = (("i32", "i32"), ())
_FUNCTION: FunctionType = (("i32", "i32"), ("i64",))
_MASK = 0xFFFFFFFF


def recognises(module: Module) -> bool:
    """Recognise the allocator."""
    return module.exports.get("memory") == "memory" and module.exports.get("frys_alloc") == _ALLOC


def bind(guest: Guest) -> dict[str, Function]:
    """Bind the bytes functions, and the numeric ones beside them."""
    functions = {
        name: function
        for name, function in numeric.bind(guest).items()
        if name not in ("frys_alloc", "frys_free")
    }
    for name, signature in guest.module.functions().items():
        if signature == _FUNCTION:
            functions[name] = Function(partial(_bind, guest, name), "(bytes) -> bytes")
    return functions


def _bind(guest: Guest, name: str) -> Call:
    memory = guest.instance.memory()
    allocator, entry = guest.instance.entry("frys_alloc", _ALLOC), guest.instance.entry(name, _FUNCTION)
    alloc_words, alloc, words, run = allocator.words, allocator.run, entry.words, entry.run
    release = _release(guest)

    def call(args: list[Value]) -> Value:
        data = only_bytes(name, args)
        length = len(data)
        alloc_words[0] = length
        alloc()
        address = alloc_words[0] & _MASK
        if not address and length:
            raise LimitReached("memory", f"frys_alloc found no room for {length} bytes", len(memory))
        if length:  # without bytes, the address means nothing: allocators make one up
            memory.write(address, data)
        words[0], words[2] = address, length
        run()
        packed = words[0]
        result_address, result_length = packed >> 32, packed & _MASK
        result = memory.read(result_address, result_length) if result_length else b""
        if release:
            if result_length and not address <= result_address < address + length:
                release(result_address, result_length)
            release(address, length)
        return result

    return call


def _release(guest: Guest) -> Callable[[int, int], None] | None:
    if guest.module.exports.get("frys_free") != _FREE:
        return None
    entry = guest.instance.entry("frys_free", _FREE)
    words, run = entry.words, entry.run

    def release(address: int, length: int) -> None:
        words[0], words[2] = address, length
        run()

    return release
