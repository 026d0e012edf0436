"""Versions of plugins, and the ranges of them that a dependant accepts.

A version is one of https://semver.org/spec/v2.0.0.html. A range is written as npm and Cargo write theirs:

    ^1.2.3    >=1.2.3 <2.0.0     what may change without breaking: the first number that is not 0 stays
    ^0.2.3    >=0.2.3 <0.3.0
    ^0.0.3    >=0.0.3 <0.0.4
    ^1.2 ^1.x >=1.2.0 <2.0.0, >=1.0.0 <2.0.0; ^0.0 is >=0.0.0 <0.1.0, and ^0 is >=0.0.0 <1.0.0
    ~1.2.3    >=1.2.3 <1.3.0; ~1.2 is >=1.2.0 <1.3.0, and ~1 is >=1.0.0 <2.0.0
    1.2.x     >=1.2.0 <1.3.0; so is 1.2; 1.x and 1 are >=1.0.0 <2.0.0; x, X and * are the same
    *         every release; so is an empty text
    =1.2.3    that one; so is 1.2.3 (here npm's rule, not Cargo's)
    < <= > >= with a whole version or a part of one: >1.2 is >=1.3.0, and <=1.2 is <1.3.0
    A B       both hold; a comma may stand between them
    A || B    one of them holds

A pre-release such as 2.0.0-beta.1 matches only where one of the bounds that hold together names a pre-release
of the same three numbers: ``^2.0.0-beta`` takes 2.0.0-beta.1 and 2.1.0, but not 2.1.0-beta.1. Build metadata
(``+build``) never counts.
"""

import re
from collections.abc import Callable, Iterable
from functools import total_ordering
from operator import eq, ge, gt, le, lt
from typing import Final, NamedTuple, Self, override

MAX_VERSION: Final = 128
"""Characters of a version."""
MAX_RANGE: Final = 256
"""Characters of a range."""

VERSION_RULE: Final = 'must be a semantic version like "1.0.0" (https://semver.org)'

_NUMBER: Final = r"0|[1-9][0-9]*"
_BUILD: Final = r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
_IDENTIFIER: Final = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_PRE_RELEASE: Final = rf"(?:-(?P<pre>{_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
_VERSION: Final = re.compile(
    rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER}){_PRE_RELEASE}{_BUILD}"
)
_BOUND: Final = re.compile(
    rf"(?P<op>\^|~|>=|<=|>|<|=)?[ \t\n]*(?P<major>{_NUMBER}|[xX*])"
    rf"(?:\.(?P<minor>{_NUMBER}|[xX*])(?:\.(?P<patch>{_NUMBER}|[xX*]){_PRE_RELEASE}{_BUILD})?)?"
    r"(?=[ \t\n,]|\Z)"
)


@total_ordering
class Version:
    """A semantic version; ordered by precedence, so two that differ in build metadata only are equal.

    Text of others goes through :meth:`parse`, which checks it.

    Attributes:
        major: The first number.
        minor: The second.
        patch: The third.
        pre_release: The identifiers behind the dash; empty for a release.
    """

    __slots__ = ("_key", "_text", "major", "minor", "patch", "pre_release")

    def __init__(self, major: int, minor: int, patch: int, pre_release: tuple[str, ...] = ()) -> None:
        self.major, self.minor, self.patch, self.pre_release = major, minor, patch, pre_release
        self._text = f"{major}.{minor}.{patch}" + ("-" + ".".join(pre_release) if pre_release else "")
        # Section 11: numbers count as numbers, below words; a release stands above its pre-releases.
        ranks = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre_release)
        self._key = (major, minor, patch, not pre_release, ranks)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a version.

        Raises:
            ValueError: It is none, or longer than 128 characters.
        """
        match = _VERSION.fullmatch(text) if len(text) <= MAX_VERSION else None
        if match is None:
            raise ValueError(f"{text[:40]!r} is no version; it {VERSION_RULE}")
        version = cls(int(match["major"]), int(match["minor"]), int(match["patch"]), _identifiers(match))
        version._text = text
        return version

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return self.major, self.minor, self.patch

    @override
    def __str__(self) -> str:
        return self._text

    @override
    def __repr__(self) -> str:
        return f"Version({self._text})"

    @override
    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._key < other._key if isinstance(other, Version) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash(self._key)


class _Bound(NamedTuple):
    """One side of what a range allows."""

    holds: Callable[[Version, Version], bool]
    version: Version


class _Together(NamedTuple):
    """Bounds that must all hold.

    Attributes:
        bounds: Them.
        named: The numbers of the pre-releases that were written, the only ones whose pre-releases match.
    """

    bounds: tuple[_Bound, ...]
    named: frozenset[tuple[int, int, int]]

    def match(self, version: Version) -> bool:
        if version.pre_release and version.numbers not in self.named:
            return False
        return all(bound.holds(version, bound.version) for bound in self.bounds)


class Range:
    """The versions that a dependant accepts.

        Range.parse("^1.2").best([Version.parse("1.2.0"), Version.parse("1.9.3"), Version.parse("2.0.0")])

    Two ranges are equal when they are written alike.
    """

    __slots__ = ("_choices", "_text")

    def __init__(self, text: str, choices: tuple[_Together, ...]) -> None:
        self._text, self._choices = text, choices

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a range.

        Raises:
            ValueError: It is none, is longer than 256 characters, or no version can ever match.
        """
        if len(text) > MAX_RANGE:
            raise ValueError(f"a range has at most {MAX_RANGE} characters, not {len(text)}")
        return cls(text.strip() or "*", tuple(_together(part, text) for part in text.split("||")))

    def matches(self, version: Version) -> bool:
        """Tell whether the range takes a version."""
        return any(choice.match(version) for choice in self._choices)

    def best(self, versions: Iterable[Version]) -> Version | None:
        """The highest version that the range takes, or ``None``."""
        return max(filter(self.matches, versions), default=None)

    @override
    def __str__(self) -> str:
        return self._text

    @override
    def __repr__(self) -> str:
        return f"Range({self._text})"

    @override
    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Range) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash(self._text)


