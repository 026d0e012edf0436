"""WASI 0.2 for components in this very process: every interface, real programs, and hostile ones.

The components are made by the tools of the Bytecode Alliance out of its own WIT, so a type that is wrong here
does not link.
"""

import pytest
from frys_runtime.launchers import wasm
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.failures import (
    BadArguments,
    Failure,
    HostRefused,
    LimitReached,
    PluginRaised,
)
from frys_runtime.launchers.host import Host
from frys_runtime.launchers.wasm_program import Exit
from wasi_components import WASI, from_core, from_program
from wasm_build import FIXTURES, compile_fixture, compile_text

pytestmark = pytest.mark.needs_npm

MEMORY = 16 << 20


def load(code: bytes, **settings) -> wasm.component.Plugin:
    """Load a component as the child does."""
    settings.setdefault("memory_limit", MEMORY)
    return wasm.load(Artifact("tester", "a.wasm", {"a.wasm": memoryview(code)}, **settings))


# ---- all interfaces


@pytest.mark.parametrize(
    "world",
    [
        f"include wasi:cli/command@{WASI};",
        f"include wasi:http/proxy@{WASI};",
    ],
)
def test_every_function_of_the_standard_worlds_is_offered(world):
    """What a component may import by the WIT of WASI itself is there, each with just that type."""
    plugin = load(from_core(None, world))

    assert plugin.functions().keys() & {"run", "handle"}


def test_the_services_of_the_host_are_offered_as_their_wit_says():
    """`frys.wit`, which authors compile against, and what the launcher offers are the same."""
    text = (FIXTURES.parent.parent / "launchers" / "types" / "frys.wit").read_text()
    package, _, rest = text.partition("package frys:host@1.0.0;")
    braces = f"{package}package frys:host@1.0.0 {{ {rest} }}"
    plugin = load(from_core(None, "include frys:host/plugin@1.0.0; export go: func();", braces))

    assert plugin.functions() == {"go": "func()"}


# ---- programs


@pytest.fixture(scope="module")
def program():
    return load(from_program(compile_fixture("program")))


def test_a_command_has_streams_and_arguments(program):
    """As a program of preview 1 has, by way of the adapter that everybody uses."""
    assert program.functions() == {"run": '(stdin: bytes = b"", *arguments: str) -> bytes'}
    assert program("run", [b"same " * 5000]) == b"same " * 5000
    assert program("run", ["list", "one", "zwei ü"]) == "tester\nlist\none\nzwei ü\n".encode()
    assert program("main", [b""]) == b""
    assert program("run", [b"kept", "stay"]) == program("run", [b"kept", "stay"])
    with pytest.raises(BadArguments, match="bytes for stdin"):
        program("run", [1])


def test_a_command_that_fails(program):
    """With an exit code, a trap, or too much output; each run begins anew."""
    with pytest.raises(Exit, match="exit code 1") as caught:
        program("run", [b"why", "fail"])
    assert caught.value.detail == "why"
    with pytest.raises(PluginRaised, match="unreachable") as trapped:
        program("run", [b"last words", "trap"])
    assert "last words" in trapped.value.detail
    with pytest.raises(LimitReached, match="too much to stdout"):
        program("run", ["flood"])
    assert program("run", [b"well"]) == b"well"


# ---- a component of our own that does what it should not

