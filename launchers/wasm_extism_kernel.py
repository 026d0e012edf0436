"""The Extism kernel as a module of our own: the memory through which plugin and host exchange bytes.

It stands beside the plugin in the same store, so that a plugin's loads and stores never leave WebAssembly.
Blocks lie in one memory, what is known about them in another, the ledger, which no function of the plugin
reaches: a plugin may spoil its bytes, but not the allocator.

    ledger   0  input: address, length    16  output: address, length    32  error: address
            40  where the free room begins    44  generation    48  32 lists of freed blocks
           256  + address of a block: its length (0: freed), its capacity, the next freed one, its generation

A block's address is a multiple of 16 and never 0. An entry counts only in the generation that wrote it, so a
reset forgets all blocks at once. List n holds freed blocks of 2^n to 2^(n+1) - 1 bytes. A host begins a call
with ``begin`` and reads the first 40 bytes of the ledger when it is over; it makes room with ``alloc``.

Source of the functions' meaning: https://extism.org/docs/concepts/memory and the Extism project's kernel.
"""

STATE_SIZE = 40

KERNEL = b"""(module
  (memory $blocks (export "memory") 1)
  (memory $ledger (export "ledger") 2)
  (data (memory $ledger) (i32.const 40) "\\10\\00\\00\\00\\01")

  (func $size (result i64) (i64.shl (i64.extend_i32_u (memory.size $blocks)) (i64.const 16)))
  (func $generation (result i32) (i32.load $ledger offset=44 (i32.const 0)))
  (func $list (param $capacity i32) (result i32)
    (i32.add (i32.const 48)
      (i32.shl (i32.sub (i32.const 31) (i32.clz (local.get $capacity))) (i32.const 2))))

  (func $length (export "length") (param $block i64) (result i64)
    (local $at i32)
    (if (i64.ge_u (local.get $block) (i64.load32_u $ledger offset=40 (i32.const 0)))
      (then (return (i64.const 0))))
    (local.set $at (i32.wrap_i64 (local.get $block)))
    (if (i32.or
        (i32.or (i32.eqz (local.get $at)) (i32.and (local.get $at) (i32.const 15)))
        (i32.ne (i32.load $ledger offset=268 (local.get $at)) (call $generation)))
      (then (return (i64.const 0))))
    (i64.load32_u $ledger offset=256 (local.get $at)))
  (export "length_unsafe" (func $length))

  ;; The first of the lists' blocks that is large enough; 0 when the first few are not.
  (func $take (param $need i32) (result i32)
    (local $link i32) (local $block i32) (local $tries i32)
    (local.set $link (call $list (local.get $need)))
    (local.set $tries (i32.const 4))
    (block $found
      (block $next
        (loop $again
          (local.set $block (i32.load $ledger (local.get $link)))
          (br_if $next (i32.eqz (local.get $block)))
          (br_if $found
            (i32.ge_u (i32.load $ledger offset=260 (local.get $block)) (local.get $need)))
          (local.set $link (i32.add (local.get $block) (i32.const 264)))
          (local.set $tries (i32.sub (local.get $tries) (i32.const 1)))
          (br_if $again (local.get $tries))))
      ;; Whatever stands in the next list is large enough.
      (local.set $link (i32.add (call $list (local.get $need)) (i32.const 4)))
      (if (i32.ge_u (local.get $link) (i32.const 176)) (then (return (i32.const 0))))
      (local.set $block (i32.load $ledger (local.get $link)))
      (if (i32.eqz (local.get $block)) (then (return (i32.const 0)))))
    (i32.store $ledger (local.get $link) (i32.load $ledger offset=264 (local.get $block)))
    (local.get $block))

  ;; Room up to an address. The ledger grows first and is always one page ahead of the blocks.
  (func $room (param $end i64) (result i32)
    (local $pages i32)
    (if (i64.le_u (local.get $end) (call $size)) (then (return (i32.const 1))))
    (if (i64.gt_u (local.get $end) (i64.const 0xfffe0000)) (then (return (i32.const 0))))
    (local.set $pages (i32.sub
      (i32.wrap_i64 (i64.shr_u (i64.add (local.get $end) (i64.const 0xffff)) (i64.const 16)))
      (memory.size $blocks)))
    (if (i32.lt_s (memory.grow $ledger (local.get $pages)) (i32.const 0)) (then (return (i32.const 0))))
    (i32.ge_s (memory.grow $blocks (local.get $pages)) (i32.const 0)))

  (func $make (param $length i64) (result i32)
    (local $block i32) (local $need i32) (local $end i64)
    (if (i32.or (i64.eqz (local.get $length)) (i64.gt_u (local.get $length) (i64.const 0xfffe0000)))
      (then (return (i32.const 0))))
    (local.set $need (i32.wrap_i64
      (i64.and (i64.add (local.get $length) (i64.const 15)) (i64.const 0xfffffff0))))
    (local.set $block (call $take (local.get $need)))
    (if (i32.eqz (local.get $block))
      (then
        (local.set $block (i32.load $ledger offset=40 (i32.const 0)))
        (local.set $end (i64.add
          (i64.extend_i32_u (local.get $block)) (i64.extend_i32_u (local.get $need))))
        (if (i32.eqz (call $room (local.get $end))) (then (return (i32.const 0))))
        (i64.store32 $ledger offset=40 (i32.const 0) (local.get $end))
        (i32.store $ledger offset=260 (local.get $block) (local.get $need))
        (i32.store $ledger offset=268 (local.get $block) (call $generation))))
    (i64.store32 $ledger offset=256 (local.get $block) (local.get $length))
    (local.get $block))

  (func $alloc (export "alloc") (param $length i64) (result i64)
    (local $block i32)
    (local.set $block (call $make (local.get $length)))
    (if (local.get $block)
      (then (memory.fill $blocks (local.get $block) (i32.const 0) (i32.wrap_i64 (local.get $length)))))
    (i64.extend_i32_u (local.get $block)))

  (func (export "free") (param $block i64)
    (local $at i32) (local $capacity i32) (local $list i32)
    (if (i64.eqz (call $length (local.get $block))) (then (return)))
    (if (i64.eq (local.get $block) (i64.load $ledger (i32.const 0)))
      (then (i64.store $ledger offset=8 (i32.const 0) (i64.const 0))))
    (local.set $at (i32.wrap_i64 (local.get $block)))
    (local.set $capacity (i32.load $ledger offset=260 (local.get $at)))
    (i32.store $ledger offset=256 (local.get $at) (i32.const 0))
    (if (i32.eq (i32.add (local.get $at) (local.get $capacity))
        (i32.load $ledger offset=40 (i32.const 0)))
      (then (i32.store $ledger offset=40 (i32.const 0) (local.get $at)) (return)))
    (local.set $list (call $list (local.get $capacity)))
    (i32.store $ledger offset=264 (local.get $at) (i32.load $ledger (local.get $list)))
    (i32.store $ledger (local.get $list) (local.get $at)))

  (func $reset (export "reset")
    (memory.fill $ledger (i32.const 0) (i32.const 0) (i32.const 40))
    (i32.store $ledger offset=40 (i32.const 0) (i32.const 16))
    (i32.store $ledger offset=44 (i32.const 0) (i32.add (call $generation) (i32.const 1)))
    (memory.fill $ledger (i32.const 48) (i32.const 0) (i32.const 128)))
  ;; Everything a call needs before it, but the bytes: the input's address, or 0 when it has none.
  (func (export "begin") (param $length i64) (result i64)
    (local $block i64)
    (call $reset)
    (local.set $block (i64.extend_i32_u (call $make (local.get $length))))
    (if (i64.ne (local.get $block) (i64.const 0))
      (then
        (i64.store $ledger (i32.const 0) (local.get $block))
        (i64.store $ledger offset=8 (i32.const 0) (local.get $length))))
    (local.get $block))

  (func $inside (param $at i64) (param $length i64) (result i32)
    (i32.and
      (i64.le_u (local.get $length) (call $size))
      (i64.le_u (local.get $at) (i64.sub (call $size) (local.get $length)))))
  ;; Plugins call the next six once for every eight bytes: they call nothing themselves.
  (func (export "load_u8") (param $at i64) (result i32)
    (if (result i32)
      (i64.lt_u (local.get $at) (i64.shl (i64.extend_i32_u (memory.size $blocks)) (i64.const 16)))
      (then (i32.load8_u $blocks (i32.wrap_i64 (local.get $at)))) (else (i32.const 0))))
  (func (export "load_u64") (param $at i64) (result i64)
    (if (result i64)
      (i64.le_u (local.get $at)
        (i64.sub (i64.shl (i64.extend_i32_u (memory.size $blocks)) (i64.const 16)) (i64.const 8)))
      (then (i64.load $blocks (i32.wrap_i64 (local.get $at)))) (else (i64.const 0))))
  (func (export "store_u8") (param $at i64) (param $value i32)
    (if (i64.lt_u (local.get $at) (i64.shl (i64.extend_i32_u (memory.size $blocks)) (i64.const 16)))
      (then (i32.store8 $blocks (i32.wrap_i64 (local.get $at)) (local.get $value)))))
  (func (export "store_u64") (param $at i64) (param $value i64)
    (if (i64.le_u (local.get $at)
        (i64.sub (i64.shl (i64.extend_i32_u (memory.size $blocks)) (i64.const 16)) (i64.const 8)))
      (then (i64.store $blocks (i32.wrap_i64 (local.get $at)) (local.get $value)))))
  (func (export "input_load_u8") (param $at i64) (result i32)
    (if (result i32) (i64.lt_u (local.get $at) (i64.load $ledger offset=8 (i32.const 0)))
      (then (i32.load8_u $blocks
        (i32.wrap_i64 (i64.add (i64.load $ledger (i32.const 0)) (local.get $at)))))
      (else (i32.const 0))))
  (func (export "input_load_u64") (param $at i64) (result i64)
    ;; The last eight bytes begin at length - 8; where the input is shorter, nothing is below 0.
    (if (result i64)
      (i64.lt_s
        (i64.sub (i64.load $ledger offset=8 (i32.const 0)) (i64.const 8))
        (i64.const 0))
      (then (i64.const 0))
      (else (if (result i64)
        (i64.le_u (local.get $at) (i64.sub (i64.load $ledger offset=8 (i32.const 0)) (i64.const 8)))
        (then (i64.load $blocks
          (i32.wrap_i64 (i64.add (i64.load $ledger (i32.const 0)) (local.get $at)))))
        (else (i64.const 0))))))

  (func (export "input_offset") (result i64) (i64.load $ledger (i32.const 0)))
  (func (export "input_length") (result i64) (i64.load $ledger offset=8 (i32.const 0)))
  (func (export "input_set") (param $at i64) (param $length i64)
    (if (call $inside (local.get $at) (local.get $length))
      (then
        (i64.store $ledger (i32.const 0) (local.get $at))
        (i64.store $ledger offset=8 (i32.const 0) (local.get $length)))))

  (func (export "output_offset") (result i64) (i64.load $ledger offset=16 (i32.const 0)))
  (func (export "output_length") (result i64) (i64.load $ledger offset=24 (i32.const 0)))
  (func (export "output_set") (param $at i64) (param $length i64)
    (if (call $inside (local.get $at) (local.get $length))
      (then
        (i64.store $ledger offset=16 (i32.const 0) (local.get $at))
        (i64.store $ledger offset=24 (i32.const 0) (local.get $length)))))
  (func (export "error_get") (result i64) (i64.load $ledger offset=32 (i32.const 0)))
  (func (export "error_set") (param $at i64)
    (if (i64.lt_u (local.get $at) (call $size))
      (then (i64.store $ledger offset=32 (i32.const 0) (local.get $at)))))
  (func (export "memory_bytes") (result i64) (call $size)))
"""
