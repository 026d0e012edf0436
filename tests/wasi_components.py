"""Components made when a test needs them, by the wasm-tools that the Bytecode Alliance publishes on npm."""

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from registries import npm_package

WASI = "0.2.12"
"""The version of WASI whose interfaces ``world`` may name; that of the package below."""

JCO = "@bytecodealliance/jco@1.35.0"
_TOOLS = "@bytecodealliance/jco-transpile@0.15.0"
_SHIM = "@bytecodealliance/preview2-shim@0.26.1"
_SCRIPT = """
import { componentEmbed, componentNew } from "@bytecodealliance/jco-transpile/wasm-tools";
import { readFileSync, writeFileSync, existsSync } from "node:fs";
const [world, adapter] = process.argv.slice(2);
let core = existsSync("core.wasm") ? readFileSync("core.wasm") : undefined;
if (world) {
  const witSource = readFileSync("world.wit", "utf8");
  core = await componentEmbed({ binary: core, dummy: core === undefined, witSource, world });
}
const adapters = adapter ? [["wasi_snapshot_preview1", readFileSync(adapter)]] : [];
writeFileSync("component.wasm", await componentNew(core, adapters));
"""


def from_program(core: bytes, kind: str = "command") -> bytes:
    """A component of a module for WASI preview 1, with the adapter of the Bytecode Alliance.

    Args:
        core: The module.
        kind: ``command`` or ``reactor``.
    """
    adapter = f"wasi_snapshot_preview1.{kind}.wasm"
    return _made(core, "", {adapter: npm_package(JCO)[f"lib/{adapter}"]}, adapter)


def from_core(core: bytes | None, world: str, wit: str = "") -> bytes:
    """A component of a module that follows the canonical ABI; of one that does nothing, if there is none.

    Args:
        core: The module.
        world: What stands in the world ``test`` in WIT.
        wit: Packages besides those of WASI, in braces.
    """
    source = f"package test:test;\nworld test {{ {world} }}\n{wit}\n{_wasi()}"
    return _made(core, "test:test/test", {"world.wit": source.encode()}, "")


@functools.cache
def _wasi() -> str:
    """The packages of WASI as its authors wrote them, each in braces."""
    files = npm_package(JCO)
    found = []
    for name in ("cli", "clocks", "filesystem", "http", "io", "random", "sockets"):
        text = files[f"lib/wit/builtin/{WASI}/wasi-{name}/package.wit"].decode()
        head = f"package wasi:{name}@{WASI};"
        assert head in text
        found.append(text.replace(head, f"package wasi:{name}@{WASI} {{") + "\n}")
    return "\n".join(found)


@functools.cache
def _tools() -> Path:
    """A folder in which the tools can be run."""
    folder = Path(tempfile.mkdtemp(prefix="frys-wasm-tools-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for spec in (_TOOLS, _SHIM):
        target = folder / "node_modules" / spec.rpartition("@")[0]
        for name, content in npm_package(spec).items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(content)
    (folder / "make.mjs").write_text(_SCRIPT)
    return folder


def _made(core: bytes | None, world: str, files: dict[str, bytes], adapter: str) -> bytes:
    folder = _tools()
    if core is not None:
        files = {**files, "core.wasm": core}
    with tempfile.TemporaryDirectory(dir=folder) as work:
        for name, content in files.items():
            (Path(work) / name).write_bytes(content)
        command = ["node", str(folder / "make.mjs"), world, adapter]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return (Path(work) / "component.wasm").read_bytes()
