"""What a deployment's policy file says is what the kernel enforces around each plugin."""

import errno
import json
import os
import socket
from pathlib import Path

import pytest
from support import live

from frys_runtime import ExecutionFailed, LoadFailed, PluginManager, SecurityViolation

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

SOURCE = """
import ctypes, errno, fcntl, os, socket, sqlite3

libc = ctypes.CDLL(None, use_errno=True)

def connect(port):
    with socket.create_connection(("127.0.0.1", port), 5):
        return "connected"

def read(path):
    with open(path, "rb") as file:
        return file.read()

def where():
    return os.getcwd()

def priority():
    return os.getpriority(os.PRIO_PROCESS, 0)

def fill(folder):
    made = 0
    while True:
        try:
            open(f"{folder}/{made}", "x").close()
        except OSError as error:
            return [made, errno.errorcode[error.errno]]
        made += 1

def lock(path):
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "locked"

def lock_part(path):
    with open(path, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

def watch():
    descriptor = libc.inotify_init1(0)
    return 0 if descriptor >= 0 else ctypes.get_errno()

def database(path):
    with sqlite3.connect(path) as first, sqlite3.connect(path, timeout=0) as second:
        first.execute("CREATE TABLE numbers (number)")
        first.execute("BEGIN IMMEDIATE")
        first.execute("INSERT INTO numbers VALUES (1)")
        try:
            second.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            first.execute("COMMIT")
            return [str(error), *second.execute("SELECT number FROM numbers").fetchone()]
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin that tries what a policy may allow."""
    path = tmp_path / "try.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def policy(tmp_path: Path):
    """Write a policy file."""

    def write(text: str) -> Path:
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        return path

    return write


@live
async def test_a_section_holds_for_its_plugins_only(plugin, policy):
    """One file, two ids, one manager: only the plugin that the section names sees the granted path."""
    file = policy("extends: maximum\nplugins: {reader-*: {after_load: read-only, read: [/etc/passwd]}}\n")
    async with PluginManager(policy=file) as manager:
        await manager.load_plugin(plugin, plugin_id="reader-1")
        await manager.load_plugin(plugin, plugin_id="other")
        assert b"root" in await manager.execute_plugin("reader-1", "read", "/etc/passwd")
        with pytest.raises(ExecutionFailed, match="not permitted"):
            await manager.execute_plugin("other", "read", "/etc/passwd")


@live
async def test_single_calls_are_added_and_taken(plugin, policy):
    """An allowed call works, one that is forbidden while serving fails, one that is forbidden kills."""
    file = policy(
        "extends: maximum\n"
        "plugins:\n"
        "  more: {syscalls: {allow: {python: {serve: {getpriority: a test}}}}}\n"
        "  less: {syscalls: {forbid: {python: {serve: {getcwd: a test}}}}}\n"
        "  least: {syscalls: {forbid: {python: {load: {getpriority: a test}}}}}\n"
    )
    async with PluginManager(policy=file) as manager:
        for name in ("plain", "more", "less", "least"):
            await manager.load_plugin(plugin, plugin_id=name)
        assert await manager.execute_plugin("plain", "where")
        with pytest.raises(ExecutionFailed, match="not implemented"):
            await manager.execute_plugin("plain", "priority")
        assert type(await manager.execute_plugin("more", "priority")) is int
        with pytest.raises(ExecutionFailed, match="not permitted"):
            await manager.execute_plugin("less", "where")
        with pytest.raises(SecurityViolation, match="getpriority"):
            await manager.execute_plugin("least", "priority")


