"""Keeps in a file what is loaded, and loads it again when the next manager starts."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from . import roster
from .errors import ConfigError, InitializationFailed, PluginError
from .events import Events
from .loaded import LoadedPlugins

logger = logging.getLogger("frys.manager")

_ROSTER: Final = "plugins.json"


class Recall:
    """What is loaded, in a file.

    Args:
        place: Gives the path of a file by its name.
        loaded: The plugins.
        events: Where it is told that nothing can be written.
        restores: Whether anything is remembered.

    Attributes:
        unrestored: Why plugins that are remembered could not be loaded again, by id; under an empty one, why
            what is remembered could not be read.
    """

    def __init__(
        self, place: Callable[[str], str | None], loaded: LoadedPlugins, events: Events, *, restores: bool
    ) -> None:
        self._place, self._loaded, self._events = place, loaded, events
        self._restores = restores
        self.unrestored: dict[str, PluginError] = {}
        self._kept: dict[str, roster.Entry] = {}
        self._written: list[roster.Entry] = []
        self._writing = asyncio.Lock()
        self._chores: set[asyncio.Task[None]] = set()
        self._active = False
        loaded.on_change(self._changed)

    async def restore(self, load: Callable[..., Awaitable[Any]]) -> None:
        """Load what is remembered, as far as it can be loaded; the rest stays remembered.

        Args:
            load: :meth:`PluginManager.load_plugin`.
        """
        if not self._restores:
            return
        path = self._place(_ROSTER) or ""
        try:
            self._written = await asyncio.to_thread(roster.read, path)
        except ConfigError as error:
            logger.exception("nothing is restored")
            self._events.publish("refused", "", path=path, error="ConfigError", reason=str(error))
            self.unrestored[""] = error
            with suppress(OSError):
                os.replace(path, f"{path}.damaged")
        for entry in self._written:
            try:
                await load(entry.path, **entry.arguments())
            except PluginError as error:
                logger.warning("%s is not restored: %s", entry.plugin_id, error)
                self.unrestored[entry.plugin_id] = error
                self._kept[entry.plugin_id] = entry
        self._active = True

    def _changed(self) -> None:
        if self._active:
            chore = asyncio.create_task(self.write())
            self._chores.add(chore)
            chore.add_done_callback(self._chores.discard)

    async def write(self) -> None:
        """Write down what is loaded; what cannot be written is told, and fails nothing."""
        async with self._writing:
            entries = self._entries()
            if not self._active or entries == self._written:
                return
            try:
                await asyncio.to_thread(roster.write, self._place(_ROSTER) or "", entries)
                self._written = entries
            except (OSError, InitializationFailed) as error:
                reason = getattr(error, "strerror", None) or str(error)
                logger.exception("what is loaded cannot be remembered")
                self._events.publish("forgotten", "", reason=reason)

    def _entries(self) -> list[roster.Entry]:
        """What is loaded, in the order of loading, and what could not be loaded again."""
        loaded: list[roster.Entry] = []
        for plugin_id, deployment in self._loaded.deployments.items():
            several = len(deployment.releases) > 1
            for release in deployment.releases:
                address = f"{plugin_id}@{release.version}" if several else plugin_id
                source = release.source
                given = source.isolation, source.sandbox, source.metadata
                loaded.append(roster.Entry.of(source.origin or source.path, address, *given))
        for entry in loaded:
            self.unrestored.pop(entry.plugin_id, None)
            self._kept.pop(entry.plugin_id, None)
        return [*self._kept.values(), *loaded]

    async def close(self) -> None:
        """What goes from here on is remembered."""
        await asyncio.gather(*self._chores)
        self._active = False
