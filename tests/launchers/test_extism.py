"""Extism plugins in this very process: every function of kernel and host, and every rule of a call.

The plugins are WAT of our own against the published ABI. Where a plugin asks its host, a thread answers on a
real lane.
"""

import json
import os
import socket
import threading
from contextlib import contextmanager

import pytest
from frys_runtime.launchers import wasm
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.codec import unpack
from frys_runtime.launchers.failures import (
    BadArguments,
    BadArtifact,
    BadValue,
    LimitReached,
    NoSuchFunction,
    PluginRaised,
)
from frys_runtime.launchers.host import Host
from frys_runtime.launchers.serve import Lane
from wasm_build import compile_text

from frys_runtime import wire

MEMORY = 16 << 20
KERNEL = {
    "alloc": "(param i64) (result i64)",
    "free": "(param i64)",
    "length": "(param i64) (result i64)",
    "length_unsafe": "(param i64) (result i64)",
    "load_u8": "(param i64) (result i32)",
    "load_u64": "(param i64) (result i64)",
    "store_u8": "(param i64 i32)",
    "store_u64": "(param i64 i64)",
    "input_length": "(result i64)",
    "input_offset": "(result i64)",
    "input_load_u8": "(param i64) (result i32)",
    "input_load_u64": "(param i64) (result i64)",
    "input_set": "(param i64 i64)",
    "output_set": "(param i64 i64)",
    "output_offset": "(result i64)",
    "output_length": "(result i64)",
    "error_set": "(param i64)",
    "error_get": "(result i64)",
    "reset": "",
    "memory_bytes": "(result i64)",
}
HOST = {
    "config_get": "(param i64) (result i64)",
    "var_get": "(param i64) (result i64)",
    "var_set": "(param i64 i64)",
    "http_request": "(param i64 i64) (result i64)",
    "http_status_code": "(result i32)",
    "http_headers": "(result i64)",
    "log_trace": "(param i64)",
    "log_debug": "(param i64)",
    "log_info": "(param i64)",
    "log_warn": "(param i64)",
    "log_error": "(param i64)",
    "get_log_level": "(result i32)",
}
IMPORTS = "".join(
    f'(import "extism:host/env" "{name}" (func ${name} {kind}))' for name, kind in (KERNEL | HOST).items()
)
# What most plugins do: give a block as the output, and copy the input into a block of their own.
HELPERS = """
  (func $give (param $block i64)
    (call $output_set (local.get $block) (call $length (local.get $block))))
  (func $copy (result i64)
    (local $at i64) (local $block i64)
    (local.set $block (call $alloc (call $input_length)))
    (block $done (loop $again
      (br_if $done (i64.ge_u (local.get $at) (call $input_length)))
      (call $store_u8 (i64.add (local.get $block) (local.get $at)) (call $input_load_u8 (local.get $at)))
      (local.set $at (i64.add (local.get $at) (i64.const 1)))
      (br $again)))
    (local.get $block))
  (func $word (param $letters i64) (result i64)
    (local $block i64)
    (local.set $block (call $alloc (i64.const 8)))
    (call $store_u64 (local.get $block) (local.get $letters))
    (local.get $block))
"""
NAME = int.from_bytes(b"a name..", "little")


def build(functions: str, imports: str = "") -> bytes:
    """A plugin that imports everything, with these functions."""
    return compile_text(f"(module {IMPORTS} {imports} {HELPERS} {functions})")


def load(
    code: bytes, options: dict | None = None, host: Host | None = None, limit: int = MEMORY, **files: bytes
):
    """Load a plugin as the child does; further files are modules of its manifest."""
    contents = {name: memoryview(data) for name, data in {"a.wasm": code, **files}.items()}
    settings = {} if options is None else {"extism": options}
    return wasm.load(Artifact("tester", "a.wasm", contents, options=settings, memory_limit=limit, host=host))


def refusal(code: bytes, options: dict | None = None, **files: bytes) -> str:
    """Load what must not load, and return why."""
    with pytest.raises(BadArtifact) as caught:
        load(code, options, **files)
    return caught.value.message


@contextmanager
def answering(**answers):
    """A host at the other end of a real lane; an answer may be a value, a function, or an exception."""
    ours, theirs = socket.socketpair()
    lane, questions = Lane(ours.detach()), []
    host = Host(lane)
    host.begin()

    def serve() -> None:
        stream = theirs.makefile("rb")
        while head := stream.read(4):
            _, service, args = unpack(memoryview(stream.read(int.from_bytes(head))))
            questions.append((service, *args))
            answer = answers.get(service.replace(".", "_"), RuntimeError("permission"))
            if callable(answer):
                answer = answer(*args)
            refused = isinstance(answer, Exception)
            frame = [wire.REFUSAL, str(answer), "no"] if refused else [wire.ANSWER, answer]
            theirs.sendall(b"".join(wire.encode(frame)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield host, questions
    finally:
        lane.socket.close()
        thread.join()
        theirs.close()


# ---- bytes in and out


@pytest.fixture(scope="module")
def echo() -> bytes:
    return build(
        '(func (export "copy") (call $give (call $copy)))'
        ' (func (export "pass") (result i32)'
        "   (call $output_set (call $input_offset) (call $input_length)) (i32.const 0))"
    )


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64, 1 << 16, 1 << 20])
@pytest.mark.parametrize("function", ["copy", "pass"])
def test_bytes_come_back_as_they_went(echo, function, size):
    """Every size from nothing to a mebibyte, call after call."""
    plugin, data = load(echo), os.urandom(size)

    for _ in range(3):
        assert plugin(function, [data]) == data
    assert plugin(function, []) == b""
    assert plugin(function, ["größe"]) == "größe".encode()


