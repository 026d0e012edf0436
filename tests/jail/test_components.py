"""A component in the jail of level Maximum."""

import pytest
from support import live
from wasi_components import WASI, from_core, from_program
from wasm_build import compile_fixture, compile_text

from frys_runtime import ExecutionFailed, InvalidFormat, PluginManager, ResourceLimitExceeded, SandboxConfig


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
async def test_a_component_whose_imports_nobody_offers_is_refused(tmp_path):
    """With the names of what it imports."""
    code = compile_text('(component (import "me:pkg/door@0.2.0" (instance (export "open" (func)))))')
    (tmp_path / "needs.wasm").write_bytes(code)
    async with PluginManager() as manager:
        with pytest.raises(InvalidFormat, match=r"imports what Frys does not offer: me:pkg/door@0\.2\.0"):
            await manager.load_plugin(tmp_path / "needs.wasm")


@pytest.mark.needs_npm
@live
async def test_a_command_of_wasi_2_runs_at_level_maximum(tmp_path):
    """Streams, arguments, an exit and endless output, under the filter that allows no thread and no file."""
    (tmp_path / "command.wasm").write_bytes(from_program(compile_fixture("program")))
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(tmp_path / "command.wasm")
        assert await manager.execute_plugin(plugin, "run", b"in" * 9000) == b"in" * 9000
        assert await manager.execute_plugin(plugin, "run", "list", "a") == b"command\nlist\na\n"
        with pytest.raises(ExecutionFailed, match="exit code 1"):
            await manager.execute_plugin(plugin, "run", b"why", "fail")
        with pytest.raises(ResourceLimitExceeded, match="output"):
            await manager.execute_plugin(plugin, "run", "flood")
        assert await manager.execute_plugin(plugin, "run", b"well") == b"well"


@pytest.mark.needs_npm
@pytest.mark.needs_root
@live
async def test_a_component_sees_the_folders_that_are_granted(tmp_path):
    """It reads and writes below them, and nothing else is there."""
    shown, kept = tmp_path / "shown", tmp_path / "kept"
    for folder in (shown, kept):
        folder.mkdir()
        folder.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o011)
    (shown / "a.txt").write_text("granted")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "files.wasm").write_bytes(from_core(compile_text(FILES), FILES_WORLD))
    grants = SandboxConfig(allowed_paths=(str(shown), f"{kept}:rw"))
    async with PluginManager(resource_limits=grants) as manager:
        plugin = manager.plugin(await manager.load_plugin(tmp_path / "files.wasm"))
        read_only, writable = 0, 1
        assert await plugin.call("put", writable, "b.txt", b"written") == 0
        assert (kept / "b.txt").read_bytes() == b"written"
        assert await plugin.call("put", read_only, "b.txt", b"written") != 0
        for path in ("../secret", str(tmp_path / "secret"), "../kept/b.txt"):
            assert await plugin.call("put", writable, path, b"!") != 0
    assert (tmp_path / "secret").read_text() == "secret"
    assert [path.name for path in shown.iterdir()] == ["a.txt"]


FILES = f"""(module
  (import "wasi:filesystem/preopens@{WASI}" "get-directories" (func $directories (param i32)))
  (import "wasi:filesystem/types@{WASI}" "[method]descriptor.open-at"
    (func $open (param i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:filesystem/types@{WASI}" "[method]descriptor.write"
    (func $write (param i32 i32 i32 i64 i32)))
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 3))))
  ;; Creates a file in the folder of that number: 0, or what went wrong.
  (func (export "put") (param $folder i32) (param i32 i32 i32 i32) (result i32)
    (call $directories (i32.const 16))
    (call $open
      (i32.load (i32.add (i32.load (i32.const 16)) (i32.mul (local.get $folder) (i32.const 12))))
      (i32.const 1) (local.get 1) (local.get 2) (i32.const 1) (i32.const 2) (i32.const 32))
    (if (i32.load8_u (i32.const 32)) (then (return (i32.add (i32.const 100) (i32.load8_u (i32.const 36))))))
    (call $write (i32.load (i32.const 36)) (local.get 3) (local.get 4) (i64.const 0) (i32.const 48))
    (i32.load8_u (i32.const 48))))
"""
FILES_WORLD = (
    f"import wasi:filesystem/types@{WASI}; import wasi:filesystem/preopens@{WASI};"
    " export put: func(folder: u32, path: string, content: list<u8>) -> u32;"
)
