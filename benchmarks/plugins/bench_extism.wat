;; The same echo for Extism, whose plugins reach their input and output through imported functions.
(module
  (import "extism:host/env" "input_length" (func $input_length (result i64)))
  (import "extism:host/env" "input_offset" (func $input_offset (result i64)))
  (import "extism:host/env" "input_load_u64" (func $input_load_u64 (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store_u64 (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
  (memory (export "memory") 17)
  ;; Copies its input into its own memory and its answer out of it, eight bytes a step, as Extism's
  ;; development kits do; the size must be a multiple of eight and at most 1 MiB.
  (func (export "echo") (result i32)
    (local $at i64) (local $size i64) (local $out i64)
    (local.set $size (call $input_length))
    (loop $in
      (i64.store (i32.wrap_i64 (local.get $at)) (call $input_load_u64 (local.get $at)))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $in (i64.lt_u (local.get $at) (local.get $size))))
    (local.set $out (call $alloc (local.get $size)))
    (local.set $at (i64.const 0))
    (loop $back
      (call $store_u64 (i64.add (local.get $out) (local.get $at)) (i64.load (i32.wrap_i64 (local.get $at))))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $back (i64.lt_u (local.get $at) (local.get $size))))
    (call $output_set (local.get $out) (local.get $size))
    (i32.const 0))
  ;; Names its input as its answer and touches neither.
  (func (export "pass") (result i32)
    (call $output_set (call $input_offset) (call $input_length))
    (i32.const 0)))