def test_functions_are_listed(echo):
    """What needs no parameter can be called; initialisers and everything else cannot."""
    plugin = load(
        build(
            '(func (export "one")) (func (export "two") (result i32) (i32.const 0))'
            ' (func (export "three") (param i32)) (func (export "four") (result i64) (i64.const 0))'
            ' (func (export "_initialize"))'
        )
    )

    assert plugin.functions() == dict.fromkeys(("one", "two"), '(input: bytes = b"") -> bytes')
    with pytest.raises(NoSuchFunction, match="one, two"):
        plugin("three", [])


@pytest.mark.parametrize("args", [[1], [None], [b"a", b"b"], [[b"a"]], [{}]])
def test_only_bytes_go_in(echo, args):
    """Other values are the caller's mistake, and the instance lives on."""
    with pytest.raises(BadArguments, match="copy takes"):
        load(echo)("copy", args)


def test_output_that_is_nowhere_is_refused_or_ignored():
    """A plugin may name any place as its output; what lies outside of the memory is not taken."""
    plugin = load(build('(func (export "f") (call $output_set (i64.const 65530) (i64.const 100)))'))

    assert plugin("f", [b"x"]) == b""


def test_input_larger_than_the_memory(echo):
    """The kernel's memory has the plugin's limit."""
    plugin = load(echo, limit=1 << 20)
    with pytest.raises(LimitReached, match="no room for 2000000 bytes") as caught:
        plugin("pass", [bytes(2_000_000)])

    assert caught.value.resource == "memory"
    assert plugin("pass", [b"x"]) == b"x"


def test_two_plugins_of_one_process_do_not_mix(echo):
    """Each call runs in the session of its own plugin."""
    first, second = load(echo), load(echo)
    for number in range(3):
        assert first("copy", [b"first %d" % number]) == b"first %d" % number
        assert second("copy", [b"second %d" % number]) == b"second %d" % number


# ---- the kernel


def rules(*checks: str) -> str:
    """A function that returns the number of the first check that does not hold; 0 when all do."""
    lines = (
        f"(if (i32.eqz {check}) (then (return (i32.const {number}))))"
        for number, check in enumerate(checks, 1)
    )
    locals_ = "(local $a i64) (local $b i64) (local $c i64) (local $n i32)"
    return f'(func (export "f") (result i32) {locals_} {" ".join(lines)} (i32.const 0))'


def same(left: str, right: str | int) -> str:
    return f"(i64.eq {left} {right if isinstance(right, str) else f'(i64.const {right})'})"


def then(action: str, check: str = "(i32.const 1)") -> str:
    return f"(block (result i32) {action} {check})"


A, B, C = "(local.get $a)", "(local.get $b)", "(local.get $c)"


def set_(name: str, value: str) -> str:
    return f"(local.set ${name} {value})"


def alloc(size: int) -> str:
    return f"(call $alloc (i64.const {size}))"


def length(block: str) -> str:
    return f"(call $length {block})"