CORE = f"""(module
  (import "wasi:cli/stdout@{WASI}" "get-stdout" (func $stdout (result i32)))
  (import "wasi:cli/stdin@{WASI}" "get-stdin" (func $stdin (result i32)))
  (import "wasi:io/streams@{WASI}" "[resource-drop]output-stream" (func $drop (param i32)))
  (import "wasi:io/streams@{WASI}" "[method]output-stream.check-write" (func $check (param i32 i32)))
  (import "wasi:io/streams@{WASI}" "[method]output-stream.write" (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@{WASI}" "[method]output-stream.blocking-write-and-flush"
    (func $blocking (param i32 i32 i32 i32)))
  (import "wasi:io/streams@{WASI}" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
  (import "wasi:io/poll@{WASI}" "poll" (func $poll (param i32 i32 i32)))
  (import "wasi:io/poll@{WASI}" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:clocks/monotonic-clock@{WASI}" "now" (func $now (result i64)))
  (import "wasi:clocks/monotonic-clock@{WASI}" "subscribe-duration" (func $alarm (param i64) (result i32)))
  (import "wasi:random/random@{WASI}" "get-random-bytes" (func $random (param i64 i32)))
  (import "wasi:filesystem/preopens@{WASI}" "get-directories" (func $directories (param i32)))
  (import "wasi:filesystem/types@{WASI}" "[method]descriptor.open-at"
    (func $open (param i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:filesystem/types@{WASI}" "[method]descriptor.read"
    (func $read_file (param i32 i64 i64 i32)))
  (import "wasi:filesystem/types@{WASI}" "[method]descriptor.symlink-at"
    (func $symlink (param i32 i32 i32 i32 i32 i32)))
  (import "wasi:filesystem/types@{WASI}" "[resource-drop]descriptor" (func $close (param i32)))
  (import "wasi:sockets/tcp-create-socket@{WASI}" "create-tcp-socket" (func $socket (param i32 i32)))
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 4096))
  (global $greedy (mut i32) (i32.const 0))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (if (global.get $greedy) (then (drop (call $stdout))))
    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 3))))
  (func (export "use-after-drop") (local $stream i32)
    (local.set $stream (call $stdout))
    (call $drop (local.get $stream))
    (call $check (local.get $stream) (i32.const 16)))
  (func (export "drop-twice") (local $stream i32)
    (local.set $stream (call $stdout))
    (call $drop (local.get $stream))
    (call $drop (local.get $stream)))
  (func (export "guess") (call $check (i32.const 77) (i32.const 16)))
  (func (export "confuse") (call $block (call $stdout)))
  (func (export "too-much") (call $write (call $stdout) (i32.const 0) (i32.const 1) (i32.const 16)))
  (func (export "too-long")
    (call $blocking (call $stdout) (i32.const 0) (i32.const 4097) (i32.const 16)))
  (func (export "outside")
    (call $blocking (call $stdout) (i32.const 131072) (i32.const 4096) (i32.const 16)))
  (func (export "answer-outside") (call $check (call $stdout) (i32.const 131064)))
  (func (export "long-list") (call $poll (i32.const 0) (i32.const -1) (i32.const 16)))
  (func (export "no-list") (call $poll (i32.const 0) (i32.const 0) (i32.const 16)))
  (func (export "many") (loop $again (drop (call $stdout)) (br $again)))
  (func (export "random") (call $random (i64.const -1) (i32.const 16)))
  (func (export "greedy")
    (global.set $greedy (i32.const 1))
    (call $random (i64.const 8) (i32.const 16)))
  (func (export "wait") (param $time i64) (result i64) (local $before i64)
    (local.set $before (call $now))
    (call $block (call $alarm (local.get $time)))
    (i64.sub (call $now) (local.get $before)))
  (func (export "end") (result i32)
    (call $read (call $stdin) (i64.const 10) (i32.const 16))
    (i32.load8_u (i32.const 20)))
  (func (export "socket") (result i32)
    (call $socket (i32.const 0) (i32.const 16))
    (i32.load8_u (i32.const 20)))
  ;; Opens a path in the first folder: 1000 and an error code, or the first byte of the file.
  (func (export "first-byte") (param $path i32) (param $size i32) (result i32)
    (call $directories (i32.const 16))
    (call $open (i32.load (i32.load (i32.const 16))) (i32.const 1) (local.get $path) (local.get $size)
      (i32.const 0) (i32.const 1) (i32.const 32))
    (if (i32.load8_u (i32.const 32))
      (then (return (i32.add (i32.const 1000) (i32.load8_u (i32.const 36))))))
    (call $read_file (i32.load (i32.const 36)) (i64.const 1) (i64.const 0) (i32.const 48))
    (call $close (i32.load (i32.const 36)))
    (if (i32.load8_u (i32.const 48))
      (then (return (i32.add (i32.const 2000) (i32.load8_u (i32.const 52))))))
    (global.set $next (i32.const 4096))
    (i32.load8_u (i32.load (i32.const 52))))
  (func (export "link") (result i32)
    (call $directories (i32.const 16))
    (call $symlink (i32.load (i32.load (i32.const 16))) (i32.const 0) (i32.const 1) (i32.const 0)
      (i32.const 1) (i32.const 32))
    (i32.load8_u (i32.const 33))))
"""
IMPORTS = (
    *("cli/stdout", "cli/stdin", "io/streams", "io/poll", "clocks/monotonic-clock", "random/random"),
    *("filesystem/preopens", "filesystem/types", "sockets/tcp-create-socket"),
)
MISUSE = {
    "use-after-drop": "no handle of the resource output-stream",
    "drop-twice": "no handle of the resource output-stream",
    "guess": "77, which is no handle",
    "confuse": "no handle of the resource pollable",
    "too-much": "writes 1 bytes, and 0 were permitted",
    "too-long": "writes 4097 bytes at once",
    "outside": "outside its memory",
    "answer-outside": "outside its memory",
    "long-list": "too large",
    "no-list": "waits for nothing",
    "many": "handles open",
    "random": "18446744073709551615 random bytes",
    "greedy": "while it makes room",
}
WORLD = " ".join(
    [
        *(f"import wasi:{name}@{WASI};" for name in IMPORTS),
        *(f"export {name}: func();" for name in MISUSE),
        "export wait: func(time: u64) -> u64; export end: func() -> u32; export socket: func() -> u32;",
        "export first-byte: func(path: string) -> u32; export link: func() -> u32;",
    ]
)


