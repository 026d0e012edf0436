"""What a JavaScript plugin finds beside the language: console, text, timers, clones, randomness, events."""

import itertools
import math
import time
import uuid

import pytest
from frys_runtime.launchers.failures import LimitReached, PluginRaised
from javascript_build import call, run_child, start


def test_console_writes_one_line_per_call(capfd):
    """console.log and its kin write to standard output and error, one bounded line each, without controls."""
    source = r"""
    function f() {
      console.log("text", 1, -0, 2n, null, undefined, Symbol("s"), [1, "two"], { a: { b: [] } });
      const map = new Map([[1, { x: 2 }]]);
      console.info(new Uint8Array([1, 2]), map, new Set("ab"), /r/g, function named() {});
      console.debug("two\nlines\x1b[31m\ttab\u009b\ud800");
      console.log([[[[[1]]]]], new Array(200).fill(0), new (class Point { x = 1 }));
      console.log("x".repeat(1e6));
      console.warn("warned");
      console.error(new TypeError("shown"));
    }"""
    call(source)
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert lines[0] == "text 1 -0 2n null undefined Symbol(s) [ 1, 'two' ] { a: { b: [] } }"
    assert lines[1] == (
        "Uint8Array(2) [ 1, 2 ] Map(1) { 1 => { x: 2 } } Set(2) { 'a', 'b' } /r/g [Function: named]"
    )
    assert lines[2] == "two\\nlines\\x1b[31m\ttab\\x9b\ufffd"
    assert lines[3].startswith("[ [ [ [Array] ] ] ] [ 0, 0, ")
    assert lines[3].endswith("... 100 more items ] Point { x: 1 }")
    assert lines[4] == "x" * 8192
    assert len(lines) == 5
    assert err.splitlines()[0] == "warned"
    assert err.splitlines()[1].startswith("TypeError: shown\\n    at f (plugin.js:")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("'%s is %d or %i or %f', 'x', '42.5', '42.5', '42.5', 'rest'", "x is 42.5 or 42 or 42.5 rest"),
        ("'%s %s', 1", "1 %s"),
        ("'100%', 1", "100% 1"),
        ("'%% %c%o %j', 'color: red', ['a'], { b: 1 }", "% [ 'a' ] {\"b\":1}"),
        ("'%d', {}", "NaN"),
        ("['it\\'s', 'a \"b\"', `'\"`]", "[ \"it's\", 'a \"b\"', '\\'\"' ]"),
        ("{ 'a-b': 1, get c() { throw 1 }, set d(x) {} }", "{ 'a-b': 1, c: [Getter], d: [Setter] }"),
        ("Object.create(null)", "[Object: null prototype] {}"),
        ("new Date(0), new Date(NaN)", "1970-01-01T00:00:00.000Z Invalid Date"),
        (
            "class A {}, async () => 1, () => 1",
            "[class A] [AsyncFunction (anonymous)] [Function (anonymous)]",
        ),
        ("Object(1), Object('s')", "[Number: 1] [String: 's']"),
        ("new ArrayBuffer(3), [1, , 3]", "ArrayBuffer { byteLength: 3 } [ 1, <1 empty item>, 3 ]"),
        ("(() => { const a = { b: {} }; a.b.c = a; return a })()", "<ref *1> { b: { c: [Circular *1] } }"),
    ],
)
def test_console_shows_values_as_node_does(capfd, arguments, shown):
    """Format specifiers and common values look as in Node, on one line, and no getter runs."""
    call(f"function f() {{ console.log({arguments}) }}")
    assert capfd.readouterr().out == shown + "\n"


def test_console_has_the_usual_methods(capfd):
    """Counters, clocks, groups, assertions and traces."""
    source = """
    function f() {
      console.count(); console.count(); console.countReset(); console.count("x"); console.count();
      console.assert(true, "silent"); console.assert(false, "%s", "told"); console.assert(false);
      console.group("outer"); console.log("inner"); console.groupEnd(); console.log("after");
      console.time("t"); console.timeEnd("t"); console.timeEnd("t");
      console.dir({ a: 1 }); console.table([1]); console.trace("here");
    }"""
    call(source)
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert lines[:7] == ["default: 1", "default: 2", "x: 1", "default: 1", "outer", "  inner", "after"]
    assert lines[7].startswith("t: ")
    assert lines[7].endswith("ms")
    assert lines[8:] == ["{ a: 1 }", "[ 1 ]"]
    problems = err.splitlines()
    assert problems[:3] == [
        "Assertion failed: told",
        "Assertion failed",
        "No such label 't' for console.time()",
    ]
    assert problems[3].startswith("Trace: here\\n    at ")