@pytest.mark.parametrize(
    "checks",
    [
        pytest.param(
            [
                same(alloc(0), 0),
                then(set_("a", alloc(100)), f"(i64.ne {A} (i64.const 0))"),
                same(length(A), 100),
                same(f"(call $length_unsafe {A})", 100),
                same(length(f"(i64.add {A} (i64.const 1))"), 0),
                same(length(f"(i64.add {A} (i64.const 16))"), 0),
                same(length(f"(i64.add {A} (i64.const 4096))"), 0),
                same(length("(i64.const 0)"), 0),
                same(length("(i64.const -16)"), 0),
                same(length(f"(i64.add {A} (i64.const 0x100000000))"), 0),
            ],
            id="only the beginning of a block has a length",
        ),
        pytest.param(
            [
                then(set_("a", alloc(1000)) + set_("b", alloc(1000))),
                then(f"(call $store_u64 {A} (i64.const -1)) (call $free {A})", same(length(A), 0)),
                same(alloc(900), A),
                same(length(A), 900),
                same(f"(call $load_u64 {A})", 0),
                then(f"(call $free {B}) (call $free {B}) (call $free (i64.const 0))", same(length(B), 0)),
                same(alloc(5000), B),
            ],
            id="freed room is used again, and comes empty",
        ),
        pytest.param(
            [
                then(
                    f"(loop $again {set_('a', alloc(3000))} {set_('b', alloc(50))} (call $free {A})"
                    f" {set_('a', alloc(2900))} (call $free {A}) (call $free {B})"
                    " (local.set $n (i32.add (local.get $n) (i32.const 1)))"
                    " (br_if $again (i32.lt_u (local.get $n) (i32.const 50000))))"
                ),
                same("(call $memory_bytes)", 65536),
            ],
            id="a long call does not grow by what it frees",
        ),
        pytest.param(
            [
                then(
                    f"(loop $again {set_('a', '(call $alloc (i64.extend_i32_u (local.get $n)))')}"
                    f" {set_('b', alloc(40))} (call $free {A}) (call $free {B})"
                    " (local.set $n (i32.add (local.get $n) (i32.const 1)))"
                    " (br_if $again (i32.lt_u (local.get $n) (i32.const 50000))))"
                ),
                same("(call $memory_bytes)", 65536),
            ],
            id="nor by what it frees in between",
        ),
        pytest.param(
            [
                then(set_("a", alloc(20_000)) + set_("b", alloc(20_000)) + set_("c", alloc(20_000))),
                then(f"(call $free {A}) (call $free {B})", same(alloc(39_000), A)),
                same(length(A), 39_000),
                same(length(B), 0),
                same(length(C), 20_000),
                f"(i64.lt_u {alloc(700)} {C})",
                same("(call $memory_bytes)", 65536),
            ],
            id="freed blocks side by side become one, and a large one is cut",
        ),
        pytest.param(
            [
                then(set_("a", alloc(8)), same("(call $load_u64 (i64.const 65529))", 0)),
                same("(call $load_u64 (i64.const -1))", 0),
                "(i32.eqz (call $load_u8 (i64.const 65536)))",
                "(i32.eqz (call $load_u8 (i64.const -1)))",
                then(
                    "(call $store_u64 (i64.const 65529) (i64.const -1))"
                    "(call $store_u64 (i64.const -4) (i64.const -1))"
                    "(call $store_u8 (i64.const 65536) (i32.const 1))"
                    "(call $store_u8 (i64.const -1) (i32.const 1))",
                    same("(call $load_u64 (i64.const 65528))", 0),
                ),
                then(
                    f"(call $store_u64 {A} (i64.const 0x0807060504030201))",
                    f"(i32.eq (call $load_u8 (i64.add {A} (i64.const 2))) (i32.const 3))",
                ),
                then(
                    f"(call $store_u8 {A} (i32.const 0x1ff))",
                    same(f"(call $load_u64 {A})", 0x08070605040302FF),
                ),
            ],
            id="nothing outside of the memory is read or written",
        ),
        pytest.param(
            [
                same("(call $input_length)", 9),
                same("(call $input_load_u64 (i64.const 1))", int.from_bytes(b"nput 123", "little")),
                same("(call $input_load_u64 (i64.const 2))", 0),
                same("(call $input_load_u64 (i64.const -1))", 0),
                "(i32.eq (call $input_load_u8 (i64.const 8)) (i32.const 51))",
                "(i32.eqz (call $input_load_u8 (i64.const 9)))",
                then(
                    set_("a", alloc(4)) + f"(call $input_set {A} (i64.const 4))",
                    same("(call $input_length)", 4),
                ),
                same("(call $input_offset)", A),
                same("(call $input_load_u64 (i64.const 0))", 0),
                then("(call $input_set (i64.const 65530) (i64.const 100))", same("(call $input_length)", 4)),
                then(f"(call $free {A})", same("(call $input_length)", 0)),
            ],
            id="the input ends where it ends",
        ),
        pytest.param(
            [
                then(set_("a", alloc(40)) + f"(call $output_set {A} (i64.const 3))"),
                same("(call $output_offset)", A),
                same("(call $output_length)", 3),
                then(f"(call $error_set {A})", same("(call $error_get)", A)),
                then("(call $error_set (i64.const 0x10000000000))", same("(call $error_get)", A)),
                then("(call $error_set (i64.const 0))", same("(call $error_get)", 0)),
                then("(call $reset)", same("(call $input_length)", 0)),
                same("(call $output_length)", 0),
                same(length(A), 0),
                same(alloc(16), 16),
            ],
            id="output, error and reset",
        ),
        pytest.param(
            [
                same(alloc(1 << 40), 0),
                same(alloc(-1), 0),
                same(alloc(17 << 20), 0),
                then(set_("a", alloc(10 << 20)), same(length(A), 10 << 20)),
                same(alloc(10 << 20), 0),
                then(set_("b", alloc(1 << 20)), same(length(B), 1 << 20)),
                same("(i64.rem_u (call $memory_bytes) (i64.const 65536))", 0),
            ],
            id="no room is 0",
        ),
    ],
)
def test_kernel(checks):
    """Each rule of the kernel, told by the plugin itself; in the second call as in the first."""
    plugin = load(build(rules(*checks)))

    for _ in range(3):
        assert plugin("f", [b"input 123"]) in (b"", b"\0\0\0")


def test_no_call_sees_the_memory_of_the_one_before():
    """A block comes empty although the last call wrote there."""
    plugin = load(
        build(f'(func (export "dirty") (drop (call $copy))) (func (export "clean") (call $give {alloc(64)}))')
    )
    plugin("dirty", [b"x" * 4096])

    assert plugin("clean", []) == bytes(64)


# ---- errors


