"""What one plugin tried although its policy forbids it: counted, told, and answered as the policy says."""

from typing import Final

from .events import Events
from .policy_terms import OnViolation

BUDGET: Final = 10_000
"""Forbidden system calls that are answered during one call of a plugin; the next one kills.

Each costs the host some 16 microseconds, in turns with everything else in its event loop, so a flood delays
other plugins by one such answer at a time, and ends after about a quarter of a second.
"""
_TOLD: Final = 64
"""Different forbidden calls that are told one by one during one call; the rest is told as a sum."""


class Violations:
    """Counts, and decides about the next one.

    Args:
        plugin_id: The plugin.
        action: What the policy says.
        limit: After how many the plugin is disabled; 0 for never.
        events: Where they are told.

    Attributes:
        total: How many there were since the plugin was loaded.
        latest: The last one, for people.
    """

    def __init__(self, plugin_id: str, action: OnViolation, limit: int, events: Events) -> None:
        self.total = 0
        self.latest = ""
        self._plugin_id, self._action, self._limit, self._events = plugin_id, action, limit, events
        self._told: set[str] = set()
        self._untold: dict[str, int] = {}
        self._this_call = 0

    @property
    def too_many(self) -> bool:
        """Whether the plugin has to be disabled."""
        return 0 < self._limit <= self.total

    def decide(self, call: str) -> tuple[OnViolation, str]:
        """What is to be done about a forbidden system call, and what it is called in an error.

        A call that is denied or logged is counted here; one that kills is counted by :meth:`count` when the
        death is explained.
        """
        what = f"it called {call}"
        if self._action == "kill":
            return "kill", what
        self._this_call += 1
        if self._this_call > BUDGET:
            return (
                "kill",
                f"it made more than {BUDGET} forbidden system calls during one call; the last: {call}",
            )
        if 0 < self._limit <= self.total + 1:
            return "kill", what
        self.count(what, self._action)
        return self._action, what

    def count(self, what: str, action: OnViolation) -> None:
        """One more. The same one again, during one call, is only added up: a flood must not fill the log."""
        self.total += 1
        self.latest = what
        if what in self._told or len(self._told) >= _TOLD:
            name = what.partition("(")[0]
            self._untold[name] = self._untold.get(name, 0) + 1
            return
        self._told.add(what)
        self._events.publish("violation", self._plugin_id, what=what, action=action, total=self.total)

    def end_call(self) -> None:
        """Tell the sum of what was not told one by one, and begin anew."""
        if self._untold:
            again = dict(sorted(self._untold.items(), key=lambda item: -item[1]))
            self._events.publish(
                "violation",
                self._plugin_id,
                what="the same again",
                action=self._action,
                again=again,
                total=self.total,
            )
            self._untold.clear()
        if self._told:
            self._told.clear()
        self._this_call = 0
