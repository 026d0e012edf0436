"""What is heard of a process from the kernel and its pipe, and what it is accused of for that."""

import asyncio
from collections.abc import Callable

from . import explanation
from .errors import Crashed, PluginError, ResourceLimitExceeded, SecurityViolation
from .isolation import Confinement
from .launcher import Child
from .policy_terms import OnViolation
from .printout import Printout
from .violations import Violations
from .watchdog import MemoryAlarm, Watchdog


class Guard:
    """Stands at one process of a plugin until :meth:`close`.

    Args:
        child: The process.
        plugin_id: For errors.
        confinement: Its limits.
        violations: Counts what it tries, and says what is to be done about that.
        dog: Knows whether something is under way.
        accuse: Called with the process and what it has to be killed for.

    Attributes:
        printout: What it prints.

    Raises:
        SandboxError: The kernel would not tell when its memory runs out.
    """

    def __init__(
        self,
        child: Child,
        plugin_id: str,
        confinement: Confinement,
        violations: Violations,
        dog: Watchdog,
        accuse: Callable[[Child, PluginError], None],
    ) -> None:
        self._child, self._plugin_id, self._format = child, plugin_id, confinement.format
        self._violations, self._accuse = violations, accuse
        self._loop = asyncio.get_running_loop()
        self._faults = explanation.EngineFaults()
        limits = confinement.limits
        self._alarm: MemoryAlarm | None = None
        if confinement.may_fork and child.cgroup is not None:
            self._alarm = MemoryAlarm(
                child.cgroup, limits.memory, lambda peak: self._exceeded("memory", limits.memory, peak)
            )
        self.printout = Printout(
            plugin_id,
            child.log,
            limits.log,
            lambda: dog.watch is not None,
            lambda size: self._exceeded("log", limits.log, size),
        )
        child.on_violation, child.on_denial = self._violated, violations.denied

    def close(self) -> None:
        """Hear no more, after the last words of what it printed."""
        self._child.on_violation = self._child.on_denial = None
        self.printout.close()
        if self._alarm is not None:
            self._alarm.close()

    def _exceeded(self, resource: str, limit: int, actual: int) -> None:
        self._accuse(self._child, ResourceLimitExceeded(self._plugin_id, resource, limit, actual))

    def _violated(self, call: str) -> OnViolation:
        if self._format == "wasm" and (fault := explanation.unhandled(call)) is not None:
            if not self._faults.is_again(self._loop.time()):
                return "deny"
            self._accuse(self._child, Crashed(self._plugin_id, "", f"its engine crashed ({fault.name})"))
            return "kill"
        action, what = self._violations.decide(call)
        if action == "kill":
            self._accuse(self._child, SecurityViolation(self._plugin_id, what))
        return action
