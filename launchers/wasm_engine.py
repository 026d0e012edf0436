"""wasmtime through its C API: one engine, compiled modules, live instances.

The Python package ``wasmtime`` is only the carrier of the shared library and is never imported: it
costs 9 MB and its calls 90 us, these declarations 0.1 MB and 1 us.

API: https://docs.wasmtime.dev/c-api/ and the header files of version 50.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from . import _wasmtime_abi
from .failures import BadArtifact, BadValue, Failure, LimitReached, PluginRaised

type Pointer = Any  # what cffi calls CData
type FunctionType = tuple[tuple[str, ...], tuple[str, ...]]  # kinds of the parameters, of the results
type HostFunction = Callable[[Caller, Pointer], int | None]  # gets its argument slots, returns slot 0
type Run = Callable[[], None]

ffi: Any = _wasmtime_abi.ffi  # cffi's type stubs know neither structs nor function pointers

VERSION = "50.0"
_EXTERN_KINDS = ("function", "global", "table", "memory", "tag")
_EXTERN_FUNCTION, _EXTERN_GLOBAL, _EXTERN_TABLE, _EXTERN_MEMORY = range(4)
_I32 = 0
_OPT_LEVEL_SPEED = 1
_SETTINGS = "speed, no parallel compilation, no images, no unwind info"  # of Engine, for its fingerprint
_POINTER_SIZE = 8
_TRAP_STACK_OVERFLOW = 0
_CALLBACK = "wasm_trap_t *(void *, wasmtime_caller_t *, wasmtime_val_raw_t *, size_t)"


def find_library() -> str:
    """Return the path of libwasmtime without importing the package that carries it.

    Raises:
        RuntimeError: The package is missing, is of another version than the declarations in
            ``cdefs/wasmtime.cdef``, or has no library for this machine.
    """
    wanted = f"install it with: pip install 'wasmtime=={VERSION}.*'"
    for folder in sys.path:
        if os.path.isfile(os.path.join(folder, "wasmtime", "__init__.py")):
            break
    else:
        raise RuntimeError(f"the WASM launcher needs the package wasmtime; {wanted}")
    versions = [
        name.removeprefix("wasmtime-").removesuffix(".dist-info")
        for name in os.listdir(folder)
        if name.startswith("wasmtime-") and name.endswith(".dist-info")
    ]
    if len(versions) != 1 or not versions[0].startswith(f"{VERSION}."):
        found = " and ".join(versions) or "one without a version"
        raise RuntimeError(
            f"the WASM launcher is made for wasmtime {VERSION}, and {folder} holds {found}; {wanted}"
        )
    path = os.path.join(folder, "wasmtime", f"{sys.platform}-{os.uname().machine}", "_libwasmtime.so")
    if not os.path.isfile(path):
        raise RuntimeError(f"wasmtime {versions[0]} carries no library for this machine: {path} is missing")
    return path


class Memory:
    """The linear memory of an instance; every access is checked against its present size."""

    __slots__ = ("_context", "_data", "_extern", "_memory", "_size")

    def __init__(self, lib: Pointer, context: Pointer, extern: Pointer) -> None:
        self._extern = extern
        self._memory = ffi.addressof(extern.of, "memory")
        self._context = context
        self._data, self._size = lib.wasmtime_memory_data, lib.wasmtime_memory_data_size

    def __len__(self) -> int:
        return int(self._size(self._context, self._memory))

    def read(self, address: int, length: int) -> bytes:
        """Copy ``length`` bytes out.

        Raises:
            BadValue: They do not all lie inside the memory.
        """
        if address + length > self._size(self._context, self._memory):
            raise self._outside(address, length)
        # SAFETY: both numbers are unsigned and their range was just checked; nothing runs in
        # between; unpack copies.
        data: bytes = ffi.unpack(self._data(self._context, self._memory) + address, length)
        return data

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Copy ``data`` in.

        Raises:
            BadValue: It does not fit inside the memory at that address.
        """
        if address + len(data) > self._size(self._context, self._memory):
            raise self._outside(address, len(data))
        # SAFETY: as in read().
        ffi.memmove(self._data(self._context, self._memory) + address, data, len(data))

    def _outside(self, address: int, length: int) -> BadValue:
        return BadValue(
            f"the plugin points at {length} bytes at address {address}, "
            f"outside its memory of {len(self)} bytes"
        )


