"""Compile the WASM fixtures: no binary is kept in the repository."""

import functools
import shutil
import subprocess
from pathlib import Path

import wasmtime

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "wasm"


@functools.cache
def compile_fixture(name: str) -> bytes:
    """Assemble ``fixtures/wasm/<name>.wat`` into a module."""
    return compile_text((FIXTURES / f"{name}.wat").read_text())


def compile_text(text: str) -> bytes:
    """Assemble a module from its text."""
    return bytes(wasmtime.wat2wasm(text))


def compile_c(name: str, directory: Path) -> Path | None:
    """Compile ``fixtures/wasm/<name>.c`` with clang and no library; ``None`` where clang cannot."""
    if shutil.which("clang") is None:
        return None
    module = directory / f"{name}.wasm"
    command = ["clang", "--target=wasm32", "-O2", "-nostdlib", "-Wl,--no-entry", "-o", module]
    done = subprocess.run([*command, FIXTURES / f"{name}.c"], capture_output=True, check=False)
    return module if done.returncode == 0 else None
