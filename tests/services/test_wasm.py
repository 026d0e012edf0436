"""What modules of WebAssembly ask their host through the namespace `frys`, from inside a real jail."""

import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from support import FIXTURES, live
from wasm_build import compile_c, compile_rust, compile_text
from web import HELLO, serve

from frys_runtime import ExecutionFailed, PluginError, PluginManager

INCLUDE = Path(__file__).parents[2] / "launchers" / "include"

ALL = """
extends: maximum
host_functions: [log, config, kv, shout]
messages: {call: {text: [upper], talker: ["*"]}, publish: [noted]}
config: {greeting: good day, limit: 3, each: "7"}
"""
NOTHING = """
extends: maximum
host_functions: []
"""
# A C library of two functions, the second of which does nothing.
STDLIB = """
#include <stddef.h>
static unsigned char heap[1 << 20];
static size_t used;
static inline void *malloc(size_t size)
{
    size_t start = used;
    if (size > sizeof heap - used) return NULL;
    used += (size + 15) & ~(size_t)15;
    return heap + start;
}
static inline void free(void *data) { (void)data; }
"""

pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_seccomp_notify,
]

type Call = Callable[..., Awaitable[bytes]]


@asynccontextmanager
async def _talker(folder: Path, policy: str, code: Path) -> AsyncIterator[tuple[PluginManager, Call]]:
    """A talker under a policy, beside a plugin that it may call; a call gives what came back."""
    (folder / "text").mkdir()
    (folder / "text" / "text.wasm").write_bytes(compile_text((FIXTURES / "wasm" / "text.wat").read_text()))
    (folder / "talker").mkdir()
    (folder / "talker" / code.name).write_bytes(code.read_bytes())
    upper = {"upper": {"params": ["bytes"], "returns": "bytes"}}
    ask = {"call_itself": {"params": ["bytes"], "returns": "bytes"}}
    _describe(folder / "text", "text.wasm", exports=upper)
    _describe(folder / "talker", code.name, exports=ask, events={"publishes": {"noted": "bytes"}})
    (folder / "policy.yaml").write_text(policy)
    async with PluginManager(policy=folder / "policy.yaml") as manager:

        @manager.host_function("shout", ["bytes"], "bytes")
        async def shout(words: bytes) -> bytes:
            return words.upper() + b"!"

        await manager.load_plugin(folder / "text")
        plugin = await manager.load_plugin(folder / "talker")

        async def call(function: str, data: bytes | str = b"") -> bytes:
            return await manager.execute_plugin(plugin, function, data)

        yield manager, call


@asynccontextmanager
async def _site() -> AsyncIterator[tuple[str, str]]:
    """The address of a site, and what a policy has to grant for it."""
    async with serve(HELLO) as site:
        grant = f"network: {{hosts: [127.0.0.1], ports: [{site.port}], plain: true, private: true}}"
        yield f"http://127.0.0.1:{site.port}/", grant


def _describe(folder: Path, entry: str, **keys: object) -> None:
    kind = "native" if entry.endswith(".so") else "wasm"
    metadata = {"id": folder.name, "version": "1.0.0", "format": kind, "entry": entry, **keys}
    (folder / "plugin.json").write_text(json.dumps(metadata))