@pytest.fixture(scope="module")
def hostile_code():
    return from_core(compile_text(CORE), WORLD)


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_ends_the_instance_and_nothing_else(hostile_code, name):
    """Handles that are none, lists that are too long, addresses outside, writes nobody permitted."""
    plugin = load(hostile_code)

    with pytest.raises(Failure, match=MISUSE[name]) as caught:
        plugin(name, [])
    assert caught.value.kind in ("exception", "limit", "value")
    assert plugin("end", []) == 1


def test_clocks_and_streams_answer(hostile_code):
    """A wait takes its time, stdin is at its end, a socket is refused."""
    plugin = load(hostile_code)

    assert plugin("wait", [2_000_000]) >= 2_000_000
    assert plugin("end", []) == 1
    assert plugin("socket", []) == 1  # access-denied


def test_no_path_leads_out_of_a_folder(hostile_code, tmp_path):
    """By `..`, by an absolute path, by a link; and no link is made."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "below").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_text("s")
    (inside / "own").write_text("o")
    (inside / "link").symlink_to("../outside/secret")
    (inside / "good").symlink_to("below/../own")
    plugin = load(hostile_code, paths=[(str(inside), True)])

    assert plugin("first-byte", ["own"]) == ord("o")
    assert plugin("first-byte", ["below/../good"]) == ord("o")
    not_permitted, no_entry, invalid = 31, 20, 12
    for path in (
        "../outside/secret",
        f"{outside}/secret",
        "link",
        "below/../../outside/secret",
        "/etc/passwd",
    ):
        assert plugin("first-byte", [path]) == 1000 + not_permitted
    assert plugin("first-byte", ["nothing"]) == 1000 + no_entry
    assert plugin("first-byte", ["own\0"]) == 1000 + invalid
    assert plugin("first-byte", [""]) == 1000 + no_entry
    assert plugin("link", []) == 27  # unsupported
    assert sorted(path.name for path in inside.iterdir()) == ["below", "good", "link", "own"]
    for _ in range(1500):  # nothing stays open
        assert plugin("first-byte", ["own"]) == ord("o")


# ---- HTTP and the services of the host


class Answering(Host):
    """The lane's other end, for this test."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.asked = answers, []

    def ask(self, service, *args):
        """Note a question, and answer it."""
        self.asked.append((service, *args))
        answer = self.answers[service]
        if isinstance(answer, HostRefused):
            raise answer
        return answer


