"""What a module's externrefs stand for: values of the host, kept as long as the module can reach them.

A reference carries a number; the value waits here under that number until wasmtime's collector finds
the reference gone, or its store is freed.
"""

import itertools

from .failures import LimitReached
from .wasm_engine import Engine, Pointer, ffi

_MOST_VALUES = 1 << 15
_EXTERNREF = 6  # WASMTIME_EXTERNREF of wasmtime/val.h
_FINALIZER = "void(void *)"


class References:
    """The values behind the externrefs of every instance of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lib = engine.lib
        self._values: dict[int, object] = {}
        self._numbers = itertools.count(1)
        self._finalizer: Pointer = ffi.callback(_FINALIZER, self._forget)

    def _forget(self, number: Pointer) -> None:
        self._values.pop(int(ffi.cast("size_t", number)), None)

    def new(self, context: Pointer, value: object) -> int:
        """Make a reference to a value, in the raw form that argument and result slots take.

        It stays good until wasm code has it or the next collection, whichever comes first.

        Raises:
            LimitReached: There are too many, also after a collection.
        """
        reference = self._make(context, value)
        # SAFETY: the reference is ours until unroot(); its raw form lives on in the store.
        raw = int(self._lib.wasmtime_externref_to_raw(context, reference))
        self._lib.wasmtime_externref_unroot(reference)
        return raw

    def _make(self, context: Pointer, value: object) -> Pointer:
        if len(self._values) >= _MOST_VALUES:
            self._collect(context)
        if len(self._values) >= _MOST_VALUES:
            raise LimitReached("memory", f"the plugin holds more than {_MOST_VALUES} values of its host")
        number, reference = next(self._numbers), ffi.new("wasmtime_externref_t *")
        self._values[number] = value
        # SAFETY: the context is alive; the number travels in place of a pointer, and the callback
        # lives as long as the engine.
        made = self._lib.wasmtime_externref_new(
            context, ffi.cast("void *", number), self._finalizer, reference
        )
        if not made:
            self._values.pop(number, None)
            raise LimitReached("memory", "the plugin's references to values of its host fill its memory")
        return reference

    def _collect(self, context: Pointer) -> None:
        # SAFETY: the context is alive, and raw references are only kept by wasm frames, which
        # wasmtime knows.
        error = self._lib.wasmtime_context_gc(context)
        if error:
            raise LimitReached("memory", self._engine.take_error(error))

    def value(self, context: Pointer, raw: int) -> object:
        """Return what a raw reference stands for; ``None`` for the null reference."""
        if not raw:
            return None
        reference = ffi.new("wasmtime_externref_t *")
        # SAFETY: the raw form was just handed over by wasm code of this store.
        self._lib.wasmtime_externref_from_raw(context, raw, reference)
        return self._take(context, reference)

    def _take(self, context: Pointer, reference: Pointer) -> object:
        # SAFETY: the reference is ours, and given back here; its data is a number.
        number = int(ffi.cast("size_t", self._lib.wasmtime_externref_data(context, reference)))
        self._lib.wasmtime_externref_unroot(reference)
        return self._values.get(number)

    def in_table(self, context: Pointer, extern: Pointer, index: int) -> object:
        """Return what stands in a table of externrefs; ``None`` for nothing, or behind its end."""
        value, table = ffi.new("wasmtime_val_t *"), ffi.addressof(extern.of, "table")
        # SAFETY: context and table belong together; wasmtime checks the index and fills the value.
        if not self._lib.wasmtime_table_get(context, table, index, value):
            return None
        if value.kind != _EXTERNREF or not value.of.externref.store_id:
            self._lib.wasmtime_val_unroot(value)
            return None
        return self._take(context, ffi.addressof(value.of, "externref"))

    def append(self, context: Pointer, extern: Pointer, values: list[object]) -> int:
        """Let a table of externrefs grow by some values, and return the index of the first.

        Raises:
            LimitReached: It cannot grow so far.
        """
        first, value = ffi.new("uint64_t *"), ffi.new("wasmtime_val_t *")
        value.kind = _EXTERNREF
        # SAFETY: context and table belong together; a zeroed externref is the null reference.
        table = ffi.addressof(extern.of, "table")
        error = self._lib.wasmtime_table_grow(context, table, len(values), value, first)
        if error:
            raise LimitReached("memory", f"a table cannot grow: {self._engine.take_error(error)}")
        for index, item in enumerate(values):
            self.put(context, extern, first[0] + index, item)
        return int(first[0])

    def put(self, context: Pointer, extern: Pointer, index: int, value: object) -> None:
        """Set an element of a table of externrefs.

        Raises:
            LimitReached: There is no such element.
        """
        reference, slot = self._make(context, value), ffi.new("wasmtime_val_t *")
        slot.kind, slot.of.externref = _EXTERNREF, reference[0]
        table = ffi.addressof(extern.of, "table")
        # SAFETY: as above; wasmtime copies the reference into the table.
        error = self._lib.wasmtime_table_set(context, table, index, slot)
        self._lib.wasmtime_externref_unroot(reference)
        if error:
            raise LimitReached("memory", f"a table is too small: {self._engine.take_error(error)}")
