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
from .javascript_prelude import SOURCE as PRELUDE

type JSValue = Any
"""A value of the engine: a C struct that its holder frees, or ``(payload, tag)``, which needs no freeing."""

# quickjs.h, JS_TAG_*: tags below zero are reference counted.
BIG_INT, SYMBOL, STRING, STRING_ROPE, OBJECT = -9, -8, -7, -6, -1
INT, BOOL, NULL, UNDEFINED, UNINITIALIZED, EXCEPTION, SHORT_BIG_INT, FLOAT64 = 0, 1, 2, 3, 4, 6, 7, 8

# quickjs.h, JS_EVAL_*: a classic script, a module, compile without running.
EVAL_SCRIPT, EVAL_MODULE, EVAL_COMPILE_ONLY = 0, 1 << 0, 1 << 5
# quickjs.h, JS_PROP_*: configurable, writable, enumerable, as an assignment would make it.
PROPERTY = 0b111

_ENGINE_VERSION = "0.17."
_GENERIC_MAGIC = 1  # JS_CFUNC_generic_magic
_MAX_LINE = 8192
_MAX_STACK = 4 << 20
_MIN_HEAP = 2 << 20
_GC_THRESHOLD = 1 << 20
_WORD = (1 << 64) - 1


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


# Functions of the launcher that the prelude calls. Each gets the context and its arguments and returns a
# JSValue that the engine takes over. Whatever cffi allocates for a callback (executable memory) exists from
# the moment this module is imported, before any fork: a jailed child could not map it any more.


def _write(context: Any, argv: Any) -> JSValue:
    descriptor = 2 if argv[0].u & 0xFFFFFFFF == 2 else 1
    line = text_of(context, argv[1])
    if line is not None:
        shown = line[:_MAX_LINE].translate(_CONTROLS).encode("utf-8", "replace")
        try:
            os.write(descriptor, shown + b"\n")
        except OSError:
            pass  # nobody listens: a log line is not worth an exception
    return 0, UNDEFINED


# One call is one line, and no terminal sequence reaches the reader of a log.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROLS |= {9: "\t", 10: "\\n", 13: "\\r"}


def _encode(context: Any, argv: Any) -> JSValue:
    data = utf8_of(context, argv[0])
    # SAFETY: the engine copies the bytes before it returns.
    return (0, EXCEPTION) if data is None else lib.JS_NewUint8ArrayCopy(context, data, len(data))


def _decode(context: Any, argv: Any) -> JSValue:
    size = ffi.new("size_t *")
    pointer = lib.JS_GetUint8Array(context, size, argv[0])
    if not pointer:
        return 0, EXCEPTION
    # SAFETY: the view lives until the engine runs again; it does so only after the last use of `data`.
    data = ffi.buffer(pointer, size[0])
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as error:
        if argv[1].u & 0xFFFFFFFF:
            place = ffi.cast("int", error.start)
            return lib.JS_ThrowTypeError(context, b"TextDecoder: byte %d is not UTF-8", place)
        fixed = str(data, "utf-8", "replace").encode()
        return lib.JS_NewStringLen(context, fixed, len(fixed))
    return lib.JS_NewStringLen(context, ffi.cast("char *", pointer), size[0])


_NATIVES = (("write", _write, 2), ("encode", _encode, 1), ("decode", _decode, 2))


@ffi.callback("JSCFunctionMagic", error=(0, EXCEPTION))
def _native(context: Any, _this: JSValue, _argc: int, argv: Any, magic: int) -> JSValue:
    # SAFETY: the engine fills argv up to the declared number of parameters and owns its values.
    return _NATIVES[magic][1](context, argv)


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


