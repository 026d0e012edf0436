"""What the tests of the JavaScript launcher share: plugins made from source text."""

import subprocess
import sys
from pathlib import Path

from frys_runtime.launchers import javascript
from frys_runtime.launchers.artifact import Artifact

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = ROOT / "fixtures" / "javascript"


def start(source, name="plugin.js", memory=64 << 20, stack=8 << 20, host=None, **files):
    """Load a plugin from source text; further files by their name."""
    everything = {name: source} | files
    encoded = {path: text if isinstance(text, bytes) else text.encode() for path, text in everything.items()}
    views = {path: memoryview(content) for path, content in encoded.items()}
    return javascript.load(Artifact("test", name, views, memory_limit=memory, stack_limit=stack, host=host))


def start_fixture(path, entry=None, **limits):
    """Load a file or a folder of fixtures/javascript."""
    folder = FIXTURES / path
    if folder.is_file():
        return start(folder.read_bytes(), folder.name, **limits)
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return start(files.pop(entry), entry, **limits, **files)


def call(source, *args, function="f", **options):
    """Load, call once and free."""
    plugin = start(source, **options)
    try:
        return plugin(function, list(args))
    finally:
        plugin.close()


def run_child(code):
    """Run code in a `python -I -S` like the fork server's and return what it prints, by stream."""
    paths = [path for path in sys.path if "site-packages" in path]
    head = f"import os, sys; sys.path[:0] = {paths!r}\n"
    head += "import importlib.util\n"
    zygote = str(ROOT / "launchers" / "zygote.py")
    head += f"spec = importlib.util.spec_from_file_location('zygote', {zygote!r})\n"
    head += "zygote = importlib.util.module_from_spec(spec); spec.loader.exec_module(zygote)\n"
    head += f"zygote._bootstrap([{str(ROOT)!r}])\n"
    head += "from frys_runtime.launchers import javascript\n"
    head += "from frys_runtime.launchers.artifact import Artifact\n"
    command = [sys.executable, "-I", "-S", "-c", head + code]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()
