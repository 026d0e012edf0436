"""Native plugins: shared libraries with the bytes signature, or with C functions declared in plugin.json.

The bytes signature, which needs no declaration:

    int32_t f(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len);
    void frys_free(void *out);

``f`` returns 0 and sets ``out`` to its answer, which ``frys_free`` releases; or it returns another number,
with an explanation in ``out`` if it likes. Everything else is ``native.cdef``: see native_options.py.
"""

import _cffi_backend

from ._native_abi import ffi
from .artifact import Artifact
from .failures import BadArguments, BadArtifact, BadValue, NoSuchFunction, PluginRaised
from .native_cdef import CdefPlugin
from .native_elf import exported_functions
from .native_entries import Entries
from .native_host import INIT, HostTable
from .native_library import NULL, CData, Library, flush_output, prepare_output
from .native_options import read_options
from .values import Value

NEEDS_FILES = True

_RELEASE = "frys_free"
_NOT_FOR_CALLERS = (_RELEASE, INIT, "_init", "_fini")
_MAX_EXPLANATION = 1 << 16
_LIBC = "libc.so.6"
_WARM_UP: dict[str, Value] = {
    "library": _LIBC,
    "cdef": """
        typedef struct stream stream; typedef struct { int quot, rem; } div_t; enum sign { LESS = -1 };
        size_t strlen(const char *text); void swab(const void *from, void *to, ssize_t size);
        div_t div(int number, int by); char *strdup(const char *text); int ferror(stream *stream);
        #define ZERO 0
    """,
    "handles": {"stream": {}},
    "functions": {
        "strlen": {},
        "ferror": {},
        "div": {"args": [{"in": "number"}, {"in": "by", "default": 2}]},
        "copy": {"symbol": "strdup", "args": [{"in": "text"}], "returns": {"free": "free"}, "ok": "not-null"},
        "swap": {
            "symbol": "swab",
            "args": [
                {"in": "data"},
                {"out": "swapped", "capacity": {"size_of": "data"}},
                {"size_of": "data"},
            ],
        },
    },
}


def prepare() -> None:
    """Go every road once with the C library as the plugin, so that children share what that touches."""
    prepare_output()
    with open(_cffi_backend.__file__, "rb") as file:
        exported_functions("warm-up", memoryview(file.read()))
    libc = Library(_LIBC, _LIBC)
    release = libc.address("free")
    assert release is not None
    # SAFETY: strnlen looks at its first two parameters only, which both calling conventions (x86-64, AArch64)
    # pass in registers, and it writes nothing; free does nothing for NULL.
    BytesPlugin(libc, ["strnlen"], release, memory_limit=1)("strnlen", [b""])
    plugin = load(Artifact("warm-up", "", {}, options=_WARM_UP))
    for function, args in (("strlen", ["warm"]), ("div", [7]), ("copy", ["warm"]), ("swap", [b"warm"])):
        plugin(function, [*args])
    plugin.functions()


def engine_paths() -> list[str]:
    """Return where the dynamic loader looks for the libraries of the system that a plugin is linked with."""
    return ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"]


def load(artifact: Artifact) -> "BytesPlugin | CdefPlugin":
    """Open the plugin's library, whose constructors run here, and find its functions.

    What exports ``frys_init`` is handed the table of include/frys.h.

    Raises:
        BadArtifact: The file is no library for this machine, or plugin.json does not fit it.
    """
    options = read_options(artifact.options, artifact.entry)
    name = options.library or artifact.entry
    exported: list[str] = []
    path = options.library
    if not path:
        if artifact.entry not in artifact.files:
            raise BadArtifact(f"the entry file {name} is missing in the plugin")
        exported = exported_functions(name, artifact.files[name])
        path = f"{artifact.root}/{name}"
    library, entries = Library(path, name), Entries()
    flush_output()
    plugin = (
        CdefPlugin(library, options, entries, artifact.memory_limit)
        if options.cdef
        else _bytes_plugin(library, name, exported, artifact.memory_limit)
    )
    init = library.address(INIT) if INIT in exported else None
    table = HostTable(artifact.host, entries, artifact.memory_limit).table if init is not None else NULL
    entries.close()
    if init is not None:
        # SAFETY: the name says which signature this function has; the table lives as long as the process.
        ffi.cast("frys_init", init)(table)
        flush_output()
    return plugin


