;; A WebAssembly plugin by the Frys bytes ABI: memory, frys_alloc, and functions (ptr, len) -> ptr << 32 | len.
(module
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))

  ;; The simplest allocator that works: one call at a time, so each argument may lie where the last one did.
  (func (export "frys_alloc") (param $len i32) (result i32)
    (local $need i32)
    (local.set $need (i32.add (i32.const 1024) (local.get $len)))
    (if (i32.gt_u (local.get $need) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (if (i32.eq (i32.const -1)
              (memory.grow (i32.add (i32.const 1)
                (i32.div_u (i32.sub (local.get $need) (i32.mul (memory.size) (i32.const 65536)))
                           (i32.const 65536)))))
          (then (return (i32.const 0))))))
    (i32.const 1024))

  (func (export "rot13") (param $ptr i32) (param $len i32) (result i64)
    (local $at i32) (local $end i32) (local $byte i32) (local $base i32)
    (local.set $at (local.get $ptr))
    (local.set $end (i32.add (local.get $ptr) (local.get $len)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $byte (i32.load8_u (local.get $at)))
        ;; The base of the letter's case, or 0 for anything that is no letter.
        (local.set $base (i32.const 0))
        (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 65)) (i32.const 26))
          (then (local.set $base (i32.const 65))))
        (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 97)) (i32.const 26))
          (then (local.set $base (i32.const 97))))
        (if (local.get $base)
          (then
            (i32.store8 (local.get $at)
              (i32.add (local.get $base)
                (i32.rem_u (i32.add (i32.sub (local.get $byte) (local.get $base)) (i32.const 13))
                           (i32.const 26))))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
            (i64.extend_i32_u (local.get $len)))))
