"""An Extism plugin in a real jail, from its manifest: what it gets when it is granted, and when not."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support import live
from wasm_build import compile_fixture, compile_text
from web import HELLO, serve

from frys_runtime import ExecutionFailed, InvalidFormat, LoadFailed, PluginManager, Timeout

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


@live
async def test_a_function_that_is_not_granted_is_named_while_loading(tmp_path: Path) -> None:
    """What the host program offers and the policy does not grant is an import that nobody provides."""
    async with managed(tmp_path, "extends: maximum\n") as manager:
        with pytest.raises(InvalidFormat, match=r"imports what nobody provides: extism:host/user\.shout"):
            await manager.load_plugin(write_manifest(tmp_path))


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
