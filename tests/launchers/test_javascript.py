"""The JavaScript launcher, with the real engine in this process and in forked children."""

import gc
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from frys_runtime.launchers import codec, javascript, javascript_api, javascript_values
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.failures import BadArtifact, BadValue, LimitReached, NoSuchFunction, PluginRaised
from hypothesis import given, strategies as st
from javascript_build import call, run_child, start, start_fixture

from frys_runtime import wire

ROOT = Path(__file__).parents[2]


@pytest.fixture
def text():
    """The plugin of fixtures/javascript/text.js."""
    plugin = start_fixture("text.js")
    yield plugin
    plugin.close()


@pytest.fixture(scope="module")
def results():
    """A plugin whose results are awkward to read."""
    plugin = start_fixture("hostile/results.js")
    yield plugin
    plugin.close()


# values


VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**31 - 1,
    -(2**31),
    2**31,
    2**53,
    -(2**53),
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**63),
    0.5,
    -1e300,
    math.inf,
    "",
    "text",
    "a\0b",
    "é€😀",
    "x" * 10_000,
    b"",
    b"\0\xff",
    [],
    {},
    [1, [2, [None, "three"]], b"four"],
    {"": 1, "a\0b": {"__proto__": [1], "constructor": 2, "0": "index"}},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_comes_back_as_it_went(text, value):
    """What the host sends and gets back is equal and of the same type."""
    result = text("echo", [value])
    assert result == value
    assert type(result) is type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False).filter(lambda number: not number.is_integer())
    | st.text(st.characters(codec="utf-8"))
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=30,
)


@given(plain)
def test_any_nest_of_values_comes_back(value):
    """Lists and dicts of any shape cross the border twice unharmed."""
    assert ECHO("echo", [value]) == value


ECHO = start_fixture("text.js")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("undefined", None),
        ("1.0", 1),
        ("4294967295", 2**32 - 1),
        ("2**53", 2**53),
        ("2**53 + 2", float(2**53 + 2)),
        ("5n", 5),
        ("-(2n ** 63n)", -(2**63)),
        ("2n ** 64n - 1n", 2**64 - 1),
        ("'a'.repeat(9000) + 'b'.repeat(9000)", "a" * 9000 + "b" * 9000),
        ("'\\ud83d'", "\ufffd"),
        ("'x\\udc00y'", "x\ufffdy"),
        ("'\\ud83d' + '\\ude00'", "😀"),
        ("[1,,3]", [1, None, 3]),
        ("({ a: undefined, [Symbol('s')]: 1 })", {"a": None}),
        ("Object.create({ inherited: 1 }, { hidden: { value: 1 } })", {}),
        ("new (class Point { x = 1; get y() { return 2 } })", {"x": 1}),
        ("new Float32Array([1])", b"\0\0\x80\x3f"),
        ("new Uint8ClampedArray([300])", b"\xff"),
        ("new Uint16Array(new Uint8Array([1, 2, 3, 4, 5, 6]).buffer, 2, 1)", b"\x03\x04"),
        ("new Uint8Array([1, 2, 3]).subarray(1)", b"\x02\x03"),
        ("new Uint8Array([1, 2]).buffer", b"\x01\x02"),
        ("new Uint8Array(new SharedArrayBuffer(2))", b"\0\0"),
    ],
)
def test_a_result_is_read_as_the_table_says(expression, expected):
    """JavaScript values without a twin in the host arrive as the documented type."""
    result = call(f"function f() {{ return {expression} }}")
    assert result == expected
    assert type(result) is type(expected)


def test_odd_floats_survive():
    """NaN stays NaN and the sign of zero stays."""
    assert math.isnan(call("const f = () => NaN"))
    assert math.copysign(1, call("const f = () => -0")) == -1
    assert math.copysign(1, ECHO("echo", [-0.0])) == -1


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("() => 1", "the result is of type Function"),
        ("class {}", "the result is of type Function"),
        ("Symbol('s')", "the result is of type Symbol"),
        ("new Date()", r"Date, which cannot travel; return its toISOString\(\) or getTime\(\)"),
        ("new Map([['a', 1]])", r"return Object.fromEntries\(map\)"),
        ("new Set([1])", r"return Array.from\(set\)"),
        ("new Error('e')", "throw it instead"),
        ("[Promise.resolve(1)]", r"the result\[0\] is of type Promise"),
        ("new Proxy([], {})", "Proxy"),
        ("/a/", "RegExp"),
        ("new String('s')", "String"),
        ("new DataView(new ArrayBuffer(1))", "DataView"),
        ("2n ** 64n", "BigInt outside of 64 bits"),
        ("-(2n ** 63n) - 1n", "BigInt outside of 64 bits"),
        ("10n ** 1000n", "BigInt outside of 64 bits"),
        ("({ a: [1, { b: () => 1 }] })", r"the result\['a'\]\[1\]\['b'\] is of type Function"),
    ],
)
def test_what_cannot_travel_is_named_with_its_path(expression, reason):
    """A result of another type is refused with the place where it stands and what to do."""
    with pytest.raises(BadValue, match=reason):
        call(f"function f() {{ return {expression} }}")


