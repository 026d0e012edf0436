"""Several versions of one plugin: which one a call gets, and how a new one proves itself."""

import asyncio
from pathlib import Path

import pytest
from support import live
from versioned import ANSWER, MARKS, until, write

from frys_runtime import (
    AlreadyLoaded,
    DependencyError,
    ExecutionFailed,
    Incompatible,
    MaxPluginsExceeded,
    PluginManager,
    PluginMessage,
    PluginNotFound,
    ReloadFailed,
    SecurityViolation,
)

pytestmark = MARKS


async def _who(manager: PluginManager, address: str) -> str:
    parts = await manager.execute_plugin(address, "answer")
    assert isinstance(parts, list)
    return str(parts[0])


@live
async def test_an_address_finds_the_best_match(tmp_path: Path) -> None:
    """By a version, a part of one, or a range; the bare id means the highest release."""
    async with PluginManager(max_plugins=4) as manager:
        assert await manager.load_plugin(write(tmp_path / "a", "1.2.0")) == "sample"
        with pytest.raises(AlreadyLoaded):
            await manager.load_plugin(write(tmp_path / "b", "1.4.1"))
        for name, version in (("b", "1.4.1"), ("c", "2.0.0")):
            folder = write(tmp_path / name, version)
            assert await manager.load_plugin(folder, side_by_side=True) == f"sample@{version}"
        beta = write(tmp_path / "d", "3.0.0-beta.1")
        assert await manager.load_plugin(beta, plugin_id="sample@>=3.0.0-beta") == "sample@3.0.0-beta.1"
        for address, version in (
            ("sample", "2.0.0"),
            ("sample@1", "1.4.1"),
            ("sample@1.2.0", "1.2.0"),
            ("sample@^1.2", "1.4.1"),
            ("sample@>=3.0.0-beta", "3.0.0-beta.1"),
        ):
            assert await _who(manager, address) == version
            assert manager.plugin(address).metadata.version == version
            assert (await manager.plugin(address).call("answer"))[0] == version  # type: ignore[index]
        with pytest.raises(PluginNotFound, match=r"sample@\^5"):
            await manager.execute_plugin("sample@^5", "answer")
        for wrong in ("sample@", "sample@new"):
            with pytest.raises(ValueError, match=r"sample@|range"):
                await manager.execute_plugin(wrong, "answer")
        with pytest.raises(AlreadyLoaded, match=r"sample@2\.0\.0"):
            await manager.load_plugin(tmp_path / "c", side_by_side=True)
        with pytest.raises(Incompatible, match=r"sample@1, but version 2.0.0"):
            await manager.load_plugin(tmp_path / "c", plugin_id="sample@1")
        with pytest.raises(MaxPluginsExceeded):
            await manager.load_plugin(write(tmp_path / "e", "1.0.0"), side_by_side=True)
        assert [info.version for info in manager.list_plugins()] == [
            "1.2.0",
            "1.4.1",
            "2.0.0",
            "3.0.0-beta.1",
        ]
        response = await manager.communicator.send_message(
            "sample@1", PluginMessage.FunctionCall("answer", [])
        )
        assert isinstance(response, PluginMessage.FunctionResponse)
        assert response.value == ["1.4.1"] * 8


@live
async def test_one_of_several_is_reloaded_unloaded_pinned(tmp_path: Path) -> None:
    """The others stay; a pin holds over a reload, or refuses it."""
    async with PluginManager() as manager:
        one, two = write(tmp_path / "one", "1.0.0"), write(tmp_path / "two", "2.0.0")
        await manager.load_plugin(one)
        await manager.load_plugin(two, side_by_side=True)
        manager.pin("sample", "^1")
        assert await _who(manager, "sample") == "1.0.0"
        assert [(info.version, info.weight, info.pinned) for info in manager.versions("sample")] == [
            ("1.0.0", 1.0, True),
            ("2.0.0", 0.0, False),
        ]
        write(one, "1.1.0")
        await manager.reload_plugin("sample")
        assert await _who(manager, "sample") == "1.1.0"
        write(one, "2.0.0")
        with pytest.raises(ReloadFailed, match=r"sample@2.0.0. is loaded already"):
            await manager.reload_plugin("sample@1")
        write(one, "3.0.0")
        with pytest.raises(ReloadFailed, match=r"pinned to \^1"):
            await manager.reload_plugin("sample")
        manager.pin("sample", None)
        assert await _who(manager, "sample") == "2.0.0"
        with pytest.raises(PluginNotFound):
            manager.pin("sample", "7")
        write(two, "2.1.0")
        await manager.plugin("sample@2").reload()
        with pytest.raises(ValueError, match=r"several versions \(1.1.0, 2.1.0\)"):
            await manager.unload_plugin("sample@<3")
        manager.pin("sample", "1")
        await manager.unload_plugin("sample@1")
        assert await _who(manager, "sample") == "2.1.0"
        with pytest.raises(PluginNotFound):
            await manager.execute_plugin("sample@1", "answer")
        await manager.unload_plugin("sample@2")
        assert manager.list_plugins() == []


