"""A real workload: calls, nested calls, events, stored values, reloads, canaries, pauses, all at once."""

import asyncio
import errno
import itertools
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from chaos.ledger import Ledger
from chaos.plugins import KINDS, Shelf, talks

from frys_runtime import (
    Event,
    InitializationFailed,
    PluginError,
    PluginManager,
    PluginMessage,
    PluginNotFound,
    ReloadFailed,
)

GRACE: Final = 2.5
"""Seconds after its deadline by which a call has ended, without those in which this program stood still; the
machine may be busy with other things, too."""
_SLOW: Final = 60.0
"""Seconds that a reload, a load or an end may take while launchers are frozen."""
_NOTHING: Final = object()
_TALKERS: Final = [kind for kind in KINDS if talks(kind)]


class Workload:
    """What a busy host program does, and what it expects.

    Args:
        manager: The manager.
        rng: Decides what and when.
        ledger: Is told what came of it.
        shelves: The plugins' files.
        pace: Seconds between two calls of one of the callers, on average.
    """

    def __init__(
        self,
        manager: PluginManager,
        rng: random.Random,
        ledger: Ledger,
        shelves: dict[str, Shelf],
        pace: float,
    ) -> None:
        self._manager, self._rng, self._ledger, self._shelves = manager, rng, ledger, shelves
        self._pace = pace
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._go_on = True
        manager.host_function("did")(ledger.did)
        manager.host_function("did_again")(lambda call: ledger.did(call, most=2))
        manager.host_function("slow")(self._slow)
        manager.host_function("seen")(lambda number: ledger.seen(_caller(), number))

    async def load(self) -> None:
        """Load every plugin."""
        for kind, shelf in self._shelves.items():
            number, path = shelf.write()
            await self._manager.load_plugin(path)
            self._ledger.floor[kind] = number

    def start(self) -> None:
        """Begin."""
        self._go_on = True
        works: list[Callable[[], Coroutine[Any, Any, None]]] = [self._call] * 6
        works += [self._nested, self._chain, self._store, self._tell, self._give_up]
        for work in works:
            self._begin(work, self._pace)
        self._begin(self._reload, self._pace * 8)
        self._begin(self._canary, self._pace * 30)
        self._begin(self._pause, self._pace * 40)
        self._begin(self._leave, self._pace * 60)
        self._begin(self._look, self._pace * 10)
        self._watchers = [
            asyncio.create_task(self._ledger.keep_time()),
            asyncio.create_task(self._follow(self._manager.events())),
        ]

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]], pace: float) -> None:
        async def again() -> None:
            while self._go_on:
                await asyncio.sleep(self._rng.expovariate(1 / pace))
                try:
                    await work()
                except InitializationFailed as error:
                    self._ledger.note(str(error))  # it was closed under us
                except OSError as error:
                    if error.errno != errno.EMFILE:
                        raise
                    self._ledger.note(f"{work.__name__}: {error}")  # its own files, not the manager's

        self._tasks.append(asyncio.create_task(again()))

    async def stop(self) -> None:
        """Let what is under way end, which it does in time."""
        self._go_on = False
        while self._tasks:  # some of them begin others
            works, self._tasks = self._tasks, []
            done, late = await asyncio.wait(works, timeout=2 * _SLOW)
            for task in late:
                self._ledger.fail(f"a caller never came back: {task.get_stack()}")
                task.cancel()
            for task in done:
                if not task.cancelled() and (error := task.exception()):
                    self._ledger.fail(f"a caller failed: {error!r}")
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.wait(self._watchers)

    async def all_answer(self) -> None:
        """Nothing breaks any more: within a bounded time every plugin serves."""
        for kind in self._shelves:
            number, path = self._shelves[kind].write()
            try:
                async with asyncio.timeout(_SLOW):
                    await self._come_back(kind, number, path)
            except TimeoutError:
                state = self._manager.plugin(kind).state if kind in self._ids() else "not loaded"
                self._ledger.fail(f"{kind} does not come back: it is {state}")

    def _ids(self) -> set[str]:
        return {info.id for info in self._manager.list_plugins()}

    async def _come_back(self, kind: str, number: int, path: Any) -> None:
        if kind not in self._ids():
            await self._manager.load_plugin(path)
            self._ledger.floor[kind] = number
        while True:
            plugin = self._manager.plugin(kind)
            try:
                if plugin.state in ("suspended", "quarantined"):
                    await plugin.resume()
                for _ in range(3):
                    await self._answer(kind, "plain", 3000)
                return
            except PluginError as error:
                self._ledger.note(f"{kind} is not back yet: {error}")
                await asyncio.sleep(0.1)

    async def check_stored(self) -> None:
        """Every value that was acknowledged is there."""
        for kind, key in list(self._ledger.acknowledged):
            value = await self._manager.execute_plugin(kind, "get", key)
            assert value is None or isinstance(value, int)
            self._ledger.stored(kind, key, value)

    # What is done.

    async def _slow(self, seconds: float) -> None:
        self._ledger.asked += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._ledger.asked -= 1

    async def _expect(self, what: str, timeout_ms: int, work: Awaitable[Any]) -> Any:
        """Await something that returns or raises a typed error in time; ``_NOTHING`` for an error."""
        loop, ledger = asyncio.get_running_loop(), self._ledger
        deadline, still = loop.time() + timeout_ms / 1000, ledger.stood_still
        try:
            async with asyncio.timeout_at(deadline + _SLOW):
                value = await work
            ledger.counts["answered"] += 1
        except TimeoutError:
            ledger.fail(f"{what}: it never ended")
            return _NOTHING
        except PluginError as error:
            ledger.counts[type(error).__name__] += 1
            ledger.note(f"{what}: {type(error).__name__}: {str(error)[:160]}")
            return _NOTHING
        except Exception as error:  # noqa: BLE001 - that none other comes is what is tried
            ledger.fail(f"{what}: {type(error).__name__}: {error}")
            return _NOTHING
        finally:
            ledger.late(what, loop.time() - deadline - (ledger.stood_still - still), GRACE)
        return value

    async def _answer(self, kind: str, function: str, timeout_ms: int, *more: Any) -> None:
        """Make a call that names a version in its answer; raises its error."""
        call, floor = next(self._numbers), self._ledger.floor.get(kind, 0)
        first = call if talks(kind) else b"%d" % call
        answer = await self._manager.execute_plugin(kind, function, first, *more, timeout_ms=timeout_ms)
        self._ledger.answered(kind, call, floor, self._shelves[kind].written, answer)

    async def _call(self) -> None:
        kind = self._rng.choice(list(KINDS))
        function, more = "plain", ()
        if talks(kind):
            function = self._rng.choices(("plain", "work", "nap", "ask", "again", "die"), (8, 8, 3, 3, 3, 1))[
                0
            ]
            if function in ("nap", "ask", "again"):
                more = (self._rng.choice((0.01, 0.1, 0.5, 5.0)),)
            if function == "die" and KINDS[kind]["format"] != "python":
                function = "work"
        timeout = self._rng.choice((200, 1000, 3000))
        await self._expect(f"{kind}.{function}", timeout, self._answer(kind, function, timeout, *more))

    async def _nested(self) -> None:
        kind, target = self._rng.sample(_TALKERS, 2)
        call, floor = next(self._numbers), self._ledger.floor.get(target, 0)
        work = self._manager.execute_plugin(kind, "relay", target, call, timeout_ms=2000)
        answer = await self._expect(f"{kind} > {target}", 2000, work)
        if answer is not _NOTHING:
            self._ledger.answered(target, call, floor, self._shelves[target].written, answer)

    async def _chain(self) -> None:
        """Plugins that wait for each other, sometimes in a circle, which is refused."""
        path = self._rng.choices(_TALKERS, k=self._rng.randrange(2, 5))
        call, last = next(self._numbers), path[-1]
        floor = self._ledger.floor.get(last, 0)
        work = self._manager.execute_plugin(path[0], "chain", path[1:], call, timeout_ms=2000)
        answer = await self._expect(" > ".join(path), 2000, work)
        if answer is not _NOTHING:
            self._ledger.answered(last, call, floor, self._shelves[last].written, answer)

    async def _store(self) -> None:
        kind, key = self._rng.choice(_TALKERS), f"key{self._rng.randrange(4)}"
        value = self._ledger.attempt(kind, key)
        put = self._manager.execute_plugin(kind, "put", key, value, timeout_ms=2000)
        if await self._expect(f"{kind}.put", 2000, put) == value:
            self._ledger.acknowledge(kind, key, value)
        get = self._manager.execute_plugin(kind, "get", key, timeout_ms=2000)
        found = await self._expect(f"{kind}.get", 2000, get)
        if found is not _NOTHING:
            self._ledger.stored(kind, key, found)

    async def _tell(self) -> None:
        number = next(self._numbers)
        if self._rng.random() < 0.5:
            await self._manager.communicator.broadcast(PluginMessage.Event("tick", number))
        else:
            kind = self._rng.choice(_TALKERS)
            tell = self._manager.execute_plugin(kind, "tell", number, timeout_ms=2000)
            await self._expect(f"{kind}.tell", 2000, tell)

    async def _give_up(self) -> None:
        kind, loop = self._rng.choice(_TALKERS), asyncio.get_running_loop()
        function = self._rng.choice(("nap", "ask", "again"))
        task = asyncio.create_task(self._answer(kind, function, 3000, 1.0))
        await asyncio.sleep(self._rng.uniform(0, 0.4))
        task.cancel()
        began, still = loop.time(), self._ledger.stood_still
        await asyncio.wait((task,), timeout=_SLOW)
        passed = loop.time() - began - (self._ledger.stood_still - still)
        self._ledger.late(f"giving up {kind}.nap", passed, GRACE)
        if not task.done():
            self._ledger.fail(f"{kind}.nap cannot be given up")
        elif not task.cancelled() and (error := task.exception()) and not isinstance(error, PluginError):
            self._ledger.fail(f"{kind}.nap, given up: {error!r}")
        self._ledger.counts["given up"] += 1

    async def _reload(self) -> None:
        shelf = self._rng.choice(list(self._shelves.values()))
        if self._rng.random() < 0.7:
            number, _ = shelf.write()
            self._ledger.note(f"{shelf.kind} {number} written")
        shelf.tidy()
        if self._rng.random() < 0.3:
            return  # its file is watched
        if self._rng.random() < 0.2:
            self._extra(self._slowly(f"reload {shelf.kind}", self._manager.reload_plugin(shelf.kind)))
        force = self._rng.random() < 0.2
        reload = self._manager.reload_plugin(shelf.kind, shelf.path, drain_ms=2000, force=force)
        done = await self._slowly(f"reload {shelf.kind}", reload)
        if done is not None:
            self._serves(shelf.kind, done.version)

    def _serves(self, kind: str, version: str) -> None:
        number = int(version.rpartition(".")[2])
        self._ledger.note(f"{kind} {number} serves")
        self._ledger.counts["reloaded"] += 1
        self._ledger.floor[kind] = max(number, self._ledger.floor.get(kind, 0))

    async def _slowly(self, what: str, work: Awaitable[Any]) -> Any:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(2 * _SLOW):
                return await work
        except TimeoutError:
            self._ledger.fail(f"{what}: it never ended")
        except (ReloadFailed, PluginError) as error:
            self._ledger.counts[f"{what.partition(' ')[0]} failed"] += 1
            self._ledger.note(f"{what}: {str(error)[:160]}")
        finally:
            took = loop.time() - began
            if took > _SLOW:
                self._ledger.fail(f"{what}: it took {took:.1f} s")
        return None

    async def _canary(self) -> None:
        shelf = self._rng.choice([one for one in self._shelves.values() if one.kind != "state"])
        _, folder = shelf.write(beside=True)
        rules = {"weight": 0.5, "promote_after": self._rng.choice((10, None)), "min_calls": 5}
        begin = self._manager.canary(shelf.kind, folder, max_error_rate=0.3, **rules)
        if await self._slowly(f"canary {shelf.kind}", begin) is None:
            return
        self._ledger.counts["canaries"] += 1
        await asyncio.sleep(self._rng.uniform(0.2, 2))
        decide = self._manager.promote if self._rng.random() < 0.5 else self._manager.roll_back
        await self._slowly(f"decide {shelf.kind}", decide(shelf.kind))

    async def _pause(self) -> None:
        kind = self._rng.choice(list(KINDS))
        try:
            plugin = self._manager.plugin(kind)
        except PluginNotFound:
            return
        if self._rng.random() < 0.2:
            self._extra(self._slowly(f"suspend {kind}", plugin.suspend()))
        await self._slowly(f"suspend {kind}", plugin.suspend())
        await asyncio.sleep(self._rng.uniform(0.05, 0.6))
        await self._slowly(f"resume {kind}", plugin.resume())

    def _extra(self, work: Coroutine[Any, Any, object]) -> None:
        """Something that happens at the same time as something else with the same plugin."""
        self._tasks.append(asyncio.create_task(work))  # type: ignore[arg-type]

    async def _leave(self) -> None:
        if "guest" in self._ids():
            if self._rng.random() < 0.3:
                self._extra(self._slowly("reload guest", self._manager.reload_plugin("guest")))
                await asyncio.sleep(self._rng.uniform(0, 0.1))
            unload = self._manager.unload_plugin("guest", drain_ms=self._rng.choice((0, 500)))
            await self._slowly("unload guest", unload)
            await asyncio.sleep(self._rng.uniform(0, 0.5))
        if "guest" not in self._ids():
            number, path = self._shelves["guest"].write()
            if await self._slowly("load guest", self._manager.load_plugin(path)) is not None:
                self._serves("guest", f"1.0.{number}")

    async def _look(self) -> None:
        """What a dashboard asks for."""
        for kind in self._ids():
            self._manager.resource_usage(kind)
            self._manager.versions(kind)
        self._manager.stats()
        self._manager.communicator.stats()

    async def _follow(self, events: Any) -> None:
        event: Event
        async for event in events:
            self._ledger.counts[f"event {event.kind}"] += 1
            if event.kind in ("crashed", "quarantined", "circuit", "watch_failed", "state"):
                self._ledger.note(f"{event.plugin_id} {event.kind} {str(dict(event.data))[:140]}")


def _caller() -> str:
    from frys_runtime import caller

    return caller()
