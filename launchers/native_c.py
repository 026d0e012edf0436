"""C declarations, read into cffi's types: what headers say once their macros are gone.

cffi's own parser is pycparser, whose tables and trees cost each plugin process 2.3 MB. This one knows
declarations and nothing else, and builds the types with the very functions of cffi's compiled part that cffi
itself uses. The grammar is that of ISO C11, section 6.7, without what only function bodies, initialisers and
compilers need.
"""

import _cffi_backend as backend

from .native_library import CType
from .native_words import DEEPEST, Words

_QUALIFIERS = {"const", "volatile", "restrict", "__restrict", "inline", "__inline", "__extension__"}
_STORAGE = {"extern", "typedef"}
_WORDS = {"signed", "unsigned", "short", "long", "int", "char", "float", "double", "void", "_Bool"}
_RECORDS = {"struct": backend.new_struct_type, "union": backend.new_union_type}

# An FFI of its own: the one of the launcher knows names that are not the plugin's.
_plain = backend.FFI()


class FunctionType:
    """A function as C has it; a pointer to it is a type of cffi.

    Attributes:
        pointer: That type.
        is_variadic: It takes arguments of any type.
    """

    __slots__ = ("is_variadic", "pointer")

    def __init__(self, pointer: CType, is_variadic: bool) -> None:
        self.pointer = pointer
        self.is_variadic = is_variadic


type AnyType = CType | FunctionType


