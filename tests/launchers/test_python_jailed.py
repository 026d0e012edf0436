"""Python plugins in the real jail at level Maximum, in both interpreters: what works and what does not."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support import FIXTURES, live

from frys_runtime import (
    ExecutionFailed,
    LoadFailed,
    PluginManager,
    ResourceLimitExceeded,
    SandboxConfig,
    SecurityViolation,
    Timeout,
)

pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]

WORDS = FIXTURES / "python" / "words.py"
PACKAGE = FIXTURES / "python" / "package"


def _plugin(folder: Path, source: Path, interpreter: str) -> Path:
    facts = {"id": source.stem, "version": "1.0.0", "format": "python", "entry": source.name}
    (folder / "plugin.json").write_text(json.dumps({**facts, "interpreter": interpreter}))
    (folder / source.name).write_bytes(source.read_bytes())
    return folder


@pytest.mark.parametrize("interpreter", ["own", "main"])
@live
async def test_late_imports_need_no_file(interpreter: str, tmp_path: Path) -> None:
    """At level Maximum no file can be opened; the standard library and the plugin's modules still import."""
    async with PluginManager() as manager:
        words = await manager.load_plugin(_plugin(tmp_path, WORDS, interpreter))
        shapes = await manager.load_plugin(PACKAGE)

        assert await manager.execute_plugin(words, "year", "1.2.2026") == 2026
        assert await manager.execute_plugin(words, "decode", b"\x80", "cp1252") == "€"
        assert await manager.execute_plugin(words, "fraction", "3/6") == "1/2"
        assert await manager.execute_plugin(words, "total", [1, 2, 3]) == 6
        assert await manager.execute_plugin(shapes, "perimeter", 1) == pytest.approx(2 * math.pi)
        assert await manager.execute_plugin(shapes, "names") == ["circle", "square"]


LATE = ("asyncio", "bz2", "lzma", "pickle", "sqlite3", "subprocess", "xml.etree.ElementTree", "zoneinfo")


@pytest.mark.parametrize("interpreter", ["own", "main"])
@live
async def test_extension_modules_need_no_file(interpreter: str, tmp_path: Path) -> None:
    """The fork server has opened them, with the system's libraries that they need."""
    source = tmp_path / "late.py"
    source.write_text(
        "import sqlite3\n"
        "def query(): return sqlite3.connect(':memory:').execute('select 1 + 1').fetchone()\n"
        f"def late():\n    import importlib\n    for name in {LATE}: importlib.import_module(name)\n"
        "def japanese(data): return data.decode('shift_jis')\n"
    )
    async with PluginManager() as manager:
        late = await manager.load_plugin(_plugin(tmp_path, source, interpreter))

        assert await manager.execute_plugin(late, "query") == [2]
        assert await manager.execute_plugin(late, "late") is None
        assert await manager.execute_plugin(late, "japanese", b"\x82\xa0") == "\u3042"


ATTACKS: list[tuple[str, tuple[Any, ...], type[Exception] | tuple[type[Exception], ...] | None]] = [
    ("read_shadow", (), ExecutionFailed),
    ("write_file", (1 << 20,), ExecutionFailed),
    ("open_many_files", (1000,), ExecutionFailed),
    ("open_socket", (), SecurityViolation),
    ("fork_bomb", (), (SecurityViolation, ExecutionFailed)),
    ("thread_bomb", (), SecurityViolation),
    ("memory_bomb", (), ResourceLimitExceeded),
    ("busy_loop", (), ResourceLimitExceeded),
    ("busy_comprehension", (), ResourceLimitExceeded),
    ("sleep", (60,), Timeout),
    ("kill_first", (), SecurityViolation),
    ("kill_parent", (), SecurityViolation),
    ("kill_everything", (), SecurityViolation),
    ("write_to_every_descriptor", (b"\0\0\0\x03\xc1\xc1\xc1",), None),
    ("send_to_lane", (b"\0\0\0\x03\xc1\xc1\xc1",), ExecutionFailed),
    ("junk_frame", (b"\0\0\0\x03\xc1\xc1\xc1",), SecurityViolation),
    ("send_descriptor", (), (ExecutionFailed, SecurityViolation)),
    ("close_every_descriptor", (), ExecutionFailed),
    ("leave", (0,), ExecutionFailed),
    ("leave", (3,), ExecutionFailed),
    ("crash", (), ExecutionFailed),
    ("print_much", (1 << 30,), ResourceLimitExceeded),
    ("recurse_without_limit", (), (ResourceLimitExceeded, ExecutionFailed)),
    ("deep_value", (10_000,), ExecutionFailed),
    ("cyclic_value", (), ExecutionFailed),
    ("large_value", (32 << 20,), ResourceLimitExceeded),
    ("raise_odd", (), ExecutionFailed),
    ("raise_large", (1 << 24,), ExecutionFailed),
]


@pytest.mark.parametrize("interpreter", ["own", "main"])
@live
async def test_attacks_end_as_they_should(interpreter: str, tmp_path: Path) -> None:
    """Each gets its own error, the next call a plugin that answers, and the neighbour notices nothing."""
    limits = SandboxConfig(max_cpu_time=300, max_execution_time=1500)
    async with PluginManager(resource_limits=limits) as manager:
        good = await manager.load_plugin(WORDS)
        bad = await manager.load_plugin(_plugin(tmp_path, FIXTURES / "python" / "hostile.py", interpreter))
        for function, args, expected in ATTACKS:
            if expected is None:
                await manager.execute_plugin(bad, function, *args)
            else:
                with pytest.raises(expected):
                    await manager.execute_plugin(bad, function, *args)
            assert math.isnan(await manager.execute_plugin(bad, "not_a_number")), function
        assert await manager.execute_plugin(good, "echo", 1) == 1
        assert manager.plugin(good).resource_usage().restarts == 0


@pytest.mark.parametrize(
    "statement", ["import os; os._exit(0)", "import time; time.sleep(99)", "raise SystemExit"]
)
@live
async def test_attacks_while_loading(statement: str, tmp_path: Path) -> None:
    """A plugin that ends its process, hangs or leaves while it is imported."""
    path = tmp_path / "bad.py"
    path.write_text(f"def f(): pass\n{statement}\n")
    limits = SandboxConfig(max_execution_time=1500)
    async with PluginManager(resource_limits=limits) as manager:
        with pytest.raises((LoadFailed, Timeout)):
            await manager.load_plugin(path)
