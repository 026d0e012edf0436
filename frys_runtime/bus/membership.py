"""A manager's part in the message bus, from before it is open until its last call is answered."""

import os
from typing import TYPE_CHECKING, Protocol

from ..events import Events
from .config import BusConfig, settings

if TYPE_CHECKING:
    from . import control, questions
    from .supervisor import Supervisor

    class Manager(control.Manager, questions.Manager, Protocol):
        """A manager, as far as others on the bus ask it and have it do something."""


class Membership:
    """What a manager does about the bus; nothing, if it takes no part.

    Args:
        bus: As of :class:`frys_runtime.PluginManager`.

    Attributes:
        supervisor: Its end of the bus, once it takes part.

    Raises:
        ConfigError: The settings are wrong.
    """

    def __init__(self, bus: bool | str | os.PathLike[str] | BusConfig) -> None:
        self._config = settings(bus)
        self._draining = False
        self.supervisor: Supervisor | None = None

    def open(self, manager: "Manager", events: Events) -> None:
        """Be there for others.

        Args:
            manager: Whom they ask.
            events: Where it is told what they had done.

        Raises:
            PluginError: Why that cannot be.
        """
        if self._config is not None:
            from .control import Control  # these need ZeroMQ, which costs 7 MB and two threads
            from .questions import questions
            from .supervisor import Supervisor

            control = Control(manager, events, allowed=self._config.is_controlled)
            self.supervisor = Supervisor(self._config, manager.communicator, questions(manager), control)

    async def joined(self) -> None:
        """Wait until those who are there are known."""
        if self.supervisor is not None:
            await self.supervisor.joined()

    def abort(self) -> None:
        """Leave without a word."""
        if self.supervisor is not None:
            self.supervisor.abort()

    async def leave(self, *, draining: bool) -> None:
        """Take no more calls of others.

        Args:
            draining: Those that are taken will still be answered; :meth:`end` sees to it.
        """
        self._draining = draining
        if self.supervisor is not None and draining:
            self.supervisor.withdraw()
        elif self.supervisor is not None:
            await self.supervisor.close()

    async def end(self) -> None:
        """Leave for good, when no plugin is left."""
        if self.supervisor is not None and self._draining:
            await self.supervisor.close(after_calls=True)
