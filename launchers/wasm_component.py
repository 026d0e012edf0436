"""Components through wasmtime's C API: what they import, export and take, and calls.

API: https://docs.wasmtime.dev/c-api/ and the header files wasmtime/component/*.h of version 50.
"""

from collections.abc import Callable
from typing import NamedTuple

from .failures import BadArtifact, LimitReached, PluginRaised
from .wasm_engine import Engine, Pointer, Store, ffi

_INSTANCE, _FUNCTION = 1, 3  # kinds of items
_NO_STACK = "call stack exhausted"
# Kinds of types; below 13 they are bool, eight integers, two floats, char and string, beyond 20 handles.
STRING, LIST, RECORD, TUPLE, VARIANT, ENUM, OPTION, RESULT, FLAGS = range(12, 21)
_MEMBERS = {RECORD: "record", TUPLE: "tuple", VARIANT: "variant", ENUM: "enum", FLAGS: "flags"}


class Type(NamedTuple):
    """A type of values.

    Attributes:
        kind: The number of ``wasmtime_component_valtype_t``.
        inner: What it is made of: of a list or an option the element, of a tuple all members, of a record or
            a variant each field or case in order, of a result what is in ``ok`` and ``err``. ``None`` where
            a case has no value.
        names: Of fields, cases, words or flags.
    """

    kind: int
    inner: "tuple[Type | None, ...]" = ()
    names: tuple[str, ...] = ()


class Signature(NamedTuple):
    """The type of a function.

    Attributes:
        parameters: Name and type of each.
        result: ``None`` where it returns nothing.
        is_async: Whether it is an ``async func``.
    """

    parameters: tuple[tuple[str, Type], ...]
    result: Type | None
    is_async: bool


class Component:
    """A compiled component.

    Args:
        code: The component.
        compiled: What :meth:`leave` left of it in another process; empty when there is nothing.

    Attributes:
        imports: The names of what it imports.
        exports: Functions by their path: the name of the interface (empty for the component itself), and
            that of the function.

    Raises:
        BadArtifact: wasmtime does not accept it.
    """

    def __init__(self, engine: Engine, code: memoryview, compiled: memoryview) -> None:
        self._engine, lib = engine, engine.lib
        component, content = ffi.new("wasmtime_component_t **"), compiled or code
        make = lib.wasmtime_component_deserialize if compiled else lib.wasmtime_component_new
        # SAFETY: wasmtime reads len(content) bytes and keeps no reference to them. Why it may trust a
        # compiled form stands at Engine.revive.
        error = make(engine.engine, ffi.from_buffer("uint8_t[]", content), len(content), component)
        if error:
            raise BadArtifact(f"this is no valid WebAssembly component: {engine.take_error(error)}")
        self._component: Pointer = component[0]
        # SAFETY: the type is ours until it is deleted; nothing of it is kept.
        kind = lib.wasmtime_component_type(self._component)
        self.imports = [
            name
            for name, _ in self._items(
                kind, lib.wasmtime_component_type_import_count, lib.wasmtime_component_type_import_nth
            )
        ]
        self.exports: dict[tuple[str, str], Signature] = {}
        counts = lib.wasmtime_component_type_export_count, lib.wasmtime_component_type_export_nth
        for name, found in self._items(kind, *counts):
            self.exports |= {(name, inner) if inner else ("", name): item for inner, item in found.items()}
        lib.wasmtime_component_type_delete(kind)
        self._linker: Pointer = lib.wasmtime_component_linker_new(engine.engine)

    def _items(
        self, owner: Pointer, count: Callable[..., int], nth: Callable[..., bool]
    ) -> list[tuple[str, dict[str, Signature]]]:
        """Each item with its functions; a function alone has the name ''."""
        lib, engine = self._engine.lib, self._engine.engine
        found: list[tuple[str, dict[str, Signature]]] = []
        name, size = ffi.new("const char **"), ffi.new("size_t *")
        extern, item = ffi.new("wasmtime_component_extern_t **"), ffi.new("wasmtime_component_item_t *")
        for index in range(count(owner, engine)):
            # SAFETY: the name lives as long as the owner and is copied; extern and item are ours, and freed.
            nth(owner, engine, index, name, size, extern)
            text = ffi.unpack(name[0], size[0]).decode() if size[0] else ""
            lib.wasmtime_component_extern_type(extern[0], item)
            functions: dict[str, Signature] = {}
            if item.kind == _FUNCTION:
                functions = {"": self._signature(item.of.component_func)}
            elif item.kind == _INSTANCE:
                inner = self._items(
                    item.of.component_instance,
                    lib.wasmtime_component_instance_type_export_count,
                    lib.wasmtime_component_instance_type_export_nth,
                )
                functions = {key: kinds[""] for key, kinds in inner if "" in kinds}
            found.append((text, functions))
            lib.wasmtime_component_item_delete(item)
            lib.wasmtime_component_extern_delete(extern[0])
        return found

    def _signature(self, function: Pointer) -> Signature:
        lib = self._engine.lib
        name, size, out = (
            ffi.new("const char **"),
            ffi.new("size_t *"),
            ffi.new("wasmtime_component_valtype_t *"),
        )
        parameters = []
        for index in range(lib.wasmtime_component_func_type_param_count(function)):
            # SAFETY: the name lives as long as the type and is copied; _take frees what was put into out.
            lib.wasmtime_component_func_type_param_nth(function, index, name, size, out)
            parameters.append((ffi.unpack(name[0], size[0]).decode(), self._take(out)))
        has_result = lib.wasmtime_component_func_type_result(function, out)
        is_async = lib.wasmtime_component_func_type_async(function)
        return Signature(tuple(parameters), self._take(out) if has_result else None, is_async)

    def _take(self, out: Pointer) -> Type:
        """Copy a type that wasmtime gave to us, and free it."""
        kind, of = out.kind, out.of
        reader = _READERS.get(kind)
        found = Type(kind) if reader is None else reader(self, kind, of)
        again = ffi.new("wasmtime_component_valtype_t *", {"kind": kind, "of": of})
        # SAFETY: kind and pointer are those that wasmtime wrote; nothing of them is kept.
        self._engine.lib.wasmtime_component_valtype_delete(again)
        return found

    def _members(self, kind: int, of: Pointer) -> Type:
        lib = self._engine.lib
        word = {TUPLE: "types", VARIANT: "case", RECORD: "field"}.get(kind, "names")
        prefix = f"wasmtime_component_{_MEMBERS[kind]}_type_{word}"
        count, nth = getattr(lib, f"{prefix}_count"), getattr(lib, f"{prefix}_nth")
        names, inner = [], []
        for index in range(count(of)):
            name, size, has = ffi.new("const char **"), ffi.new("size_t *"), ffi.new("bool *", True)
            out = ffi.new("wasmtime_component_valtype_t *")
            wanted = {RECORD: (name, size, out), TUPLE: (out,), VARIANT: (name, size, has, out)}
            # SAFETY: the name lives as long as the type and is copied; _take frees what was put into out.
            nth(of, index, *wanted.get(kind, (name, size)))
            if kind != TUPLE:
                names.append(ffi.unpack(name[0], size[0]).decode())
            if kind in wanted:
                inner.append(self._take(out) if has[0] else None)
        return Type(kind, tuple(inner), tuple(names))

    def _element(self, kind: int, of: Pointer) -> Type:
        lib, out = self._engine.lib, ffi.new("wasmtime_component_valtype_t *")
        # SAFETY: as above.
        if kind == LIST:
            lib.wasmtime_component_list_type_element(of, out)
        else:
            lib.wasmtime_component_option_type_ty(of, out)
        return Type(kind, (self._take(out),))

    def _sides(self, kind: int, of: Pointer) -> Type:
        lib, out = self._engine.lib, ffi.new("wasmtime_component_valtype_t *")
        # SAFETY: as above.
        ok = self._take(out) if lib.wasmtime_component_result_type_ok(of, out) else None
        err = self._take(out) if lib.wasmtime_component_result_type_err(of, out) else None
        return Type(kind, (ok, err))

    def leave(self, room: memoryview) -> int:
        """Leave the compiled form for another process, if there is room; how many bytes it has."""
        return self._engine.leave(self._engine.lib.wasmtime_component_serialize, self._component, room)

    def instantiate(self, memory_limit: int) -> "ComponentInstance":
        """Make a fresh instance.

        Raises:
            LimitReached: It asks for more memory than it may have.
            PluginRaised: Its start trapped.
        """
        return ComponentInstance(self._engine, self._component, self._linker, memory_limit)

    def close(self) -> None:
        """Free the component. Instances keep what they need of it."""
        # SAFETY: it is ours and used no more; the linker lives as long as the process.
        self._engine.lib.wasmtime_component_delete(self._component)