@pytest.mark.parametrize("levels", [64, 65, 10_000])
def test_depth_is_bounded(results, levels):
    """64 lists within each other are read, one more is refused."""
    if levels == 64:
        assert str(results("nested", [levels])).count("[") == 64
    else:
        with pytest.raises(BadValue, match="nested deeper than 64 levels"):
            results("nested", [levels])


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("cycle", r"the result\[0\]\['list'\] contains itself"),
        ("explosion", "has more than 999,000 values"),
        ("sparse", "has more than 999,000 values"),
        ("proxy", "Proxy"),
    ],
)
def test_a_result_without_end_is_refused(results, function, reason):
    """Cycles, huge arrays and Proxies end in BadValue and run nothing."""
    with pytest.raises(BadValue, match=reason):
        results(function, [])


def test_a_result_that_changes_while_it_is_read(results):
    """Getters may change what they stand in, and resized buffers show what they hold now."""
    assert results("shrinking", []) == ["gone", None, None]
    assert results("grown", []) == bytes(8)
    assert results("shrunk", []) == bytes(2)
    for function in ("detached", "outside"):
        with pytest.raises(PluginRaised, match="detached or resized"):
            results(function, [])


def test_a_getter_that_throws_or_hangs(results):
    """What a getter of the result throws is the plugin's exception, and it cannot outlive the deadline."""
    with pytest.raises(PluginRaised, match="Error: from a getter") as raised:
        results("getter", [])
    assert "results.js" in raised.value.detail
    results.deadline = time.monotonic() + 0.05
    with pytest.raises(LimitReached, match="deadline"):
        results("endlessGetter", [])
    results.deadline = 0.0


def test_large_bytes_come_back(text):
    """A mebibyte goes in and out byte by byte equal."""
    data = os.urandom(1 << 20)
    assert text("echo", [data]) == data


# functions


def test_script_functions(text):
    """Functions and constants at the top level of a script can be called and are listed with parameters."""
    assert text("upper", ["grün".encode()]) == "GRÜN".encode()
    assert text("countWords", ["one two one"]) == {"one": 2, "two": 1}
    assert text.functions() == {
        "echo": "echo(value)",
        "upper": "upper(bytes)",
        "countWords": "countWords(text)",
        "later": "async later(value)",
        "say": "say(...values)",
        "fail": "fail(message)",
    }


def test_module_functions():
    """Exports of a module can be called, its other functions cannot; files import each other."""
    plugin = start_fixture("module", "main.mjs")
    assert plugin("summary", [[1, 2, 3]]) == {"count": 3, "mean": 2}
    assert plugin("default", [[1, 3]]) == 1
    assert plugin("visible", []) == "function"
    assert plugin.functions().keys() == {"default", "summary", "visible"}
    with pytest.raises(NoSuchFunction):
        plugin("hidden", [])
    plugin.close()


NO_FUNCTIONS = ["nope", "eval", "parseInt", "toString", "echo()", "echo;1", "", "this", "\ud800"]


@pytest.mark.parametrize("name", NO_FUNCTIONS)
def test_other_names_are_no_functions(text, name):
    """The language's own functions, expressions and odd names are not offered."""
    with pytest.raises(NoSuchFunction, match="the plugin offers: countWords, echo"):
        text(name, ["1"])


def test_a_plugin_may_reuse_builtin_names():
    """A function that the plugin defines wins over the language's own of the same name."""
    assert call("function parseInt() { return 'mine' }", function="parseInt") == "mine"
    assert call("const escape = () => 'mine'", function="escape") == "mine"


