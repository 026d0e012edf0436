"""Frys runs plugins that nobody trusts, each as a process in a jail that the Linux kernel enforces.

    from frys_runtime import PluginManager

    async with PluginManager() as manager:
        plugin_id = await manager.load_plugin("./plugins/my-plugin.wasm")
        result = await manager.execute_plugin(plugin_id, "process_data", b"input")

Imports only go down these layers (``make check`` holds it):

    cli, daemon, cluster, testing                         what a person or a machine starts
    manager, registry_server                              the one front door; where plugins come from
    sandbox, reload, marketplace                          one live plugin; replacing one; installing one
    nursery, services, explanation                        parked children; what plugins ask; why one ended
    loader, isolation, communicator, launcher, registry   file > plugin; plan; messages; fork servers
    signing                                               who has signed a package
    lane, monitor, printout, violations, denials          the host's end of a lane; uses, prints, attempts
    keyvalue, compiled, http_broker                       stored values, compiled code; HTTP for those who may
    policy_check, policy_schema, network                  what is wrong with a policy; its schema; connections
    extism_manifest, package                              manifests of Extism's; a plugin as one file
    signing_keys, sigstore_bundle                         keys to sign with; signatures by identities
    jail, wire, policy, metadata                          decisions, without I/O where possible
    audit, audit_verify                                   the log of what happened; whether it is whole
    policy_terms, audit_chain                             what a policy says, with wishes; the log's file
    policy_syscalls, policy_grants, interfaces            system calls; what the host does on request; types
    audit_records                                         the lines of the log
    policy_file                                           YAML, read strictly
    linux, config, messages, events, ranges, folder       system calls; settings; values; versions
    errors                                                everything that is raised

``launchers`` is executed in processes of its own and never imported here.

The names below are imported on first use: every plugin process runs this file, and pays for what it imports.
"""

__version__ = "0.1.0"

_HOME = {
    "audit": ("AuditLog",),
    "communicator": ("ChannelStats", "CommunicatorStats", "PluginCommunicator", "caller"),
    "config": ("IsolationLevel", "ResourceUsage", "SandboxConfig"),
    "errors": (
        "AlreadyLoaded",
        "CommunicationError",
        "ConfigError",
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
        "ResourceLimitExceeded",
        "SandboxError",
        "SecurityViolation",
        "Timeout",
    ),
    "events": ("Event", "EventStream"),
    "isolation": ("IsolationManager",),
    "loader": ("PluginLoader",),
    "manager": ("ManagerStats", "Plugin", "PluginInfo", "PluginManager", "PluginManagerBuilder"),
    "marketplace.market": ("PluginMarketplace",),
    "messages": ("MessageValue", "PluginMessage", "Refused"),
    "registry.client": ("PluginRegistry",),
    "sandbox": ("PluginSandbox", "PluginState"),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *_MODULE]  # noqa: PLE0604 - one list; tests/house compares it with the imports below

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import: type checkers know the name
if TYPE_CHECKING:
    from .audit import AuditLog as AuditLog
    from .communicator import (
        ChannelStats as ChannelStats,
        CommunicatorStats as CommunicatorStats,
        PluginCommunicator as PluginCommunicator,
        caller as caller,
    )
    from .config import (
        IsolationLevel as IsolationLevel,
        ResourceUsage as ResourceUsage,
        SandboxConfig as SandboxConfig,
    )
    from .errors import (
        AlreadyLoaded as AlreadyLoaded,
        CommunicationError as CommunicationError,
        ConfigError as ConfigError,
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
        ResourceLimitExceeded as ResourceLimitExceeded,
        SandboxError as SandboxError,
        SecurityViolation as SecurityViolation,
        Timeout as Timeout,
    )
    from .events import Event as Event, EventStream as EventStream
    from .isolation import IsolationManager as IsolationManager
    from .loader import PluginLoader as PluginLoader
    from .manager import (
        ManagerStats as ManagerStats,
        Plugin as Plugin,
        PluginInfo as PluginInfo,
        PluginManager as PluginManager,
        PluginManagerBuilder as PluginManagerBuilder,
    )
    from .marketplace.market import PluginMarketplace as PluginMarketplace
    from .messages import (
        MessageValue as MessageValue,
        PluginMessage as PluginMessage,
        Refused as Refused,
    )
    from .registry.client import PluginRegistry as PluginRegistry
    from .sandbox import PluginSandbox as PluginSandbox, PluginState as PluginState


def __getattr__(name: str) -> object:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # not for a plugin process, which never asks

    value = getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