HTTP = f"""(module
  (import "wasi:http/types@{WASI}" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@{WASI}" "[constructor]outgoing-request" (func $request (param i32) (result i32)))
  (import "wasi:http/types@{WASI}" "[method]outgoing-request.set-authority"
    (func $authority (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@{WASI}" "[method]outgoing-request.body" (func $body (param i32 i32)))
  (import "wasi:http/types@{WASI}" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
  (import "wasi:http/outgoing-handler@{WASI}" "handle" (func $handle (param i32 i32 i32 i32)))
  (import "wasi:http/types@{WASI}" "[method]future-incoming-response.subscribe"
    (func $subscribe (param i32) (result i32)))
  (import "wasi:http/types@{WASI}" "[method]future-incoming-response.get" (func $get (param i32 i32)))
  (import "wasi:http/types@{WASI}" "[method]incoming-response.status" (func $status (param i32) (result i32)))
  (import "wasi:io/poll@{WASI}" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:http/types@{WASI}" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
  (import "wasi:http/types@{WASI}" "[method]outgoing-response.body" (func $answer (param i32 i32)))
  (import "wasi:http/types@{WASI}" "[static]response-outparam.set"
    (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "wasi:http/types@{WASI}" "[method]outgoing-body.write" (func $write_body (param i32 i32)))
  (import "wasi:io/streams@{WASI}" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "example.com")
  (global $next (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 3))))
  (func (export "fetch") (param $finished i32) (result i32) (local $request i32) (local $future i32)
    (local.set $request (call $request (call $fields)))
    (drop (call $authority (local.get $request) (i32.const 1) (i32.const 100) (i32.const 11)))
    (call $body (local.get $request) (i32.const 16))
    (call $handle (local.get $request) (i32.const 0) (i32.const 0) (i32.const 512))
    (local.set $future (i32.load (i32.const 520)))
    (if (local.get $finished)
      (then (call $finish (i32.load (i32.const 20)) (i32.const 0) (i32.const 0) (i32.const 512))))
    (call $block (call $subscribe (local.get $future)))
    (call $get (local.get $future) (i32.const 512))
    (if (i32.load8_u (i32.const 528)) (then (return (i32.load8_u (i32.const 536)))))
    (call $status (i32.load (i32.const 536))))
  (func (export "wasi:http/incoming-handler@{WASI}#handle") (param i32 i32) (local $response i32)
    (local.set $response (call $response (call $fields)))
    (call $answer (local.get $response) (i32.const 16))
    (call $write_body (i32.load (i32.const 20)) (i32.const 32))
    (call $write (i32.load (i32.const 36)) (i32.const 100) (i32.const 7) (i32.const 48))
    (call $finish (i32.load (i32.const 20)) (i32.const 0) (i32.const 0) (i32.const 512))
    (call $set (local.get 1) (i32.const 0) (local.get $response) (i32.const 0) (i64.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0))))
"""


@pytest.fixture(scope="module")
def http_code():
    imports = "".join(
        f"import wasi:{name}@{WASI}; "
        for name in ("http/types", "http/outgoing-handler", "io/poll", "io/streams")
    )
    exports = f"export fetch: func(finished: bool) -> u32; export wasi:http/incoming-handler@{WASI};"
    return from_core(compile_text(HTTP), imports + exports)


def test_a_request_goes_through_the_host(http_code):
    """Sent when its body is finished; a refusal of the policy is an error of the request."""
    answer = {"status": 404, "headers": {"a": "b", "set-cookie": ["x", "y"]}, "body": b"none"}
    host = Answering({"http": answer})
    plugin = load(http_code, host=host)

    assert plugin("fetch", [True]) == 404
    assert host.asked == [
        ("http", {"url": "https://example.com/", "method": "GET", "headers": {}, "body": None})
    ]
    host.answers["http"] = HostRefused("permission", "no")
    denied = 15
    assert plugin("fetch", [True]) == denied
    with pytest.raises(PluginRaised, match="waits for what will never be there"):
        plugin("fetch", [False])