class Declarations:
    """What one text declares.

    Args:
        text: The declarations.

    Attributes:
        functions: The pointer type of every function.
        variadic: The names of those with three dots.
        variables: The names of variables.
        constants: Enumerators and ``#define`` numbers.
        types: What ``typedef`` names.

    Raises:
        Misread: The text is not understood.
    """

    def __init__(self, text: str) -> None:
        self.functions: dict[str, CType] = {}
        self.variadic: set[str] = set()
        self.variables: set[str] = set()
        self.types: dict[str, AnyType] = {}
        self._tags: dict[tuple[str, str], CType] = {}
        self._words = Words(text)
        self.constants = self._words.constants
        while not self._words.is_over:
            self._declaration()

    def type_named(self, name: str) -> CType | None:
        """Return the type of a ``typedef`` or a ``struct``, by its name."""
        found = self.types.get(name) or self._tags.get(("struct", name.removeprefix("struct ")))
        return None if isinstance(found, FunctionType) else found

    # ---- declarations

    def _declaration(self) -> None:
        if self._words.kind == "define":
            self._words.take()
            name = self._words.name()
            if not name:
                raise self._words.wrong(f"#define needs a name, not {self._words.word}")
            self.constants[name] = self._words.number()
            return
        if self._words.accept(";"):
            return
        base, is_typedef = self._specifiers()
        if self._words.accept(";"):
            return
        while True:
            self._declare(*self._declarator(base), is_typedef)
            if self._words.accept(";"):
                return
            self._words.expect(",")

    def _declare(self, name: str, ctype: AnyType, is_typedef: bool) -> None:
        if not name:
            raise self._words.wrong(f"a name was expected, not {self._words.word}")
        if is_typedef:
            known = self.types.setdefault(name, ctype)
            same = known is ctype or _pointer_of(known) == _pointer_of(ctype)
        elif isinstance(ctype, FunctionType):
            same = self.functions.setdefault(name, ctype.pointer) == ctype.pointer
            if ctype.is_variadic:
                self.variadic.add(name)
        else:
            same = name not in self.functions
            self.variables.add(name)
        if not same:
            raise self._words.wrong(f"{name} is declared a second time, with another type")

    def _specifiers(self) -> tuple[AnyType, bool]:
        """The type that a declaration begins with, and whether it is a typedef."""
        words: list[str] = []
        found: AnyType | None = None
        is_typedef = False
        while self._words.kind == "name":
            word = self._words.word
            if word in _STORAGE:
                is_typedef |= word == "typedef"
            elif word in _WORDS:
                words.append(word)
            elif word in (*_RECORDS, "enum") and not words and found is None:
                self._words.take()
                found = self._enum() if word == "enum" else self._record(word)
                continue
            elif word not in _QUALIFIERS:
                if words or found is not None:
                    break  # the name that is declared
                found = self._known(word)
            self._words.take()
        if words and found is not None:
            raise self._words.wrong(f"{' '.join(words)} stands beside another type")
        if found is None:
            found = self._basic(" ".join(words))
        return found, is_typedef

    def _known(self, name: str) -> AnyType:
        return self.types[name] if name in self.types else self._basic(name)

    def _basic(self, words: str) -> CType:
        try:
            return _plain.typeof(words)
        except _plain.error:
            problem = (
                f"the type {words} is not declared" if words else f"{self._words.word} begins no declaration"
            )
            raise self._words.wrong(problem) from None

    # ---- struct, union, enum

    def _record(self, word: str) -> CType:
        tag = self._words.name()
        if not tag and self._words.word != "{":
            raise self._words.wrong(f"{word} needs a name or members")
        record = self._tags.get((word, tag)) if tag else None
        if record is None:
            record = _RECORDS[word](f"{word} {tag}" if tag else self._words.coming_name())
            if tag:
                self._tags[word, tag] = record
        if self._words.accept("{"):
            self._complete(record)
        return record

    def _complete(self, record: CType) -> None:
        self._words.enter()
        fields: list[tuple[str, CType, int, int]] = []
        while not self._words.accept("}"):
            base, is_typedef = self._specifiers()
            if is_typedef:
                raise self._words.wrong("a member cannot be a typedef")
            if self._words.accept(";"):
                fields.append(("", self._object(base), -1, -1))
                continue
            while True:
                name, ctype = self._declarator(base) if self._words.word != ":" else ("", base)
                bits = self._words.number() if self._words.accept(":") else -1
                fields.append((name, self._object(ctype), bits, -1))
                if self._words.accept(";"):
                    break
                self._words.expect(",")
        self._words.leave()
        try:
            backend.complete_struct_or_union(record, fields, None, -1, -1, 0, 0)
        except Exception as error:
            # What cffi finds wrong with a member: a second one of that name, an open array, too many bits.
            raise self._words.wrong(f"{record.cname}: {error}") from None

    def _object(self, ctype: AnyType) -> CType:
        """Check that values of a type can be stored, as in a member or an array."""
        if isinstance(ctype, FunctionType):
            raise self._words.wrong("a function stands where a value is needed; a pointer to it is one")
        if ctype.kind == "void" or (ctype.kind in _RECORDS and ctype.fields is None):
            raise self._words.wrong(f"{ctype.cname} has no size here")
        return ctype

    def _enum(self) -> CType:
        tag = self._words.name()
        if not self._words.accept("{"):
            if ("enum", tag) not in self._tags:
                raise self._words.wrong(f"enum {tag} is not declared".replace("  ", " "))
            return self._tags["enum", tag]
        self._words.place -= 1
        cname = f"enum {tag}" if tag else self._words.coming_name()
        self._words.take()
        values: dict[str, int] = {}
        value = -1
        while not self._words.accept("}"):
            name = self._words.name()
            if not name or name in values:
                raise self._words.wrong(f"a new name was expected, not {name or self._words.word}")
            value = self._words.number() if self._words.accept("=") else value + 1
            values[name] = self.constants[name] = value
            if not self._words.accept(","):
                self._words.expect("}")
                break
        words = "int" if min(values.values(), default=0) < 0 else "unsigned int"
        if not -(1 << 31) <= min(values.values(), default=0) <= max(values.values(), default=0) < 1 << 32:
            words = words.replace("int", "long")
        try:
            found = backend.new_enum_type(cname, tuple(values), tuple(values.values()), self._basic(words))
        except (OverflowError, ValueError) as error:
            raise self._words.wrong(f"{cname}: {error}") from None
        if tag:
            self._tags["enum", tag] = found
        return found

    # ---- declarators

    def _declarator(self, base: AnyType) -> tuple[str, AnyType]:
        """Read ``*name[4]``, ``(*name)(int)`` and their like: the name, and its type made from the base."""
        self._words.enter()
        pointers = 0
        while self._words.accept("*"):
            pointers += 1
            if pointers > DEEPEST:
                raise self._words.wrong(f"more than {DEEPEST} pointers are not understood")
            base = self._pointer(base)
            while self._words.word in _QUALIFIERS:
                self._words.take()
        if self._words.word == "(" and self._words.is_nested():
            inside = self._words.place + 1
            self._words.skip()
            base = self._suffixes(base)
            outside, self._words.place = self._words.place, inside
            name, base = self._declarator(base)
            self._words.expect(")")
            self._words.place = outside
        else:
            name = self._words.name()
            base = self._suffixes(base)
        self._words.leave()
        return name, base

    def _suffixes(self, base: AnyType) -> AnyType:
        if self._words.accept("("):
            return self._function(base)
        lengths: list[int | None] = []
        while self._words.accept("["):
            while self._words.word in _QUALIFIERS:
                self._words.take()
            if len(lengths) == DEEPEST:
                raise self._words.wrong(f"more than {DEEPEST} dimensions are not understood")
            lengths.append(None if self._words.word == "]" else self._words.number())
            self._words.expect("]")
        for length in reversed(lengths):
            try:
                base = backend.new_array_type(backend.new_pointer_type(self._object(base)), length)
            except (OverflowError, ValueError) as error:
                raise self._words.wrong(f"an array of {length}: {error}") from None
        return base

    def _function(self, result: AnyType) -> FunctionType:
        if isinstance(result, FunctionType) or result.kind == "array":
            raise self._words.wrong("a function cannot return a function or an array")
        parameters: list[CType] = []
        ellipsis = False
        while not self._words.accept(")"):
            if self._words.accept("..."):
                ellipsis = True
                self._words.expect(")")
                break
            base, _ = self._specifiers()
            _, ctype = self._declarator(base)
            if isinstance(ctype, FunctionType):
                ctype = ctype.pointer
            if ctype.kind == "array":
                ctype = backend.new_pointer_type(ctype.item)
            parameters.append(ctype)
            if self._words.word != ")":
                self._words.expect(",")
        if len(parameters) == 1 and parameters[0].kind == "void" and not ellipsis:
            parameters = []
        try:
            pointer = backend.new_function_type(tuple(parameters), result, ellipsis, backend.FFI_DEFAULT_ABI)
        except Exception as error:
            # cffi refuses parameters and results without a size, each kind with its own exception.
            raise self._words.wrong(str(error)) from None
        return FunctionType(pointer, ellipsis)

    def _pointer(self, base: AnyType) -> CType:
        return base.pointer if isinstance(base, FunctionType) else backend.new_pointer_type(base)


def _pointer_of(ctype: AnyType) -> CType:
    return ctype.pointer if isinstance(ctype, FunctionType) else ctype