@live
async def test_a_dependency_gets_the_version_that_it_names(tmp_path: Path) -> None:
    """Two plugins call the same id and each gets its own version; one that names none gets the highest."""
    exports = {"answer": {"returns": "list<string>"}}
    policy = tmp_path / "policy.yaml"
    policy.write_text('extends: maximum\nmessages: {call: {"*": ["*"]}}\n')
    code = "import frys\ndef ask(target='sample'): return frys.call(target, 'answer')[0]\n"
    async with PluginManager(policy=policy) as manager:
        for version in ("1.5.0", "2.5.0"):
            folder = write(tmp_path / version, version, exports=exports)
            await manager.load_plugin(folder, side_by_side=True)
        for name, needed in (("old", ["^1"]), ("new", [">=2"]), ("any", [])):
            needs = [{"pluginId": "sample", "versionRange": accepted} for accepted in needed]
            await manager.load_plugin(write(tmp_path / name, "1.0.0", code, id=name, dependencies=needs))
        assert await manager.execute_plugin("old", "ask") == "1.5.0"
        assert await manager.execute_plugin("new", "ask") == "2.5.0"
        assert await manager.execute_plugin("any", "ask") == "2.5.0"
        assert await manager.execute_plugin("any", "ask", "sample@^1") == "1.5.0"
        with pytest.raises(ExecutionFailed, match="no plugin 'sample@9'"):
            await manager.execute_plugin("any", "ask", "sample@9")
        with pytest.raises(ExecutionFailed, match="no version"):
            await manager.execute_plugin("any", "ask", "sample@")
        with pytest.raises(DependencyError, match=r"old 1.0.0 \(\^1\)"):
            await manager.unload_plugin("sample@1")
        await manager.unload_plugin("sample@2", force=True)
        with pytest.raises(ExecutionFailed, match="no plugin 'sample@>=2'"):
            await manager.execute_plugin("new", "ask")


MAYBE = """
FAIL = {fail}
calls = 0
def answer():
    global calls
    calls += 1
    if calls in FAIL:
        raise RuntimeError("no")
    return [{version!r}]
"""


async def _call(manager: PluginManager, count: int) -> list[str]:
    got = []
    for _ in range(count):
        try:
            got.append(await _who(manager, "sample"))
        except ExecutionFailed:
            got.append("failed")
    return got


@live
async def test_a_canary_that_does_well_is_promoted(tmp_path: Path) -> None:
    """It gets every fourth call, and all of them after enough; others that are loaded are not told."""
    async with PluginManager(max_plugins=1) as manager:
        await manager.load_plugin(write(tmp_path / "one", "1.0.0"))
        events = manager.events()
        two = write(tmp_path / "two", "2.0.0")
        assert await manager.canary("sample", two, weight=0.25, promote_after=5, min_calls=3) == "2.0.0"
        begun = await until(events, "canary_started")
        assert (begun.data["version"], begun.data["stable"], begun.data["weight"]) == ("2.0.0", "1.0.0", 0.25)
        assert await _call(manager, 8) == ["1.0.0", "1.0.0", "1.0.0", "2.0.0"] * 2
        assert [
            (info.version, info.weight, info.canary, info.calls) for info in manager.versions("sample")
        ] == [
            ("1.0.0", 0.75, False, 6),
            ("2.0.0", 0.25, True, 2),
        ]
        with pytest.raises(PluginNotFound):
            await manager.execute_plugin("sample@2", "answer")
        assert {await _who(manager, "sample@1") for _ in range(5)} == {"1.0.0"}
        with pytest.raises(ReloadFailed, match="on trial already"):
            await manager.canary("sample", two)
        with pytest.raises(ReloadFailed, match="on trial against it"):
            await manager.reload_plugin("sample")
        await _call(manager, 12)
        ended = await until(events, "canary_ended")
        assert (ended.data["promoted"], ended.data["calls"], ended.data["errors"]) == (True, 5, 0)
        assert set(await _call(manager, 8)) == {"2.0.0"}
        assert [(info.version, info.weight, info.canary) for info in manager.versions("sample")] == [
            ("2.0.0", 1.0, False)
        ]


