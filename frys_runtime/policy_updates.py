"""What a policy says about new versions of plugins from registries: which are taken by themselves."""

import re
from collections.abc import Callable
from typing import Any, Final, Literal

from .policy_file import TIME, Node, in_units

type AutoUpdate = Literal["none", "patch", "minor", "any"]

_SHARE: Final = re.compile("([1-9][0-9]?|100)%")


def _which(node: Node) -> str:
    return node.one_of(("none", "patch", "minor", "any"))


def _share(node: Node) -> int:
    if node.value == "none":
        return 0
    match = _SHARE.fullmatch(str(node.value))
    if match is None:
        node.fail(f"is {node.value!r}; it must be a share of the calls from 1% to 100%, or none")
    return int(match[1])


READERS: Final[dict[str, Callable[[Node], Any]]] = {
    "auto_update": _which,
    "auto_update_interval": lambda node: node.amount(TIME, 1000),
    "auto_update_min_age": lambda node: node.amount(TIME, 0),
    "auto_update_canary": _share,
}
"""How each key is read."""


def said(key: str, value: Any) -> str:
    """A value as a file has it."""
    if key == "auto_update_canary":
        return f"{value}%" if value else "none"
    return str(value) if key == "auto_update" else in_units(value, TIME)
