"""Plain values and what stands for them in C."""

from typing import Any

from _cffi_backend import FFI

from .artifact import Value
from .failures import BadArguments, BadValue
from .native_library import NULL, bytes_of

CType = FFI.CType

# Every other primitive type of cffi is an integer.
_PRIMITIVES = {
    "float": "float",
    "double": "float",
    "long double": "float",
    "_Bool": "bool",
    "char": "char",
    "wchar_t": "",
    "char16_t": "",
    "char32_t": "",
    "_cffi_float_complex_t": "",
    "_cffi_double_complex_t": "",
}
_BYTES = ("uint8_t", "int8_t", "unsigned char", "signed char", "void")


def kind_of(ctype: CType) -> str:
    """Tell which plain values a C type has.

    Returns:
        ``int``, ``float``, ``bool``, ``char``, ``str`` (a pointer to char), ``bytes`` (a pointer to bytes
        or to void) or ``None`` (void).

    Raises:
        ValueError: It has none.
    """
    kind = ""
    if ctype.kind == "primitive":
        kind = _PRIMITIVES.get(ctype.cname, "int")
    elif ctype.kind in ("enum", "void"):
        kind = "int" if ctype.kind == "enum" else "None"
    elif ctype.kind == "pointer" and ctype.item.kind in ("primitive", "void"):
        kind = "str" if ctype.item.cname == "char" else "bytes" if ctype.item.cname in _BYTES else ""
    if not kind:
        raise ValueError(f"{ctype.cname} stands for no plain value")
    return kind


def to_c(kind: str, value: Value, name: str) -> object:
    """Turn an argument into what cffi passes on. That a number fits its type is checked by cffi.

    Raises:
        BadArguments: The value is of another kind.
    """
    match kind, value:
        case ("int", int()) | ("bool", bool()):
            return value
        case "float", int() | float():
            return float(value)
        case "str" | "bytes", None:
            return NULL
        case "str" | "bytes" | "char", str():
            if kind != "bytes" and "\0" in value:
                raise BadArguments(f"{name} contains the character NUL, which ends a text in C")
            encoded = value.encode()
        case "str" | "bytes" | "char", bytes():
            encoded = value
        case _:
            raise BadArguments(f"{name} must be {kind}, not {type(value).__name__}")
    if kind == "char" and len(encoded) != 1:
        raise BadArguments(f"{name} must be one byte, not {len(encoded)}")
    return encoded


def from_c(kind: str, value: Any, limit: int) -> Value:
    """Turn a result into a plain value.

    Raises:
        BadValue: It is a text of more than ``limit`` bytes.
    """
    if kind == "None":
        return None
    if kind == "float":
        return float(value)
    if kind == "char":
        return text(value)
    if kind in ("int", "bool"):
        return int(value) if kind == "int" else bool(value)
    if value == NULL:
        return None
    # SAFETY: that the pointer leads to a text is the claim of whoever wrote the declaration; a wrong one
    # ends this process, and only this one. The search for its end stops at the limit.
    found = bytes_of(value, limit + 1)
    if len(found) > limit:
        raise BadValue(f"the function returned a text of more than {limit} bytes")
    return text(found)


def text(data: bytes) -> str | bytes:
    """Return a C text as str, or as the bytes that it is when it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data
