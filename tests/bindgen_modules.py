"""wasm-bindgen modules of every convention, written by hand."""

from wasm_build import FIXTURES

OLD_ALLOCATOR = """
  (func (export "MALLOC") (param $size i32) (result i32) (call $allocate (local.get $size)))
  (func (export "FREE") (param i32 i32)
    (global.set $live (i32.sub (global.get $live) (local.get 1))))"""
NEW_ALLOCATOR = """
  (func (export "MALLOC") (param $size i32) (param $align i32) (result i32)
    (call $allocate (local.get $size)))
  (func (export "FREE") (param i32 i32 i32)
    (global.set $live (i32.sub (global.get $live) (local.get 1))))"""

# &[u8] -> Vec<u8>, &[u8] -> Result<Vec<u8>, E>, &[u8] -> Result<(), E>, struct with &mut self, u32 -> Result
BY_POINTER = """
  (func $pair (param $return i32) (param i32 i32)
    (i32.store (local.get $return) (local.get 1)) (i32.store offset=4 (local.get $return) (local.get 2)))
  (func (export "echo") (param $return i32) (param i32 i32)
    (call $pair (local.get $return) (local.get 1) (local.get 2)))
  (func (export "longer") (param $return i32) (param i32 i32)
    (if (i32.lt_u (local.get 2) (i32.const 3))
      (then
        (i32.store offset=8 (local.get $return) (call $string (i32.const 16) (i32.const 9)))
        (i32.store offset=12 (local.get $return) (i32.const 1)))
      (else
        (call $pair (local.get $return) (local.get 1) (local.get 2))
        (i64.store offset=8 (local.get $return) (i64.const 0)))))
  (func (export "check") (param $return i32) (param i32 i32)
    (call $pair (local.get $return) (i32.const 0) (i32.const 0))
    (if (i32.lt_u (local.get 2) (i32.const 3))
      (then (call $pair (local.get $return) (call $string (i32.const 16) (i32.const 9)) (i32.const 1)))))
  (func (export "size") (param $return i32) (param i32 i32)
    (i32.store (local.get $return) (local.get 2))
    (call $pair (i32.add (local.get $return) (i32.const 4))
      (if (result i32) (local.get 2) (then (i32.const 0)) (else (call $string (i32.const 16) (i32.const 9))))
      (i32.eqz (local.get 2))))
  (func (export "myplugin_process") (param $return i32) (param $self i32) (param i32 i32)
    (i32.store (local.get $self) (i32.add (i32.load (local.get $self)) (i32.const 1)))
    (call $pair (local.get $return) (local.get 2) (local.get 3)))"""
MULTI_VALUE = """
  (func (export "echo") (param i32 i32) (result i32 i32) (local.get 0) (local.get 1))
  (func (export "longer") (param i32 i32) (result i32 i32 i32 i32)
    (if (result i32 i32 i32 i32) (i32.lt_u (local.get 1) (i32.const 3))
      (then (i32.const 0) (i32.const 0) (call $string (i32.const 16) (i32.const 9)) (i32.const 1))
      (else (local.get 0) (local.get 1) (i32.const 0) (i32.const 0))))
  (func (export "check") (param i32 i32) (result i32 i32)
    (if (result i32 i32) (i32.lt_u (local.get 1) (i32.const 3))
      (then (call $string (i32.const 16) (i32.const 9)) (i32.const 1))
      (else (i32.const 0) (i32.const 0))))
  (func (export "size") (param i32 i32) (result i32 i32 i32)
    (if (result i32 i32 i32) (local.get 1)
      (then (local.get 1) (i32.const 0) (i32.const 0))
      (else (i32.const 0) (call $string (i32.const 16) (i32.const 9)) (i32.const 1))))
  (func (export "myplugin_process") (param $self i32) (param i32 i32) (result i32 i32)
    (i32.store (local.get $self) (i32.add (i32.load (local.get $self)) (i32.const 1)))
    (local.get 1) (local.get 2))"""

