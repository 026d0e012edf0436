"""Errors of a plugin's supervisor, as its caller gets them: of the same class, with the same data."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from ..errors import (
    AlreadyLoaded,
    CommunicationError,
    ConfigError,
    Crashed,
    DependencyError,
    ExecutionFailed,
    Incompatible,
    InitializationFailed,
    InvalidFormat,
    LoadFailed,
    MaxPluginsExceeded,
    PluginError,
    PluginNotFound,
    ReloadFailed,
    ResourceLimitExceeded,
    SandboxError,
    SecurityViolation,
    Timeout,
    Unavailable,
)
from ..messages import Reason, Refused
from .frames import Failure

_MAX_TEXT: Final = 1 << 16
_MAX_CHAINS: Final = 100


class _Kind(NamedTuple):
    """How errors of a class travel.

    Attributes:
        name: The kind of their FAILURE.
        error: The class.
        facts: What it is made from, in order: names of the facts, each with the type of its value.
        options: The same, for what it takes by name; absent where it is as usual.
    """

    name: str
    error: type[Exception]
    facts: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}


_PLUGIN: Final = {"plugin": str}
_FAILED: Final = _PLUGIN | {"function": str, "reason": str, "detail": str}
_KINDS: Final = (
    _Kind("missing", PluginNotFound, _PLUGIN),
    _Kind("crashed", Crashed, _FAILED),
    _Kind("failed", ExecutionFailed, _FAILED),
    _Kind("timeout", Timeout, _PLUGIN | {"timeout_ms": int}, {"loading": bool, "waiting": bool}),
    _Kind("limit", ResourceLimitExceeded, _PLUGIN | {"resource": str, "limit": int, "actual": int}),
    _Kind("violation", SecurityViolation, _PLUGIN | {"violation": str}, {"disabled": bool}),
    _Kind("load", LoadFailed, {"path": str, "reason": str, "detail": str}, {"by_policy": bool}),
    _Kind("reload", ReloadFailed, _PLUGIN | {"step": str, "reason": str}),
    _Kind(
        "unavailable",
        Unavailable,
        _PLUGIN | {"reason": str},
        {"retryable": bool, "retry_after_ms": int | None},
    ),
    _Kind("undelivered", CommunicationError, _PLUGIN | {"reason": str}, {"retryable": bool}),
    _Kind("loaded", AlreadyLoaded, _PLUGIN),
    _Kind("full", MaxPluginsExceeded, {"limit": int}),
    _Kind("format", InvalidFormat, {"path": str, "expected": str, "found": str}),
    _Kind("config", ConfigError, {"parameter": str, "reason": str}),
    _Kind("incompatible", Incompatible, _PLUGIN | {"required": str, "found": str}),
    _Kind(
        "dependency", DependencyError, _PLUGIN | {"dependency": str, "reason": str, "chains": tuple[str, ...]}
    ),
    _Kind("component", InitializationFailed, {"component": str, "reason": str}),
    _Kind("start", SandboxError, {"reason": str}),
)
"""A class stands behind those that are made from it."""
_ATTRIBUTE: Final = {"plugin": "plugin_id"}
"""Facts that are called otherwise in Python."""
_OF_CALLERS: Final[Mapping[str, type[Exception]]] = {"type": TypeError, "value": ValueError}


def to_failure(number: int, error: Exception) -> Failure:
    """The message that tells of an error."""
    kind, facts = _facts(error)
    return Failure(number, kind, str(error)[:_MAX_TEXT], facts)


def _facts(error: Exception) -> tuple[str, dict[str, Any]]:
    if isinstance(error, Refused):
        return "refused", {"reason": error.reason}
    for kind in _KINDS:
        if isinstance(error, kind.error):
            return kind.name, {name: _value(error, name) for name in (*kind.facts, *kind.options)}
    if isinstance(error, PluginError):
        return "start", {"reason": str(error)[:_MAX_TEXT]}
    return next((name for name, kind in _OF_CALLERS.items() if isinstance(error, kind)), "internal"), {}


def _value(error: Exception, fact: str) -> Any:
    if fact == "plugin" and isinstance(error, CommunicationError):
        return error.target
    value = getattr(error, _ATTRIBUTE.get(fact, fact))
    if isinstance(value, tuple):
        return [text[:_MAX_TEXT] for text in value[:_MAX_CHAINS]]
    return value[:_MAX_TEXT] if isinstance(value, str) else value


def to_error(failure: Failure, target: str) -> Exception:
    """The error that a message tells of.

    Args:
        failure: The message.
        target: What was called, for an error that does not say it.
    """
    message, facts = failure.message[:_MAX_TEXT], {"plugin": target, **failure.facts}
    try:
        if failure.kind == "refused":
            return Refused(msgspec.convert(facts["reason"], Reason), message)
        if failure.kind in _OF_CALLERS:
            return _OF_CALLERS[failure.kind](message)
        for kind in _KINDS:
            if kind.name == failure.kind:
                told = [msgspec.convert(facts[name], kept) for name, kept in kind.facts.items()]
                options = {
                    name: msgspec.convert(facts[name], kept)
                    for name, kept in kind.options.items()
                    if name in facts
                }
                return kind.error(*told, **options)
    except (KeyError, msgspec.ValidationError) as error:
        message = f"{message} (told without its facts: {error})"
    return CommunicationError(target, message)
