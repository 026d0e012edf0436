"""The same jails on another kernel: Linux 6.1 with cgroup v2 and without Landlock, booted for the test."""

import sys
from pathlib import Path

import pytest
from uml import run_in_uml

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.needs_uml, pytest.mark.timeout(300)]

HOST = '''
import asyncio, os, pathlib, tempfile
from frys_runtime import *

folder = pathlib.Path(tempfile.mkdtemp())
script, module = folder / "script.js", folder / "module.py"
script.write_text("""
function echo(value) { return value }
function spin() { for (;;) {} }
""")
module.write_text("""
import os
def echo(value): return value
def fork(): return os.fork()
def bomb():
    kept = []
    while True: kept.append(bytes([1]) * (1 << 24))
""")
policy = folder / "policy.yaml"
policy.write_text(POLICY)

async def attempt(manager, plugin, function):
    try:
        return await manager.execute_plugin(plugin, function)
    except PluginError as error:
        return f"{type(error).__name__} {getattr(error, 'resource', '')}".strip()

async def main():
    try:
        async with PluginManager() as manager:
            await manager.load_plugin(script)
            print("maximum: loaded")
    except SandboxError as error:
        print("maximum:", error)
    async with PluginManager(policy=policy) as manager:
        one = await manager.load_plugin(script, sandbox=SandboxConfig(max_cpu_time=500))
        two = await manager.load_plugin(module)
        print("layers:", *sorted(manager.plugin(two).layers))
        print("echo:", *[await manager.execute_plugin(plugin, "echo", 1) for plugin in (one, two)])
        print("spin:", await attempt(manager, one, "spin"))
        print("bomb:", await attempt(manager, two, "bomb"))
        print("fork:", await attempt(manager, two, "fork"))
        print("again:", *[await manager.execute_plugin(plugin, "echo", 2) for plugin in (one, two)])
    print("left:", *pathlib.Path("/sys/fs/cgroup").rglob("frys-*"))

asyncio.run(main())
'''

LAYERS = [
    "user_namespace",
    "mount_namespace",
    "pid_namespace",
    "network_namespace",
    "ipc_namespace",
    "uts_namespace",
    "cgroup_namespace",
    "private_root",
    "capabilities",
    "no_new_privs",
    "rlimits",
    "seccomp",
    "cgroup_memory",
    "cgroup_tasks",
]
POLICY = "extends: maximum\nlimits:\n  cpu_time: 25s\nrequire:\n" + "".join(
    f"  - {layer}\n" for layer in LAYERS
)


def test_cgroup_v2_without_landlock() -> None:
    """Maximum is refused for want of Landlock; a policy without it gets every other layer, on cgroup v2."""
    code = f"POLICY = {POLICY!r}\n{HOST}"
    done = run_in_uml([sys.executable, "-c", code], cwd=ROOT, timeout=150, memory="1G")

    assert done.returncode == 0, done.stdout
    said = dict(
        line.split(": ", 1) if ": " in line else (line.rstrip(":"), "") for line in done.stdout.splitlines()
    )
    assert "requires landlock" in said["maximum"]
    assert set(said["layers"].split()) == set(LAYERS)
    assert said["echo"] == "1 1"
    assert said["spin"] == "ResourceLimitExceeded cpu"
    assert said["bomb"] == "ResourceLimitExceeded memory"
    assert said["again"] == "2 2"
    assert said["left"] == ""
