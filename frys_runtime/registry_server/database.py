"""The registry's SQLite database: its tables, its connections, and the threads that use them."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..errors import ConfigError

FILE: Final = "registry.db"
_SCHEMA_VERSION: Final = 1
_READERS: Final = 4

_SCHEMA: Final = """
CREATE TABLE publishers (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    skeleton TEXT NOT NULL UNIQUE,
    created REAL NOT NULL
);
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL,
    publisher INTEGER NOT NULL REFERENCES publishers,
    label TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL,
    revoked REAL
);
CREATE TABLE plugins (
    id TEXT PRIMARY KEY,
    lower TEXT NOT NULL UNIQUE,
    skeleton TEXT NOT NULL UNIQUE,
    bin TEXT NOT NULL,
    role TEXT NOT NULL,
    place INTEGER NOT NULL UNIQUE,      -- its row in the search tables; a new release takes the last place
    latest TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    author TEXT NOT NULL,
    license TEXT NOT NULL,
    format TEXT NOT NULL,
    capabilities TEXT NOT NULL,         -- JSON
    permissions TEXT NOT NULL,          -- JSON
    deprecated TEXT,                    -- JSON
    downloads INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    updated REAL NOT NULL
);
CREATE INDEX plugins_by_role ON plugins (role);
CREATE INDEX plugins_by_bin ON plugins (bin);
CREATE INDEX plugins_by_downloads ON plugins (downloads DESC, id);
CREATE INDEX plugins_by_update ON plugins (updated DESC, id);
CREATE TABLE owners (
    plugin TEXT NOT NULL REFERENCES plugins,
    publisher INTEGER NOT NULL REFERENCES publishers,
    PRIMARY KEY (plugin, publisher)
) WITHOUT ROWID;
CREATE TABLE versions (
    plugin TEXT NOT NULL REFERENCES plugins,
    version TEXT NOT NULL,
    core TEXT NOT NULL,                 -- without build metadata, which tells no two versions apart
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    metadata BLOB NOT NULL,             -- its plugin.json
    facts BLOB NOT NULL,                -- JSON: what its TUF target says beside length and hash
    files BLOB NOT NULL,                -- JSON: path and size of each
    readme TEXT NOT NULL,
    publisher INTEGER NOT NULL REFERENCES publishers,
    published REAL NOT NULL,
    yanked TEXT,                        -- why; NULL when it is not
    withdrawn TEXT,                     -- why nobody gets it any more; NULL when everybody does
    downloads INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (plugin, version),
    UNIQUE (plugin, core)
);
CREATE INDEX versions_by_hash ON versions (sha256);
CREATE TABLE downloads (
    day TEXT NOT NULL,
    plugin TEXT NOT NULL,
    version TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (day, plugin, version)
) WITHOUT ROWID;
CREATE TABLE log (
    seq INTEGER PRIMARY KEY,
    line BLOB NOT NULL
);
CREATE TABLE tuf (
    role TEXT NOT NULL,
    version INTEGER NOT NULL,
    expires REAL NOT NULL,
    superseded REAL,
    data BLOB NOT NULL,
    PRIMARY KEY (role, version)
);
CREATE INDEX tuf_now ON tuf (role, version) WHERE superseded IS NULL;
CREATE INDEX tuf_old ON tuf (superseded) WHERE superseded IS NOT NULL;
CREATE INDEX tuf_by_expiry ON tuf (expires) WHERE superseded IS NULL;
CREATE TABLE documents (
    sha256 TEXT NOT NULL,
    plugin TEXT NOT NULL,
    version TEXT NOT NULL,              -- empty: the list of all of them
    kind TEXT NOT NULL,                 -- index, manifest, signature, bundle, and the manifests of these two
    superseded REAL,
    data BLOB NOT NULL,
    PRIMARY KEY (plugin, version, kind, sha256)
);
CREATE INDEX documents_by_hash ON documents (sha256);
CREATE INDEX documents_old ON documents (superseded) WHERE superseded IS NOT NULL;
CREATE VIRTUAL TABLE words USING fts5(
    id, name, description, author, capabilities, readme, facets,
    tokenize = 'porter unicode61 remove_diacritics 2', prefix = '2 3'
);
CREATE VIRTUAL TABLE popular USING fts5( -- the same of those with the most downloads, made anew now and then
    id, name, description, author, capabilities, readme, facets,
    content = '', tokenize = 'porter unicode61 remove_diacritics 2', prefix = '2 3'
);
CREATE VIRTUAL TABLE titles USING fts5( -- the same without the long texts
    id, name, facets,
    content = '', tokenize = 'porter unicode61 remove_diacritics 2', prefix = '2 3'
);
CREATE VIRTUAL TABLE parts USING fts5(id, name, tokenize = 'trigram');
CREATE TABLE spelling (
    damaged TEXT NOT NULL,              -- a word, or it without one of its letters
    word TEXT NOT NULL,
    PRIMARY KEY (damaged, word)
) WITHOUT ROWID;
"""


def connect(folder: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the database.

    Raises:
        ConfigError: There is none, or it belongs to another version of Frys.
    """
    path = folder / FILE
    try:
        db = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=30)
        _prepare(db, read_only=read_only)
        found = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise ConfigError(str(path), f"cannot be opened: {error}") from None
    if found != _SCHEMA_VERSION:
        db.close()
        raise ConfigError(str(path), f"has schema {found}; this version of Frys reads {_SCHEMA_VERSION}")
    return db


def create(folder: Path) -> sqlite3.Connection:
    """Make the database of a new registry."""
    db = sqlite3.connect(folder / FILE, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    _prepare(db)
    db.executescript(_SCHEMA)
    db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    return db


def _prepare(db: sqlite3.Connection, *, read_only: bool = False) -> None:
    # FULL: a publish that was confirmed is on the disk. The rest keeps the search tables in memory.
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        "cache_size = -16384",
        "mmap_size = 1073741824",
    ):
        db.execute(f"PRAGMA {pragma}")
    db.row_factory = sqlite3.Row
    if read_only:
        db.execute("PRAGMA query_only = ON")


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of it, or nothing; one writer at a time, across processes."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk makes SQLite roll back by itself
            db.execute("ROLLBACK")
        raise


class Database:
    """The database as an event loop uses it: reads in a few threads, writes in one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(_READERS, "registry-read", self._connect, (True,))
        self._writer = ThreadPoolExecutor(1, "registry-write", self._connect, (False,))

    def _connect(self, read_only: bool) -> None:
        db = sqlite3.connect(
            f"file:{self._folder / FILE}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=30,
            check_same_thread=False,  # closed by another thread, once its own has ended
        )
        _prepare(db, read_only=read_only)
        self._local.db = db
        self._open.append(db)

    async def read[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something that only reads, with one state of the database."""

        def run() -> T:
            db: sqlite3.Connection = self._local.db
            db.execute("BEGIN")
            try:
                return work(db)
            finally:
                db.execute("COMMIT")

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in a transaction of its own.

        It is finished also when the task that waits for it is cancelled: a client that goes away in the
        middle has published, or not, but never half.
        """

        def run() -> T:
            with transaction(self._local.db) as db:
                return work(db)

        return await asyncio.get_running_loop().run_in_executor(self._writer, run)

    def close(self) -> None:
        """Finish what was begun, and close all connections."""
        for pool in (self._readers, self._writer):
            pool.shutdown()
        for db in self._open:
            db.close()
