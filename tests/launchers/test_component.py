"""Components in this very process: every type in and out, names, failures and limits.

The components are WAT of our own: a core module that gives back what it gets, lifted under many types.
"""

import math
import os
import random
import struct

import pytest
from frys_runtime.launchers import wasm
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.failures import (
    BadArguments,
    BadArtifact,
    BadValue,
    Failure,
    LimitReached,
    NoSuchFunction,
    PluginRaised,
)
from wasm_build import compile_text

MEMORY = 16 << 20
# By its shape: what a type is made of when it is flat, and the function that gives just that back.
CORE = """
  (core module $module
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
        (then (if (i32.lt_s
            (memory.grow (i32.add (i32.div_u (local.get 3) (i32.const 65536)) (i32.const 1)))
            (i32.const 0))
          (then unreachable))))
      (local.get $at))
    (func (export "i32") (param i32) (result i32) (local.get 0))
    (func (export "i64") (param i64) (result i64) (local.get 0))
    (func (export "f32") (param f32) (result f32) (local.get 0))
    (func (export "f64") (param f64) (result f64) (local.get 0))
    (func (export "two") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))
      (global.set $next (i32.const 1024)) (i32.const 16))
    (func (export "three") (param i32 i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))
      (i32.store (i32.const 24) (local.get 2)) (global.set $next (i32.const 1024)) (i32.const 16))
    (func (export "nothing"))
    (func (export "trap") unreachable)
    (func $deep (export "deep") (call $deep))
    (global $calls (mut i32) (i32.const 0))
    (func (export "count") (result i32)
      (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls)))
  (core instance $core (instantiate $module))
  (core func $realloc (alias core export $core "realloc"))
  (alias core export $core "memory" (core memory $memory))
"""
TYPES = """
  (type $point_ (record (field "x" u32) (field "full-name" string)))
  (export $point "point" (type $point_))
  (type $colour_ (enum "red" "dark-green")) (export $colour "colour" (type $colour_))
  (type $shape_ (variant (case "none") (case "round" u32) (case "text" string)))
  (export $shape "shape" (type $shape_))
  (type $rights_ (flags "read" "write" "run")) (export $rights "rights" (type $rights_))
"""
SHAPES = {
    "i32": ("bool", "u8", "s8", "u16", "s16", "u32", "s32", "char", "$colour", "$rights"),
    "i64": ("u64", "s64"),
    "f32": ("f32",),
    "f64": ("f64",),
    "two": (
        "string",
        "(list u8)",
        "(list u32)",
        "(list string)",
        "(list (list u8))",
        "(list $point)",
        "(list (option u8))",
        "(tuple u32 u32)",
        "(option u32)",
        "(result u32)",
    ),
    "three": (
        "$point",
        "$shape",
        "(option string)",
        "(tuple u32 string)",
        "(result u32 (error string))",
        "(result (error string))",
    ),
}
OPTIONS = "(memory (core memory $memory)) (realloc (core func $realloc))"


def lift(name: str, core: str, kind: str) -> str:
    """An exported function of the component."""
    return f'(func (export "{name}") {kind} (canon lift (core func $core "{core}") {OPTIONS}))'


def component(*functions: str) -> bytes:
    return compile_text(f"(component {CORE} {TYPES} {' '.join(functions)})")


def load(code: bytes, limit: int = MEMORY) -> wasm.component.Plugin:
    """Load a component as the child does."""
    return wasm.load(Artifact("tester", "a.wasm", {"a.wasm": memoryview(code)}, memory_limit=limit))


def name_of(kind: str) -> str:
    """A name for the function that gives back a type."""
    return "same-" + "-".join(kind.replace("(", "").replace(")", "").replace("$", "").split())


@pytest.fixture(scope="module")
def echo():
    """A component with a function for every type."""
    same = [
        lift(name_of(kind), shape, f'(param "v" {kind}) (result {kind})')
        for shape, kinds in SHAPES.items()
        for kind in kinds
    ]
    return load(component(*same))


