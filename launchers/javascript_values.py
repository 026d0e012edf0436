"""Plain values across the border of the JavaScript engine, in both directions.

===========================  ==========================================================================
host                         JavaScript
===========================  ==========================================================================
None                         null; undefined comes back as None, too
bool, str                    boolean, string (a lone surrogate comes back as U+FFFD)
int within 2**53, float      number; comes back as int when it is a whole number within 2**53, but not -0
int beyond 2**53             BigInt; any BigInt of at most 64 bits comes back as int
bytes                        Uint8Array; every typed array and ArrayBuffer comes back as its bytes
list, dict                   Array, Object: its own enumerable properties, whatever its prototype
===========================  ==========================================================================

Nothing else travels back. What a plugin returns is read through the engine's C functions, never through
JavaScript built-ins that it could have replaced. Getters in it do run, under the deadline of the call.
"""

from collections.abc import Callable
from typing import Any

from ._quickjs_abi import ffi
from .artifact import Value
from .failures import BadArguments, BadValue
from .javascript_api import (
    BIG_INT,
    BOOL,
    EXCEPTION,
    FLOAT64,
    INT,
    NULL,
    OBJECT,
    PROPERTY,
    SHORT_BIG_INT,
    STRING,
    STRING_ROPE,
    SYMBOL,
    UNDEFINED,
    JSValue,
    from_float,
    lib,
    text_from_utf8,
    to_float,
)
from .javascript_engine import Engine

MAX_DEPTH = 64
"""Lists and objects within each other, as everywhere on the lane."""
MAX_ITEMS = 999_000
"""Values and keys in one result, a little less than the host decodes. An array with a length of 4 billion
costs a plugin nothing."""

_EXACT = 1 << 53
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_OWN_ENUMERABLE_STRINGS = (1 << 0) | (1 << 4)  # JS_GPN_STRING_MASK, JS_GPN_ENUM_ONLY
_ADVICE = {
    "Date": "return its toISOString() or getTime()",
    "Error": "throw it instead",
    "Function": "return a value, not the function that makes it",
    "Map": "return Object.fromEntries(map)",
    "Promise": "await it",
    "Proxy": "return a plain copy",
    "Set": "return Array.from(set)",
    "Symbol": "return its description",
}


