;; Hostile: runs for ever. No system call is made, so only a clock can stop it.
(module
  (func (export "run")
    (loop $forever (br $forever))))
