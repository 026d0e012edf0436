"""What is remembered for the next manager follows reloads, and has every version."""

from pathlib import Path

from support import live
from versioned import MARKS, write

from frys_runtime import PluginManager

pytestmark = MARKS


@live
async def test_every_version_is_loaded_again_from_where_it_came_last(tmp_path: Path) -> None:
    """A version that was reloaded from elsewhere, and one beside it; not the one on trial."""
    one, two, three = (write(tmp_path / f"v{number}", f"{number}.0.0") for number in (1, 2, 3))
    write(tmp_path / "new", "1.1.0")
    async with PluginManager(state_dir=tmp_path / "state", restore=True) as manager:
        await manager.load_plugin(one)
        await manager.load_plugin(two, side_by_side=True)
        await manager.reload_plugin("sample@1", tmp_path / "new")
        await manager.canary("sample", three)
    async with PluginManager(state_dir=tmp_path / "state", restore=True) as manager:
        assert manager.unrestored == {}
        assert [info.version for info in manager.versions("sample")] == ["1.1.0", "2.0.0"]
        assert await manager.execute_plugin("sample@1", "answer") == ["1.1.0"] * 8
        await manager.unload_plugin("sample@2")
    async with PluginManager(state_dir=tmp_path / "state", restore=True) as manager:
        assert [info.version for info in manager.versions("sample")] == ["1.1.0"]
