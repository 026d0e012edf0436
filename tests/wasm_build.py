"""Compile the WASM fixtures: no binary is kept in the repository."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import features
import pip_packages
import pytest
import wasmtime

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "wasm"
# The package of the index has the whole compiler, 100 MB.
ZIG = "ziglang==0.17.1"


@functools.cache
def compile_fixture(name: str) -> bytes:
    """Assemble ``fixtures/wasm/<name>.wat`` into a module."""
    return compile_text((FIXTURES / f"{name}.wat").read_text())


def compile_text(text: str) -> bytes:
    """Assemble a module from its text."""
    return bytes(wasmtime.wat2wasm(text))


def rename_imports(code: bytes, names: dict[tuple[str, str], tuple[str, str]]) -> bytes:
    """Have a module import functions of the same types under other names (binary format, section 2)."""
    start, size, body = next(section for section in _sections(code) if code[section[0]] == 2)
    content = code[body : body + size]
    for old, new in names.items():
        assert content.count(_names(*old)) == 1
        content = content.replace(_names(*old), _names(*new))
    return code[: start + 1] + _leb(len(content)) + content + code[body + size :]


def _sections(code: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each section starts, how long its content is, and where that starts."""
    at = 8
    while at < len(code):
        size = shift = 0
        start, at = at, at + 1
        while True:
            byte, at = code[at], at + 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield start, size, at
        at += size


def _names(*names: str) -> bytes:
    return b"".join(_leb(len(name)) + name.encode() for name in names)


def _leb(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def compile_c(name: str, directory: Path, factory: pytest.TempPathFactory, *flags: str) -> Path:
    """Compile ``fixtures/wasm/<name>.c`` with the clang that is in Zig's package, and no library."""
    module = directory / f"{name}.wasm"
    command = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-freestanding", "-O2", "-nostdlib"]
    variables = {
        "PYTHONPATH": str(pip_packages.install(ZIG, factory)),
        "ZIG_GLOBAL_CACHE_DIR": str(directory / "zig-cache"),
    }
    subprocess.run(
        [
            *command,
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wl,--no-entry",
            *flags,
            "-o",
            module,
            FIXTURES / f"{name}.c",
        ],
        env=os.environ | variables,
        check=True,
    )
    return module


def compile_rust(source: Path, directory: Path) -> Path:
    """Compile a file of Rust to a module, with the compiler that can (see features.py)."""
    module = directory / f"{source.stem}.wasm"
    command = ["rustc", "--edition", "2021", "-D", "warnings", "--crate-type", "cdylib", "-C", "panic=abort"]
    subprocess.run(
        [
            *command,
            "-C",
            "opt-level=s",
            "-C",
            "strip=symbols",
            *("--target", "wasm32-unknown-unknown"),
            "-o",
            module,
            source,
        ],
        env={**os.environ, "PATH": features.rust_for_wasm()},
        check=True,
    )
    return module
