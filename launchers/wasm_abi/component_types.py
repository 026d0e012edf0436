"""Types of components: how they are written, and what of them can travel.

    bool, s8 .. u64, f32, f64, string      themselves; a char is a str of one character
    list<u8>                               bytes; every other list, and a tuple, is a list
    record                                 a dict with exactly its fields, named as in the WIT
    enum                                   one of its words; flags are a list of theirs
    variant                                a case without a value is its name, one with a value {name: value}
    option<T>                              None or T; an option within an option is refused
    result<T, E>                           as a function's whole result T, or its failure;
                                           elsewhere {"ok": T} or {"err": E}

Handles (own, borrow, stream, future, error-context) cannot leave a component: what has them cannot be called.
"""

from ..wasm_component import ENUM, FLAGS, LIST, OPTION, RECORD, RESULT, STRING, TUPLE, VARIANT, Type
from ..wasm_engine import ffi

BOOL, U8, F32, F64, CHAR = 0, 5, 9, 10, 11
# By the kind of a type: its name, the kind of its values, and their member. The two kinds differ below 12.
SCALARS = {
    BOOL: ("bool", 0, "boolean"),
    1: ("s8", 1, "s8"),
    2: ("s16", 3, "s16"),
    3: ("s32", 5, "s32"),
    4: ("s64", 7, "s64"),
    U8: ("u8", 2, "u8"),
    6: ("u16", 4, "u16"),
    7: ("u32", 6, "u32"),
    8: ("u64", 8, "u64"),
    F32: ("f32", 9, "f32"),
    F64: ("f64", 10, "f64"),
    CHAR: ("char", 11, "character"),
}
SLOT = ffi.sizeof("wasmtime_component_val_t")
INSIDE = ffi.offsetof("wasmtime_component_val_t", "of")
_GENERIC = {LIST: "list", OPTION: "option", TUPLE: "tuple", RESULT: "result"}
_BRACED = {RECORD: "record", VARIANT: "variant", ENUM: "enum", FLAGS: "flags"}


class Refused(Exception):
    """Values of a type cannot travel; the text says why."""


def text(kind: Type | None) -> str:
    """Write a type as WIT does, with the members of records and the like."""
    if kind is None:
        return "_"
    if kind.kind in SCALARS:
        return SCALARS[kind.kind][0]
    if kind.kind == STRING:
        return "string"
    if kind.kind in _GENERIC:
        return f"{_GENERIC[kind.kind]}<{', '.join(map(text, kind.inner))}>"
    if kind.kind not in _BRACED:
        return "handle"
    inner = kind.inner or (None,) * len(kind.names)
    members = (
        name if of is None else f"{name}: {text(of)}" for name, of in zip(kind.names, inner, strict=True)
    )
    return f"{_BRACED[kind.kind]} {{{', '.join(members)}}}"


def is_bytes(kind: Type) -> bool:
    """Whether a list is one of u8."""
    return kind.inner[0] == Type(U8)


def refuse_handle(path: str) -> Refused:
    """Why a handle cannot travel."""
    return Refused(f"{path} is a handle, which means something inside the component only")


def refuse_nested(kind: Type, path: str) -> None:
    """Refuse an option that would be None in two ways.

    Raises:
        Refused: It is one.
    """
    inner = kind.inner[0]
    if inner is not None and inner.kind == OPTION:
        raise Refused(f"{path} is an option within an option, which None cannot tell apart")