# Each generation of the tool: the namespace of imports, the helpers' names and signatures, the convention.
CONVENTIONS = {
    "0.2.80 for Node": {
        "ORIGIN": "__wbindgen_placeholder__",
        "STRING_NEW": "__wbindgen_string_new",
        "THROW": "__wbindgen_throw",
        "ALLOCATOR": OLD_ALLOCATOR,
        "FREE_TYPE": "(param i32)",
        "FUNCTIONS": BY_POINTER,
    },
    "0.2.90 for the web": {
        "ORIGIN": "wbg",
        "STRING_NEW": "__wbindgen_error_new",
        "THROW": "__wbindgen_throw",
        "ALLOCATOR": NEW_ALLOCATOR,
        "FREE_TYPE": "(param i32)",
        "FUNCTIONS": BY_POINTER,
    },
    "0.2.100, stripped": {
        "ORIGIN": "wbg",
        "STRING_NEW": "__wbindgen_string_new",
        "THROW": "__wbg_wbindgenthrow_451ec1a8469d7eb6",
        "ALLOCATOR": '(func (export "__wbindgen_export_0") (param i32))'
        + NEW_ALLOCATOR.replace("MALLOC", "__wbindgen_export_1").replace("FREE", "__wbindgen_export_2"),
        "FREE_TYPE": "(param i32 i32)",
        "FUNCTIONS": BY_POINTER,
    },
    "0.2.80, stripped": {
        "ORIGIN": "./it_bg.js",
        "STRING_NEW": "__wbindgen_string_new",
        "THROW": "__wbindgen_throw",
        "ALLOCATOR": OLD_ALLOCATOR.replace("MALLOC", "__wbindgen_export_0").replace(
            "FREE", "__wbindgen_export_1"
        ),
        "FREE_TYPE": "(param i32)",
        "FUNCTIONS": BY_POINTER,
    },
    "0.2.120, several results": {
        "ORIGIN": "./it_bg.js",
        "STRING_NEW": "__wbg_Error_83742b46f01ce22d",
        "THROW": "__wbg___wbindgen_throw_6ddd609b62940d55",
        "ALLOCATOR": NEW_ALLOCATOR,
        "FREE_TYPE": "(param i32 i32)",
        "FUNCTIONS": MULTI_VALUE,
    },
}


def source(convention: str, more: str = "") -> str:
    """The fixture in the manner of one version of the tool."""
    text = (FIXTURES / "bindgen.wat").read_text()
    for name, value in CONVENTIONS[convention].items():
        text = text.replace(name, value + more if name == "FUNCTIONS" else value)
    return text.replace('"MALLOC"', '"__wbindgen_malloc"').replace('"FREE"', '"__wbindgen_free"')


TYPESCRIPT = """
/* tslint:disable */
/** A comment, with export function add(a: string): string; in it. */
export function echo(data: string): string;
export function add(a: number, b: number): number;
export function is_even(n: number): boolean;
export function check(data: Uint8Array): void;
// export class Other {}
export class MyPlugin {
  free(): void;
  constructor();
  /** Process. */
  process(input: Uint8Array): Uint8Array;
  count(): number;
  calls: number;
}
export enum Kind { A, B }
export default function init(module?: Promise<{ a: number }>): Promise<void>;
"""

EXTERNREF = """(module
  (import "./it_bg.js" "__wbindgen_init_externref_table" (func $init))
  (import "./it_bg.js" "__wbg_Error_83742b46f01ce22d" (func $error (param i32 i32) (result externref)))
  (import "./it_bg.js" "__wbg_stringify_b5fb28f6465d9c3e"
    (func $stringify (param externref) (result externref)))
  (import "./it_bg.js" "__wbg___wbindgen_string_get_e4f06c90489ad01b" (func $text (param i32 externref)))
  (import "./it_bg.js" "__wbg___wbindgen_is_undefined_2d472862bd29a478"
    (func $undefined (param externref) (result i32)))
  (memory (export "memory") 1)
  (table $refs (export "__wbindgen_externrefs") 4 externref)
  (table $functions (export "__wbindgen_export_2") 1 funcref)
  (global $next (mut i32) (i32.const 1024))
  (global $slot (mut i32) (i32.const 1))
  (data (i32.const 16) "not enough")
  (func (export "__wbindgen_start") (call $init))
  (func $allocate (export "__wbindgen_malloc") (param i32 i32) (result i32)
    (global.get $next) (global.set $next (i32.add (global.get $next) (local.get 0))))
  (func (export "__wbindgen_free") (param i32 i32 i32))
  (func $alloc (export "__externref_table_alloc") (result i32)
    (global.set $slot (table.grow $refs (ref.null extern) (i32.const 1))) (global.get $slot))
  (func (export "fail") (param i32) (result i32 i32)
    (table.set $refs (call $alloc) (call $error (i32.const 16) (i32.const 10)))
    (global.get $slot) (i32.const 1))
  (func (export "json") (param externref) (result i32 i32)
    (call $text (i32.const 8) (call $stringify (local.get 0)))
    (i32.load (i32.const 8)) (i32.load (i32.const 12)))
  (func (export "owned") (param i32) (result i32 i32)
    (call $text (i32.const 8) (call $stringify (table.get $refs (local.get 0))))
    (i32.load (i32.const 8)) (i32.load (i32.const 12)))
  (func (export "same") (param externref) (result externref) (local.get 0))
  (func (export "is_undefined") (param externref) (result i32) (call $undefined (local.get 0)))
  (func (export "reserved") (param i32) (result externref) (table.get $refs (local.get 0)))
  (func (export "hoard") (param externref)
    (loop $again
      (table.set $refs (call $alloc) (call $error (i32.const 16) (i32.const 10))) (br $again))))"""
