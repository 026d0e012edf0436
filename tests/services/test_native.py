"""What a native plugin asks its host through frys.h, from inside a real jail."""

import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from native_build import compile_fixture
from support import live
from web import HELLO, serve

from frys_runtime import ExecutionFailed, PluginManager

ROOT = Path(__file__).parents[2]
INCLUDE = ROOT / "launchers" / "include"

ALL = """
extends: maximum
host_functions: [log, config, kv, price]
messages: {call: {text: [upper]}, publish: [noted]}
config: {greeting: good day, limit: 3}
"""
NOTHING = """
extends: maximum
host_functions: []
"""

pytestmark = [
    pytest.mark.needs_gcc,
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_seccomp_notify,
]

type Call = Callable[..., Awaitable[tuple[int, bytes]]]


def _metadata(folder: Path, name: str, **keys: object) -> Path:
    metadata = {"id": name, "version": "1.0.0", "format": "native", "entry": f"{name}.so", **keys}
    (folder / "plugin.json").write_text(json.dumps(metadata))
    return folder


@asynccontextmanager
async def _talker(folder: Path, policy: str) -> AsyncIterator[tuple[PluginManager, Call]]:
    """The plugin fixtures/native/talker.c under a policy; a call gives the code and what came with it."""
    for name in ("talker", "text"):
        (folder / name).mkdir()
        compile_fixture(name, folder / name, f"-I{INCLUDE}")
    _metadata(folder / "talker", "talker", events={"publishes": {"noted": "bytes"}})
    _metadata(folder / "text", "text", exports={"upper": {"params": ["bytes"], "returns": "bytes"}})
    file = folder / "policy.yaml"
    file.write_text(policy)
    async with PluginManager(policy=file) as manager:

        @manager.host_function("price", ["string"], "float")
        async def price(article: str) -> float:
            return 9.5 if article == "tea" else 1.0

        await manager.load_plugin(folder / "text")
        plugin = await manager.load_plugin(folder / "talker")

        async def call(function: str, data: bytes | str = b"") -> tuple[int, bytes]:
            code, _, rest = (await manager.execute_plugin(plugin, function, data)).partition(b":")
            return int(code), rest

        yield manager, call


