"""Every error that Frys raises, in one tree.

    PluginError
    ├── PluginNotFound            no plugin of that id is loaded
    ├── AlreadyLoaded             the id is taken
    ├── MaxPluginsExceeded        the manager is full
    ├── InvalidFormat             the file is not what its format says
    ├── LoadFailed                the plugin could not be loaded
    ├── ReloadFailed              a new version did not get in the place of the one that serves
    ├── InitializationFailed      a manager, a launcher or a plugin's start-up code failed
    ├── Incompatible              versions or interfaces do not fit
    ├── DependencyError           a dependency is missing, cyclic or in conflict
    ├── ConfigError               a setting, a policy or a plugin.json is wrong
    ├── ExecutionFailed           the plugin's function failed
    │   └── Crashed               its process ended during the call
    ├── Timeout                   a call or a load ran out of wall-clock time
    ├── ResourceLimitExceeded     memory, CPU, processes, files or output ran out
    ├── SecurityViolation         the plugin tried what its policy forbids
    ├── SandboxError              the jail could not be built as required; nothing was run
    ├── CommunicationError        a message could not be delivered
    │   └── Unavailable           the plugin takes no calls now
    └── RegistryError             a registry did not answer, or must not be believed

Each class carries its data as attributes and stands on ``PluginError`` too, so that
``except PluginError.LoadFailed`` works. A caller's own mistake (a value that cannot travel, a wrong
argument type) is ``TypeError`` or ``ValueError``, not one of these.
"""

from typing import ClassVar, override


class PluginError(Exception):
    """The root of every error of Frys.

    Attributes:
        retryable: The same call may succeed later. The plugin has done nothing of what was asked, but when
            its supervisor ended (CommunicationError): of that nobody knows.
    """

    retryable: bool = False

    PluginNotFound: ClassVar[type["PluginNotFound"]]
    AlreadyLoaded: ClassVar[type["AlreadyLoaded"]]
    MaxPluginsExceeded: ClassVar[type["MaxPluginsExceeded"]]
    InvalidFormat: ClassVar[type["InvalidFormat"]]
    LoadFailed: ClassVar[type["LoadFailed"]]
    ReloadFailed: ClassVar[type["ReloadFailed"]]
    InitializationFailed: ClassVar[type["InitializationFailed"]]
    Incompatible: ClassVar[type["Incompatible"]]
    DependencyError: ClassVar[type["DependencyError"]]
    ConfigError: ClassVar[type["ConfigError"]]
    ExecutionFailed: ClassVar[type["ExecutionFailed"]]
    Crashed: ClassVar[type["Crashed"]]
    Timeout: ClassVar[type["Timeout"]]
    ResourceLimitExceeded: ClassVar[type["ResourceLimitExceeded"]]
    SecurityViolation: ClassVar[type["SecurityViolation"]]
    SandboxError: ClassVar[type["SandboxError"]]
    CommunicationError: ClassVar[type["CommunicationError"]]
    Unavailable: ClassVar[type["Unavailable"]]
    RegistryError: ClassVar[type["RegistryError"]]

    @override
    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.__module__ == __name__:
            setattr(PluginError, cls.__name__, cls)


class PluginNotFound(PluginError):
    """No plugin of that id is loaded."""

    def __init__(self, plugin_id: str) -> None:
        self.plugin_id = plugin_id
        super().__init__(f"no plugin {plugin_id!r} is loaded; list_plugins() names those that are")


class AlreadyLoaded(PluginError):
    """The id is taken by a loaded plugin."""

    def __init__(self, plugin_id: str) -> None:
        self.plugin_id = plugin_id
        super().__init__(
            f"a plugin {plugin_id!r} is loaded already; unload it first, reload it, or load this one under "
            "another id with load_plugin(path, plugin_id=...)"
        )


