"""wasm-bindgen modules without JavaScript: every convention of the last years, by hand and from npm."""

import contextlib
import random

import pytest
from bindgen_modules import CONVENTIONS, EXTERNREF, NEW_ALLOCATOR, TYPESCRIPT, source
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
from frys_runtime.launchers.wasm_abi.types import named, of_typescript
from hypothesis import given, settings, strategies as st
from registries import npm_package
from wasm_build import FIXTURES, compile_text


def load(code: bytes, typescript: str = "", functions=None, exports=None) -> wasm.Plugin:
    """Load a module, with the declarations beside it if there are any."""
    files = {"it_bg.wasm": memoryview(code)}
    if typescript:
        files["it.d.ts"] = memoryview(typescript.encode())
    options = {"functions": functions or {}}
    return wasm.load(
        Artifact("tester", "it_bg.wasm", files, memory_limit=64 << 20, options=options, exports=exports)
    )


@pytest.fixture(params=CONVENTIONS)
def plugin(request):
    return load(compile_text(source(request.param)))


@pytest.fixture
def newest():
    return load(compile_text(source("0.2.120, several results")))


# ---- every convention, nothing declared


def test_bytes_go_in_and_come_back(plugin):
    """An argument is allocated by the module, a result is copied and given back to it."""
    for size in (0, 1, 64, 10_000):
        data = random.Random(size).randbytes(size)
        assert plugin("echo", [data]) == data

    assert plugin("echo", ["größe"]) == "größe".encode()


def test_everything_is_given_back(plugin):
    """Many calls leave nothing behind but the area for results."""
    plugin("echo", [b"first"])
    before = plugin("live", [])
    for _ in range(100):
        plugin("echo", [b"some text"])

    assert plugin("live", []) == before


def test_numbers(plugin):
    """Numbers need no allocator and no declaration."""
    assert plugin("add", [-1, 3]) == 2
    assert plugin("half", [5]) == 2.5
    assert plugin("wide", [-(2**63)]) == -(2**63)
    assert plugin("is_even", [4]) == 1
    assert plugin("nothing", []) is None


@pytest.mark.parametrize(("function", "good"), [("longer", b"long"), ("check", None), ("size", 4)])
def test_err_is_the_plugins_exception(plugin, function, good):
    """A Result says by itself whether it is one: of bytes, of nothing, of a number."""
    assert plugin(function, [b"long"]) == good
    with pytest.raises(PluginRaised, match=r"^too short$"):
        plugin(function, [b""])


def test_instance_lives_on_after_an_err(plugin):
    """An error that a function returns is no crash: the plugin's state stays."""
    plugin("count", [])
    with pytest.raises(PluginRaised):
        plugin("longer", [b""])

    assert plugin("count", []) == 2


def test_panic_says_why(plugin, capfd):
    """The text that the panic hook prints is the exception; the instance is gone with it."""
    plugin("count", [])
    with pytest.raises(PluginRaised, match=r"^panicked at src/lib\.rs:7:9: boom$"):
        plugin("boom", [1])

    assert "boom" in capfd.readouterr().err
    assert plugin("count", []) == 1


def test_throw_is_the_plugins_exception(plugin):
    """What JavaScript would have thrown."""
    with pytest.raises(PluginRaised, match=r"^too short$"):
        plugin("throws", [1])


def test_import_that_only_a_browser_has(plugin):
    """It is no reason to refuse the module; calling it is an error with its name."""
    assert plugin("add", [1, 2]) == 3
    with pytest.raises(PluginRaised, match=r"__wbg_fetch_0123456789abcdef, which only a JavaScript host has"):
        plugin("browser", [1])


def test_struct_works_by_its_methods_name(plugin):
    """One object is made at the first call and keeps its state."""
    assert plugin("process", [b"data"]) == b"data"
    assert plugin("process", ["text"]) == b"text"
    assert plugin("calls", []) == 2


def test_struct_works_by_handles(plugin):
    """Two objects have two states; a freed one is gone."""
    one, other = plugin("myplugin.new", []), plugin("myplugin.new", [])
    assert plugin("myplugin.process", [one, b"data"]) == b"data"
    assert plugin("myplugin.count", [one]) == 2
    assert plugin("myplugin.count", [other]) == 1
    assert plugin("myplugin.set_calls", [one, 40]) is None
    assert plugin("myplugin.calls", [one]) == 40
    assert plugin("myplugin.free", [one]) is None

    for gone in (one, 0, 12345678, "1", None, True):
        with pytest.raises(BadArguments, match="takes a handle of myplugin"):
            plugin("myplugin.count", [gone])
    assert plugin("myplugin.count", [other]) == 2


