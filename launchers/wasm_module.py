"""Compiled modules: what they want, what they offer, and how instances are made of them."""

from functools import partial
from typing import Any

from .failures import BadArtifact
from .wasm_engine import Engine
from .wasm_instance import Instance, Store
from .wasm_library import EXTERN_FUNCTION, EXTERN_KINDS, EXTERN_MEMORY, FunctionType, Pointer, ffi


class Module:
    """A compiled module: what it wants, what it offers, and a way to make instances of it.

    Attributes:
        engine: The engine that compiled it.
        imports: ((module, name), type) of each; the type of anything but a function is a word.
        exports: Name to type, likewise.
        memories: Of each exported or imported memory, its pages at the start and at most (None: no limit).
        known: What an ABI found out about it and wants to keep for its next instance.
    """

    def __init__(self, engine: Engine, module: Pointer) -> None:
        self.engine = engine
        self.known: dict[str, Any] = {}
        self.pointer = module
        self._linked: Pointer = None
        self.imports: list[tuple[tuple[str, str], FunctionType | str]] = []
        self.exports: dict[str, FunctionType | str] = {}
        self.memories: dict[str, tuple[int, int | None]] = {}
        lib = engine.lib
        imports, exports = ffi.new("wasm_importtype_vec_t *"), ffi.new("wasm_exporttype_vec_t *")
        # SAFETY: wasmtime fills both vectors; their entries are copied before they are freed.
        lib.wasmtime_module_imports(module, imports)
        for index in range(imports.size):
            item = imports.data[index]
            key = _name(lib.wasm_importtype_module(item)), _name(lib.wasm_importtype_name(item))
            self.imports.append((key, self._type(".".join(key), lib.wasm_importtype_type(item))))
        lib.wasm_importtype_vec_delete(imports)
        lib.wasmtime_module_exports(module, exports)
        for index in range(exports.size):
            item = exports.data[index]
            name = _name(lib.wasm_exporttype_name(item))
            self.exports[name] = self._type(name, lib.wasm_exporttype_type(item))
        lib.wasm_exporttype_vec_delete(exports)

    @classmethod
    def compile(cls, engine: Engine, code: memoryview) -> "Module":
        """Compile a core module.

        Raises:
            BadArtifact: wasmtime does not accept it; the message holds wasmtime's reason.
        """
        module, start = ffi.new("wasmtime_module_t **"), ffi.from_buffer("uint8_t[]", code)
        # SAFETY: wasmtime reads len(code) bytes and keeps no reference to them.
        error = engine.lib.wasmtime_module_new(engine.engine, start, len(code), module)
        if error:
            raise BadArtifact(f"this is no valid WebAssembly module: {engine.take_error(error)}")
        return cls(engine, module[0])

    @classmethod
    def revive(cls, engine: Engine, compiled: memoryview) -> "Module":
        """Make a module of what :meth:`leave` left in another process.

        wasmtime trusts it as its own machine code. So may this process: the host keeps it by the digest of
        the module, and whatever that module made of the compiler, it could have made of this process, too.

        Raises:
            RuntimeError: This engine cannot use it, which the fingerprint should have prevented.
        """
        module, start = ffi.new("wasmtime_module_t **"), ffi.from_buffer("uint8_t[]", compiled)
        # SAFETY: wasmtime reads len(compiled) bytes, of a sealed file, and keeps no reference to them.
        error = engine.lib.wasmtime_module_deserialize(engine.engine, start, len(compiled), module)
        if error:
            raise RuntimeError(f"the compiled form cannot be used: {engine.take_error(error)}")
        return cls(engine, module[0])

    def leave(self, room: memoryview) -> int:
        """Leave the compiled form for :meth:`revive`, if there is room; how many bytes it has."""
        return self.engine.leave(self.engine.lib.wasmtime_module_serialize, self.pointer, room)

    def _type(self, name: str, extern: Pointer) -> FunctionType | str:
        lib = self.engine.lib
        kind = lib.wasm_externtype_kind(extern)
        if kind == EXTERN_MEMORY:
            memory, most = lib.wasm_externtype_as_memorytype_const(extern), ffi.new("uint64_t *")
            # SAFETY: the memory type is a part of the extern type, which the caller keeps alive.
            limited = lib.wasmtime_memorytype_maximum(memory, most)
            self.memories[name] = lib.wasmtime_memorytype_minimum(memory), most[0] if limited else None
        if kind != EXTERN_FUNCTION:
            return EXTERN_KINDS[kind] if kind < len(EXTERN_KINDS) else "something unknown"
        function = lib.wasm_externtype_as_functype_const(extern)
        kinds = self.engine.kinds
        return kinds(lib.wasm_functype_params(function)), kinds(lib.wasm_functype_results(function))

    def functions(self) -> dict[str, FunctionType]:
        """Return the exported functions and their types."""
        return {name: kind for name, kind in self.exports.items() if not isinstance(kind, str)}

    def missing_imports(self) -> list[str]:
        """Describe every import that no host function of the same type satisfies."""
        offered = self.engine.host_types
        return [
            f"{module}.{name} ({describe(kind)})"
            for (module, name), kind in self.imports
            if offered.get((module, name)) != kind
        ]

    def instantiate(self, memory_limit: int) -> Instance:
        """Make a fresh instance; the module's start function runs here.

        Args:
            memory_limit: Bytes that each of its memories may grow to.

        Raises:
            LimitReached: The module asks for more memory than that, or overflowed its stack.
            PluginRaised: The start function trapped.
            BadArtifact: The engine refused the module.
        """
        if self._linked is None:
            linked = ffi.new("wasmtime_instance_pre_t **")
            # SAFETY: linker and module are alive; what comes back is ours until close().
            error = self.engine.lib.wasmtime_linker_instantiate_pre(self.engine.linker, self.pointer, linked)
            if error:
                raise BadArtifact(f"the module cannot be linked: {self.engine.take_error(error)}")
            self._linked = linked[0]
        return Instance(
            Store(self.engine, memory_limit),
            partial(self.engine.lib.wasmtime_instance_pre_instantiate, self._linked),
        )

    def close(self) -> None:
        """Free the module. Instances keep what they need of it."""
        # SAFETY: both are ours and used no more; wasmtime counts references.
        if self._linked is not None:
            self.engine.lib.wasmtime_instance_pre_delete(self._linked)
        self.engine.lib.wasmtime_module_delete(self.pointer)


def describe(kind: FunctionType | str) -> str:
    """Write a type as people do: ``(i32, i32) -> i64``."""
    if isinstance(kind, str):
        return kind
    parameters, results = kind
    returned = results[0] if len(results) == 1 else f"({', '.join(results)})"
    return f"({', '.join(parameters)}) -> {returned}"


def _name(name: Pointer) -> str:
    # SAFETY: a vector of wasmtime's that lives as long as its owner: size bytes at data.
    return ffi.unpack(name.data, name.size).decode("utf-8", "replace") if name.size else ""
