"""What a plugin process carries before its plugin comes: measured in a real `python -I -S`."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORMATS = ("wasm", "javascript", "native", "python")

# zygote.py prepares the import path itself; the rest is what its fork server does before the first fork.
PREPARE = """
import importlib, os, sys
folder, format_name, *paths = sys.argv[1:]
sys.path.insert(0, folder)
zygote = importlib.import_module("zygote")
del sys.path[0]
zygote._bootstrap(paths)
for name in ("keeper", "forkserver", format_name):
    module = importlib.import_module("frys_runtime.launchers." + name)
module.prepare()
loaded, threads = sorted(sys.modules), len(os.listdir("/proc/self/task"))
import json
print(json.dumps({"modules": loaded, "threads": threads}))
"""
FORBIDDEN = {
    "asyncio",
    "concurrent",
    "cryptography",
    "msgspec",
    "multiprocessing",
    "psutil",
    "pycparser",
    "rich",
    "ssl",
    "structlog",
    "subprocess",
    "threading",
    "typer",
    "yaml",
    "zmq",
}
# What runs on both sides of the fork; everything else in frys_runtime is the host's.
SHARED = {
    "frys_runtime",
    "frys_runtime.errors",
    "frys_runtime.jail",
    "frys_runtime.launchers",
    "frys_runtime.linux",
}


@pytest.fixture(scope="module", params=FORMATS)
def prepared(request):
    """The state of one format's fork server after prepare()."""
    site = sysconfig.get_paths()["platlib"]
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        PREPARE,
        str(ROOT / "launchers"),
        request.param,
        str(ROOT),
        site,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {"format": request.param, **json.loads(done.stdout.splitlines()[-1])}


def test_no_heavy_module_is_imported(prepared):
    """Nothing that costs memory in each plugin, starts threads or parses documents is there."""
    top_levels = {name.partition(".")[0] for name in prepared["modules"]}

    assert not top_levels & FORBIDDEN


def test_no_host_module_is_imported(prepared):
    """Of Frys itself only the launchers and what they share with the host is there."""
    ours = [name for name in prepared["modules"] if name.partition(".")[0] == "frys_runtime"]
    foreign = [name for name in ours if ".".join(name.split(".")[:2]) not in SHARED]

    assert not foreign


def test_no_thread_is_left(prepared):
    """A thread older than Landlock would keep its rights, and fork() would lose it."""
    assert prepared["threads"] == 1
