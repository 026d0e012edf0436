"""Plugins that declare their C functions: any function of any library, called with plain values."""

import _cffi_backend as backend

from ._native_abi import ffi
from .failures import BadArguments, BadArtifact, NoSuchFunction
from .native_binding import Context
from .native_call import CFunction
from .native_callbacks import Callbacks, Collections
from .native_declarations import Declared
from .native_entries import Entries
from .native_handles import Handles
from .native_library import CType, Library, flush_output, release_function
from .native_memory import Shapes
from .native_options import Mapping, Options
from .values import Value

_SHARE_OF_RECORDS = 4


class CdefPlugin:
    """The functions of one library that ``native.cdef`` declares.

    What can be called is what ``native.functions`` names, with all that it says about buffers, structs,
    handles, callbacks, defaults and failures. Without it, it is every declared function under its own name
    whose parameters and result are plain values.

    Attributes:
        deadline: Unused: nothing here could interrupt a C function; the host ends the process.

    Raises:
        BadArtifact: The declarations do not parse, or a mapping does not fit its C function.
    """

    def __init__(self, library: Library, options: Options, entries: Entries, memory_limit: int) -> None:
        self.deadline = 0.0
        self._declared = Declared(options.cdef, library)
        handles, collections = Handles(), Collections(memory_limit // _SHARE_OF_RECORDS)
        shapes = Shapes(memory_limit, handles)
        callbacks = Callbacks(options.callbacks, shapes, collections, entries)
        ends = _handles(options, self._declared, handles)
        self._context = Context(
            self._declared, shapes, handles, ends, callbacks, collections, memory_limit, release_function()
        )
        self._functions: dict[str, CFunction] = {}
        for name, mapping in options.functions.items():
            try:
                self._functions[name] = CFunction(name, mapping, self._context)
            except (ValueError, LookupError) as problem:
                raise BadArtifact(f"plugin.json: native.functions.{name}: {problem.args[0]}") from None
        self._plain = frozenset[str]() if options.functions else self._declared.names

    def __call__(self, function: str, args: list[Value]) -> Value:
        """Call a mapped or a declared function."""
        found = self._functions.get(function) or self._find(function)
        try:
            return found(args)
        finally:
            flush_output()

    def functions(self) -> dict[str, str]:
        """Name the functions that can be called."""
        for name in self._plain.difference(self._functions):
            try:
                self._functions[name] = CFunction(name, Mapping(name), self._context)
            except (ValueError, LookupError):
                continue
        return {name: self._functions[name].signature for name in sorted(self._functions)}

    def _find(self, name: str) -> CFunction:
        if name not in self._plain:
            raise NoSuchFunction(name, list(self.functions()))
        try:
            function = self._functions[name] = CFunction(name, Mapping(name), self._context)
        except LookupError:
            raise NoSuchFunction(name, list(self.functions())) from None
        except ValueError as problem:
            hint = "native.functions of plugin.json can say more about its parameters and its result"
            raise BadArguments(f"{name} cannot be called as declared: {problem}; {hint}") from None
        return function


def _handles(options: Options, declared: Declared, handles: Handles) -> dict[CType, str]:
    """Find the types of handles that plugin.json names, and the functions that free them."""
    pointers: dict[str, CType] = {}
    ends: dict[CType, str] = {}
    for name, handle in options.handles.items():
        pointer = pointers[name] = _pointer_to(name, declared)
        if handle.free:
            try:
                function = declared.find(handle.free)
            except LookupError as problem:
                raise BadArtifact(f"plugin.json: native.handles.{name}.free: {problem}") from None
            if ffi.typeof(function).args != (pointer,):
                raise BadArtifact(
                    f"plugin.json: native.handles.{name}.free: {handle.free} has to take one {pointer.cname}"
                )
            ends[pointer] = handle.free
    for name, handle in options.handles.items():
        if handle.of:
            handles.parents[pointers[name]] = pointers[handle.of]
    return ends


def _pointer_to(name: str, declared: Declared) -> CType:
    ctype = declared.type_named(name)
    if ctype is not None and ctype.kind == "struct":
        ctype = backend.new_pointer_type(ctype)
    if (
        ctype is None
        or ctype.kind != "pointer"
        or ctype.item.kind != "struct"
        or ctype.item.fields is not None
    ):
        raise BadArtifact(
            f"plugin.json: native.handles.{name} is no struct without members in native.cdef, as "
            f"`typedef struct {name} {name};` declares one"
        )
    return ctype