def test_console_is_bounded(capfd):
    """A value of a million parts costs no more than a line."""
    call("const f = () => console.log(Array(100).fill(Array(100).fill(Array(100).fill('x'))))")
    assert len(capfd.readouterr().out) <= 8193


def test_console_without_a_reader():
    """A closed standard output does not become an exception of the plugin."""
    code = (
        "source = memoryview(b'const f = () => console.log(1)')\n"
        "plugin = javascript.load(Artifact('t', 'a.js', {'a.js': source}))\n"
        "os.close(1)\nplugin('f', [])\nos._exit(0)\n"
    )
    run_child(code)


@pytest.mark.parametrize("text_in", ["", "plain", "é€😀\0", "x" * 100_000 + "€"], ids=len)
def test_text_encoder_and_decoder(text_in):
    """TextEncoder and TextDecoder turn text into UTF-8 and back."""
    source = """
    const encode = (text) => new TextEncoder().encode(text);
    const decode = (bytes) => new TextDecoder().decode(bytes);"""
    plugin = start(source)
    assert plugin("encode", [text_in]) == text_in.encode()
    assert plugin("decode", [text_in.encode()]) == text_in
    plugin.close()


def test_text_coding_follows_the_standard():
    """Errors, streams, byte order marks, labels and kinds of input behave as in the Encoding Standard."""
    source = r"""
    const bytes = (...all) => new Uint8Array(all);
    function f() {
      const stream = new TextDecoder();
      const parts = [bytes(0xe2), bytes(0x82), bytes(0xac, 0xf0, 0x9f), bytes(0x98, 0x80)];
      const into = new TextEncoder().encodeInto("a€b", new Uint8Array(3));
      const caught = (work) => { try { return work() } catch (error) { return error.name } };
      return {
        streamed: parts.map((part) => stream.decode(part, { stream: true })).join("|") + stream.decode(),
        cut: new TextDecoder().decode(bytes(0x61, 0xe2, 0x82)),
        lone: new TextEncoder().encode("\ud800"),
        fatal: caught(() => new TextDecoder("utf-8", { fatal: true }).decode(bytes(0xff))),
        label: caught(() => new TextDecoder("shift_jis")),
        mark: new TextDecoder().decode(bytes(0xef, 0xbb, 0xbf, 0x61)),
        keptMark: new TextDecoder("UTF8", { ignoreBOM: true }).decode(bytes(0xef, 0xbb, 0xbf)).length,
        buffer: new TextDecoder().decode(bytes(0x61, 0x62).buffer),
        view: new TextDecoder().decode(new DataView(bytes(0x61, 0x62, 0x63).buffer, 1, 1)),
        words: new TextDecoder().decode(new Uint16Array([0x6261])),
        nothing: new TextDecoder().decode() + new TextDecoder().decode(bytes()),
        into: [into.read, into.written],
        base64: [btoa("ab"), atob("YWI=")],
      };
    }"""
    assert call(source) == {
        "streamed": "||€|😀",
        "cut": "a\ufffd",
        "lone": "\ufffd".encode(),
        "fatal": "TypeError",
        "label": "RangeError",
        "mark": "a",
        "keptMark": 1,
        "buffer": "ab",
        "view": "b",
        "words": "ab",
        "nothing": "",
        "into": [1, 1],
        "base64": ["YWI=", "ab"],
    }


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("latin1", bytes(range(256)), None),
        ("utf-16le", "a€😀".encode("utf-16-le"), "a€😀"),
        (" UTF-16 ", b"\xff\xfea\0", "a"),
        ("utf-16le", b"a\0\0\xd8b\0c", "a\ufffdb\ufffd"),
        ("us-ascii", b"\x80\x81\x9f", "\u20ac\u0081\u0178"),
    ],
)
def test_two_other_encodings(label, data, text):
    """Windows-1252, which is also latin1, and UTF-16 can be decoded, whole and byte by byte."""
    source = """
    function f(label, data) {
      const decoder = new TextDecoder(label);
      let text = "";
      for (const byte of data) text += decoder.decode(new Uint8Array([byte]), { stream: true });
      return [new TextDecoder(label).decode(data), text + decoder.decode()];
    }"""
    if text is None:
        text = data.decode("cp1252", "surrogateescape")
        text = "".join(chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in text)
    assert call(source, label, data) == [text, text]