def _bytes_plugin(library: Library, name: str, exported: list[str], memory_limit: int) -> "BytesPlugin":
    release = library.address(_RELEASE) if _RELEASE in exported else None
    if release is None:
        raise BadArtifact(
            f"{name} exports no {_RELEASE}(void *), which releases the results of functions with the bytes "
            "signature; add it, or declare the functions in native.cdef of plugin.json"
        )
    return BytesPlugin(library, exported, release, memory_limit)


class BytesPlugin:
    """The exported functions of one library, each taken to have the bytes signature.

    Args:
        library: The loaded library.
        exported: The functions that it defines itself.
        release: Its ``frys_free``.
        memory_limit: Bytes; no result is larger.

    Attributes:
        deadline: Unused: nothing here could interrupt a C function; the host ends the process.
    """

    def __init__(self, library: Library, exported: list[str], release: CData, memory_limit: int) -> None:
        self.deadline = 0.0
        self._library = library
        self._exported = [function for function in exported if function not in _NOT_FOR_CALLERS]
        # SAFETY: the name says which signature this function has; see docs/writing-plugins.md.
        self._release = ffi.cast("frys_release", release)
        self._memory_limit = memory_limit
        self._out = ffi.new("uint8_t **")
        self._length = ffi.new("size_t *")
        self._functions: dict[str, CData] = {}

    def __call__(self, function: str, args: list[Value]) -> bytes:
        """Call a function with one argument: bytes, or a str, which travels as UTF-8."""
        call = self._functions.get(function) or self._find(function)
        data = _input(function, args)
        self._out[0], self._length[0] = ffi.NULL, 0
        # SAFETY: `data` lives until the call is over, the two cells as long as the plugin. That the function
        # has this signature is the claim of the plugin's author; if not, this process suffers, and only it.
        code = call(data, len(data), self._out, self._length)
        flush_output()
        if code:
            explanation = self._take(_MAX_EXPLANATION).decode("utf-8", "replace")
            raise PluginRaised(f"{function} returned {code}", explanation)
        if self._length[0] > self._memory_limit:
            # The memory is not given back: an address with such a length is not to be touched.
            raise BadValue(
                f"{function} returned {self._length[0]} bytes; the plugin may use {self._memory_limit}"
            )
        if self._out[0] == ffi.NULL and self._length[0]:
            raise BadValue(f"{function} returned {self._length[0]} bytes at no address (NULL)")
        return self._take(self._memory_limit)

    def functions(self) -> dict[str, str]:
        """Name the functions that the library exports."""
        return dict.fromkeys(self._exported, "(bytes) -> bytes")

    def _find(self, function: str) -> CData:
        address = self._library.address(function) if function in self._exported else None
        if address is None:
            raise NoSuchFunction(function, self._exported)
        # SAFETY: the address is that of a function of this library; its signature is the plugin's claim.
        call = self._functions[function] = ffi.cast("frys_function", address)
        return call

    def _take(self, limit: int) -> bytes:
        """Copy what the plugin left in ``out``, at most ``limit`` bytes, and give it back to the plugin."""
        out, length = self._out[0], min(self._length[0], limit)
        if out == ffi.NULL:
            return b""
        # SAFETY: the plugin owns the memory and says that it has this length; the kernel ends this process if
        # that is not true. It was copied before the plugin gets it back.
        data = bytes(ffi.buffer(out, length))
        self._release(out)
        return data


def _input(function: str, args: list[Value]) -> bytes:
    match args:
        case []:
            return b""
        case [bytes() as data]:
            return data
        case [str() as text]:
            return text.encode()
        case [other]:
            raise BadArguments(f"{function} takes bytes or str, not {type(other).__name__}")
        case _:
            raise BadArguments(f"{function} takes one argument, not {len(args)}")