@pytest.fixture(params=["with malloc", "without"])
def in_c(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fixtures/wasm/talker.c, where answers lie in memory of malloc's, or in a room of their own."""
    (tmp_path / "libc").mkdir()
    (tmp_path / "libc" / "stdlib.h").write_text(STDLIB)
    room = [f"-I{tmp_path / 'libc'}"] if request.param == "with malloc" else ["-DFRYS_ROOM=65536"]
    return compile_c("talker", tmp_path, tmp_path_factory, f"-I{INCLUDE}", *room)


@pytest.mark.needs_pip
@live
async def test_everything_that_is_granted_is_answered_in_c(
    in_c: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Settings, the log, the store, events, other plugins, the host program, any service; numbers as well."""
    async with _site() as (url, network), _talker(tmp_path, ALL + network, in_c) as (manager, call):
        assert await call("fetch", url) == b"0:hello"
        assert await call("config", "greeting") == b"0:good day"
        assert await call("config", "absent") == b"0:(none)"
        assert (await call("config", "limit"))[:2] == b"2:"  # an int is no text
        with caplog.at_level("DEBUG", "frys.plugin"):
            assert await call("log_it", "grün") == b"0:"
        assert [record.getMessage() for record in caplog.records if record.name == "frys.plugin"] == [
            "talker: grün"
        ]
        for value in (b"", b"a\0b", bytes(1 << 15)):
            assert await call("kv", value) == b"0:gone"
        events = manager.communicator.subscribe("noted")
        assert await call("emit", b"news\0") == b"0:"
        assert (await anext(events)).data == b"news\0"
        events.close()
        assert await call("call_upper", b"text\0") == b"0:TEXT\0"
        assert await call("shout", "hey") == b"0:HEY!"
        answer = await call("ask", b"host\0" + msgspec.msgpack.encode(["shout", [b"any"]]))
        assert (answer[:2], msgspec.msgpack.decode(answer[2:])) == (b"0:", b"ANY!")
        assert await manager.execute_plugin("talker", "price", 6) == 42


@pytest.mark.needs_pip
@live
async def test_what_is_not_to_be_had_is_refused_in_c(in_c: Path, tmp_path: Path) -> None:
    """Questions that make no sense, what a policy does not grant, and an answer that there is no room for."""
    async with _talker(tmp_path, ALL, in_c) as (manager, call):
        assert await call("log_nothing") == b"2:the message is NULL"
        assert await call("log_it", b"\xff\xfe") == b"2:the message is not UTF-8"
        assert await call("long_text") == b"2:the message has more than 65536 bytes"
        assert (await call("call_itself"))[:2] == b"8:"
        assert (await call("fetch", "https://example.com/"))[:2] == b"1:"
        for arguments in (b"", b"\xc1", b"\x91", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000, b"\xd9\xff"):
            assert (await call("ask", b"host\0" + arguments)).startswith(
                b"2:the arguments are no MessagePack"
            )
        assert await call("ask", b"host\0\x05") == b"2:the arguments have to be one array"
        assert (await call("ask", b"nonsense\0\x90"))[:2] == b"3:"
        assert await call("kv_set", bytes(70_000)) == b"0:"
        fits = await call("kv_get", "large")
        assert fits in (b"0:" + bytes(70_000), b"4:the plugin has no room for the answer")
        with pytest.raises(ExecutionFailed, match="out of milk"):
            await call("fail", "out of milk")
        assert manager.plugin("talker").resource_usage().restarts == 0


@pytest.mark.needs_pip
@live
async def test_nothing_is_granted_by_default(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each question is refused with its number and the sentence that says what would grant it."""
    code = compile_c("talker", tmp_path, tmp_path_factory, f"-I{INCLUDE}", "-DFRYS_ROOM=65536")
    async with _talker(tmp_path, NOTHING, code) as (_, call):
        for function in ("log_it", "config", "kv", "kv_get", "emit", "call_upper", "shout", "fetch"):
            answer = await call(function, "https://example.com/")
            assert (function, answer[:2]) == (function, b"1:")
            assert len(answer) > 20
        for service in (b"kv.keys\0\x90", b"host\0\x92\xa5shout\x90", b"emit\0\x91\xa5noted"):
            assert (await call("ask", service))[:2] == b"1:"


async def _talks_in_rust(folder: Path, code: Path) -> None:
    async with _site() as (url, network), _talker(folder, ALL + network, code) as (manager, call):
        assert await call("config", "greeting") == b"ok:good day"
        assert await call("config", "absent") == b"ok:(none)"
        assert await call("log_it", "grün") == b"ok:"
        for value in (b"", b"a\0b", bytes(1 << 15)):
            assert await call("kv", value) == b"ok:a,ab"
        events = manager.communicator.subscribe("noted")
        assert await call("emit", b"news\0") == b"ok:"
        assert (await anext(events)).data == b"news\0"
        events.close()
        assert await call("call_upper", b"text\0") == b"ok:TEXT\0"
        assert await call("shout", "hey") == b"ok:HEY!"
        assert await call("fetch", url) == b"ok:200hello"
        assert (await call("fetch", "http://127.0.0.1:1/")).startswith(b"Permission:")
        assert await call("ask", b"config\0\x91\xa5limit") == b"ok:\x03"
        assert (await call("ask", b"nonsense\0\x90")).startswith(b"Missing:there is no service")


@pytest.mark.needs_rust_wasm
@live
async def test_everything_is_answered_in_rust(tmp_path: Path) -> None:
    """The binding frys.rs in a module: all services, HTTP too, refusals by their reason, and `fail`."""
    code = compile_rust(FIXTURES / "rust" / "talker.rs", tmp_path)
    await _talks_in_rust(tmp_path, code)
    (tmp_path / "again").mkdir()
    async with _talker(tmp_path / "again", NOTHING, code) as (_, call):
        with pytest.raises(ExecutionFailed, match="out of milk"):
            await call("fail", "out of milk")
        assert (await call("config", "greeting")).startswith(b"Permission:")


@pytest.fixture
def rust_library(tmp_path: Path) -> Path:
    """The talker in Rust, compiled for this machine."""
    library = tmp_path / "talker.so"
    command = ["rustc", "--edition", "2021", "-D", "warnings", "--crate-type", "cdylib", "-C", "opt-level=1"]
    subprocess.run([*command, "-o", str(library), str(FIXTURES / "rust" / "talker.rs")], check=True)
    return library


@pytest.mark.needs_cargo
@live
async def test_the_same_binding_serves_native_libraries(rust_library: Path, tmp_path: Path) -> None:
    """The same file of Rust as a native plugin: it is handed the table of frys.h."""
    await _talks_in_rust(tmp_path, rust_library)


HOSTILE = """(module
  (import "frys" "log" (func $log (param i32 i32 i32 i32) (result i32)))
  (import "frys" "kv_set" (func $kv_set (param i32 i32 i32 i32) (result i32)))
  (import "frys" "http" (func $http (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "frys" "call" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "frys" "config" (func $config (param i32 i32) (result i32)))
  (import "frys" "answer" (func $answer (param i32 i32) (result i32)))
  (import "frys" "refusal" (func $refusal (param i32 i32) (result i32)))
  (import "frys" "fail" (func $fail (param i32 i32)))
  (memory {memory} 2 16)
  (data (i32.const 16) "infogreetingtext")
  (func (export "outside") (result i32)
    (call $log (i32.const 16) (i32.const 4) (i32.const 0x7fffffff) (i32.const 4)))
  (func (export "longest") (result i32)
    (call $kv_set (i32.const 16) (i32.const 4) (i32.const 1) (i32.const -1)))
  (func (export "last_byte") (param i32) (result i32)
    (call $kv_set (i32.const 16) (i32.const 4) (i32.const 131071) (local.get 0)))
  (func (export "long_name") (result i32)
    (call $call (i32.const 1) (i32.const 131071) (i32.const 1) (i32.const 131071) (i32.const 0)
      (i32.const 0)))
  (func (export "data_nowhere") (result i32)
    (call $kv_set (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 5)))
  (func (export "greeting") (param $at i32) (param $room i32) (result i32)
    (drop (call $config (i32.const 20) (i32.const 8)))
    (call $answer (local.get $at) (local.get $room)))
  (func (export "answer") (param $at i32) (param $room i32) (result i32)
    (call $answer (local.get $at) (local.get $room)))
  (func (export "refusal") (param $at i32) (param $room i32) (result i32)
    (call $refusal (local.get $at) (local.get $room)))
  (func (export "status_outside") (result i32)
    (call $http (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 0)
      (i32.const -4)))
  (func (export "fail") (param i32 i32) (call $fail (local.get 0) (local.get 1))))
"""


@live
async def test_hostile_modules_only_trap(tmp_path: Path) -> None:
    """Addresses and sizes that lead outside end the call; the process and the host go on."""
    (tmp_path / "policy.yaml").write_text(ALL)
    (tmp_path / "hostile.wasm").write_bytes(compile_text(HOSTILE.format(memory='(export "memory")')))
    (tmp_path / "bare.wasm").write_bytes(compile_text(HOSTILE.format(memory="")))
    async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
        hostile = manager.plugin(await manager.load_plugin(tmp_path / "hostile.wasm"))
        for _ in range(3):
            for function, args in [
                ("outside", ()),
                ("longest", ()),
                ("last_byte", (2,)),
                ("greeting", (131071, 2)),
                ("greeting", (-1, 8)),
                ("refusal", (-1, 0)),
                ("fail", (131071, 2)),
                ("fail", (-1, -1)),
            ]:
                with pytest.raises(PluginError, match="outside its memory"):
                    await hostile.call(function, *args)
        assert await hostile.call("last_byte", 1) == 0
        assert await hostile.call("long_name") == 2
        assert await hostile.call("data_nowhere") == 2
        assert await hostile.call("refusal", 0, 0) > 10
        assert await hostile.call("greeting", 1, 3) == 8
        assert await hostile.call("answer", 1, 8) == 8  # it stays until the next question
        assert await hostile.call("status_outside") == 2  # refused before there was a status
        with pytest.raises(ExecutionFailed, match="info"):
            await hostile.call("fail", 16, 4)
        assert await hostile.call("answer", 0, 0) == -1  # a fresh instance was answered nothing
        assert hostile.resource_usage().restarts == 0

        bare = manager.plugin(await manager.load_plugin(tmp_path / "bare.wasm"))
        with pytest.raises(ExecutionFailed, match="the module exports none"):
            await bare.call("outside")


@live
async def test_a_module_asks_while_it_starts(tmp_path: Path) -> None:
    """Its start function is answered; what it got lies in its memory afterwards, in a fresh instance, too."""
    code = """(module
      (import "frys" "config" (func $config (param i32 i32) (result i32)))
      (import "frys" "answer" (func $answer (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "each")
      (func $start
        (drop (call $config (i32.const 16) (i32.const 4)))
        (drop (call $answer (i32.const 0) (i32.const 8))))
      (start $start)
      (func (export "first") (result i32) (i32.load8_u (i32.const 0)))
      (func (export "trap") unreachable))"""
    (tmp_path / "policy.yaml").write_text(ALL)
    (tmp_path / "starts.wasm").write_bytes(compile_text(code))
    async with PluginManager(policy=tmp_path / "policy.yaml") as manager:
        plugin = manager.plugin(await manager.load_plugin(tmp_path / "starts.wasm"))
        for _ in range(2):
            assert await plugin.call("first") == ord("7")
            with pytest.raises(ExecutionFailed, match="unreachable"):
                await plugin.call("trap")
