"""The Extism kernel as a module of our own: the memory through which plugin and host exchange bytes.

It stands beside the plugin in the same store, so that a plugin's loads and stores never leave WebAssembly.
Blocks lie in one memory, what is known about them in another, the ledger, which no function of the plugin
reaches: a plugin may spoil its bytes, but not the allocator.

    ledger   0  input: address, length    16  output: address, length    32  error: address
            40  where the free room begins    44  generation    48  32 lists of freed blocks
           176  bytes freed since the last sweep
           256  + address of a block: its length (0: freed), its capacity, the next freed one, its generation

A block's address is a multiple of 16 and never 0. An entry counts only in the generation that wrote it, so a
reset forgets all blocks at once. List n holds freed blocks of 2^n to 2^(n+1) - 1 bytes. A host begins a call
with ``begin`` and reads the first 40 bytes of the ledger when it is over; it makes room with ``alloc``, and
frees with ``release``.

Source of the functions' meaning: https://extism.org/docs/concepts/memory and the Extism project's kernel.
"""

STATE_SIZE = 40
LEDGER_SIZE = 2 << 16
"""Bytes of the ledger at the start; it is larger than the other memory, by a page."""

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

  ;; Put a freed block into its list.
  (func $keep (param $block i32)
    (local $list i32)
    (local.set $list (call $list (i32.load $ledger offset=260 (local.get $block))))
    (i32.store $ledger offset=264 (local.get $block) (i32.load $ledger (local.get $list)))
    (i32.store $ledger (local.get $list) (local.get $block)))

  ;; A freed block that is large enough, cut to size; 0 when the first few of its list are not, and no larger
  ;; one is there.
  (func $take (param $need i32) (result i32)
    (local $link i32) (local $block i32) (local $rest i32) (local $tries i32)
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
      ;; Whatever stands in a later list is large enough.
      (local.set $link (call $list (local.get $need)))
      (loop $again
        (local.set $link (i32.add (local.get $link) (i32.const 4)))
        (if (i32.ge_u (local.get $link) (i32.const 176)) (then (return (i32.const 0))))
        (local.set $block (i32.load $ledger (local.get $link)))
        (br_if $again (i32.eqz (local.get $block)))))
    (i32.store $ledger (local.get $link) (i32.load $ledger offset=264 (local.get $block)))
    (local.set $rest
      (i32.sub (i32.load $ledger offset=260 (local.get $block)) (local.get $need)))
    (if (i32.ge_u (local.get $rest) (i32.const 128))
      (then
        (i32.store $ledger offset=260 (local.get $block) (local.get $need))
        (call $enter (i32.add (local.get $block) (local.get $need)) (local.get $rest))
        (call $keep (i32.add (local.get $block) (local.get $need)))))
    (local.get $block))

  ;; A block of no length.
  (func $enter (param $block i32) (param $capacity i32)
    (i32.store $ledger offset=256 (local.get $block) (i32.const 0))
    (i32.store $ledger offset=260 (local.get $block) (local.get $capacity))
    (i32.store $ledger offset=268 (local.get $block) (call $generation)))

  ;; Make one block of freed ones that lie side by side; the last of all become free room again.
  (func $sweep
    (local $at i32) (local $next i32) (local $end i32)
    (memory.fill $ledger (i32.const 48) (i32.const 0) (i32.const 132))
    (local.set $at (i32.const 16))
    (local.set $end (i32.load $ledger offset=40 (i32.const 0)))
    (block $done
      (loop $again
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $next (local.get $at))
        (block $live
          (loop $more
            (br_if $live (i32.ge_u (local.get $next) (local.get $end)))
            (br_if $live (i32.load $ledger offset=256 (local.get $next)))
            (local.set $next
              (i32.add (local.get $next) (i32.load $ledger offset=260 (local.get $next))))
            (br $more)))
        (if (i32.eq (local.get $next) (local.get $at))
          (then
            (local.set $at (i32.add (local.get $at) (i32.load $ledger offset=260 (local.get $at))))
            (br $again)))
        (if (i32.eq (local.get $next) (local.get $end))
          (then (i32.store $ledger offset=40 (i32.const 0) (local.get $at)) (return)))
        (i32.store $ledger offset=260 (local.get $at) (i32.sub (local.get $next) (local.get $at)))
        (call $keep (local.get $at))
        (local.set $at (local.get $next))
        (br $again))))

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

  (func $end (param $need i32) (result i64)
    (i64.add (i64.load32_u $ledger offset=40 (i32.const 0)) (i64.extend_i32_u (local.get $need))))
  ;; What the host freed has no other way back than a sweep, which comes before the memory would grow.
  (func $again (param $need i32) (result i32)
    (local $block i32)
    (local.set $block (call $take (local.get $need)))
    (if (i32.or (local.get $block)
        (i32.or
          (i64.le_u (call $end (local.get $need)) (call $size))
          (i64.lt_u
            (i64.shl (i64.load32_u $ledger offset=176 (i32.const 0)) (i64.const 2)) (call $size))))
      (then (return (local.get $block))))
    (call $sweep)
    (call $take (local.get $need)))
  (func $make (param $length i64) (result i32)
    (local $block i32) (local $need i32) (local $end i64)
    (if (i32.or (i64.eqz (local.get $length)) (i64.gt_u (local.get $length) (i64.const 0xfffe0000)))
      (then (return (i32.const 0))))
    (local.set $need (i32.wrap_i64
      (i64.and (i64.add (local.get $length) (i64.const 15)) (i64.const 0xfffffff0))))
    (local.set $block (call $again (local.get $need)))
    (if (i32.eqz (local.get $block))
      (then
        (local.set $block (i32.load $ledger offset=40 (i32.const 0)))
        (local.set $end (call $end (local.get $need)))
        (if (i32.eqz (call $room (local.get $end))) (then (return (i32.const 0))))
        (i64.store32 $ledger offset=40 (i32.const 0) (local.get $end))
        (call $enter (local.get $block) (local.get $need))))
    (i64.store32 $ledger offset=256 (local.get $block) (local.get $length))
    (local.get $block))

  (func $alloc (export "alloc") (param $length i64) (result i64)
    (local $block i32)
    (local.set $block (call $make (local.get $length)))
    (if (local.get $block)
      (then (memory.fill $blocks (local.get $block) (i32.const 0) (i32.wrap_i64 (local.get $length)))))
    (i64.extend_i32_u (local.get $block)))

  (func $drop (param $block i64) (result i32)
    (local $at i32)
    (if (i64.eqz (call $length (local.get $block))) (then (return (i32.const 0))))
    (if (i64.eq (local.get $block) (i64.load $ledger (i32.const 0)))
      (then (i64.store $ledger offset=8 (i32.const 0) (i64.const 0))))
    (local.set $at (i32.wrap_i64 (local.get $block)))
    (i32.store $ledger offset=256 (local.get $at) (i32.const 0))
    (i32.store $ledger offset=176 (i32.const 0)
      (i32.add (i32.load $ledger offset=176 (i32.const 0)) (i32.load $ledger offset=260 (local.get $at))))
    (local.get $at))
  (func (export "free") (param $block i64)
    (local $at i32)
    (local.set $at (call $drop (local.get $block)))
    (if (i32.eqz (local.get $at)) (then (return)))
    (if (i32.eq (i32.load $ledger offset=40 (i32.const 0))
        (i32.add (local.get $at) (i32.load $ledger offset=260 (local.get $at))))
      (then (i32.store $ledger offset=40 (i32.const 0) (local.get $at)) (return)))
    (call $keep (local.get $at)))
  ;; The host frees what a plugin passes to it, and some development kits free it again: by then, nothing
  ;; else may be there.
  (func (export "release") (param $block i64) (drop (call $drop (local.get $block))))

  (func $reset (export "reset")
    (memory.fill $ledger (i32.const 0) (i32.const 0) (i32.const 40))
    (i32.store $ledger offset=40 (i32.const 0) (i32.const 16))
    (i32.store $ledger offset=44 (i32.const 0) (i32.add (call $generation) (i32.const 1)))
    (memory.fill $ledger (i32.const 48) (i32.const 0) (i32.const 132)))
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
