"""Compiled code is made once, in a process of its own, and given only to who loads the same code."""

import asyncio
import os
from pathlib import Path

import pytest
import wasmtime
from support import live

from frys_runtime import InitializationFailed, InvalidFormat, PluginManager, ResourceLimitExceeded
from frys_runtime.compiled import CompiledCode

TIGHT = "extends: maximum\nlimits: {memory: 12MiB, compile_memory: 12MiB}\n"
ROOMY = "extends: maximum\nlimits: {memory: 12MiB, compile_memory: 512MiB}\n"


def large_module(path: Path, functions: int = 3000, result: int = 42) -> Path:
    """A module whose compiling takes more memory than running it."""
    body = (
        "(local.set 1 (i32.add (i32.mul (local.get 0) (i32.const 7)) (i32.xor (local.get 1) (i32.const 9))))"
    )
    text = "".join(
        f"(func (param i32) (result i32) (local i32) {body * 8} (local.get 1))" for _ in range(functions)
    )
    answer = f'(func (export "answer") (result i32) (i32.const {result}))'
    path.write_bytes(wasmtime.wat2wasm(f'(module (memory (export "memory") 1) {text} {answer})'))
    return path


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module, made once."""
    return large_module(tmp_path_factory.mktemp("module") / "large.wasm")


def policy(folder: Path, text: str) -> Path:
    """A policy file."""
    (folder / "policy.yaml").write_text(text)
    return folder / "policy.yaml"


@live
async def test_compiling_has_memory_of_its_own(tmp_path: Path, module: Path) -> None:
    """What only the compiler needs is not the plugin's to have, and is limited, too."""
    async with PluginManager(policy=policy(tmp_path, TIGHT)) as manager:
        with pytest.raises(ResourceLimitExceeded) as error:
            await manager.load_plugin(module)
        assert (error.value.resource, error.value.limit) == ("compile_memory", 12 << 20)
    async with PluginManager(policy=policy(tmp_path, ROOMY)) as manager:
        plugin = await manager.load_plugin(module)
        assert await manager.execute_plugin(plugin, "answer") == 42
        assert manager.resource_usage(plugin).restarts == 0


@live
async def test_a_compiled_form_outlives_the_manager(tmp_path: Path, module: Path) -> None:
    """Where compiling is impossible, only what was compiled before can be loaded: so it was."""
    async with PluginManager(policy=policy(tmp_path, ROOMY), state_dir=tmp_path) as manager:
        await manager.load_plugin(module)
        await manager.load_plugin(module, plugin_id="again")
    [file] = (tmp_path / "compiled").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    async with PluginManager(policy=policy(tmp_path, TIGHT), state_dir=tmp_path) as manager:
        plugin = await manager.load_plugin(module)
        assert await manager.execute_plugin(plugin, "answer") == 42


@live
async def test_other_code_never_gets_it(tmp_path: Path, module: Path) -> None:
    """A module of the same name and size has its own form, or none."""
    other = large_module(tmp_path / "large.wasm", result=43)
    assert other.stat().st_size == module.stat().st_size
    async with PluginManager(policy=policy(tmp_path, ROOMY), state_dir=tmp_path) as manager:
        first = await manager.load_plugin(module)
        second = await manager.load_plugin(other, plugin_id="other")
        assert await manager.execute_plugin(first, "answer") == 42
        assert await manager.execute_plugin(second, "answer") == 43
    assert len(list((tmp_path / "compiled").iterdir())) == 2


@live
async def test_a_damaged_file_is_made_anew(tmp_path: Path, module: Path) -> None:
    """Cut off, changed or empty: it is not used, and replaced."""
    async with PluginManager(policy=policy(tmp_path, ROOMY), state_dir=tmp_path) as manager:
        await manager.load_plugin(module)
    [file] = (tmp_path / "compiled").iterdir()
    good = file.read_bytes()
    for bad in (good[:-1], good[:5000] + b"x" + good[5001:], b""):
        file.write_bytes(bad)
        async with PluginManager(policy=policy(tmp_path, ROOMY), state_dir=tmp_path) as manager:
            plugin = await manager.load_plugin(module)
            assert await manager.execute_plugin(plugin, "answer") == 42
        assert file.read_bytes() == good


@live
async def test_code_that_cannot_be_compiled_leaves_nothing(tmp_path: Path, module: Path) -> None:
    """The error is the same as without a cache."""
    (tmp_path / "broken.wasm").write_bytes(module.read_bytes()[:-3] + b"\0\0\0")
    async with PluginManager(state_dir=tmp_path) as manager:
        with pytest.raises(InvalidFormat, match="valid WebAssembly"):
            await manager.load_plugin(tmp_path / "broken.wasm")
    assert list((tmp_path / "compiled").iterdir()) == []


def test_who_wrote_it_cannot_change_it_later() -> None:
    """What is given to others is a sealed copy."""

    async def run() -> None:
        cache = CompiledCode()
        offer = await cache.offer("digest", 8192, "engine")
        os.pwrite(offer.files[0], b"good", 0)
        theirs = os.dup(offer.files[0])
        kept = await cache.keep(offer, 4)
        os.pwrite(theirs, b"evil", 0)
        os.close(theirs)
        assert os.pread(kept.files[0], 10, 0) == b"good"
        for change in (lambda: os.pwrite(kept.files[0], b"evil", 0), lambda: os.ftruncate(kept.files[0], 0)):
            with pytest.raises(PermissionError):
                change()
        kept.close()
        again = await cache.offer("digest", 8192, "engine")
        assert (again.size, again.room) == (4, 0)
        again.close()
        for other in (("other", 8192, "engine"), ("digest", 8192, "other")):
            offer = await cache.offer(*other)
            assert (offer.size, offer.room) == (0, 8192 * 16)
            offer.close()
        assert (await cache.offer("digest", 8192, "")).files == ()
        assert (await cache.offer("small", 100, "engine")).files == ()
        await cache.close()

    asyncio.run(run())


def test_what_was_offered_is_good_until_it_is_closed() -> None:
    """Whatever becomes of the cache: no other file may ever get to a plugin by the same number."""

    async def run() -> None:
        cache = CompiledCode()
        offer = await cache.offer("digest", 8192, "engine")
        os.pwrite(offer.files[0], b"good", 0)
        kept = await cache.keep(offer, 4)
        await cache.close()
        others = [os.memfd_create("other") for _ in range(8)]
        assert os.pread(kept.files[0], 10, 0) == b"good"
        for file in (*others, *kept.files):
            os.close(file)

    asyncio.run(run())


def test_room_is_bounded_however_much_code_there_is() -> None:
    """A file without content would fill the host's memory when it is read."""

    async def run() -> None:
        cache = CompiledCode()
        offer = await cache.offer("digest", 1 << 40, "engine")
        assert offer.room == 256 << 20
        offer.close()
        await cache.close()

    asyncio.run(run())


def test_lies_about_the_size_give_nothing() -> None:
    """More than there is room for is cut, nothing is nothing."""

    async def run() -> None:
        cache = CompiledCode()
        offer = await cache.offer("digest", 8192, "engine")
        assert await cache.keep(offer, 0) == type(offer)()
        offer = await cache.offer("digest", 8192, "engine")
        kept = await cache.keep(offer, 1 << 60)
        assert kept.size == 8192 * 16
        kept.close()
        await cache.close()

    asyncio.run(run())


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """A sentence that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InitializationFailed, match="file/compiled"):
        CompiledCode(str(tmp_path / "file" / "compiled"))