@live
async def test_a_canary_that_fails_more_than_the_other_is_rolled_back(tmp_path: Path) -> None:
    """Compared with the version that serves: one that fails as often as that stays."""
    both = MAYBE.replace("{fail}", "range(1, 1000, 2)")
    async with PluginManager() as manager:
        await manager.load_plugin(write(tmp_path / "one", "1.0.0", both))
        events = manager.events()
        for fail, promoted in (("range(1, 1000, 2)", True), ("range(1, 1000)", False)):
            code = MAYBE.replace("{fail}", fail)
            folder = write(tmp_path / fail, "1.1.0" if promoted else "1.2.0", code)
            settings = {"weight": 0.5, "promote_after": 10, "min_calls": 6, "max_error_rate": 0.2}
            await manager.canary("sample", folder, **settings)  # type: ignore[arg-type]
            await _call(manager, 30)
            ended = await until(events, "canary_ended")
            assert ended.data["promoted"] == promoted
            assert ended.data["calls"] == (10 if promoted else 6)
        assert manager.plugin("sample").metadata.version == "1.1.0"
        assert "1.2.0" not in await _call(manager, 10)


@live
async def test_a_canary_is_ended_by_hand_or_with_its_plugin(tmp_path: Path) -> None:
    """Promoted, rolled back, unloaded, closed; what makes no sense is refused."""
    async with PluginManager() as manager:
        one, two = write(tmp_path / "one", "1.0.0"), write(tmp_path / "two", "2.0.0")
        await manager.load_plugin(one)
        with pytest.raises(PluginNotFound, match="on trial"):
            await manager.promote("sample")
        for wrong in ({"weight": 0.0}, {"weight": 2.0}, {"promote_after": 0}, {"max_error_rate": -1.0}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                await manager.canary("sample", two, **wrong)  # type: ignore[arg-type]
        await manager.canary("sample", two, weight=1.0, promote_after=None)
        assert set(await _call(manager, 5)) == {"2.0.0"}
        await manager.roll_back("sample")
        assert set(await _call(manager, 5)) == {"1.0.0"}
        await manager.canary("sample", two, weight=0.01)
        await manager.promote("sample")
        assert set(await _call(manager, 5)) == {"2.0.0"}
        write(one, "3.0.0", ANSWER + "def export_state(): pass\ndef import_state(state): pass\n", state=True)
        with pytest.raises(ReloadFailed, match="state, which cannot be in two versions"):
            await manager.canary("sample", one)
        write(one, "3.0.0")
        await manager.canary("sample", one)
        await manager.unload_plugin("sample")
        await manager.load_plugin(two)
        await manager.canary("sample", one)


@live
async def test_a_canary_that_tries_what_is_forbidden_is_rolled_back_at_once(tmp_path: Path) -> None:
    """Whatever number of calls was asked for."""
    code = "import os, socket\ndef answer():\n    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\n"
    async with PluginManager() as manager:
        await manager.load_plugin(write(tmp_path / "one", "1.0.0"))
        events = manager.events()
        await manager.canary("sample", write(tmp_path / "two", "2.0.0", code), weight=1.0)
        with pytest.raises(SecurityViolation):
            await manager.execute_plugin("sample", "answer")
        assert (await until(events, "canary_ended")).data["promoted"] is False
        assert await _who(manager, "sample") == "1.0.0"


@live
async def test_calls_of_plugins_are_dealt_out_as_well(tmp_path: Path) -> None:
    """A plugin's calls count for the trial, but only where the new version is in the range it depends on."""
    exports = {"answer": {"returns": "list<string>"}}
    policy = tmp_path / "policy.yaml"
    policy.write_text('extends: maximum\nmessages: {call: {"*": ["*"]}}\n')
    code = "import frys\ndef ask(): return [frys.call('sample', 'answer')[0] for _ in range(4)]\n"
    async with PluginManager(policy=policy) as manager:
        await manager.load_plugin(write(tmp_path / "one", "1.0.0", exports=exports))
        needs = [{"pluginId": "sample", "versionRange": "^1"}]
        await manager.load_plugin(write(tmp_path / "free", "1.0.0", code, id="free"))
        await manager.load_plugin(write(tmp_path / "bound", "1.0.0", code, id="bound", dependencies=needs))
        two = write(tmp_path / "two", "2.0.0", exports=exports)
        with pytest.raises(ReloadFailed, match=r"bound 1.0.0 \(\^1\)"):
            await manager.canary("sample", two)
        await manager.canary("sample", two, weight=0.5, force=True)
        assert await manager.execute_plugin("free", "ask") == ["1.0.0", "2.0.0"] * 2
        assert await manager.execute_plugin("bound", "ask") == ["1.0.0"] * 4
        with pytest.raises(DependencyError, match="bound"):
            await manager.promote("sample")
        await asyncio.gather(manager.roll_back("sample"), manager.unload_plugin("bound"))
