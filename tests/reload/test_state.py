"""What a plugin holds in memory moves to its next version, or everything stays as it was."""

import asyncio
import json
from pathlib import Path

import native_build
import pytest
import wasm_build
from support import live
from versioned import MARKS, Callers, until, write

from frys_runtime import PluginManager, ReloadFailed

pytestmark = MARKS

COUNTER = """
VERSION = {version!r}
count = 0
def answer():
    global count
    count += 1
    return [VERSION, count]
def export_state():
    return {"count": count}
def import_state(state):
    global count
    count = state["count"]
"""


@live
async def test_no_write_is_lost(tmp_path: Path) -> None:
    """A counter goes on over five reloads under calls without a pause: no number twice, none left out."""
    folder = write(tmp_path / "sample", "1.0.0", COUNTER, state=True)
    async with PluginManager() as manager:
        await manager.load_plugin(folder)
        events, callers = manager.events(), Callers(manager)
        for number in range(2, 7):
            await callers.more(20)
            write(folder, f"{number}.0.0", COUNTER, state=True)
            done = await manager.reload_plugin("sample")
            assert done.state_bytes > 0
            assert 0 < done.held_ms < done.ms
        await callers.more(20)
        answers = await callers.end()
        assert sorted(count for _, count in answers) == list(range(1, len(answers) + 1))
        in_order = [version for version, _ in sorted(answers, key=lambda answer: answer[1])]
        assert in_order == sorted(in_order)
        assert (await until(events, "reloaded")).data["state_bytes"] > 0


JAVASCRIPT = """
let count = 0;
export function answer() { count += 1; return new Uint8Array([VERSION, count]); }
export function save() { return new Uint8Array([count]); }
export function restore(state) { count = state[0]; }
"""
WASM = """
(module (memory (export "memory") 1)
  (global $count (mut i32) (i32.const 0))
  (func (export "frys_alloc") (param i32) (result i32) (i32.const 64))
  (func (export "answer") (param i32 i32) (result i64)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store8 (i32.const 8) (i32.const VERSION)) (i32.store8 (i32.const 9) (global.get $count))
    (i64.const 0x800000002))
  (func (export "save") (param i32 i32) (result i64)
    (i32.store8 (i32.const 9) (global.get $count)) (i64.const 0x900000001))
  (func (export "restore") (param i32 i32) (result i64)
    (global.set $count (i32.load8_u (local.get 0))) (i64.const 0)))
"""
NATIVE = """
#include <stdint.h>
#include <stddef.h>
static uint8_t both[2] = {VERSION, 0};
void frys_free(void *p) { (void)p; }
int32_t answer(const uint8_t *in, size_t n, uint8_t **out, size_t *size)
{ (void)in; (void)n; both[1]++; *out = both; *size = 2; return 0; }
int32_t save(const uint8_t *in, size_t n, uint8_t **out, size_t *size)
{ (void)in; (void)n; *out = both + 1; *size = 1; return 0; }
int32_t restore(const uint8_t *in, size_t n, uint8_t **out, size_t *size)
{ if (n != 1) return -1; both[1] = in[0]; *out = both; *size = 0; return 0; }
"""
PYTHON = """
count = 0
def answer():
    global count
    count += 1
    return bytes([VERSION, count])
def save():
    return bytes([count])
def restore(state):
    global count
    count, = state
"""


def _write(folder: Path, kind: str, version: int) -> None:
    folder.mkdir(exist_ok=True)
    code = {"javascript": JAVASCRIPT, "wasm": WASM, "native": NATIVE, "python": PYTHON}[kind]
    suffix = {"javascript": "mjs", "native": "so", "python": "py"}.get(kind, kind)
    code, entry = code.replace("VERSION", str(version)), f"main.{suffix}"
    match kind:
        case "wasm":
            (folder / entry).write_bytes(wasm_build.compile_text(code))
        case "native":
            source = folder.parent / "main.c"
            source.write_text(code)
            native_build.compile_source(source, folder / entry)
        case _:
            (folder / entry).write_text(code)
    about = {"id": "sample", "version": f"{version}.0.0", "format": kind, "entry": entry}
    state = {"export": "save", "import": "restore"}
    (folder / "plugin.json").write_text(json.dumps({**about, "state": state}))


