"""Exit codes of `frys`, and how an error is told: one sentence and a hint, never a traceback."""

import os
import sys
from enum import IntEnum

from ..errors import (
    AlreadyLoaded,
    CommunicationError,
    ConfigError,
    DependencyError,
    ExecutionFailed,
    Incompatible,
    InitializationFailed,
    InvalidFormat,
    LoadFailed,
    PluginError,
    PluginNotFound,
    RegistryError,
    ReloadFailed,
    ResourceLimitExceeded,
    SandboxError,
    SecurityViolation,
    Timeout,
)


class Exit(IntEnum):
    """What the exit code of `frys` says."""

    OK = 0
    FAILED = 1
    """The plugin's function failed; of `doctor` and `demo`: not everything is as it has to be; of `policy`:
    its check has findings, two differ, or a workload does not pass; of `verify`: too few have signed,
    or what is installed is not what is locked."""
    USAGE = 2
    """Wrong words on the command line, a wrong policy or a wrong plugin.json."""
    STOPPED = 3
    """Stopped by its deadline or by a limit."""
    VIOLATION = 4
    """Killed for a forbidden act."""
    NOT_LOADED = 5
    """No such plugin, or one that cannot be loaded."""
    MACHINE = 6
    """The jail that is required cannot be built on this machine."""
    REGISTRY = 7
    """A registry does not answer, refuses, or must not be believed."""
    BUG = 70
    """An error of Frys itself (EX_SOFTWARE of sysexits(3))."""


class UsageError(Exception):
    """The words on the command line make no sense; the text says why and what would."""


class NotRunning(Exception):
    """No supervisor runs what was asked for; the text says where it was looked for."""


class WorkloadFailed(Exception):
    """What a plugin was given to do does not succeed; the text says under which conditions."""


_CODES: tuple[tuple[type[Exception], Exit], ...] = (
    (UsageError, Exit.USAGE),
    (ConfigError, Exit.USAGE),
    (WorkloadFailed, Exit.FAILED),
    (NotRunning, Exit.NOT_LOADED),
    (ExecutionFailed, Exit.FAILED),
    (CommunicationError, Exit.FAILED),
    (Timeout, Exit.STOPPED),
    (ResourceLimitExceeded, Exit.STOPPED),
    (SecurityViolation, Exit.VIOLATION),
    (SandboxError, Exit.MACHINE),
    (InitializationFailed, Exit.MACHINE),
    (AlreadyLoaded, Exit.USAGE),
    (RegistryError, Exit.REGISTRY),
    (PluginError, Exit.NOT_LOADED),
)

_HINTS: dict[Exit, str] = {
    Exit.FAILED: "the error is the plugin's own; `frys inspect PLUGIN` lists its functions",
    Exit.STOPPED: "a policy file (--policy) sets the limits; `frys inspect PLUGIN` shows those in force",
    Exit.VIOLATION: "a plugin that really needs this takes a policy that grants it (--policy FILE)",
    Exit.NOT_LOADED: "docs/writing-plugins.md says what each format needs",
    Exit.MACHINE: "`frys doctor` shows what this machine gives, and how to get the rest",
    Exit.BUG: "FRYS_DEBUG=1 shows where; please report it with that output",
}


_NO_PLUGIN = (
    "a plugin is a .wasm, .so, .js, .mjs, .cjs or .py file, a folder with plugin.json, or an Extism manifest "
    "(.json, .toml)"
)


def _hint(error: Exception, code: Exit) -> str:
    if isinstance(error, NotRunning):
        return "`frys ps` lists what runs, and `frys serve PLUGIN` runs a plugin"
    if isinstance(error, PluginError) and error.retryable:
        return "the same may work a moment later"
    if isinstance(error, CommunicationError | PluginNotFound):
        return "`frys ps` shows what runs, and in which state it is"
    if isinstance(error, ReloadFailed):
        return "`frys inspect PATH` tells more about the new version"
    if isinstance(error, LoadFailed) and error.by_policy:
        return "`frys policy explain PLUGIN` shows what it asks for and what it gets (--policy, --isolation)"
    if isinstance(error, DependencyError | Incompatible):
        return ""  # it says itself who needs what
    absent = isinstance(error, LoadFailed) and not os.path.exists(error.path)
    if absent or (isinstance(error, InvalidFormat) and error.expected.startswith("a plugin (")):
        return _NO_PLUGIN
    return _HINTS.get(code, "")


def code_of(error: Exception) -> Exit:
    """The exit code that stands for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.BUG)


def tell(error: Exception) -> Exit:
    """Print an error to stderr as a person wants to read it, and give its exit code."""
    from rich.text import Text

    from .terminal import printable, stderr

    code = code_of(error)
    said = str(error) if code is not Exit.BUG else f"an error of Frys itself: {type(error).__name__}: {error}"
    message = Text.assemble(("frys: ", "bold red"), printable(said))
    if hint := _hint(error, code):
        message.append_text(Text.assemble("\n", ("hint: ", "bold"), hint))
    stderr().print(message, soft_wrap=True)
    return code


def wants_traceback(words: list[str]) -> bool:
    """Whether the person asked for tracebacks."""
    return os.environ.get("FRYS_DEBUG", "0") not in ("", "0") or "--debug" in words


def leave_quietly() -> int:
    """The reader of a pipe has gone: let the interpreter flush into nothing, and end as the signal would."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13