class Engine:
    """One runtime with one context, made in the fork server and used up by one child.

    Attributes:
        runtime: JSRuntime, owned.
        context: JSContext, owned.
        global_object: The context's global object, owned.
        byte_length: The built-in getter of a typed array's size, owned.
        object_class, array_class, uint8_array_class: The engine's numbers for these kinds of objects.
    """

    def __init__(self) -> None:
        # SAFETY: both pointers stay valid until close(), and nothing else frees them.
        self.runtime = lib.JS_NewRuntime()
        self.context = lib.JS_NewContext(self.runtime) if self.runtime else ffi.NULL
        if not self.context:
            raise MemoryError("the JavaScript engine could not allocate a context")
        self.global_object = lib.JS_GetGlobalObject(self.context)
        self.object_class = self._class_of(lib.JS_NewObject(self.context))
        self.array_class = self._class_of(lib.JS_NewArray(self.context))
        self.uint8_array_class = self._class_of(lib.JS_NewUint8ArrayCopy(self.context, b"", 0))
        self._random = self._find_random_state()
        self.byte_length = self._run_prelude()
        lib.JS_RunGC(self.runtime)

    def _class_of(self, sample: JSValue) -> int:
        number = int(lib.JS_GetClassID(sample))
        lib.JS_FreeValue(self.context, sample)
        return number

    def _run_prelude(self) -> JSValue:
        source = PRELUDE.encode()
        install = lib.JS_Eval(self.context, source, len(source), b"<frys>", EVAL_SCRIPT)
        argv = ffi.new("JSValue[]", len(_NATIVES))
        for magic, (name, _, parameters) in enumerate(_NATIVES):
            argv[magic] = lib.JS_NewCFunction2(
                self.context, _native, name.encode(), parameters, _GENERIC_MAGIC, magic
            )
        done = lib.JS_Call(self.context, install, (0, UNDEFINED), len(_NATIVES), argv)
        if EXCEPTION in (install.tag, done.tag):
            error = lib.JS_GetException(self.context)
            raise RuntimeError(f"the prelude failed: {text_of(self.context, error)}")
        for value in (install, *argv):
            lib.JS_FreeValue(self.context, value)
        return done

    def _find_random_state(self) -> Any:
        """Find where ``Math.random`` keeps its state, by watching it work.

        A context made before the fork would give every child the same numbers, and the API has no way to
        seed it. The generator is xorshift64* and its state one word of the context: of all its words, the
        one that a draw advances exactly by that rule, with exactly that result, is the state.
        """
        # SAFETY: the context is one allocation of at least this size; reading whole words of it is in bounds.
        words = lib.js_malloc_usable_size_rt(self.runtime, self.context) // 8
        memory = ffi.cast("uint64_t *", self.context)
        before: Any = ffi.unpack(memory, words)
        math = lib.JS_GetPropertyStr(self.context, self.global_object, b"Math")
        random = lib.JS_GetPropertyStr(self.context, math, b"random")
        drawn = lib.JS_Call(self.context, random, (0, UNDEFINED), 0, ffi.NULL)
        after: Any = ffi.unpack(memory, words)
        for value in (math, random):
            lib.JS_FreeValue(self.context, value)
        bits = int(to_float(drawn.u) * (1 << 52))
        places = [
            place
            for place in range(words)
            if after[place] == _xorshift(before[place])
            and after[place]
            and (after[place] * 0x2545F4914F6CDD1D & _WORD) >> 12 == bits
        ]
        if len(places) != 1:
            raise ImportError("this build of quickjs-ng hides the state of Math.random, which Frys must seed")
        return memory + places[0]

    def start(self, memory: int, stack: int) -> None:
        """Make the engine this process's own, after the fork: its limits, its stack, its randomness.

        Args:
            memory: Bytes that the whole process may use. The engine gets somewhat less, so that it fails
                with an exception before the kernel kills: the rest is for arguments and results.
            stack: Bytes of C stack that the process has. The engine stops at half of it: what it calls does
                not look at the engine's limit.
        """
        heap = max(memory - max(memory // 8, 4 << 20), _MIN_HEAP)
        lib.JS_SetMemoryLimit(self.runtime, heap)
        lib.JS_SetGCThreshold(self.runtime, min(_GC_THRESHOLD, heap // 2))
        lib.JS_SetMaxStackSize(self.runtime, min(stack // 2, _MAX_STACK))
        lib.JS_UpdateStackTop(self.runtime)
        # SAFETY: the address was found inside the live context; zero is the one state that never advances.
        self._random[0] = int.from_bytes(os.urandom(8)) or 1

    def close(self) -> None:
        """Free everything. The engine aborts the process if a value was leaked, which the tests use."""
        for value in (self.global_object, self.byte_length):
            lib.JS_FreeValue(self.context, value)
        lib.JS_FreeContext(self.context)
        lib.JS_FreeRuntime(self.runtime)


def _xorshift(state: int) -> int:
    state ^= state >> 12
    state ^= state << 25 & _WORD
    return state ^ state >> 27


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