FAILURES = """
  (func (export "fail") (result i32) (call $error_set (call $copy)) (i32.const 1))
  (func (export "moan") (result i32) (call $error_set (call $copy)) (i32.const 0))
  (func (export "code") (result i32) (i32.const -3))
  (func (export "trap") (result i32) (call $error_set (call $copy)) unreachable)
  (func (export "die") (call $error_set (i64.const 17)) unreachable)
  (global $calls (mut i32) (i32.const 0))
  (func (export "count")
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (call $give (call $word (i64.extend_i32_u (global.get $calls)))))
"""


@pytest.mark.parametrize(
    ("function", "message", "lives"),
    [
        ("fail", "it went wrong", True),
        ("moan", "it went wrong", True),
        ("code", "code returned the code -3, and no error text", True),
        ("trap", "it went wrong", False),
        ("die", "wasm trap: wasm `unreachable` instruction executed", False),
    ],
)
def test_failures(function, message, lives):
    """An error that the plugin leaves is its exception; only a trap ends the instance."""
    plugin = load(build(FAILURES))
    plugin("count", [])
    with pytest.raises(PluginRaised, match=f"^{message}$"):
        plugin(function, [b"it went wrong"])

    assert plugin("count", [])[0] == (2 if lives else 1)


def test_an_error_that_is_no_block_is_none():
    """As for Extism: without a text there is no error, and the output counts."""
    plugin = load(build('(func (export "f") (call $error_set (i64.const 24)) (call $give (call $copy)))'))

    assert plugin("f", [b"fine"]) == b"fine"


# ---- starting


REACTOR = '(func (export "_initialize") (call $note (i64.const 1)))'
CTORS = '(func (export "__wasm_call_ctors") (call $note (i64.const 2)))'
HASKELL = '(func (export "hs_init") (param i32 i32) (call $note (i64.const 3)))'
HASKELL_CODE = (
    '(func (export "hs_init") (param i32 i32) (result i32) (call $note (i64.const 3)) (i32.const 0))'
)


@pytest.mark.parametrize(
    ("functions", "order"),
    [
        (REACTOR, [1]),
        (REACTOR + CTORS, [2]),
        (REACTOR + CTORS + HASKELL, [1, 3]),
        (HASKELL_CODE, [3]),
        ('(func (export "_initialize") (param i32))', []),
        ("(func $s (call $note (i64.const 4))) (start $s)", [4]),
    ],
)
def test_initialisers_run_once_for_each_instance(functions, order):
    """hs_init after _initialize, else __wasm_call_ctors, else _initialize; never again by a call."""
    note = """(global $notes (mut i64) (i64.const 0))
      (func $note (param $n i64)
        (drop (call $var_get (call $word (i64.const 0))))
        (global.set $notes (i64.or (i64.shl (global.get $notes) (i64.const 8)) (local.get $n))))
      (func (export "notes") (call $give (call $word (global.get $notes))))
      (func (export "trap") unreachable)"""
    plugin = load(build(note + functions))
    expected = bytes(reversed(order)).ljust(8, b"\0")

    assert [plugin("notes", []) for _ in range(2)] == [expected] * 2
    with pytest.raises(PluginRaised):
        plugin("trap", [])
    assert plugin("notes", []) == expected


PROGRAM = """
  (memory (export "memory") 1)
  (global $calls (mut i64) (i64.const 0))
  (func $count
    (global.set $calls (i64.add (global.get $calls) (i64.const 1)))
    (call $give (call $word (global.get $calls))))
  (func (export "count") (call $count))
  (func (export "_start") (call $count))
  (func (export "leave") (call $count) (call $exit (i32.const 0)))
  (func (export "fail") (call $count) (call $exit (i32.const 7)))
"""


@pytest.mark.parametrize(
    ("function", "error"), [("_start", ""), ("leave", ""), ("fail", "returned the code 7")]
)
def test_what_a_program_leaves_is_not_used_again(function, error):
    """After _start, and after an exit, the next call finds a fresh instance; exit code 0 is a result."""
    plugin = load(build(PROGRAM, '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'))
    assert [plugin("count", [])[0] for _ in range(2)] == [1, 2]
    if error:
        with pytest.raises(PluginRaised, match=error):
            plugin(function, [])
    else:
        assert plugin(function, [])[0] == 3
    assert plugin("count", [])[0] == 1


# ---- settings, variables, the log


def test_settings_come_from_the_host():
    """Text as it is, numbers and truths as text; what is not there, or not granted, is nothing."""
    plugin_code = build('(func (export "f") (call $give (call $config_get (call $copy))))')
    settings = {
        "text": "größe",
        "number": 1.5,
        "whole": 3,
        "on": True,
        "off": False,
        "none": None,
        "list": [1],
    }
    with answering(config=settings.get) as (host, questions):
        plugin = load(plugin_code, host=host)
        answers = {key: plugin("f", [key]).decode() for key in (*settings, "missing") if key != "list"}
        with pytest.raises(PluginRaised, match="the setting 'list' is a list"):
            plugin("f", ["list"])

    expected = {"text": "größe", "number": "1.5", "whole": "3", "on": "true", "off": "false"}
    assert answers == {**expected, "none": "", "missing": ""}
    assert questions[0] == ("config", "text")
    assert load(plugin_code)("f", ["text"]) == b""