def test_the_kind_of_file_is_detected():
    """Import and export make a module, strict rules come with it, and everything else is a script."""
    assert call("function f() { return this === undefined }") is False
    assert call("export function f() { return this === undefined }") is True
    assert call("function f() { return this === undefined }\nexport { f }") is True
    assert call("const x = await Promise.resolve(7); export const f = () => x") == 7
    assert call("with ({ a: 1 }) { var b = a }\nfunction f() { return b }") == 1
    with pytest.raises(NoSuchFunction):
        call("function f() {}", name="plugin.mjs")


def test_a_byte_order_mark_and_a_shebang_are_allowed():
    """Two things that stand before the first statement of real files do no harm."""
    assert call("\ufefffunction f() { return 1 }") == 1
    assert call("#!/usr/bin/env node\nfunction f() { return 1 }") == 1


def test_an_async_function_is_awaited(text):
    """The result of a promise arrives, and so does its rejection."""
    assert text("later", [b"x"]) == {"value": b"x", "done": True}
    with pytest.raises(PluginRaised, match="TypeError: no") as raised:
        call("async function f() { await null; throw new TypeError('no') }")
    assert "at f (plugin.js" in raised.value.detail


def test_a_promise_that_never_settles():
    """A promise that nothing can settle is an error, not a hang."""
    with pytest.raises(
        PluginRaised, match=r"f\(\) waits for a promise that nothing can settle any more: no work is left"
    ):
        call("const f = () => new Promise(() => {})")
    with pytest.raises(PluginRaised, match=r"the top level of plugin\.js waits for a promise"):
        start("await new Promise(() => {}); export const f = 1")


def test_a_throwing_microtask():
    """What a queued job throws fails the call, as nobody else could hear of it."""
    with pytest.raises(PluginRaised, match="Error: from a job"):
        call("function f() { queueMicrotask(() => { throw new Error('from a job') }); return 1 }")


def test_many_arguments():
    """More arguments than the launcher prepares room for arrive, too."""
    assert call("const f = (...all) => all", *range(200)) == list(range(200))


# exceptions


def test_an_exception_carries_message_and_stack(text):
    """The plugin's own message and stack arrive."""
    with pytest.raises(PluginRaised) as raised:
        text("fail", ["the reason"])
    assert raised.value.message == "TypeError: the reason"
    assert "at fail (text.js:" in raised.value.detail


@pytest.mark.parametrize(
    ("value", "message"),
    [("text", "text"), (5, "5"), ({"code": 1}, '{"code":1}'), ("x" * 100_000, "x" * 4096)],
    ids=["str", "int", "object", "long"],
)
def test_anything_can_be_thrown(results, value, message):
    """A thrown value that is no Error is shown as text, within bounds."""
    with pytest.raises(PluginRaised) as raised:
        results("throwsValue", [value])
    assert raised.value.message == message


def test_an_exception_that_defends_itself(results):
    """An error whose text throws or hangs is still reported."""
    with pytest.raises(PluginRaised, match="cannot be read"):
        results("throwsItself", [])
    for function in ("throwsEndless", "throwsProxy"):
        results.deadline = time.monotonic() + 0.05
        with pytest.raises(LimitReached, match="deadline"):
            results(function, [])
    results.deadline = 0.0


# loading


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "plugin.js is empty"),
        (" \n", "plugin.js is empty"),
        (b"\xff\xfe\0", "plugin.js:1: not UTF-8"),
        (b"ok()\n\xff", "plugin.js:2: not UTF-8"),
        (b"\x7fELF\x02\x01", "plugin.js:1: SyntaxError"),
        (b"\0asm\x01\0\0\0", "plugin.js:1: SyntaxError"),
        ("function f() {", "plugin.js:1: SyntaxError"),
        ("\n\nlet x = 'abc\n", "plugin.js:3: SyntaxError"),
        ("export function f() {\n  return 1 +\n}", "plugin.js:3: SyntaxError"),
        ("with ({}) {}\nfoo bar", "plugin.js:2: SyntaxError"),
        ("(" * 100_000, "Maximum call stack size exceeded"),
        ("import fs from 'fs'", r"plugin.js imports 'fs', a module of Node, which is not here"),
        ("import x from 'lib.js'", "plugin.js imports 'lib.js', but the plugin has no package 'lib.js'"),
        ("import x from '/nope.js'", "but the plugin has no file 'nope.js'"),
        (
            "import x from 'https://example.com/x.js'",
            "only files of the plugin can be imported, never an address",
        ),
        ("import x from './nope.js'", "but the plugin has no file 'nope.js'"),
        ("import x from './../../lib.js'", "which lies outside of the plugin"),
        ("import { nope } from './lib.js'", "Could not find export 'nope' in module 'lib.js'"),
        ("import { x } from './bad.js'", "bad.js:2: SyntaxError"),
    ],
)
def test_a_bad_file_is_refused(source, reason):
    """What is not JavaScript, or imports what it cannot have, is refused with file and line."""
    with pytest.raises(BadArtifact, match=reason):
        start(source, **{"lib.js": "export const x = 1", "bad.js": "\nlet x = ;"})