@live
async def test_everything_that_is_granted_is_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Settings while loading and later, the log, the store, an event, another plugin, any service."""
    async with _talker(tmp_path, ALL) as (manager, call):
        assert await call("at_load") == (0, b"good day")
        assert await call("config", "greeting") == (0, b"good day")
        assert await call("config", "absent") == (0, b"(none)")
        assert (await call("config", "limit"))[0] == 2  # an int is no text
        with caplog.at_level("DEBUG", "frys.plugin"):
            assert await call("log_it", "grün") == (0, b"")
        assert [record.getMessage() for record in caplog.records if record.name == "frys.plugin"] == [
            "talker: grün"
        ]
        for value in (b"", b"a\0b", bytes(1 << 15)):
            assert await call("kv", value) == (0, b"gone")
        events = manager.communicator.subscribe("noted")
        assert await call("emit", b"news\0") == (0, b"")
        assert (await anext(events)).data == b"news\0"
        events.close()
        assert await call("call_upper", b"text\0") == (0, b"TEXT\0")
        question = b"host\0" + msgspec.msgpack.encode(["price", ["tea"]])
        code, answer = await call("ask", question)
        assert (code, msgspec.msgpack.decode(answer)) == (0, 9.5)


@live
async def test_a_request_is_brokered(tmp_path: Path) -> None:
    """The status and the body come back; another host is refused."""
    async with serve(HELLO) as site:
        network = f"network: {{hosts: [127.0.0.1], ports: [{site.port}], plain: true, private: true}}"
        async with _talker(tmp_path, ALL + network) as (_, call):
            assert await call("fetch", f"http://127.0.0.1:{site.port}/") == (0, b"200 hello")
            assert (await call("fetch", "http://127.0.0.1:1/"))[0] == 1


@live
async def test_nothing_is_granted_by_default(tmp_path: Path) -> None:
    """Each question is refused with its number and the sentence that says what would grant it."""
    async with _talker(tmp_path, NOTHING) as (_, call):
        assert await call("at_load") == (0, b"nothing")
        for function in ("log_it", "config", "kv", "emit", "call_upper", "fetch"):
            code, words = await call(function, "https://example.com/")
            assert (function, code) == (function, 1)
            assert words


@live
async def test_questions_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    """NULL, sizes that cannot be, texts without an end in reach, and arguments that are no MessagePack."""
    async with _talker(tmp_path, ALL) as (manager, call):
        assert await call("log_nothing") == (2, b"the message is NULL")
        assert await call("log_it", b"\xff\xfe") == (2, b"the message is not UTF-8")
        assert await call("long_text") == (2, b"the message has more than 65536 bytes")
        assert await call("kv_wild") == (2, b"18446744073709551615 bytes are more than the plugin may use")
        assert await call("kv_nowhere") == (2, b"5 bytes at no address (NULL)")
        for arguments in (b"", b"\xc1", b"\x91", b"\xdd\xff\xff\xff\xff", b"\x91" * 5000, b"\xd9\xff"):
            code, words = await call("ask", b"host\0" + arguments)
            assert (code, words.startswith(b"the arguments are no MessagePack")) == (2, True)
        assert await call("ask", b"host\0\x05") == (2, b"the arguments have to be one array")
        assert (await call("ask", b"nonsense\0\x90"))[0] == 3
        assert manager.plugin("talker").resource_usage().restarts == 0


@live
async def test_what_crashes_is_told(tmp_path: Path) -> None:
    """A wild pointer in a question, and writing over what the questions go through, end the process."""
    async with _talker(tmp_path, ALL) as (_, call):
        for function in ("kv_crash", "change_table"):
            with pytest.raises(ExecutionFailed, match=r"crashed \(SIGSEGV"):
                await call(function)
        assert await call("at_load") == (0, b"good day")


def _example(folder: Path) -> Path:
    source, library = ROOT / "examples" / "native" / "visits.c", folder / "visits.so"
    command = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-I", str(INCLUDE), "-o"]
    subprocess.run([*command, str(library), str(source)], check=True)
    return library


@live
async def test_the_example_counts_visits(tmp_path: Path) -> None:
    """Built with the command that stands in its first lines; its count survives the process."""
    library = _example(tmp_path)
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nhost_functions: [kv, log]\n")
    async with PluginManager(policy=policy) as manager:
        plugin = await manager.load_plugin(library)
        assert await manager.execute_plugin(plugin, "visit", "ada") == b"1"
        await manager.unload_plugin(plugin)
        plugin = await manager.load_plugin(library)
        assert await manager.execute_plugin(plugin, "visit", "ada") == b"2"
        assert await manager.execute_plugin(plugin, "visit", "bob") == b"1"
    policy.write_text("extends: maximum\nhost_functions: []\n")
    async with PluginManager(policy=policy) as manager:
        plugin = await manager.load_plugin(library)
        with pytest.raises(ExecutionFailed, match="visit returned 1"):
            await manager.execute_plugin(plugin, "visit", "ada")


def test_the_header_is_c_and_c_plus_plus(tmp_path: Path) -> None:
    """Without a warning, under the strictest rules of both."""
    for language, standard in (("c", "c99"), ("c++", "c++11")):
        command = ["gcc", "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        done = subprocess.run(
            [*command, "-fsyntax-only", "-I", str(INCLUDE), "-"],
            input='#include "frys.h"\n',
            text=True,
            capture_output=True,
            check=False,
        )
        if language == "c++" and "cc1plus" in done.stderr:
            continue  # only the C compiler is there
        assert done.stderr == ""
