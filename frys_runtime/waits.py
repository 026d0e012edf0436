"""Which plugins wait for which, so that a call that could never be answered is refused at once.

A plugin may have several instances, each of which serves one call at a time. An instance that asked for a
call waits until that is answered. It can be answered when the instance that serves it goes on, or, while
it still queues, when any instance of its target does. Whoever would wait for something that waits for
himself is refused; nobody else is.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import NamedTuple, Protocol


class Server(Protocol):
    """One loaded version of a plugin.

    Attributes:
        plugin_id: Its id, for people.
        key: A number that no other loaded version has.
    """

    plugin_id: str
    key: int

    @property
    def instances(self) -> int:
        """How many calls it can serve at the same time."""


class Instance(NamedTuple):
    """One process of a loaded version, whichever runs there at the time.

    Attributes:
        key: The version.
        number: Which of its instances, from 1 on.
        plugin_id: Its id, for people.
    """

    key: int
    number: int
    plugin_id: str


class Wait:
    """One call under way that an instance waits for: a context manager around it.

    Args:
        waits: All of them.
        target: What is called.

    Attributes:
        target: As above.
        server: Its instance that serves the call; ``None`` while the call queues.
        sent: The supervisor that the call went to, and under which number; ``None`` for a call here.
    """

    server: Instance | None = None
    sent: tuple[str, int] | None = None
    _number = 0
    _who: Instance | None = None
    _token: "Token[Wait | None]"

    def __init__(self, waits: "Waits", target: Server) -> None:
        self._waits, self.target = waits, target

    def __enter__(self) -> None:
        """Have the last instance of this context's line wait, if there is one.

        Raises:
            Circle: The call would never be answered.
        """
        if line := _line.get():
            self._waits.begin(line[-1], self)
            self._who, self._token = line[-1], _wait.set(self)

    def __exit__(self, *_: object) -> None:
        if self._who is not None:
            _wait.reset(self._token)
            self._waits.end(self._who, self)

    @property
    def number(self) -> int:
        """Unlike any other's; given to those that somebody asks for."""
        self._number = self._number or next(_numbers)
        return self._number


_numbers = itertools.count(1)
_line: ContextVar[tuple[Instance, ...]] = ContextVar("frys_line_of_calls", default=())
_wait: ContextVar[Wait | None] = ContextVar("frys_wait", default=None)


def line() -> tuple[Instance, ...]:
    """The instances that wait, one for the next, for what is running now."""
    return _line.get()


def extend_line(instance: Instance) -> None:
    """Have an instance wait, too, for what runs in this context from now on."""
    _line.set((*_line.get(), instance))


def enter_line(instances: tuple[Instance, ...]) -> None:
    """These wait for what runs in this context from now on, and nobody else."""
    _line.set(instances)


def forget_line() -> None:
    """Nobody waits for what runs in this context from now on."""
    _line.set(())
    _wait.set(None)


def served_by(instance: Instance) -> None:
    """The call that this context makes has left its queue."""
    wait = _wait.get()
    if wait is not None and wait.target.key == instance.key:
        wait.server = instance


def sent_as(key: int, supervisor: str, number: int) -> None:
    """The call that this context makes of a plugin has gone to another supervisor."""
    wait = _wait.get()
    if wait is not None and wait.target.key == key:
        wait.sent = supervisor, number


class Circle(Exception):
    """A call would wait for itself.

    Attributes:
        path: The plugins, from the one that calls to the one that waits for it.
    """

    def __init__(self, path: Sequence[str]) -> None:
        self.path = tuple(path)
        super().__init__(" > ".join(path))


class Told(NamedTuple):
    """One wait, for those who put together what several managers know.

    Attributes:
        who: The instance that waits; of a call that came from another supervisor, its name.
        number: The wait's; no other has had it.
        servers: The instances of which any one that goes on would let it go on; none where one is free.
        sent: The supervisor that has the call, and its number there.
    """

    who: Instance | str
    number: int
    servers: tuple[Instance, ...]
    sent: tuple[str, int] | None


