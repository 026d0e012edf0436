"""Plain values into the slots of a component's call; docs of the forms: component_types."""

from collections.abc import Callable

from ..artifact import Value
from ..failures import BadArguments
from ..wasm_component import ENUM, FLAGS, LIST, OPTION, RECORD, RESULT, STRING, TUPLE, VARIANT, Type
from ..wasm_engine import Pointer, ffi
from .component_types import (
    BOOL,
    CHAR,
    F32,
    F64,
    INSIDE,
    SCALARS,
    SLOT,
    is_bytes,
    refuse_handle,
    refuse_nested,
)

type Lower = Callable[[Value, Pointer], None]  # into a slot that is zero; it may stay half filled on failure

_U8_VALUE = 2


def lowering(lib: Pointer, kind: Type, path: str) -> Lower:
    """How a plain value goes into a slot.

    Raises:
        Refused: No value of the type can.
    """
    return _Lowering(lib).make(kind, path)


class _Lowering:
    def __init__(self, lib: Pointer) -> None:
        self._lib = lib

    def make(self, kind: Type, path: str) -> Lower:
        if kind.kind in SCALARS:
            return self._scalar(kind.kind, path)
        makers: dict[int, Callable[[Type, str], Lower]] = {
            STRING: self._string,
            LIST: self._bytes if kind.kind == LIST and is_bytes(kind) else self._list,
            RECORD: self._record,
            TUPLE: self._tuple,
            VARIANT: self._variant,
            ENUM: self._enum,
            OPTION: self._option,
            RESULT: self._result,
            FLAGS: self._flags,
        }
        if kind.kind not in makers:
            raise refuse_handle(path)
        return makers[kind.kind](kind, path)

    def _scalar(self, kind: int, path: str) -> Lower:
        name, value_kind, member = SCALARS[kind]

        def lower(value: Value, slot: Pointer) -> None:
            slot.kind = value_kind
            if not _fits(kind, value):
                raise BadArguments(f"{path} takes {name}, not {_shown(value)}")
            try:
                setattr(slot.of, member, ord(str(value)) if kind == CHAR else value)
            except OverflowError:
                raise BadArguments(f"{path}: {value!r} does not fit into {name}") from None

        return lower

    def _string(self, _kind: Type, path: str) -> Lower:
        def lower(value: Value, slot: Pointer) -> None:
            if not isinstance(value, str):
                raise BadArguments(f"{path} takes string, not {_shown(value)}")
            self._name(value, ffi.addressof(slot, "of", "string"))
            slot.kind = STRING

        return lower

    def _name(self, value: str, out: Pointer) -> None:
        data = value.encode()
        # SAFETY: wasmtime copies the bytes; the copy is the slot's from here on.
        self._lib.wasm_byte_vec_new(out, len(data), data)

    def _bytes(self, _kind: Type, path: str) -> Lower:
        def lower(value: Value, slot: Pointer) -> None:
            if not isinstance(value, bytes):
                raise BadArguments(f"{path} takes bytes, not {_shown(value)}")
            items = self._items(LIST, len(value), slot)
            window = memoryview(items).cast("B")
            window[::SLOT] = bytes((_U8_VALUE,)) * len(value)
            window[INSIDE::SLOT] = value

        return lower

    def _list(self, kind: Type, path: str) -> Lower:
        element = self._inner(kind, 0, f"{path}[]")

        def lower(value: Value, slot: Pointer) -> None:
            if not isinstance(value, list):
                raise BadArguments(f"{path} takes a list, not {_shown(value)}")
            self._items(LIST, len(value), slot)
            for index, item in enumerate(value):
                element(item, slot.of.list.data + index)

        return lower

    def _tuple(self, kind: Type, path: str) -> Lower:
        members = [self._inner(kind, index, f"{path}[{index}]") for index in range(len(kind.inner))]

        def lower(value: Value, slot: Pointer) -> None:
            if not isinstance(value, list) or len(value) != len(members):
                raise BadArguments(f"{path} takes a list of {len(members)} values, not {_shown(value)}")
            self._items(TUPLE, len(value), slot)
            for index, (member, item) in enumerate(zip(members, value, strict=True)):
                member(item, slot.of.tuple.data + index)

        return lower

    def _items(self, kind: int, count: int, slot: Pointer) -> Pointer:
        """Give a slot ``count`` inner slots that are zero; their memory as a buffer."""
        new, member = {
            LIST: (self._lib.wasmtime_component_vallist_new_uninit, "list"),
            TUPLE: (self._lib.wasmtime_component_valtuple_new_uninit, "tuple"),
        }[kind]
        # SAFETY: wasmtime allocates count slots; zero is a bool, which owns nothing; the slot owns them all.
        new(ffi.addressof(slot, "of", member), count)
        items = ffi.buffer(getattr(slot.of, member).data, count * SLOT)
        items[:] = bytes(count * SLOT)
        slot.kind = kind
        return items

    def _record(self, kind: Type, path: str) -> Lower:
        fields = {name: self._inner(kind, index, f"{path}.{name}") for index, name in enumerate(kind.names)}

        def lower(value: Value, slot: Pointer) -> None:
            if not isinstance(value, dict) or value.keys() != fields.keys():
                raise BadArguments(
                    f"{path} takes a dict with the fields {', '.join(fields)}, not {_shown(value)}"
                )
            # SAFETY: as in _items; an entry of zeros has an empty name and a bool.
            record = ffi.addressof(slot, "of", "record")
            self._lib.wasmtime_component_valrecord_new_uninit(record, len(fields))
            size = len(fields) * ffi.sizeof("wasmtime_component_valrecord_entry_t")
            ffi.buffer(record.data, size)[:] = bytes(size)
            slot.kind = RECORD
            for index, (name, field) in enumerate(fields.items()):
                entry = record.data + index
                self._name(name, ffi.addressof(entry, "name"))
                field(value[name], ffi.addressof(entry, "val"))

        return lower

    def _variant(self, kind: Type, path: str) -> Lower:
        cases = {
            name: None if kind.inner[index] is None else self._inner(kind, index, f"{path}.{name}")
            for index, name in enumerate(kind.names)
        }

        def lower(value: Value, slot: Pointer) -> None:
            name, payload = _case(value, cases, path)
            inner = cases[name]
            box = ffi.NULL if inner is None else self._box(inner, payload)
            slot.of.variant.val = box
            self._name(name, ffi.addressof(slot, "of", "variant", "discriminant"))
            slot.kind = VARIANT

        return lower

    def _result(self, kind: Type, path: str) -> Lower:
        sides = {
            name: None if kind.inner[index] is None else self._inner(kind, index, f"{path}.{name}")
            for index, name in enumerate(("ok", "err"))
        }

        def lower(value: Value, slot: Pointer) -> None:
            name, payload = _case(value, sides, path)
            inner = sides[name]
            slot.of.result.val = ffi.NULL if inner is None else self._box(inner, payload)
            slot.of.result.is_ok = name == "ok"
            slot.kind = RESULT

        return lower

    def _enum(self, kind: Type, path: str) -> Lower:
        def lower(value: Value, slot: Pointer) -> None:
            if not isinstance(value, str) or value not in kind.names:
                raise BadArguments(f"{path} takes one of {', '.join(kind.names)}, not {_shown(value)}")
            self._name(value, ffi.addressof(slot, "of", "enumeration"))
            slot.kind = ENUM

        return lower

    def _option(self, kind: Type, path: str) -> Lower:
        refuse_nested(kind, path)
        inner = self._inner(kind, 0, path)

        def lower(value: Value, slot: Pointer) -> None:
            slot.of.option = ffi.NULL if value is None else self._box(inner, value)
            slot.kind = OPTION

        return lower

    def _flags(self, kind: Type, path: str) -> Lower:
        def lower(value: Value, slot: Pointer) -> None:
            if not isinstance(value, list) or not all(item in kind.names for item in value):
                raise BadArguments(f"{path} takes a list of {', '.join(kind.names)}, not {_shown(value)}")
            names = [name for name in kind.names if name in value]
            flags = ffi.addressof(slot, "of", "flags")
            # SAFETY: as in _items; every name is set here, and nothing fails in between.
            self._lib.wasmtime_component_valflags_new_uninit(flags, len(names))
            for index, name in enumerate(names):
                self._name(name, flags.data + index)
            slot.kind = FLAGS

        return lower

    def _inner(self, kind: Type, index: int, path: str) -> Lower:
        inner = kind.inner[index]
        assert inner is not None  # only cases and sides of results have none, and they are asked first
        return self.make(inner, path)

    def _box(self, lower: Lower, value: Value) -> Pointer:
        slot = ffi.new("wasmtime_component_val_t *")
        try:
            lower(value, slot)
        except BaseException:
            self._lib.wasmtime_component_val_delete(slot)
            raise
        # SAFETY: wasmtime moves the value into memory of its own; the slot must not be freed then.
        return self._lib.wasmtime_component_val_new(slot)


def _fits(kind: int, value: Value) -> bool:
    """Whether a value is of a scalar's type; cffi checks the range of integers."""
    if kind == CHAR:
        return isinstance(value, str) and len(value) == 1
    if kind == BOOL:
        return isinstance(value, bool)
    if kind in (F32, F64):
        return isinstance(value, float | int) and not isinstance(value, bool)
    return isinstance(value, int) and not isinstance(value, bool)


def _case(value: Value, cases: dict[str, Lower | None], path: str) -> tuple[str, Value]:
    """The name and the value of a variant's case."""
    if isinstance(value, str) and value in cases and cases[value] is None:
        return value, None
    if isinstance(value, dict) and len(value) == 1:
        name, payload = next(iter(value.items()))
        if name in cases and (cases[name] is not None or payload is None):
            return name, payload
    known = ", ".join(name if case is None else f"{{{name}: ...}}" for name, case in cases.items())
    raise BadArguments(f"{path} takes one of {known}, not {_shown(value)}")


def _shown(value: Value) -> str:
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) < 40 else shown[:40] + '...'}"
