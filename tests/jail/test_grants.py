"""What the host program grants is there, and nothing beside it."""

import os
import socket
import threading
from pathlib import Path

import pytest
from support import live

from frys_runtime import ExecutionFailed, IsolationLevel, PluginManager, SandboxConfig, SecurityViolation

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

SOURCE = """
import os, socket

def read(path):
    with open(path, "rb") as file:
        return file.read()

def write(path, data):
    with open(path, "wb") as file:
        file.write(data)

def names(path):
    return sorted(os.listdir(path))

def fetch(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        return connection.recv(100)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin that touches whatever it is told to."""
    path = tmp_path / "plugin" / "touch.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


@pytest.mark.needs_root
@pytest.mark.parametrize("level", list(IsolationLevel))
@live
async def test_granted_paths(level: IsolationLevel, plugin: Path, tmp_path: Path) -> None:
    """One folder to read, one to write, and their neighbour not at all; at every level."""
    for name in ("shown", "open", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        (tmp_path / name).chmod(0o777)
        (tmp_path / name / "file").chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    grants = SandboxConfig(allowed_paths=(f"{tmp_path}/shown", f"{tmp_path}/open:rw"))
    async with PluginManager(isolation=level, resource_limits=grants) as manager:
        name = await manager.load_plugin(plugin)
        assert await manager.execute_plugin(name, "read", f"{tmp_path}/shown/file") == b"shown"
        assert await manager.execute_plugin(name, "names", f"{tmp_path}/shown") == ["file"]
        await manager.execute_plugin(name, "write", f"{tmp_path}/open/new", b"written")
        for path in ("shown/file", "shown/new"):
            with pytest.raises(ExecutionFailed):
                await manager.execute_plugin(name, "write", f"{tmp_path}/{path}", b"x")
        with pytest.raises(ExecutionFailed):
            await manager.execute_plugin(name, "read", f"{tmp_path}/hidden/file")
    assert (tmp_path / "open" / "new").read_bytes() == b"written"
    assert (tmp_path / "shown" / "file").read_text() == "shown"


@live
async def test_a_missing_granted_path_is_no_plugin(plugin: Path) -> None:
    """A grant that cannot be given is told, not passed over."""
    grants = SandboxConfig(allowed_paths=("/nowhere/at/all:rw",))
    async with PluginManager(resource_limits=grants) as manager:
        with pytest.raises(Exception, match="/nowhere/at/all"):
            await manager.load_plugin(plugin)


@pytest.mark.parametrize("level", list(IsolationLevel))
@live
async def test_a_granted_network(level: IsolationLevel, plugin: Path) -> None:
    """With the grant the plugin reaches a server of this machine; without it there is not even a socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"hello")

        thread = threading.Thread(target=answer)
        thread.start()
        port = server.getsockname()[1]
        async with PluginManager(isolation=level) as manager:
            granted = await manager.load_plugin(plugin, sandbox=SandboxConfig(allow_network=True))
            assert await manager.execute_plugin(granted, "fetch", port) == b"hello"
            assert "network_namespace" not in manager.plugin(granted).layers
            denied = await manager.load_plugin(plugin, plugin_id="denied")
            assert "network_namespace" in manager.plugin(denied).layers
            with pytest.raises((SecurityViolation, ExecutionFailed)):
                await manager.execute_plugin(denied, "fetch", port)
        thread.join()
