"""A new version takes the place of a live one; whatever goes wrong leaves the old one serving."""

import asyncio
import shutil
from pathlib import Path

import native_build
import psutil
import pytest
import wasm_build
from support import live
from versioned import MARKS, Callers, until, write

from frys_runtime import (
    AlreadyLoaded,
    CommunicationError,
    PluginManager,
    PluginMessage,
    PluginNotFound,
    ReloadFailed,
)

pytestmark = MARKS


@live
async def test_calls_under_way_see_one_version_or_the_next(tmp_path: Path) -> None:
    """Ten reloads under calls without a pause: none fails, none is a mix, no version comes back."""
    folder = write(tmp_path / "sample", "1.0.0")
    async with PluginManager() as manager:
        await manager.load_plugin(folder)
        plugin, pids = manager.plugin("sample"), set()
        callers = Callers(manager)
        for number in range(1, 11):
            await callers.more(20)
            pids.add(plugin.pid)
            write(folder, f"1.{number}.0")
            done = await manager.reload_plugin("sample") if number % 2 else await plugin.reload()
            assert (done.old_version, done.version) == (f"1.{number - 1}.0", f"1.{number}.0")
        await callers.more(20)
        answers = await callers.end()

        assert all(len(parts) == 8 and len(set(parts)) == 1 for parts in answers)
        seen = [int(parts[0].split(".")[1]) for parts in answers]
        assert sorted(set(seen)) == list(range(11))
        assert len(pids) == 10
        assert manager.stats().failures == 0
        assert manager.stats().calls >= len(answers)
        assert len(manager.list_plugins()) == 1
        for _ in range(200):
            if not any(psutil.pid_exists(pid) for pid in pids - {plugin.pid} if pid):
                break
            await asyncio.sleep(0.02)
        assert not any(psutil.pid_exists(pid) for pid in pids if pid)


FORMATS = ["python", "javascript", "wasm", pytest.param("native", marks=pytest.mark.needs_gcc)]


def _make(kind: str, folder: Path, answer: str) -> Path:
    """A bare file whose function `answer` gives these bytes."""
    match kind:
        case "python":
            path = folder / "sample.py"
            path.write_text(f"def answer(data=b''):\n    return {answer.encode()!r}\n")
        case "javascript":
            path = folder / "sample.js"
            path.write_text(f"function answer() {{ return new TextEncoder().encode({answer!r}); }}\n")
        case "wasm":
            path = folder / "sample.wasm"
            path.write_bytes(
                wasm_build.compile_text(
                    f'(module (memory (export "memory") 1) (data (i32.const 0) "{answer}") '
                    '(func (export "frys_alloc") (param i32) (result i32) (i32.const 64)) '
                    f'(func (export "answer") (param i32 i32) (result i64) (i64.const {len(answer)})))'
                )
            )
        case _:
            path = folder / "sample.so"
            source = folder / "sample.c"
            source.write_text(
                "#include <stdint.h>\n#include <stddef.h>\nvoid frys_free(void *p) { (void)p; }\n"
                "int32_t answer(const uint8_t *in, size_t n, uint8_t **out, size_t *size)\n"
                f'{{ (void)in; (void)n; *out = (uint8_t *)"{answer}"; *size = {len(answer)}; return 0; }}\n'
            )
            native_build.compile_source(source, path)
    return path


@live
@pytest.mark.parametrize("kind", FORMATS)
async def test_every_format_is_replaced(kind: str, tmp_path: Path) -> None:
    """A bare file of each format, at level Maximum, by another file under the same name."""
    path = _make(kind, tmp_path, "one")
    async with PluginManager() as manager:
        plugin_id = await manager.load_plugin(path)
        assert await manager.execute_plugin(plugin_id, "answer") == b"one"
        _make(kind, tmp_path, "three")
        done = await manager.reload_plugin(plugin_id)
        assert await manager.execute_plugin(plugin_id, "answer", b"") == b"three"
        assert (done.version, done.plugin_id) == ("0.0.0", "sample")
        assert 0 < done.load_ms <= done.ms
        assert "seccomp" in manager.plugin(plugin_id).layers