# ---- values


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bool", [True, False]),
        ("u8", [0, 255]),
        ("s8", [-128, 127]),
        ("u16", [0, 65535]),
        ("s16", [-(2**15), 2**15 - 1]),
        ("u32", [0, 2**32 - 1]),
        ("s32", [-(2**31), 2**31 - 1]),
        ("u64", [0, 2**64 - 1]),
        ("s64", [-(2**63), 2**63 - 1]),
        ("f32", [0.5, -math.inf]),
        ("f64", [0.1, 1e300]),
        ("char", ["a", "ü", "\U0001f600"]),
        ("string", ["", "grüße", "nul\0inside", "x" * 100_000]),
        ("(list u8)", [b"", b"\0\xff", random.Random(1).randbytes(100_000)]),
        ("(list u32)", [[], [1, 2, 2**32 - 1]]),
        ("(list string)", [[], ["", "a", "ü" * 100]]),
        ("(list (list u8))", [[], [b"", b"abc"]]),
        ("(list $point)", [[{"x": 1, "full-name": "a"}, {"x": 2, "full-name": ""}]]),
        ("(list (option u8))", [[1, None, 3]]),
        ("(tuple u32 u32)", [[1, 2]]),
        ("(tuple u32 string)", [[1, "two"]]),
        ("(option u32)", [None, 0, 7]),
        ("(option string)", [None, "", "x"]),
        ("$point", [{"x": 5, "full-name": "Ada"}]),
        ("$colour", ["red", "dark-green"]),
        ("$shape", ["none", {"round": 3}, {"text": "t"}]),
        ("$rights", [[], ["read", "run"], ["read", "write", "run"]]),
    ],
)
def test_values_come_back_as_they_went(echo, kind, values):
    """Each type in and out, with its type of Python."""
    for value in values:
        result = echo(name_of(kind), [value])
        assert result == value
        assert type(result) is type(value)


def test_flags_come_in_their_own_order(echo):
    """A flag that is named twice, or late, is set all the same."""
    assert echo("same-rights", [["run", "read", "run"]]) == ["read", "run"]


def test_floats_take_ints(echo):
    """An int is a float where a float is wanted."""
    assert echo("same-f64", [3]) == 3.0
    assert math.isnan(echo("same-f32", [math.nan]))


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("bool", 1, "v takes bool, not int 1"),
        ("u8", 256, "v: 256 does not fit into u8"),
        ("u8", -1, "does not fit"),
        ("s64", 2**63, "does not fit"),
        ("u32", 1.0, "v takes u32, not float 1.0"),
        ("u32", True, "not bool"),
        ("f64", "1", "v takes f64, not str '1'"),
        ("char", "ab", "v takes char"),
        ("char", "", "v takes char"),
        ("string", b"x", "v takes string, not bytes"),
        ("(list u8)", [1, 2], "v takes bytes, not list"),
        ("(list u8)", "x", "v takes bytes"),
        ("(list u32)", [1, "x"], r"v\[\] takes u32, not str 'x'"),
        ("(list string)", ["fine", None], r"v\[\] takes string, not NoneType None"),
        ("(tuple u32 u32)", [1], "v takes a list of 2 values"),
        ("(tuple u32 string)", [1, 2], r"v\[1\] takes string"),
        ("(option string)", 1, "v takes string"),
        ("$point", {"x": 1}, "v takes a dict with the fields x, full-name"),
        ("$point", {"x": 1, "full-name": "a", "z": 1}, "with the fields"),
        ("$point", {"x": "a", "full-name": "a"}, r"v\.x takes u32"),
        ("(list $point)", [{"x": 1, "full-name": "a"}, {"x": 1, "full-name": 2}], r"v\[\]\.full-name takes"),
        ("$colour", "blue", "v takes one of red, dark-green, not str 'blue'"),
        ("$rights", ["fly"], "v takes a list of read, write, run"),
        ("$rights", "read", "v takes a list"),
        ("$shape", "round", r"v takes one of none, \{round: \.\.\.\}, \{text: \.\.\.\}"),
        ("$shape", {"round": 1, "text": "x"}, "takes one of none"),
        ("$shape", {"none": 1}, "takes one of none"),
        ("$shape", {"round": "x"}, r"v\.round takes u32"),
    ],
)
def test_wrong_values_are_the_callers_mistake(echo, kind, value, reason):
    """Told with the path to the value, before anything runs; nothing of a half-made value is lost."""
    for _ in range(3):
        with pytest.raises(BadArguments, match=reason):
            echo(name_of(kind), [value])
    assert echo("same-u32", [1]) == 1


def test_number_of_arguments(echo):
    """The signature is part of the message."""
    with pytest.raises(BadArguments, match=r"takes 1 arguments, func\(v: u32\) -> u32, not 2"):
        echo("same-u32", [1, 2])


