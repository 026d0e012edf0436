"""The demo's other half: eight plugins that attack, and what became of each."""

import os
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Final

from ..config import SandboxConfig
from ..errors import (
    ExecutionFailed,
    PluginError,
    ResourceLimitExceeded,
    SecurityViolation,
    Timeout,
)
from ..manager import PluginManager
from ..messages import MessageValue
from ..plugin import Plugin
from .pipeline import PLUGINS, Figures
from .terminal import size

_TIGHT: Final = SandboxConfig(max_memory=48 << 20, max_cpu_time=300)
_DEADLINE_MS: Final = 500
_FAR: Final = 30_000
_LANE: Final = 3  # as jail.LANE_FD; a plugin finds it by trying
_JUNK: Final = (16).to_bytes(4, "big") + b"\xc1 not a frame \xc1\xc1"
_QUESTION: Final = b"are you there?"
_ANSWER: Final = _QUESTION + zlib.crc32(_QUESTION).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Attack:
    """One hostile plugin.

    Attributes:
        act: What it does.
        plugin: Its file or folder.
        expected: How it has to end, for people.
        matches: Whether an error is that end.
        function: What to call.
        args: With what.
        timeout_ms: The deadline of the call.
    """

    act: str
    plugin: str
    expected: str
    matches: Callable[[Exception], bool]
    function: str = "run"
    args: tuple[MessageValue, ...] = ()
    timeout_ms: int = _FAR


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attack.

    Attributes:
        attack: The attack.
        format: The plugin's format.
        figures: Its load, the time until it was stopped, and its memory before the call.
        error: The name of the error that its caller got; empty when it got through.
        said: What the kernel or the host says about it.
        stopped: It ended as it has to.
        others_answer: A good plugin still answered afterwards.
    """

    attack: Attack
    format: str
    figures: Figures
    error: str
    said: str
    stopped: bool
    others_answer: bool


def _forbidden(*calls: str) -> Callable[[Exception], bool]:
    return lambda error: (
        isinstance(error, SecurityViolation) and any(f"called {call}(" in error.violation for call in calls)
    )


def _limit(resource: str) -> Callable[[Exception], bool]:
    return lambda error: isinstance(error, ResourceLimitExceeded) and error.resource == resource


def _late(error: Exception) -> bool:
    return isinstance(error, Timeout)


def _nothing_there(error: Exception) -> bool:
    denials = ("FileNotFoundError", "PermissionError")
    return isinstance(error, ExecutionFailed) and any(word in error.reason for word in denials)


def _broken_lane(error: Exception) -> bool:
    return isinstance(error, SecurityViolation) and "protocol" in error.violation


def attacks() -> tuple[Attack, ...]:
    """The eight, in the order of the table."""
    return (
        Attack("fork bomb", "fork_bomb", "SecurityViolation", _forbidden("clone", "clone3", "fork", "vfork")),
        Attack("memory bomb", "memory_bomb.js", "ResourceLimitExceeded", _limit("memory")),
        Attack("busy loop", "busy_loop.wasm", "ResourceLimitExceeded", _limit("cpu")),
        Attack("sleep past the deadline", "sleep-on", "Timeout", _late, "sleep", (3600,), _DEADLINE_MS),
        Attack("read of /etc/shadow", "shadow_file.py", "ExecutionFailed", _nothing_there),
        Attack("network socket", "open_socket.py", "SecurityViolation", _forbidden("socket")),
        Attack(
            "signal to the parent",
            "signal-parent",
            "SecurityViolation",
            _forbidden("kill"),
            "kill",
            (os.getpid(), 9),
        ),
        Attack(
            "malformed frames",
            "malformed-frames",
            "SecurityViolation",
            _broken_lane,
            "send",
            (_LANE, _JUNK),
        ),
    )


async def attack_all(manager: PluginManager, bystander: Plugin) -> AsyncIterator[Outcome]:
    """Run every attack, and ask the good bystander for an answer after each one."""
    for attack in attacks():
        yield await _attack(manager, attack, bystander)


async def _attack(manager: PluginManager, attack: Attack, bystander: Plugin) -> Outcome:
    error: Exception | None = None
    plugin: Plugin | None = None
    figures, began = Figures(0.0, 0.0, 0), time.perf_counter()
    try:
        plugin = manager.plugin(await manager.load_plugin(PLUGINS / attack.plugin, sandbox=_TIGHT))
        figures = Figures(plugin.load_ms, 0.0, plugin.resource_usage().memory_private)
        began = time.perf_counter()
        value = await plugin.call(attack.function, *attack.args, timeout_ms=attack.timeout_ms)
        said = f"it got through and returned {value!r:.60}"
    except (PluginError, TypeError) as caught:
        error, said = caught, _account(caught)
    figures = replace(figures, call_ms=(time.perf_counter() - began) * 1000)
    if plugin is not None:
        await manager.unload_plugin(plugin.id)
    return Outcome(
        attack=attack,
        format=plugin.metadata.format if plugin else "",
        figures=figures,
        error=type(error).__name__ if error else "",
        said=said,
        stopped=error is not None and attack.matches(error),
        others_answer=await bystander.call("seal", _QUESTION) == _ANSWER,
    )


_WORDS: Final = re.compile(r"(\(0x[0-9a-f]+, 0x[0-9a-f]+)(?:, 0x[0-9a-f]+)+\)")


def _account(error: Exception) -> str:
    """What happened, in a few words of the kernel or the host."""
    match error:
        case SecurityViolation():
            return _WORDS.sub(r"\1, ...)", error.violation)
        case ResourceLimitExceeded(resource="memory"):
            return f"{size(error.actual)} in use when it wanted more, {size(error.limit)} granted"
        case ResourceLimitExceeded(resource="cpu"):
            return f"{error.actual} ms of CPU used, {error.limit} ms granted"
        case Timeout():
            return f"no answer within {error.timeout_ms} ms"
        case ExecutionFailed():
            return f"denied: {error.reason}"
    return str(error)
