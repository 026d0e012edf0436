"""The instances of one version of a plugin: made as they are needed, started when they may be, and ended."""

import asyncio
from contextvars import Context
from typing import Protocol

from .errors import PluginError
from .events import Events
from .isolation import Confinement
from .loader import Bundle
from .nursery import Nursery
from .sandbox import Keeper, PluginSandbox
from .services import Services, Shared
from .violations import Tally, Violations
from .waits import Instance


class Owner(Keeper, Protocol):
    """Who keeps the instances, and is also told how their starts go."""

    def on_due(self, sandbox: PluginSandbox) -> None:
        """The time has come before which it was not to be started."""

    def on_started(self, sandbox: PluginSandbox) -> None:
        """It has a process that has loaded the plugin."""

    def on_failed(self, sandbox: PluginSandbox, error: PluginError) -> None:
        """It could not be started."""


class Instances:
    """Instances of one version, with and without a process.

    Args:
        plugin_id: The id under which it is loaded.
        key: A number that no other version has.
        bundle: The plugin; not owned.
        confinement: What its policy makes of it on this machine.
        nursery: Where processes come from.
        owner: Keeps the instances.
        events: Where changes are told.
        shared: What the plugins of one manager share.
        services: What it may ask its host.
        violations: Counts them instead of the policy's own.

    Attributes:
        all: Those that were made, in that order.
        most: How many there may be.
        tally: What all their processes tried that is forbidden.
    """

    def __init__(
        self,
        plugin_id: str,
        key: int,
        bundle: Bundle,
        confinement: Confinement,
        nursery: Nursery,
        owner: Owner,
        events: Events,
        shared: Shared | None,
        services: Services | None,
        violations: Violations | None,
    ) -> None:
        self._plugin_id, self._key, self._bundle, self._room = plugin_id, key, bundle, confinement
        self._nursery, self._owner, self._events = nursery, owner, events
        self._shared, self._services, self._violations = shared, services, violations
        self._loop = asyncio.get_running_loop()
        self._starting: dict[PluginSandbox, asyncio.Task[None]] = {}
        self._due: dict[PluginSandbox, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.all: list[PluginSandbox] = []
        self.most = confinement.policy.supervision.instances.of(bundle.metadata.instances)
        self.tally = violations.tally if violations else Tally()

    @property
    def have_live(self) -> bool:
        """Whether a process is there that has loaded the plugin."""
        return any(slot.is_live for slot in self.all)

    @property
    def starting(self) -> int:
        """How many are being started."""
        return len(self._starting)

    @property
    def coming(self) -> int:
        """How many are being started, or will be when their time has come."""
        return len(self._starting) + len(self._due)

    def add(self) -> PluginSandbox:
        """One more, without a process."""
        policy = self._room.policy
        violations = self._violations or Violations(
            self._plugin_id, policy.on_violation, policy.max_violations, self._events, self.tally
        )
        slot = PluginSandbox(
            Instance(self._key, len(self.all) + 1, self._plugin_id),
            self._bundle,
            self._room,
            self._nursery,
            self._owner,
            events=self._events,
            violations=violations,
            shared=self._shared,
            services=self._services,
        )
        self.all.append(slot)
        return slot

    def vacant(self) -> PluginSandbox | None:
        """One in which a process can be started, and no start is on its way."""
        coming = {*self._starting, *self._due}
        return next((slot for slot in self.all if slot.is_vacant and slot not in coming), None)

    def vacant_or_new(self) -> PluginSandbox | None:
        """The same, with one that is made if there may be one more."""
        slot = self.vacant()
        return self.add() if slot is None and len(self.all) < self.most else slot

    def start(self, slot: PluginSandbox, not_before: float) -> None:
        """Start one in the background; the owner is told how that went.

        Args:
            slot: A vacant one.
            not_before: By the event loop's clock. Where that is later than now, the owner is told when the
                time has come, and nothing else is done.
        """
        if not_before > self._loop.time():
            self._due[slot] = None
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(not_before, self._tell_due)
            return
        # No caller's context: it does not wait for what others will use as well.
        self._starting[slot] = self._loop.create_task(self._start(slot), context=Context())

    def _tell_due(self) -> None:
        due, self._due = list(self._due), {}
        for slot in due:
            self._owner.on_due(slot)

    async def _start(self, slot: PluginSandbox) -> None:
        failure: PluginError | None = None
        try:
            await slot.start()
        except PluginError as error:
            failure = error
        finally:
            del self._starting[slot]
        if failure is None:
            self._owner.on_started(slot)
        else:
            self._owner.on_failed(slot, failure)

    def forget_due(self) -> None:
        """Start none of those whose time has not come."""
        self._due.clear()

    async def freeze(self) -> None:
        """Stop all processes where they are, also those that are being started.

        Raises:
            SandboxError: The kernel refuses; some may be frozen.
        """
        while self._starting:
            await asyncio.wait([*self._starting.values()])
        for slot in self.all:
            await slot.freeze()

    async def thaw(self) -> None:
        """Let all processes go on."""
        for slot in self.all:
            await slot.thaw()

    async def close(self) -> None:
        """End every process; returns when nothing of them is left. Calls under way fail."""
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()
        starting = list(self._starting.values())
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)  # what they leave, stop() clears away
        await asyncio.gather(*(slot.stop() for slot in self.all), return_exceptions=True)
