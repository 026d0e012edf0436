"""Typed code that calls a plugin, written from what the plugin declares.

A plugin's words become code here, so each of them is either turned into an identifier of letters, digits and
underscores, or written as a literal with escapes; nothing else of a plugin gets into what is generated.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from ..interfaces import Interface
from . import c, javascript, python
from .model import Model, document, model

__all__ = ["Language", "generate"]


class Language(StrEnum):
    """What is written."""

    PYTHON = "python"
    """A class for a host program."""
    PYTHON_PLUGIN = "python-plugin"
    """A class for another plugin."""
    JAVASCRIPT = "javascript"
    """A class for another plugin."""
    C = "c"
    """A header for another plugin."""
    JSON = "json"
    """The keys ``exports``, ``types`` and ``events`` of a plugin.json."""


_WRITERS: Mapping[Language, Callable[[Model], str]] = {
    Language.PYTHON: python.host,
    Language.PYTHON_PLUGIN: python.plugin,
    Language.JAVASCRIPT: javascript.plugin,
    Language.C: c.plugin,
    Language.JSON: lambda made: document(made) + "\n",
}


def generate(language: Language, plugin_id: str, version: str, interface: Interface) -> str:
    """Write code.

    Args:
        language: What.
        plugin_id: The plugin's id, under which it is called unless the caller names another one.
        version: Its version, for the first line.
        interface: What it offers.
    """
    return _WRITERS[language](model(plugin_id, version, interface))
