"""Modules that a Python plugin gets from its host: ``frys``, and a ``logging`` that reaches its log."""

import sys
from _frozen_importlib import ModuleSpec

from . import python_frys
from .failures import HostRefused
from .host import Host

TYPE_CHECKING = False  # importing the modules below costs memory in every plugin
if TYPE_CHECKING:
    from importlib.abc import Loader
    from logging import LogRecord
    from types import ModuleType
    from typing import Any
else:
    Loader = object


class Frys(Loader):
    """Gives the module ``frys``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def create_module(self, spec: ModuleSpec) -> "ModuleType":
        """Give the one module there is."""
        python_frys.bind(self._host)
        return python_frys

    def exec_module(self, module: "ModuleType") -> None:
        """Do nothing: its code has run."""


class Logging(Loader):
    """Loads ``logging`` as another loader does; what nobody handles goes to the host then.

    Only in place of the handler of last resort: a plugin that configures handlers gets what it asked for.
    """

    def __init__(self, loader: "Any", host: Host) -> None:
        self._loader = loader
        self._host = host

    def create_module(self, spec: ModuleSpec) -> "ModuleType | None":
        """Let the other loader make it."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: "ModuleType") -> None:
        """Run its code, and leave no trace but the handler."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        vars(module)["lastResort"] = _handler(self._host, vars(module)["lastResort"])


def logging_spec(host: Host) -> ModuleSpec | None:
    """Find ``logging`` where it is, to be loaded with a handler."""
    for finder in sys.meta_path:
        spec = finder.find_spec("logging", None)
        if spec is not None:
            spec.loader = Logging(spec.loader, host)
            return spec
    return None


def _handler(host: Host, printing: "Any") -> "Any":
    import logging

    class HostHandler(logging.Handler):
        """Writes records to the host's log; prints them, as Python would, where that is not granted."""

        granted = True

        def emit(self, record: "LogRecord") -> None:
            if self.granted:
                try:
                    host.ask("log", _level(record.levelno), f"{record.name}: {self.format(record)}")
                    return
                except HostRefused as refusal:
                    # Each refusal is an event and a line of the audit log.
                    self.granted = refusal.reason != "permission"
                except Exception:  # the record's arguments do not fit it, or their __str__ fails
                    self.handleError(record)
                    return
            if record.levelno >= printing.level:
                printing.handle(record)

    return HostHandler()


def _level(number: int) -> str:
    names = ((40, "error"), (30, "warning"), (20, "info"), (10, "debug"))
    return next((name for least, name in names if number >= least), "trace")