# timers


def test_timers_run_in_order_while_a_call_waits():
    """Microtasks first, then immediates, then timers by their time and age."""
    source = """
    async function f() {
      const seen = [];
      const note = (name) => seen.push(name);
      setImmediate(note, "immediate"); setImmediate(note, "second");
      setTimeout(note, 60, "later");
      setTimeout(note, 20, "b"); setTimeout(note, 20, "c"); setTimeout(note, 1, "a");
      queueMicrotask(() => note("micro"));
      Promise.resolve().then(() => note("then"));
      clearTimeout(setTimeout(note, 1, "cleared"));
      await new Promise((resolve) => setTimeout(resolve, 80));
      return seen;
    }"""
    expected = ["micro", "then", "immediate", "second", "a", "b", "c", "later"]
    assert call(source) == expected


def test_microtasks_run_between_timers():
    """What one timer queues runs before the next timer, as in Node and browsers."""
    source = """
    const f = () => new Promise((resolve) => {
      const seen = [];
      setTimeout(() => { seen.push(1); queueMicrotask(() => seen.push(2)) }, 1);
      setTimeout(() => { seen.push(3); resolve(seen) }, 1);
    })"""
    assert call(source) == [1, 2, 3]


def test_an_interval_goes_on_until_it_is_cleared():
    """SetInterval repeats, also with odd delays, and can be cleared from inside."""
    source = """
    const f = (delay) => new Promise((resolve) => {
      let count = 0;
      const id = setInterval(() => { if (++count === 3) { clearInterval(id); resolve(typeof id) } }, delay);
    })"""
    for delay in (1, 0, -5, None, "2", math.nan):
        assert call(source, delay) == "number"


def test_a_timer_that_is_left_waits_for_the_next_call():
    """It sleeps with the process, and runs when a later call waits."""
    source = """
    const seen = [];
    function leave() { setTimeout(() => seen.push("old"), 1) }
    function look() { return seen }
    async function wait() { await new Promise((resolve) => setTimeout(resolve, 3)); return seen }"""
    plugin = start(source)
    plugin("leave", [])
    assert plugin("look", []) == []
    assert plugin("wait", []) == ["old"]
    plugin.close()


def test_a_timer_at_the_top_level_is_awaited():
    """Loading waits for a promise of the top level, timers included."""
    source = "const value = await new Promise((done) => setTimeout(done, 2, 7)); export const f = () => value"
    assert call(source) == 7


def test_what_a_timer_throws_ends_the_call():
    """Nobody else could hear of it."""
    with pytest.raises(PluginRaised, match="Error: from a timer"):
        call("const f = () => new Promise(() => setTimeout(() => { throw new Error('from a timer') }, 1))")
    with pytest.raises(PluginRaised, match="setTimeout needs a function"):
        call("const f = () => setTimeout('code', 1)")


@pytest.mark.parametrize(
    "work",
    ["setTimeout(() => {}, 1e6)", "setInterval(() => {}, 1)", "(function again() { setImmediate(again) })()"],
)
def test_waiting_ends_at_the_deadline(work):
    """A sleep, an interval and immediates without end stop when the time is over."""
    plugin = start(f"const f = () => new Promise(() => {{ {work} }})", memory=256 << 20)
    plugin.deadline = time.monotonic() + 0.05
    with pytest.raises(LimitReached) as reached:
        plugin("f", [])
    assert reached.value.resource == "time"
    plugin.close()


def test_immediates_do_not_starve_timers():
    """A loop that polls by setImmediate sees what a timer does."""
    source = """
    const f = () => new Promise((resolve) => {
      let done = false;
      setTimeout(() => { done = true }, 2);
      (function poll() { done ? resolve("done") : setImmediate(poll) })();
    })"""
    assert call(source) == "done"


def test_timers_that_are_cleared_cost_nothing():
    """What guards a call with a long timeout and clears it again leaves nothing behind."""
    source = """
    const f = (count) => {
      for (let i = 0; i < count; i++) clearTimeout(setTimeout(() => {}, 1e9, new Uint8Array(1000)));
      const kept = setTimeout(() => {}, 1e9);
      for (let i = 0; i < 200; i++) clearTimeout(setTimeout(() => {}, 1e9));
      return new Promise((resolve) => setTimeout(resolve, 1, "still in order"));
    }"""
    assert call(source, 50_000, memory=16 << 20) == "still in order"


