"""wasmtime's shared library: where it lies, and what its C API is made of.

The Python package ``wasmtime`` is only the carrier of the library and is never imported: it costs
9 MB and its calls 90 us, these declarations 0.1 MB and 1 us.

API: https://docs.wasmtime.dev/c-api/ and the header files of version 50.
"""

import os
import sys
from typing import Any

from . import _wasmtime_abi

type Pointer = Any  # what cffi calls CData
type FunctionType = tuple[tuple[str, ...], tuple[str, ...]]  # kinds of the parameters, of the results

ffi: Any = _wasmtime_abi.ffi  # cffi's type stubs know neither structs nor function pointers

VERSION = "50.0"
EXTERN_KINDS = ("function", "global", "table", "memory", "tag")
EXTERN_FUNCTION, EXTERN_GLOBAL, EXTERN_TABLE, EXTERN_MEMORY = range(4)


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
