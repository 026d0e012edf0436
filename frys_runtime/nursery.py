"""Launchers by kind, and children that are parked in their jails before anybody needs them.

Some of what a jail costs is slow (joining an idle version 1 cgroup takes 7 to 15 ms), so a child is forked
and jailed ahead of need, and a plugin starts in a process that is ready.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from .denials import Denials, Told
from .errors import InitializationFailed, SandboxError
from .jail import Plan
from .launcher import Child, Launcher, LauncherKind
from .linux.cgroup import CgroupError, CgroupLimits, CgroupTree

logger = logging.getLogger("frys.launcher")

_MAX_PARKED_PLANS: Final = 16
"""Kinds of plugins for which a child is kept parked; the least recently used gives way."""


class Nursery:
    """Launchers by format, and parked children by plan, so that a plugin finds its process ready.

    Args:
        tree: Where cgroups are made; ``None`` where the machine gives none.
        spares: How many children to keep parked for each plan that is in use.
    """

    def __init__(self, tree: CgroupTree | None, spares: int) -> None:
        self._tree = tree
        self._spares = spares
        self._launchers: dict[LauncherKind, asyncio.Task[Launcher]] = {}
        self._coming: set[Launcher] = set()
        self._parked: dict[tuple[Launcher, Plan], list[asyncio.Task[Child]]] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._denials: Denials | None = None
        self._closed = False

    async def launcher(self, kind: LauncherKind) -> Launcher:
        """The launcher of a kind, started or replaced if need be.

        Raises:
            InitializationFailed: It does not start.
        """
        if self._closed:
            raise InitializationFailed(f"the launcher for {kind.format}", "the manager is being closed")
        task = self._launchers.get(kind)
        if task is None or (task.done() and (task.exception() or task.result().dead.done())):
            task = self._launchers[kind] = asyncio.create_task(self._start(kind))
        return await asyncio.shield(task)

    async def _start(self, kind: LauncherKind) -> Launcher:
        if self._denials is None:
            self._denials = Denials(self._who)
        try:
            launcher = Launcher(kind, self._tree)
        except OSError as error:
            what = f"the launcher for {kind.format}"
            raise InitializationFailed(what, error.strerror or str(error)) from error
        self._coming.add(launcher)
        try:
            await launcher.start()
        finally:
            self._coming.discard(launcher)
        launcher.dead.add_done_callback(lambda _: self._chore(self._forget(launcher)))
        return launcher

    def _who(self, pid: int) -> Told | None:
        for task in self._launchers.values():
            if not task.done() or task.cancelled() or task.exception():
                continue
            if (child := task.result().child_of(pid)) is not None:
                return child.denied
        return None

    async def take(
        self, launcher: Launcher, plan: Plan, limits: CgroupLimits, require: frozenset[str]
    ) -> Child:
        """A parked child for this plan, with these cgroup limits; another one is parked for the next.

        Raises:
            SandboxError: The jail could not be built as required.
        """
        parked = self._parked[launcher, plan] = self._parked.pop((launcher, plan), [])
        child = None
        while child is None and parked:
            child = await self._usable(parked.pop(0), limits)
        if child is None:
            child = await launcher.spawn(plan, limits, require)
        while len(parked) < self._spares and not (self._closed or launcher.dead.done()):
            parked.append(asyncio.create_task(launcher.spawn(plan, limits, require)))
        while len(self._parked) > _MAX_PARKED_PLANS:
            self._chore(_discard_all(self._parked.pop(next(iter(self._parked)))))
        return child

    async def _usable(self, spare: "asyncio.Task[Child]", limits: CgroupLimits) -> Child | None:
        try:
            child = await asyncio.shield(spare)
        except SandboxError:
            return None  # the spawn that follows says why, if it fails as well
        except asyncio.CancelledError:
            self._chore(_discard_all([spare]))  # whoever wanted it is gone
            raise
        if child.exited.done() or child.lane.has_ended:
            self._chore(_discard_all([spare]))  # it died while it was parked
            return None
        if child.cgroup is not None:
            try:
                child.cgroup.set_limits(limits)
            except CgroupError:
                self._chore(_discard_all([spare]))
                return None
        return child

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    async def _forget(self, launcher: Launcher) -> None:
        """End a launcher with its parked children; for one that is dead, reap what is left of it."""
        parked = [self._parked.pop(key) for key in [key for key in self._parked if key[0] is launcher]]
        await launcher.close()  # before them: one that stands still in its jail would be waited for
        for spares in parked:
            await _discard_all(spares)

    def kill(self) -> None:
        """Kill every launcher, and with it every child; no other one is started."""
        self._closed = True
        tasks = [task for task in self._launchers.values() if task.done() and not task.cancelled()]
        ready = [task.result() for task in tasks if task.exception() is None]
        for launcher in (*self._coming, *ready):
            if not launcher.dead.done():
                logger.warning("plugins do not end in time; their launcher for %s is killed", launcher.format)
                launcher.kill()

    async def close(self) -> None:
        """End every launcher and every parked child; returns when nothing is left."""
        self._closed = True
        for launcher in self._coming:
            launcher.kill()  # nobody needs it any more, and it may stand still
        launchers = await asyncio.gather(*self._launchers.values(), return_exceptions=True)
        self._launchers.clear()
        await asyncio.gather(*(self._forget(one) for one in launchers if isinstance(one, Launcher)))
        await asyncio.gather(*self._chores)
        if self._denials is not None:
            self._denials.close()


async def _discard_all(spares: "list[asyncio.Task[Child]]") -> None:
    for spare in spares:
        try:
            await (await spare).discard()
        except SandboxError:
            continue
