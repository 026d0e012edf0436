"""The examples, and the first code block of the README, do what they say."""

import asyncio
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import compat
import pytest
import wasmtime

from frys_runtime import PluginManager

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]


def _call(path: Path, function: str, *args: object) -> object:
    async def main() -> object:
        async with PluginManager() as manager:
            return await manager.execute_plugin(await manager.load_plugin(path), function, *args)

    return asyncio.run(main())


def test_the_readme_runs() -> None:
    """The first Python block of the README, from the top of the repository."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    done = subprocess.run(
        [sys.executable, "-c", block[1]], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "{'to': 2, 'be': 2, 'or': 1, 'not': 1}\n"


def test_the_host_example_runs() -> None:
    """It counts, reverses, and is told which functions there are."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "host.py", "one", "two"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "{'one': 1, 'two': 1}\nowt eno\n" in done.stdout
    assert "offers: invert, reverse" in done.stdout


def test_the_python_example() -> None:
    """Plain and async functions."""
    assert _call(EXAMPLES / "words.py", "longest", "a bcd ef") == "bcd"


def test_the_javascript_example() -> None:
    """Bytes go through an async function."""
    assert _call(EXAMPLES / "words.js", "invert", b"\x00\xff\x01") == b"\xff\x00\xfe"


def test_the_webassembly_example(tmp_path: Path) -> None:
    """Twice thirteen is twenty-six, also for more than a page."""
    module = tmp_path / "rot13.wasm"
    module.write_bytes(wasmtime.wat2wasm((EXAMPLES / "rot13.wat").read_text()))
    assert _call(module, "rot13", b"Hello, Frys!") == b"Uryyb, Self!"
    assert _call(module, "rot13", b"Uryyb" * 30_000) == b"Hello" * 30_000


@pytest.mark.needs_gcc
def test_the_native_example(tmp_path: Path) -> None:
    """Built with the command that stands in its first line."""
    library = tmp_path / "upper.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, EXAMPLES / "native/upper.c"], check=True)
    assert _call(library, "upper", b"frys") == b"FRYS"


@compat.row("system library", "zlib", "compress2, uncompress")
def test_the_zlib_example(record_property: Callable[[str, str], None]) -> None:
    """The system's zlib, declared and not compiled."""
    record_property("version", zlib.ZLIB_RUNTIME_VERSION)
    data = b"to be or not to be " * 500
    compressed = _call(EXAMPLES / "zlib", "compress", data)
    assert isinstance(compressed, bytes)
    assert zlib.decompress(compressed) == data
    assert _call(EXAMPLES / "zlib", "decompress", compressed) == data
