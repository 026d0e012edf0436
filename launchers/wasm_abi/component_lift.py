"""Plain values out of the slots of a component's call; docs of the forms: component_types."""

from collections.abc import Callable

from ..artifact import Value
from ..wasm_component import ENUM, FLAGS, LIST, OPTION, RECORD, RESULT, STRING, TUPLE, VARIANT, Type
from ..wasm_engine import Pointer, ffi
from .component_types import CHAR, INSIDE, SCALARS, SLOT, is_bytes, refuse_handle, refuse_nested

type Lift = Callable[[Pointer], Value]


def lifting(kind: Type, path: str) -> Lift:
    """How a plain value comes out of a slot, whose owner frees it.

    Raises:
        Refused: No value of the type can.
    """
    if kind.kind in SCALARS:
        member = SCALARS[kind.kind][2]
        if kind.kind == CHAR:
            return lambda slot: chr(slot.of.character)
        return lambda slot: getattr(slot.of, member)
    if kind.kind not in _LIFTS:
        raise refuse_handle(path)
    return _LIFTS[kind.kind](kind, path)


def _lift_string(_kind: Type, _path: str) -> Lift:
    return lambda slot: _text(slot.of.string)


def _lift_enum(_kind: Type, _path: str) -> Lift:
    return lambda slot: _text(slot.of.enumeration)


def _lift_flags(_kind: Type, _path: str) -> Lift:
    return lambda slot: [_text(slot.of.flags.data[at]) for at in range(slot.of.flags.size)]


def _lift_list(kind: Type, path: str) -> Lift:
    if is_bytes(kind):
        return _lift_bytes
    element = _lift_inner(kind, 0, f"{path}[]")
    return lambda slot: [element(slot.of.list.data + at) for at in range(slot.of.list.size)]


def _lift_tuple(kind: Type, path: str) -> Lift:
    members = [_lift_inner(kind, index, f"{path}[{index}]") for index in range(len(kind.inner))]
    return lambda slot: [member(slot.of.tuple.data + at) for at, member in enumerate(members)]


def _lift_record(kind: Type, path: str) -> Lift:
    fields = [(name, _lift_inner(kind, at, f"{path}.{name}")) for at, name in enumerate(kind.names)]

    def lift(slot: Pointer) -> Value:
        data = slot.of.record.data
        return {name: field(ffi.addressof(data + at, "val")) for at, (name, field) in enumerate(fields)}

    return lift


def _lift_option(kind: Type, path: str) -> Lift:
    refuse_nested(kind, path)
    inner = _lift_inner(kind, 0, path)
    return lambda slot: inner(slot.of.option) if slot.of.option else None


def _lift_inner(kind: Type, index: int, path: str) -> Lift:
    inner = kind.inner[index]
    return (lambda _slot: None) if inner is None else lifting(inner, path)


def _lift_bytes(slot: Pointer) -> Value:
    count = slot.of.list.size
    if not count:
        return b""
    # SAFETY: count slots of u8 values at data, copied here.
    return bytes(memoryview(ffi.buffer(slot.of.list.data, count * SLOT))[INSIDE::SLOT])


def _lift_variant(kind: Type, path: str) -> Lift:
    cases = {
        name: None if kind.inner[at] is None else _lift_inner(kind, at, f"{path}.{name}")
        for at, name in enumerate(kind.names)
    }

    def lift(slot: Pointer) -> Value:
        name = _text(slot.of.variant.discriminant)
        inner = cases[name]
        return name if inner is None else {name: inner(slot.of.variant.val)}

    return lift


def _lift_result(kind: Type, path: str) -> Lift:
    ok, err = (_lift_inner(kind, at, path) for at in (0, 1))

    def lift(slot: Pointer) -> Value:
        if slot.of.result.is_ok:
            return {"ok": ok(slot.of.result.val)}
        return {"err": err(slot.of.result.val)}

    return lift


def _text(name: Pointer) -> str:
    # SAFETY: a name of wasmtime's that lives as long as its value: size bytes of UTF-8 at data.
    return ffi.unpack(name.data, name.size).decode() if name.size else ""


_LIFTS: dict[int, Callable[[Type, str], Lift]] = {
    STRING: _lift_string,
    LIST: _lift_list,
    RECORD: _lift_record,
    TUPLE: _lift_tuple,
    VARIANT: _lift_variant,
    ENUM: _lift_enum,
    OPTION: _lift_option,
    RESULT: _lift_result,
    FLAGS: _lift_flags,
}