def test_a_handler_of_http_is_a_function(http_code):
    """A component that is a web server answers one request a call."""
    plugin = load(http_code)

    assert plugin.functions()["handle"] == "(request: dict) -> dict"
    answer = plugin("handle", [{"url": "http://a.example/b?c", "method": "POST", "body": b"x"}])
    assert answer == {"status": 200, "headers": {}, "body": b"example"}
    with pytest.raises(BadArguments, match="a dict with a url"):
        plugin("handle", [{"path": "/"}])


FRYS = """(module
  (import "frys:host/kv@1.0.0" "get" (func $get (param i32 i32 i32)))
  (import "frys:host/kv@1.0.0" "set" (func $set (param i32 i32 i32 i64 i32 i32)))
  (import "frys:host/messages@1.0.0" "call" (func $call (param i32 i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "key")
  (global $next (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 3))))
  (func (export "read") (param i32 i32) (result i32)
    (call $get (local.get 0) (local.get 1) (i32.const 512))
    (i32.const 512))
  (func (export "write") (param i32 i32 i64) (result i32)
    (call $set (local.get 0) (local.get 1) (i32.const 2) (local.get 2) (i32.const 0) (i32.const 512))
    (i32.load8_u (i32.const 512)))
  (func (export "ask") (param i32 i32 i32 i32 i32 i32) (result i32)
    (call $call (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5)
      (i32.const 512))
    (i32.const 512)))
"""


def test_services_of_the_host_take_and_give_values():
    """Numbers, texts and bytes as they are, lists and maps as JSON; a refusal is an err."""
    text = (FIXTURES.parent.parent / "launchers" / "types" / "frys.wit").read_text()
    head, _, rest = text.partition("package frys:host@1.0.0;")
    world = (
        "import frys:host/kv@1.0.0; import frys:host/messages@1.0.0;"
        " use frys:host/types@1.0.0.{value, refusal};"
        " export read: func(key: string) -> result<value, refusal>;"
        " export write: func(key: string, number: s64) -> u32;"
        " export ask: func(plugin: string, function: string, arguments: list<value>)"
        " -> result<value, refusal>;"
    )
    code = from_core(compile_text(FRYS), world, f"{head}package frys:host@1.0.0 {{ {rest} }}")
    host = Answering({"kv.get": {"a": [1, None, "ü"]}, "kv.set": None, "call": b"\0\1"})
    plugin = load(code, host=host)

    assert plugin("read", ["k"]) == {"json": '{"a":[1,null,"\\u00fc"]}'}
    for answer, shown in (
        (None, "null"),
        (True, {"truth": True}),
        (-5, {"integer": -5}),
        ("t", {"text": "t"}),
    ):
        host.answers["kv.get"] = answer
        assert plugin("read", ["k"]) == shown
    assert plugin("write", ["k", -7]) == 0
    assert host.asked[-1] == ("kv.set", "k", -7)
    arguments = ["null", {"json": '[1, {"b": 2.5}]'}, {"bytes": b"x"}]
    assert plugin("ask", ["other", "f", arguments]) == {"bytes": b"\0\1"}
    assert host.asked[-1] == ("call", "other", "f", [None, [1, {"b": 2.5}], b"x"])
    with pytest.raises(PluginRaised, match="an argument is not JSON"):
        plugin("ask", ["other", "f", [{"json": "{"}]])
    host.answers["call"] = HostRefused("permission", "no policy grants it")
    with pytest.raises(PluginRaised, match="no policy grants it"):
        plugin("ask", ["other", "f", []])


