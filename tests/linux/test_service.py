"""The example unit for systemd, with its own properties, under a real systemd of a second kernel."""

import sys
from pathlib import Path

import pytest
from uml import run_in_uml

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "contrib" / "systemd" / "frys-host.service"

pytestmark = [pytest.mark.needs_uml, pytest.mark.timeout(300)]

# The machine has no Landlock, so the policy is level Maximum without it.
HOST = """
import asyncio, pathlib, tempfile
from frys_runtime import *
from frys_runtime.policy import level_policy

folder = pathlib.Path(tempfile.mkdtemp())
(folder / "echo.js").write_text("function echo(value) { return value }")
require = level_policy(IsolationLevel.MAXIMUM).require - {"landlock"} | {"cgroup_memory", "cgroup_tasks"}
(folder / "policy.yaml").write_text("extends: maximum\\nrequire: [" + ", ".join(require) + "]\\n")

async def main():
    async with PluginManager(policy=folder / "policy.yaml") as manager:
        plugin = await manager.load_plugin(folder / "echo.js")
        print("answer:", await manager.execute_plugin(plugin, "echo", 7))
        print("cgroup:", open(f"/proc/{manager.plugin(plugin).pid}/cgroup").read().strip())

asyncio.run(main())
"""
LEFT_OUT = ("ExecStart", "User", "PrivateTmp", "Restart")
"""The machine starts another command as root, and shows the checkout below /tmp."""


def _properties() -> list[str]:
    section = UNIT.read_text(encoding="utf-8").split("[Service]")[1].split("[Install]")[0]
    lines = [line for line in section.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if line.split("=")[0] not in LEFT_OUT]


def test_example_unit() -> None:
    """A server in the unit gives its plugins every layer and cgroups, below the service's own."""
    assert "Delegate=yes" in _properties()

    done = run_in_uml(
        [sys.executable, "-c", HOST],
        cwd=ROOT,
        memory="1G",
        timeout=150,
        service=[*_properties(), "ReadWritePaths=/run/exchange /tmp"],
    )

    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert said["answer"] == "7"
    assert said["cgroup"].startswith("0::/system.slice/command.service/frys-")
