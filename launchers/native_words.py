"""The words of C declarations, and the numbers that are calculated (ISO C11, sections 6.4 and 6.6)."""

import re
from typing import Any

_TOKEN = re.compile(
    r"""(?P<define>^[^\S\n]*\#[^\S\n]*define[^\S\n]+)
    |(?P<space>\n|[^\S\n]+|/\*.*?\*/|//[^\n]*|\\\n)
    |(?P<number>0[xX][0-9a-fA-F]+[uUlL]*|[0-9]+[uUlL]*\b)
    |(?P<letter>'[^'\\\n]')
    |(?P<name>[A-Za-z_]\w*)
    |(?P<sign>\.\.\.|<<|>>|[-+*/%&|^~()\[\]{},;:=])""",
    re.VERBOSE | re.DOTALL | re.MULTILINE | re.ASCII,
)
# What changes a layout or a name, and has a syntax of its own.
_COMPILERS = {"__attribute__", "__attribute", "__declspec", "__asm__", "asm", "_Alignas", "_Atomic", "static"}
_OPERATORS = {"|": 1, "^": 2, "&": 3, "<<": 4, ">>": 4, "+": 5, "-": 5, "*": 6, "/": 6, "%": 6}
_NAMELESS = "a type without a name"
_END = ("", "the end of the text", 0)


DEEPEST = 32
"""How many levels of whatever C nests are understood."""


class Misread(Exception):
    """The text is no list of declarations; says where and why."""


class Words:
    """The words of a text, one after the other.

    Args:
        text: The text.

    Attributes:
        constants: The names that stand for numbers.
        place: The number of the next word.

    Raises:
        Misread: It contains what is no word of a declaration.
    """

    def __init__(self, text: str) -> None:
        self.constants: dict[str, int] = {}
        self._text = text
        self._tokens = _tokens(text)
        self.place = 0
        self._depth = 0

    @property
    def _next(self) -> tuple[str, str, int]:
        return self._tokens[self.place] if self.place < len(self._tokens) else _END

    @property
    def kind(self) -> str:
        """What the next word is: define, number, letter, name or sign; empty at the end."""
        return self._next[0]

    @property
    def word(self) -> str:
        """The next word, or what to call the end in messages."""
        return self._next[1]

    @property
    def is_over(self) -> bool:
        """There is no further word."""
        return self.place >= len(self._tokens)

    def wrong(self, problem: str) -> Misread:
        """Make the exception for a problem at the next word."""
        line = self._text.count("\n", 0, None if self.is_over else self._next[2]) + 1
        return Misread(f"line {line}: {problem}")

    def take(self) -> str:
        """Return the next word and go on."""
        self.place += 1
        return self._tokens[self.place - 1][1]

    def accept(self, word: str) -> bool:
        """Go on if the next word is this one, and tell whether it was."""
        found = self.word == word and not self.is_over
        self.place += found
        return found

    def expect(self, word: str) -> None:
        """Go on if the next word is this one.

        Raises:
            Misread: It is another one.
        """
        if not self.accept(word):
            raise self.wrong(f"{word} was expected, not {self.word}")

    def name(self) -> str:
        """Return the next word and go on if it is an identifier; otherwise return an empty string."""
        return self.take() if self.kind == "name" else ""

    def enter(self) -> None:
        """Go one level down.

        Raises:
            Misread: There are too many.
        """
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.wrong(f"more than {DEEPEST} levels are not understood")

    def leave(self) -> None:
        """Go one level up."""
        self._depth -= 1

    def skip(self) -> None:
        """Go behind the parenthesis that closes the next one."""
        depth = 0
        while not self.is_over:
            depth += {"(": 1, ")": -1}.get(self.take(), 0)
            if not depth:
                return
        raise self.wrong(") was expected")

    def coming_name(self) -> str:
        """Return what a typedef is going to call a struct without a name: the word behind its braces."""
        depth = 0
        for place in range(self.place, len(self._tokens) - 1):
            depth += {"{": 1, "}": -1}.get(self._tokens[place][1], 0)
            if not depth:
                kind, name, _ = self._tokens[place + 1]
                return name if kind == "name" else _NAMELESS
        return _NAMELESS

    def is_nested(self) -> bool:
        """Tell ``(*name)`` from the parameters of a function without a name."""
        following = self._tokens[self.place + 1 : self.place + 2]
        return bool(following) and following[0][1] in ("*", "(")

    def number(self) -> int:
        """Read an expression of numbers, and calculate it.

        Raises:
            Misread: It is none.
        """
        value = self._expression(1)
        if not -(1 << 63) <= value < 1 << 64:
            raise self.wrong(f"the number {value} has more than 64 bits")
        return value

    def _expression(self, lowest: int) -> int:
        left = self._operand()
        while (strength := _OPERATORS.get(self.word, 0)) >= lowest:
            operator = self.take()
            right = self._expression(strength + 1)
            if (operator in ("/", "%") and not right) or (operator in ("<<", ">>") and not 0 <= right < 64):
                raise self.wrong(f"{left} {operator} {right} is no number")
            left = _calculate(left, operator, right)
            if abs(left) >> 64:
                raise self.wrong(f"the number {left} has more than 64 bits")
        return left

    def _operand(self) -> int:
        kind, word, _ = self._next
        if kind not in ("number", "letter", "name", "sign") or (
            kind == "name" and word not in self.constants
        ):
            raise self.wrong(f"a number was expected, not {word}")
        self.enter()
        self.place += 1
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
                self.expect(")")
            case _, "-":
                value = -self._operand()
            case _, "+":
                value = self._operand()
            case _, "~":
                value = ~self._operand()
            case _:
                raise self.wrong(f"a number was expected, not {word}")
        self.leave()
        return value

    def _digits(self, digits: str, base: int) -> int:
        if len(digits) > 66:
            raise self.wrong("a number has more than 64 bits")
        try:
            return int(digits, base)
        except ValueError:
            raise self.wrong(f"{digits} is no number") from None


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
