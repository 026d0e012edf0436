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
        allowed_hosts: Hosts for brokered HTTP.
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


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """What a plugin uses now, read from the kernel.

    Attributes:
        memory_usage: Bytes charged to the plugin now.
        memory_peak: The most bytes ever charged to this instance.
        memory_private: Bytes that only this process holds (USS).
        cpu_time_used: Milliseconds of CPU since the instance started.
        processes: Processes and threads.
        open_files: Open descriptors; 0 where the kernel does not let the host count them.
        calls: Calls that were answered or failed, over all instances.
        restarts: Times that a fresh instance replaced a dead one.
    """

    memory_usage: int = 0
    memory_peak: int = 0
    memory_private: int = 0
    cpu_time_used: float = 0.0
    processes: int = 0
    open_files: int = 0
    calls: int = 0
    restarts: int = 0
