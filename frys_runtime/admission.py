"""How a plugin is let in: its bytes are read, its policy decides, both are recorded, and a pool is made."""

import asyncio
import hashlib
from functools import partial

import msgspec
from msgspec.structs import asdict

from .audit import AuditLog
from .closing import made
from .config import SandboxConfig
from .deployment import Source
from .errors import InitializationFailed, LoadFailed
from .events import Events
from .isolation import Confinement, IsolationManager
from .loader import Bundle, PluginLoader
from .nursery import Nursery
from .pool import Pool
from .services import Shared


class Admission:
    """Makes pools of plugins.

    Args:
        loader: Reads them.
        isolation: Decides what they get.
        limits: What the host program says about every plugin.
        events: Where it is told what they got.
        audit_required: Nothing is let in before that is on the disk.
    """

    def __init__(
        self,
        loader: PluginLoader,
        isolation: IsolationManager,
        limits: SandboxConfig | None,
        events: Events,
        *,
        audit_required: bool,
    ) -> None:
        self._loader, self._isolation, self._limits, self._events = loader, isolation, limits, events
        self._audit_required = audit_required
        self._nursery: Nursery | None = None
        self._shared: Shared | None = None
        self._audit: AuditLog | None = None

    def open(self, nursery: Nursery, shared: Shared, audit: AuditLog | None) -> None:
        """Let plugins in from here on.

        Args:
            nursery: Where their processes come from.
            shared: What their services share.
            audit: The audit log, if there is one.
        """
        self._nursery, self._shared, self._audit = nursery, shared, audit

    async def read(self, source: Source) -> Bundle:
        """Read and verify a plugin's files; whoever gets the bundle closes it, or hands it to :meth:`pool`.

        Raises:
            LoadFailed, ConfigError, InvalidFormat: It is no plugin.
        """
        return await made(partial(self.read_now, source), Bundle.close)

    def read_now(self, source: Source) -> Bundle:
        """The same for a thread that may block."""
        bundle = self._loader.load(source.path, source.metadata, plugin_id=source.plugin_id)
        if source.sha256 and (bundle.package is None or bundle.package.digest != source.sha256):
            bundle.close()
            raise LoadFailed(source.path, "its bytes are not those that are locked; `frys verify` says more")
        return bundle

    async def pool(self, plugin_id: str, bundle: Bundle, source: Source) -> Pool:
        """The pool of a plugin, without a process yet; it owns the bundle, also if this fails.

        Raises:
            ConfigError, LoadFailed, SandboxError: The policy or the machine does not let it in.
        """
        if self._nursery is None:
            bundle.close()
            raise InitializationFailed("the manager", "it is not open")
        try:
            wishes = [wish for wish in (self._limits, source.sandbox) if wish is not None]
            confine = partial(
                self._isolation.confine,
                bundle.metadata,
                source.isolation,
                wishes,
                plugin_id=plugin_id,
                path=bundle.path,
                signed=bundle.signed,
            )
            # Many signatures take time, which other plugins' calls do not wait for.
            confinement = confine() if bundle.signed is None else await asyncio.to_thread(confine)
            self._events.publish("granted", plugin_id, **_grant(bundle, confinement))
            await self._must_be_recorded(bundle.path)
            return Pool(plugin_id, bundle, confinement, self._nursery, self._events, shared=self._shared)
        except BaseException:
            bundle.close()
            raise

    async def _must_be_recorded(self, path: str) -> None:
        if self._audit is None or not self._audit_required:
            return
        if not await asyncio.to_thread(self._audit.flush):
            raise LoadFailed(path, f"{self._audit.failure}, and audit_required allows no load without it")


def digest(bundle: Bundle) -> str:
    """One digest of everything that a bundle holds: what the plugin says about itself, and all its bytes."""
    parts = (bundle.metadata, sorted(bundle.digests.items()))
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def _grant(bundle: Bundle, room: Confinement) -> dict[str, object]:
    """What a plugin gets and what it is, for the audit log."""
    policy = room.policy
    return {
        "path": bundle.path,
        "version": bundle.metadata.version,
        "format": room.format,
        "package": bundle.package.digest if bundle.package is not None else "",
        "signatures": room.signatures,
        "sha256": bundle.digests,
        "level": policy.level,
        "limits": asdict(policy.limits),
        "instances": policy.supervision.instances.of(bundle.metadata.instances),
        "read": policy.read,
        "write": policy.write,
        "network": policy.network,
        "processes": policy.processes,
        "threads": policy.threads,
        "on_violation": policy.on_violation,
        "http": [str(grant) for grant in policy.http],
        "messages": {**asdict(policy.messages), "call": dict(policy.messages.call)},
        "host_functions": policy.host_functions,
    }