class Caller:
    """The instance that is calling a host function; valid until that function returns."""

    __slots__ = ("_caller", "_lib")

    def __init__(self, lib: Pointer, caller: Pointer) -> None:
        self._lib = lib
        self._caller = caller

    @property
    def context(self) -> Pointer:
        """The store of the calling instance."""
        # SAFETY: the caller is valid (see Engine._call_host).
        return self._lib.wasmtime_caller_context(self._caller)

    def memory(self) -> Memory:
        """Return the memory that the calling module exports.

        Raises:
            PluginRaised: It exports none.
        """
        extern = ffi.new("wasmtime_extern_t *")
        # SAFETY: the caller is valid (see Engine._call_host), the extern is ours.
        found = self._lib.wasmtime_caller_export_get(self._caller, b"memory", 6, extern)
        if not found or extern.kind != _EXTERN_MEMORY:
            raise PluginRaised("a host function needs the plugin's memory, but the module exports none")
        return Memory(self._lib, self.context, extern)


class Engine:
    """wasmtime itself: opened and configured once in the launcher, shared by its forks.

    Attributes:
        lib: The shared library.
        fingerprint: What decides the compiled form of a module besides the module and the processor.
        host_types: What modules may import: (module, name) to the type of the host function.
    """

    def __init__(self) -> None:
        library = find_library()
        self.lib: Pointer = ffi.dlopen(library)
        lib = self.lib
        config = lib.wasm_config_new()
        # Compiling in parallel starts a thread pool, and a fork would lose its threads.
        lib.wasmtime_config_parallel_compilation_set(config, False)
        lib.wasmtime_config_cranelift_opt_level_set(config, _OPT_LEVEL_SPEED)
        # A copy-on-write image of the memory would need memfd_create in the jailed child, and
        # would save nothing there: each process has one instance.
        lib.wasmtime_config_memory_init_cow_set(config, False)
        # Nobody unwinds through wasm frames; wasmtime's own backtraces use frame pointers.
        lib.wasmtime_config_native_unwind_info_set(config, False)
        # SAFETY: the engine takes the config over. Engine, linker, callback and value types live
        # as long as the process.
        self.engine: Pointer = lib.wasm_engine_new_with_config(config)
        self.fingerprint = f"{library} {os.stat(library).st_mtime_ns} {_SETTINGS}"
        self.linker: Pointer = lib.wasmtime_linker_new(self.engine)
        # The last definition counts: two modules may import one name with different types.
        lib.wasmtime_linker_allow_shadowing(self.linker, True)
        self._callback: Pointer = ffi.callback(_CALLBACK, self._call_host)
        numbers = {"i32": 0, "i64": 1, "f32": 2, "f64": 3, "externref": 128, "funcref": 129}
        self._kinds = {kind: lib.wasm_valtype_new(number) for kind, number in numbers.items()}
        self._kinds["v128"] = lib.wasmtime_wasm_valtype_v128()
        self._numbers = numbers
        self._host_functions: list[HostFunction] = []
        self._raised: BaseException | None = None
        self.host_types: dict[tuple[str, str], FunctionType] = {}

    def define(self, module: str, name: str, signature: FunctionType, function: HostFunction) -> None:
        """Offer a host function to every module compiled later."""
        self.define_in(self.linker, module, name, signature, function)
        self.host_types[module, name] = signature

    def define_in(
        self, linker: Pointer, module: str, name: str, signature: FunctionType, function: HostFunction
    ) -> None:
        """Offer a host function to what is linked by one linker; it is kept as long as the process."""
        lib = self.lib
        parameters, results = (self._types(kinds) for kinds in signature)
        # SAFETY: the new type takes both vectors over; the linker copies names and type. The index
        # travels in place of a pointer, so there is nothing to keep alive and nothing to free.
        functype = lib.wasm_functype_new(parameters, results)
        error = lib.wasmtime_linker_define_func_unchecked(
            linker,
            module.encode(),
            len(module.encode()),
            name.encode(),
            len(name.encode()),
            functype,
            self._callback,
            ffi.cast("void *", len(self._host_functions)),
            ffi.NULL,
        )
        lib.wasm_functype_delete(functype)
        if error:
            raise RuntimeError(self.take_error(error))
        self._host_functions.append(function)

    def _types(self, kinds: tuple[str, ...]) -> Pointer:
        vector = ffi.new("wasm_valtype_vec_t *")
        # SAFETY: wasmtime allocates room for len(kinds) pointers, and each is set here.
        self.lib.wasm_valtype_vec_new_uninitialized(vector, len(kinds))
        for index, kind in enumerate(kinds):
            vector.data[index] = self.lib.wasm_valtype_new(self._numbers[kind])
        return vector

    def _call_host(self, index: Pointer, caller: Pointer, slots: Pointer, _count: int) -> Pointer:
        # SAFETY: caller and slots are valid until this function returns; the slots are of the type
        # that define() was given. No exception may cross the wasm frames below: it waits in
        # _raised, and wasmtime takes over the trap that ends them.
        try:
            result = self._host_functions[int(ffi.cast("size_t", index))](Caller(self.lib, caller), slots)
            if result is not None:
                slots[0].u64 = result
        except BaseException as reason:
            self._raised = reason
            return self.lib.wasmtime_trap_new(b"", 0)
        return ffi.NULL

    def compile(self, code: memoryview) -> "Module":
        """Compile a core module.

        Raises:
            BadArtifact: wasmtime does not accept it; the message holds wasmtime's reason.
        """
        module, start = ffi.new("wasmtime_module_t **"), ffi.from_buffer("uint8_t[]", code)
        # SAFETY: wasmtime reads len(code) bytes and keeps no reference to them.
        error = self.lib.wasmtime_module_new(self.engine, start, len(code), module)
        if error:
            raise BadArtifact(f"this is no valid WebAssembly module: {self.take_error(error)}")
        return Module(self, module[0])

    def revive(self, compiled: memoryview) -> "Module":
        """Make a module of what :meth:`Module.leave` left in another process.

        wasmtime trusts it as its own machine code. So may this process: the host keeps it by the digest of
        the module, and whatever that module made of the compiler, it could have made of this process, too.

        Raises:
            RuntimeError: This engine cannot use it, which the fingerprint should have prevented.
        """
        module, start = ffi.new("wasmtime_module_t **"), ffi.from_buffer("uint8_t[]", compiled)
        # SAFETY: wasmtime reads len(compiled) bytes, of a sealed file, and keeps no reference to them.
        error = self.lib.wasmtime_module_deserialize(self.engine, start, len(compiled), module)
        if error:
            raise RuntimeError(f"the compiled form cannot be used: {self.take_error(error)}")
        return Module(self, module[0])

    def leave(self, serialize: Callable[..., Pointer], what: Pointer, room: memoryview) -> int:
        """Write a compiled form into ``room``, if there is enough; how many bytes it has."""
        if not room:
            return 0
        compiled = ffi.new("wasm_byte_vec_t *")
        error = serialize(what, compiled)
        if error:
            self.take_error(error)
            return 0
        size: int = compiled.size
        if size <= len(room):
            # SAFETY: wasmtime filled size bytes at data, and room is writable and has as many.
            ffi.memmove(ffi.from_buffer("char[]", room, require_writable=True), compiled.data, size)
        self.lib.wasm_byte_vec_delete(compiled)
        return size if size <= len(room) else 0

    def assemble(self, text: bytes) -> bytes:
        """Turn the text format into a binary module; for Frys's own modules, never for a plugin's."""
        module = ffi.new("wasm_byte_vec_t *")
        # SAFETY: wasmtime reads len(text) bytes; what it wrote is copied before it is freed.
        error = self.lib.wasmtime_wat2wasm(text, len(text), module)
        if error:
            raise RuntimeError(self.take_error(error))
        code: bytes = ffi.unpack(module.data, module.size)
        self.lib.wasm_byte_vec_delete(module)
        return code

    def trim(self) -> None:
        """Give back what compiling left free: about a hundred times the size of the module."""
        self.lib.malloc_trim(0)

    def kinds(self, types: Pointer) -> tuple[str, ...]:
        """Name the types in a vector of value types that the caller keeps alive."""
        equal, kinds = self.lib.wasmtime_wasm_valtype_equal, self._kinds.items()
        return tuple(
            next((kind for kind, known in kinds if equal(types.data[index], known)), "reference")
            for index in range(types.size)
        )

    @property
    def host_raised(self) -> bool:
        """Whether the call into wasm that just failed was ended by an exception of a host function."""
        return self._raised is not None

    def failure(self, error: Pointer, trap: Pointer) -> BaseException:
        """Turn what a call into wasm gave back (one of the two is set) into something to raise.

        An exception of a host function comes back as it was.
        """
        raised, self._raised = self._raised, None
        code, text = ffi.new("uint8_t *", 255), ffi.new("wasm_byte_vec_t *")
        # SAFETY: error or trap is ours; what it says is copied before it is freed.
        if trap:
            self.lib.wasmtime_trap_code(trap, code)
            self.lib.wasm_trap_message(trap, text)
            self.lib.wasm_trap_delete(trap)
        else:
            self.lib.wasmtime_error_message(error, text)
            self.lib.wasmtime_error_delete(error)
        failure = _explain(code[0], self._take_text(text))
        return raised or failure

    def take_error(self, error: Pointer) -> str:
        """Return the text of an error in one line, and free it."""
        text = ffi.new("wasm_byte_vec_t *")
        # SAFETY: the error is ours; its text is a copy.
        self.lib.wasmtime_error_message(error, text)
        self.lib.wasmtime_error_delete(error)
        lines = (line.strip() for line in self._take_text(text).replace("Caused by:", "").splitlines())
        return ": ".join(line.rstrip(":") for line in lines if line)

    def _take_text(self, text: Pointer) -> str:
        # SAFETY: a vector that wasmtime filled and gave to us: size bytes at data.
        data = ffi.unpack(text.data, text.size) if text.size else b""
        self.lib.wasm_byte_vec_delete(text)
        return data.decode("utf-8", "replace").rstrip("\0")


