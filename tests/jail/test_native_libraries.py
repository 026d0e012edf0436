"""Libraries of the system and libraries that lie, declared in plugin.json, in the real jail."""

import json
import os
import platform
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import compat
import pytest
from native_build import library
from support import live

from frys_runtime import (
    ExecutionFailed,
    IsolationLevel,
    PluginManager,
    ResourceLimitExceeded,
    SandboxConfig,
    Timeout,
)

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

pytestmark = [
    pytest.mark.needs_gcc,
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]


class Caller:
    """One loaded plugin, called by attribute."""

    def __init__(self, manager: PluginManager, plugin: str) -> None:
        self._manager, self._plugin = manager, plugin

    def __call__(self, function: str, *args: Any, **options: Any) -> Any:
        return self._manager.execute_plugin(self._plugin, function, *args, **options)


@asynccontextmanager
async def _loaded(path: Path, **options: Any) -> AsyncIterator[Caller]:
    async with PluginManager(**options) as manager:
        yield Caller(manager, await manager.load_plugin(path))


# ---- SQLite


@pytest.mark.needs_libraries
@compat.row("system library", "SQLite", "open, exec with a callback, prepare, bind, step, column")
@live
async def test_sqlite_in_memory_at_maximum(record_property: Callable[[str, str], None]) -> None:
    """Rows from a callback, prepared statements over handles, and errors in SQLite's own words."""
    async with _loaded(EXAMPLES / "sqlite") as call:
        db = await call("open", ":memory:")
        assert (
            await call("exec", db, "create table words (id integer primary key, word text, data blob)") == []
        )
        insert = await call("prepare", db, "insert into words (word, data) values (?, ?)")
        for word in ("eins", "zwei", "drei"):
            await call("bind_text", insert, 1, word)
            await call("bind_blob", insert, 2, word.encode() + b"\0")
            assert await call("step", insert) == 101
            await call("reset", insert)
        assert await call("last_insert_rowid", db) == 3
        assert await call("exec", db, "select id, word, null from words where id > 1") == [
            {"values": ["2", "zwei", None], "names": ["id", "word", "null"]},
            {"values": ["3", "drei", None], "names": ["id", "word", "null"]},
        ]
        select = await call("prepare", db, "select id, word, data, 2.5 from words order by word")
        assert await call("step", select) == 100
        assert await call("column_int", select, 0) == 3
        assert await call("column_text", select, 1) == "drei"
        assert await call("column_blob", select, 2) == b"drei\0"
        assert await call("column_float", select, 3) == 2.5
        assert [await call("column_name", select, column) for column in range(2)] == ["id", "word"]
        with pytest.raises(ExecutionFailed, match='sqlite3_exec returned 1: near "selec": syntax error'):
            await call("exec", db, "selec")
        with pytest.raises(
            ExecutionFailed, match="sqlite3_close returned 5: unable to close due to unfinalized"
        ):
            await call("close", db)
        await call("finalize", select)
        await call("finalize", insert)
        await call("close", db)
        record_property("version", await call("version"))
        with pytest.raises(TypeError, match=f"db: {db} is no handle of this plugin process"):
            await call("exec", db, "select 1")


@pytest.mark.needs_libraries
@live
async def test_sqlite_stops_where_rows_do_not_fit() -> None:
    """A query of a million rows is stopped in time, and the database goes on working."""
    numbers = "with recursive n(i) as (select 1 union all select i + 1 from n limit 1000000) select i from n"
    async with _loaded(EXAMPLES / "sqlite") as call:
        db = await call("open", ":memory:")
        with pytest.raises(
            ExecutionFailed, match="callbacks may collect 16777216 bytes, and were told to stop"
        ):
            await call("exec", db, numbers)
        assert await call("exec", db, "select 1 as one") == [{"values": ["1"], "names": ["one"]}]


