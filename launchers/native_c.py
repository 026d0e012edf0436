"""C declarations, read into cffi's types: what headers say once their macros are gone.

cffi's own parser is pycparser, whose tables and trees cost each plugin process 2.3 MB. This one knows
declarations and nothing else, and builds the types with the very functions of cffi's compiled part that cffi
itself uses. The grammar is that of ISO C11, section 6.7, without what only function bodies, initialisers and
compilers need; numbers are those of section 6.6.
"""

import re
from typing import Any

import _cffi_backend as backend

from .native_library import CType

_TOKEN = re.compile(
    r"""(?P<define>^[^\S\n]*\#[^\S\n]*define[^\S\n]+)
    |(?P<space>\n|[^\S\n]+|/\*.*?\*/|//[^\n]*|\\\n)
    |(?P<number>0[xX][0-9a-fA-F]+[uUlL]*|[0-9]+[uUlL]*\b)
    |(?P<letter>'[^'\\\n]')
    |(?P<name>[A-Za-z_]\w*)
    |(?P<sign>\.\.\.|<<|>>|[-+*/%&|^~()\[\]{},;:=])""",
    re.VERBOSE | re.DOTALL | re.MULTILINE | re.ASCII,
)
_QUALIFIERS = {"const", "volatile", "restrict", "__restrict", "inline", "__inline", "__extension__"}
_STORAGE = {"extern", "typedef"}
_WORDS = {"signed", "unsigned", "short", "long", "int", "char", "float", "double", "void", "_Bool"}
# What changes a layout or a name, and has a syntax of its own.
_COMPILERS = {"__attribute__", "__attribute", "__declspec", "__asm__", "asm", "_Alignas", "_Atomic", "static"}
_RECORDS = {"struct": backend.new_struct_type, "union": backend.new_union_type}
_OPERATORS = {"|": 1, "^": 2, "&": 3, "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6, "/": 6, "%": 6}
_DEEPEST = 32
_NAMELESS = "a type without a name"
_END = ("", "the end of the text", -1)

# An FFI of its own: the one of the launcher knows names that are not the plugin's.
_plain = backend.FFI()


class Misread(Exception):
    """The text is no list of declarations; says where and why."""


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
        self.constants: dict[str, int] = {}
        self.types: dict[str, AnyType] = {}
        self._tags: dict[tuple[str, str], CType] = {}
        self._text = text
        self._tokens = _tokens(text)
        self._place = 0
        self._depth = 0
        while self._next[2] >= 0:
            self._declaration()

    def type_named(self, name: str) -> CType | None:
        """Return the type of a ``typedef`` or a ``struct``, by its name."""
        found = self.types.get(name) or self._tags.get(("struct", name.removeprefix("struct ")))
        return None if isinstance(found, FunctionType) else found

    # ---- tokens

    @property
    def _next(self) -> tuple[str, str, int]:
        return self._tokens[self._place] if self._place < len(self._tokens) else _END

    def _wrong(self, problem: str) -> Misread:
        offset = self._next[2]
        line = self._text.count("\n", 0, offset if offset >= 0 else None) + 1
        return Misread(f"line {line}: {problem}")

    def _take(self) -> str:
        self._place += 1
        return self._tokens[self._place - 1][1]

    def _accept(self, word: str) -> bool:
        found = self._next[1] == word and self._next[2] >= 0
        self._place += found
        return found

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._wrong(f"{word} was expected, not {self._next[1]}")

    def _name(self) -> str:
        """The next token if it is an identifier, else an empty string."""
        return self._take() if self._next[0] == "name" else ""

    # ---- declarations

    def _declaration(self) -> None:
        if self._next[0] == "define":
            self._place += 1
            name = self._name()
            if not name:
                raise self._wrong(f"#define needs a name, not {self._next[1]}")
            self.constants[name] = self._number()
            return
        if self._accept(";"):
            return
        base, is_typedef = self._specifiers()
        if self._accept(";"):
            return
        while True:
            self._declare(*self._declarator(base), is_typedef)
            if self._accept(";"):
                return
            self._expect(",")

    def _declare(self, name: str, ctype: AnyType, is_typedef: bool) -> None:
        if not name:
            raise self._wrong(f"a name was expected, not {self._next[1]}")
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
            raise self._wrong(f"{name} is declared a second time, with another type")

    def _specifiers(self) -> tuple[AnyType, bool]:
        """The type that a declaration begins with, and whether it is a typedef."""
        words: list[str] = []
        found: AnyType | None = None
        is_typedef = False
        while self._next[0] == "name":
            word = self._next[1]
            if word in _STORAGE:
                is_typedef |= word == "typedef"
            elif word in _WORDS:
                words.append(word)
            elif word in (*_RECORDS, "enum") and not words and found is None:
                self._place += 1
                found = self._enum() if word == "enum" else self._record(word)
                continue
            elif word not in _QUALIFIERS:
                if words or found is not None:
                    break  # the name that is declared
                found = self._known(word)
            self._place += 1
        if words and found is not None:
            raise self._wrong(f"{' '.join(words)} stands beside another type")
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
                f"the type {words} is not declared" if words else f"{self._next[1]} begins no declaration"
            )
            raise self._wrong(problem) from None

    # ---- struct, union, enum

    def _record(self, word: str) -> CType:
        tag = self._name()
        if not tag and self._next[1] != "{":
            raise self._wrong(f"{word} needs a name or members")
        record = self._tags.get((word, tag)) if tag else None
        if record is None:
            record = _RECORDS[word](f"{word} {tag}" if tag else self._coming_name())
            if tag:
                self._tags[word, tag] = record
        if self._accept("{"):
            self._complete(record)
        return record

    def _coming_name(self) -> str:
        """What a typedef is going to call a struct without a name: the word behind the closing brace."""
        depth = 0
        for place in range(self._place, len(self._tokens) - 1):
            depth += {"{": 1, "}": -1}.get(self._tokens[place][1], 0)
            if not depth:
                kind, name, _ = self._tokens[place + 1]
                return name if kind == "name" else _NAMELESS
        return _NAMELESS

    def _complete(self, record: CType) -> None:
        self._enter()
        fields: list[tuple[str, CType, int, int]] = []
        while not self._accept("}"):
            base, is_typedef = self._specifiers()
            if is_typedef:
                raise self._wrong("a member cannot be a typedef")
            if self._accept(";"):
                fields.append(("", self._object(base), -1, -1))
                continue
            while True:
                name, ctype = self._declarator(base) if self._next[1] != ":" else ("", base)
                bits = self._number() if self._accept(":") else -1
                fields.append((name, self._object(ctype), bits, -1))
                if self._accept(";"):
                    break
                self._expect(",")
        self._depth -= 1
        try:
            backend.complete_struct_or_union(record, fields, None, -1, -1, 0, 0)
        except Exception as error:
            # What cffi finds wrong with a member: a second one of that name, an open array, too many bits.
            raise self._wrong(f"{record.cname}: {error}") from None

    def _object(self, ctype: AnyType) -> CType:
        """Check that values of a type can be stored, as in a member or an array."""
        if isinstance(ctype, FunctionType):
            raise self._wrong("a function stands where a value is needed; a pointer to it is one")
        if ctype.kind == "void" or (ctype.kind in _RECORDS and ctype.fields is None):
            raise self._wrong(f"{ctype.cname} has no size here")
        return ctype

    def _enum(self) -> CType:
        tag = self._name()
        if not self._accept("{"):
            if ("enum", tag) not in self._tags:
                raise self._wrong(f"enum {tag} is not declared".replace("  ", " "))
            return self._tags["enum", tag]
        self._place -= 1
        cname = f"enum {tag}" if tag else self._coming_name()
        self._place += 1
        values: dict[str, int] = {}
        value = -1
        while not self._accept("}"):
            name = self._name()
            if not name or name in values:
                raise self._wrong(f"a new name was expected, not {name or self._next[1]}")
            value = self._number() if self._accept("=") else value + 1
            values[name] = self.constants[name] = value
            if not self._accept(","):
                self._expect("}")
                break
        words = "int" if min(values.values(), default=0) < 0 else "unsigned int"
        if not -(1 << 31) <= min(values.values(), default=0) <= max(values.values(), default=0) < 1 << 32:
            words = words.replace("int", "long")
        try:
            found = backend.new_enum_type(cname, tuple(values), tuple(values.values()), self._basic(words))
        except (OverflowError, ValueError) as error:
            raise self._wrong(f"{cname}: {error}") from None
        if tag:
            self._tags["enum", tag] = found
        return found

    # ---- declarators

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"more than {_DEEPEST} levels are not understood")

    def _declarator(self, base: AnyType) -> tuple[str, AnyType]:
        """Read ``*name[4]``, ``(*name)(int)`` and their like: the name, and its type made from the base."""
        self._enter()
        pointers = 0
        while self._accept("*"):
            pointers += 1
            if pointers > _DEEPEST:
                raise self._wrong(f"more than {_DEEPEST} pointers are not understood")
            base = self._pointer(base)
            while self._next[1] in _QUALIFIERS:
                self._place += 1
        if self._next[1] == "(" and self._is_nested():
            inside = self._place + 1
            self._skip()
            base = self._suffixes(base)
            outside, self._place = self._place, inside
            name, base = self._declarator(base)
            self._expect(")")
            self._place = outside
        else:
            name = self._name()
            base = self._suffixes(base)
        self._depth -= 1
        return name, base

    def _is_nested(self) -> bool:
        """Tell ``(*name)`` from the parameters of a function without a name."""
        following = self._tokens[self._place + 1 : self._place + 2]
        return bool(following) and following[0][1] in ("*", "(")

    def _skip(self) -> None:
        """Go behind the parenthesis that closes this one."""
        depth = 0
        while self._next[2] >= 0:
            depth += {"(": 1, ")": -1}.get(self._take(), 0)
            if not depth:
                return
        raise self._wrong(") was expected")

    def _suffixes(self, base: AnyType) -> AnyType:
        if self._accept("("):
            return self._function(base)
        lengths: list[int | None] = []
        while self._accept("["):
            while self._next[1] in _QUALIFIERS:
                self._place += 1
            if len(lengths) == _DEEPEST:
                raise self._wrong(f"more than {_DEEPEST} dimensions are not understood")
            lengths.append(None if self._next[1] == "]" else self._number())
            self._expect("]")
        for length in reversed(lengths):
            try:
                base = backend.new_array_type(backend.new_pointer_type(self._object(base)), length)
            except (OverflowError, ValueError) as error:
                raise self._wrong(f"an array of {length}: {error}") from None
        return base

    def _function(self, result: AnyType) -> FunctionType:
        if isinstance(result, FunctionType) or result.kind == "array":
            raise self._wrong("a function cannot return a function or an array")
        parameters: list[CType] = []
        ellipsis = False
        while not self._accept(")"):
            if self._accept("..."):
                ellipsis = True
                self._expect(")")
                break
            base, _ = self._specifiers()
            _, ctype = self._declarator(base)
            if isinstance(ctype, FunctionType):
                ctype = ctype.pointer
            if ctype.kind == "array":
                ctype = backend.new_pointer_type(ctype.item)
            parameters.append(ctype)
            if self._next[1] != ")":
                self._expect(",")
        if len(parameters) == 1 and parameters[0].kind == "void" and not ellipsis:
            parameters = []
        try:
            pointer = backend.new_function_type(tuple(parameters), result, ellipsis, backend.FFI_DEFAULT_ABI)
        except Exception as error:
            # cffi refuses parameters and results without a size, each kind with its own exception.
            raise self._wrong(str(error)) from None
        return FunctionType(pointer, ellipsis)

    def _pointer(self, base: AnyType) -> CType:
        return base.pointer if isinstance(base, FunctionType) else backend.new_pointer_type(base)

    # ---- numbers

    def _number(self) -> int:
        value = self._expression(1)
        if not -(1 << 63) <= value < 1 << 64:
            raise self._wrong(f"the number {value} has more than 64 bits")
        return value

    def _expression(self, lowest: int) -> int:
        left = self._operand()
        while (strength := _OPERATORS.get(self._next[1], 0)) >= lowest:
            operator = self._take()
            right = self._expression(strength + 1)
            if (operator in "/%" and not right) or (operator in ("<<", ">>") and not 0 <= right < 64):
                raise self._wrong(f"{left} {operator} {right} is no number")
            left = _calculate(left, operator, right)
            if abs(left) >> 64:
                raise self._wrong(f"the number {left} has more than 64 bits")
        return left

    def _operand(self) -> int:
        kind, word, _ = self._next
        if kind not in ("number", "letter", "name", "sign") or (
            kind == "name" and word not in self.constants
        ):
            raise self._wrong(f"a number was expected, not {word}")
        self._enter()
        self._place += 1
        match kind, word:
            case "number", _:
                digits = word.rstrip("uUlL")
                octal = len(digits) > 1 and digits.isdigit() and digits[0] == "0"
                value = self._digits(digits, 8 if octal else 0)
            case "letter", _:
                value = ord(word[1])
            case "name", _:
                value = self.constants[word]
            case _, "(":
                value = self._expression(1)
                self._expect(")")
            case _, "-":
                value = -self._operand()
            case _, "+":
                value = self._operand()
            case _, "~":
                value = ~self._operand()
            case _:
                raise self._wrong(f"a number was expected, not {word}")
        self._depth -= 1
        return value

    def _digits(self, digits: str, base: int) -> int:
        if len(digits) > 66:
            raise self._wrong("a number has more than 64 bits")
        try:
            return int(digits, base)
        except ValueError:
            raise self._wrong(f"{digits} is no number") from None


def _calculate(left: int, operator: str, right: int) -> int:
    results: dict[str, Any] = {"|": int.__or__, "^": int.__xor__, "&": int.__and__}
    results |= {"<<": int.__lshift__, ">>": int.__rshift__}
    results |= {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    if operator in results:
        value: int = results[operator](left, right)
        return value
    quotient = abs(left) // abs(right)  # C rounds towards zero
    quotient = quotient if (left < 0) == (right < 0) else -quotient
    return quotient if operator == "/" else left - right * quotient


def _pointer_of(ctype: AnyType) -> CType:
    return ctype.pointer if isinstance(ctype, FunctionType) else ctype


def _tokens(text: str) -> list[tuple[str, str, int]]:
    """Cut the text into (kind, word, offset); a ``define`` stands for the word and what is before it."""
    found: list[tuple[str, str, int]] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or match[0] in _COMPILERS:
            line = text.count("\n", 0, place) + 1
            hint = "; of the preprocessor there is only #define NAME NUMBER" if text[place] == "#" else ""
            word = text[place] if match is None else match[0]
            raise Misread(f"line {line}: {word} is not understood{hint}")
        if match.lastgroup not in ("space", None):
            found.append((str(match.lastgroup), match[0], place))
        place = match.end()
    return found