BROKEN = [
    ("read", "def f(): return 1\n", {"entry": "other.py"}, "other.py"),
    ("read", "\0", {}, "byte 0 is 0"),
    ("fit", "x = 1\n", {"id": "another"}, "holds the plugin 'another' now"),
    ("fit", "x = 1\n", {"dependencies": [{"pluginId": "nowhere"}]}, "no plugin of that id is loaded"),
    ("policy", "x = 1\n", {"permissions": ["Network"]}, "Network"),
    ("start", "def f(:\n", {}, "invalid syntax"),
    ("start", "1 / 0\n", {}, "ZeroDivisionError"),
    ("start", "def f(): pass\n", {"warmUp": "warm"}, "warmUp names the function 'warm'"),
    ("start", "def f(): pass\n", {"state": True}, "state.export names the function 'export_state'"),
    ("start", "def f(): pass\n", {"health": "health"}, "'health'"),
    ("health", "def health(): return 'disk full'\n", {"health": "health"}, "disk full"),
    ("health", "def health(): raise RuntimeError('no base')\n", {"health": "health"}, "no base"),
    ("warm-up", "def warm(): raise RuntimeError('cold')\n", {"warmUp": "warm"}, "cold"),
]


@live
async def test_whatever_fails_leaves_the_old_version(tmp_path: Path) -> None:
    """At each step: a typed error that names it, an event, no process left over, and the old one answers."""
    folder = write(tmp_path / "sample", "1.0.0")
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {cpu_time: 100ms}\n")
    async with PluginManager(policy=policy, spares=0) as manager:
        await manager.load_plugin(folder)
        pid, events = manager.plugin("sample").pid, manager.events()
        children = len(psutil.Process().children(recursive=True))
        for step, code, more, said in BROKEN:
            write(folder, "2.0.0", code, **more)
            with pytest.raises(ReloadFailed, match="the version before serves on") as caught:
                await manager.reload_plugin("sample")
            assert (caught.value.step, caught.value.plugin_id) == (step, "sample"), code
            assert said in caught.value.reason
            told = await until(events, "reload_failed")
            assert (told.data["step"], told.data["reason"]) == (step, caught.value.reason)
            assert await manager.execute_plugin("sample", "answer") == ["1.0.0"] * 8
        shutil.rmtree(folder)
        with pytest.raises(ReloadFailed, match="there is no such file or folder"):
            await manager.reload_plugin("sample")
        assert manager.plugin("sample").pid == pid
        assert len(psutil.Process().children(recursive=True)) == children
        assert manager.plugin("sample").metadata.version == "1.0.0"

        write(folder, "2.0.0")
        assert (await manager.reload_plugin("sample")).version == "2.0.0"
        done = await until(events, "reloaded")
        assert (done.data["old_version"], done.data["version"]) == ("1.0.0", "2.0.0")
        assert done.data["ms"] >= done.data["load_ms"] > 0


SLOW = """
import time
def answer(seconds=0.0):
    time.sleep(seconds)
    return {version!r}
"""


@live
async def test_the_old_version_finishes_what_it_has_taken(tmp_path: Path) -> None:
    """The call that runs and those that wait behind it, while new calls have their answers already."""
    folder = write(tmp_path / "sample", "1.0.0", SLOW)
    async with PluginManager() as manager:
        await manager.load_plugin(folder)
        events = manager.events()
        taken = [
            asyncio.create_task(manager.execute_plugin("sample", "answer", seconds))
            for seconds in (0.5, 0.0, 0.0)
        ]
        await asyncio.sleep(0.05)
        write(folder, "2.0.0", SLOW)
        await manager.reload_plugin("sample")
        assert await manager.execute_plugin("sample", "answer") == "2.0.0"
        assert not taken[0].done()
        assert await asyncio.gather(*taken) == ["1.0.0"] * 3
        gone = await until(events, "retired")
        assert (gone.data["version"], gone.data["calls"], gone.data["cut_off"]) == ("1.0.0", 3, 0)
        assert manager.stats().calls == 4