def test_handle_of_an_ended_instance(plugin):
    """After a crash no old handle means a new object."""
    handle = plugin("myplugin.new", [])
    with pytest.raises(PluginRaised):
        plugin("throws", [1])
    plugin("myplugin.new", [])

    with pytest.raises(BadArguments):
        plugin("myplugin.count", [handle])


def test_helpers_are_no_functions(plugin):
    """Nobody is offered the allocator or what frees an object behind its handle."""
    names = plugin.functions()

    assert not [name for name in names if name.startswith("__")]
    assert {"echo", "process", "myplugin.new", "myplugin.process", "myplugin.free"} <= names.keys()


@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        ("add", [1], "add cannot take number: in the module it is"),
        ("add", [b"x", b"y"], "cannot take bytes, bytes"),
        ("echo", [], "cannot take nothing"),
        ("add", [2**32, 1], "4294967296 does not fit into an i32"),
        ("add", [0.5, 1], "takes a whole number, not 0.5"),
        ("half", [{"a": 1}], "cannot take any"),
        ("myplugin.count", [], "takes a handle of myplugin first"),
    ],
)
def test_wrong_arguments_are_the_callers_mistake(newest, function, args, reason):
    """Number, type and range are checked before anything runs."""
    with pytest.raises(BadArguments, match=reason):
        newest(function, args)


def test_no_room_is_the_memory_limit(plugin):
    """An allocator that answers 0 has no room."""
    with pytest.raises(LimitReached, match="no room for 200000 bytes"):
        plugin("echo", [b"x" * 200_000])


# ---- what is hostile


HOSTILE = """
  (func (export "outside") (param i32) (result i32 i32) (i32.const -8) (i32.const 100))
  (func (export "huge") (param i32) (result i32 i32) (i32.const 8) (i32.const -1))
  (func (export "hoard") (param i32)
    (loop $again (drop (call $string (i32.const 16) (i32.const 9))) (br $again)))
  (func (export "lies") (param i32) (result i32 i32 i32 i32)
    (i32.const -1) (i32.const -1) (i32.const 7777) (i32.const 1))
  (func (export "__wbindgen_describe_lies") (loop $again (br $again)))
  (func (export "throw_outside") (param i32) (call $throw (i32.const -1) (i32.const -1)))"""


@pytest.fixture
def hostile():
    code = source("0.2.120, several results", HOSTILE.replace("(loop $again (br $again))", "unreachable"))
    return load(compile_text(code))


@pytest.mark.parametrize("function", ["outside", "huge", "throw_outside"])
def test_pointers_are_checked(hostile, function):
    """Whatever points outside of the memory is refused."""
    with pytest.raises(BadValue, match="outside its memory"):
        hostile(function, [1])

    assert hostile("add", [1, 2]) == 3


def test_values_of_the_host_are_bounded(hostile):
    """A module that collects strings of its host ends at a limit."""
    with pytest.raises(LimitReached) as caught:
        hostile("hoard", [1])

    assert caught.value.resource == "memory"


def test_error_that_is_none(hostile):
    """A number that stands for no value is undefined, as in JavaScript."""
    with pytest.raises(PluginRaised, match=r"undefined|null"):
        hostile("lies", [1])


def test_objects_are_bounded(newest):
    """A caller cannot make objects without end."""
    code = source("0.2.120, several results").replace(
        '"myplugin_new") (result i32) (call $allocate (i32.const 4))',
        '"myplugin_new") (result i32) (i32.const 4096)',
    )
    plugin = load(compile_text(code))

    for _ in range(10_000):
        plugin("myplugin.new", [])
    with pytest.raises(LimitReached, match="objects of the plugin are alive"):
        plugin("myplugin.new", [])
    assert plugin("add", [1, 2]) == 3


