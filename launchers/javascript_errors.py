"""What the engine threw, as a failure that travels."""

from collections.abc import Callable
from typing import Any

from .failures import Failure, LimitReached, PluginRaised
from .javascript_api import NULL, OBJECT, STRING, STRING_ROPE, UNDEFINED, UNINITIALIZED, JSValue, lib, text_of

_MAX_MESSAGE = 4096
_MAX_STACK_TEXT = 32768


def out_of_time() -> LimitReached:
    """The failure of a call that met its deadline."""
    return LimitReached("time", "the plugin was interrupted at its deadline")


def pending(context: Any, interrupted: Callable[[], bool]) -> Failure:
    """Take the engine's pending exception.

    Args:
        context: The engine's context.
        interrupted: Whether the engine was told to stop.
    """
    exception = lib.JS_GetException(context)
    try:
        return describe(context, exception, interrupted)
    finally:
        lib.JS_FreeValue(context, exception)


def describe(context: Any, thrown: JSValue, interrupted: Callable[[], bool]) -> Failure:
    """Say what was thrown. Reading it may run the plugin's code, which may throw again or hang."""
    is_error = lib.JS_IsError(thrown)
    message = _thrown_text(context, thrown, is_error)
    if interrupted():
        return out_of_time()
    # Without the memory for an exception the engine throws null, or nothing at all.
    if thrown.tag in (NULL, UNINITIALIZED) or (is_error and message == "InternalError: out of memory"):
        return LimitReached("memory", "the plugin used up the memory of its JavaScript engine")
    if not is_error:
        return PluginRaised(message)
    stack = lib.JS_GetPropertyStr(context, thrown, b"stack")
    trace = text_of(context, stack) if stack.tag in (STRING, STRING_ROPE) else ""
    lib.JS_FreeValue(context, stack)
    drop_exception(context)
    return PluginRaised(message, f"{message}\n{trace}"[:_MAX_STACK_TEXT].rstrip())


def _thrown_text(context: Any, thrown: JSValue, is_error: bool) -> str:
    text = None
    if thrown.tag == OBJECT and not is_error:
        json = lib.JS_JSONStringify(context, thrown, (0, UNDEFINED), (0, UNDEFINED))
        text = text_of(context, json) if json.tag in (STRING, STRING_ROPE) else None
        lib.JS_FreeValue(context, json)
    elif thrown.tag != UNINITIALIZED:
        text = text_of(context, thrown)
    drop_exception(context)
    return (text or "a thrown value that cannot be shown as text")[:_MAX_MESSAGE]


def drop_exception(context: Any) -> None:
    """Forget the engine's pending exception, if there is one."""
    lib.JS_FreeValue(context, lib.JS_GetException(context))
