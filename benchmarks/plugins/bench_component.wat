;; A component whose one function copies its bytes.
(component
  (core module $module
    (memory (export "memory") 4)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "echo") (param $from i32) (param $size i32) (result i32)
      (memory.copy (i32.const 131072) (local.get $from) (local.get $size))
      (i32.store (i32.const 16) (i32.const 131072))
      (i32.store (i32.const 20) (local.get $size))
      (i32.const 16)))
  (core instance $core (instantiate $module))
  (alias core export $core "memory" (core memory $memory))
  (alias core export $core "realloc" (core func $realloc))
  (func (export "echo") (param "data" (list u8)) (result (list u8))
    (canon lift (core func $core "echo") (memory $memory) (realloc $realloc))))
