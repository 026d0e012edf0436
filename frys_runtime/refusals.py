"""Why a plugin's call of another one is not made, or what of its failure the caller is told."""

from collections.abc import Sequence
from typing import Final

from .endpoints import Version
from .errors import CommunicationError, ExecutionFailed, ResourceLimitExceeded, SecurityViolation, Timeout
from .interfaces import Function, Type, check_arguments
from .messages import MessageValue, Refused
from .waits import Instance

MAX_DEPTH: Final = 16
"""Plugins that may wait for one another in one line of calls."""
MAX_TEXT: Final = 2000
"""Characters of a text of another plugin that a caller is told."""


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
