"""C functions by their declarations: the text ``native.cdef`` of plugin.json.

A text of nothing but prototypes of plain types, which most are, is left to the small parser inside cffi's
compiled part. Anything more (typedef, struct, enum, #define) takes cffi's full parser: it understands much
of C and costs each plugin process some 1 MB and 3 ms.
"""

import re
import sys
from types import ModuleType

import cffi

from ._native_abi import ffi
from .failures import BadArtifact
from .native_library import CData, Library
from .native_values import CType

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_PROTOTYPE = re.compile(r"\s*(?:extern\s+)?([\w\s*]+?)\b(\w+)\s*\(([^()]*)\)\s*")


def prepare_parser() -> None:
    """Import cffi's full parser, but not what it does not need.

    pycparser imports ``subprocess`` for a preprocessor that nobody runs here. That brings ``threading``,
    whose handler of forks costs each plugin process 270 kB.
    """
    if "subprocess" in sys.modules:
        return
    stand_in = ModuleType("subprocess")
    stand_in.__dict__["check_output"] = None
    sys.modules["subprocess"] = stand_in
    try:
        cffi.FFI().cdef("int warm_up(int);")
    finally:
        del sys.modules["subprocess"]


class Prototypes:
    """Functions of a library that are declared one by one with plain types.

    Attributes:
        names: The declared functions.
    """

    def __init__(self, types: dict[str, CType], library: Library) -> None:
        self.names = frozenset(types)
        self._types = types
        self._library = library

    def find(self, name: str) -> CData:
        """Return a function, to be called as it is declared.

        Raises:
            LookupError: There is none of that name.
        """
        if name not in self._types:
            raise LookupError(f"native.cdef declares no function {name}")
        address = self._library.address(name)
        if address is None:
            raise LookupError(f"the library has no function {name} of its own")
        # SAFETY: the address is one of this library; what stands there is what the declaration claims.
        return ffi.cast(self._types[name], address)


class Header:
    """Functions of a library, declared by a text as it stands in C headers.

    Attributes:
        names: The declared functions, variables and constants.

    Raises:
        BadArtifact: The text does not parse.
    """

    def __init__(self, text: str, library: Library) -> None:
        parser = cffi.FFI()
        try:
            parser.cdef(text)
        except Exception as error:
            # The text is foreign, and what the parser raises for an odd one is not documented.
            raise BadArtifact(f"plugin.json: native.cdef is not understood: {error}") from None
        self._library = library
        self._declared = parser.dlopen(library.handle)
        self.names = frozenset(dir(self._declared))

    def find(self, name: str) -> CData:
        """Return a function, to be called as it is declared.

        Raises:
            LookupError: There is none of that name.
        """
        if name not in self.names:
            raise LookupError(f"native.cdef declares no function {name}")
        try:
            # SAFETY: this is dlsym for a declared name; a declared variable is read with its declared type.
            found = getattr(self._declared, name)
        except Exception as error:
            # As above; most often there is no such symbol.
            raise LookupError(f"{name} is not there as it is declared: {error}") from None
        if not isinstance(found, CData) or ffi.typeof(found).kind != "function":
            raise LookupError(f"native.cdef declares {name}, but not as a function")
        if not self._library.owns(found):
            raise LookupError(f"the library has no function {name} of its own")
        return found


def declared_functions(text: str, library: Library) -> Prototypes | Header:
    """Read declarations with the lightest parser that understands them.

    Raises:
        BadArtifact: None does.
    """
    types = {}
    for declaration in _COMMENT.sub(" ", text).split(";"):
        if declaration.isspace() or not declaration:
            continue
        prototype = _PROTOTYPE.fullmatch(declaration)
        result, name, parameters = prototype.groups() if prototype else ("", "", "")
        try:
            types[name] = ffi.typeof(f"{result}(*)({parameters})")
        except ffi.error:
            return Header(text, library)
    return Prototypes(types, library)
