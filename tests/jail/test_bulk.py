"""Large values between real plugins, their host and one another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from native_build import compile_fixture
from support import FIXTURES, live
from talk import ALL, talkers
from wasm_build import compile_text

from frys_runtime import ExecutionFailed, PluginManager, ResourceLimitExceeded
from frys_runtime.bulk import LEAST

SIZES = (LEAST - 1, LEAST, LEAST + 1, 1 << 20, 8 << 20)


EXTISM = """(module
  (import "extism:host/env" "input_offset" (func $offset (result i64)))
  (import "extism:host/env" "input_length" (func $length (result i64)))
  (import "extism:host/env" "output_set" (func $output (param i64 i64)))
  (func (export "echo") (call $output (call $offset) (call $length)))
  (func (export "trap") unreachable))"""
BYTES = """(module
  (memory (export "memory") 200)
  (func (export "frys_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "echo") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (func (export "trap") (param i32 i32) (result i64) unreachable)
  (func (export "twice") (param i32) (result i32) (i32.shl (local.get 0) (i32.const 1))))"""


def _plugins(folder: Path) -> dict[str, Path]:
    wide = folder / "wide.py"
    wide.write_text("def echo(value):\n    return value\n")
    return {
        "python": wide,
        "javascript": FIXTURES / "javascript" / "text.js",
        "native": compile_fixture("text", folder),
        "extism": _wasm(folder / "extism.wasm", EXTISM),
        "bytes": _wasm(folder / "bytes.wasm", BYTES),
    }


def _wasm(file: Path, text: str) -> Path:
    file.write_bytes(compile_text(text))
    return file


@live
async def test_a_fresh_instance_gets_them_unchanged(tmp_path: Path) -> None:
    """After a trap another instance is made in the midst of the next call; a number is no bytes."""
    data = os.urandom(1 << 20)
    async with PluginManager() as manager:
        for name, text in (("extism", EXTISM), ("bytes", BYTES)):
            await manager.load_plugin(_wasm(tmp_path / f"{name}.wasm", text), plugin_id=name)
            for _ in range(2):
                with pytest.raises(ExecutionFailed, match="unreachable"):
                    await manager.execute_plugin(name, "trap", data)
                assert await manager.execute_plugin(name, "echo", data) == data
        with pytest.raises(TypeError, match="not bytes"):
            await manager.execute_plugin("bytes", "twice", data)


@live
async def test_every_size_arrives_unchanged(tmp_path: Path) -> None:
    """Around the size from which the buffer is used, and far above, in turns, in each format."""
    async with PluginManager() as manager:
        for name, path in _plugins(tmp_path).items():
            await manager.load_plugin(path, plugin_id=name)
            kept = []
            for number, size in enumerate(SIZES):
                data = bytes((number + at) & 0xFF for at in range(256)) * (size // 256 + 1)
                kept.append((data[:size], await manager.execute_plugin(name, "echo", data[:size])))
            assert all(sent == came for sent, came in kept), name
            usage = manager.resource_usage(name)
            assert usage.message_bytes_in >= sum(SIZES), name
            assert usage.message_bytes_out >= sum(SIZES), name
            await manager.unload_plugin(name)


@live
async def test_the_limit_of_a_result_counts_what_lies_in_the_buffer(tmp_path: Path) -> None:
    """A result is as large as its bytes, whichever way they take."""
    policy, plugin = tmp_path / "policy.yaml", tmp_path / "wide.py"
    policy.write_text("extends: maximum\nlimits: {output: 1MiB}\n")
    plugin.write_text("def make(sizes):\n    return [bytes(size) for size in sizes]\n")
    async with PluginManager(policy=policy) as manager:
        await manager.load_plugin(plugin)
        answer = await manager.execute_plugin("wide", "make", [LEAST] * 100)
        assert answer == [bytes(LEAST)] * 100
        with pytest.raises(ResourceLimitExceeded) as caught:
            await manager.execute_plugin("wide", "make", [LEAST] * 129)
        assert caught.value.resource == "output"
        assert caught.value.actual > 1 << 20


@live
async def test_from_plugin_to_plugin_and_into_the_store(tmp_path: Path) -> None:
    """Large arguments, answers and stored values of a plugin's own questions travel by the buffer, too."""
    data = bytes(range(256)) * 2048
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        assert await talk.ask("kv.set", "large", data) is None
        assert await talk.ask("kv.get", "large") == data
        assert await talk.ask("call", "b", "mirror", [data]) == data


@live
async def test_more_than_the_buffer_holds(tmp_path: Path) -> None:
    """What does not fit beside the rest goes by the socket, and meets the limit of the plugin's memory."""
    plugin = tmp_path / "sizes.py"
    plugin.write_text("def lengths(*values):\n    return [len(value) for value in values]\n")
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {memory: 64MiB}\n")
    async with PluginManager(policy=policy) as manager:
        await manager.load_plugin(plugin)
        sizes = [8 << 20, 60 << 20]
        with pytest.raises(ResourceLimitExceeded) as caught:
            await manager.execute_plugin("sizes", "lengths", *map(bytes, sizes))
        assert caught.value.resource == "memory"
        assert await manager.execute_plugin("sizes", "lengths", bytes(8 << 20)) == [8 << 20]


REUSE = """
import asyncio, resource, sys
from pathlib import Path
from talk import ALL, talkers

async def main():
    async with talkers(Path(sys.argv[1]), ALL, "a", "b") as talk:
        for count in (5, 20):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            await talk.manager.execute_plugin("a", "mirror_each", "b", 1 << 20, count)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // count)

asyncio.run(main())
"""


def test_the_memory_of_large_values_is_used_again(tmp_path: Path) -> None:
    """It is not given back after each value, which would cost a page fault for each 4 KiB of the next."""
    command = [sys.executable, "-c", REUSE, tmp_path]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}  # a process of its own: nothing large was there before
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | path)
    assert int(told.stdout) < 256
