"""The plugins of the chaos test, in every format; every part of an answer has the number of its version."""

import functools
import json
import os
import shutil
import subprocess
import tempfile
import textwrap
from pathlib import Path
from typing import Any, Final

import wasmtime

PARTS: Final = 8
"""How often an answer names the version that gave it."""
_MARK: Final = b"00000000"
"""Where the number of the version stands in code that is compiled once and then only patched."""

_PYTHON: Final = """
import os, time
import frys

PARTS = ["{number}"] * 8
count = 0

def plain(call):
    return [*PARTS, call]

def work(call):
    frys.host("did", call)
    return [*PARTS, call]

def put(key, value):
    frys.kv.set(key, value)
    return value

def get(key):
    return frys.kv.get(key)

def relay(target, call):
    return frys.call(target, "plain", call)

def chain(path, call):
    return frys.call(path[0], "chain", path[1:], call) if path else [*PARTS, call]

def nap(call, seconds):
    frys.host("did", call)
    time.sleep(seconds)
    return [*PARTS, call]

def ask(call, seconds):
    frys.host("slow", seconds)
    return [*PARTS, call]

def again(call, seconds):
    frys.host("did_again", call)
    time.sleep(seconds)
    return [*PARTS, call]

def tell(number):
    return frys.emit("tick", number)

def die(call):
    frys.host("did", call)
    os.abort()

def on_tick(number):
    frys.host("seen", number)

def export_state():
    return count

def import_state(value):
    global count
    count = value
"""
_JAVASCRIPT: Final = """
const parts = Array(8).fill("{number}");
export const plain = (call) => [...parts, call];
export const work = (call) => { frys.host("did", call); return [...parts, call]; };
export const put = (key, value) => { frys.kv.set(key, value); return value; };
export const get = (key) => frys.kv.get(key);
export const relay = (target, call) => frys.call(target, "plain", call);
export const chain = (path, call) =>
  path.length ? frys.call(path[0], "chain", path.slice(1), call) : [...parts, call];
export const ask = (call, seconds) => { frys.host("slow", seconds); return [...parts, call]; };
export const again = async (call, seconds) => {
  frys.host("did_again", call);
  await new Promise((done) => setTimeout(done, seconds * 1000));
  return [...parts, call];
};
export const nap = async (call, seconds) => {
  frys.host("did", call);
  await new Promise((done) => setTimeout(done, seconds * 1000));
  return [...parts, call];
};
export const tell = (number) => frys.emit("tick", number);
export const on_tick = (number) => { frys.host("seen", number) };
"""
_WASM: Final = """
(module
  (memory (export "memory") 4)
  (data (i32.const 16) "00000000")
  (global $next (mut i32) (i32.const 1024))
  (global $live (mut i32) (i32.const 0))
  (func $alloc (export "frys_alloc") (param $length i32) (result i32)
    (local $block i32)
    (local.set $block (global.get $next))
    (global.set $next (i32.add (local.get $block) (local.get $length)))
    (global.set $live (i32.add (global.get $live) (i32.const 1)))
    (local.get $block))
  (func (export "frys_free") (param i32 i32)
    (global.set $live (i32.sub (global.get $live) (i32.const 1)))
    (if (i32.eqz (global.get $live)) (then (global.set $next (i32.const 1024)))))
  (func (export "plain") (param $in i32) (param $length i32) (result i64)
    (local $out i32)
    (local $at i32)
    (local.set $out (call $alloc (i32.add (local.get $length) (i32.const 64))))
    (loop $part
      (memory.copy (i32.add (local.get $out) (local.get $at)) (i32.const 16) (i32.const 8))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $part (i32.lt_u (local.get $at) (i32.const 64))))
    (memory.copy (i32.add (local.get $out) (i32.const 64)) (local.get $in) (local.get $length))
    (i64.or (i64.shl (i64.extend_i32_u (local.get $out)) (i64.const 32))
      (i64.extend_i32_u (i32.add (local.get $length) (i32.const 64))))))
"""
_NATIVE: Final = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

const volatile char version[8] = {'0', '0', '0', '0', '0', '0', '0', '0'};

void frys_free(void *out) { free(out); }

