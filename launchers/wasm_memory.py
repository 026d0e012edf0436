"""The memory of a plugin, as the host reads and writes it, and the instance that calls the host."""

from typing import override

from .failures import BadValue, PluginRaised
from .wasm_library import EXTERN_MEMORY, Pointer, ffi


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

    def lend(self, address: int, length: int) -> memoryview:
        """A view of ``length`` bytes, good until anything of the instance runs or ends.

        Raises:
            BadValue: They do not all lie inside the memory.
        """
        if address + length > self._size(self._context, self._memory):
            raise self._outside(address, length)
        # SAFETY: as in read(), but that the caller copies.
        return memoryview(ffi.buffer(self._data(self._context, self._memory) + address, length))

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


class SteadyMemory(Memory):
    """A memory that never moves, so that where it lies is asked once: a third of the time of each access.

    The engine is configured so (``memory_may_move``): a memory that has no room where it is does not grow.
    """

    __slots__ = ("_base", "_known")

    def __init__(self, lib: Pointer, context: Pointer, extern: Pointer) -> None:
        super().__init__(lib, context, extern)
        self._base, self._known = self._data(context, self._memory), len(self)

    def window(self, length: int) -> Pointer:
        """The first bytes as a buffer, to be read without asking; there must be as many."""
        # SAFETY: the memory neither moves nor shrinks; the buffer must not outlive the instance.
        return ffi.buffer(self._base, length)

    @override
    def read(self, address: int, length: int) -> bytes:
        if address + length > self._known:
            self._check(address, length)
        # SAFETY: both numbers are unsigned and inside of what there was, which never becomes less.
        data: bytes = ffi.unpack(self._base + address, length)
        return data

    @override
    def write(self, address: int, data: bytes | memoryview) -> None:
        if address + len(data) > self._known:
            self._check(address, len(data))
        # SAFETY: as in read().
        ffi.memmove(self._base + address, data, len(data))

    def _check(self, address: int, length: int) -> None:
        self._known = len(self)
        if address + length > self._known:
            raise self._outside(address, length)


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
        if not found or extern.kind != EXTERN_MEMORY:
            raise PluginRaised("a host function needs the plugin's memory, but the module exports none")
        return Memory(self._lib, self.context, extern)