VARIABLES = f"""
  (func (export "put") (call $var_set (call $word (i64.const {NAME})) (call $copy)))
  (func (export "get") (call $give (call $var_get (call $word (i64.const {NAME})))))
  (func (export "drop") (call $var_set (call $word (i64.const {NAME})) (i64.const 0)))
  (func (export "by_name") (call $var_set (call $copy) (call $word (i64.const 1))))
  (func (export "trap") unreachable)
"""


def test_variables_stay_from_call_to_call():
    """As long as the instance; they are set, replaced and removed."""
    plugin = load(build(VARIABLES))
    assert plugin("get", []) == b""
    plugin("put", [b"one"])
    plugin("put", [b"two\0"])
    assert [plugin("get", []) for _ in range(2)] == [b"two\0"] * 2
    plugin("drop", [])
    assert plugin("get", []) == b""
    plugin("put", [b"three"])
    with pytest.raises(PluginRaised):
        plugin("trap", [])
    assert plugin("get", []) == b""


def test_variables_are_bounded():
    """Names and values together have a size, by default a mebibyte; 0 is none at all."""
    plugin = load(build(VARIABLES))
    plugin("put", [bytes(1_000_000)])
    plugin("put", [bytes(1_000_001)])
    with pytest.raises(PluginRaised, match="may take 1048576"):
        plugin("put", [bytes(1 << 20)])
    small = load(build(VARIABLES), {"max_var_bytes": 100})
    small("put", [bytes(44)])
    with pytest.raises(PluginRaised, match="would take 101 bytes, and may take 100"):
        small("put", [bytes(45)])
    with pytest.raises(PluginRaised, match="turns variables off"):
        load(build(VARIABLES), {"max_var_bytes": 0})("put", [b"x"])


def test_names_are_text():
    """A variable's name must be UTF-8."""
    with pytest.raises(BadValue, match="not UTF-8"):
        load(build(VARIABLES))("by_name", [b"\xff\xfe"])


def test_log():
    """Five levels reach the host; that nobody listens does not fail a plugin."""
    levels = ("trace", "debug", "info", "warn", "error")
    code = build("".join(f'(func (export "{level}") (call $log_{level} (call $copy)))' for level in levels))
    with answering(log=None) as (host, questions):
        plugin = load(code, host=host)
        for level in levels:
            plugin(level, [f"grüße: {level}"])
        plugin("info", [b"\xff"])

    assert questions == [
        *(("log", "warning" if level == "warn" else level, f"grüße: {level}") for level in levels),
        ("log", "info", "\ufffd"),
    ]
    assert load(code)("error", [b"to nobody"]) == b""


def test_log_level_is_the_lowest():
    """The host's logger decides what to keep, so a plugin may say everything."""
    plugin = load(build('(func (export "f") (result i32) (call $get_log_level))'))

    assert plugin("f", []) == b""


@pytest.mark.parametrize("argument", ["(i64.const 5)", "(i64.const 16)", "(i64.const -1)"])
@pytest.mark.parametrize("function", ["config_get", "var_get"])
def test_handles_are_checked(function, argument):
    """What is passed to the host must be the beginning of a block."""
    plugin = load(build(f'(func (export "f") (drop (call ${function} {argument})))'))

    with pytest.raises(BadValue, match="no block of its memory begins there"):
        plugin("f", [])


def test_the_host_owns_what_it_is_passed():
    """A key is freed by the function that it is passed to."""
    freed = rules(
        then(
            set_("a", f"(call $word (i64.const {NAME}))") + f"(drop (call $var_get {A}))", same(length(A), 0)
        ),
    )

    assert load(build(freed))("f", []) == b""


def test_a_long_call_does_not_grow_by_what_it_gives_away():
    """What the host frees is used again before the memory would grow."""
    often = rules(
        then(
            "(loop $again"
            f" {set_('a', '(call $alloc (i64.extend_i32_u (i32.and (local.get $n) (i32.const 8191))))')}"
            f" (if (i64.ne {A} (i64.const 0)) (then (call $log_info {A})))"
            " (local.set $n (i32.add (local.get $n) (i32.const 1)))"
            " (br_if $again (i32.lt_u (local.get $n) (i32.const 20000))))"
        ),
        same("(call $memory_bytes)", 65536),
    )

    assert load(build(often))("f", []) == b""


def test_a_key_that_the_plugin_frees_as_well():
    """The block that answers is another one than the key's, so it stays: Haskell's kit frees keys twice."""
    twice = (
        f'(func (export "f") (local $a i64) (local $b i64) {set_("a", f"(call $word (i64.const {NAME}))")}'
        f" {set_('b', f'(call $config_get {A})')} (call $free {A}) (call $give {B}))"
    )
    with answering(config="Howdy") as (host, _):
        assert load(build(twice), host=host)("f", []) == b"Howdy"


def test_a_variable_whose_name_is_its_value():
    """One block for both is read twice, and freed."""
    both = rules(
        set_("a", f"(call $word (i64.const {NAME}))") + f"(call $var_set {A} {A})" + f"{same(length(A), 0)}",
        then(
            set_("b", f"(call $word (i64.const {NAME}))") + set_("c", f"(call $var_get {B})"),
            same(f"(call $load_u64 {C})", NAME),
        ),
    )

    assert load(build(both))("f", []) == b""


# ---- HTTP


