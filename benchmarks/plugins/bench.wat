;; The measured WebAssembly module: the Frys bytes ABI, a numeric function, and an export that Extism can call.
(module
  (memory (export "memory") 1)
  ;; One call at a time and nothing kept between calls, so every argument begins at the same place.
  (func (export "frys_alloc") (param $size i32) (result i32)
    (local $missing i32)
    (local.set $missing (i32.sub
      (i32.shr_u (i32.add (i32.mul (local.get $size) (i32.const 2)) (i32.const 131071)) (i32.const 16))
      (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then (if (i32.lt_s (memory.grow (local.get $missing)) (i32.const 0)) (then (return (i32.const 0))))))
    (i32.const 1024))
  (func (export "echo") (param $data i32) (param $size i32) (result i64)
    (local $copy i32)
    (local.set $copy (i32.add (local.get $data) (local.get $size)))
    (memory.copy (local.get $copy) (local.get $data) (local.get $size))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $copy)) (i64.const 32)) (i64.extend_i32_u (local.get $size))))
  (func $fib (export "fib") (param $n i32) (result i32)
    (if (result i32) (i32.lt_s (local.get $n) (i32.const 2))
      (then (local.get $n))
      (else (i32.add
        (call $fib (i32.sub (local.get $n) (i32.const 1)))
        (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
  (func (export "answer") (result i32) (i32.const 0)))
