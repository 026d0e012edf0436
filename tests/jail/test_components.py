"""A component in the jail of level Maximum."""

import pytest
from support import live
from wasm_build import compile_fixture, compile_text

from frys_runtime import ExecutionFailed, InvalidFormat, PluginManager


@live
async def test_a_component_runs_at_level_maximum(tmp_path):
    """Typed calls, a result that fails, a trap and a fresh instance after it, behind the final filter."""
    (tmp_path / "demo.wasm").write_bytes(compile_fixture("component"))
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(tmp_path / "demo.wasm")
        assert manager.plugin(plugin).functions == {
            "add": "func(a: u32, b: u32) -> u32",
            "check": "func(text: string) -> result<string, string>",
            "trap": "func()",
        }
        assert await manager.execute_plugin(plugin, "add", 2, 3) == 5
        assert await manager.execute_plugin(plugin, "texts.check", "größe") == "größe"
        with pytest.raises(ExecutionFailed, match=r"\?why"):
            await manager.execute_plugin(plugin, "check", "?why")
        with pytest.raises(TypeError, match="a takes u32, not str"):
            await manager.execute_plugin(plugin, "add", "2", 3)
        with pytest.raises(ExecutionFailed, match="unreachable"):
            await manager.execute_plugin(plugin, "trap")
        assert await manager.execute_plugin(plugin, "demo:words/texts@1.0.0#check", "") == ""


@live
async def test_a_component_that_needs_wasi_is_refused(tmp_path):
    """With the names of what it imports."""
    code = compile_text('(component (import "wasi:cli/stdout@0.2.0" (instance)))')
    (tmp_path / "needs.wasm").write_bytes(code)
    async with PluginManager() as manager:
        with pytest.raises(InvalidFormat, match=r"imports what Frys does not offer: wasi:cli/stdout@0\.2\.0"):
            await manager.load_plugin(tmp_path / "needs.wasm")