HTTP = """
  (func (export "get") (call $give (call $http_request (call $copy) (i64.const 0))))
  (func (export "post") (drop (call $http_request (call $copy) (call $copy))))
  (func (export "status") (result i32) (call $http_status_code))
  (func (export "headers") (call $give (call $http_headers)))
"""
HEADERS = {"content-type": "text/plain", 'quoted"': "ü\n"}
ANSWER = {"status": 404, "headers": HEADERS, "body": b"not here"}


def ask(**request: object) -> str:
    return json.dumps({"url": "https://example.com/a", **request})


def test_http_goes_to_the_host():
    """Method, headers and body; then the answer's body, status and headers, until the next request."""
    with answering(http=ANSWER) as (host, questions):
        plugin = load(build(HTTP), host=host)
        assert plugin("headers", []) == b""
        assert plugin("get", [ask(headers={"a": "b"}) + "\n "]) == b"not here"
        with pytest.raises(PluginRaised, match="the code 404"):
            plugin("status", [])
        assert json.loads(plugin("headers", [])) == HEADERS
        plugin("post", [ask(method="post")])

    url = "https://example.com/a"
    assert questions == [
        ("http", {"method": "GET", "url": url, "headers": {"a": "b"}, "body": None}),
        ("http", {"method": "POST", "url": url, "headers": {}, "body": ask(method="post").encode()}),
    ]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ("no json", "is not JSON"),
        ("[1]", "has no url"),
        ('{"url": 1}', "has no url"),
        ('{"method": "GET"}', "has no url"),
        (ask(timeout=1), "unknown key 'timeout'"),
        (ask(headers={"a": 1}), "headers of an HTTP request are strings"),
        (ask(headers=[]), "headers are an object"),
        (ask(method=1), "method of an HTTP request is a string"),
        ("[" * 100_000, "is not JSON"),
        (ask()[:-1], "is not JSON"),
        (ask() + "x", "with 1 characters too many"),
        (b'{"url": "\xff"}', "is not JSON"),
    ],
)
def test_wrong_request(request_, reason):
    """Nothing that is no request reaches the host."""
    with answering(http=ANSWER) as (host, questions):
        with pytest.raises(PluginRaised, match=reason):
            load(build(HTTP), host=host)("get", [request_])
        assert questions == []


def test_refused_http_fails_the_call():
    """A host that does not grant it is told of, with the address."""
    with pytest.raises(PluginRaised, match=r"the HTTP request to https://example\.com/a failed: "):
        load(build(HTTP))("get", [ask()])


@pytest.mark.parametrize(
    ("hosts", "url", "allowed"),
    [
        (["example.com"], "https://example.com/", True),
        (["*.example.com"], "https://api.Example.com:8443/x?y=z", True),
        (["*"], "http://localhost", True),
        ([], "https://example.com/", False),
        (["api?.*.com"], "https://api1.b.c.com/", True),
        (["api?.*.com"], "https://api.b.com/", False),
        (["[2001:db8::1]"], "http://[2001:db8::1]/", True),
        (["example.com"], "https://example.com.evil.net/", False),
        (["example.com"], "https://example.com@evil.net/", False),
        (["*.example.com"], "https://example.com/", False),
    ],
)
def test_a_manifest_binds_its_plugin(hosts, url, allowed):
    """allowed_hosts holds before the host is asked at all."""
    with answering(http=ANSWER) as (host, questions):
        plugin = load(build(HTTP), {"allowed_hosts": hosts}, host=host)
        if allowed:
            assert plugin("get", [json.dumps({"url": url})]) == b"not here"
        else:
            with pytest.raises(PluginRaised, match="not allowed by the allowed_hosts"):
                plugin("get", [json.dumps({"url": url})])
    assert len(questions) == allowed


def test_response_is_bounded():
    """max_http_response_bytes of the manifest holds."""
    with answering(http=ANSWER) as (host, _):
        plugin = load(build(HTTP), {"max_http_response_bytes": 7}, host=host)
        with pytest.raises(PluginRaised, match="has 8 bytes, and the plugin takes 7"):
            plugin("get", [ask()])


# ---- functions of the host program


SHOUT = """
  (import "extism:host/user" "shout" (func $shout (param i64) (result i64)))
  (import "shop" "price" (func $price (param i32 f32 f64 i64) (result f64)))
"""
USER = """
  (func (export "shout") (call $give (call $shout (call $copy))))
  (func (export "price") (call $give (call $word (i64.reinterpret_f64
    (call $price (i32.const -5) (f32.const 0.5) (f64.const 2.25) (call $copy))))))
"""


def test_functions_of_the_host_program():
    """Blocks arrive as bytes and numbers as numbers, from every namespace; so do results."""
    calls = {"shout": lambda args: args[0].upper(), "price": lambda _: 9.5}
    with answering(
        host_types={"shout": None, "price": None, "other": None}, host=lambda name, args: calls[name](args)
    ) as (
        host,
        questions,
    ):
        plugin = load(build(USER, SHOUT), host=host)
        assert plugin("shout", [b"hello"]) == b"HELLO"
        assert plugin("price", [b"shoe"]) == b"\0\0\0\0\0\0\x23\x40"

    assert questions[1:] == [("host", "shout", [b"hello"]), ("host", "price", [-5, 0.5, 2.25, b"shoe"])]


