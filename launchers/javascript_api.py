"""The JavaScript engine: quickjs-ng, opened where its Python wheel put it and driven through its C API.

The wheel's own Python module is never imported: it starts a thread, cannot pass bytes and crashes on some
strings. Its shared library exports the engine's whole C API, which ``_quickjs_abi`` binds. That API has no
stable ABI, so the version is checked before the first call and one engine is asked to prove that values
cross the border unharmed.
"""

import os
import sys
from typing import Any

from ._quickjs_abi import ffi

type JSValue = Any
"""A value of the engine: a C struct that its holder frees, or ``(payload, tag)``, which needs no freeing."""

# quickjs.h, JS_TAG_*: tags below zero are reference counted.
BIG_INT, SYMBOL, STRING, STRING_ROPE, MODULE, OBJECT = -9, -8, -7, -6, -3, -1
INT, BOOL, NULL, UNDEFINED, UNINITIALIZED, EXCEPTION, SHORT_BIG_INT, FLOAT64 = 0, 1, 2, 3, 4, 6, 7, 8

# quickjs.h, JS_EVAL_*: a classic script, a module, compile without running.
EVAL_SCRIPT, EVAL_MODULE, EVAL_COMPILE_ONLY = 0, 1 << 0, 1 << 5
# quickjs.h, JS_PROP_*: configurable, writable, enumerable, as an assignment would make it.
PROPERTY = 0b111

_ENGINE_VERSION = "0.17."


def _open() -> Any:
    """Open the engine's shared library.

    Raises:
        ImportError: It is not installed, is another version, or this machine is not one of those whose
            calling convention is known to fit (64 bit, little-endian).
    """
    if ffi.sizeof("void *") != 8 or sys.byteorder != "little":
        raise ImportError("the JavaScript launcher needs a 64-bit little-endian machine")
    advice = f"install it with: pip install 'quickjs-ng=={_ENGINE_VERSION}0.*'"
    path = _find()
    if path is None:
        raise ImportError(f"the JavaScript engine is missing (no _quickjs*.so on sys.path); {advice}")
    library: Any = ffi.dlopen(path, ffi.RTLD_NOW)
    found: Any = ffi.string(library.JS_GetVersion())
    version = found.decode()
    if not version.startswith(_ENGINE_VERSION):
        raise ImportError(
            f"{path} is quickjs-ng {version}; Frys binds the C API of {_ENGINE_VERSION}x, which other "
            f"versions change; {advice}"
        )
    return library


def _find() -> str | None:
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.startswith("_quickjs.") and name.endswith(".so"):
                return os.path.join(folder, name)
    return None


lib = _open()


def utf8_of(context: Any, value: JSValue) -> bytes | None:
    """Convert a value to a string as JavaScript does and return its UTF-8, in which lone surrogates remain.

    None means that the engine has an exception pending: converting an object runs its ``toString``.
    """
    size = ffi.new("size_t *")
    pointer = lib.JS_ToCStringLen2(context, size, value, False)
    if not pointer:
        return None
    # SAFETY: the engine owns `size` bytes at `pointer` until JS_FreeCString; they are copied before.
    data: bytes = ffi.buffer(pointer, size[0])[:]
    lib.JS_FreeCString(context, pointer)
    return data


def text_of(context: Any, value: JSValue) -> str | None:
    """As ``utf8_of``, as text; a lone surrogate becomes U+FFFD, as everywhere on the web platform."""
    data = utf8_of(context, value)
    return None if data is None else text_from_utf8(data)


def text_from_utf8(data: bytes) -> str:
    """Decode the engine's UTF-8, which may hold lone surrogates: each becomes U+FFFD."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        units = data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass")
        return units.decode("utf-16", "replace")


_bits = ffi.new("uint64_t *")
_double = ffi.cast("double *", _bits)


def to_float(bits: int) -> float:
    """Read the payload of a FLOAT64 value."""
    _bits[0] = bits
    return float(_double[0])


def from_float(number: float) -> JSValue:
    """Make a FLOAT64 value."""
    _double[0] = number
    return _bits[0], FLOAT64