class Waits:
    """Every wait of one manager."""

    def __init__(self) -> None:
        self._arrived: dict[str, Wait] = {}
        self._waits: dict[Instance, list[Wait]] = {}
        self._waiting: dict[int, int] = {}

    def waiting(self, target: Server) -> Wait:
        """Have the last instance of this context's line wait for a call of a plugin, if there is one.

        Returns:
            A context manager, which raises ``Circle`` where the call would never be answered.
        """
        return Wait(self, target)

    @contextmanager
    def arriving(self, name: str, target: Server) -> Iterator[None]:
        """A call that came from another supervisor, under a name of its own, is made in this context."""
        wait = self._arrived[name] = Wait(self, target)
        token = _wait.set(wait)
        try:
            yield
        finally:
            _wait.reset(token)
            del self._arrived[name]

    def has(self, target: Server) -> bool:
        """Whether an instance of a plugin waits; where none does, a call of it closes no circle."""
        return target.key in self._waiting

    def told(self) -> list[Told]:
        """Every wait, as it is at this moment."""
        waits: list[tuple[Instance | str, Wait]] = [*self._arrived.items()]
        waits += [(who, wait) for who, mine in self._waits.items() for wait in mine]
        return [
            Told(who, wait.number, () if wait.sent else tuple(self._servers(wait)), wait.sent)
            for who, wait in waits
        ]

    def begin(self, who: Instance, wait: Wait) -> None:
        """An instance begins to wait.

        Raises:
            Circle: It would never be answered, and does not wait.
        """
        mine = self._waits.get(who)
        if mine is None:
            self._waits[who] = [wait]
            self._waiting[who.key] = self._waiting.get(who.key, 0) + 1
        else:
            mine.append(wait)
        if self._all_wait(wait.target) and who in (stuck := self._stuck(who)):
            path = self._path(who, wait, stuck)
            self.end(who, wait)
            raise Circle(path)

    def end(self, who: Instance, wait: Wait) -> None:
        """It waits no more."""
        mine = self._waits[who]
        mine.remove(wait)
        if not mine:
            del self._waits[who]
            self._waiting[who.key] -= 1
            if not self._waiting[who.key]:
                del self._waiting[who.key]

    def _all_wait(self, target: Server) -> bool:
        waiting = self._waiting.get(target.key)
        return waiting is not None and waiting >= target.instances

    def _stuck(self, who: Instance) -> set[Instance]:
        """Of the instances on which one depends, those that can never go on.

        Who does not wait goes on by himself. Whoever waits only for such, goes on, too, and so forth.
        """
        stuck: set[Instance] = set()
        found = [who]
        while found:
            instance = found.pop()
            if instance in self._waits and instance not in stuck:
                stuck.add(instance)
                found += [server for wait in self._waits[instance] for server in self._servers(wait)]
        freed = True
        while freed:
            free = {one for one in stuck if all(self._is_free(wait, stuck) for wait in self._waits[one])}
            stuck -= free
            freed = bool(free)
        return stuck

    def _servers(self, wait: Wait) -> list[Instance]:
        """Whose end would let a wait go on; nobody's where an instance is free."""
        if wait.server is not None:
            return [wait.server]
        target = wait.target
        if not self._all_wait(target):
            return []
        return [Instance(target.key, number, target.plugin_id) for number in range(1, target.instances + 1)]

    def _is_free(self, wait: Wait, stuck: set[Instance]) -> bool:
        servers = self._servers(wait)
        return not servers or any(server not in stuck for server in servers)

    def _path(self, who: Instance, wait: Wait, stuck: set[Instance]) -> list[str]:
        path, at = [who.plugin_id], wait
        while True:
            server = next(one for one in self._servers(at) if one in stuck)
            path.append(server.plugin_id)
            if server == who or len(path) > len(stuck) + 1:
                return path
            at = self._waits[server][-1]
