;; The demo's WebAssembly plugin: seal(bytes) gives the bytes back with their CRC-32 behind them, four
;; bytes little-endian, as gzip does (RFC 1952 section 8). One buffer serves argument and result.
(module
  (memory (export "memory") 1)
  (func $initialize
    (local $byte i32) (local $rest i32) (local $bit i32)
    (loop $bytes
      (local.set $rest (local.get $byte))
      (local.set $bit (i32.const 8))
      (loop $bits
        (local.set $rest
          (i32.xor
            (i32.shr_u (local.get $rest) (i32.const 1))
            (i32.and (i32.const 0xedb88320) (i32.sub (i32.const 0) (i32.and (local.get $rest) (i32.const 1))))))
        (br_if $bits (local.tee $bit (i32.sub (local.get $bit) (i32.const 1)))))
      (i32.store (i32.shl (local.get $byte) (i32.const 2)) (local.get $rest))
      (br_if $bytes (i32.lt_u (local.tee $byte (i32.add (local.get $byte) (i32.const 1))) (i32.const 256)))))
  (start $initialize)
  (func (export "frys_alloc") (param $length i32) (result i32)
    (local $missing i32)
    (local.set $missing
      (i32.sub
        (i32.shr_u (i32.add (local.get $length) (i32.const 66563)) (i32.const 16))
        (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then (return (i32.const 0))))))
    (i32.const 1024))
  (func (export "seal") (param $at i32) (param $length i32) (result i64)
    (local $crc i32) (local $end i32) (local $next i32)
    (local.set $crc (i32.const -1))
    (local.set $next (local.get $at))
    (local.set $end (i32.add (local.get $at) (local.get $length)))
    (block $done
      (loop $bytes
        (br_if $done (i32.eq (local.get $next) (local.get $end)))
        (local.set $crc
          (i32.xor
            (i32.shr_u (local.get $crc) (i32.const 8))
            (i32.load
              (i32.shl
                (i32.and (i32.xor (local.get $crc) (i32.load8_u (local.get $next))) (i32.const 255))
                (i32.const 2)))))
        (local.set $next (i32.add (local.get $next) (i32.const 1)))
        (br $bytes)))
    (i32.store (local.get $end) (i32.xor (local.get $crc) (i32.const -1)))
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32))
      (i64.extend_i32_u (i32.add (local.get $length) (i32.const 4))))))
