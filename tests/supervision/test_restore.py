"""A host program dies, and the next one finds its plugins again."""

import subprocess
import sys
from pathlib import Path

import pytest
from supervised import write_plugin
from support import leftovers, live

from frys_runtime import ConfigError, IsolationLevel, LoadFailed, PluginManager, SandboxConfig, roster
from frys_runtime.metadata import Format, Metadata

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

HOST = """
import asyncio, os, signal, sys
from frys_runtime import PluginManager, SandboxConfig

async def main():
    async with PluginManager(state_dir=sys.argv[1], restore=True) as manager:
        await manager.load_plugin(sys.argv[2], plugin_id="one", isolation="high")
        await manager.load_plugin(sys.argv[2], plugin_id="two", sandbox=SandboxConfig(max_memory=32 << 20))
        await manager.load_plugin(sys.argv[2], plugin_id="three")
        await manager.unload_plugin("three")
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@live
async def test_what_was_loaded_is_loaded_again_after_kill_9(tmp_path: Path) -> None:
    """With its id, level and limits; what was unloaded is not; nothing of the dead host is left."""
    state = tmp_path / "state"
    command = [sys.executable, "-c", HOST, state, write_plugin(tmp_path, "p")]
    with subprocess.Popen(command) as host:  # noqa: ASYNC220 - the test waits for nothing else
        assert host.wait(60) == -9
    assert leftovers(host.pid) == []
    async with PluginManager(state_dir=state, restore=True) as manager:
        found = {info.id: info.isolation for info in manager.list_plugins()}
        assert found == {"one": IsolationLevel.HIGH, "two": IsolationLevel.MAXIMUM}
        assert manager.plugin("two")._release.pool.confinement.limits.memory == 32 << 20
        assert await manager.execute_plugin("one", "echo", 1) == 1
        assert manager.unrestored == {}
        await manager.unload_plugin("one")
    async with PluginManager(state_dir=state, restore=True) as manager:
        assert [info.id for info in manager.list_plugins()] == ["two"]


@live
async def test_what_cannot_be_loaded_again_is_told_and_kept(tmp_path: Path) -> None:
    """The others are there; and it is there once more when its file is."""
    state, gone = tmp_path / "state", write_plugin(tmp_path, "p")
    async with PluginManager(state_dir=state, restore=True) as manager:
        await manager.load_plugin(gone)
        await manager.load_plugin(write_plugin(tmp_path, "q"))
    gone.rename(tmp_path / "elsewhere")
    async with PluginManager(state_dir=state, restore=True) as manager:
        assert [info.id for info in manager.list_plugins()] == ["q"]
        assert isinstance(manager.unrestored["p"], LoadFailed)
        await manager.unload_plugin("q")
    (tmp_path / "elsewhere").rename(gone)
    async with PluginManager(state_dir=state, restore=True) as manager:
        assert [info.id for info in manager.list_plugins()] == ["p"]


@pytest.mark.parametrize("damage", [b"", b"garbage", b"cut", b"longer"])
@live
async def test_a_damaged_file_is_refused_with_a_sentence(damage: bytes, tmp_path: Path) -> None:
    """It is put aside, nothing of it is believed, and the manager works."""
    state = tmp_path / "state"
    async with PluginManager(state_dir=state, restore=True) as manager:
        await manager.load_plugin(write_plugin(tmp_path, "p"))
    file = state / "plugins.json"
    data = file.read_bytes()
    file.write_bytes({b"cut": data[:-10], b"longer": data + b" "}.get(damage, damage))
    async with PluginManager(state_dir=state, restore=True) as manager:
        assert "is damaged" in str(manager.unrestored[""])
        assert manager.list_plugins() == []
        await manager.load_plugin(tmp_path / "p")
    assert (state / "plugins.json.damaged").exists()
    async with PluginManager(state_dir=state, restore=True) as manager:
        assert [info.id for info in manager.list_plugins()] == ["p"]


def test_an_entry_gives_what_it_was_made_of(tmp_path: Path) -> None:
    """Level, limits, grants and metadata come back as they were."""
    sandbox = SandboxConfig(max_memory=1 << 26, allowed_hosts=("a.example",), allow_fs=True)
    metadata = Metadata(id="m", version="1.2.3", format=Format.PYTHON, options={"interpreter": "main"})
    entry = roster.Entry.of("/x/y.py", "m", IsolationLevel.HIGH, sandbox, metadata)
    roster.write(str(tmp_path / "f"), [entry])
    (read,) = roster.read(str(tmp_path / "f"))
    assert read.arguments() == {
        "plugin_id": "m",
        "isolation": "high",
        "sandbox": sandbox,
        "metadata": metadata,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_restoring_needs_a_folder() -> None:
    """Without one there is nothing to remember in."""
    with pytest.raises(ConfigError, match="state_dir"):
        PluginManager(restore=True)
