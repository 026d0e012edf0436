"""wasm-bindgen modules that change arrays in place, take and return arrays of strings, and make objects."""

import pytest
from bindgen_modules import NEW_ALLOCATOR
from frys_runtime.launchers import wasm
from frys_runtime.launchers.artifact import Artifact
from frys_runtime.launchers.failures import BadArguments, Failure, LimitReached, PluginRaised
from frys_runtime.launchers.wasm_abi.bindgen_describe import decode
from frys_runtime.launchers.wasm_abi.types import of_typescript
from wasm_build import compile_text

# REF is what a value of the host is here: a handle in the heap, or a reference. `keep` makes a handle of one,
# for an array; `of` is the value behind one.
HANDLES = {
    "REF": "i32",
    "TABLE": "",
    "KEEP": "(local.get 0)",
    "OF": "(local.get 0)",
}
REFERENCES = {
    "REF": "externref",
    "TABLE": """
  (import "wbg" "__wbindgen_init_externref_table" (func $init))
  (table $refs (export "__wbindgen_externrefs") 4 externref)
  (func (export "__wbindgen_start") (call $init))
  (func $slot (export "__externref_table_alloc") (result i32)
    (table.grow $refs (ref.null extern) (i32.const 1)))
  (func (export "__externref_drop_slice") (param i32 i32)
    (global.set $dropped (i32.add (global.get $dropped) (local.get 1))))""",
    "KEEP": """(local.set 1 (call $slot)) (table.set $refs (local.get 1) (local.get 0)) (local.get 1)""",
    "OF": "(table.get $refs (local.get 0))",
}
MODULE = """(module
  (import "wbg" "__wbindgen_copy_to_typed_array" (func $copy_back (param i32 i32 REF)))
  (import "wbg" "__wbindgen_string_new" (func $string (param i32 i32) (result REF)))
  (import "wbg" "__wbindgen_number_new" (func $number (param f64) (result REF)))
  (import "wbg" "__wbindgen_string_get" (func $text (param i32 REF)))
  (import "wbg" "__wbindgen_object_clone_ref" (func $clone (param REF) (result REF)))
  (import "wbg" "__wbg_new_07b483f72211fd66" (func $new (result REF)))
  (import "wbg" "__wbg_set_3f1d0b984ed272ed" (func $set (param REF REF REF)))
  (import "wbg" "__wbg_set_c213c871859d6500" (func $set_index (param REF i32 REF)))
  (import "wbg" "__wbg_push_737cfc8c1432c2c6" (func $push (param REF REF) (result i32)))
  (import "wbg" "__wbg_queueMicrotask_48421b3cc9052b68" (func $later (param REF)))
  (import "wbg" "__wbindgen_closure_wrapper123" (func $closure (param i32 i32 i32) (result REF)))
  TABLE
  (memory (export "memory") 4)
  (global $next (mut i32) (i32.const 4096))
  (global $live (mut i32) (i32.const 0))
  (global $dropped (mut i32) (i32.const 0))
  (data (i32.const 16) "onetwowordlonger")
  (func $allocate (param i32) (result i32)
    (global.set $live (i32.add (global.get $live) (local.get 0)))
    (global.get $next)
    (global.set $next
      (i32.and (i32.add (i32.add (global.get $next) (local.get 0)) (i32.const 7)) (i32.const -8))))
  ALLOCATOR
  (func $keep (param REF) (result i32) (local i32) KEEP)
  (func $of (param i32) (result REF) OF)
  (func (export "live") (result i32) (global.get $live))
  (func (export "dropped") (result i32) (global.get $dropped))

  ;; Adds one to the first byte, and tells its host, as the compiler's code does when the slice is dropped.
  (func $change (param i32 i32 REF)
    (if (local.get 1) (then
      (i32.store8 (local.get 0) (i32.add (i32.load8_u (local.get 0)) (i32.const 1)))))
    (call $copy_back (local.get 0) (local.get 1) (local.get 2))
    (global.set $live (i32.sub (global.get $live) (local.get 1))))
  (func (export "change") (param i32 i32 REF) (call $change (local.get 0) (local.get 1) (local.get 2)))
  (func (export "change_numbers") (param i32 i32 REF)
    (i32.store16 (local.get 0) (i32.const -5))
    (call $copy_back (local.get 0) (i32.mul (local.get 1) (i32.const 2)) (local.get 2)))
  (func (export "change_and_count") (param i32 i32 REF) (result i32)
    (call $change (local.get 0) (local.get 1) (local.get 2)) (local.get 1))

  ;; Two strings of its own, and how long the strings are that it is given, which it owns then.
  (func (export "words") (result i32 i32) (local i32)
    (local.set 0 (call $allocate (i32.const 8)))
    (i32.store (local.get 0) (call $keep (call $string (i32.const 16) (i32.const 3))))
    (i32.store offset=4 (local.get 0) (call $keep (call $string (i32.const 19) (i32.const 3))))
    (local.get 0) (i32.const 2))
  (func (export "size") (param i32 i32) (result i32) (local $at i32) (local $sum i32)
    (block $end (loop $next
      (br_if $end (i32.ge_u (local.get $at) (local.get 1)))
      (call $text (i32.const 0)
        (call $of (i32.load (i32.add (local.get 0) (i32.shl (local.get $at) (i32.const 2))))))
      (local.set $sum (i32.add (local.get $sum) (i32.load (i32.const 4))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
    (local.get $sum))
  (func (export "outside") (result i32 i32) (i32.const 262140) (i32.const 2))
  (func (export "many") (result i32 i32) (i32.const 8) (i32.const -1))

  ;; Objects, as serde makes them.
  (func (export "object") (result REF) (local REF)
    (local.set 0 (call $new))
    (call $set (local.get 0) (call $string (i32.const 22) (i32.const 4)) (call $number (f64.const 1.5)))
    (call $set (local.get 0) (call $string (i32.const 26) (i32.const 6))
      (call $string (i32.const 16) (i32.const 3)))
    (local.get 0))
  (func (export "array") (result REF) (local REF)
    (local.set 0 (call $new))
    (call $set_index (local.get 0) (i32.const 0) (call $number (f64.const 0.5)))
    (call $set_index (local.get 0) (i32.const 1) (call $number (f64.const 2.5)))
    (drop (call $push (local.get 0) (call $string (i32.const 16) (i32.const 3))))
    (local.get 0))
  (func (export "empty") (result REF) (call $new))
  (func (export "circle") (result REF) (local REF)
    (local.set 0 (call $new))
    (call $set (local.get 0) (call $string (i32.const 16) (i32.const 3))
      (call $clone (local.get 0)))
    (local.get 0))
  (func (export "hoard") (local REF) (loop $again (local.set 0 (call $number (f64.const 1)))
    (drop (call $keep (local.get 0))) (br $again)))
  (func (export "later") (call $later (call $new)))
  (func (export "closure") (drop (call $closure (i32.const 1) (i32.const 2) (i32.const 3)))))
"""
# The words of a description, by their numbers.
NEWEST = (
    "I8 U8 I16 U16 I32 U32 I64 U64 I64_AS_F64 U64_AS_F64 I128 U128 F32 F64 BOOLEAN FUNCTION CLOSURE "
    "CACHED_STRING STRING REF REFMUT LONGREF SLICE VECTOR EXTERNREF NAMED_EXTERNREF ENUM STRING_ENUM "
    "RUST_STRUCT CHAR OPTIONAL RESULT UNIT CLAMPED NONNULL RAW_POINTER"
)
TYPESCRIPT = """
export function change(data: Uint8Array): void;
export function change_numbers(data: Int16Array): void;
export function change_and_count(data: Uint8Array): number;
export function words(): string[];
export function size(words: string[]): number;
export function outside(): string[];
export function many(): any[];
export function object(): any;
export function array(): any;
export function empty(): Thing[];
export function circle(): any;
export function run(url: string): Promise<string>;
export function each(callback: (item: number | undefined) => void): void;
"""


