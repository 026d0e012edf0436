"""Plain exports: numbers in, numbers out.

An i32 or i64 takes an int, signed or unsigned; an f32 or f64 takes a float or an int. Results are
signed ints and floats: none is ``None``, one is itself, several are a list.
"""

import struct
from functools import partial

from ..artifact import Value
from ..failures import BadArguments
from ..wasm_library import FunctionType
from ..wasm_module import Module, describe
from . import Call, Function, Guest

FRESH_INSTANCE = False
BORROWS = False

_BITS = {"i32": 32, "i64": 64}
_FLOATS = ("f32", "f64")
# A slot is 16 bytes; a number stands at its start.
_ARGUMENT = {"i32": "I12x", "i64": "Q8x", "f32": "f12x", "f64": "d8x"}
_RESULT = {"i32": "i12x", "i64": "q8x", "f32": "f12x", "f64": "d8x"}


def recognises(module: Module) -> bool:
    """Recognise any exported function."""
    return bool(module.functions())


def bind(guest: Guest) -> dict[str, Function]:
    """Bind every exported function but the initialiser, which has run already."""
    return {
        name: Function(partial(_bind, guest, name, signature), describe(signature))
        for name, signature in guest.module.functions().items()
        if name != "_initialize"
    }


def _bind(guest: Guest, name: str, signature: FunctionType) -> Call:
    kinds, results = signature
    if any(kind not in _ARGUMENT for kind in kinds + results):
        return _refuse(f"{name} cannot be called from outside, because of its type {describe(signature)}")
    entry = guest.instance.entry(name, signature)
    window, run = entry.window, entry.run
    pack_into = struct.Struct("<" + "".join(_ARGUMENT[kind] for kind in kinds)).pack_into
    unpack_from = struct.Struct("<" + "".join(_RESULT[kind] for kind in results)).unpack_from

    def call(args: list[Value]) -> Value:
        if len(args) != len(kinds):
            raise BadArguments(f"{name} takes {len(kinds)} arguments, {describe(signature)}, not {len(args)}")
        try:
            pack_into(window, 0, *map(_check, kinds, args))
        except OverflowError:
            raise BadArguments(f"{name}{describe(signature)}: a number is too large for its type") from None
        run()
        values = unpack_from(window)
        return values[0] if len(values) == 1 else list(values) or None

    return call


def _name(value: object) -> str:
    return "bytes" if isinstance(value, memoryview) else type(value).__name__


def _check(kind: str, value: Value) -> int | float:
    if kind in _FLOATS:
        if not isinstance(value, float | int):
            raise BadArguments(f"an {kind} takes a float or an int, not {_name(value)}")
        return value
    if not isinstance(value, int):
        raise BadArguments(f"an {kind} takes an int, not {_name(value)}")
    bits = _BITS[kind]
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise BadArguments(f"{value} does not fit into an {kind}")
    return value & ((1 << bits) - 1)


def _refuse(message: str) -> Call:
    def call(_args: list[Value]) -> Value:
        raise BadArguments(message)

    return call
