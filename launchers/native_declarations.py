"""The C functions that the text ``native.cdef`` of plugin.json declares, found in the plugin's library."""

from ._native_abi import ffi
from .failures import BadArtifact
from .native_c import Declarations
from .native_library import CData, CType, Library
from .native_words import Misread


class Declared:
    """A library and what the plugin declares of it.

    Args:
        text: The declarations.
        library: The library.

    Attributes:
        names: The declared functions.
        variadic: Those of them that take arguments of any type.
        constants: Enumerators and ``#define`` numbers.

    Raises:
        BadArtifact: The text is not understood.
    """

    def __init__(self, text: str, library: Library) -> None:
        try:
            self._declarations = Declarations(text)
        except Misread as problem:
            raise BadArtifact(f"plugin.json: native.cdef is not understood: {problem}") from None
        self._library = library
        self.names = frozenset(self._declarations.functions)
        self.variadic = self._declarations.variadic
        self.constants = self._declarations.constants

    def find(self, name: str) -> CData:
        """Return a function, to be called as it is declared.

        Raises:
            LookupError: There is none of that name.
        """
        ctype = self._declarations.functions.get(name)
        if ctype is None:
            but = ", but not as a function" * (name in self._declarations.variables or name in self.constants)
            problem = (
                f"native.cdef declares {name}{but}" if but else f"native.cdef declares no function {name}"
            )
            raise LookupError(problem)
        return self.find_as(name, ctype)

    def find_as(self, name: str, ctype: CType) -> CData:
        """Return an exported function of the library as a pointer of a type of its user's choice.

        Raises:
            LookupError: The library has no such function, or it is declared with another type.
        """
        if self._declarations.functions.get(name, ctype) != ctype:
            declared = self._declarations.functions[name].cname
            raise LookupError(f"{name} is declared as {declared}, and {ctype.cname} is needed")
        address = self._library.address(name)
        if address is None:
            raise LookupError(f"the library has no function {name} of its own")
        # SAFETY: the address is one of this library; what stands there is what the declaration claims.
        return ffi.cast(ctype, address)

    def type_named(self, name: str) -> CType | None:
        """Return the type of a ``typedef`` or a ``struct``, by its name."""
        return self._declarations.type_named(name)
