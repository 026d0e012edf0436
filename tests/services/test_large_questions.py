"""What a plugin asks its host is bounded, and whoever asks too much is told so, in each format."""

import asyncio
from pathlib import Path

import pytest
from native_build import compile_source
from support import live
from wasm_build import compile_text

from frys_runtime import ExecutionFailed, PluginManager, SecurityViolation

INCLUDE = Path(__file__).parents[2] / "launchers" / "include"

POLICY = """
extends: maximum
host_functions: [kv]
limits: {output: 128KiB, kv: 1MiB}
"""
FITS, TOO_MUCH = 100_000, 200_000

PYTHON = """
import frys

def _try(size):
    try:
        frys.kv.set("key", bytes(size))
    except frys.Refused as refusal:
        return refusal.reason
    return "kept"

_at_load = [_try(60_000), _try(100_000)]

def at_load():
    return _at_load

def keep(size):
    return _try(size)

def keep_many(count):
    try:
        frys.kv.set("key", ["x" * 1000] * count)
    except frys.Refused as refusal:
        return refusal.reason
    return "kept"

def unguarded(size):
    frys.kv.set("key", bytes(size))
"""
JAVASCRIPT = """
export function keep(size) {
  try {
    frys.kv.set("key", new Uint8Array(size));
  } catch (error) {
    return error instanceof FrysError ? error.reason : String(error);
  }
  return "kept";
}
"""
# The code of the refusal as a text.
NATIVE = """
#define FRYS_INIT
#include "frys.h"
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void frys_free(uint8_t *data, size_t size) { (void)size; free(data); }

static size_t number(const uint8_t *in, size_t size)
{
    char text[16] = {0};
    memcpy(text, in, size < 15 ? size : 15);
    return strtoul(text, NULL, 10);
}

static int32_t answer(int32_t code, uint8_t **out, size_t *out_len)
{
    *out = malloc(1);
    **out = (uint8_t)('0' + code);
    *out_len = 1;
    return 0;
}

int32_t keep(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    size_t size = number(in, in_len);
    return answer(frys_host()->kv_set("key", calloc(size, 1), size), out, out_len);
}

/* Asks without its launcher: ["kv.set", ["key", so many bytes]] straight into the lane. */
int32_t ask_around(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    static const uint8_t head[] = "\\x93\\x05\\xa6kv.set\\x92\\xa3key\\xc6";
    size_t size = number(in, in_len), at = 4 + sizeof head - 1, whole = at + 4 + size;
    uint8_t *frame = calloc(whole, 1), reply[4096];
    for (int byte = 0; byte < 4; byte++) {
        frame[byte] = (uint8_t)((whole - 4) >> 8 * (3 - byte));
        frame[at + byte] = (uint8_t)(size >> 8 * (3 - byte));
    }
    memcpy(frame + 4, head, sizeof head - 1);
    for (size_t sent = 0; sent < whole;) {
        ssize_t more = send(3, frame + sent, whole - sent, MSG_NOSIGNAL);
        if (more < 0)
            return -1;
        sent += (size_t)more;
    }
    ssize_t got = recv(3, reply, sizeof reply, 0);
    if (got <= 4)
        return -1;
    *out_len = (size_t)got - 4;
    *out = malloc(*out_len);
    memcpy(*out, reply + 4, *out_len);
    return 0;
}
"""
WASM = """
(module
  (import "frys" "kv_set" (func $set (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 8)
  (data (i32.const 16) "key")
  (func (export "keep") (param $size i32) (result i32)
    (call $set (i32.const 16) (i32.const 3) (i32.const 64) (local.get $size))))
"""
_LIMIT = 4
"""The number of that refusal, for who asks with numbers."""


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _native(folder: Path) -> Path:
    library = folder / "native.so"
    compile_source(_write(folder, "native.c", NATIVE), library, f"-I{INCLUDE}")
    return library


@live
@pytest.mark.needs_gcc
async def test_a_question_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """With the reason `limit`, in the words of each format; the process lives on, and asks for what fits."""
    plugins = {
        "python": (_write(tmp_path, "python.py", PYTHON), "kept", "limit"),
        "javascript": (_write(tmp_path, "javascript.mjs", JAVASCRIPT), "kept", "limit"),
        "native": (_native(tmp_path), b"0", b"%d" % _LIMIT),
        "wasm": (_write(tmp_path, "wasm.wasm", compile_text(WASM)), 0, _LIMIT),
    }
    async with PluginManager(policy=_write(tmp_path, "policy.yaml", POLICY)) as manager:
        for name, (path, kept, refused) in plugins.items():
            await manager.load_plugin(path, plugin_id=name)
            for size, answer in ((FITS, kept), (TOO_MUCH, refused), (FITS, kept)):
                argument = str(size).encode() if name == "native" else size
                assert await manager.execute_plugin(name, "keep", argument) == answer, (name, size)
            assert manager.resource_usage(name).restarts == 0, name


@live
async def test_every_byte_of_a_question_counts(tmp_path: Path) -> None:
    """Not only large bytes; and while the plugin loads it may ask for 64 KiB."""
    path = _write(tmp_path, "python.py", PYTHON)
    async with PluginManager(policy=_write(tmp_path, "policy.yaml", POLICY)) as manager:
        await manager.load_plugin(path)
        assert await manager.execute_plugin("python", "at_load") == ["kept", "limit"]
        assert await manager.execute_plugin("python", "keep_many", 100) == "kept"
        assert await manager.execute_plugin("python", "keep_many", 200) == "limit"
        with pytest.raises(
            ExecutionFailed, match=r"kv\.set: a question has 200024 bytes; 131072 are allowed"
        ):
            await manager.execute_plugin("python", "unguarded", TOO_MUCH)
        assert manager.resource_usage("python").restarts == 0


@live
@pytest.mark.needs_gcc
async def test_who_asks_for_too_much_too_often_waits(tmp_path: Path) -> None:
    """What is refused without a look at it counts like any other question."""
    policy = POLICY.replace("output:", "messages: 10/s, output:")
    async with PluginManager(policy=_write(tmp_path, "policy.yaml", policy)) as manager:
        await manager.load_plugin(_native(tmp_path))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(16):
            refusal = await manager.execute_plugin("native", "ask_around", str(TOO_MUCH).encode())
            assert isinstance(refusal, bytes)
            assert refusal.startswith(b"\x93\x04\xa5limit")
        # That is the limit itself: 10 at once, and 6 more at 10 a second.
        assert loop.time() - began >= 0.45


@live
@pytest.mark.needs_gcc
async def test_whoever_asks_around_its_launcher(tmp_path: Path) -> None:
    """Is refused by the host in the same words; above what a result may have, the protocol is broken."""
    async with PluginManager(policy=_write(tmp_path, "policy.yaml", POLICY)) as manager:
        await manager.load_plugin(_native(tmp_path))
        assert await manager.execute_plugin("native", "ask_around", str(FITS).encode()) == b"\x92\x03\xc0"
        refusal = await manager.execute_plugin("native", "ask_around", str(TOO_MUCH).encode())
        assert isinstance(refusal, bytes)
        assert refusal.startswith(b"\x93\x04\xa5limit")
        with pytest.raises(SecurityViolation, match="was announced, and 131072 are allowed"):
            await manager.execute_plugin("native", "ask_around", b"1000000")