def test_signatures_are_what_the_component_declares(echo):
    """For `frys inspect`, in the words of WIT."""
    signatures = echo.functions()

    assert signatures["same-string"] == "func(v: string) -> string"
    point = "record {x: u32, full-name: string}"
    assert signatures["same-point"] == f"func(v: {point}) -> {point}"
    assert signatures["same-shape"].startswith("func(v: variant {none, round: u32, text: string})")
    assert signatures["same-rights"].startswith("func(v: flags {read, write, run})")
    assert signatures["same-result-u32-error-string"].startswith("func(v: result<u32, string>)")
    assert signatures["same-result-error-string"].startswith("func(v: result<_, string>)")


# ---- results and failures


def test_err_is_the_functions_failure(echo):
    """Ok comes back as it is, err as the exception's text; the instance lives on."""
    assert echo("same-result-u32-error-string", [{"ok": 3}]) == 3
    assert echo("same-result-error-string", [{"ok": None}]) is None
    with pytest.raises(PluginRaised, match=r"^it is full$"):
        echo("same-result-u32-error-string", [{"err": "it is full"}])
    with pytest.raises(PluginRaised, match=r"^the function returned the error None$"):
        echo("same-result-u32", ["err"])


@pytest.fixture
def program():
    return load(
        component(
            lift("count", "count", "(result u32)"),
            lift("trap", "trap", ""),
            lift("deep", "deep", ""),
            lift("nothing", "nothing", ""),
        )
    )


def test_trap_ends_the_instance(program):
    """Its state is gone, a caller's mistake leaves it."""
    assert [program("count", []) for _ in range(2)] == [1, 2]
    with pytest.raises(NoSuchFunction, match="count, deep, nothing, trap"):
        program("missing", [])
    with pytest.raises(BadArguments):
        program("count", [1])
    assert program("nothing", []) is None
    assert program("count", []) == 3
    with pytest.raises(PluginRaised, match="unreachable"):
        program("trap", [])
    assert program("count", []) == 1


def test_endless_recursion_reaches_the_stack_limit(program):
    """As in a core module."""
    for _ in range(2):
        with pytest.raises(LimitReached, match="call stack") as caught:
            program("deep", [])
        assert caught.value.resource == "stack"


def test_memory_is_bounded(echo):
    """A value for which the component finds no room traps it; one that asks for too much is not loaded."""
    small = load(component(lift("size", "two", '(param "v" (list u8)) (result (list u8))')), limit=1 << 20)
    with pytest.raises(PluginRaised, match="unreachable"):
        small("size", [bytes(2 << 20)])
    assert small("size", [b"x"]) == b"x"
    with pytest.raises(LimitReached, match="asks for too much"):
        load(
            compile_text(
                "(component (core module $m (memory 100)) (core instance (instantiate $m))"
                ' (core module $n (func (export "f"))) (core instance $i (instantiate $n))'
                ' (func (export "f") (canon lift (core func $i "f"))))'
            ),
            limit=1 << 20,
        )


def test_values_that_come_out_are_bounded():
    """A list whose every string is the same megabyte would be thousands of times the plugin's memory."""
    plugin = load(
        component(
            lift("grow", "two", '(param "v" (list u8)) (result (list u8))'),
            lift("bomb", "two", '(param "v" (list u8)) (result (list string))'),
            lift("far", "i32", '(param "v" u32) (result string)'),
        )
    )
    megabyte = 1 << 20
    assert plugin("grow", [bytes(megabyte)]) == bytes(megabyte)

    with pytest.raises(LimitReached, match="values that are too large"):
        plugin("bomb", [struct.pack("<II", 0, megabyte) * 1000])
    with pytest.raises(BadValue, match="outside its memory"):
        plugin("far", [2**32 - 4])


def test_nothing_is_lost_over_many_calls(echo):
    """Arguments, results and refused arguments are given back."""
    value = [{"x": number, "full-name": "n" * 500} for number in range(200)]

    def work() -> int:
        for _ in range(100):
            assert echo("same-list-point", [value])
            with pytest.raises(BadArguments):
                echo("same-list-point", [[*value, {"x": 1, "full-name": None}]])
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    work()
    before = work()

    assert max(work() for _ in range(4)) - before < 4 << 20


def test_compiled_form_of_another_process_is_the_same():
    """What one process leaves of a component, another one runs without compiling."""
    code = component(lift("same", "two", '(param "v" string) (result string)'))
    files, room = {"a.wasm": memoryview(code)}, memoryview(bytearray(1 << 20))
    size = wasm.compile_into(Artifact("tester", "a.wasm", files, room=room))
    assert 0 < size <= len(room)
    plugin = wasm.load(Artifact("tester", "a.wasm", files, compiled=room[:size].toreadonly()))

    assert plugin("same", ["größe"]) == "größe"
    assert wasm.compile_into(Artifact("tester", "a.wasm", files, room=room[:100])) == 0