@live
async def test_grants_of_http_open_no_socket(plugin, policy):
    """With `network: true` a plugin reaches the host's own listener; with grants it cannot make a socket."""
    file = policy(
        "extends: high\n"
        "plugins:\n"
        "  open: {network: true}\n"
        "  brokered: {network: {hosts: [127.0.0.1], ports: [1], private: true}}\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with PluginManager(policy=file) as manager:
            for name in ("open", "brokered"):
                await manager.load_plugin(plugin, plugin_id=name)
            assert await manager.execute_plugin("open", "connect", port) == "connected"
            with pytest.raises(SecurityViolation, match="socket"):
                await manager.execute_plugin("brokered", "connect", port)


@live
async def test_who_requires_signatures_starts_nothing_unsigned(plugin, policy, tmp_path):
    """The refusal and the grants of the plugin beside it stand in the audit log, with what was decided."""
    log = tmp_path / "audit.log"
    file = policy(
        "extends: high\n"
        "plugins:\n"
        f"  strict: {{signatures: {{required: true, keys: {{release: {'A' * 43}=}}}}}}\n"
        "  other:\n"
        "    network: {hosts: [a.example]}\n"
        "    messages: {call: {strict: [work]}, publish: [done]}\n"
    )
    async with PluginManager(policy=file, audit=log) as manager:
        with pytest.raises(LoadFailed, match="1 of the keys release, and it has 0"):
            await manager.load_plugin(plugin, plugin_id="strict")
        assert manager.list_plugins() == []
        await manager.load_plugin(plugin, plugin_id="other")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    (refused,) = (record for record in records if record["kind"] == "refused")
    (granted,) = (record for record in records if record["kind"] == "granted")

    assert "only packages carry signatures" in refused["data"]["reason"]
    assert granted["plugin"] == "other"
    assert granted["data"]["signatures"] == "none required"
    assert granted["data"]["http"][0].startswith("GET, HEAD to a.example, port 443")
    assert granted["data"]["messages"] == {"call": {"strict": ["work"]}, "publish": ["done"], "subscribe": []}
    assert granted["data"]["host_functions"] == ["log", "config"]


@pytest.mark.needs_root
@live
async def test_inodes_of_the_private_tmp(plugin, policy):
    """Files without a byte run out as the policy says."""
    file = policy("extends: high\nlimits: {inodes: 40}\n")
    async with PluginManager(policy=file) as manager:
        name = await manager.load_plugin(plugin)
        made, error = await manager.execute_plugin(name, "fill", "/tmp")
        assert 30 <= made <= 40
        assert error == "ENOSPC"


@pytest.mark.needs_root
@pytest.mark.needs_cgroup
@live
async def test_cpu_quota_is_the_cgroups(plugin, policy):
    """The quota of the policy is what the kernel says about the plugin's cgroup; others have none."""
    file = policy("extends: maximum\nplugins: {half: {limits: {cpu: 0.5 cpu}}}\n")
    async with PluginManager(policy=file) as manager:
        for name in ("half", "free"):
            await manager.load_plugin(plugin, plugin_id=name)
        assert _quota(manager.plugin("half").pid) == 0.5
        assert _quota(manager.plugin("free").pid) is None


def _quota(pid: int | None) -> float | None:
    """Processors that the cgroup of a process may keep busy."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            folder = Path(f"/sys/fs/cgroup/cpu{path}")
            quota = int((folder / "cpu.cfs_quota_us").read_text())
            return None if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
        if not controllers and (limit := Path(f"/sys/fs/cgroup{path}/cpu.max")).exists():
            quota_text, period = limit.read_text().split()
            return None if quota_text == "max" else int(quota_text) / int(period)
    return None


def _folder(tmp_path: Path, **asks: list[str]) -> Path:
    folder = tmp_path / "asking"
    folder.mkdir()
    (folder / "asking.js").write_text("export function f() { return 1 }")
    about = {"id": "asking", "version": "1.0.0", "format": "javascript", "entry": "asking.js"}
    (folder / "plugin.json").write_text(json.dumps({**about, **asks}))
    return folder


@live
async def test_what_is_asked_and_not_granted_is_refused_at_load(tmp_path, policy):
    """One sentence lists all of it, nothing is started; the policy that grants it loads the plugin."""
    folder = _folder(tmp_path, permissions=["Read", "Execute", "Network"])
    async with PluginManager() as manager:
        with pytest.raises(LoadFailed, match="asks for Network and Read, which") as caught:
            await manager.load_plugin(folder)
        assert caught.value.path == str(folder)
        assert manager.list_plugins() == []
    async with PluginManager(policy=policy("extends: high\nnetwork: true\n")) as manager:
        assert await manager.execute_plugin(await manager.load_plugin(folder), "f") == 1


@live
async def test_what_a_plugin_can_do_without_is_no_reason_to_refuse(tmp_path):
    """Optional permissions that are not granted change nothing."""
    folder = _folder(tmp_path, permissions=["Execute"], optionalPermissions=["Network", "Admin"])
    async with PluginManager() as manager:
        assert await manager.execute_plugin(await manager.load_plugin(folder), "f") == 1


@live
async def test_locks_need_a_granted_writable_path(plugin, policy, tmp_path):
    """At level High who has a granted writable path locks there; who has only a /tmp is killed for it."""
    folder = tmp_path / "granted"
    folder.mkdir()
    folder.chmod(0o777)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    file = policy(f"extends: high\nplugins: {{granted: {{write: [{folder}]}}}}\n")
    async with PluginManager(policy=file) as manager:
        granted = await manager.load_plugin(plugin, plugin_id="granted")
        assert await manager.execute_plugin(granted, "lock", f"{folder}/file") == "locked"
        assert await manager.execute_plugin(granted, "database", f"{folder}/data") == [
            "database is locked",
            1,
        ]

        other = await manager.load_plugin(plugin, plugin_id="other")
        with pytest.raises(SecurityViolation, match=r"it called flock\("):
            await manager.execute_plugin(other, "lock", "/tmp/file")
        with pytest.raises(SecurityViolation, match=r"it called fcntl\("):
            await manager.execute_plugin(other, "lock_part", "/tmp/file")


@live
async def test_notification_can_be_opened_at_level_standard(plugin, policy):
    """At level Standard inotify is absent as in a kernel without it, and a policy can give it back."""
    change = "syscalls: {allow: {common: {serve: {inotify_init1: its files}}}}"
    file = policy(f"extends: standard\nplugins: {{watcher: {{{change}}}}}\n")
    async with PluginManager(policy=file) as manager:
        other = await manager.load_plugin(plugin, plugin_id="other")
        assert await manager.execute_plugin(other, "watch") == errno.ENOSYS

        watcher = await manager.load_plugin(plugin, plugin_id="watcher")
        assert await manager.execute_plugin(watcher, "watch") == 0