@given(st.data())
@settings(max_examples=150)
def test_damaged_module_is_refused_or_fails(data):
    """A changed byte gives a refusal, an error or another value, whatever was declared of the module."""
    convention = data.draw(st.sampled_from(["0.2.80 for Node", "0.2.120, several results"]))
    code = bytearray(compile_text(source(convention)))
    code[data.draw(st.integers(8, len(code) - 1))] = data.draw(st.integers(0, 255))
    typescript = data.draw(st.sampled_from(["", TYPESCRIPT]))

    with contextlib.suppress(Failure):
        plugin = load(bytes(code), typescript)
        for name in plugin.functions():
            for args in ([b"some bytes"], [1], []):
                with contextlib.suppress(Failure):
                    plugin(name, args)


@given(st.text(alphabet="export functionclass{}()[]<>:;,?|=/*\n\"'ab", max_size=200))
def test_declarations_are_read_or_passed_over(text):
    """No text beside a module is an error of its own."""
    for signature in of_typescript(text + TYPESCRIPT + text).values():
        assert all(named(kind) for kind in (*signature.params, signature.returns))


# ---- declared types


def test_types_of_the_declarations_beside_it():
    """The .d.ts that every package carries makes strings, booleans and names as the author wrote them."""
    plugin = load(compile_text(source("0.2.90 for the web")), TYPESCRIPT)

    assert plugin("echo", ["größe"]) == "größe"
    assert plugin("is_even", [3]) is False
    assert plugin("check", [b"long enough"]) is None
    with pytest.raises(PluginRaised, match="too short"):
        plugin("check", [b""])
    handle = plugin("MyPlugin.new", [])
    assert plugin("MyPlugin.process", [handle, b"x"]) == b"x"
    assert plugin("process", [b"y"]) == b"y"
    signatures = plugin.functions()
    assert signatures["echo"] == "(str) -> str"
    assert signatures["MyPlugin.process"] == "(MyPlugin handle, bytes) -> bytes"
    assert signatures["process"] == "(bytes) -> bytes"
    assert signatures["MyPlugin.set_calls"] == "(MyPlugin handle, number) -> void"


@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        ("echo", [1], "argument 1 takes str, not 1"),
        ("echo", [b"\xff"], "no UTF-8 at 0"),
        ("echo", [], r"takes \(str\), 1 arguments, not 0"),
        ("echo", ["\ud800"], "lone surrogates"),
        ("add", ["1", 2], "argument 1 takes a number, not str"),
    ],
)
def test_declared_types_are_checked(function, args, reason):
    """A wrong argument is told by what the author declared."""
    plugin = load(compile_text(source("0.2.90 for the web")), TYPESCRIPT)

    with pytest.raises(BadArguments, match=reason):
        plugin(function, args)


def test_types_of_plugin_json():
    """`wasm.functions` says the same where there is no .d.ts, in the words of the ABI."""
    functions = {
        "echo": {"params": ["string"], "returns": "string"},
        "is_even": {"params": ["u32"], "returns": "bool"},
        "MyPlugin.process": {"params": ["bytes"], "returns": "bytes"},
    }
    plugin = load(compile_text(source("0.2.120, several results")), functions=functions)

    assert plugin("echo", ["text"]) == "text"
    assert plugin("is_even", [2**32 - 2]) is True
    assert plugin("MyPlugin.process", [plugin("MyPlugin.new", []), b"x"]) == b"x"


def test_interface_types_a_module():
    """`exports`, which other plugins are told, type a function; what they call an object is one here."""
    exports = {
        "echo": {"params": ["string"], "returns": "string"},
        "is_even": {"params": ["int"], "returns": "bool"},
        "half": {"params": ["float"], "returns": "float"},
        "nothing": {"returns": "null"},
        "wide": {"params": ["list<map<int>>"], "returns": "Point"},
    }
    plugin = load(compile_text(source("0.2.120, several results")), exports=exports)

    assert plugin("echo", ["text"]) == "text"
    assert plugin("is_even", [4]) is True
    assert plugin("half", [3.0]) == 1.5
    assert plugin("nothing", []) is None
    with pytest.raises(BadArguments, match=r"declared as \(any\) -> Point"):
        plugin("wide", [1])


def test_type_that_is_none_is_refused():
    """A misspelt type is a mistake of plugin.json, told at load."""
    with pytest.raises(BadArtifact, match=r"wasm\.functions\.echo has the type 'list:u7'"):
        load(compile_text(source("0.2.90 for the web")), functions={"echo": {"params": ["list:u7"]}})


