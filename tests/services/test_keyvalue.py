"""The key-value store: a real SQLite file, quotas, several programs at a time."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from frys_runtime import InitializationFailed, Refused
from frys_runtime.keyvalue import MAX_KEY, KeyValueStore

QUOTA = 1000


def test_values_come_back_as_they_were_put(tmp_path: Path) -> None:
    """Every kind of value, and across closing the file."""
    value = {"none": None, "list": [1, 2.5, True, b"\0"], "big": (1 << 64) - 1, "text": "\u20ac"}

    async def run() -> None:
        store = KeyValueStore(tmp_path / "kv")
        await store.put("a", "key", value, QUOTA)
        store.close()
        store = KeyValueStore(tmp_path / "kv")
        assert await store.get("a", "key") == value
        assert await store.get("a", "other") is None
        assert await store.delete("a", "key")
        assert not await store.delete("a", "key")
        assert await store.get("a", "key") is None
        store.close()

    asyncio.run(run())


def test_plugins_do_not_see_each_other() -> None:
    """The same key of two plugins is two entries."""

    async def run() -> None:
        store = KeyValueStore()
        await store.put("a", "key", 1, QUOTA)
        await store.put("b", "key", 2, QUOTA)
        await store.delete("b", "key")
        assert await store.get("a", "key") == 1
        assert await store.keys("b") == []
        store.close()

    asyncio.run(run())


def test_keys_are_listed_by_prefix_and_in_order() -> None:
    """A prefix is taken letter by letter, with no pattern in it."""

    async def run() -> None:
        store = KeyValueStore()
        for key in ("b", "a%", "a_1", "a_", "ab", ""):
            await store.put("a", key, 0, QUOTA)
        assert await store.keys("a") == ["", "a%", "a_", "a_1", "ab", "b"]
        assert await store.keys("a", "a_") == ["a_", "a_1"]
        assert await store.keys("a", "a%") == ["a%"]
        store.close()

    asyncio.run(run())


def test_the_quota_holds_and_a_refused_value_changes_nothing() -> None:
    """Keys, values and 64 bytes for each entry count; deleting gives back."""

    async def run() -> None:
        store = KeyValueStore()
        await store.put("a", "key", b"x" * 900, QUOTA)
        with pytest.raises(Refused, match=r"would hold \d+ bytes, and limits\.kv allows 1000") as refused:
            await store.put("a", "other", b"", QUOTA)
        assert refused.value.reason == "limit"
        assert await store.keys("a") == ["key"]
        with pytest.raises(Refused):
            await store.put("a", "key", b"x" * 1000, QUOTA)
        assert await store.get("a", "key") == b"x" * 900
        await store.put("b", "other", b"x" * 900, QUOTA)
        await store.put("a", "key", b"x", QUOTA)
        await store.put("a", "other", b"x" * 700, QUOTA)
        with pytest.raises(Refused) as refused:
            await store.put("a", "k" * (MAX_KEY + 1), 0, QUOTA)
        assert refused.value.reason == "invalid"
        store.close()

    asyncio.run(run())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.binary(max_size=400)), max_size=30))
def test_what_is_counted_is_what_is_there(steps: list[tuple[str, bytes | None]]) -> None:
    """However it came about, the count is that of a fresh store with the same entries."""

    async def used(steps: list[tuple[str, bytes | None]]) -> tuple[dict[str, object], int]:
        store = KeyValueStore()
        for key, value in steps:
            if value is None:
                await store.delete("p", key)
                continue
            try:
                await store.put("p", key, value, QUOTA)
            except Refused:
                continue
        there = {str(key): await store.get("p", str(key)) for key in await store.keys("p")}
        room = 0
        for step in (512, 256, 128, 64, 32, 16, 8, 4, 2, 1):
            try:
                await store.put("p", "z" * 300, b"x" * (room + step), QUOTA * 3)
                room += step
            except Refused:
                continue
        store.close()
        return there, room

    async def run() -> None:
        there, room = await used(steps)
        assert room == (await used([(key, value) for key, value in there.items()]))[1]  # type: ignore[misc]

    asyncio.run(run())


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    """Nobody else on the machine may read what plugins keep."""
    store = KeyValueStore(tmp_path / "kv")
    assert {os.stat(file).st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    store.close()


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    """A sentence, and the file stays as it is."""
    file = tmp_path / "kv"
    file.write_bytes(b"not a database " * 100)
    with pytest.raises(InitializationFailed, match="key-value store"):
        KeyValueStore(file)
    assert file.read_bytes() == b"not a database " * 100


def test_a_new_file_that_many_open_at_the_same_moment(tmp_path: Path) -> None:
    """Each of them finds it a file with a write-ahead log, whoever has made it one."""

    def open_it(round_number: int, together: threading.Barrier) -> None:
        together.wait()
        KeyValueStore(tmp_path / f"kv{round_number}").close()

    with ThreadPoolExecutor(8) as threads:
        for number in range(100):
            together = threading.Barrier(8)
            for opened in [threads.submit(open_it, number, together) for _ in range(8)]:
                opened.result()


def test_two_programs_share_a_file(tmp_path: Path) -> None:
    """What one puts the other gets, and neither loses an update."""
    code = (
        "import asyncio, sys; from frys_runtime.keyvalue import KeyValueStore\n"
        "async def run():\n"
        "    store = KeyValueStore(sys.argv[1])\n"
        "    for number in range(100): await store.put('a', sys.argv[2] + str(number), number, 1 << 20)\n"
        "    store.close()\n"
        "asyncio.run(run())"
    )
    file = str(tmp_path / "kv")
    programs = [subprocess.Popen([sys.executable, "-c", code, file, name]) for name in "xy"]
    assert [program.wait() for program in programs] == [0, 0]
    base = sqlite3.connect(file)
    assert base.execute("SELECT count(*) FROM entry").fetchone() == (200,)
    (used,) = base.execute("SELECT bytes FROM used").fetchone()
    (really,) = base.execute("SELECT sum(length(key) + length(value) + 64) FROM entry").fetchone()
    base.close()
    assert used == really