@pytest.mark.needs_libraries
@live
async def test_sqlite_sees_no_file_at_maximum(tmp_path: Path) -> None:
    """The same file that another process reads is not there."""
    database = tmp_path / "words.db"
    with sqlite3.connect(database) as connection:
        connection.execute("create table words (word)")
    connection.close()
    async with _loaded(EXAMPLES / "sqlite") as call:
        with pytest.raises(
            ExecutionFailed, match="sqlite3_open_v2 returned 14: unable to open database file"
        ):
            await call("open", str(database))


@pytest.mark.needs_libraries
@live
async def test_sqlite_in_a_granted_folder_at_high(tmp_path: Path) -> None:
    """Journal, write-ahead log, vacuum and locks work on files of a granted folder, and nowhere else."""
    folder = tmp_path / "granted"
    folder.mkdir()
    for path in (folder, *list(tmp_path.parents)[:3]):
        os.chmod(path, 0o777)
    grants = SandboxConfig(allowed_paths=(f"{folder}:rw",))
    high = IsolationLevel.HIGH
    async with _loaded(EXAMPLES / "sqlite", isolation=high, resource_limits=grants) as call:
        db = await call("open", f"{folder}/words.db")
        await call("exec", db, "create table words (word); begin; insert into words values ('one'); commit")
        assert await call("exec", db, "pragma journal_mode = wal") == [
            {"values": ["wal"], "names": ["journal_mode"]}
        ]
        await call("exec", db, "insert into words values ('two'); pragma wal_checkpoint; vacuum")
        await call("exec", db, "pragma journal_mode = delete")
        await call("exec", db, "begin exclusive")
        with sqlite3.connect(f"file:{folder}/words.db?mode=ro", uri=True, timeout=0) as other:
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                other.execute("select * from words")
            await call("exec", db, "commit")
            assert other.execute("select * from words").fetchall() == [("one",), ("two",)]
        other.close()
        await call("close", db)
        with pytest.raises(ExecutionFailed, match="unable to open database file"):
            await call("open", f"{tmp_path}/beside.db")
    assert os.listdir(folder) == ["words.db"]


# ---- Expat and libm


@pytest.mark.needs_libraries
@compat.row("system library", "Expat", "a parser with callbacks for elements and text")
@live
async def test_expat_tells_its_events_at_maximum(record_property: Callable[[str, str], None]) -> None:
    """Three callbacks that stay in the parser collect one list, in order, over several calls."""
    async with _loaded(EXAMPLES / "expat") as call:
        parser = await call("create")
        await call("report_elements", parser)
        await call("report_text", parser)
        assert await call("parse", parser, '<a b="c">one<d/>', 0) == [
            {"event": "start", "name": "a", "attributes": ["b", "c"]},
            {"event": "text", "text": "one"},
            {"event": "start", "name": "d", "attributes": []},
            {"event": "end", "name": "d"},
        ]
        with pytest.raises(
            ExecutionFailed, match=r"XML_Parse returned 0 \(XML_STATUS_ERROR\): mismatched tag"
        ):
            await call("parse", parser, "</b>")
        await call("free", parser)
        fresh = await call("create", "UTF-8")
        assert await call("parse", fresh, "<a/>") == []
        record_property("version", (await call("version")).removeprefix("expat_"))


@pytest.mark.needs_libraries
@live
async def test_expat_expands_no_bomb() -> None:
    """A billion laughs end in Expat's own protection or in the plugin's limits, and in nothing else."""
    entities = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    bomb = f'<!DOCTYPE l [<!ENTITY l0 "ha">{entities}]><l>&l9;</l>'
    async with _loaded(EXAMPLES / "expat") as call:
        parser = await call("create")
        await call("report_text", parser)
        with pytest.raises((ExecutionFailed, ResourceLimitExceeded)):
            await call("parse", parser, bomb)
        assert await call("version")