class MaxPluginsExceeded(PluginError):
    """The manager holds as many plugins as it may."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"{limit} plugins are loaded, which is the limit; unload one or raise max_plugins")


class InvalidFormat(PluginError):
    """A file is not what its format says.

    Attributes:
        path: The file as the caller named it.
        expected: The format that was expected.
        found: What stands there instead.
    """

    def __init__(self, path: str, expected: str, found: str) -> None:
        self.path, self.expected, self.found = path, expected, found
        super().__init__(f"{path} is not {expected}: {found}")


class LoadFailed(PluginError):
    """A plugin could not be loaded.

    Attributes:
        path: The plugin as the caller named it.
        reason: One sentence.
        detail: Untrusted text of the plugin, such as a traceback; may be empty.
        by_policy: Its policy refuses it; there is nothing wrong with the file.
    """

    def __init__(self, path: str, reason: str, detail: str = "", *, by_policy: bool = False) -> None:
        self.path, self.reason, self.detail, self.by_policy = path, reason, detail, by_policy
        super().__init__(f"{path} could not be loaded: {reason}{_quoted(detail)}")


class ReloadFailed(PluginError):
    """A new version did not get in the place of the one that serves, which goes on serving.

    Attributes:
        plugin_id: The plugin.
        step: Where it failed: ``read``, ``fit``, ``policy``, ``start``, ``health``, ``warm-up``, ``state`` or
            ``switch``.
        reason: One sentence. The error behind it, if there is one, is the ``__cause__``.
    """

    def __init__(self, plugin_id: str, step: str, reason: str) -> None:
        self.plugin_id, self.step, self.reason = plugin_id, step, reason
        super().__init__(f"{plugin_id} was not replaced, the version before serves on ({step}): {reason}")


class InitializationFailed(PluginError):
    """A part of the runtime could not start.

    Attributes:
        component: What did not start, such as ``launcher wasm``.
        reason: One sentence.
    """

    def __init__(self, component: str, reason: str) -> None:
        self.component, self.reason = component, reason
        super().__init__(f"{component} could not start: {reason}")


class Incompatible(PluginError):
    """Two versions or interfaces do not fit together.

    Attributes:
        plugin_id: Who needs the other.
        required: What it needs: ``tax ^1.2``, with the version that says so.
        found: What is there: ``tax 2.0.0``.
    """

    def __init__(self, plugin_id: str, required: str, found: str) -> None:
        self.plugin_id, self.required, self.found = plugin_id, required, found
        super().__init__(f"{plugin_id} needs {required}, but {found} is there; load versions that fit")


class DependencyError(PluginError):
    """A dependency is missing, cyclic or in conflict, or somebody depends on what was to be removed.

    Attributes:
        plugin_id: Who depends.
        dependency: On which plugin.
        reason: What is wrong, and what helps.
        chains: The ways that lead there, each like ``app 1.0.0 > parser ^2 > words ^1``.
    """

    def __init__(self, plugin_id: str, dependency: str, reason: str, chains: tuple[str, ...] = ()) -> None:
        self.plugin_id, self.dependency, self.reason, self.chains = plugin_id, dependency, reason, chains
        super().__init__(f"{plugin_id} depends on {dependency}: {reason}")


class ConfigError(PluginError):
    """A setting, a policy file or a plugin.json is wrong.

    Attributes:
        parameter: The key, with the file where there is one: ``plugin.json: resourceLimits.maxMemory``.
        reason: What is wrong with it and what would be right.
    """

    def __init__(self, parameter: str, reason: str) -> None:
        self.parameter, self.reason = parameter, reason
        super().__init__(f"{parameter}: {reason}")


class ExecutionFailed(PluginError):
    """A plugin's function failed by itself.

    Attributes:
        plugin_id: The plugin.
        function: The function that was called.
        reason: The plugin's own message (untrusted text).
        detail: The plugin's own traceback (untrusted text); may be empty.
    """

    def __init__(self, plugin_id: str, function: str, reason: str, detail: str = "") -> None:
        self.plugin_id, self.function, self.reason, self.detail = plugin_id, function, reason, detail
        super().__init__(f"{plugin_id}.{function} failed: {reason}{_quoted(detail)}")


class Crashed(ExecutionFailed):
    """A plugin's process ended during a call: by itself, or killed from outside.

    Only a function that its plugin.json declares ``idempotent`` was called again before this was raised.
    """


class Timeout(PluginError):
    """A call or a load ran out of wall-clock time and was stopped.

    Attributes:
        plugin_id: The plugin.
        timeout_ms: The limit, in milliseconds.
        loading: It had not answered any call yet.
        waiting: The time passed while the call waited for a process: the plugin has done nothing, and
            ``retryable`` is true.
    """

    def __init__(
        self, plugin_id: str, timeout_ms: int, *, loading: bool = False, waiting: bool = False
    ) -> None:
        self.plugin_id, self.timeout_ms, self.loading, self.waiting = plugin_id, timeout_ms, loading, waiting
        self.retryable = waiting
        super().__init__(
            f"{plugin_id} was not loaded within {timeout_ms} ms and was stopped; `limits.load_time` of its "
            "policy is how long it may take"
            if loading
            else f"no process of {plugin_id} was free within {timeout_ms} ms, so the call was never begun "
            "(let it have more instances, or call it less often)"
            if waiting
            else f"{plugin_id} did not answer within {timeout_ms} ms and was stopped; "
            "the next call finds a fresh instance (raise timeout_ms if the work really takes longer)"
        )


class ResourceLimitExceeded(PluginError):
    """A plugin used more than it was granted.

    Attributes:
        plugin_id: The plugin.
        resource: ``memory``, ``compile_memory``, ``cpu``, ``processes``, ``open_files``, ``file_size``,
            ``output``, ``log``, ``stack`` or ``state``.
        limit: What was granted (bytes, milliseconds or a count).
        actual: What was measured when it was stopped, in the same unit.
    """

    def __init__(self, plugin_id: str, resource: str, limit: int, actual: int) -> None:
        self.plugin_id, self.resource, self.limit, self.actual = plugin_id, resource, limit, actual
        unit = _UNITS.get(resource, "")
        super().__init__(
            f"{plugin_id} reached its {resource} limit of {limit}{unit} (measured: {actual}{unit}); "
            "the next call finds a fresh instance"
        )


_UNITS = {
    "memory": " bytes",
    "compile_memory": " bytes",
    "cpu": " ms",
    "file_size": " bytes",
    "output": " bytes",
    "log": " bytes",
    "state": " bytes",
}


class SecurityViolation(PluginError):
    """A plugin tried what its policy forbids.

    Attributes:
        plugin_id: The plugin.
        violation: What it tried: the system call with its arguments, or the broken rule of the lane.
        disabled: The call was not made at all, because the plugin had tried too much before.
    """

    def __init__(self, plugin_id: str, violation: str, *, disabled: bool = False) -> None:
        self.plugin_id, self.violation, self.disabled = plugin_id, violation, disabled
        state = (
            "is disabled and takes no calls until it is unloaded and loaded again"
            if disabled
            else "was killed for a forbidden act"
        )
        super().__init__(f"{plugin_id} {state}: {violation}")


class SandboxError(PluginError):
    """The jail could not be built as the policy requires; the plugin was not started."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class CommunicationError(PluginError):
    """A message could not be delivered."""

    def __init__(self, target: str, reason: str, *, retryable: bool = False) -> None:
        self.target, self.reason, self.retryable = target, reason, retryable
        super().__init__(f"no message could be delivered to {target}: {reason}")