# ---- names


def interface(name: str, *functions: str) -> str:
    """An exported instance with functions of the core module."""
    own = "$" + name.translate(str.maketrans(":/@", "___"))
    lifted = (f'(func {own}_{one} (result u32) (canon lift (core func $core "count")))' for one in functions)
    exported = (f'(export "{one}" (func {own}_{one}))' for one in functions)
    return f'{" ".join(lifted)} (instance {own} {" ".join(exported)}) (export "{name}" (instance {own}))'


def test_names_of_interfaces():
    """A function is called by its own name where that is enough, and always by that of its interface."""
    plugin = load(
        component(
            interface("me:pkg/first@1.0.0", "alone", "both"),
            interface("me:pkg/second", "both"),
            lift("top", "count", "(result u32)"),
            lift("second-top", "count", "(result u32)"),
        )
    )

    assert plugin.functions().keys() == {"alone", "first.both", "second.both", "top", "second-top"}
    for name in (
        "alone",
        "first.alone",
        "me:pkg/first@1.0.0#alone",
        "first.both",
        "me:pkg/second#both",
        "top",
    ):
        assert plugin(name, []) > 0
    with pytest.raises(NoSuchFunction):
        plugin("both", [])


# ---- what does not run


def refusal(code: bytes) -> str:
    """Load what must not load, and return why."""
    with pytest.raises(BadArtifact) as caught:
        load(code)
    return caught.value.message


def test_imports_are_refused_by_their_names():
    """What a component wants and nobody offers is told."""
    code = compile_text(
        '(component (import "me:pkg/door@0.2.0" (instance (export "open" (func))))'
        ' (import "wasi:cli/environment@0.2.0" (instance (export "get-arguments" (func (result string)))))'
        ' (import "wasi:cli/stdin@0.3.0" (instance (export "get" (func))))'
        ' (import "log" (func (param "text" string)))'
        ' (core module $n (func (export "f"))) (core instance $i (instantiate $n))'
        ' (func (export "f") (canon lift (core func $i "f"))))'
    )

    named = "me:pkg/door@0.2.0, wasi:cli/environment@0.2.0#get-arguments, wasi:cli/stdin@0.3.0, log"
    assert f"imports what Frys does not offer: {named}" in refusal(code)


def test_a_resource_of_its_own_is_none_of_the_hosts():
    """A host function never gets a handle that only looks like one of its own by its name."""
    code = compile_text(
        "(component (type $own' (resource (rep i32))) (export $own \"descriptor\" (type $own'))"
        ' (import "wasi:filesystem/types@0.2.0"'
        " (instance (alias outer 1 $own (type $d)) (type $b (borrow $d))"
        ' (export "[method]descriptor.is-same-object"'
        ' (func (param "self" $b) (param "other" $b) (result bool)))))'
        ' (core module $n (func (export "f"))) (core instance $i (instantiate $n))'
        ' (func (export "f") (canon lift (core func $i "f"))))'
    )

    assert "filesystem/types@0.2.0#[method]descriptor.is-same-object" in refusal(code)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"\0asm\x0d\0\1\0", "exports no function"),
        (b"\0asm\x0d\0\1\0\xff", "no valid WebAssembly component"),
        (b"\0asm\x0d\0\1\0" + bytes(range(100)), "no valid WebAssembly component"),
    ],
)
def test_what_is_no_component_is_refused(code, reason):
    """The header alone makes none."""
    assert reason in refusal(code)


def test_broken_components_are_refused():
    """Whatever the bytes, a component loads or is refused, and nothing else happens."""
    codes = [compile_text(RESOURCES), component(lift("f", "two", '(param "v" $point) (result string)'))]
    chance, verdicts = random.Random(4), set()
    for _ in range(400):
        code = bytearray(chance.choice(codes))
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(8, len(code))
            code[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 3))
        try:
            load(bytes(code)).close()
            verdicts.add("loads")
        except Failure as failure:
            verdicts.add(failure.kind)

    assert {"loads", "format"} <= verdicts <= {"loads", "format", "limit"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "".join(f"(type $t{n} (tuple $t{n - 1} $t{n - 1}))" for n in range(1, 60)),
            "a type that is too large",
        ),
        (
            "(component $c0)"
            + "".join(
                f"(component $c{n} (alias outer 1 $c{n - 1} (component $c)) (instance (instantiate $c))"
                " (instance (instantiate $c)))"
                for n in range(1, 30)
            )
            + "(instance (instantiate $c29))",
            "more than 1000 instances",
        ),
    ],
)
def test_what_grows_without_end_is_refused(text, reason):
    """Types and instances that double with every line."""
    assert reason in refusal(compile_text(f"(component (type $t0 u8) {text})"))