@live
async def test_the_old_version_has_a_deadline(tmp_path: Path) -> None:
    """What it has not finished by then fails, and is counted."""
    folder = write(tmp_path / "sample", "1.0.0", SLOW)
    async with PluginManager() as manager:
        await manager.load_plugin(folder)
        events = manager.events()
        taken = asyncio.create_task(manager.execute_plugin("sample", "answer", 60.0))
        await asyncio.sleep(0.05)
        await manager.reload_plugin("sample", drain_ms=50)
        with pytest.raises(CommunicationError, match="unloaded"):
            await taken
        assert (await until(events, "retired")).data["cut_off"] == 1


@live
async def test_another_path_and_the_same_settings(tmp_path: Path) -> None:
    """The new version may be elsewhere; the id, the level and the limits of the host program stay."""
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("import frys\ndef say(): return [1, frys.config('word')]\n")
    two.write_text("import frys\ndef say(): return [2, frys.config('word')]\n")
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nplugins: {mine: {config: {word: granted}}}\n")
    async with PluginManager(policy=policy) as manager:
        await manager.load_plugin(one, plugin_id="mine")
        await manager.reload_plugin("mine", two)
        assert await manager.execute_plugin("mine", "say") == [2, "granted"]
        two.write_text(two.read_text().replace("[2", "[3"))
        await manager.plugin("mine").reload()
        assert await manager.execute_plugin("mine", "say") == [3, "granted"]
        with pytest.raises(ReloadFailed, match="no such file"):
            await manager.reload_plugin("mine", "nowhere")
        with pytest.raises(PluginNotFound):
            await manager.reload_plugin("yours")


LISTENER = """
import frys
def on_tick(number):
    frys.kv[f"{number:04}"] = {version!r}
def seen():
    return [[key, frys.kv[key]] for key in sorted(frys.kv)]
"""


@live
async def test_no_event_is_lost_or_doubled(tmp_path: Path) -> None:
    """Events that come without a pause over five reloads: each is handled once, in order."""
    folder = write(tmp_path / "sample", "1.0.0", LISTENER, events={"subscribes": ["tick"]})
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "extends: maximum\nhost_functions: [kv]\nmessages: {subscribe: [tick]}\nlimits: {messages: 5000/s}\n"
    )
    async with PluginManager(policy=policy) as manager:
        await manager.load_plugin(folder)
        count = 0
        for number in range(2, 7):
            write(folder, f"{number}.0.0", LISTENER, events={"subscribes": ["tick"]})
            task = asyncio.create_task(manager.reload_plugin("sample"))
            while not task.done():
                assert await manager.communicator.broadcast(PluginMessage.Event("tick", count)) == 1
                count += 1
                await asyncio.sleep(0.001)
            await task
        await manager.communicator.broadcast(PluginMessage.Event("tick", count))
        seen: list[list[str]] = []
        for _ in range(500):
            seen = await manager.execute_plugin("sample", "seen")  # type: ignore[assignment]
            if len(seen) == count + 1:
                break
            await asyncio.sleep(0.02)
        assert [int(key) for key, _ in seen] == list(range(count + 1))
        versions = [version for _, version in seen]
        assert versions == sorted(versions)
        assert versions[-1] == "6.0.0"
        stats = manager.communicator.stats()
        assert (stats.dropped, stats.failed, stats.delivered) == (0, 0, count + 1)


CALLER = """
import frys
def many(count):
    return [frys.call("sample", "answer") for _ in range(count)]
"""