DRAFTS = """
package wasi:logging@0.1.0-draft { interface logging {
  enum level { trace, debug, info, warn, error, critical }
  log: func(level: level, context: string, message: string);
} }
package wasi:config@0.2.0-rc.1 { interface store {
  variant error { upstream(string), io(string) }
  get: func(key: string) -> result<option<string>, error>;
  get-all: func() -> result<list<tuple<string, string>>, error>;
} }
package wasi:keyvalue@0.2.0-draft {
interface store {
  variant error { no-such-store, access-denied, other(string) }
  record key-response { keys: list<string>, cursor: option<u64> }
  open: func(identifier: string) -> result<bucket, error>;
  resource bucket {
    get: func(key: string) -> result<option<list<u8>>, error>;
    set: func(key: string, value: list<u8>) -> result<_, error>;
    delete: func(key: string) -> result<_, error>;
    exists: func(key: string) -> result<bool, error>;
    list-keys: func(cursor: option<u64>) -> result<key-response, error>;
  }
}
interface atomics {
  use store.{bucket, error};
  increment: func(bucket: borrow<bucket>, key: string, delta: u64) -> result<u64, error>;
}
interface batch {
  use store.{bucket, error};
  get-many: func(bucket: borrow<bucket>, keys: list<string>)
    -> result<list<option<tuple<string, list<u8>>>>, error>;
  set-many: func(bucket: borrow<bucket>, key-values: list<tuple<string, list<u8>>>) -> result<_, error>;
  delete-many: func(bucket: borrow<bucket>, keys: list<string>) -> result<_, error>;
} }
"""
STORE = """(module
  (import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
  (import "wasi:config/store@0.2.0-rc.1" "get" (func $setting (param i32 i32 i32)))
  (import "wasi:keyvalue/store@0.2.0-draft" "open" (func $open (param i32 i32 i32)))
  (import "wasi:keyvalue/atomics@0.2.0-draft" "increment" (func $increment (param i32 i32 i32 i64 i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "context")
  (global $next (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get 3))))
  (func (export "say") (param i32 i32)
    (call $log (i32.const 3) (i32.const 100) (i32.const 7) (local.get 0) (local.get 1)))
  (func (export "setting") (param i32 i32) (result i32)
    (call $setting (local.get 0) (local.get 1) (i32.const 512)) (i32.const 512))
  (func (export "add") (param i32 i32 i32 i32 i64) (result i32)
    (call $open (local.get 0) (local.get 1) (i32.const 16))
    (if (i32.load8_u (i32.const 16)) (then (return (i32.const 900))))
    (call $increment (i32.load (i32.const 20)) (local.get 2) (local.get 3) (local.get 4) (i32.const 512))
    (if (i32.load8_u (i32.const 512)) (then (return (i32.const 901))))
    (i32.load (i32.const 520))))
"""


def test_drafts_of_wasi_that_are_in_use_are_the_services_of_the_host():
    """Log, settings, and the plugin's own store with its counters; whole interfaces link."""
    imports = " ".join(
        f"import wasi:{name};"
        for name in (
            "logging/logging@0.1.0-draft",
            "config/store@0.2.0-rc.1",
            *(f"keyvalue/{one}@0.2.0-draft" for one in ("store", "atomics", "batch")),
        )
    )
    assert load(from_core(None, f"{imports} export go: func();", DRAFTS)).functions() == {"go": "func()"}
    exports = (
        " use wasi:config/store@0.2.0-rc.1.{error}; export say: func(text: string);"
        " export setting: func(key: string) -> result<option<string>, error>;"
        " export add: func(store: string, key: string, delta: u64) -> u32;"
    )
    host = Answering({"log": None, "config": 2.5, "kv.get": b"40", "kv.set": None})
    plugin = load(from_core(compile_text(STORE), imports + exports, DRAFTS), host=host)

    plugin("say", ["careful"])
    assert host.asked[-1] == ("log", "warning", "context: careful")
    assert plugin("setting", ["ratio"]) == "2.5"
    assert plugin("add", ["default", "hits", 2]) == 42
    assert host.asked[-1] == ("kv.set", "hits", b"42")
    assert plugin("add", ["elsewhere", "hits", 2]) == 900
    host.answers["kv.get"] = b"words"
    assert plugin("add", ["", "hits", 2]) == 901
    host.answers["kv.get"] = HostRefused("permission", "no policy grants it")
    assert plugin("add", ["", "hits", 2]) == 901
