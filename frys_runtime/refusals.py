"""Why a plugin does not get what it asks for, or what of a failure it is told."""

from collections.abc import Sequence
from typing import Final

from .endpoints import Peer, Version
from .errors import CommunicationError, ExecutionFailed, ResourceLimitExceeded, SecurityViolation, Timeout
from .events import Events
from .interfaces import Function, Type, check_arguments
from .messages import MessageValue, Refused
from .waits import Instance

MAX_DEPTH: Final = 16
"""Plugins that may wait for one another in one line of calls."""
MAX_TEXT: Final = 2000
"""Characters of a text of another plugin that a caller is told."""
_TOLD: Final = 64
"""Different refusals of one plugin that are told one by one; all are counted."""


class Refusals:
    """What plugins asked for and no policy grants.

    Args:
        events: Where it is told.

    Attributes:
        counts: How often, by plugin, over a manager's life.
    """

    def __init__(self, events: Events) -> None:
        self.counts: dict[str, int] = {}
        self._events = events
        self._told: dict[str, set[str]] = {}

    def refuse(self, source: Peer, reason: str, what: str) -> Refused:
        """Count and tell that a plugin asked for what its policy does not grant.

        Args:
            source: The plugin.
            reason: What the policy would have to say.
            what: What the plugin did.

        Returns:
            What the plugin is to be told.
        """
        self.counts[source.plugin_id] = self.counts.get(source.plugin_id, 0) + 1
        told = self._told.setdefault(source.plugin_id, set())
        if what not in told and len(told) < _TOLD:
            told.add(what)
            self._events.publish("message_refused", source.plugin_id, what=what, reason=reason)
        return Refused("permission", f"{source.plugin_id} {what}, and its policy does not grant {reason}")

    def forget(self, plugin_id: str) -> None:
        """A plugin is gone; what is refused to its next copy is told again."""
        self._told.pop(plugin_id, None)


def refuse_mismatch(params: Sequence[Type], args: list[MessageValue], what: str) -> None:
    """Refuse a call with arguments of other types than are declared.

    Raises:
        Refused: They are.
    """
    try:
        check_arguments(params, args, what)
    except TypeError as error:
        raise Refused("invalid", str(error)) from None


def too_deep(waiting: Sequence[Instance]) -> Refused:
    """Why a line of calls does not get longer."""
    path = " > ".join(one.plugin_id for one in waiting)
    return Refused("limit", f"{MAX_DEPTH} plugins wait for one another already: {path}")


def offered(version: Version, function: str) -> Function:
    """What a plugin declares of a function that others may call.

    Raises:
        Refused: It offers none of that name.
    """
    declared = version.interface.functions.get(function)
    if declared is None:
        raise Refused(
            "missing",
            f"{version.plugin_id} does not offer {function!r} to other plugins "
            "(`exports` of its plugin.json)",
        )
    return declared


def as_refusal(target: str, function: str, error: Exception) -> Refused:
    """What a caller is told of a call that failed: enough to go on, nothing about the jail of another."""
    match error:
        case ExecutionFailed():
            return Refused("failed", f"{target}.{function} failed: {error.reason[:MAX_TEXT]}")
        case Timeout():
            return Refused("timeout", f"{target}.{function} did not answer in time")
        case ResourceLimitExceeded():
            return Refused("failed", f"{target}.{function} reached its {error.resource} limit")
        case SecurityViolation():
            return Refused("failed", f"{target} was stopped")
        case CommunicationError():
            return Refused("unavailable", f"{target} takes no call now: {error.reason}")
        case TypeError() | ValueError():
            return Refused("invalid", f"{error}"[:MAX_TEXT])
    return Refused("failed", f"{target} could not be started")