@live
async def test_plugins_that_call_it_notice_nothing(tmp_path: Path) -> None:
    """Another plugin calls it without a pause over five reloads; what it declares changes with it."""
    exports = {"answer": {"returns": "list<string>"}}
    folder = write(tmp_path / "sample", "1.0.0", exports=exports)
    caller = tmp_path / "caller.py"
    caller.write_text(CALLER)
    policy = tmp_path / "policy.yaml"
    policy.write_text('extends: maximum\nmessages: {call: {"*": ["*"]}}\nlimits: {messages: 5000/s}\n')
    async with PluginManager(policy=policy) as manager:
        await manager.load_plugin(folder)
        await manager.load_plugin(caller)
        answers: list[list[str]] = []
        for number in range(2, 7):
            write(folder, f"{number}.0.0", exports=exports)
            task = asyncio.create_task(manager.reload_plugin("sample"))
            while not task.done():
                answers += await manager.execute_plugin("caller", "many", 10)  # type: ignore[arg-type]
            await task
        answers += await manager.execute_plugin("caller", "many", 1)  # type: ignore[arg-type]
        assert all(len(set(parts)) == 1 for parts in answers)
        seen = [parts[0] for parts in answers]
        assert seen == sorted(seen)
        assert seen[-1] == "6.0.0"
        write(folder, "7.0.0", exports={})
        await manager.reload_plugin("sample")
        with pytest.raises(Exception, match="does not offer 'answer'"):
            await manager.execute_plugin("caller", "many", 1)


@live
async def test_reloads_at_the_same_time_come_one_after_the_other(tmp_path: Path) -> None:
    """And the manager's room for plugins is not taken by the second instance."""
    folder = write(tmp_path / "sample", "1.0.0")
    async with PluginManager(max_plugins=1) as manager:
        await manager.load_plugin(folder)
        callers = Callers(manager, count=2)
        done = await asyncio.gather(*(manager.reload_plugin("sample") for _ in range(5)))
        assert [one.version for one in done] == ["1.0.0"] * 5
        await callers.end()
        with pytest.raises(AlreadyLoaded):
            await manager.load_plugin(folder)
        assert manager.stats().plugins == 1


STUCK = "import time\ntime.sleep(60)\n"


@live
@pytest.mark.parametrize("how", ["unload", "close", "cancel"])
async def test_who_ends_a_plugin_ends_its_reload(how: str, tmp_path: Path) -> None:
    """While the new version is being loaded: it is told, and nothing of either version is left."""
    folder = write(tmp_path / "sample", "1.0.0")
    async with PluginManager() as manager:
        await manager.load_plugin(folder)
        write(folder, "2.0.0", STUCK)
        events = manager.events()
        first, second = (asyncio.create_task(manager.reload_plugin("sample")) for _ in range(2))
        await until(events, "granted")
        if how == "cancel":
            second.cancel()
            first.cancel()
            await asyncio.wait((first, second))
            assert first.cancelled()
            assert second.cancelled()
            assert await manager.execute_plugin("sample", "answer") == ["1.0.0"] * 8
            return
        await (manager.unload_plugin("sample") if how == "unload" else manager.close())
        for task in (first, second):
            with pytest.raises(ReloadFailed, match="it was unloaded meanwhile"):
                await task
        if how == "unload":
            assert manager.list_plugins() == []
            with pytest.raises(PluginNotFound):
                await manager.execute_plugin("sample", "answer")


@live
async def test_a_version_that_drains_ends_with_its_plugin(tmp_path: Path) -> None:
    """Unloading does not wait for the calls of a version that is on its way out."""
    folder = write(tmp_path / "sample", "1.0.0", SLOW)
    async with PluginManager() as manager:
        await manager.load_plugin(folder)
        taken = asyncio.create_task(manager.execute_plugin("sample", "answer", 20.0))
        await asyncio.sleep(0.05)
        await manager.reload_plugin("sample")
        await manager.unload_plugin("sample")
        with pytest.raises(CommunicationError):
            await taken
