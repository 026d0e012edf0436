"""Plugins that are hostile before any of their functions is called: what they are made of."""

from collections.abc import Callable

import wasmtime


def _script(text: str) -> tuple[str, Callable[[], bytes]]:
    return ".js", text.encode


def _module(text: str) -> tuple[str, Callable[[], bytes]]:
    return ".wasm", lambda: bytes(
        wasmtime.wat2wasm(f'(module {text} (func (export "ping") (result i32) i32.const 0))')
    )


def _source(text: str) -> tuple[str, Callable[[], bytes]]:
    return ".py", f"{text}\n\n\ndef ping():\n    return '0'\n".encode


_PING = '(func (export "ping") (result i32) i32.const 0)'
_MANY = 400_000
_DEEP = 40_000


def _many_functions() -> bytes:
    """Functions without end, each with work for the compiler."""
    square = bytes.fromhex("20 00 20 00 6c 21 00")  # (local.set 0 (i32.mul (local.get 0) (local.get 0)))
    work = _sized(bytes.fromhex("01 01 7f") + square * 8 + b"\x0b")
    ping = _sized(bytes.fromhex("00 41 00 0b"))
    sections = {
        1: bytes.fromhex("02 60 00 00 60 00 01 7f"),
        3: _number(_MANY + 1) + bytes(_MANY) + b"\x01",
        7: b"\x01" + _sized(b"ping") + b"\x00" + _number(_MANY),
        10: _number(_MANY + 1) + work * _MANY + ping,
    }
    return b"\0asm\x01\0\0\0" + b"".join(bytes((kind,)) + _sized(body) for kind, body in sections.items())


def _number(value: int) -> bytes:
    """LEB128."""
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*digits, value))


def _sized(content: bytes) -> bytes:
    return _number(len(content)) + content


def _wide_table() -> bytes:
    """One jump with as many targets as the format allows."""
    targets = " 0" * 65_000
    return bytes(
        wasmtime.wat2wasm(
            f"(module (func (param i32) {f'(block (br_table{targets} (local.get 0)))' * 20}) {_PING})"
        )
    )


def _deep_blocks() -> bytes:
    """Blocks in blocks."""
    return bytes(wasmtime.wat2wasm(f"(module (func {'block ' * _DEEP} {'end ' * _DEEP}) {_PING})"))


MODULES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "import-file": _script("import { x } from '/etc/passwd';\nexport function ping() { return '0' }\n"),
    "import-above": _script("import { x } from '../../secret.js';\nexport function ping() { return '0' }\n"),
    "import-std": _script(
        "import * as std from 'std';\nexport function ping() { return std.open('/etc/passwd') }\n"
    ),
    "import-os": _script("import * as os from 'os';\nexport function ping() { return os.exec(['sh']) }\n"),
    "spin-on-load": _script("for (;;);\n"),
    "endless-start": _module("(func $f (loop (br 0))) (start $f)"),
    "data-outside": _module('(memory 1) (data (i32.const 0x7fffffff) "x")'),
    "elements-outside": _module("(table 1 funcref) (func $f) (elem (i32.const 1000000) $f)"),
    "huge-memory": _module('(memory (export "memory") 65536)'),
    "huge-table": _module("(table 0xffffffff funcref)"),
    "foreign-import": _module('(import "env" "system" (func (param i32) (result i32)))'),
    "socket-import": _module(
        '(import "wasi_snapshot_preview1" "sock_open" (func (param i32 i32 i32) (result i32)))'
    ),
    "many-functions": (".wasm", _many_functions),
    "wide-table": (".wasm", _wide_table),
    "deep-blocks": (".wasm", _deep_blocks),
    "cut-off": (".wasm", lambda: b"\0asm\1\0\0\0\1\xff\xff\xff\xff\x0f"),
    "namespace-on-import": _source("import os\nos.unshare(0x10000000)"),
    "spin-on-import": _source("while True:\n    pass"),
    "leave-on-import": _source("import os\nos._exit(0)"),
    "deep-source": _source("x = " + "(" * 150 + ")" * 150 + "\ny = " + "-" * 200_000 + "1"),
}
"""Name: the suffix of its file, and what makes its content."""
