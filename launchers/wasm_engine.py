"""wasmtime's engine: opened once, it holds what modules may import and says why wasm failed."""

import os
from collections.abc import Callable

from .failures import Failure, LimitReached, PluginRaised
from .wasm_library import FunctionType, Pointer, ffi, find_library
from .wasm_memory import Caller

type HostFunction = Callable[[Caller, Pointer], int | None]  # gets its argument slots, returns slot 0

_OPT_LEVEL_SPEED = 1
# Of Engine, for its fingerprint.
_SETTINGS = "speed, no parallel compilation, no images, no unwind info, no moving"
_TRAP_STACK_OVERFLOW = 0
_CALLBACK = "wasm_trap_t *(void *, wasmtime_caller_t *, wasmtime_val_raw_t *, size_t)"


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
        # The addresses that are reserved for a memory are all that a 32-bit one grows to, so none has to
        # move: neither compiled code nor the host (SteadyMemory) need ask where it is.
        lib.wasmtime_config_memory_may_move_set(config, False)
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
        self._host_functions: dict[int, HostFunction] = {}
        self._numbered = 0
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
        # SAFETY: the linker copies names and type. The number of the function travels in place of a pointer,
        # so there is nothing to keep alive and nothing to free.
        functype = self._function_type(signature)
        error = lib.wasmtime_linker_define_func_unchecked(
            linker,
            module.encode(),
            len(module.encode()),
            name.encode(),
            len(name.encode()),
            functype,
            self._callback,
            ffi.cast("void *", self._number(function)),
            ffi.NULL,
        )
        lib.wasm_functype_delete(functype)
        if error:
            raise RuntimeError(self.take_error(error))

    def make(self, context: Pointer, signature: FunctionType, function: HostFunction, out: Pointer) -> int:
        """Make a host function in a store; its number, by which it is to be forgotten when the store is gone.

        Args:
            context: The inside of the store.
            signature: Its type.
            function: What it does.
            out: A ``wasmtime_func_t`` that becomes it.
        """
        number, functype = self._number(function), self._function_type(signature)
        # SAFETY: the context is alive and the type is copied; the number travels in place of a pointer.
        self.lib.wasmtime_func_new_unchecked(
            context, functype, self._callback, ffi.cast("void *", number), ffi.NULL, out
        )
        self.lib.wasm_functype_delete(functype)
        return number

    def forget(self, numbers: list[int]) -> None:
        """Give up host functions that were made in a store which is gone."""
        for number in numbers:
            del self._host_functions[number]
        numbers.clear()

    def _number(self, function: HostFunction) -> int:
        self._numbered += 1
        self._host_functions[self._numbered] = function
        return self._numbered

    def _function_type(self, signature: FunctionType) -> Pointer:
        parameters, results = (self._types(kinds) for kinds in signature)
        # SAFETY: the new type takes both vectors over.
        return self.lib.wasm_functype_new(parameters, results)

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
