"""An Extism plugin in a real jail, from its manifest: what it gets when it is granted, and when not."""

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support import live
from wasm_build import compile_fixture, compile_text
from web import HELLO, serve

from frys_runtime import ExecutionFailed, InvalidFormat, LoadFailed, PluginManager, SandboxConfig, Timeout

GRANTED = """
extends: maximum
host_functions: [log, config, shout]
network: {{hosts: [127.0.0.1], ports: [{port}], plain: true, private: true}}
"""
NUMBERS = '(module (func (export "twice") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2))))'


def write_manifest(folder: Path, **changes: object) -> Path:
    """The fixture and a second module, with a manifest."""
    (folder / "main.wasm").write_bytes(compile_fixture("extism"))
    (folder / "numbers.wasm").write_bytes(compile_text(NUMBERS))
    modules = [{"path": "numbers.wasm", "name": "numbers"}, {"path": "main.wasm"}]
    manifest = folder / "demo.json"
    manifest.write_text(json.dumps({"wasm": modules, "config": {"greeting": "hello"}} | changes))
    return manifest


@asynccontextmanager
async def managed(folder: Path, policy: str) -> AsyncIterator[PluginManager]:
    """A manager with a function that plugins may call."""
    (folder / "policy.yaml").write_text(policy)
    async with PluginManager(policy=folder / "policy.yaml") as manager:

        @manager.host_function("shout")
        def shout(text: bytes) -> bytes:
            return text.upper()

        yield manager


@live
async def test_everything_that_is_granted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Settings, log, variables, HTTP, a function of the host program and a second module."""
    async with serve(HELLO) as site, managed(tmp_path, GRANTED.format(port=site.port)) as manager:
        plugin = await manager.load_plugin(write_manifest(tmp_path, allowed_hosts=["127.0.0.1"]))
        assert plugin == "demo"
        assert await manager.execute_plugin(plugin, "setting", "greeting") == b"hello"
        assert await manager.execute_plugin(plugin, "setting", "missing") == b""
        with caplog.at_level(logging.INFO, "frys.plugin"):
            await manager.execute_plugin(plugin, "say", "from Extism")
        assert "demo: from Extism" in [record.getMessage() for record in caplog.records]
        await manager.execute_plugin(plugin, "keep", b"a value")
        assert await manager.execute_plugin(plugin, "kept", b"a value") == b"a value"
        assert await manager.execute_plugin(plugin, "shout", "hello") == b"HELLO"
        with pytest.raises(ExecutionFailed, match="unreachable"):
            await manager.execute_plugin(plugin, "trap")
        assert await manager.execute_plugin(plugin, "kept", b"a value") == b""
        with pytest.raises(ExecutionFailed, match="twice returned the code 42"):
            await manager.execute_plugin(plugin, "twice")
        request = json.dumps({"url": f"http://127.0.0.1:{site.port}/", "headers": {"x-mine": "1"}})
        assert await manager.execute_plugin(plugin, "fetch", request) == b"hello"
        with pytest.raises(ExecutionFailed, match="status returned the code 200"):
            await manager.execute_plugin(plugin, "status")
        assert b"x-mine: 1" in site.requests[0][0].lower()


@live
async def test_what_the_manifest_does_not_name_is_not_fetched(tmp_path: Path) -> None:
    """A grant of the policy does not widen the manifest's allowed_hosts."""
    async with serve(HELLO) as site, managed(tmp_path, GRANTED.format(port=site.port)) as manager:
        plugin = await manager.load_plugin(write_manifest(tmp_path, allowed_hosts=["example.com"]))
        with pytest.raises(ExecutionFailed, match="not allowed by the allowed_hosts"):
            await manager.execute_plugin(
                plugin, "fetch", json.dumps({"url": f"http://127.0.0.1:{site.port}/"})
            )
        assert site.requests == []


@live
async def test_a_manifest_asks_and_only_a_policy_grants(tmp_path: Path) -> None:
    """Hosts and paths of a manifest are permissions; without the policy's word it does not load."""
    async with managed(tmp_path, "extends: maximum\nhost_functions: [shout]\n") as manager:
        for changes, asked in (
            ({"allowed_hosts": ["*"]}, "Network"),
            ({"allowed_paths": {"ro:/srv": "/"}}, "Read"),
        ):
            with pytest.raises(LoadFailed, match=f"it asks for {asked}"):
                await manager.load_plugin(write_manifest(tmp_path, **changes))
        plugin = await manager.load_plugin(write_manifest(tmp_path))
        assert await manager.execute_plugin(plugin, "setting", "greeting") == b""
        assert await manager.execute_plugin(plugin, "say", "to nobody") == b""


