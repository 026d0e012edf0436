"""A verified plugin as its launcher sees it: bytes, never a path of the host."""

from .host import Host
from .values import Value

__all__ = ["Artifact", "Value"]

_NOTHING = memoryview(b"")


class Artifact:
    """The files and settings of one plugin.

    The host has read and verified the very bytes that stand here; they arrive in one sealed
    memory file, so nothing can change between the check and the use.

    Attributes:
        plugin_id: The plugin's id.
        entry: The key of the entry file in ``files``; empty for a native plugin that only names
            a library of the system.
        files: Relative POSIX path to content (read-only views).
        root: Directory of the jail in which the files lie as files, or an empty string when the
            format does not need them there.
        options: The format's own section of ``plugin.json``.
        memory_limit: Bytes that the plugin may use; the kernel enforces the same number.
        stack_limit: Bytes of C stack that an engine may use.
        exports: The types of its functions, as ``exports`` of ``plugin.json`` declares them.
        host: Whom the plugin may ask for services; by default one that refuses everything.
        compiled: What the engine made of the entry file in an earlier process; empty when there is nothing.
        room: Where that belongs, for a process that only makes it; else empty.
    """

    __slots__ = (
        *("compiled", "entry", "exports", "files", "host", "memory_limit", "options", "plugin_id"),
        *("room", "root", "stack_limit"),
    )

    def __init__(
        self,
        plugin_id: str,
        entry: str,
        files: dict[str, memoryview],
        root: str = "",
        options: dict[str, Value] | None = None,
        memory_limit: int = 64 << 20,
        stack_limit: int = 1 << 20,
        host: Host | None = None,
        compiled: memoryview = _NOTHING,
        room: memoryview = _NOTHING,
        exports: dict[str, Value] | None = None,
    ) -> None:
        self.plugin_id = plugin_id
        self.entry = entry
        self.files = files
        self.root = root
        self.options = options if options is not None else {}
        self.memory_limit = memory_limit
        self.stack_limit = stack_limit
        self.exports = exports if exports is not None else {}
        self.host = host if host is not None else Host()
        self.compiled = compiled
        self.room = room

    def forget_compiled(self) -> None:
        """Give the memory of the compiled form back."""
        self.compiled = _NOTHING