def _identifiers(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(match["pre"].split(".")) if match["pre"] else ()


def _together(part: str, whole: str) -> _Together:
    bounds: list[_Bound] = []
    named: set[tuple[int, int, int]] = set()
    position = _skip(part, 0)
    while position < len(part):
        match = _BOUND.match(part, position)
        if match is None:
            raise ValueError(
                f"{part[position:][:40]!r} in the range {whole[:80]!r} is none of the forms of a range: "
                '"^1.2", "~1.2.3", "1.x", ">=1.2 <2", "=1.2.3", "*", and "||" between two'
            )
        lowest = _lowest(match)
        if lowest.pre_release:
            named.add(lowest.numbers)
        bounds += _bounds(match, lowest)
        position = _skip(part, match.end())
    _refuse_empty(bounds, whole)
    return _Together(tuple(bounds), frozenset(named))


def _skip(part: str, position: int) -> int:
    while position < len(part) and part[position] in " \t\n,":
        position += 1
    return position


def _lowest(match: re.Match[str]) -> Version:
    """The version that a bound names, with 0 for what it leaves open."""
    numbers = [_number(match[name]) for name in _NAMES]
    if None in numbers and any(number is not None for number in numbers[numbers.index(None) :]):
        raise ValueError(f"{match[0]!r} has a number behind one that is left open")
    major, minor, patch = numbers
    if match["pre"] and patch is None:
        raise ValueError(f"{match[0]!r} names a pre-release of no one version; write all three numbers")
    return Version(major or 0, minor or 0, patch or 0, _identifiers(match))


def _number(digits: str | None) -> int | None:
    return None if digits is None or digits in "xX*" else int(digits)


def _bounds(match: re.Match[str], lowest: Version) -> list[_Bound]:
    op = match["op"] or "="
    open_from = next((n for n, name in enumerate(_NAMES) if _number(match[name]) is None), 3)
    if open_from == 0:
        if op in "<>":
            raise ValueError(f"{match[0]!r} matches no version")
        return []
    if op == "^":
        keep = next((n for n in range(open_from) if lowest.numbers[n]), open_from - 1)
        return [_Bound(ge, lowest), _Bound(lt, _next(lowest, keep))]
    if op == "~":
        return [_Bound(ge, lowest), _Bound(lt, _next(lowest, min(open_from - 1, 1)))]
    if open_from == 3:
        return [_Bound(_OPERATORS[op], lowest)]
    after = _next(lowest, open_from - 1)
    return {
        "=": [_Bound(ge, lowest), _Bound(lt, after)],
        ">=": [_Bound(ge, lowest)],
        ">": [_Bound(ge, after)],
        "<=": [_Bound(lt, after)],
        "<": [_Bound(lt, Version(*lowest.numbers, ("0",)))],
    }[op]


_NAMES: Final = ("major", "minor", "patch")
_OPERATORS: Final[dict[str, Callable[[Version, Version], bool]]] = {
    "=": eq,
    ">=": ge,
    ">": gt,
    "<=": le,
    "<": lt,
}


def _next(version: Version, keep: int) -> Version:
    """The first version, its pre-releases included, whose numbers up to ``keep`` are one higher."""
    numbers = [*version.numbers[:keep], version.numbers[keep] + 1, 0, 0]
    return Version(numbers[0], numbers[1], numbers[2], ("0",))


def _refuse_empty(bounds: Iterable[_Bound], whole: str) -> None:
    lows = [(bound.version, bound.holds is gt) for bound in bounds if bound.holds in (ge, gt, eq)]
    highs = [(bound.version, bound.holds is not lt) for bound in bounds if bound.holds in (le, lt, eq)]
    if not lows or not highs:
        return
    (low, above), (high, included) = max(lows), min(highs)
    if low > high or (low == high and (above or not included)):
        raise ValueError(f"the range {whole[:80]!r} matches no version: its bounds exclude each other")