def test_types_that_a_function_of_the_host_program_declares():
    """A number in an i64 is no block, where the function says that it takes one; text arrives as text."""
    imports = """
      (import "extism:host/user" "times" (func $times (param i64 i64) (result i64)))
      (import "extism:host/user" "greet" (func $greet (param i64) (result i64)))"""
    functions = """
      (func (export "times") (call $give (call $word (call $times (i64.const 42) (i64.const -2)))))
      (func (export "greet") (call $give (call $greet (call $copy))))"""
    calls = {"times": lambda args: args[0] * args[1], "greet": lambda args: "hello " + args[0]}
    with answering(
        host_types={"times": ["int", "number"], "greet": ["string"]},
        host=lambda name, args: calls[name](args),
    ) as (host, questions):
        plugin = load(build(functions, imports), host=host)
        assert plugin("times", []) == (-84).to_bytes(8, "little", signed=True)
        assert plugin("greet", ["größe"]) == "hello größe".encode()
        with pytest.raises(BadValue, match="not UTF-8"):
            plugin("greet", [b"\xff"])

    assert questions[1:] == [("host", "times", [42, -2]), ("host", "greet", ["größe"])]


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("größe", "größe".encode()),
        (b"", b""),
        (None, b""),
        (1.5, "returned float for a result of type i64"),
        ([b"x"], "returned list for a result of type i64"),
        (RuntimeError("failed"), "the host's function shout failed: no"),
    ],
)
def test_results_of_the_host_program(value, outcome):
    """Text and bytes become a block, nothing is no block; all else, and a refusal, fails the call."""
    with answering(host_types={"shout": None, "price": None}, host=lambda *_: value) as (host, _):
        plugin = load(build(USER, SHOUT), host=host)
        if isinstance(outcome, bytes):
            assert plugin("shout", [b"x"]) == outcome
        else:
            with pytest.raises(PluginRaised, match=outcome):
                plugin("shout", [b"x"])


def test_what_nobody_provides_is_named():
    """All missing imports at once, with their types; the kernel's inside is nothing to import."""
    reason = refusal(
        compile_text(
            '(module (import "extism:host/env" "begin" (func (param i64) (result i64)))'
            ' (import "extism:host/env" "memory" (memory 1)) (import "extism:host/env" "later" (func))'
            ' (import "extism:host/env" "alloc" (func (param i32) (result i32)))'
            ' (import "extism:host/user" "shout" (func (param i64) (result i64))) (func (export "f")))'
        )
    )

    assert reason == (
        "the plugin imports what nobody provides: extism:host/env.begin ((i64) -> i64), "
        "extism:host/env.memory (memory), extism:host/env.later (() -> ()), "
        "extism:host/env.alloc ((i32) -> i32), extism:host/user.shout ((i64) -> i64)"
    )


def test_names_that_the_host_does_not_grant():
    """An import is provided only when the host says so while the plugin loads."""
    with (
        answering(host_types={"price": None}) as (host, _),
        pytest.raises(BadArtifact, match=r"extism:host/user\.shout"),
    ):
        load(build(USER, SHOUT), host=host)


# ---- several modules


LIBRARY = """(module
  (import "extism:host/env" "input_length" (func $input_length (result i64)))
  (global $n (mut i64) (i64.const 0))
  (func (export "_initialize") (global.set $n (i64.const 40)))
  (func (export "next") (result i64)
    (global.set $n (i64.add (global.get $n) (call $input_length))) (global.get $n)))"""
MAIN = build(
    '(func (export "f") (call $give (call $word (call $next))))',
    '(import "lib" "next" (func $next (result i64)))',
)


def test_modules_are_linked_by_their_names():
    """A second module is initialised, shares the kernel and keeps its state."""
    plugin = load(MAIN, {"modules": {"lib": "b.wasm"}}, **{"b.wasm": compile_text(LIBRARY)})

    assert [plugin("f", [b"ab"])[0] for _ in range(3)] == [42, 44, 46]
    assert plugin.functions().keys() == {"f"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"modules": {"other": "b.wasm"}}, r"nobody provides: lib.next (() -> i64)"),
        ({"modules": {"lib": "c.wasm"}}, "'c.wasm' of the module 'lib' is not among the plugin's files"),
        ({"modules": {"extism:host/env": "b.wasm"}}, "a namespace of the host's"),
        ({"modules": {"wasi_snapshot_preview1": "b.wasm"}}, "a namespace of the host's"),
        ({"modules": {"lib": 1}}, "is not among the plugin's files"),
        ({"modules": []}, "wasm.extism.modules is unknown or of the wrong type"),
        ({"max_pages": -1}, "wasm.extism.max_pages"),
        ({"max_pages": True}, "wasm.extism.max_pages"),
        ({"allowed_hosts": "*"}, "wasm.extism.allowed_hosts"),
        ({"allowed_paths": {"/srv": ""}}, "wasm.extism.allowed_paths"),
        (
            {"modules": {"lib": "b.wasm"}, "allowed_paths": {"/srv": "/data"}},
            "it wants the folder /srv, which its policy does not grant to be written",
        ),
        ({"hosts": []}, "known are modules, allowed_hosts, allowed_paths, max_pages"),
        (7, "wasm.extism must be an object"),
    ],
)
def test_wrong_options(options, reason):
    """The section of plugin.json is read strictly."""
    assert reason in refusal(MAIN, options, **{"b.wasm": compile_text(LIBRARY)})


