"""The launcher's own functions that the prelude calls.

Each gets the context and its arguments and returns a JSValue that the engine takes over. Whatever cffi
allocates for a callback (executable memory) exists from the moment this module is imported, before any
fork: a jailed child could not map it any more.
"""

import _codecs
import os
from typing import Any

from ._quickjs_abi import ffi
from .failures import BadValue, Failure, HostRefused
from .javascript_api import EXCEPTION, UNDEFINED, JSValue, lib, text_of, utf8_of

_GENERIC_MAGIC = 1  # JS_CFUNC_generic_magic
_MAX_LINE = 8192
_MAX_RANDOM = 1 << 16

# One call is one line, and no terminal sequence reaches the reader of a log.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROLS |= {9: "\t", 10: "\\n", 13: "\\r"}

# Encoding Standard, index windows-1252: where it differs from latin-1.
_WINDOWS_1252 = dict(
    zip(
        (0x80, *range(0x82, 0x8D), 0x8E, *range(0x91, 0x9D), 0x9E, 0x9F),
        "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ",
        strict=True,
    )
)

_class_names: dict[int, bytes] = {}


def plugin_of(context: Any) -> Any:
    """The plugin that a context belongs to."""
    # SAFETY: the handle was set by the plugin, which keeps it alive as long as its context.
    return ffi.from_handle(lib.JS_GetContextOpaque(context))


def make_string(context: Any, text: str) -> JSValue:
    """Make a string of the engine, which the caller owns."""
    data = text.encode("utf-8", "replace")
    # SAFETY: the engine copies the bytes before it returns.
    return lib.JS_NewStringLen(context, data, len(data))


def throw(context: Any, message: str) -> JSValue:
    """Throw a TypeError in the engine, which shortens its text."""
    lib.JS_ThrowTypeError(context, b"%s", ffi.new("char[]", message.encode("utf-8", "replace")))
    return 0, EXCEPTION


def _write(context: Any, argv: Any) -> JSValue:
    descriptor = 2 if argv[0].u & 0xFFFFFFFF == 2 else 1
    line = text_of(context, argv[1])
    if line is None:
        return 0, EXCEPTION
    shown = line[:_MAX_LINE].translate(_CONTROLS).encode("utf-8", "replace")
    try:
        os.write(descriptor, shown + b"\n")
    except OSError:
        pass  # nobody listens: a log line is not worth an exception
    return 0, UNDEFINED


def _encode(context: Any, argv: Any) -> JSValue:
    data = utf8_of(context, argv[0])
    # SAFETY: the engine copies the bytes before it returns.
    return (0, EXCEPTION) if data is None else lib.JS_NewUint8ArrayCopy(context, data, len(data))


def _decode(context: Any, argv: Any) -> JSValue:
    size = ffi.new("size_t *")
    pointer = lib.JS_GetUint8Array(context, size, argv[0])
    encoding = text_of(context, argv[1])
    if not pointer or encoding is None:
        return 0, EXCEPTION
    # SAFETY: the view lives until the engine runs again; it does so only after the last use of `data`.
    data: Any = ffi.buffer(pointer, size[0])
    try:
        if encoding == "utf-8":
            str(data, "utf-8")
            return lib.JS_NewStringLen(context, ffi.cast("char *", pointer), size[0])
        return make_string(context, _text(data, encoding, "strict"))
    except UnicodeDecodeError as error:
        if argv[2].u & 0xFFFFFFFF:
            return throw(context, f"TextDecoder: byte {error.start} is not {encoding}")
    return make_string(context, _text(data, encoding, "replace"))


def _text(data: Any, encoding: str, errors: str) -> str:
    if encoding == "utf-16le":
        # Not by its name: looking a codec up would import a file, which a jailed process cannot read.
        return _codecs.utf_16_le_decode(data, errors, True)[0]
    if encoding == "windows-1252":
        return str(data, "latin-1").translate(_WINDOWS_1252)
    return str(data, "utf-8", errors)


def _random(context: Any, argv: Any) -> JSValue:
    count = min(argv[0].u & 0xFFFFFFFF, _MAX_RANDOM)
    # SAFETY: the engine copies the bytes before it returns.
    return lib.JS_NewUint8ArrayCopy(context, os.urandom(count), count)


def _class_of(context: Any, argv: Any) -> JSValue:
    """The engine's own name of an object's kind, which no plugin can change."""
    if lib.JS_IsProxy(argv[0]):
        return make_string(context, "Proxy")
    number = lib.JS_GetClassID(argv[0])
    name = _class_names.get(number)
    if name is None:
        atom = lib.JS_GetClassName(lib.JS_GetRuntime(context), number)
        pointer = lib.JS_AtomToCStringLen(context, ffi.NULL, atom)
        # SAFETY: the engine's string ends with a zero byte; it is copied before JS_FreeCString.
        name = _class_names[number] = bytes(ffi.string(pointer)) if pointer else b""  # type: ignore[arg-type]
        lib.JS_FreeCString(context, pointer)
        lib.JS_FreeAtom(context, atom)
    return lib.JS_NewStringLen(context, name, len(name))


def _resolve(context: Any, argv: Any) -> JSValue:
    base, specifier = text_of(context, argv[0]), text_of(context, argv[1])
    if base is None or specifier is None:
        return 0, EXCEPTION
    return make_string(context, plugin_of(context).modules.find_required(base, specifier))


def _compile(context: Any, argv: Any) -> JSValue:
    name, kind = text_of(context, argv[0]), text_of(context, argv[1])
    if name is None or kind is None:
        return 0, EXCEPTION
    return plugin_of(context).modules.make(name, kind)


def _ask(context: Any, argv: Any) -> JSValue:
    """Ask the host; the answer is a list of one value, or the reason and the message of a refusal."""
    plugin = plugin_of(context)
    service = text_of(context, argv[0])
    if service is None:
        return 0, EXCEPTION
    answer: list[Any]
    try:
        answer = [plugin.ask(service, plugin.values.from_engine(argv[1], f"what frys.{service} gets"))]
    except BadValue as problem:
        return throw(context, problem.message)
    except HostRefused as refused:
        answer = [refused.reason, refused.message]
    except Failure as failure:
        return throw(context, failure.message)
    except EOFError:
        os._exit(0)  # the host is gone, and with it whoever waits for this call
    try:
        return plugin.values.to_engine(answer)
    except Failure as failure:
        return throw(context, failure.message)


_NATIVES = (
    ("write", _write, 2),
    ("encode", _encode, 1),
    ("decode", _decode, 3),
    ("random", _random, 1),
    ("classOf", _class_of, 1),
    ("resolve", _resolve, 2),
    ("compile", _compile, 2),
    ("ask", _ask, 2),
)


@ffi.callback("JSCFunctionMagic", error=(0, EXCEPTION))
def _native(context: Any, _this: JSValue, _argc: int, argv: Any, magic: int) -> JSValue:
    # SAFETY: the engine fills argv up to the declared number of parameters and owns its values.
    return _NATIVES[magic][1](context, argv)


def make_natives(context: Any) -> JSValue:
    """Make an object with all of them, which the caller owns."""
    holder = lib.JS_NewObject(context)
    for magic, (name, _, parameters) in enumerate(_NATIVES):
        key = name.encode()
        function = lib.JS_NewCFunction2(context, _native, key, parameters, _GENERIC_MAGIC, magic)
        # SAFETY: the engine takes over `function`, also when it fails.
        lib.JS_DefinePropertyValueStr(context, holder, key, function, 0)
    return holder