def _explain(code: int, text: str) -> Failure:
    backtrace, _, causes = text.partition("\n\nCaused by:\n")
    # Several causes are numbered lines, the trap itself last.
    lines = [line.strip().lstrip("0123456789").removeprefix(": ") for line in (causes or text).splitlines()]
    *circumstances, reason = lines or ["unknown"]
    reason = ": ".join([reason.removeprefix("wasm trap: "), *circumstances])
    if code == _TRAP_STACK_OVERFLOW:
        return LimitReached("stack", f"the plugin's call stack is full: {reason}")
    if reason.startswith("GC heap out of memory"):
        return LimitReached("memory", f"the plugin's objects are too many: {reason}")
    return PluginRaised(f"wasm trap: {reason}", backtrace)


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

    def leave(self, room: memoryview) -> int:
        """Leave the compiled form for :meth:`Engine.revive`, if there is room; how many bytes it has."""
        return self.engine.leave(self.engine.lib.wasmtime_module_serialize, self.pointer, room)

    def _type(self, name: str, extern: Pointer) -> FunctionType | str:
        lib = self.engine.lib
        kind = lib.wasm_externtype_kind(extern)
        if kind == _EXTERN_MEMORY:
            memory, most = lib.wasm_externtype_as_memorytype_const(extern), ffi.new("uint64_t *")
            # SAFETY: the memory type is a part of the extern type, which the caller keeps alive.
            limited = lib.wasmtime_memorytype_maximum(memory, most)
            self.memories[name] = lib.wasmtime_memorytype_minimum(memory), most[0] if limited else None
        if kind != _EXTERN_FUNCTION:
            return _EXTERN_KINDS[kind] if kind < len(_EXTERN_KINDS) else "something unknown"
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

    def instantiate(self, memory_limit: int) -> "Instance":
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


