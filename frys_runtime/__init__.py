"""Frys runs plugins that nobody trusts, each as a process in a jail that the Linux kernel enforces.

    from frys_runtime import PluginManager

    async with PluginManager() as manager:
        plugin_id = await manager.load_plugin("./plugins/my-plugin.wasm")
        result = await manager.execute_plugin(plugin_id, "process_data", b"input")

Imports only go down these layers (``make check`` holds it):

    cli, daemon, cluster, testing, metrics, client        what a person or a machine starts
    manager, registry_server                              the one front door; where plugins come from
    lifecycle                                             how a manager begins and ends
    plugin, builder                                       a loaded plugin as an object; settings one by one
    calls, succession                                     where a call goes; all ways to a new version
    updates, rollout, supply                              new versions from registries; plugins from there
    canary                                                new versions on trial
    reload, watching, marketplace                         replacing a plugin; seeing it saved; installing one
    recall                                                loading again what was loaded
    loaded                                                what is loaded, how it comes and goes
    admission                                             files and policy of a plugin > a pool, on the record
    deployment                                            the versions of one plugin, and which gets a call
    pool                                                  one version of a plugin
    fleet                                                 its state, and what follows for its processes
    instances, turns, upkeep, faults                      these; its queue; its health; what failures lead to
    sandbox                                               one instance: a process, and its calls
    bootstrap, guard, interruption                        how it starts; what is heard of it; ending a call
    questions, suspension, postmortem, premises           its questions; a pause; its end; what managers hold
    watchdog, bus                                         the clocks of one call; other supervisors
    nursery, services, explanation                        parked children; what plugins ask; what an end means
    loader, isolation, communicator, launcher, registry   file > plugin; plan; messages; children
    event_broker                                          which event goes to whom
    routing, subscriptions, fork_server                   routes of calls; events that wait; what forks
    refusals                                              why a plugin does not get what it asks for
    signing                                               who has signed a package
    lane, monitor, printout, violations, denials          the host's end of a lane; uses, prints, attempts
    keyvalue, compiled, http_broker, traffic              stored values, compiled code; HTTP; messages
    waits, supervision, breaker, roster                   who waits for whom; failures; what was loaded
    endpoints, host_functions                             whom messages reach; what the host program offers
    resolution                                            which versions of which plugins to load
    policy_check, policy_schema, network                  what is wrong with a policy; its schema; connections
    extism_manifest, package, packing                     manifests of Extism's; one file, read and written
    package_format, formats, dependencies                 its bytes; what a file is; which plugins fit
    shapes, channels, spans, wit, bindgen                 values as shown; counts; spans; types, written
    signing_keys, sigstore_bundle                         keys to sign with; signatures by identities
    wire                                                  the only code that decodes what a plugin sent
    bulk, busy_poll, jail, policy, metadata               large bytes; decisions, without I/O where possible
    audit, audit_verify                                   the log of what happened; whether it is whole
    policy_terms, audit_chain                             what a policy says, with wishes; the log's file
    policy_signatures                                     whose signatures a plugin must carry
    policy_syscalls, policy_grants, policy_http           system calls; messages; HTTP through the host
    policy_supervision, policy_updates, interfaces        how processes are kept; new versions; types
    audit_records                                         the lines of the log
    policy_file                                           YAML, read strictly
    linux, config, messages, events, ranges, states       calls; settings; values; news; versions; a life
    trace, folder, durable                                which trace it belongs to; files read, written
    closing                                               waits at the end, and for threads
    errors                                                everything that is raised

``launchers`` is executed in processes of its own and never imported here.

The names below are imported on first use: every plugin process runs this file, and pays for what it imports.
"""

__version__ = "0.1.0"

_HOME = {
    "audit": ("AuditLog",),
    "builder": ("PluginManagerBuilder",),
    "bus.config": ("BusConfig",),
    "channels": ("ChannelStats", "CommunicatorStats"),
    "communicator": ("PluginCommunicator", "caller"),
    "config": ("IsolationLevel", "ResourceUsage", "SandboxConfig"),
    "errors": (
        "AlreadyLoaded",
        "CommunicationError",
        "ConfigError",
        "Crashed",
        "DependencyError",
        "ExecutionFailed",
        "Incompatible",
        "InitializationFailed",
        "InvalidFormat",
        "LoadFailed",
        "MaxPluginsExceeded",
        "PluginError",
        "PluginNotFound",
        "RegistryError",
        "ReloadFailed",
        "ResourceLimitExceeded",
        "SandboxError",
        "SecurityViolation",
        "Timeout",
        "Unavailable",
    ),
    "events": ("Event", "EventStream"),
    "isolation": ("IsolationManager",),
    "loaded": ("ManagerStats",),
    "loader": ("PluginLoader",),
    "manager": ("PluginManager",),
    "marketplace.market": ("PluginMarketplace",),
    "messages": ("MessageValue", "PluginMessage", "Refused"),
    "plugin": ("Plugin", "PluginInfo", "VersionInfo"),
    "registry.client": ("PluginRegistry",),
    "reload": ("Reloaded",),
    "sandbox": ("PluginSandbox",),
    "states": ("PluginState",),
    "traffic": ("TrafficRecord",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *_MODULE]  # noqa: PLE0604 - one list; tests/house compares it with the imports below

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import: type checkers know the name
if TYPE_CHECKING:
    from .audit import AuditLog as AuditLog
    from .builder import PluginManagerBuilder as PluginManagerBuilder
    from .bus.config import BusConfig as BusConfig
    from .channels import ChannelStats as ChannelStats, CommunicatorStats as CommunicatorStats
    from .communicator import PluginCommunicator as PluginCommunicator, caller as caller
    from .config import (
        IsolationLevel as IsolationLevel,
        ResourceUsage as ResourceUsage,
        SandboxConfig as SandboxConfig,
    )
    from .errors import (
        AlreadyLoaded as AlreadyLoaded,
        CommunicationError as CommunicationError,
        ConfigError as ConfigError,
        Crashed as Crashed,
        DependencyError as DependencyError,
        ExecutionFailed as ExecutionFailed,
        Incompatible as Incompatible,
        InitializationFailed as InitializationFailed,
        InvalidFormat as InvalidFormat,
        LoadFailed as LoadFailed,
        MaxPluginsExceeded as MaxPluginsExceeded,
        PluginError as PluginError,
        PluginNotFound as PluginNotFound,
        RegistryError as RegistryError,
        ReloadFailed as ReloadFailed,
        ResourceLimitExceeded as ResourceLimitExceeded,
        SandboxError as SandboxError,
        SecurityViolation as SecurityViolation,
        Timeout as Timeout,
        Unavailable as Unavailable,
    )
    from .events import Event as Event, EventStream as EventStream
    from .isolation import IsolationManager as IsolationManager
    from .loaded import ManagerStats as ManagerStats
    from .loader import PluginLoader as PluginLoader
    from .manager import PluginManager as PluginManager
    from .marketplace.market import PluginMarketplace as PluginMarketplace
    from .messages import (
        MessageValue as MessageValue,
        PluginMessage as PluginMessage,
        Refused as Refused,
    )
    from .plugin import (
        Plugin as Plugin,
        PluginInfo as PluginInfo,
        VersionInfo as VersionInfo,
    )
    from .registry.client import PluginRegistry as PluginRegistry
    from .reload import Reloaded as Reloaded
    from .sandbox import PluginSandbox as PluginSandbox
    from .states import PluginState as PluginState
    from .traffic import TrafficRecord as TrafficRecord


def __getattr__(name: str) -> object:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # not for a plugin process, which never asks

    value = getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