def test_many_timers_stay_in_order():
    """A thousand timers in any order run by their time."""
    source = """
    const f = (delays) => new Promise((resolve) => {
      const seen = [];
      for (const delay of delays) {
        const from = performance.now() + delay;
        setTimeout(() => { seen.push(timer) }, delay);
        const timer = [from, performance.now() + delay];
      }
      setTimeout(() => resolve(seen), 100);
    })"""
    seen = call(source, [1 + index * 7919 % 20 for index in range(1000)])
    assert len(seen) == 1000
    assert all(from_ <= until for (from_, _), (_, until) in itertools.pairwise(seen))


# structuredClone


def test_a_clone_is_deep_and_keeps_its_shape():
    """Cycles, collections, dates, patterns, buffers, boxed values and errors survive, sharing included."""
    source = """
    function f() {
      const buffer = new Uint8Array([1, 2, 3, 4]).buffer;
      const value = {
        list: [1, , 3], map: new Map([["k", { deep: true }]]), set: new Set([1, "a"]), date: new Date(5),
        pattern: /a+/gi, view: new Uint16Array(buffer, 2, 1), same: new DataView(buffer, 1, 2), buffer,
        boxed: [Object(1), Object("s"), Object(true)], big: 2n ** 70n, none: undefined,
        error: new RangeError("bad", { cause: { why: 1 } }), ["__proto__"]: 1,
      };
      value.self = value;
      class Point { x = 1; get y() { return 2 } }
      value.point = new Point();
      const copy = structuredClone(value);
      return {
        other: copy !== value && copy.map !== value.map && copy.buffer !== buffer,
        cycle: copy.self === copy,
        list: [copy.list.length, 1 in copy.list],
        map: copy.map.get("k"), set: [...copy.set], date: copy.date.getTime(), pattern: String(copy.pattern),
        shared: copy.view.buffer === copy.buffer && copy.same.buffer === copy.buffer, view: copy.view,
        dataView: copy.same.getUint8(1),
        boxed: copy.boxed.map((one) => typeof one + one.valueOf()), big: String(copy.big),
        none: "none" in copy,
        error: [copy.error instanceof RangeError, copy.error.message, copy.error.cause.why],
        proto: [Object.hasOwn(copy, "__proto__"), Object.getPrototypeOf(copy) === Object.prototype],
        point: [copy.point instanceof Point, copy.point.x],
      };
    }"""
    assert call(source) == {
        "other": True,
        "cycle": True,
        "list": [3, False],
        "map": {"deep": True},
        "set": [1, "a"],
        "date": 5,
        "pattern": "/a+/gi",
        "shared": True,
        "view": b"\x03\x04",
        "dataView": 3,
        "boxed": ["object1", "objects", "objecttrue"],
        "big": str(2**70),
        "none": True,
        "error": [True, "bad", 1],
        "proto": [True, True],
        "point": [False, 1],
    }


@pytest.mark.parametrize(
    "value",
    [
        "() => 1",
        "Symbol('s')",
        "Promise.resolve()",
        "new WeakMap()",
        "new Proxy({}, {})",
        "[{ a: [() => 1] }]",
    ],
)
def test_what_cannot_be_cloned_is_a_data_clone_error(value):
    """Functions, symbols and what has no copy."""
    source = "function f() { try { structuredClone(%s) } catch (error) { return [error.name, error.code] } }"
    assert call(source % value) == ["DataCloneError", 25]


def test_a_clone_may_take_a_buffer_with_it():
    """What is transferred is gone from its first owner, once."""
    source = """
    function f() {
      const buffer = new Uint8Array([1, 2]).buffer;
      const copy = structuredClone({ buffer }, { transfer: [buffer] });
      let again;
      try { structuredClone(1, { transfer: [buffer] }) } catch (error) { again = error.name }
      return [buffer.byteLength, buffer.detached, new Uint8Array(copy.buffer), again];
    }"""
    assert call(source) == [0, True, b"\1\2", "DataCloneError"]


def test_a_clone_of_any_depth_ends():
    """Depth without end is a RangeError that the plugin could catch."""
    with pytest.raises(PluginRaised, match="RangeError: Maximum call stack size exceeded"):
        call("function f() { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; structuredClone(a) }")


