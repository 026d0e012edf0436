"""How a module says what it offers to components."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Interface(NamedTuple):
    """An interface that components may import.

    Attributes:
        functions: By name, the type that a function must have (as WIT writes it) and what it does.
        resources: By name, what ends a resource that its owner drops.
        absent: Resources of which there never is one: whatever takes one first is offered, and never called.
    """

    functions: dict[str, tuple[str, Callable[..., Any]]]
    resources: Mapping[str, Callable[[Any], None] | None] = MappingProxyType({})
    absent: tuple[str, ...] = ()
