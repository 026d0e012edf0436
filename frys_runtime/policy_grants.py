"""What a policy grants by name: other plugins' functions, events, host functions; and patterns of names.

No layer of the kernel holds a plugin to these. It has no other plugin's lane, so it asks the host, and the
host looks here before it does anything.
"""

import functools
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from .policy_file import Node

NAME_LENGTH: Final = 128
PLUGIN_PATTERN: Final = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,127}")
"""Ids of plugins, with ``*`` and ``?``."""


class MessageGrant(msgspec.Struct, frozen=True, kw_only=True):
    """Which plugins may be called, and which events published and received. Names may have ``*`` and ``?``.

    Attributes:
        call: Plugins, each with the functions that may be called.
        publish: Types of events that it may publish.
        subscribe: Types of events that it may receive.
    """

    call: tuple[tuple[str, tuple[str, ...]], ...] = ()
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    def may_call(self, target: str, function: str) -> bool:
        """Whether a function of another plugin may be called."""
        for plugin, names in self.call:  # noqa: SIM110 - no generator on the way of every message
            if matches(plugin, target) and one_matches(names, function):
                return True
        return False

    def may_publish(self, event_type: str) -> bool:
        """Whether events of a type may be published."""
        return one_matches(self.publish, event_type)

    def may_subscribe(self, event_type: str) -> bool:
        """Whether events of a type may be received."""
        return one_matches(self.subscribe, event_type)


def matches(pattern: str, name: str) -> bool:
    """Whether a name is what a pattern says: ``*`` is any text, ``?`` any one character."""
    return pattern == name or _compiled(pattern).fullmatch(name) is not None


def one_matches(patterns: Iterable[str], name: str) -> bool:
    """Whether a name is what one of several patterns says."""
    for pattern in patterns:  # noqa: SIM110 - no generator on the way of every message
        if matches(pattern, name):
            return True
    return False


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Each part between two * is taken where it is first found, and never again: names may be hostile, and to
    # try all the ways takes time that grows with every *.
    parts = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern)]
    if len(parts) == 1:
        return re.compile(parts[0])
    first, *middle, last = parts
    return re.compile(f"{first}{''.join(f'(?>.*?{part})' for part in middle)}.*{last}")


def read_calls(node: Node) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The functions that may be called, by plugin.

    Raises:
        ConfigError: It is no mapping of plugins to lists of functions.
    """
    for plugin in node.mapping():
        _check_name(node.child(plugin), plugin)
    return tuple((plugin, names.each_once(names.texts(), _name)) for plugin, names in node.mapping().items())


def read_names(node: Node) -> tuple[str, ...]:
    """A list of names and patterns.

    Raises:
        ConfigError: It is another thing.
    """
    return tuple(dict.fromkeys(map(_name, node.texts())))


def _name(node: Node) -> str:
    _check_name(node, node.value)
    return str(node.value)


def _check_name(node: Node, name: str) -> None:
    if not 0 < len(name) <= NAME_LENGTH or not name.isprintable() or " " in name:
        node.fail(
            f"{name[:20]!r} is no name: 1 to {NAME_LENGTH} characters without spaces, * and ? as patterns"
        )