def test_declaration_that_does_not_fit_the_module():
    """The module's own types have the last word."""
    plugin = load(
        compile_text(source("0.2.90 for the web")),
        functions={"add": {"params": ["bytes", "bytes"], "returns": "u32"}},
    )

    with pytest.raises(BadArguments, match=r"declared as \(bytes, bytes\) -> u32, but in the module"):
        plugin("add", [b"", b""])


OPTIONS = """
  (func (export "old_option") (param i32 i32) (result i32)
    (if (result i32) (local.get 0) (then (local.get 1)) (else (i32.const -1))))
  (func (export "new_option") (param f64) (result f64) (local.get 0))
  (func (export "small_option") (param i32) (result i32) (local.get 0))
  (func (export "float_option") (param i32 f64) (result i32 f64) (local.get 0) (local.get 1))
  (func (export "bytes_option") (param i32 i32) (result i32 i32) (local.get 0) (local.get 1))
  (func (export "letter") (param i32) (result i32) (local.get 0))
  (func (export "array") (param i32 i32) (result i32 i32) (local.get 0) (local.get 1))
  (func (export "wide_array") (param i32 i32) (result i32 i32) (local.get 0) (local.get 1))
  (func (export "falls") (param i32) (result f64 i32 i32)
    (f64.const 0.5) (call $string (i32.const 16) (i32.const 9)) (local.get 0))"""
OPTION_TYPES = {
    "old_option": {"params": ["number?"], "returns": "number"},
    "new_option": {"params": ["u32?"], "returns": "u32?"},
    "small_option": {"params": ["bool?"], "returns": "bool?"},
    "float_option": {"params": ["f64?"], "returns": "f64?"},
    "bytes_option": {"params": ["bytes?"], "returns": "bytes?"},
    "letter": {"params": ["str?"], "returns": "str?"},
    "array": {"params": ["list:i16"], "returns": "Int16Array"},
    "wide_array": {"params": ["BigUint64Array"], "returns": "list:u64"},
    "falls": {"params": ["bool"], "returns": "number"},
}


def test_options_and_arrays():
    """Each type in each shape that it had over the years."""
    plugin = load(compile_text(source("0.2.120, several results", OPTIONS)), functions=OPTION_TYPES)

    assert [plugin("old_option", args) for args in ([5], [None], [])] == [5, -1, -1]
    assert [plugin("new_option", args) for args in ([2**32 - 1], [None])] == [2**32 - 1, None]
    assert [plugin("small_option", [value]) for value in (True, False, None)] == [True, False, None]
    assert [plugin("float_option", [value]) for value in (0.25, None)] == [0.25, None]
    assert [plugin("bytes_option", [value]) for value in (b"x", None)] == [b"x", None]
    assert [plugin("letter", [value]) for value in ("ß", None)] == ["ß", None]
    assert plugin("array", [[1, -2, 3]]) == [1, -2, 3]
    assert plugin("wide_array", [[2**64 - 1]]) == [2**64 - 1]
    with pytest.raises(BadArguments, match="takes a list of i16"):
        plugin("array", [[40_000]])
    assert plugin("falls", [False]) == 0.5
    with pytest.raises(PluginRaised, match="too short"):
        plugin("falls", [True])


# The words of "fn(&str, Option<u32>) -> String" and of "fn() -> MyPlugin", by the numbers of each version.
def description(function: int, longref: bool, string_enum: bool, name: str = "") -> str:
    """A describing function, as `cargo build` leaves it in the module."""
    text, ref = function + 3, function + 4
    struct = function + 11 + longref + string_enum
    if name:
        kind = [struct, len(name), *map(ord, name)]
        words = [function, 0, 0, *kind, *kind]
    else:
        words = [function, 0, 2, ref, text, struct + 2, 5, text, text]
    return "".join(f"(call $describe (i32.const {word}))" for word in words)


