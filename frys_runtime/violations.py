"""What one plugin tried although its policy forbids it: counted, told, and answered as the policy says."""

import re
from typing import Final

from .events import Events
from .policy_terms import OnViolation

BUDGET: Final = 10_000
"""Forbidden system calls that are answered during one call of a plugin; the next one kills.

Each costs the host some 16 microseconds, in turns with everything else in its event loop, so a flood delays
other plugins by one such answer at a time, and ends after about a quarter of a second.
"""
_TOLD: Final = 64
"""Different ones that are told one by one during one call; the rest is told as a sum."""
LANDLOCK: Final = "denied by landlock"
"""The action of an event about what Landlock refused, beside those of a policy."""


class Tally:
    """What all instances of one plugin tried together.

    Attributes:
        total: How many violations there were since it was loaded.
        latest: The last one, for people.
        denials: How often Landlock refused something, as far as the host was told; not part of ``total``.
    """

    def __init__(self) -> None:
        self.total = self.denials = 0
        self.latest = ""


class Violations:
    """Counts for one instance of a plugin, and decides about the next one.

    Args:
        plugin_id: The plugin.
        action: What the policy says.
        limit: After how many the plugin is disabled; 0 for never.
        events: Where they are told.
        tally: Where those of all instances are added up.
    """

    def __init__(
        self, plugin_id: str, action: OnViolation, limit: int, events: Events, tally: Tally | None = None
    ) -> None:
        self.tally = tally if tally is not None else Tally()
        self._plugin_id, self._action, self._limit, self._events = plugin_id, action, limit, events
        self._calls, self._looks = _Digest(), _Digest()
        self._this_call = 0

    def decide(self, call: str) -> tuple[OnViolation, str]:
        """What is to be done about a forbidden system call, and what it is called in an error.

        A call that is denied or logged is counted here; one that kills is counted by :meth:`count` when the
        death is explained.
        """
        what = _in_words(call)
        if self._action == "kill":
            return "kill", what
        self._this_call += 1
        if self._this_call > BUDGET:
            return (
                "kill",
                f"it made more than {BUDGET} forbidden system calls during one call; the last: {call}",
            )
        if 0 < self._limit <= self.tally.total + 1:
            return "kill", what
        self.count(what, self._action)
        return self._action, what

    def count(self, what: str, action: OnViolation) -> None:
        """One more. The same one again, during one call, is only added up: a flood must not fill the log."""
        self.tally.total += 1
        self.tally.latest = what
        if self._calls.is_new(what):
            self._events.publish(
                "violation", self._plugin_id, what=what, action=action, total=self.tally.total
            )

    def denied(self, what: str) -> None:
        """Landlock refused something: told, and no reason to stop it. Ordinary code looks around, too."""
        self.tally.denials += 1
        what = f"Landlock denied {what}"
        if self._looks.is_new(what):
            self._events.publish(
                "violation", self._plugin_id, what=what, action=LANDLOCK, total=self.tally.denials
            )

    def end_call(self) -> None:
        """Tell the sum of what was not told one by one, and begin anew."""
        for digest, action, total in (
            (self._calls, self._action, self.tally.total),
            (self._looks, LANDLOCK, self.tally.denials),
        ):
            if again := digest.end_call():
                self._events.publish(
                    "violation",
                    self._plugin_id,
                    what="the same again",
                    action=action,
                    again=again,
                    total=total,
                )
        self._this_call = 0


_CLONE: Final = re.compile(r"clone\((0x[0-9a-f]+)")
_CLONE_THREAD: Final = 0x10000


def _in_words(call: str) -> str:
    if call.startswith("sigaltstack("):
        return (
            "it set a stack for a thread's signals, as Go's runtime does (`frys new go-native` writes the "
            f"policy that this needs): it called {call}"
        )
    clone = _CLONE.match(call)
    if clone is None or not int(clone[1], 16) & _CLONE_THREAD:
        return f"it called {call}"
    return (
        "it started a thread, which its policy does not allow (`threads: true` does, as in level high; "
        f"Go's runtime and thread pools need it): it called {call}"
    )


class _Digest:
    """Tells apart what is new during one call, and adds up the rest."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._untold: dict[str, int] = {}

    def is_new(self, what: str) -> bool:
        """Whether it has to be told by itself; if not, it is added up."""
        if what in self._told or len(self._told) >= _TOLD:
            name = what.partition("(")[0]
            self._untold[name] = self._untold.get(name, 0) + 1
            return False
        self._told.add(what)
        return True

    def end_call(self) -> dict[str, int]:
        """How often each was not told, the most frequent first."""
        if not self._told:
            return {}
        again = dict(sorted(self._untold.items(), key=lambda item: -item[1]))
        self._told.clear()
        self._untold.clear()
        return again