# crypto, clocks, events


def test_randomness_of_the_kernel():
    """GetRandomValues fills integers of every kind, within bounds; UUIDs are of version 4."""
    source = """
    function f() {
      const caught = (work) => { try { return work() } catch (error) { return error.name } };
      const bytes = new Uint8Array(64), big = new BigUint64Array(4), part = bytes.subarray(60);
      return {
        same: crypto.getRandomValues(bytes) === bytes, bytes,
        other: crypto.getRandomValues(new Uint8Array(64)),
        big: crypto.getRandomValues(big).some((word) => word > 0n),
        part: (crypto.getRandomValues(part), part.length),
        most: crypto.getRandomValues(new Uint8Array(65536)).length,
        floats: caught(() => crypto.getRandomValues(new Float64Array(1))),
        plain: caught(() => crypto.getRandomValues([1])),
        many: caught(() => crypto.getRandomValues(new Uint8Array(65537))),
        ids: [crypto.randomUUID(), crypto.randomUUID()],
      };
    }"""
    result = call(source)
    assert result["same"] is True
    assert len(set(result["bytes"])) > 16
    assert result["bytes"] != result["other"]
    assert (result["big"], result["part"], result["most"]) == (True, 4, 65536)
    assert (result["floats"], result["plain"]) == ("TypeMismatchError", "TypeMismatchError")
    assert result["many"] == "QuotaExceededError"
    assert len(set(result["ids"])) == 2
    assert {str(uuid.UUID(one)) for one in result["ids"]} == set(result["ids"])
    assert {uuid.UUID(one).version for one in result["ids"]} == {4}


def test_the_clock_of_the_platform():
    """performance.timeOrigin and performance.now() together are the time of day."""
    origin, now, today = call("const f = () => [performance.timeOrigin, performance.now(), Date.now()]")
    assert now >= 0
    assert isinstance(origin, float | int)
    assert today > 1_600_000_000_000


def test_events_and_aborts():
    """Listeners run in order, once, with objects, until they are removed or their signal aborts."""
    source = """
    async function f() {
      const target = new EventTarget(), seen = [];
      const note = (event) => seen.push(event.type + (event.detail ?? ""));
      target.addEventListener("a", note);
      target.addEventListener("a", note);
      target.addEventListener("a", { handleEvent: () => seen.push("object") }, { once: true });
      const controller = new AbortController();
      target.addEventListener("a", () => seen.push("signal"), { signal: controller.signal });
      target.dispatchEvent(new CustomEvent("a", { detail: 1 }));
      controller.abort();
      target.dispatchEvent(new Event("a"));
      target.removeEventListener("a", note);
      target.addEventListener("a", (event) => { event.preventDefault(); event.stopImmediatePropagation() });
      target.addEventListener("a", () => seen.push("never"));
      const kept = target.dispatchEvent(new Event("a", { cancelable: true }));
      const caught = (work) => { try { work() } catch (error) { return error.name ?? error } };
      const timeout = AbortSignal.timeout(1), any = AbortSignal.any([timeout, new AbortController().signal]);
      await new Promise((resolve) => { any.onabort = resolve });
      return {
        seen, kept, aborted: controller.signal.aborted,
        thrown: caught(() => controller.signal.throwIfAborted()),
        own: caught(() => AbortSignal.abort("why").throwIfAborted()), timeout: any.reason.name,
        made: caught(() => new AbortSignal()),
      };
    }"""
    assert call(source) == {
        "seen": ["a1", "object", "signal", "a"],
        "kept": False,
        "aborted": True,
        "thrown": "AbortError",
        "own": "why",
        "timeout": "TimeoutError",
        "made": "TypeError",
    }


def test_a_message_channel_within_the_plugin():
    """Messages are cloned and come after the work at hand, in order, until a port is closed."""
    source = """
    const f = () => new Promise((resolve) => {
      const { port1, port2 } = new MessageChannel(), seen = [], sent = { a: 1 };
      port2.onmessage = (event) => {
        seen.push(event.data === sent ? "same" : event.data);
        if (seen.length === 3) { port1.close(); port1.postMessage(5); setTimeout(() => resolve(seen), 1) }
      };
      port1.postMessage(sent);
      port1.postMessage("second");
      seen.push("first");
    })"""
    assert call(source) == ["first", {"a": 1}, "second"]