def test_a_broken_fixture_names_its_line():
    """The line of a syntax error is that of the file."""
    with pytest.raises(BadArtifact, match=r"broken.js:7: SyntaxError"):
        start_fixture("hostile/broken.js")


def test_a_throwing_top_level():
    """What the top level throws is the plugin's exception, also in a module and in what it imports."""
    with pytest.raises(PluginRaised, match="TypeError: cannot set property 'property'") as raised:
        start_fixture("hostile/top-level.js")
    assert "top-level.js:2" in raised.value.detail
    with pytest.raises(PluginRaised, match="Error: inside"):
        start("import './lib.js'", **{"lib.js": "throw new Error('inside')"})


def test_imports_walk_through_folders():
    """Relative imports may climb within the plugin, may be circular, and each file runs once."""
    files = {
        "src/a.js": "import { seen } from '../seen.js'; import '../main.mjs'; seen.push('a')",
        "src/b.js": "import { seen } from './../seen.js'; import './a.js'; seen.push('b')",
        "seen.js": "export const seen = []",
    }
    main = """
    import "./src/b.js";
    import "./src/a.js";
    import { seen } from "./seen.js";
    export const f = () => seen;"""
    assert call(main, name="main.mjs", **files) == ["a", "b"]


@pytest.mark.parametrize("stack", [1 << 20, 8 << 20])
def test_a_long_chain_of_imports_is_refused(stack):
    """Files that import each other a hundred deep load; deeper chains are refused, not crashed upon."""
    main = "import './f0.js'; export const f = () => end"
    chain = {f"f{i}.js": f"import './f{i + 1}.js'" for i in range(1000)}
    assert call(main, stack=stack, **(chain | {"f99.js": "globalThis.end = 1"})) == 1
    with pytest.raises(BadArtifact, match="imported through more than 100 other files"):
        start(main, stack=stack, **chain)


def test_unknown_options_are_refused():
    """The section "javascript" of plugin.json has one key, a list of words."""
    views = {"a.js": memoryview(b"function f() {}")}
    with pytest.raises(BadArtifact, match="unknown key 'strict'"):
        javascript.load(Artifact("test", "a.js", views, options={"strict": True}))
    for wrong in ("browser", [1], None):
        with pytest.raises(BadArtifact, match="must be a list of words"):
            javascript.load(Artifact("test", "a.js", views, options={"conditions": wrong}))


def test_dynamic_imports_follow_the_same_rule():
    """import() reaches the plugin's files and nothing else."""
    source = "export const f = async (name) => Object.keys(await import(name))"
    assert call(source, "./lib.js", **{"lib.js": "export const x = 1"}) == ["x"]
    with pytest.raises(PluginRaised, match="'os', a module of Node, which is not here"):
        call(source, "os")


def test_the_runtime_is_small():
    """There is what the documentation names, and no door to files, processes or sockets."""
    source = "const f = (names) => names.split(' ').map((name) => typeof globalThis[name])"
    there = "console TextEncoder TextDecoder atob btoa queueMicrotask performance structuredClone URL "
    there += "URLSearchParams crypto setTimeout clearTimeout setInterval clearInterval setImmediate "
    there += "clearImmediate Event EventTarget CustomEvent AbortController AbortSignal DOMException "
    there += "frys FrysError process self MessageChannel"
    assert "undefined" not in call(source, there)
    doors = "require std os print fetch WebAssembly Worker gc load module exports Buffer global window"
    assert set(call(source, doors)) == {"undefined"}
    assert call("const f = () => [Object.keys(globalThis), process]") == [
        [],
        {"env": {"NODE_ENV": "production"}, "browser": True},
    ]


