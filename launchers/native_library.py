"""One loaded shared library, and the process's own standard output in C."""

import mmap
from typing import Any

from _cffi_backend import FFI

from ._native_abi import ffi
from .failures import BadArtifact, LimitReached

CData = FFI.CData
CType = FFI.CType
NULL = ffi.NULL

# dlfcn.h and stdio.h of glibc and musl, the same on every architecture of Linux.
_RTLD_LOCAL, _RTLD_NOW = 0, 2
_RTLD_DI_LINKMAP = 2
_RTLD_DL_LINKMAP = 2
_IOLBF = 1

_libc: Any = ffi.dlopen(None)
# Found now: cffi finds a function with dlsym when it is first asked for, which clears what dlerror would say.
_dlerror = _libc.dlerror
_stdout_buffer = ffi.new("char[]", 1 << 14)


class Library:
    """A library opened for this process alone: its symbols are invisible to every other library.

    Args:
        path: A path, or the soname of a library of the system.
        name: What to call it in messages.

    Attributes:
        handle: What ``dlopen`` returned. It is never closed: the process ends with the plugin.

    Raises:
        BadArtifact: The loader refused it; the message carries its words.
    """

    def __init__(self, path: str, name: str) -> None:
        # SAFETY: the loader maps the file and runs its constructors. This is the moment when foreign code
        # starts to run; the jail stands around it, nothing in this process does.
        self.handle = _libc.dlopen(path.encode(), _RTLD_NOW | _RTLD_LOCAL)
        if self.handle == NULL:
            raise BadArtifact(f"{name} does not load: {_loader_error()}")
        self._map = ffi.new("void **")
        # SAFETY: for this request dlinfo writes one pointer, into a cell of that size that we own.
        if _libc.dlinfo(self.handle, _RTLD_DI_LINKMAP, self._map):
            raise BadArtifact(f"{name} does not load: {_loader_error()}")

    def address(self, symbol: str) -> CData | None:
        """Return where this very library defines a symbol; None when it does not.

        ``dlsym`` searches the dependencies as well and would find ``system`` through every library, so the
        loader is asked whose symbol it was.
        """
        # SAFETY: both texts end in NUL; the handle was checked when the library was opened.
        address = _libc.dlsym(self.handle, symbol.encode())
        return address if address != NULL and self.owns(address) else None

    def owns(self, address: CData) -> bool:
        """Tell whether an address lies in this library and not in one that it depends on."""
        found, owner = ffi.new("Dl_info *"), ffi.new("void **")
        # SAFETY: dladdr1 only compares the address with its own tables and writes to the two cells.
        return bool(_libc.dladdr1(address, found, owner, _RTLD_DL_LINKMAP)) and owner[0] == self._map[0]


def _loader_error() -> str:
    # SAFETY: dlerror returns NULL or a text that stays valid until the next call of the loader.
    message = _dlerror()
    return "no reason was given" if message == NULL else bytes_of(message).decode("utf-8", "replace")


def bytes_of(text: CData, limit: int = -1) -> bytes:
    """Copy a C text without its end.

    Args:
        text: A pointer to char that is not NULL; that it leads to a text is for the caller to know.
        limit: Bytes after which the search for the end stops; -1: nowhere.
    """
    # SAFETY: nothing beyond the end of the text or the limit is read.
    found = ffi.string(text, limit)
    assert isinstance(found, bytes)
    return found


def prepare_output() -> None:
    """Give C's standard output its buffer now, by lines.

    Otherwise the plugin's first ``printf`` would ask the kernel about the file, a system call that serving
    does not need. By lines, because a plugin that crashes takes what is buffered with it.
    """
    # SAFETY: the buffer belongs to this module and lives as long as the process.
    _libc.setvbuf(_libc.stdout, _stdout_buffer, _IOLBF, len(_stdout_buffer))


def flush_output() -> None:
    """Write out what the plugin has printed with C's standard output."""
    # SAFETY: `stdout` is read anew each time: a plugin may have assigned another stream to it.
    _libc.fflush(_libc.stdout)


def forbid_writing(page: int) -> None:
    """Take the permission to write to a page that holds entry points of callbacks.

    Raises:
        BadArtifact: The kernel refuses.
    """
    # SAFETY: the page belongs to cffi, which writes to it only when it makes an entry point; whoever calls
    # this has seen to it that it makes none there any more.
    if _libc.mprotect(ffi.cast("void *", page), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):
        raise BadArtifact("the kernel does not let callbacks be protected from writing")


def give(data: bytes | CData) -> CData:
    """Copy memory into what ``malloc`` returns and nothing here ever frees: it is the library's.

    Raises:
        LimitReached: There is none.
    """
    size = len(data) if isinstance(data, bytes) else ffi.sizeof(data)
    # SAFETY: malloc returns NULL or memory of that size; a text gets the NUL that ends it.
    memory = _libc.malloc(size + 1)
    if memory == NULL:
        raise LimitReached("memory", "the plugin ran out of memory", size)
    ffi.memmove(memory, data, size)
    ffi.cast("char *", memory)[size] = b"\0"
    assert isinstance(memory, CData)
    return memory


def release_function() -> CData:
    """Return ``free`` of the C library."""
    free = _libc.free
    assert isinstance(free, CData)
    return free