class Unavailable(CommunicationError):
    """A plugin takes no calls now: too many wait, it is drained, failed too often, or is in quarantine.

    It was told nothing of the call, so ``retryable`` is true unless only a person can change that.

    Attributes:
        target: The plugin.
        reason: One sentence, with the way out.
        retry_after_ms: Milliseconds until trying again makes sense, where that is known.
    """

    def __init__(
        self, target: str, reason: str, *, retry_after_ms: int | None = None, retryable: bool = True
    ) -> None:
        super().__init__(target, reason)
        self.args = (f"{target} takes no calls now: {reason}",)
        self.retry_after_ms, self.retryable = retry_after_ms, retryable


class RegistryError(PluginError):
    """A registry did not answer, or must not be believed.

    Attributes:
        endpoint: Its address.
        reason: What happened, and what to do.
        attack: Which attack it looks like, in the words of the TUF specification (section 1.5.2):
            ``rollback``, ``freeze``, ``mix-and-match``, ``endless data``, ``slow retrieval``, ``arbitrary
            software`` or ``wrong keys``; empty when it looks like none.
    """

    def __init__(self, endpoint: str, reason: str, *, attack: str = "") -> None:
        self.endpoint, self.reason, self.attack = endpoint, reason, attack
        super().__init__(f"{endpoint}: {reason}")


def _quoted(detail: str) -> str:
    """Untrusted text of a plugin, set off so that nobody mistakes it for ours."""
    if not detail:
        return ""
    lines = "\n".join(f"  | {line}" for line in detail.splitlines())
    return f"\n  the plugin's own words (untrusted):\n{lines}"