def test_modules_in_a_circle_are_refused():
    """Two modules that import each other cannot both come first."""
    one = compile_text('(module (import "two" "f" (func)) (func (export "f")))')
    two = compile_text('(module (import "one" "f" (func)) (func (export "f")))')
    options = {"modules": {"one": "one.wasm", "two": "two.wasm"}}

    assert "in a circle" in refusal(
        build('(func (export "f"))'), options, **{"one.wasm": one, "two.wasm": two}
    )


def test_module_beside_that_traps_is_refused():
    """What fails while it starts, fails the load, whichever module it is."""
    broken = compile_text('(module (func (export "_initialize") unreachable))')

    reason = refusal(build('(func (export "f"))'), {"modules": {"lib": "b.wasm"}}, **{"b.wasm": broken})
    assert reason.startswith("start function trapped")


def test_a_module_in_the_place_of_the_host_program():
    """A module of the manifest can have the namespace in which plugins look for functions of their host."""
    upper = """(module
      (import "extism:host/env" "load_u8" (func $load (param i64) (result i32)))
      (import "extism:host/env" "store_u8" (func $store (param i64 i32)))
      (func (export "shout") (param $block i64) (result i64)
        (call $store (local.get $block) (i32.sub (call $load (local.get $block)) (i32.const 32)))
        (local.get $block)))"""
    code = build(
        '(func (export "shout") (call $give (call $shout (call $copy))))',
        '(import "extism:host/user" "shout" (func $shout (param i64) (result i64)))',
    )
    files = {"b.wasm": compile_text(upper)}

    plugin = load(code, {"modules": {"extism:host/user": "b.wasm"}}, **files)
    assert plugin("shout", [b"hello"]) == b"Hello"


def test_max_pages_bound_what_memory_grows_by():
    """A manifest can give less memory than the policy, not more; it counts from the start on."""
    code = build(f'(func (export "f") (call $give {alloc(300_000)}))')

    assert load(code, {"max_pages": 4})("f", []) == bytes(300_000)
    assert load(code, {"max_pages": 3})("f", []) == b""
    assert load(code, {"max_pages": 0})("f", []) == b""
    assert load(code, {"max_pages": 100}, limit=5 << 16)("f", []) == b""


def test_max_pages_bound_what_memory_a_plugin_starts_with():
    """As much as they say may be there at the start, and as much again when it has grown."""
    code = build(
        '(memory (export "memory") 5)'
        '(func (export "enough") (result i32) (i32.sub (memory.grow (i32.const 5)) (i32.const 5)))'
        '(func (export "more") (result i32) (i32.add (memory.grow (i32.const 1)) (i32.const 1)))'
    )

    plugin = load(code, {"max_pages": 5})
    assert [plugin(name, []) for name in ("enough", "more")] == [b"", b""]
    with pytest.raises(LimitReached, match="asks for too much"):
        load(code, {"max_pages": 4})


def test_a_module_without_imports_is_an_extism_plugin_by_its_manifest():
    """What needs nothing of Extism's is called as Extism would, when plugin.json says so."""
    code = compile_text('(module (func (export "f") (result i32) (i32.const 4)))')

    assert load(code)("f", []) == 4
    with pytest.raises(PluginRaised, match="f returned the code 4"):
        load(code, {})("f", [])


def test_nothing_callable_is_refused():
    """A plugin with no function to call is a mistake that is told while loading."""
    assert "no function that can be called" in refusal(build('(func (export "f") (param i32))'))


def test_a_plugin_that_gives_up_with_full_memory_has_reached_the_limit():
    """Alloc answers 0, the plugin's runtime aborts: that is the memory limit, not a bug."""
    hoard = f"(loop $again {set_('a', alloc(1 << 20))} (br_if $again (i64.ne {A} (i64.const 0))))"
    plugin = load(build(f'(func (export "f") (local $a i64) {hoard} unreachable)'))

    with pytest.raises(LimitReached, match="memory full") as caught:
        plugin("f", [])
    assert caught.value.resource == "memory"


def test_nothing_is_lost_over_many_instances(echo):
    """A plugin whose instance ends again and again does not grow."""
    plugin = load(build(FAILURES))

    def trap_often() -> int:
        for _ in range(200):
            with pytest.raises(PluginRaised):
                plugin("trap", [b"x"])
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    trap_often()
    before = trap_often()

    assert max(trap_often() for _ in range(4)) - before < 4 << 20


def test_inspection_tells_what_is_provided():
    """`frys inspect` sees the kernel's and the host's functions as provided, and the rest as missing."""
    code = build('(func (export "f"))', SHOUT)
    files, options = {"a.wasm": memoryview(code)}, {"inspect": True}
    facts = wasm.load(Artifact("tester", "a.wasm", files, options=options))("inspect", [])

    assert facts["abi"] == "Extism plugin"
    assert {one["name"] for one in facts["imports"] if not one["provided"]} == {"shout", "price"}
    assert len(facts["imports"]) == len(KERNEL | HOST) + 2