class Converter:
    """Converts values for one context.

    Args:
        engine: Where the values live.
        failed: Turns the engine's pending exception into the failure to raise.
    """

    def __init__(self, engine: Engine, failed: Callable[[], Exception]) -> None:
        self._engine = engine
        self._context = engine.context
        self._failed = failed
        self._size = ffi.new("size_t *")
        self._room = 0

    # to the engine

    def to_engine(self, value: Value) -> JSValue:
        """Make a JavaScript value, which the caller owns.

        Raises:
            BadArguments: The value is none of those that travel.
            Failure: The engine refused, for lack of memory.
        """
        made = self._make(value)
        # A tuple owns nothing; everything else came from the engine and may be its exception.
        if type(made) is not tuple and made.tag == EXCEPTION:
            raise self._failed()
        return made

    def _make(self, value: Value) -> JSValue:
        kind = type(value)
        if kind is bytes:
            # SAFETY: the engine copies the bytes before it returns.
            return lib.JS_NewUint8ArrayCopy(self._context, value, len(value))  # type: ignore[arg-type]
        if kind is str:
            return self._make_string(value)  # type: ignore[arg-type]
        if kind is int:
            return self._make_number(value)  # type: ignore[arg-type]
        if value is None:
            return 0, NULL
        if kind is bool:
            return int(value), BOOL  # type: ignore[arg-type]
        if kind is float:
            return from_float(value)  # type: ignore[arg-type]
        if kind is list:
            return self._make_array(value)  # type: ignore[arg-type]
        if kind is dict:
            return self._make_object(value)  # type: ignore[arg-type]
        raise BadArguments(f"an argument of type {kind.__name__} cannot travel")

    def _make_string(self, value: str) -> JSValue:
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise BadArguments("an argument has lone surrogates, which UTF-8 cannot carry") from None
        # SAFETY: the engine copies the bytes before it returns.
        return lib.JS_NewStringLen(self._context, data, len(data))

    def _make_number(self, value: int) -> JSValue:
        if -0x80000000 <= value <= 0x7FFFFFFF:
            return value & 0xFFFFFFFF, INT
        if -_EXACT <= value <= _EXACT:
            return from_float(float(value))
        if not _INT_MIN <= value <= _INT_MAX:
            raise BadArguments("an argument is an integer outside of 64 bits")
        if value < 1 << 63:
            return lib.JS_NewBigInt64(self._context, value)
        return lib.JS_NewBigUint64(self._context, value)

    def _make_array(self, items: list[Value]) -> JSValue:
        array = lib.JS_NewArray(self._context)
        if array.tag == EXCEPTION:
            return array
        try:
            for index, item in enumerate(items):
                made = self.to_engine(item)
                # SAFETY: the engine takes over `made`, also when it fails.
                if lib.JS_DefinePropertyValueUint32(self._context, array, index, made, PROPERTY) < 0:
                    raise self._failed()
        except BaseException:
            lib.JS_FreeValue(self._context, array)
            raise
        return array

    def _make_object(self, items: dict[str, Value]) -> JSValue:
        made = lib.JS_NewObject(self._context)
        if made.tag == EXCEPTION:
            return made
        try:
            for key, item in items.items():
                self._set(made, key.encode(), self.to_engine(item))
        except BaseException:
            lib.JS_FreeValue(self._context, made)
            raise
        return made

    def _set(self, target: JSValue, key: bytes, value: JSValue) -> None:
        atom = lib.JS_NewAtomLen(self._context, key, len(key))
        # Defined, not assigned: assigning "__proto__" would change the prototype.
        # SAFETY: the engine takes over `value`, also when it fails.
        done = lib.JS_DefinePropertyValue(self._context, target, atom, value, PROPERTY)
        lib.JS_FreeAtom(self._context, atom)
        if done < 0:
            raise self._failed()

    # from the engine

    def from_engine(self, value: JSValue, name: str = "the result") -> Value:
        """Read a JavaScript value; it stays the caller's to free.

        Raises:
            BadValue: It, or something inside it, cannot travel; the message names the path.
            Failure: A getter in it threw, or reading it ran out of time or memory.
        """
        # A getter in the value may ask the host, and what it asks is read in between.
        room, self._room = self._room, MAX_ITEMS
        try:
            return self._read(value, ())
        except _CannotTravelError as problem:
            path = "".join(reversed(problem.path))
            raise BadValue(f"{name}{path[:200]} {problem.reason}") from None
        finally:
            self._room = room

    def _read(self, value: JSValue, around: tuple[int, ...]) -> Value:
        tag = value.tag
        if tag == OBJECT:
            return self._read_object(value, around)
        if tag in (STRING, STRING_ROPE):
            return self._read_string(value)
        if tag == INT:
            return _signed(value.u)
        if tag == FLOAT64:
            return _whole_or_float(to_float(value.u))
        if tag in (NULL, UNDEFINED):
            return None
        if tag == BOOL:
            return bool(value.u & 0xFFFFFFFF)
        if tag == SHORT_BIG_INT:
            return _signed(value.u)
        if tag == BIG_INT:
            return self._read_big(value)
        if tag == EXCEPTION:
            raise self._failed()
        raise _CannotTravelError("Symbol" if tag == SYMBOL else f"engine value {tag}")

    def _read_string(self, value: JSValue) -> str:
        pointer = lib.JS_ToCStringLen2(self._context, self._size, value, False)
        if not pointer:
            raise self._failed()
        # SAFETY: the engine owns the bytes until JS_FreeCString; they are copied before.
        data = ffi.buffer(pointer, self._size[0])[:]
        lib.JS_FreeCString(self._context, pointer)
        return text_from_utf8(data)

    def _read_big(self, value: JSValue) -> int:
        """Read a BigInt; the engine wraps it to 64 bits, so the answer is compared with the question."""
        for make, read, kind in (
            (lib.JS_NewBigInt64, lib.JS_ToBigInt64, "int64_t *"),
            (lib.JS_NewBigUint64, lib.JS_ToBigUint64, "uint64_t *"),
        ):
            number = ffi.new(kind)
            read(self._context, number, value)
            again = make(self._context, number[0])
            same = lib.JS_IsStrictEqual(self._context, again, value)
            lib.JS_FreeValue(self._context, again)
            if same:
                return int(number[0])
        raise _CannotTravelError("BigInt", "is a BigInt outside of 64 bits; return it as a string")

    def _read_object(self, value: JSValue, around: tuple[int, ...]) -> Value:
        class_id = lib.JS_GetClassID(value)
        if class_id == self._engine.uint8_array_class:
            return self._read_view(value, octets=True)
        if class_id in (self._engine.object_class, self._engine.array_class):
            if value.u in around:
                raise _CannotTravelError("cycle", "contains itself")
            if len(around) == MAX_DEPTH:
                raise _CannotTravelError("depth", f"is nested deeper than {MAX_DEPTH} levels")
            inside = (*around, value.u)
            if class_id == self._engine.array_class:
                return self._read_array(value, inside)
            return self._read_plain(value, inside)
        if lib.JS_IsArrayBuffer(value):
            return self._read_buffer(value)
        if lib.JS_GetTypedArrayType(value) >= 0:
            return self._read_view(value, octets=False)
        raise _CannotTravelError(self._class_name(value, class_id))

    def _read_view(self, value: JSValue, *, octets: bool) -> bytes:
        """Copy the bytes that a typed array shows now.

        The engine's C functions describe a view of a resizable buffer as it was made; only the built-in
        getter knows its size after a resize.
        """
        # SAFETY: the getter is the engine's own code, so no JavaScript runs from here to the copy.
        length = lib.JS_Call(self._context, self._engine.byte_length, value, 0, ffi.NULL)
        size = self._read(length, ())
        if octets:
            start = lib.JS_GetUint8Array(self._context, self._size, value)
        else:
            start = self._start_of_view(value)
        if not start:
            raise self._failed()
        data: bytes = ffi.buffer(start, size)[:]
        return data

    def _start_of_view(self, value: JSValue) -> Any:
        offset = ffi.new("size_t *")
        buffer = lib.JS_GetTypedArrayBuffer(self._context, value, offset, ffi.NULL, ffi.NULL)
        if buffer.tag == EXCEPTION:
            return ffi.NULL
        whole = lib.JS_GetArrayBuffer(self._context, self._size, buffer)
        # The view holds its buffer, so the memory outlives this reference.
        lib.JS_FreeValue(self._context, buffer)
        return whole + offset[0] if whole else whole

    def _read_buffer(self, value: JSValue) -> bytes:
        start = lib.JS_GetArrayBuffer(self._context, self._size, value)
        if not start:
            raise self._failed()
        # SAFETY: the engine just said that this many bytes stand there; no JavaScript ran since.
        data: bytes = ffi.buffer(start, self._size[0])[:]
        return data

    def _take(self, count: int) -> None:
        self._room -= count
        if self._room < 0:
            raise _CannotTravelError("size", f"has more than {MAX_ITEMS:,} values and keys in it")

    def _read_array(self, value: JSValue, around: tuple[int, ...]) -> list[Value]:
        length = ffi.new("int64_t *")
        if lib.JS_GetLength(self._context, value, length) < 0:
            raise self._failed()
        self._take(length[0])
        items: list[Value] = []
        for index in range(length[0]):
            item = lib.JS_GetPropertyUint32(self._context, value, index)
            try:
                items.append(self._read(item, around))
            except _CannotTravelError as problem:
                problem.path.append(f"[{index}]")
                raise
            finally:
                if item.tag < 0:
                    lib.JS_FreeValue(self._context, item)
        return items

    def _read_plain(self, value: JSValue, around: tuple[int, ...]) -> dict[str, Value]:
        table, count = ffi.new("JSPropertyEnum **"), ffi.new("uint32_t *")
        if lib.JS_GetOwnPropertyNames(self._context, table, count, value, _OWN_ENUMERABLE_STRINGS) < 0:
            raise self._failed()
        # SAFETY: the engine hands over a table of `count` atoms, which is freed below whatever happens.
        try:
            self._take(2 * count[0])
            items: dict[str, Value] = {}
            for index in range(count[0]):
                atom = table[0][index].atom
                name = self._atom_text(atom)
                item = lib.JS_GetProperty(self._context, value, atom)
                try:
                    items[name] = self._read(item, around)
                except _CannotTravelError as problem:
                    problem.path.append(f"[{name[:40]!r}]")
                    raise
                finally:
                    if item.tag < 0:
                        lib.JS_FreeValue(self._context, item)
            return items
        finally:
            lib.JS_FreePropertyEnum(self._context, table[0], count[0])

    def names(self, value: JSValue) -> list[str]:
        """Name the own enumerable properties of an object; none when the engine cannot say."""
        table, count = ffi.new("JSPropertyEnum **"), ffi.new("uint32_t *")
        if lib.JS_GetOwnPropertyNames(self._context, table, count, value, _OWN_ENUMERABLE_STRINGS) < 0:
            raise self._failed()
        try:
            return [self._atom_text(table[0][index].atom) for index in range(count[0])]
        finally:
            lib.JS_FreePropertyEnum(self._context, table[0], count[0])

    def _atom_text(self, atom: int) -> str:
        pointer = lib.JS_AtomToCStringLen(self._context, self._size, atom)
        if not pointer:
            raise self._failed()
        # SAFETY: the engine owns the bytes until JS_FreeCString; they are copied before.
        data = ffi.buffer(pointer, self._size[0])[:]
        lib.JS_FreeCString(self._context, pointer)
        return text_from_utf8(data)

    def _class_name(self, value: JSValue, class_id: int) -> str:
        atom = lib.JS_GetClassName(self._engine.runtime, class_id)
        name = self._atom_text(atom)
        lib.JS_FreeAtom(self._context, atom)
        if lib.JS_IsProxy(value):
            return "Proxy"
        return "Function" if lib.JS_IsFunction(self._context, value) else name


class _CannotTravelError(Exception):
    """Raised at the offending value; every list and object on the way out adds its step to the path."""

    def __init__(self, what: str, reason: str = "") -> None:
        super().__init__(what)
        advice = _ADVICE.get(what, "use null, boolean, number, string, Uint8Array, array or plain object")
        self.reason = reason or f"is of type {what}, which cannot travel; {advice}"
        self.path: list[str] = []


def _signed(payload: int) -> int:
    """Read the payload's lower half, an int32_t."""
    return ((payload & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


def _whole_or_float(number: float) -> int | float:
    if -_EXACT <= number <= _EXACT and number.is_integer() and (number or str(number) == "0.0"):
        return int(number)
    return number
