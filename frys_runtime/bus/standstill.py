"""Plugins with several instances, of several supervisors, that wait for each other for ever.

Who has one instance is followed from supervisor to supervisor (:mod:`frys_runtime.bus.circles`). Who has
several goes on while any of them can, so what counts is what all of them do at one moment, which nobody
sees. But a wait that somebody has when all are asked, and has still when all are asked once more after the
last answer, was there in between: what both rounds tell was so at one moment. Those in it who wait for
nobody but each other do so for ever, unless one gives up; all find the same one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec

_FIRST_LOOK: Final = 0.2
"""Seconds after which a call that is not answered is thought about."""
_LATER_LOOK: Final = 2.0
"""The most between two thoughts."""


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """One wait.

    Attributes:
        who: What waits: an instance, or a call that came from elsewhere, by a name that everybody uses.
        plugin: The same, for people.
        number: The wait's; its supervisor never gives the same to another.
        on: Of whom any one that goes on would let this one go on; nobody where it can.
        at: The supervisor that knows more of them, if that is another one.
        came: It is a call that came from elsewhere.
    """

    who: str
    plugin: str
    number: int
    on: tuple[str, ...]
    at: str = ""
    came: bool = False


class Standstill:
    """Looks for one supervisor, as long as plugins of it wait for others elsewhere.

    Args:
        name: The supervisor's.
        here: The waits here at this moment.
        ask: Gives those of another supervisor, by its name; none where they are not to be had.
        end: Ends the call that one waits for, with the plugins of the circle.
    """

    def __init__(
        self,
        name: str,
        here: Callable[[], list[Waiting]],
        ask: Callable[[str], Awaitable[list[Waiting]]],
        end: Callable[[Waiting, list[str]], None],
    ) -> None:
        self._name, self._here, self._ask, self._end = name, here, ask, end
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None
        self._known: set[int] = set()
        self._pause = _FIRST_LOOK

    def begin(self) -> None:
        """A plugin here waits for a call that went elsewhere."""
        if self._timer is not None:
            if self._pause == _FIRST_LOOK:
                return
            self._timer.cancel()
        self._pause = _FIRST_LOOK
        if self._look is None:
            self._timer = self._loop.call_later(self._pause, self._tick)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._look is not None:
            self._look.cancel()

    def _tick(self) -> None:
        self._timer, waits = None, self._here()
        sent = {wait.number for wait in waits if wait.at}
        same, new = sent & self._known, sent - self._known
        self._known = sent
        if not sent:
            return
        self._pause = _FIRST_LOOK if new else min(2 * self._pause, _LATER_LOOK)
        if same and any(wait.came for wait in waits):
            self._look = self._loop.create_task(self._think())
        else:
            self._timer = self._loop.call_later(self._pause, self._tick)

    async def _think(self) -> None:
        try:
            told = await self._all_around()
            again = await asyncio.gather(*(self._ask(name) for name in told if name != self._name))
            at_one_moment = {wait for waits in told.values() for wait in waits}
            at_one_moment &= {wait for waits in (*again, self._here()) for wait in waits}
            mine = {wait.number for wait in self._here() if wait.at}
            for wait, path in ends(at_one_moment):
                if wait.who.endswith(f"/{self._name}") and wait.number in mine:
                    self._end(wait, path)
        finally:
            self._look = None
        self._timer = self._loop.call_later(self._pause, self._tick)

    async def _all_around(self) -> dict[str, list[Waiting]]:
        """What those know who are waited for from here, and from there, and so on; by their names."""
        told = {self._name: self._here()}
        while named := {wait.at for waits in told.values() for wait in waits if wait.at} - told.keys():
            answers = await asyncio.gather(*(self._ask(name) for name in named))
            told |= dict(zip(named, answers, strict=True))
        return told


def ends(waits: Iterable[Waiting]) -> list[tuple[Waiting, list[str]]]:
    """The waits to give up, so that everybody goes on: of each circle the one whose names are the last.

    Args:
        waits: All that there are at one moment.

    Returns:
        Waits for calls that have gone elsewhere, each with the plugins of its circle.
    """
    stuck: dict[str, list[Waiting]] = {}
    for wait in _stuck(set(waits)):
        stuck.setdefault(wait.who, []).append(wait)
    circles = {
        wait: path
        for waiting in stuck.values()
        for wait in waiting
        if wait.at and (path := _path(wait, stuck)) is not None
    }
    found = []
    for wait, path in circles.items():
        within = _reached(wait, stuck)
        rivals = [one for one in circles if one.who in within and wait.who in _reached(one, stuck)]
        if wait == max(rivals, key=lambda one: (one.who, one.number)):
            found.append((wait, path))
    return found


def _stuck(left: set[Waiting]) -> set[Waiting]:
    """Those that are never answered: whoever waits for somebody who does not, goes on, and so forth."""
    while True:
        waiting = {wait.who for wait in left}
        free = {wait for wait in left if not wait.on or any(one not in waiting for one in wait.on)}
        if not free:
            return left
        left = left - free


def _reached(wait: Waiting, stuck: dict[str, list[Waiting]]) -> dict[str, str]:
    """Who is waited for, directly or not; each with who waits for it, nearest first."""
    reached: dict[str, str] = {}
    next_ones = [(wait.who, one) for one in wait.on]
    for waiter, one in next_ones:  # which grows
        if one not in reached:
            reached[one] = waiter
            next_ones += [(one, more) for further in stuck.get(one, ()) for more in further.on]
    return reached


def _path(wait: Waiting, stuck: dict[str, list[Waiting]]) -> list[str] | None:
    """The plugins from one that waits back to itself; ``None`` where no way leads back."""
    reached = _reached(wait, stuck)
    if wait.who not in reached:
        return None
    path = [wait.who]
    while (before := reached[path[-1]]) != wait.who:
        path.append(before)
    path.append(wait.who)
    names = [stuck[one][0] for one in reversed(path)]
    return [name.plugin for name in names if not name.came]