class ComponentInstance:
    """One instance of a component, in a store of its own."""

    def __init__(self, engine: Engine, component: Pointer, linker: Pointer, memory_limit: int) -> None:
        self._engine, self._component = engine, component
        self._store = Store(engine, memory_limit)
        self._instance: Pointer = ffi.new("wasmtime_component_instance_t *")
        # SAFETY: everything passed is alive; wasmtime writes the instance.
        error = engine.lib.wasmtime_component_linker_instantiate(
            linker, self._store.context, component, self._instance
        )
        if error:
            self.close()
            raise _failure(engine, error)

    def function(self, interface: str, name: str) -> Pointer:
        """An exported function, to be called by ``call``."""
        lib, null = self._engine.lib, ffi.NULL
        outer = inner = null
        # SAFETY: indices are ours and freed; the function is a value that the instance keeps alive.
        if interface:
            outer = lib.wasmtime_component_get_export_index(
                self._component, null, interface.encode(), len(interface.encode())
            )
        inner = lib.wasmtime_component_get_export_index(
            self._component, outer, name.encode(), len(name.encode())
        )
        function = ffi.new("wasmtime_component_func_t *")
        found = inner and lib.wasmtime_component_instance_get_func(
            self._instance, self._store.context, inner, function
        )
        for index in (outer, inner):
            if index:
                lib.wasmtime_component_export_index_delete(index)
        if not found:
            raise BadArtifact(f"the component's export {name!r} cannot be used as a function")
        return function

    def call(self, function: Pointer, args: Pointer, count: int, result: Pointer, has_result: bool) -> None:
        """Call a function with values that stay the caller's; the result is the caller's, too.

        Raises:
            Failure: It trapped, or its result is none of its type.
        """
        # SAFETY: ``args`` has ``count`` values of the function's types; the caller made them from these.
        error = self._engine.lib.wasmtime_component_func_call(
            function, self._store.context, args, count, result, int(has_result)
        )
        if error:
            raise _failure(self._engine, error)

    def close(self) -> None:
        """Free the instance."""
        self._store.close()


def _failure(engine: Engine, error: Pointer) -> BaseException:
    failure = engine.failure(error, ffi.NULL)
    if isinstance(failure, PluginRaised):
        if _NO_STACK in failure.message:
            return LimitReached("stack", f"the plugin's call stack is full: {failure.message}")
        if "limits" in failure.message:
            return LimitReached("memory", f"the component asks for too much: {failure.message}")
    return failure


_READERS: dict[int, Callable[[Component, int, Pointer], Type]] = {
    **dict.fromkeys(_MEMBERS, Component._members),
    **dict.fromkeys((LIST, OPTION), Component._element),
    RESULT: Component._sides,
}
