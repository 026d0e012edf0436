"""Who waits for whom: plugins call each other along lines that end, and whoever would close a circle is told.

Here a plugin is its id. One that another supervisor runs is its address, ``PLUGIN@NAME``; what it waits
for, its supervisor knows. So a circle over several of them is found by following it from one to the next
(edge chasing, Chandy, Misra and Haas 1983): who waits is blocked until its call ends, so a circle that was
followed back to its beginning stays one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from .messages import Refused

MAX_DEPTH: Final = 16
"""Plugins that may wait for one another in one line of calls."""

line: Final[ContextVar[tuple[str, ...]]] = ContextVar("frys_line_of_calls", default=())
"""The plugins that wait, one for the next, for what is running now."""


def caller() -> str:
    """The plugin whose call or question the running host function serves; empty outside of one."""
    waiting = line.get()
    return waiting[-1] if waiting else ""


class Waits:
    """The plugins of one manager that wait for others."""

    def __init__(self) -> None:
        self._for: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[Any] | None] = {}
        self._circles: dict[str, list[str]] = {}

    @contextmanager
    def waiting(self, callers: tuple[str, ...], target: str) -> Iterator[None]:
        """The last of a line calls a plugin and waits for its answer.

        Raises:
            Refused: Only now it is known that it waits for itself.
        """
        source, task = callers[-1], asyncio.current_task()
        line.set(callers)
        self._for[source] = target
        self._tasks[source] = task
        try:
            yield
        except asyncio.CancelledError:
            path = self._circles.pop(source, None)
            if path is None or task is None:
                raise
            task.uncancel()
            raise _circle(path) from None
        finally:
            self._for.pop(source, None)
            self._tasks.pop(source, None)

    def refuse_circle(self, callers: tuple[str, ...], target: str) -> list[str]:
        """Refuse a call with which the last of a line would wait for itself.

        Returns:
            Who waits for whom, as far as it is known here, from the last of the line on.

        Raises:
            Refused: It would, or too many wait already.
        """
        if len(callers) > MAX_DEPTH:
            raise Refused("limit", f"{MAX_DEPTH} plugins wait for one another already: {' > '.join(callers)}")
        path = self._follow([callers[-1], target])
        if path[-1] == path[0]:
            raise _circle(path)
        if target in callers:
            raise _circle([*callers, target])
        return path

    def chase(self, path: list[str]) -> list[str]:
        """Follow further who waits for whom; where that comes back to its beginning, that one's call ends.

        Args:
            path: Two or more, as far as other supervisors know.

        Returns:
            The same, as far as it is known here.
        """
        path = self._follow(path)
        first = path[0]
        task = self._tasks.get(first)
        if path[-1] == first and task is not None and self._for.get(first) == path[1]:
            self._circles[first] = path
            task.cancel()
        return path

    def _follow(self, path: list[str]) -> list[str]:
        while path[-1] not in path[:-1] and path[-1] in self._for:
            path = [*path, self._for[path[-1]]]
        return path


def _circle(path: list[str]) -> Refused:
    return Refused("cycle", f"it would wait for itself: {' > '.join(path)}")