OPENER = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "words")
  (data (i32.const 16) "\\60\\00\\00\\00\\01\\00\\00\\00")
  (func (export "first") (result i32)
    (drop (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 5) (i32.const 0) (i64.const 2)
      (i64.const 0) (i32.const 0) (i32.const 64)))
    (drop (call $read (i32.load (i32.const 64)) (i32.const 16) (i32.const 1) (i32.const 68)))
    (i32.load8_u (i32.const 96))))"""


@pytest.mark.needs_root
@live
async def test_paths_of_a_manifest(tmp_path: Path) -> None:
    """What the policy grants is there under the manifest's name; what it does not grant is not loaded."""
    (tmp_path / "granted" / "data").mkdir(parents=True)
    (tmp_path / "granted" / "data" / "words").write_text("one")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    (tmp_path / "main.wasm").write_bytes(compile_text(OPENER))
    manifest, wanted = tmp_path / "m.json", f"{tmp_path}/granted/data"
    modules = [{"path": "main.wasm"}]
    grants = SandboxConfig(allowed_paths=(f"{tmp_path}/granted",))
    async with PluginManager(isolation="high", resource_limits=grants) as manager:
        manifest.write_text(json.dumps({"wasm": modules, "allowed_paths": {f"ro:{wanted}": "/data"}}))
        plugin = await manager.load_plugin(manifest)
        with pytest.raises(ExecutionFailed, match=f"first returned the code {ord('o')}"):
            await manager.execute_plugin(plugin, "first")
        await manager.unload_plugin(plugin)
        manifest.write_text(json.dumps({"wasm": modules, "allowed_paths": {wanted: "/data"}}))
        with pytest.raises(InvalidFormat, match="does not grant to be written"):
            await manager.load_plugin(manifest)


@live
async def test_a_function_that_is_not_granted_is_named_while_loading(tmp_path: Path) -> None:
    """What the host program offers and the policy does not grant is an import that nobody provides."""
    async with managed(tmp_path, "extends: maximum\n") as manager:
        with pytest.raises(InvalidFormat, match=r"imports what nobody provides: extism:host/user\.shout"):
            await manager.load_plugin(write_manifest(tmp_path))


TIMES = """(module
  (import "extism:host/user" "times" (func $times (param i64 i64) (result i64)))
  (func (export "f") (result i32) (i32.wrap_i64 (call $times (i64.const 6) (i64.const 7)))))"""


@live
async def test_numbers_that_a_function_of_the_host_program_declares(tmp_path: Path) -> None:
    """An i64 that the host program's function takes as a number is no block of memory."""
    (tmp_path / "times.wasm").write_bytes(compile_text(TIMES))
    async with managed(tmp_path, "extends: maximum\nhost_functions: [times]\n") as manager:

        @manager.host_function("times", ["int", "int"], "int")
        def times(left: int, right: int) -> int:
            return left * right

        plugin = await manager.load_plugin(tmp_path / "times.wasm")
        with pytest.raises(ExecutionFailed, match="f returned the code 42"):
            await manager.execute_plugin(plugin, "f")


@live
async def test_a_folder_with_the_same_settings(tmp_path: Path) -> None:
    """A plugin.json says the same in its section wasm.extism."""
    write_manifest(tmp_path)
    extism = {"modules": {"numbers": "numbers.wasm"}, "max_var_bytes": 0}
    about = {"id": "folder", "version": "1.0.0", "format": "wasm", "entry": "main.wasm"}
    (tmp_path / "plugin.json").write_text(json.dumps({**about, "wasm": {"extism": extism}}))
    async with managed(tmp_path, "extends: maximum\nhost_functions: [shout]\n") as manager:
        plugin = await manager.load_plugin(tmp_path)
        assert await manager.execute_plugin(plugin, "shout", "hello") == b"HELLO"
        with pytest.raises(ExecutionFailed, match="turns variables off"):
            await manager.execute_plugin(plugin, "keep", b"x")


@live
async def test_the_timeout_of_a_manifest_holds(tmp_path: Path) -> None:
    """timeout_ms ends an endless function, wherever it is."""
    code = compile_text('(module (func (export "f") (result i32) (loop $again (br $again)) (i32.const 0)))')
    (tmp_path / "endless.wasm").write_bytes(code)
    manifest = tmp_path / "endless.toml"
    manifest.write_text('timeout_ms = 200\n[[wasm]]\npath = "endless.wasm"\n')
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(manifest)
        with pytest.raises(Timeout, match="200"):
            await manager.execute_plugin(plugin, "f")
