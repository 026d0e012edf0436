"""Plugins that declare their C functions: any function of any library, called with plain values."""

from .artifact import Value
from .failures import BadArguments, BadArtifact, NoSuchFunction
from .native_call import CFunction
from .native_declarations import declared_functions
from .native_library import Library, flush_output
from .native_options import Mapping, Options


class CdefPlugin:
    """The functions of one library that ``native.cdef`` declares.

    Each of them can be called under its own name as long as its parameters and its result are plain values;
    ``native.functions`` adds others, with buffers, defaults and error codes.

    Attributes:
        deadline: Unused: nothing here could interrupt a C function; the host ends the process.

    Raises:
        BadArtifact: The declarations do not parse, or a mapping does not fit its C function.
    """

    def __init__(self, library: Library, options: Options, memory_limit: int) -> None:
        self.deadline = 0.0
        self._memory_limit = memory_limit
        self._declarations = declared_functions(options.cdef, library)
        self._functions: dict[str, CFunction] = {}
        for name, mapping in options.functions.items():
            try:
                self._functions[name] = self._bind(name, mapping)
            except (ValueError, LookupError) as problem:
                raise BadArtifact(f"plugin.json: native.functions.{name}: {problem.args[0]}") from None

    def __call__(self, function: str, args: list[Value]) -> Value:
        """Call a mapped or a declared function."""
        found = self._functions.get(function) or self._find(function)
        try:
            return found(args)
        finally:
            flush_output()

    def functions(self) -> dict[str, str]:
        """Name the mapped functions, and the declared ones that take and return plain values."""
        for name in self._declarations.names.difference(self._functions):
            try:
                self._functions[name] = self._bind(name, Mapping(name))
            except (ValueError, LookupError):
                continue
        return {name: self._functions[name].signature for name in sorted(self._functions)}

    def _find(self, name: str) -> CFunction:
        try:
            function = self._functions[name] = self._bind(name, Mapping(name))
        except LookupError:
            raise NoSuchFunction(name, list(self.functions())) from None
        except ValueError as problem:
            hint = "native.functions of plugin.json can describe buffers and out values, nothing else"
            raise BadArguments(f"{name} cannot be called as declared: {problem}; {hint}") from None
        return function

    def _bind(self, name: str, mapping: Mapping) -> CFunction:
        function = self._declarations.find(mapping.symbol)
        return CFunction(name, function, mapping, self._memory_limit)