def test_a_start_that_traps_is_refused():
    """What fails while it is instantiated is the file's fault."""
    code = compile_text(
        "(component (core module $m (func $s unreachable) (start $s)) (core instance (instantiate $m))"
        ' (core module $n (func (export "f"))) (core instance $i (instantiate $n))'
        ' (func (export "f") (canon lift (core func $i "f"))))'
    )

    assert "start function trapped" in refusal(code)


def test_what_cannot_travel_cannot_be_called():
    """An option of an option, and a stream, are refused at the call; the rest of the component works."""
    plugin = load(
        component(
            "(type $words (stream string))",
            lift("listen", "i32", '(param "v" $words) (result u32)'),
            lift("nested", "three", '(param "v" (option (option u32))) (result (option (option u32)))'),
            lift("fine", "i32", '(param "v" u32) (result u32)'),
        )
    )

    for name, reason in {"listen": "v is a stream", "nested": "within an option"}.items():
        with pytest.raises(BadArguments, match=f"{name} cannot be called: .*{reason}"):
            plugin(name, [1])
    assert plugin("fine", [1]) == 1


# ---- resources

RESOURCES = """(component
  (core module $destroy_module
    (global $ended (export "ended") (mut i32) (i32.const 0))
    (func (export "destroy") (param i32)
      (global.set $ended (i32.add (global.get $ended) (local.get 0)))))
  (core instance $destroy (instantiate $destroy_module))
  (type $counter' (resource (rep i32) (dtor (core func $destroy "destroy"))))
  (core func $new (canon resource.new $counter'))
  (core func $drop (canon resource.drop $counter'))
  (core func $rep (canon resource.rep $counter'))
  (core module $module
    (import "resource" "new" (func $new (param i32) (result i32)))
    (import "resource" "drop" (func $drop (param i32)))
    (import "resource" "rep" (func $rep (param i32) (result i32)))
    (import "destroy" "ended" (global $ended (mut i32)))
    (func (export "new") (param i32) (result i32) (call $new (local.get 0)))
    (func (export "value") (param i32) (result i32) (local.get 0))
    (func (export "take") (param $counter i32) (result i32)
      (call $rep (local.get $counter))
      (call $drop (local.get $counter)))
    (func (export "back") (param i32) (result i32) (local.get 0))
    (func (export "ended") (result i32) (global.get $ended)))
  (core instance $core (instantiate $module
    (with "resource" (instance (export "new" (func $new)) (export "drop" (func $drop))
      (export "rep" (func $rep))))
    (with "destroy" (instance $destroy))))
  (export $counter "counter" (type $counter'))
  (func (export "[constructor]counter") (param "start" u32) (result (own $counter))
    (canon lift (core func $core "new")))
  (func (export "[method]counter.value") (param "self" (borrow $counter)) (result u32)
    (canon lift (core func $core "value")))
  (func (export "[static]counter.take") (param "it" (own $counter)) (result u32)
    (canon lift (core func $core "take")))
  (func (export "back") (param "it" (own $counter)) (result (own $counter))
    (canon lift (core func $core "back")))
  (func (export "ended") (result u32) (canon lift (core func $core "ended"))))"""


def test_a_resource_is_made_used_and_ended_by_its_handle():
    """As the structs of wasm-bindgen are; its destructor runs when the caller drops it."""
    plugin = load(compile_text(RESOURCES))
    assert plugin.functions() == {
        "counter.new": "func(start: u32) -> own<counter>",
        "counter.value": "func(self: borrow<counter>) -> u32",
        "counter.take": "func(it: own<counter>) -> u32",
        "counter.drop": "func(self: own<counter>)",
        "back": "func(it: own<counter>) -> own<counter>",
        "ended": "func() -> u32",
    }
    first, second = plugin("counter.new", [10]), plugin("counter.new", [5])

    assert first != second
    assert [plugin("counter.value", [one]) for one in (first, second)] == [10, 5]
    again = plugin("back", [first])
    assert plugin("counter.take", [again]) == 10
    assert plugin("ended", []) == 10
    assert plugin("counter.drop", [second]) is None
    assert plugin("ended", []) == 15
    for handle in (first, again, second, 0, -1, "x", True, None):
        with pytest.raises(BadArguments, match="takes a handle of the resource counter"):
            plugin("counter.value", [handle])
    assert plugin("ended", []) == 15


