"""A plugin process as the kernel describes it: every layer, read where the plugin cannot write."""

import os
from pathlib import Path

import pytest
import wasmtime
from support import live

from frys_runtime import IsolationLevel, PluginManager

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_seccomp_notify,
]

PLUGINS = {
    "plugin.js": b"function echo(value) { return value }",
    "plugin.py": b"def echo(value):\n    return value\n",
    "plugin.wasm": wasmtime.wat2wasm('(module (func (export "echo") (param i32) (result i32) local.get 0))'),
}


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize("level", list(IsolationLevel))
@live
async def test_a_plugin_process_has_nothing_left(name: str, level: IsolationLevel, tmp_path: Path) -> None:
    """Capabilities, privileges, identity, namespaces, descriptors, filters, threads and memory rights."""
    path = tmp_path / name
    path.write_bytes(PLUGINS[name])
    async with PluginManager(isolation=level) as manager:
        plugin = manager.plugin(await manager.load_plugin(path))
        assert await plugin.call("echo", 7) == 7
        pid = plugin.pid
        assert pid is not None
        status = _status(pid)

        for sets in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[sets], 16) == 0, sets
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert status["Seccomp_filters"] == ("1" if level is IsolationLevel.STANDARD else "2")
        assert status["Threads"] == "1"
        assert status["NSpid"].split()[-1] == "1"
        assert min(int(uid) for uid in (*status["Uid"].split(), *status["Gid"].split())) >= 0x70000000
        assert status["Groups"] == ""

        for namespace in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
            theirs, ours = (os.readlink(f"/proc/{who}/ns/{namespace}") for who in (pid, "self"))
            assert theirs != ours, namespace
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2", "3"]
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        assert [line for line in maps if " rwx" in line] == []
        assert Path(f"/proc/{pid}/environ").read_bytes() == b"HOME=/\0TZ=UTC\0"
        assert (
            os.listdir(f"/proc/{pid}/root/") == []
            or level is not IsolationLevel.MAXIMUM
            or name == "plugin.py"
        )


@live
async def test_two_plugins_are_two_users(tmp_path: Path) -> None:
    """Plugins differ from each other, not only from the host."""
    path = tmp_path / "plugin.js"
    path.write_bytes(PLUGINS["plugin.js"])
    async with PluginManager() as manager:
        users = set()
        for index in range(3):
            plugin = manager.plugin(await manager.load_plugin(path, plugin_id=f"p{index}"))
            users.add(_status(plugin.pid or 0)["Uid"])
        assert len(users) == 3