@pytest.fixture(params=["handles", "references"])
def plugin(request):
    """The module in the manner of older and of newer compilers."""
    return _load(HANDLES if request.param == "handles" else REFERENCES)


def _load(words: dict[str, str], more: str = "", **options) -> wasm.Plugin:
    text = MODULE.replace("ALLOCATOR", NEW_ALLOCATOR.replace("MALLOC", "__wbindgen_malloc")).replace(
        '"FREE"', '"__wbindgen_free"'
    )
    text = text.replace("TABLE", words["TABLE"]).rstrip().removesuffix(")") + f"{more})"
    for name in ("REF", "KEEP", "OF"):
        text = text.replace(f"{name} ", f"{words[name]} ").replace(f"{name})", f"{words[name]})")
    files = {"it_bg.wasm": memoryview(compile_text(text)), "it.d.ts": memoryview(TYPESCRIPT.encode())}
    return wasm.load(Artifact("tester", "it_bg.wasm", files, memory_limit=64 << 20, options=options))


def test_arrays_that_a_function_changes_come_back(plugin):
    """Instead of nothing, or behind the result; nothing is left behind."""
    before = plugin("live", [])
    for _ in range(50):
        assert plugin("change", [b"abc"]) == b"bbc"
        assert plugin("change", [b""]) == b""
        assert plugin("change_and_count", [b"abc"]) == [3, b"bbc"]
    assert plugin("live", []) == before
    assert plugin("change_numbers", [[1, 2]]) == [-5, 2]
    with pytest.raises(BadArguments, match="takes a list of i16"):
        plugin("change_numbers", ["x"])


