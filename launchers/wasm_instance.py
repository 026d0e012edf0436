"""Live instances of modules: the store they are in, their exports, and the calls into them."""

from collections.abc import Callable

from .failures import BadArtifact, LimitReached
from .wasm_engine import Engine
from .wasm_library import (
    EXTERN_FUNCTION,
    EXTERN_GLOBAL,
    EXTERN_KINDS,
    EXTERN_MEMORY,
    EXTERN_TABLE,
    FunctionType,
    Pointer,
    ffi,
)
from .wasm_memory import Memory, SteadyMemory

type Run = Callable[[], None]

_I32 = 0
_POINTER_SIZE = 8


class Store:
    """What instances live in: one alone, or several that are linked to each other.

    Args:
        memory_limit: Bytes that each memory in it may grow to.
    """

    def __init__(self, engine: Engine, memory_limit: int) -> None:
        self.engine = engine
        lib = engine.lib
        self._store: Pointer = lib.wasmtime_store_new(engine.engine, ffi.NULL, ffi.NULL)
        self.limit_memory(memory_limit)
        # SAFETY: the context is a part of the store, which is ours until close().
        self.context: Pointer = lib.wasmtime_store_context(self._store)
        self.trap: Pointer = ffi.new("wasm_trap_t *[1]")

    def limit_memory(self, limit: int) -> None:
        """Let each memory grow to ``limit`` bytes from now on."""
        # SAFETY: the store is ours until close().
        self.engine.lib.wasmtime_store_limiter(self._store, limit, limit // _POINTER_SIZE, -1, -1, -1)

    def close(self) -> None:
        """Free all instances and their memories; a second time does nothing."""
        # SAFETY: the owner drops what came from the instances.
        if self._store is not None:
            self.engine.lib.wasmtime_store_delete(self._store)
            self._store = None


class Instance:
    """One instance of a module.

    Args:
        store: Where it lives; closed with the instance, and when there is none to be had.
        start: The function of wasmtime's that makes it, but for its last three parameters.

    Attributes:
        context: The inside of the store.
        beside: Other instances in the store that it is linked to, by the name it imports from.
        spent: Whether the call that just ended left nothing that another one could use.
    """

    def __init__(self, store: Store, start: Callable[..., Pointer]) -> None:
        self._store = store
        self._engine = engine = store.engine
        self.context = store.context
        self.pointer: Pointer = ffi.new("wasmtime_instance_t *")
        self.beside: dict[str, Instance] = {}
        self.spent = False
        # SAFETY: context and trap are the store's; wasmtime writes the instance and perhaps the trap.
        error = start(store.context, self.pointer, store.trap)
        if store.trap[0] or engine.host_raised:
            self.close()
            raise engine.failure(error, store.trap[0])
        if error:
            self.close()
            reason = engine.take_error(error)
            if "limits" in reason:
                raise LimitReached("memory", f"the module asks for too much: {reason}")
            raise BadArtifact(f"the module cannot be instantiated: {reason}")

    def close(self) -> None:
        """Free the instance and its memory; nothing made from it may be used afterwards."""
        self._store.close()

    def entry(self, name: str, signature: FunctionType) -> "Entry":
        """Return an exported function, ready to be called often."""
        extern = self._export(name, EXTERN_FUNCTION)
        return Entry(self._engine, self.context, extern, max(map(len, signature)), self._store.trap)

    def memory(self, name: str = "memory") -> Memory:
        """Return a memory that the module exports."""
        return Memory(self._engine.lib, self.context, self._export(name, EXTERN_MEMORY))

    def steady_memory(self, name: str) -> SteadyMemory:
        """The same, where it is known never to move."""
        return SteadyMemory(self._engine.lib, self.context, self._export(name, EXTERN_MEMORY))

    def memory_size(self) -> int:
        """Bytes of the memory that the module exports as ``memory``; 0 when it exports none."""
        return len(self.memory()) if self._find("memory", EXTERN_MEMORY) else 0

    def largest_memory(self) -> int:
        """Bytes of the largest memory, of this instance and of those beside it."""
        return max(map(Instance.memory_size, (self, *self.beside.values())))

    def limit_memory(self, limit: int) -> None:
        """Let each memory grow to ``limit`` bytes from now on."""
        self._store.limit_memory(limit)

    def number(self, name: str) -> int:
        """Return the value of an exported global of type i32.

        Raises:
            BadArtifact: It is none.
        """
        value = ffi.new("wasmtime_val_t *")
        extern = self._export(name, EXTERN_GLOBAL)
        # SAFETY: context and global belong together; wasmtime fills the value, which is no reference if it
        # is an i32, and is given back if it is one.
        self._engine.lib.wasmtime_global_get(self.context, ffi.addressof(extern.of, "global"), value)
        if value.kind != _I32:
            self._engine.lib.wasmtime_val_unroot(value)
            raise BadArtifact(f"the module's global {name!r} is no i32")
        return int(value.of.i32)

    def table(self, name: str) -> Pointer:
        """Return an exported table, as ``wasm_references`` takes it."""
        return self._export(name, EXTERN_TABLE)

    def _export(self, name: str, kind: int) -> Pointer:
        extern = self._find(name, kind)
        if extern is None:
            raise BadArtifact(f"the module's export {name!r} cannot be used as a {EXTERN_KINDS[kind]}")
        return extern

    def _find(self, name: str, kind: int) -> Pointer:
        extern = ffi.new("wasmtime_extern_t *")
        data = name.encode()
        # SAFETY: context and instance are alive, the extern is ours.
        found = self._engine.lib.wasmtime_instance_export_get(
            self.context, self.pointer, data, len(data), extern
        )
        return extern if found and extern.kind == kind else None


class Entry:
    """An exported function and its argument slots, which hold the results after the call.

    Attributes:
        words: The slots as ``uint64_t``: ``words[2 * n]`` is slot ``n``, an i32 its lower half.
        window: The same memory as a writable buffer, 16 bytes a slot.
        run: Makes the call; raises what ``Engine.failure`` says.
    """

    __slots__ = ("run", "window", "words")

    def __init__(self, engine: Engine, context: Pointer, extern: Pointer, count: int, trap: Pointer) -> None:
        slots = ffi.new("wasmtime_val_raw_t[]", max(count, 1))
        self.words: Pointer = ffi.cast("uint64_t *", slots)
        self.window: Pointer = ffi.buffer(slots)
        function, null = ffi.addressof(extern.of, "func"), ffi.NULL
        call, failure = engine.lib.wasmtime_func_call_unchecked, engine.failure

        def run(_keep: Pointer = extern) -> None:
            # SAFETY: wasmtime reads and writes ``count`` slots, the number that the function's
            # type in the module asks for. This closure keeps slots and extern; the context lives
            # as long as the instance.
            error = call(context, function, slots, count, trap)
            if error or trap[0]:
                raised, trap[0] = trap[0], null
                raise failure(error, raised)

        self.run: Run = run