def test_dates_and_clocks_work():
    """Date tells the host's time and performance.now() goes forward."""
    now, before, after = call("const f = () => [Date.now(), performance.now(), performance.now()]")
    assert abs(now - time.time() * 1000) < 60_000
    assert 0 <= before <= after


# limits


@pytest.fixture
def limits():
    """A plugin that takes more than it may have."""
    plugin = start_fixture("hostile/limits.js", memory=16 << 20)
    yield plugin
    plugin.close()


@pytest.mark.parametrize(
    "function", ["busy", "stubborn", "slowPattern", "endlessJobs", "backgroundJobs", "busyAfterAwait"]
)
def test_a_call_ends_at_its_deadline(function):
    """Loops, patterns and promises without end are interrupted, also where the plugin catches everything."""
    # Endless jobs fill memory, too: there is more of it than any machine fills until the deadline.
    plugin = start_fixture("hostile/limits.js", memory=1 << 30)
    plugin.deadline = time.monotonic() + 0.05
    with pytest.raises(LimitReached, match="interrupted at its deadline") as reached:
        plugin(function, [])
    assert reached.value.resource == "time"
    plugin.close()


def test_a_deadline_in_the_future_does_not_matter(text):
    """A call within its deadline is not interrupted, and the deadline is that of the current call."""
    text.deadline = time.monotonic() + 60
    assert text("echo", [1]) == 1
    text.deadline = 0.0
    assert text("echo", [2]) == 2


@pytest.mark.parametrize("function", ["manyObjects", "oneBuffer", "memoryAfterAwait"])
def test_memory_is_limited(function):
    """A plugin that takes all memory gets an exception before the kernel has to kill it."""
    with pytest.raises(LimitReached) as reached:
        start_fixture("hostile/limits.js", memory=8 << 20)(function, [])
    assert reached.value.resource == "memory"


def test_an_argument_larger_than_the_memory(text):
    """Arguments count against the plugin's memory."""
    plugin = start("const f = (data) => data.length", memory=8 << 20)
    with pytest.raises(LimitReached) as reached:
        plugin("f", [bytes(16 << 20)])
    assert reached.value.resource == "memory"
    with pytest.raises(LimitReached):
        plugin("f", [[bytes(4 << 20)] * 4, {"key": bytes(4 << 20)}])
    assert plugin("f", [b"fits"]) == 4
    plugin.close()


@pytest.mark.parametrize("function", ["deep", "deepText", "deepSource", "deepJson", "deepLog"])
@pytest.mark.parametrize("stack", [1 << 20, 8 << 20])
def test_recursion_ends_in_an_exception(function, stack):
    """Too deep recursion is a RangeError that the plugin could catch, never a crash."""
    plugin = start_fixture("hostile/limits.js", stack=stack)
    with pytest.raises(PluginRaised, match="RangeError: Maximum call stack size exceeded"):
        plugin(function, [])
    assert "deep" in plugin.functions()
    plugin.close()


# hostile plugins


def test_replaced_builtins_do_not_matter():
    """A plugin that replaces the built-ins still gets and gives plain values."""
    plugin = start_fixture("hostile/builtins.js")
    value = [1, "two", b"three", {"value": [None, 0.5], "list": []}, 2**60]
    assert plugin("echo", [value]) == value
    assert plugin("later", [value]) == [value, {"value": value}]
    assert plugin("decode", ["grün".encode()]) == "grün"
    assert plugin.functions().keys() == {"echo", "later", "decode", "evil"}
    plugin.close()


@pytest.mark.parametrize("stack", ["5", "{ get() { throw 1 } }"])
def test_error_hooks_of_the_plugin(stack):
    """Error.prepareStackTrace belongs to the plugin and cannot break the report."""
    source = f"Error.prepareStackTrace = () => ({stack}); function f() {{ throw new Error('plain') }}"
    with pytest.raises(PluginRaised, match="Error: plain"):
        call(source)


# the process model