@pytest.mark.parametrize(
    ("function", "longref", "string_enum"),
    [(11, False, False), (11, True, False), (11, True, True), (13, True, True), (15, True, True)],
)
def test_raw_module_of_cargo_describes_itself(function, longref, string_enum):
    """Types and the struct's name come from the module, whatever year its numbers are of."""
    convention = CONVENTIONS["0.2.80 for Node"] | {"ALLOCATOR": NEW_ALLOCATOR}
    more = (
        '(func (export "label") (param $return i32) (param i32 i32) (param i32 i32)'
        " (call $pair (local.get $return) (local.get 1) (local.get 2)))"
        f'(func (export "__wbindgen_describe_label") {description(function, longref, string_enum)})'
        '(func (export "__wbindgen_describe_myplugin_new")'
        f" {description(function, longref, string_enum, 'MyPlugin')})"
    )
    text = (FIXTURES / "bindgen.wat").read_text()
    for name, value in convention.items():
        text = text.replace(name, value + more if name == "FUNCTIONS" else value)
    text = text.replace('"MALLOC"', '"__wbindgen_malloc"').replace('"FREE"', '"__wbindgen_free"')
    text = text.replace(
        "(memory ",
        '(import "__wbindgen_placeholder__" "__wbindgen_describe" (func $describe (param i32)))'
        '(import "__wbindgen_externref_xform__" "__wbindgen_externref_table_grow"'
        " (func (param i32) (result i32))) (memory ",
    )
    plugin = load(compile_text(text))

    assert plugin("label", ["größe", None]) == "größe"
    assert plugin("label", ["a", 7]) == "a"
    assert plugin.functions()["label"] == "(str, u32?) -> str"
    assert type(plugin("MyPlugin.new", [])) is int


def test_references():
    """Values of the host go in and out as externrefs, and errors lie in the module's table."""
    types = {
        "json": {"params": ["any"], "returns": "string"},
        "owned": {"params": ["any"], "returns": "string"},
        "is_undefined": {"params": ["any?"], "returns": "bool"},
    }
    plugin = load(compile_text(EXTERNREF), functions=types)

    assert plugin("json", [{"a": [1, None, "ä"]}]) == '{"a":[1,null,"ä"]}'
    assert plugin("owned", [{"b": True}]) == '{"b":true}'
    assert plugin("same", [{"b": b"bytes"}]) == {"b": b"bytes"}
    assert plugin("is_undefined", [None]) is True
    assert plugin("is_undefined", ["text"]) is False
    # undefined, null, true and false stand in the table where compiled code expects them.
    assert [plugin("reserved", [number]) for number in (0, 4, 5, 6, 7)] == [None, None, None, True, False]
    with pytest.raises(PluginRaised, match=r"^not enough$"):
        plugin("fail", [1])


def test_references_are_bounded():
    """A module that keeps every reference ends at a limit, and the next instance has none of them."""
    plugin = load(compile_text(EXTERNREF), functions={"hoard": {"params": ["any"], "returns": "void"}})

    with pytest.raises(LimitReached) as caught:
        plugin("hoard", ["x"])

    assert caught.value.resource == "memory"
    assert plugin("same", ["y"]) == "y"


def test_references_that_are_not_kept_are_forgotten():
    """Values of calls that are over do not add up."""
    plugin = load(compile_text(EXTERNREF))

    for number in range(40_000):
        assert plugin("same", [number]) == number


# ---- packages of npm, as they were published


def load_package(spec: str, module: str, *, declarations: bool = True, **options) -> wasm.Plugin:
    """Load the module of a package, with or without the declarations that came with it."""
    files = npm_package(spec)
    typescript = module.removesuffix("_bg.wasm") + ".d.ts"
    given = files[typescript].decode() if declarations else ""
    return load(files[module], given, **options)


LZ4 = ("lz4-wasm-nodejs@0.9.2", "lz4_wasm_nodejs_bg.wasm")
SNAPPY = ("snappy-wasm@0.3.0", "cjs/snappy_bg.wasm")
BROTLI_DECODER = ("brotli-dec-wasm@2.3.2", "pkg/brotli_dec_wasm_bg.wasm")
BROTLI = ("brotli-wasm@3.0.1", "pkg.node/brotli_wasm_bg.wasm")
BLAKE3 = ("@webbuf/blake3@3.8.0", "src/rs-webbuf_blake3-bundler/webbuf_blake3_bg.wasm")
STRIP = ("json-strip-comments@3.0.1", "json_strip_comments_wasm_bg.wasm")
TYPEGEN = ("json_typegen_wasm@0.7.0", "json_typegen_wasm_bg.wasm")
TEXT = b"the same words again and again, the same words " * 50