# What a component does to handles that it should not; each body is of a function (i32) -> i32.
WRONG = {
    "keeps what it borrowed": ("(local.get 0)", "borrow"),
    "drops what it gave": ("(call $drop (local.get 0)) (call $drop (local.get 0)) (i32.const 0)", "own"),
    "makes it up": ("(call $drop (i32.const 500)) (i32.const 0)", "own"),
}


@pytest.mark.parametrize("name", WRONG)
def test_handles_that_are_misused_trap(name):
    """Between two components, of which one defines the resource and the other only has handles of it."""
    body, how = WRONG[name]
    code = compile_text(
        f"""(component
          (component $owner
            (type $door' (resource (rep i32)))
            (core func $new (canon resource.new $door'))
            (export $door "door" (type $door'))
            (func (export "make") (param "at" u32) (result (own $door)) (canon lift (core func $new))))
          (instance $o (instantiate $owner))
          (component $user
            (import "door" (type $door (sub resource)))
            (core func $drop (canon resource.drop $door))
            (core module $m
              (import "door" "drop" (func $drop (param i32)))
              (func (export "use") (param i32) (result i32) {body}))
            (core instance $i (instantiate $m (with "door" (instance (export "drop" (func $drop))))))
            (func (export "use") (param "it" ({how} $door)) (result u32)
              (canon lift (core func $i "use"))))
          (alias export $o "door" (type $door))
          (instance $u (instantiate $user (with "door" (type $door))))
          (export "make" (func $o "make"))
          (export "use" (func $u "use")))"""
    )
    plugin = load(code)
    handle = plugin("make", [7])

    with pytest.raises(PluginRaised, match=r"only borrowed|no handle"):
        plugin("use", [handle])
    with pytest.raises(BadArguments, match="takes a handle"):
        plugin("use", [handle])  # the handles of an instance end with it


def test_components_call_each_other():
    """A component that another one is given calls it, in another encoding."""
    inner = CORE.replace("$", "$inner_")
    options = OPTIONS.replace("$", "$inner_")
    code = compile_text(
        f"""(component
          (component $inner {inner}
            (func (export "same") (param "v" string) (result string)
              (canon lift (core func $inner_core "two") {options})))
          (instance $i (instantiate $inner))
          (alias export $i "same" (func $same))
          (core module $libc (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
          (core instance $l (instantiate $libc))
          (alias core export $l "memory" (core memory $m))
          (alias core export $l "realloc" (core func $r))
          (core func $lowered (canon lower (func $same) (memory $m) (realloc $r) string-encoding=utf16))
          (core module $outer
            (import "inner" "same" (func $same (param i32 i32 i32)))
            (func (export "same") (param i32 i32) (result i32)
              (call $same (local.get 0) (local.get 1) (i32.const 16)) (i32.const 16)))
          (core instance $o (instantiate $outer (with "inner" (instance (export "same" (func $lowered))))))
          (func (export "same") (param "v" string) (result string)
            (canon lift (core func $o "same") (memory $m) (realloc $r) string-encoding=utf16)))"""
    )

    assert load(code)("same", ["größe"]) == "größe"


def test_inspection_tells_imports_and_exports():
    """`frys inspect` shows what a component wants, and what it offers in the words of WIT."""
    code = compile_text(
        '(component (import "wasi:cli/environment@0.2.0" (instance))'
        ' (import "me:pkg/door" (instance (export "open" (func)))) (core module $n (func (export "f")))'
        ' (core instance $i (instantiate $n)) (func (export "f") (canon lift (core func $i "f"))))'
    )
    artifact = Artifact("tester", "a.wasm", {"a.wasm": memoryview(code)}, options={"inspect": True})
    facts = wasm.load(artifact)("inspect", [])

    assert facts["abi"] == "component"
    provided = {one["module"]: one["provided"] for one in facts["imports"]}
    assert provided == {"wasi:cli/environment@0.2.0": True, "me:pkg/door": False}
    assert facts["exports"] == [{"name": "f", "type": "func()"}]