@compat.row("system library", "libm", "cos, hypot, frexp, log")
@live
async def test_libm_tells_domain_errors(record_property: Callable[[str, str], None]) -> None:
    """Plain functions, out values, and errno as the sign of failure."""
    record_property("version", " ".join(platform.libc_ver()))
    async with _loaded(EXAMPLES / "libm") as call:
        assert await call("cos", 0) == 1.0
        assert await call("hypot", 3, 4) == 5.0
        assert await call("frexp", 8.0) == [0.5, 4]
        assert await call("log", 1) == 0.0
        with pytest.raises(ExecutionFailed, match=r"log returned nan: .*\(EDOM\)"):
            await call("log", -1.0)


# ---- libraries that lie


LIES = {
    "cdef": """
        struct point { int x, y; }; struct named { int number; const char *name; };
        const char *wild_text(void); struct point *wild_point(void); const char **wild_texts(void);
        struct named wild_member(void); const int *wild_list(size_t *count);
        void write_far_away(uint8_t *data, size_t size);
        typedef void data_function(const uint8_t *data, int size);
        void lie_to_callback(data_function *function, int size);
    """,
    "callbacks": {"data": {"args": [{"out": "data"}, {"size_of": "data"}], "into": "all"}},
    "functions": {
        **{name: {} for name in ("wild_text", "wild_point", "wild_texts", "wild_member")},
        "wild_list": {"args": [{"count_of": "returned"}]},
        "write_far_away": {"args": [{"inout": "data"}, {"size_of": "data"}]},
        "lie_to_callback": {"args": [{"callback": "data"}, {"in": "size", "default": 100}], "collect": "all"},
    },
}


def _plugin(folder: Path, name: str, native: dict[str, Any]) -> Path:
    """A plugin folder with a compiled fixture and a plugin.json."""
    shutil.copy(library(name), folder / "plugin.so")
    metadata = {
        "id": "declared",
        "version": "1.0.0",
        "format": "native",
        "entry": "plugin.so",
        "native": native,
    }
    (folder / "plugin.json").write_text(json.dumps(metadata))
    return folder


@pytest.mark.parametrize(
    ("function", "args"),
    [
        ("wild_text", ()),
        ("wild_point", ()),
        ("wild_texts", ()),
        ("wild_member", ()),
        ("wild_list", ()),
        ("write_far_away", (b"data",)),
        ("lie_to_callback", ()),
    ],
)
@live
async def test_a_wild_pointer_ends_its_own_process(
    tmp_path: Path, function: str, args: tuple[Any, ...]
) -> None:
    """What C says is at an address is read there; where nothing is, the crash is told as one."""
    async with _loaded(_plugin(tmp_path, "hostile/lies", LIES)) as call:
        for _ in range(2):  # the second time in a fresh process
            with pytest.raises(ExecutionFailed, match=r"crashed \(SIGSEGV"):
                await call(function, *args)


THINGS = {
    "cdef": """
        typedef struct store store; store *store_new(int value); int store_value(store *);
        typedef int row_function(void *context, int count, char **texts, double number);
        int each_row_for_ever(row_function *);
    """,
    "handles": {"store": {}},
    "callbacks": {"row": {"args": [None, None, None, {"out": "number"}], "into": "rows"}},
    "functions": {
        "store_new": {},
        "store_value": {},
        "for_ever": {"symbol": "each_row_for_ever", "args": [{"callback": "row"}], "collect": "rows"},
    },
}


@live
async def test_a_callback_without_end_meets_the_deadline(tmp_path: Path) -> None:
    """C that ignores the word to stop is stopped by the host; handles end with the process."""
    limits = SandboxConfig(max_execution_time=1500, max_cpu_time=1000)
    async with _loaded(_plugin(tmp_path, "things", THINGS), resource_limits=limits) as call:
        store = await call("store_new", 7)
        assert await call("store_value", store) == 7
        with pytest.raises((Timeout, ResourceLimitExceeded)):
            await call("for_ever")
        with pytest.raises(TypeError, match="is no handle of this plugin process"):
            await call("store_value", store)
        assert await call("store_value", await call("store_new", 8)) == 8