@pytest.mark.needs_npm
@pytest.mark.parametrize("declarations", [True, False])
def test_lz4(declarations):
    """wasm-bindgen 0.2.80: the return pointer and the allocator without alignment."""
    plugin = load_package(*LZ4, declarations=declarations)

    packed = plugin("compress", [TEXT])
    assert len(packed) < len(TEXT) // 10
    assert plugin("decompress", [packed]) == TEXT


@pytest.mark.needs_npm
def test_snappy():
    """wasm-bindgen 0.2.83: strings and bytes apart by the .d.ts, errors with their text."""
    plugin = load_package(*SNAPPY)

    assert plugin("decompress", [plugin("compress", ["größe" * 100])]) == "größe" * 100
    assert plugin("decompress_raw", [plugin("compress_raw", [TEXT])]) == TEXT
    with pytest.raises(PluginRaised, match="snappy: corrupt input"):
        plugin("decompress_raw", [b"\xff\xff\xff"])


@pytest.mark.needs_npm
def test_brotli_of_two_packages():
    """Handles with an options object (0.2.8x), and references with several results (0.2.10x)."""
    packer, unpacker = load_package(*BROTLI), load_package(*BROTLI_DECODER)

    packed = packer("compress", [TEXT, {"quality": 5}])
    assert unpacker("decompress", [packed]) == packer("decompress", [packed]) == TEXT
    assert len(packer("compress", [TEXT])) <= len(packed)
    for plugin in (packer, unpacker):
        with pytest.raises(PluginRaised, match="Brotli decompress failed"):
            plugin("decompress", [b"\xff" * 8])


@pytest.mark.needs_npm
def test_brotli_stream_is_an_object():
    """A struct with methods that return another struct, whose fields are read by its handle."""
    packed = load_package(*BROTLI)("compress", [TEXT])
    plugin = load_package(*BROTLI_DECODER)
    stream, output = plugin("BrotliDecStream.new", []), b""

    finished = False
    while not finished:
        result = plugin("BrotliDecStream.dec", [stream, packed[:7], 256])
        output += plugin("BrotliStreamResult.buf", [result])
        packed = packed[plugin("BrotliStreamResult.input_offset", [result]) :]
        finished = plugin("BrotliStreamResult.code", [result]) == 1
        plugin("BrotliStreamResult.free", [result])

    assert output == TEXT
    assert plugin("BrotliDecStream.total_out", [stream]) == len(TEXT)


@pytest.mark.needs_npm
@pytest.mark.parametrize("declarations", [True, False])
def test_blake3(declarations):
    """The allocator with alignment, two arguments of bytes, and an error."""
    plugin = load_package(*BLAKE3, declarations=declarations)

    digest = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
    assert plugin("blake3_hash", [b"abc"]).hex() == digest
    assert len(plugin("blake3_mac", [b"k" * 32, b"abc"])) == 32
    with pytest.raises(PluginRaised, match="32 bytes"):
        plugin("blake3_mac", [b"short", b"abc"])


@pytest.mark.needs_npm
def test_options_by_reference():
    """An optional object is handed over through the module's table of references."""
    plugin = load_package(*STRIP)

    assert plugin("strip", ['{"a": 1} // comment']).rstrip() == '{"a": 1}'
    with pytest.raises(PluginRaised, match="invalid type"):
        plugin("strip", ["{}", {"blockComments": "no boolean"}])


@pytest.mark.needs_npm
def test_module_without_any_import():
    """Three strings in, one out, and nothing to tell the module but its helper exports."""
    plugin = load_package(*TYPEGEN)

    written = plugin("run", ["Root", '{"a": [1, 2]}', '{"output_mode": "typescript"}'])
    assert written == "export interface Root {\n    a: number[];\n}\n"


@pytest.mark.needs_npm
@pytest.mark.parametrize("package", [LZ4, SNAPPY, BROTLI_DECODER, BROTLI, BLAKE3, STRIP])
def test_garbage_leaves_a_published_module_usable(package):
    """Wrong data ends in an error that names itself, and the next call works."""
    plugin = load_package(*package, declarations=False)
    for name in plugin.functions():
        for garbage in ([b"\xff" * 9], [b""], [], [0], [None], [b"\x00" * 9, 1]):
            with contextlib.suppress(BadArguments, BadValue, LimitReached, PluginRaised):
                plugin(name, garbage)

    with pytest.raises(NoSuchFunction):
        plugin("still there", [])
