"""Errors of a plugin's supervisor, as its caller gets them: of the same class, with the same data."""

from typing import Any, Final

import msgspec

from ..errors import (
    CommunicationError,
    ExecutionFailed,
    LoadFailed,
    PluginError,
    PluginNotFound,
    ResourceLimitExceeded,
    SandboxError,
    SecurityViolation,
    Timeout,
)
from ..messages import Reason, Refused
from .frames import Failure

_MAX_TEXT: Final = 1 << 16


def to_failure(number: int, error: Exception) -> Failure:
    """The message that tells of an error."""
    kind, facts = _facts(error)
    return Failure(number, kind, str(error)[:_MAX_TEXT], facts)


def _facts(error: Exception) -> tuple[str, dict[str, Any]]:
    match error:
        case Refused():
            return "refused", {"reason": error.reason}
        case PluginNotFound():
            return "missing", {"plugin": error.plugin_id}
        case ExecutionFailed():
            facts: dict[str, Any] = {
                "function": error.function,
                "reason": error.reason,
                "detail": error.detail,
            }
            return "failed", {"plugin": error.plugin_id, **_cut(facts)}
        case Timeout():
            return "timeout", {"plugin": error.plugin_id, "timeout_ms": error.timeout_ms}
        case ResourceLimitExceeded():
            facts = {"resource": error.resource, "limit": error.limit, "actual": error.actual}
            return "limit", {"plugin": error.plugin_id, **facts}
        case SecurityViolation():
            facts = {"violation": error.violation, "disabled": error.disabled}
            return "violation", {"plugin": error.plugin_id, **_cut(facts)}
        case LoadFailed():
            return "load", {"path": error.path, **_cut({"reason": error.reason, "detail": error.detail})}
        case CommunicationError():
            return "unavailable", {
                "plugin": error.target,
                "reason": error.reason,
                "retryable": error.retryable,
            }
        case PluginError():
            return "start", {}
        case TypeError():
            return "type", {}
        case ValueError():
            return "value", {}
    return "internal", {}


def _cut(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value[:_MAX_TEXT] if isinstance(value, str) else value for key, value in facts.items()}


def to_error(failure: Failure, target: str) -> Exception:
    """The error that a message tells of.

    Args:
        failure: The message.
        target: What was called, for an error that does not say it.
    """
    message, facts = failure.message[:_MAX_TEXT], {"plugin": target, **failure.facts}
    try:
        match failure.kind:
            case "refused":
                return Refused(msgspec.convert(facts["reason"], Reason), message)
            case "missing":
                return PluginNotFound(str(facts["plugin"]))
            case "failed":
                named = (str(facts[key]) for key in ("plugin", "function", "reason", "detail"))
                return ExecutionFailed(*named)
            case "timeout":
                return Timeout(str(facts["plugin"]), int(facts["timeout_ms"]))
            case "limit":
                numbers = int(facts["limit"]), int(facts["actual"])
                return ResourceLimitExceeded(str(facts["plugin"]), str(facts["resource"]), *numbers)
            case "violation":
                disabled = bool(facts["disabled"])
                return SecurityViolation(str(facts["plugin"]), str(facts["violation"]), disabled=disabled)
            case "load":
                return LoadFailed(*(str(facts[key]) for key in ("path", "reason", "detail")))
            case "unavailable":
                retryable = bool(facts["retryable"])
                return CommunicationError(str(facts["plugin"]), str(facts["reason"]), retryable=retryable)
            case "start":
                return SandboxError(message)
            case "type":
                return TypeError(message)
            case "value":
                return ValueError(message)
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        message = f"{message} (told without its facts: {error})"
    return CommunicationError(target, message)