def test_arrays_that_are_declared_so():
    """plugin.json says it in a word, where a module has both kinds."""
    functions = {"change": {"params": ["mut:bytes"]}, "change_numbers": {"params": ["mut:list:u16"]}}
    plugin = _load(HANDLES, functions=functions)

    assert plugin("change", [b"abc"]) == b"bbc"
    assert plugin("change_numbers", [[1, 2]]) == [65531, 2]
    assert plugin.functions()["change"] == "(mut:bytes) -> void"


def test_arrays_of_strings(plugin):
    """They come out and go in; what comes out is given back."""
    for _ in range(20):
        assert plugin("words", []) == ["one", "two"]
        assert plugin("size", [["a", "größe", ""]]) == 8
        assert plugin("size", [[]]) == 0
    for wrong in (["a", 1], "a", None, b"a"):
        with pytest.raises(BadArguments, match="size: argument 1 takes a list of str"):
            plugin("size", [wrong])


def test_objects_of_serde(plugin):
    """An object, an array by index and by push, an empty array; one that contains itself is refused."""
    assert plugin("object", []) == {"word": 1.5, "longer": "one"}
    assert plugin("array", []) == [0.5, 2.5, "one"]
    assert plugin("empty", []) == []
    with pytest.raises(Failure, match="nested deeper than 64"):
        plugin("circle", [])


def test_arrays_of_a_hostile_module(plugin):
    """Arrays outside of the memory, and more values than there may be."""
    for function in ("outside", "many"):
        with pytest.raises(Failure, match="outside its memory"):
            plugin(function, [])
    with pytest.raises(LimitReached):
        plugin("hoard", [])
    assert plugin("words", []) == ["one", "two"]


def test_what_needs_javascript_is_refused_by_what_it_is():
    """Async functions and closures: as declared, and where only the module's imports tell."""
    more = """(func (export "run") (param i32 i32) (result REF) (call $new))
      (func (export "each") (param REF))"""
    plugin = _load(REFERENCES, more)

    with pytest.raises(BadArguments, match="run is async: it returns a promise"):
        plugin("run", ["https://example.com/"])
    with pytest.raises(BadArguments, match="each: argument 1 is a function"):
        plugin("each", [1])
    with pytest.raises(PluginRaised, match=r"queueMicrotask.*: it is async"):
        plugin("later", [])
    with pytest.raises(PluginRaised, match=r"closure_wrapper123.*a closure"):
        plugin("closure", [])


def test_descriptions_and_declarations_name_them():
    """Words of a raw module, and TypeScript: changed arrays, strings, promises, closures."""
    names = NEWEST.split()

    def words(text: str) -> list[int]:
        return [int(word) if word.isdigit() else names.index(word) for word in text.split()]

    signature = decode(words("FUNCTION 0 1 REFMUT SLICE U8 VECTOR STRING VECTOR STRING"))
    assert str(signature) == "(mut:bytes) -> list:str"
    promise = f"NAMED_EXTERNREF 7 {' '.join(str(ord(letter)) for letter in 'Promise')}"
    signature = decode(words(f"FUNCTION 0 1 REF FUNCTION 0 1 U8 UNIT UNIT {promise} {promise}"))
    assert str(signature) == "(function) -> promise"

    types = of_typescript(TYPESCRIPT)
    assert str(types["run"]) == "(str) -> promise"
    assert str(types["each"]) == "(function) -> void"
    assert str(types["size"]) == "(list:str) -> number"