int32_t plain(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    uint8_t *answer = malloc(in_len + 64);
    if (!answer)
        return -1;
    for (int at = 0; at < 64; at++)
        answer[at] = (uint8_t)version[at % 8];
    memcpy(answer + 64, in, in_len);
    *out = answer, *out_len = in_len + 64;
    return 0;
}
"""
_TALKS: Final = {
    "plain": {"params": ["int"], "returns": "list<any>"},
    "work": {"params": ["int"], "returns": "list<any>"},
    "put": {"params": ["string", "int"], "returns": "int"},
    "get": {"params": ["string"], "returns": "int?"},
    "relay": {"params": ["string", "int"], "returns": "any"},
    "chain": {"params": ["list<string>", "int"], "returns": "list<any>"},
    "nap": {"params": ["int", "float"], "returns": "list<any>"},
    "ask": {"params": ["int", "float"], "returns": "list<any>"},
    "again": {"params": ["int", "float"], "returns": "list<any>", "idempotent": True},
    "tell": {"params": ["int"], "returns": "int"},
    "on_tick": {"params": ["int"], "returns": "any"},
}
_EVENTS: Final = {"publishes": {"tick": "int"}, "subscribes": ["tick"]}
_BYTES: Final = {"plain": {"params": ["bytes"], "returns": "bytes"}}

KINDS: Final[dict[str, dict[str, Any]]] = {
    "pool": {"format": "python", "entry": "main.py", "exports": _TALKS, "events": _EVENTS, "instances": 3},
    "main": {
        "format": "python",
        "entry": "main.py",
        "interpreter": "main",
        "exports": _TALKS,
        "events": _EVENTS,
    },
    "state": {"format": "python", "entry": "main.py", "exports": _TALKS, "events": _EVENTS, "state": True},
    "idle": {"format": "python", "entry": "main.py", "exports": _TALKS},
    "guest": {"format": "python", "entry": "main.py", "exports": _TALKS},
    "script": {
        "format": "javascript",
        "entry": "main.mjs",
        "exports": _TALKS,
        "events": _EVENTS,
        "instances": 2,
    },
    "wasm": {"format": "wasm", "entry": "main.wasm", "exports": _BYTES},
    "native": {"format": "native", "entry": "main.so", "exports": _BYTES},
}
"""What the plugin.json of each plugin says, besides its id and version."""

POLICY: Final = """
extends: maximum
host_functions: [log, config, kv, did, did_again, seen, slow]
limits: {messages: 5000/s, execution_time: 4s}
messages: {call: {"*": ["*"]}, publish: ["*"], subscribe: ["*"]}
supervision:
  {max_queue: 200, backoff: 10ms, max_backoff: 500ms, max_crashes: 20, quarantine: 1s, failure_pause: 200ms,
   health_interval: 3s}
plugins:
  pool: {supervision: {instances: 3}}
  script: {supervision: {instances: 2}}
  idle: {supervision: {idle_timeout: 700ms, lazy: true}}
  guest: {supervision: {max_crashes: 3}}
"""


def talks(kind: str) -> bool:
    """Whether plugins of this name ask their host for something."""
    return KINDS[kind]["exports"] is _TALKS


@functools.cache
def _compiled(kind: str) -> bytes:
    if kind == "wasm":
        code = bytes(wasmtime.wat2wasm(_WASM))
    else:
        with tempfile.NamedTemporaryFile(suffix=".so") as library:
            command = ["gcc", "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", library.name]
            subprocess.run(command, input=_NATIVE.encode(), check=True)
            code = Path(library.name).read_bytes()
    assert code.count(_MARK) == 1
    return code


def _code(kind: str, number: int) -> bytes:
    match KINDS[kind]["format"]:
        case "python":
            # A file that is cut off anywhere must be no program: one whose last function has lost its
            # `return` would be a plugin that answers with None.
            whole = textwrap.indent(_PYTHON.replace("{number}", f"{number:08d}"), " ")
            return f"try:\n{whole}\nfinally:\n pass\n".encode()
        case "javascript":
            return _JAVASCRIPT.replace("{number}", f"{number:08d}").encode()
    return _compiled(kind).replace(_MARK, b"%08d" % number)


class Shelf:
    """The files of one plugin; a version is a folder, and a symbolic link says which one counts."""

    def __init__(self, top: Path, kind: str) -> None:
        self.kind = kind
        self.path = top / kind
        there = [int(folder.name.rpartition("-")[2]) for folder in top.glob(f".{kind}-[0-9]*")]
        self._number = max(there, default=0)
        self.written = set(range(1, self._number + 1))

    def write(self, beside: bool = False) -> tuple[int, Path]:
        """Write the next version, whole; its number, and where it is.

        Args:
            beside: In a folder of its own, which the link does not name.
        """
        self._number += 1
        self.written.add(self._number)
        folder = self.path.with_name(f".{self.kind}-{self._number}")
        folder.mkdir()
        about = {"id": self.kind, "version": f"1.0.{self._number}"} | KINDS[self.kind]
        (folder / about["entry"]).write_bytes(_code(self.kind, self._number))
        (folder / "plugin.json").write_text(json.dumps(about))
        if beside:
            return self._number, folder
        link = self.path.with_name(f".{self.kind}-link")
        link.symlink_to(folder.name)
        link.replace(self.path)
        return self._number, self.path

    def files(self) -> list[Path]:
        """The files of the version that counts."""
        return [self.path / KINDS[self.kind]["entry"], self.path / "plugin.json"]

    def tidy(self, keep: int = 6) -> None:
        """Remove the oldest folders; a plugin that serves needs none of them."""
        folders = sorted(self.path.parent.glob(f".{self.kind}-[0-9]*"), key=lambda path: path.stat().st_mtime)
        for folder in folders[:-keep]:
            if folder.name != os.readlink(self.path):
                shutil.rmtree(folder)


def parts_of(answer: Any, kind: str) -> tuple[list[int], int]:
    """The versions that an answer names, and the call that it answers.

    Raises:
        ValueError: It is no answer of these plugins at all.
    """
    try:
        if talks(kind):
            *parts, call = answer
            return [int(part) for part in parts], int(call)
        return [int(answer[at : at + 8]) for at in range(0, 64, 8)], int(answer[64:])
    except (TypeError, ValueError):
        raise ValueError(f"no answer: {answer!r}") from None