def test_children_of_one_server_differ_in_their_randomness():
    """Math.random is seeded anew in every forked child, and stays a good generator."""
    code = """
javascript.prepare()
source = b"const f = (n) => Array.from({ length: n }, Math.random)"
for _ in range(8):
    pid = os.fork()
    if not pid:
        numbers = javascript.load(Artifact("t", "a.js", {"a.js": memoryview(source)}))("f", [1000])
        os.write(1, (repr([numbers[0], min(numbers), max(numbers), sum(numbers)]) + "\\n").encode())
        os._exit(0)
    os.waitpid(pid, 0)
"""
    draws = [json.loads(line) for line in run_child(code)[0].splitlines()]
    assert len({first for first, *_ in draws}) == 8
    assert all(0 <= low < high < 1 and 400 < total < 600 for _, low, high, total in draws)


def test_a_child_needs_no_files_and_no_new_executable_memory():
    """After the fork nothing is opened and nothing becomes executable: neither at load nor in calls."""
    code = """
javascript.prepare()
def state():
    with open("/proc/self/maps") as maps:
        executable = [line.split()[:2] for line in maps if "x" in line.split()[1]]
    return executable, sorted(os.listdir("/proc/self/fd"))
before = state()
pid = os.fork()
if not pid:
    os.chroot("/proc/self/fdinfo") if os.geteuid() == 0 else None
    root = os.geteuid() == 0
    sys.path[:] = []
    source = b"import { x } from './b.js'; export const f = (d) => [x, d, console.log(d, new Date())]"
    files = {"a.js": memoryview(source), "b.js": memoryview(b"export const x = /a/.test('a')")}
    plugin = javascript.load(Artifact("t", "a.js", files))
    plugin.functions()
    assert plugin("f", [b"y"]) == [True, b"y", None]
    if not root:
        assert state() == before
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    assert "Uint8Array" in run_child(code)[0]


def test_preparing_starts_no_thread():
    """The fork server stays single-threaded, and the engine's own Python module is never imported."""
    code = """
javascript.prepare()
assert len(os.listdir("/proc/self/task")) == 1
assert not {"quickjs", "_quickjs", "cffi", "re", "threading", "asyncio"} & set(sys.modules)
"""
    run_child(code)


def test_ten_thousand_calls_leak_nothing():
    """Every reference is given back: memory does not grow, and the engine finds nothing left at the end."""
    source = """
    function f(value) { return [value, { value }, String(value), new Uint8Array(100)] }
    async function g(value) { await null; return value }
    function h(value) { throw new Error(value) }
    function i() { return [() => 1] }"""
    plugin = start(source)
    argument = [1, 2**60, "text", b"bytes", {"key": [None, 0.5]}]

    def round_of_calls(count):
        for _ in range(count):
            plugin("f", [argument])
            plugin("g", [argument])
            for function, error in (("h", PluginRaised), ("i", BadValue), ("nope", NoSuchFunction)):
                with pytest.raises(error):
                    plugin(function, ["text"])
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = round_of_calls(500)
    assert round_of_calls(2000) - before < 1 << 20
    plugin.close()


def test_a_context_is_never_shared():
    """Two plugins in one process see nothing of each other."""
    first, second = start("globalThis.shared = 1; const f = () => 1"), start("const f = () => typeof shared")
    assert second("f", []) == "undefined"
    first.close()
    second.close()


# the binding


def test_the_binding_is_generated(tmp_path):
    """launchers/_quickjs_abi.py is what its C declarations make."""
    script = ROOT / "scripts" / "generate-bindings"
    subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True)
    name = "_quickjs_abi.py"
    assert (tmp_path / name).read_text() == (ROOT / "launchers" / name).read_text()


def test_another_engine_version_is_refused(monkeypatch):
    """An engine with another C API is refused with what was found and what to install."""
    monkeypatch.setattr(javascript_api, "_ENGINE_VERSION", "0.99.")
    with pytest.raises(ImportError, match=r"is quickjs-ng 0\.17\.\d+; .* 'quickjs-ng==0\.99\.0\.\*'"):
        javascript_api._open()


def test_a_missing_engine_is_named(monkeypatch):
    """Without the engine's library the error says what to install."""
    monkeypatch.setattr(sys, "path", ["/nonexistent", ""])
    monkeypatch.chdir("/")
    with pytest.raises(ImportError, match="the JavaScript engine is missing"):
        javascript_api._open()


def test_bounds_agree_with_the_lane():
    """What this launcher accepts, the lane carries."""
    assert javascript_values.MAX_DEPTH == codec.MAX_DEPTH
    assert javascript_values.MAX_ITEMS < wire.MAX_ITEMS
