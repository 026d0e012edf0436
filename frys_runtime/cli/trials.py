"""The doctor's proof: a plugin of each format is really started and called at each level."""

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from ..config import IsolationLevel
from ..errors import PluginError
from ..linux.bpf import NEWEST, syscall_name, syscall_number
from ..manager import PluginManager
from ..messages import MessageValue
from ..policy import level_policy
from ..policy_syscalls import Syscalls
from .pipeline import PLUGINS

QUESTIONS: Final[dict[str, tuple[str, str, MessageValue]]] = {
    "wasm": ("checksum.wasm", "seal", b"frys"),
    "javascript": ("words.js", "tidy", b"frys"),
    "native": ("system-zlib", "compress", b"frys"),
    "python": ("report.py", "report", zlib.compress(b"frys")),
}
"""For each format: a plugin, a function, an argument."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One format at one level.

    Attributes:
        format: The format.
        level: The level.
        layers: The layers that the jailed process reported, and that the host believed it.
        load_ms: Milliseconds of the load; the launcher's start is in the first of a format.
        loading: System calls that are open to the plugin while it is loaded.
        serving: System calls that are open to it afterwards.
        why: Why no plugin of this format runs at this level; empty if one did.
    """

    format: str
    level: IsolationLevel
    layers: frozenset[str]
    load_ms: float
    loading: int
    serving: int
    why: str = ""


async def try_all() -> AsyncIterator[Trial]:
    """Try every format at every level, in one manager."""
    async with PluginManager(spares=0) as manager:
        for name in QUESTIONS:
            for level in IsolationLevel:
                yield await _try(manager, name, level)


async def _try(manager: PluginManager, name: str, level: IsolationLevel) -> Trial:
    path, function, question = QUESTIONS[name]
    loading = serving = 0
    try:
        loading, serving = open_calls(level_policy(level).syscalls[name])
        plugin = manager.plugin(
            await manager.load_plugin(PLUGINS / path, plugin_id=f"{name}-{level}", isolation=level)
        )
        await plugin.call(function, question)
    except PluginError as error:
        return Trial(name, level, frozenset(), 0.0, loading, serving, str(error))
    trial = Trial(name, level, plugin.layers, plugin.load_ms, loading, serving)
    await plugin.unload()
    return trial


def open_calls(syscalls: Syscalls) -> tuple[int, int]:
    """How many system calls of this architecture a plugin may make while it loads, and while it serves.

    A call that is open only with certain arguments counts.
    """
    serve = {rule.name for rule in syscalls.serve if syscall_number(rule.name) is not None}
    load = {rule.name for rule in syscalls.load if syscall_number(rule.name) is not None}
    if syscalls.mode == "allow":
        return len(serve | load), len(serve)
    known = sum(not syscall_name(number).startswith("system call ") for number in range(NEWEST + 1))
    never = {rule.name for rule in (*syscalls.load, *syscalls.serve, *syscalls.enosys) if not rule.args}
    return known - len(never), known - len(never)
