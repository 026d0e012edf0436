"""What a manager holds of its machine while it is open: cgroups, parked processes, state folder, log."""

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

from .audit import AuditLog
from .closing import PROCESS_SECONDS, REPORT_SECONDS, step
from .communicator import PluginCommunicator
from .compiled import CompiledCode
from .errors import InitializationFailed
from .events import Events
from .keyvalue import KeyValueStore
from .linux.cgroup import CgroupError, CgroupTree
from .nursery import Nursery
from .services import Shared


class Premises:
    """Opened in one step, or not at all, and given back whole.

    Args:
        cgroups: Whether the machine has cgroups to give.
        spares: Parked processes for each kind of plugin in use.
        state_dir: A folder for what outlasts the manager, if anything does.
        audit: The audit log, or its file.
        communicator: What the services of all plugins share besides.
        events: What the audit log records.

    Attributes:
        audit: The audit log, if there is one, once it is open.
        tree: Where cgroups are made, once it is open and if the machine gives any.
        nursery: Where processes come from, once it is open.
    """

    def __init__(
        self,
        *,
        cgroups: bool,
        spares: int,
        state_dir: str | os.PathLike[str] | None,
        audit: str | os.PathLike[str] | AuditLog | None,
        communicator: PluginCommunicator,
        events: Events,
    ) -> None:
        self._cgroups, self._spares = cgroups, spares
        self._state_dir = os.fspath(state_dir) if state_dir is not None else None
        self._audit_file = audit
        self._communicator, self._events = communicator, events
        self.audit: AuditLog | None = None
        self.tree: CgroupTree | None = None
        self.nursery: Nursery | None = None
        self._shared: Shared | None = None
        self._store: KeyValueStore | None = None

    def open(self) -> tuple[Nursery, Shared]:
        """Take what is needed.

        Returns:
            Where processes come from, and what the services of plugins share.

        Raises:
            InitializationFailed: The state folder cannot be made, or the machine takes back its cgroups.
            ConfigError: The audit log cannot be opened.
        """
        shared = Shared(self._communicator, self._open_store, CompiledCode(self.place("compiled")))
        _raise_descriptor_limit()
        self._open_audit()
        if self._cgroups:
            try:
                self.tree = CgroupTree()
                self.tree.sweep()
            except CgroupError as error:
                if self.audit is not None:
                    self.audit.close()
                raise InitializationFailed("the manager", str(error)) from error
        self._shared, self.nursery = shared, Nursery(self.tree, self._spares)
        return self.nursery, shared

    def place(self, name: str) -> str | None:
        """Where something is kept that outlasts the manager, if anything is.

        Raises:
            InitializationFailed: The folder for it cannot be made.
        """
        if self._state_dir is None:
            return None
        try:
            os.makedirs(self._state_dir, mode=0o700, exist_ok=True)
        except OSError as error:
            raise InitializationFailed(
                f"the folder {self._state_dir}", error.strerror or str(error)
            ) from None
        return os.path.join(self._state_dir, name)

    async def end_processes(self) -> None:
        """End every launcher and all that is parked; loads that are under way fail."""
        if self.nursery is not None:
            await step("fork servers", self.nursery.close(), PROCESS_SECONDS)

    @contextmanager
    def hurry(self) -> Iterator[None]:
        """While plugins end: a fork server that does not tell of their ends in time is killed with them."""
        timer = None
        if self.nursery is not None:
            timer = asyncio.get_running_loop().call_later(REPORT_SECONDS, self.nursery.kill)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()

    async def close(self) -> None:
        """Give the rest back, when no plugin and no load is left."""
        if self.tree is not None:
            await step("cgroups", asyncio.to_thread(self.tree.close), PROCESS_SECONDS)
        if self._shared is not None:
            await step("compiled code to be kept", self._shared.compiled.close())
        if self._store is not None:
            await step("stored values", asyncio.to_thread(self._store.close))
        if self.audit is not None:
            await step("the audit log", asyncio.to_thread(self.audit.close))

    def _open_store(self) -> KeyValueStore:
        if self._store is None:
            self._store = KeyValueStore(self.place("keyvalue.sqlite3"))
        return self._store

    def _open_audit(self) -> None:
        named = self._audit_file
        if named is None:
            return
        log = self.audit = named if isinstance(named, AuditLog) else AuditLog(named)
        self._events.add_sink(log.record)
        loop = asyncio.get_running_loop()

        def failed(reason: str) -> None:
            loop.call_soon_threadsafe(lambda: self._events.publish("audit_failed", "", reason=reason))

        log.on_failure = failed


def _raise_descriptor_limit() -> None:
    """A live plugin holds six descriptors of the host; the usual soft limit of 1024 is for select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