class Store:
    """What instances live in: one alone, or several that are linked to each other.

    Args:
        memory_limit: Bytes that each memory in it may grow to.
    """

    def __init__(self, engine: Engine, memory_limit: int) -> None:
        self.engine = engine
        lib = engine.lib
        self._store: Pointer = lib.wasmtime_store_new(engine.engine, ffi.NULL, ffi.NULL)
        lib.wasmtime_store_limiter(self._store, memory_limit, memory_limit // _POINTER_SIZE, -1, -1, -1)
        # SAFETY: the context is a part of the store, which is ours until close().
        self.context: Pointer = lib.wasmtime_store_context(self._store)
        self.trap: Pointer = ffi.new("wasm_trap_t *[1]")

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
        extern = self._export(name, _EXTERN_FUNCTION)
        return Entry(self._engine, self.context, extern, max(map(len, signature)), self._store.trap)

    def memory(self, name: str = "memory") -> Memory:
        """Return a memory that the module exports."""
        return Memory(self._engine.lib, self.context, self._export(name, _EXTERN_MEMORY))

    def memory_size(self) -> int:
        """Bytes of the memory that the module exports as ``memory``; 0 when it exports none."""
        return len(self.memory()) if self._find("memory", _EXTERN_MEMORY) else 0

    def number(self, name: str) -> int:
        """Return the value of an exported global of type i32.

        Raises:
            BadArtifact: It is none.
        """
        value = ffi.new("wasmtime_val_t *")
        extern = self._export(name, _EXTERN_GLOBAL)
        # SAFETY: context and global belong together; wasmtime fills the value, which is no reference if it
        # is an i32, and is given back if it is one.
        self._engine.lib.wasmtime_global_get(self.context, ffi.addressof(extern.of, "global"), value)
        if value.kind != _I32:
            self._engine.lib.wasmtime_val_unroot(value)
            raise BadArtifact(f"the module's global {name!r} is no i32")
        return int(value.of.i32)

    def table(self, name: str) -> Pointer:
        """Return an exported table, as ``wasm_references`` takes it."""
        return self._export(name, _EXTERN_TABLE)

    def _export(self, name: str, kind: int) -> Pointer:
        extern = self._find(name, kind)
        if extern is None:
            raise BadArtifact(f"the module's export {name!r} cannot be used as a {_EXTERN_KINDS[kind]}")
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
