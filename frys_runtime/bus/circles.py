"""Plugins of several supervisors that wait for each other in a circle.

Here a plugin is its id. One that another supervisor runs is its address, ``PLUGIN/NAME``; for whom it
waits, its supervisor knows. So a circle over several of them is found by following it from one to the next
(edge chasing, Chandy, Misra and Haas 1983): who waits is blocked until its call ends, so a circle that was
followed back to its beginning stays one.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ..messages import Refused

MAX_LINE: Final = 64
"""Plugins that are followed; a line of calls is far shorter."""


class Circles:
    """The plugins of one supervisor that wait for others, here or elsewhere.

    Args:
        ask: Sends a line of those who wait to the supervisor of its last, who knows more.
        instances: How many calls a plugin here serves at the same time. One that serves several goes on
            while one of them waits, so only those are followed that serve one.
    """

    def __init__(self, ask: Callable[[list[str]], None], instances: Callable[[str], int]) -> None:
        self._ask, self._instances = ask, instances
        self._for: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[Any] | None] = {}
        self._found: dict[str, list[str]] = {}

    @contextmanager
    def waiting(self, line: tuple[str, ...], target: str) -> Iterator[None]:
        """The last of a line calls a plugin and waits for its answer.

        Raises:
            Refused: It would wait for itself; that may become known while it waits.
        """
        source, task = line[-1], asyncio.current_task()
        self.refuse(line, target)
        if self._instances(source) > 1:
            yield
            return
        self._for[source], self._tasks[source] = target, task
        try:
            yield
        except asyncio.CancelledError:
            path = self._found.pop(source, None)
            if path is None or task is None:
                raise
            task.uncancel()
            raise circle(path) from None
        finally:
            self._for.pop(source, None)
            self._tasks.pop(source, None)

    def refuse(self, line: tuple[str, ...], target: str) -> None:
        """Refuse a call with which the last of a line would wait for itself.

        Raises:
            Refused: It would.
        """
        path = self._follow([line[-1], target])
        if path[-1] == path[0]:
            raise circle(path)
        if line.count(target) >= self._instances(target):
            raise circle([*line, target])
        if len(path) > 2:
            self._ask(path)  # of a call that goes elsewhere, the other supervisor thinks by itself

    def chase(self, path: list[str]) -> None:
        """Follow further who waits for whom; where that comes back to its beginning, that one's call ends.

        Args:
            path: Two or more, as far as other supervisors know.
        """
        path = self._follow(path)
        first = path[0]
        task = self._tasks.get(first)
        if path[-1] == first and task is not None and self._for.get(first) == path[1]:
            self._found[first] = path
            task.cancel()
        elif len(path) < MAX_LINE and path[-1] not in path[1:-1]:
            self._ask(path)

    def _follow(self, path: list[str]) -> list[str]:
        while path[-1] not in path[:-1] and path[-1] in self._for:
            path = [*path, self._for[path[-1]]]
        return path


def circle(path: list[str]) -> Refused:
    """Why a call is not made, or ends: its plugins, from the one that calls back to it."""
    return Refused("cycle", f"it would wait for itself: {' > '.join(path)}")
