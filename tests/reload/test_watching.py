"""A plugin that was saved is reloaded, however it was saved, and never half of it."""

import asyncio
import ctypes
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import live
from versioned import MARKS, until, write

from frys_runtime import EventStream, PluginManager
from frys_runtime.linux.lease import is_open_for_writing
from frys_runtime.watching import lookups

pytestmark = MARKS
PLUGIN_PATH = "current/plugins/sample.py"


def _code(answer: str) -> str:
    return f"def answer():\n    return {answer!r}\n"


def _exchange(one: Path, other: Path) -> None:
    """Have two paths change places at once: renameat2(2) with RENAME_EXCHANGE."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, bytes(one), -100, bytes(other), 2):
        pytest.skip(f"this file system cannot exchange names: {os.strerror(ctypes.get_errno())}")


# Ways to save. Each is given the plugin's path and the text that is to stand there afterwards.


def in_place(path: Path, text: str) -> None:
    path.write_text(text)


def in_steps(path: Path, text: str) -> None:
    with path.open("w") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()


def rename_over(path: Path, text: str) -> None:
    draft = path.with_name(".sample.py.swp")
    draft.write_text(text)
    draft.replace(path)


def backup_and_anew(path: Path, text: str) -> None:
    path.rename(path.with_name("sample.py~"))
    path.write_text(text)


def unlink_and_anew(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def exchange_files(path: Path, text: str) -> None:
    other = path.with_name("other")
    other.write_text(text)
    _exchange(path, other)


def swap_link_to_file(path: Path, text: str) -> None:
    target = path.with_name(f"target-{len(list(path.parent.iterdir()))}")
    target.write_text(text)
    link = path.with_name("link")
    link.symlink_to(target.name)
    link.replace(path)


def swap_link_to_folder(path: Path, text: str) -> None:
    """As deployments do: `current` leads to a release."""
    current = path.parents[1]
    release = current.with_name(f"release-{len(list(current.parent.iterdir()))}")
    (release / "plugins").mkdir(parents=True)
    (release / "plugins" / "sample.py").write_text(text)
    if not current.is_symlink():
        current.rename(current.with_name("release-0"))
        current.symlink_to("release-0")
    link = current.with_name("link")
    link.symlink_to(release.name)
    link.replace(current)


def swap_folder(path: Path, text: str) -> None:
    old, new = path.parent, path.parent.with_name("new")
    new.mkdir()
    (new / "sample.py").write_text(text)
    old.rename(old.with_name(f"old-{len(list(old.parent.iterdir()))}"))
    new.rename(old)


def exchange_folders(path: Path, text: str) -> None:
    new = path.parent.with_name(f"new-{len(list(path.parents[1].iterdir()))}")
    new.mkdir()
    (new / "sample.py").write_text(text)
    _exchange(path.parent, new)


WAYS = [
    in_place,
    in_steps,
    rename_over,
    backup_and_anew,
    unlink_and_anew,
    exchange_files,
    swap_link_to_file,
    swap_link_to_folder,
    swap_folder,
    exchange_folders,
]


@live
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_ways_to_save(way: Callable[[Path, str], None], tmp_path: Path) -> None:
    """Twice in a row, for what is there after the first time may be watched in another way."""
    path = tmp_path / PLUGIN_PATH
    path.parent.mkdir(parents=True)
    path.write_text(_code("first"))
    async with PluginManager(hot_reload=True) as manager:
        events = manager.events()
        await manager.load_plugin(path)
        for answer in ("second", "the third"):
            way(path, _code(answer))
            await until(events, "reloaded")
            assert await manager.execute_plugin("sample", "answer") == answer


@live
async def test_a_folder_that_took_the_place_of_another_is_watched(tmp_path: Path) -> None:
    """Its files are, too, when one of them is saved where it stands."""
    path = tmp_path / PLUGIN_PATH
    path.parent.mkdir(parents=True)
    path.write_text(_code("first"))
    async with PluginManager(hot_reload=True) as manager:
        events = manager.events()
        await manager.load_plugin(path)
        for way, answer in ((swap_folder, "second"), (in_place, "the third")):
            way(path, _code(answer))
            async with asyncio.timeout(20):
                await until(events, "reloaded")
            assert await manager.execute_plugin("sample", "answer") == answer


@live
async def test_a_checkout_of_a_folder(tmp_path: Path) -> None:
    """Git writes several files, removes some and makes folders; what runs is all of one commit."""
    folder = tmp_path / "sample"

    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(folder), *who, *words], check=True)

    code = (
        "from words.more import WORD\nfrom other import OTHER\ndef answer():\n    return [WORD, OTHER, {0}]\n"
    )
    for number in range(3):
        write(folder, f"{number}.0.0", code.replace("{0}", str(number)))
        words = folder / "words"
        words.mkdir(exist_ok=True)
        (words / "__init__.py").write_text("")
        (words / "more.py").write_text(f"WORD = {number}\n")
        (folder / "other.py").write_text(f"OTHER = {number}\n")
        if number == 0:
            git("init", "-q", ".")
        git("add", "-A")
        git("commit", "-qm", str(number))
        git("tag", f"v{number}")
    async with await PluginManager.builder().with_hot_reload(True).build() as manager:
        events = manager.events()
        await manager.load_plugin(folder)
        for number in (0, 1, 2, 0):
            await asyncio.to_thread(git, "checkout", "-q", f"v{number}")
            done = await until(events, "reloaded")
            assert done.data["version"] == f"{number}.0.0"
            assert await manager.execute_plugin("sample", "answer") == [number] * 3


async def _quiet(events: EventStream, manager: PluginManager, path: Path) -> list[str]:
    """The events until a save that is told has been told."""
    path.write_text(_code("the end"))
    kinds = []
    async for event in events:
        if event.kind in ("reloaded", "reload_failed"):
            kinds.append(event.kind)
        if event.kind == "reloaded" and await manager.execute_plugin("sample", "answer") == "the end":
            return kinds
    raise AssertionError


@live
async def test_the_same_bytes_are_not_loaded_again(tmp_path: Path) -> None:
    """Touched, written once more, replaced by a copy; nor what the loader leaves out."""
    path = tmp_path / "sample.py"
    path.write_text(_code("first"))
    async with PluginManager(hot_reload=True) as manager:
        await manager.load_plugin(path)
        events, pid = manager.events(), manager.plugin("sample").pid
        os.utime(path)
        await asyncio.sleep(0.2)
        path.write_text(_code("first"))
        await asyncio.sleep(0.2)
        rename_over(path, _code("first"))
        (tmp_path / "beside.py").write_text("")
        await asyncio.sleep(0.2)
        assert manager.plugin("sample").pid == pid
        assert await _quiet(events, manager, path) == ["reloaded"]


@live
async def test_half_of_a_file_is_never_loaded(tmp_path: Path) -> None:
    """A writer pauses where the half would be a whole plugin: nothing happens before its end."""
    path = tmp_path / "sample.py"
    path.write_text(_code("first"))
    async with PluginManager(hot_reload=True) as manager:
        await manager.load_plugin(path)
        events = manager.events()
        with path.open("w") as file:
            file.write(_code("half"))
            file.flush()
            assert is_open_for_writing(str(path))
            await asyncio.sleep(0.6)
            assert await manager.execute_plugin("sample", "answer") == "first"
            file.write(_code("whole"))
        assert not is_open_for_writing(str(path))
        await until(events, "reloaded")
        assert await manager.execute_plugin("sample", "answer") == "whole"
        assert await _quiet(events, manager, path) == ["reloaded"]


@live
async def test_a_bad_save_is_told_once_and_mended(tmp_path: Path) -> None:
    """A file that is no plugin, one that does not load, one that is gone: the old version serves on."""
    path = tmp_path / "sample.py"
    path.write_text(_code("first"))
    async with PluginManager(hot_reload=True) as manager:
        await manager.load_plugin(path)
        events = manager.events()
        for content, step, said in (
            (b"\xff\xfe", "read", "not UTF-8"),
            (b"", "read", "an empty file"),
            (b"def broken(:\n", "start", "invalid syntax"),
        ):
            path.write_bytes(content)
            told = await until(events, "reload_failed")
            assert (told.data["step"], said in told.data["reason"]) == (step, True)
            assert await manager.execute_plugin("sample", "answer") == "first"
        path.unlink()
        assert "no such file" in (await until(events, "reload_failed")).data["reason"]
        path.write_text(_code("mended"))
        await until(events, "reloaded")
        assert await manager.execute_plugin("sample", "answer") == "mended"


@live
async def test_many_plugins_and_saves_without_a_pause(tmp_path: Path) -> None:
    """Each plugin ends with its own last content; those that come and go meanwhile do not disturb that."""
    paths = [tmp_path / f"p{number}.py" for number in range(4)]
    async with PluginManager(hot_reload=True) as manager:
        for path in paths:
            path.write_text(_code("first"))
            await manager.load_plugin(path)
        for number in range(20):
            for path in paths:
                path.write_text(_code(f"{path.stem} {number}"))
            if number % 10 == 5:
                await manager.unload_plugin("p3")
                await manager.load_plugin(paths[3])
            await asyncio.sleep(0.01)
        for path in paths:
            for _ in range(500):
                last = await manager.execute_plugin(path.stem, "answer")
                if last == f"{path.stem} 19":
                    break
                await asyncio.sleep(0.02)
            assert last == f"{path.stem} 19"


@live
async def test_closing_while_files_are_saved(tmp_path: Path) -> None:
    """Whatever is under way ends with the manager."""
    for pause in (0.08, 0.2):
        path = tmp_path / "sample.py"
        path.write_text(_code("first"))
        async with PluginManager(hot_reload=True) as manager:
            await manager.load_plugin(path)
            await asyncio.sleep(0.05)
            path.write_text(_code("second"))
            await asyncio.sleep(pause)


def test_every_folder_on_the_way_is_looked_up(tmp_path: Path) -> None:
    """Names before and behind symbolic links, and the folders of a plugin; a ring of links ends."""
    (tmp_path / "real" / "plugin" / "inner").mkdir(parents=True)
    (tmp_path / "real" / "plugin" / ".git").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "ring").symlink_to("ring")
    found = set(lookups(f"{tmp_path}/link/../link/plugin"))
    real = tmp_path / "real"
    assert {
        (str(tmp_path), "link"),
        (str(tmp_path), "real"),
        (str(real), "plugin"),
        (str(real / "plugin"), ""),
        (str(real / "plugin" / "inner"), ""),
        ("/", tmp_path.parts[1]),
    } <= found
    assert not any(".git" in folder for folder, _ in found)
    assert (str(tmp_path), "ring") in set(lookups(f"{tmp_path}/ring/x"))
    assert (str(tmp_path), "none") in set(lookups(f"{tmp_path}/none/x"))


@live
async def test_a_host_without_descriptors_watches_when_it_has_some(tmp_path: Path) -> None:
    """However often that happens while files are saved and plugins come and go, nothing is left open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    path = tmp_path / "sample.py"
    path.write_text(_code("first"))
    async with PluginManager(hot_reload=True) as manager:
        await manager.load_plugin(path)
        for number in range(6):
            highest = max(int(name) for name in os.listdir("/proc/self/fd"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (3 if number % 2 else highest, hard))
            try:
                os.utime(path)
                await asyncio.sleep(0.1)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            path.write_text(_code(f"number {number}"))
        async with asyncio.timeout(20):
            while await manager.execute_plugin("sample", "answer") != "number 5":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
