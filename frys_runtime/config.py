"""What a caller may ask of a sandbox, and what is measured of it."""

from dataclasses import dataclass, field
from enum import StrEnum

from .errors import ConfigError


class IsolationLevel(StrEnum):
    """How much a plugin is trusted; each level is one YAML file in ``policies/``."""

    STANDARD = "standard"
    """Your own code: basic limits."""
    HIGH = "high"
    """Third-party code."""
    MAXIMUM = "maximum"
    """A stranger's code; the default for a plugin without a policy."""


class Permission(StrEnum):
    """What a plugin may ask for in its ``plugin.json``; only a policy grants."""

    READ = "Read"
    """Files of the host."""
    WRITE = "Write"
    """Files of the host, or a private ``/tmp``."""
    NETWORK = "Network"
    """HTTP through the host's broker, or the host's own network."""
    EXECUTE = "Execute"
    """Running its own functions, which every loaded plugin may."""
    ADMIN = "Admin"
    """Acting on other plugins, which nothing in this version opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """One caller's wishes for one plugin; ``None`` leaves the policy's value.

    A limit here can only tighten what the policy allows; a grant here (``allow_*``, ``allowed_*``) is
    the host program's own word and widens it, because the host program is the one that is trusted.

    Attributes:
        max_memory: Bytes, enforced by the cgroup.
        max_cpu_time: Milliseconds of CPU per call.
        max_execution_time: Milliseconds of wall-clock time per call.
        max_processes: Processes and threads together.
        max_open_files: Open descriptors.
        max_file_size: Bytes of one file.
        max_output: Bytes of one result.
        allow_network: Leave the network reachable. Off at every level.
        allow_fs: Show the read-only system view of level Standard.
        allowed_hosts: Hosts that the host's broker may fetch from by GET and HEAD, as ``api.example.com``,
            ``*.example.com``, ``[2001:db8::1]:8443`` or ``http://localhost:8080`` (without TLS). Who names
            localhost or an address of the own network means it.
        allowed_paths: Paths to show read-only; a path with the suffix ``:rw`` is writable.
    """

    max_memory: int | None = None
    max_cpu_time: int | None = None
    max_execution_time: int | None = None
    max_processes: int | None = None
    max_open_files: int | None = None
    max_file_size: int | None = None
    max_output: int | None = None
    allow_network: bool = False
    allow_fs: bool = False
    allowed_hosts: tuple[str, ...] = field(default=())
    allowed_paths: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Refuse what could not be enforced.

        Raises:
            ConfigError: A limit is not a positive integer, or a grant has the wrong type.
        """
        for name in self.__slots__:
            value = getattr(self, name)
            if not name.startswith("max_") or value is None:
                continue
            if type(value) is not int or value <= 0:
                raise ConfigError(f"SandboxConfig.{name}", f"must be a positive whole number, not {value!r}")
        for name in ("allowed_hosts", "allowed_paths"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(item, str) for item in value):
                raise ConfigError(f"SandboxConfig.{name}", f"must be a tuple of str, not {value!r}")
            object.__setattr__(self, name, tuple(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUsage:
    """What a plugin uses now, read from the kernel, and what the host counted.

    What the kernel counts is of the running instance, with all its processes; 0 where none runs, or where
    the kernel does not let this user see it. What the host counts is of all instances together.

    Attributes:
        memory_usage: Bytes charged to the plugin now: its own pages, page tables, files in memory, buffers.
        memory_peak: The most bytes ever charged to this instance; 0 without a cgroup.
        memory_private: Bytes that only its first process holds (USS). The kernel walks the plugin's page
            tables for it, so a stream of samples leaves it at 0.
        cpu_time_used: Milliseconds of CPU since the instance was forked.
        cpu_user: Those in its own code, in steps of a tick (usually 10 ms).
        cpu_system: Those in the kernel, in the same steps.
        cpu_throttled: Milliseconds for which the CPU quota held its threads back.
        cpu_stalled: Milliseconds in which at least one of its threads waited for a core,
        memory_stalled: for memory to be freed or read back,
        storage_stalled: or for storage; 0 without cgroup v2 and a kernel that counts this (psi=1).
        storage_read: Bytes that it made storage read. What comes from the page cache does not count.
        storage_written: Bytes that it made storage write; files in memory do not count.
        processes: Processes.
        threads: Threads of all of them.
        open_files: Open descriptors of all of them.
        calls: Calls that were answered or failed.
        message_bytes_in: Bytes that came from the plugin on its lane.
        message_bytes_out: Bytes that went to the plugin on its lane.
        http_requests: Requests that it asked its host to make, the refused ones too.
        http_bytes_in: Bytes that came from servers for it, without what TLS adds.
        http_bytes_out: Bytes that went to servers for it.
        violations: Things it tried that its policy forbids.
        restarts: Times that a fresh instance replaced a dead one.
    """

    memory_usage: int = 0
    memory_peak: int = 0
    memory_private: int = 0
    cpu_time_used: float = 0.0
    cpu_user: float = 0.0
    cpu_system: float = 0.0
    cpu_throttled: float = 0.0
    cpu_stalled: float = 0.0
    memory_stalled: float = 0.0
    storage_stalled: float = 0.0
    storage_read: int = 0
    storage_written: int = 0
    processes: int = 0
    threads: int = 0
    open_files: int = 0
    calls: int = 0
    message_bytes_in: int = 0
    message_bytes_out: int = 0
    http_requests: int = 0
    http_bytes_in: int = 0
    http_bytes_out: int = 0
    violations: int = 0
    restarts: int = 0