@live
@pytest.mark.parametrize(
    "kind", ["python", "javascript", "wasm", pytest.param("native", marks=pytest.mark.needs_gcc)]
)
async def test_every_format_moves_its_state(kind: str, tmp_path: Path) -> None:
    """By functions with names of its own; those with the bytes signature give and take bytes."""
    folder = tmp_path / "sample"
    _write(folder, kind, 1)
    async with PluginManager() as manager:
        await manager.load_plugin(folder)
        assert await manager.execute_plugin("sample", "answer") == bytes([1, 1])
        _write(folder, kind, 2)
        await manager.reload_plugin("sample")
        assert await manager.execute_plugin("sample", "answer") == bytes([2, 2])


FAILURES = [
    ("export", "return 'x' * 2000", "state limit of 1024 bytes"),
    ("export", "raise RuntimeError('not now')", "not now"),
    ("export", "import time; time.sleep(60)", "did not answer within"),
    ("import", "raise KeyError('count')", "KeyError"),
    ("import", "import time; time.sleep(60)", "did not answer within"),
    ("import", "import os; os._exit(1)", "exited"),
]


@live
@pytest.mark.parametrize(("where", "body", "said"), FAILURES)
async def test_a_move_that_fails_leaves_the_old_version(
    where: str, body: str, said: str, tmp_path: Path
) -> None:
    """Too large, too slow, refused: the new version goes, and calls that waited go on with the old one."""
    signature = {"export": "def export_state():", "import": "def import_state(state):"}[where]
    broken = COUNTER.replace(signature, f"{signature}\n    {body}")
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {state: 1KiB, state_time: 300ms}\n")
    first, second = (broken, COUNTER) if where == "export" else (COUNTER, broken)
    folder = write(tmp_path / "sample", "1.0.0", first, state=True)
    async with PluginManager(policy=policy) as manager:
        await manager.load_plugin(folder)
        assert await manager.execute_plugin("sample", "answer") == ["1.0.0", 1]
        write(folder, "2.0.0", second, state=True)
        reload = asyncio.create_task(manager.reload_plugin("sample"))
        callers = Callers(manager)
        with pytest.raises(ReloadFailed) as caught:
            await reload
        assert caught.value.step == "state"
        assert said in caught.value.reason
        answers = await callers.end()
        assert {version for version, _ in answers} == {"1.0.0"}
        if "sleep" not in body or where == "import":  # who is stopped for being slow begins anew
            assert sorted(count for _, count in answers) == list(range(2, len(answers) + 2))


@live
async def test_calls_that_do_not_end_in_time_keep_the_old_version(tmp_path: Path) -> None:
    """Their writes would be lost with it; a version that takes no state, too, unless that is forced."""
    folder = write(
        tmp_path / "sample",
        "1.0.0",
        COUNTER + "def slow():\n    import time\n    time.sleep(1)\n",
        state=True,
    )
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {state_time: 100ms}\n")
    async with PluginManager(policy=policy) as manager:
        await manager.load_plugin(folder)
        slow = asyncio.create_task(manager.execute_plugin("sample", "slow"))
        await asyncio.sleep(0.05)
        with pytest.raises(ReloadFailed, match=r"1 calls were still under way after 100 ms"):
            await manager.reload_plugin("sample")
        await slow
        write(folder, "2.0.0", COUNTER)
        with pytest.raises(ReloadFailed, match="declares no state"):
            await manager.reload_plugin("sample")
        assert await manager.execute_plugin("sample", "answer") == ["1.0.0", 1]
        assert (await manager.reload_plugin("sample", force=True)).state_bytes == 0
        assert await manager.execute_plugin("sample", "answer") == ["2.0.0", 1]


@live
async def test_a_version_that_cannot_give_its_state_is_replaced_by_force(tmp_path: Path) -> None:
    """Else nobody could ever replace what always crashes; a version that cannot take it is not let in."""
    broken = COUNTER.replace("def export_state():", "def export_state():\n    import os; os._exit(1)")
    folder = write(tmp_path / "sample", "1.0.0", broken, state=True)
    async with PluginManager() as manager:
        await manager.load_plugin(folder)
        write(folder, "2.0.0", COUNTER, state=True)
        with pytest.raises(ReloadFailed, match="exited"):
            await manager.reload_plugin("sample")
        assert (await manager.reload_plugin("sample", force=True)).state_bytes == 0
        write(folder, "3.0.0", COUNTER.replace("count = state", "count = other"), state=True)
        with pytest.raises(ReloadFailed, match="NameError"):
            await manager.reload_plugin("sample", force=True)
        assert await manager.execute_plugin("sample", "answer") == ["2.0.0", 1]
