"""What plugins keep: a key-value store for each plugin id, in one SQLite file or in memory.

It survives the plugin's process, a reload and, in a file, the host program. Several host programs may use one
file at a time: SQLite's own locks keep them apart (https://sqlite.org/wal.html).
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from .errors import InitializationFailed
from .messages import MessageValue, Refused

MAX_KEY: Final = 1024
"""Bytes of a key in UTF-8."""
_MAX_KEYS: Final = 10_000
"""Keys that one question lists at the most."""
_PATIENCE: Final = 5.0
"""Seconds to wait for another program's lock."""

# An entry counts 64 bytes besides its key and its value, so that small ones are not free.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entry (
    plugin TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (plugin, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS used (plugin TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON entry BEGIN
    INSERT INTO used VALUES (new.plugin, length(CAST(new.key AS BLOB)) + length(new.value) + 64)
    ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER IF NOT EXISTS changed AFTER UPDATE ON entry BEGIN
    UPDATE used SET bytes = bytes + length(new.value) - length(old.value) WHERE plugin = new.plugin;
END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON entry BEGIN
    UPDATE used SET bytes = bytes - length(CAST(old.key AS BLOB)) - length(old.value) - 64
    WHERE plugin = old.plugin;
END;
"""


class KeyValueStore:
    """The stores of all plugins of one manager; SQLite works in a thread of its own.

    Args:
        path: The file, made when it is not there; in memory without one.

    Raises:
        InitializationFailed: The file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._worker = ThreadPoolExecutor(1, "frys-keyvalue")
        try:
            self._base = self._worker.submit(_connect, os.fspath(path) if path else ":memory:").result()
        except sqlite3.Error as error:
            self._worker.shutdown()
            raise InitializationFailed(f"the key-value store {path}", str(error)) from None

    async def get(self, plugin_id: str, key: str) -> MessageValue:
        """The value of a key; ``None`` when it has none."""
        row = await self._run(
            lambda base: base.execute(
                "SELECT value FROM entry WHERE plugin = ? AND key = ?", (plugin_id, key)
            ).fetchone()
        )
        return None if row is None else _decode(row[0])

    async def put(self, plugin_id: str, key: str, value: MessageValue, quota: int) -> None:
        """Set a key.

        Args:
            plugin_id: Whose.
            key: Its name.
            value: Its value.
            quota: Bytes that all entries of this plugin may have, with 64 for each entry.

        Raises:
            Refused: The key is too long, or the quota is full; nothing is changed then.
        """
        if len(key.encode()) > MAX_KEY:
            raise Refused("invalid", f"a key has at most {MAX_KEY} bytes")
        data = msgspec.msgpack.encode(value)

        def put(base: sqlite3.Connection) -> int:
            with base:
                base.execute(
                    "INSERT INTO entry VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                    (plugin_id, key, data),
                )
                (used,) = base.execute("SELECT bytes FROM used WHERE plugin = ?", (plugin_id,)).fetchone()
                if used > quota:
                    base.rollback()
            return int(used)

        used = await self._run(put)
        if used > quota:
            raise Refused(
                "limit",
                f"the key-value store would hold {used} bytes, and limits.kv allows {quota}; delete keys",
            )

    async def delete(self, plugin_id: str, key: str) -> bool:
        """Remove a key; whether it was there."""

        def delete(base: sqlite3.Connection) -> bool:
            with base:
                found = base.execute("DELETE FROM entry WHERE plugin = ? AND key = ?", (plugin_id, key))
            return found.rowcount > 0

        return await self._run(delete)

    async def keys(self, plugin_id: str, prefix: str = "") -> list[MessageValue]:
        """The keys that begin with ``prefix``, in order, at most 10,000 of them."""
        rows = await self._run(
            lambda base: base.execute(
                "SELECT key FROM entry WHERE plugin = ? AND key >= ? AND substr(key, 1, ?) = ? "
                "ORDER BY key LIMIT ?",
                (plugin_id, prefix, len(prefix), prefix, _MAX_KEYS),
            ).fetchall()
        )
        return [key for (key,) in rows]

    async def _run[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, work, self._base)
        except sqlite3.Error as error:
            raise Refused("unavailable", f"the key-value store does not work: {error}") from None

    def close(self) -> None:
        """Close the file; what was put is on the disk."""
        self._worker.submit(self._base.close).result()
        self._worker.shutdown()


def _connect(path: str) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)
    try:
        if path != ":memory:":
            os.chmod(path, 0o600)
            _enter_wal(base)
            base.execute("PRAGMA synchronous = NORMAL")
        base.executescript(_SCHEMA)
    except BaseException:
        base.close()
        raise
    return base


def _enter_wal(base: sqlite3.Connection) -> None:
    """Switch a file's journal; SQLite waits for nobody there, and another program may do so, too."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            base.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _decode(data: bytes) -> MessageValue:
    value: MessageValue = msgspec.msgpack.decode(data)
    return value
