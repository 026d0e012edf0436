"""YAML, read strictly: plain values that know where they stand, and errors that say so.

Every value is a :class:`Node`. What is wrong with it is said by ``node.fail(reason)``, which names the file,
the line, the column and the key.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, Final, NamedTuple, NoReturn

import yaml

from .errors import ConfigError

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_BYTES: Final = 1 << 18
_MAX_DEPTH: Final = 16
_MAX_NODES: Final = 20_000

BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
TIME: Final = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}
BANDWIDTH: Final = {f"{unit}/s": factor for unit, factor in BYTES.items()}
RATE: Final = {"/s": 1}
COUNT: Final[dict[str, int]] = {}
CORES: Final = {"cpu": 1}
"""Units by how many of the smallest they are."""

type Path = tuple[str, ...]
"""The keys from the top of a file to a value."""


class Node(NamedTuple):
    """One value of a file.

    Attributes:
        document: The file.
        path: The keys that lead to the value.
        value: It.
    """

    document: "Document"
    path: Path
    value: Any

    @property
    def where(self) -> str:
        """File and line, for people."""
        return self.document.where(self.path, column=False)

    def fail(self, reason: str) -> NoReturn:
        """Raise the ConfigError for this value."""
        where = self.document.where(self.path, column=True)
        raise ConfigError(f"{where}: {'.'.join(self.path)}" if self.path else where, reason)

    def child(self, key: str) -> "Node":
        """The value of a key, whether it stands there (else ``None``) or not."""
        return Node(self.document, (*self.path, key), self.value.get(key))

    def mapping(self, known: Iterable[str] | None = None) -> dict[str, "Node"]:
        """The values of a mapping by key.

        Args:
            known: The keys that may stand there; any by default.

        Raises:
            ConfigError: It is no mapping, or has another key.
        """
        if not isinstance(self.value, dict):
            self.fail("must be a mapping of keys to values")
        for key in self.value:
            if known is not None and key not in known:
                close = get_close_matches(key, list(known), 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
                self.child(key).fail(f"is not a key that belongs here; {hint}")
        return {key: self.child(key) for key in self.value}

    def text(self) -> str:
        """A text that says something."""
        if not isinstance(self.value, str) or not self.value.strip():
            self.fail("must be a text")
        return self.value

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            self.fail(f"must be true or false, not {self.value!r}")
        return self.value

    def one_of(self, known: Iterable[str]) -> str:
        """One of some words."""
        if self.value not in tuple(known):
            self.fail(f"is {self.value!r}; it must be one of {', '.join(known)}")
        return str(self.value)

    def texts(self) -> list["Node"]:
        """The items of a list of texts."""
        if not isinstance(self.value, list) or not all(isinstance(item, str) for item in self.value):
            self.fail("must be a list of texts: [...]")
        return self.items()

    def items(self) -> list["Node"]:
        """The items of a list."""
        if not isinstance(self.value, list):
            self.fail("must be a list: [...]")
        return [Node(self.document, (*self.path, str(at)), item) for at, item in enumerate(self.value)]

    def each_once[T](self, items: list["Node"], read: Callable[["Node"], T]) -> tuple[T, ...]:
        """What is read of the items of this list, of which there must be one, without what comes again."""
        if not items:
            self.fail("must name at least one")
        return tuple(dict.fromkeys(map(read, items)))

    def amount(self, units: Mapping[str, int], least: int) -> int:
        """A number in the smallest of the units, which must stand there unless it is 0 or there are none."""
        number, unit = self._number()
        factor = units.get(unit) if units else 1 if not unit else None
        if number is not None and not unit and number == 0:
            factor = 1
        if number is None or factor is None:
            form = f"a number with one of the units {', '.join(units)}" if units else "a whole number"
            self.fail(f"is {self.value!r}; it must be {form}")
        amount = number * factor
        if not amount.is_integer() or not least <= amount < 1 << 63:
            self.fail(
                f"is {self.value!r}, which is not a whole number of at least {least} in the smallest unit"
            )
        return int(amount)

    def cores(self) -> float | None:
        """A share of the processors: ``0.5 cpu``, or ``none``."""
        if self.value == "none":
            return None
        number, unit = self._number()
        if number is None or unit != "cpu" or not Fraction("0.01") <= number <= 4096:
            self.fail(f"is {self.value!r}; it must be processors, at least 0.01, like '0.5 cpu', or none")
        return float(number)

    def bandwidth(self) -> int | None:
        """Bytes a second: ``10MiB/s``, or ``none``."""
        return None if self.value == "none" else self.amount(BANDWIDTH, 1)

    def _number(self) -> tuple[Fraction | None, str]:
        match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z/]*)", str(self.value), re.ASCII)
        if match is None or isinstance(self.value, bool):
            return None, ""
        return Fraction(match[1]), match[2]


class Document:
    """One YAML file as plain values.

    Attributes:
        file: Its name in errors.
        top: The mapping that it holds.

    Raises:
        ConfigError: It is not YAML, too large, has a key twice, or holds no mapping.
    """

    def __init__(self, file: str, data: bytes) -> None:
        self.file = file
        self._marks: dict[Path, tuple[int, int]] = {}
        self._nodes = 0
        self._scalars = yaml.constructor.SafeConstructor()
        tree = self._plain(self._compose(data), ())
        if not isinstance(tree, dict):
            raise ConfigError(file, "must be a mapping of keys to values")
        self.top = Node(self, (), tree)

    def where(self, path: Path, *, column: bool) -> str:
        """The file with the line (and column) of a key, or of the nearest above it that stands there."""
        ends = range(len(path), 0, -1)
        mark = next((self._marks[path[:end]] for end in ends if path[:end] in self._marks), None)
        if mark is None:
            return self.file
        place = f"{self.file}, line {mark[0]}"
        return f"{place}, column {mark[1]}" if column else place

    def _compose(self, data: bytes) -> yaml.Node | None:
        if len(data) > _MAX_BYTES:
            raise ConfigError(self.file, f"is longer than {_MAX_BYTES} bytes")
        try:
            node: yaml.Node | None = yaml.compose(data.decode(), Loader=_LOADER)
        except UnicodeDecodeError as error:
            raise ConfigError(self.file, f"is not UTF-8: byte {error.start}") from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f"{self.file}, line {mark.line + 1}, column {mark.column + 1}" if mark else self.file
            raise ConfigError(where, f"is not YAML: {error.problem}") from None
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(self.file, f"is not YAML: {error}") from None
        return node

    def _plain(self, node: yaml.Node | None, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            Node(self, path, None).fail("is nested too deeply, or the file has too many values")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            items = [(item, (*path, str(index))) for index, item in enumerate(node.value)]
            self._marks |= {at: _mark(item) for item, at in items}
            return [self._plain(item, at) for item, at in items]
        try:
            return self._scalars.construct_object(node) if node is not None else None
        except (yaml.YAMLError, ValueError):
            return Node(self, path, None).fail("has a value that YAML cannot read")

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = _mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{self.file}, line {line}, column {column}", "a key must be a word")
            key = key_node.value
            self._marks[*path, key] = line, column
            if key in found:
                Node(self, (*path, key), None).fail("stands there twice")
            found[key] = self._plain(value_node, (*path, key))
        return found


def in_units(value: int, units: Mapping[str, int]) -> str:
    """An amount with the largest unit that says it exactly: ``64MiB``, ``1s``, ``100/s``."""
    if not value or not units:
        return f"{value}"
    unit, factor = max(
        ((unit, factor) for unit, factor in units.items() if value % factor == 0), key=lambda one: one[1]
    )
    return f"{value // factor}{unit}"


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
