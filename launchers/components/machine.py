"""Core modules of a component, run by the engine in one store."""

from typing import NamedTuple

from ..failures import BadArtifact, LimitReached
from ..wasm_engine import Engine, HostFunction
from ..wasm_instance import Entry, Store
from ..wasm_library import EXTERN_FUNCTION, EXTERN_MEMORY, FunctionType, Pointer, ffi
from ..wasm_memory import Memory
from ..wasm_module import Module, describe


class CoreItem(NamedTuple):
    """An export of a core instance.

    Attributes:
        extern: wasmtime's structure.
        kind: Its type, of anything but a function a word.
    """

    extern: Pointer
    kind: FunctionType | str


class Machine:
    """A store, and the modules that become instances in it.

    Args:
        modules: All core modules of the component, by number.
        memory_limit: Bytes that each memory may grow to.
    """

    def __init__(self, engine: Engine, modules: list[Module], memory_limit: int) -> None:
        self._engine, self._modules = engine, modules
        self._store = Store(engine, memory_limit)
        self._functions: list[int] = []
        self._entries: dict[tuple[int, FunctionType], Entry] = {}

    def instantiate(self, number: int, given: dict[str, dict[str, CoreItem]]) -> dict[str, CoreItem]:
        """Make an instance of a module; what it exports.

        Raises:
            BadArtifact: What it imports is not given, or is of another type.
            Failure: Its start function failed.
        """
        module, store = self._modules[number], self._store
        imports = ffi.new("wasmtime_extern_t[]", max(len(module.imports), 1))
        for index, ((space, name), kind) in enumerate(module.imports):
            item = given.get(space, {}).get(name)
            if item is None:
                raise BadArtifact(f"a module of the component imports {space}.{name}, which nobody gives it")
            if not isinstance(kind, str) and item.kind != kind:
                raise BadArtifact(
                    f"a module of the component imports {space}.{name} as {describe(kind)}, and is given "
                    f"{describe(item.kind)}"
                )
            imports[index] = item.extern[0]
        instance = ffi.new("wasmtime_instance_t *")
        # SAFETY: everything passed is alive and of this store; wasmtime checks the types, and writes the
        # instance and perhaps the trap.
        error = self._engine.lib.wasmtime_instance_new(
            store.context, module.pointer, imports, len(module.imports), instance, store.trap
        )
        if store.trap[0] or (error and self._engine.host_raised):
            trap, store.trap[0] = store.trap[0], ffi.NULL
            raise self._engine.failure(error, trap)
        if error:
            reason = self._engine.take_error(error)
            if "limits" in reason:
                raise LimitReached("memory", f"the component asks for too much: {reason}")
            raise BadArtifact(f"the component cannot be instantiated: {reason}")
        return {name: CoreItem(self._extern(instance, name), kind) for name, kind in module.exports.items()}

    def _extern(self, instance: Pointer, name: str) -> Pointer:
        extern, data = ffi.new("wasmtime_extern_t *"), name.encode()
        # SAFETY: context and instance are alive, the extern is ours; the module exports that name.
        self._engine.lib.wasmtime_instance_export_get(self._store.context, instance, data, len(data), extern)
        return extern

    def host_function(self, kind: FunctionType, run: HostFunction) -> CoreItem:
        """Make a core function of a function of ours."""
        extern = ffi.new("wasmtime_extern_t *")
        extern.kind = EXTERN_FUNCTION
        function = ffi.addressof(extern.of, "func")
        self._functions.append(self._engine.make(self._store.context, kind, run, function))
        return CoreItem(extern, kind)

    def entry(self, item: CoreItem | None, kind: FunctionType) -> Entry:
        """A core function, to be called.

        Raises:
            BadArtifact: It is none of that type.
        """
        if item is None or item.extern.kind != EXTERN_FUNCTION or item.kind != kind:
            found = "nothing" if item is None else describe(item.kind)
            raise BadArtifact(f"the component uses {found} as the core function {describe(kind)}")
        count = max(map(len, kind))
        return Entry(self._engine, self._store.context, item.extern, count, self._store.trap)

    def memory(self, item: CoreItem | None) -> Memory:
        """A memory.

        Raises:
            BadArtifact: It is none.
        """
        if item is None or item.extern.kind != EXTERN_MEMORY:
            raise BadArtifact("the component uses something as a memory that is none")
        return Memory(self._engine.lib, self._store.context, item.extern)

    def close(self) -> None:
        """Free all instances."""
        self._store.close()
        self._engine.forget(self._functions)
