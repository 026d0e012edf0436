"""What the builder is told about policies and levels is what its manager enforces."""

import os
from pathlib import Path

import pytest
from support import live

from frys_runtime import ConfigError, ExecutionFailed, IsolationLevel, PluginManager, SecurityViolation

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

SOURCE = """
import os, threading

def thread():
    worker = threading.Thread(target=int)
    worker.start()
    worker.join()
    return "it ran"

def priority():
    return os.getpriority(os.PRIO_PROCESS, 0)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin that does what only some levels allow."""
    path = tmp_path / "try.py"
    path.write_text(SOURCE)
    return path


@live
async def test_with_policy(plugin: Path, tmp_path: Path) -> None:
    """Every plugin is held to the file: its level, and what it changes for single plugins."""
    policy = tmp_path / "policy.yaml"
    change = "syscalls: {allow: {python: {serve: {getpriority: a test}}}}"
    policy.write_text(f"extends: high\nplugins: {{more: {{{change}}}}}\n")

    async with await PluginManager.builder().with_policy(policy).build() as manager:
        plain = await manager.load_plugin(plugin)
        more = await manager.load_plugin(plugin, plugin_id="more")
        assert await manager.execute_plugin(plain, "thread") == "it ran"
        assert await manager.execute_plugin(more, "priority") == os.getpriority(os.PRIO_PROCESS, 0)
        with pytest.raises(ExecutionFailed, match="Function not implemented"):
            await manager.execute_plugin(plain, "priority")


@pytest.mark.parametrize("level", [IsolationLevel.HIGH, "high"])
@live
async def test_with_isolation(plugin: Path, level: IsolationLevel | str) -> None:
    """The level holds for plugins without one of their own; another can still be named for one of them."""
    async with await PluginManager.builder().with_isolation(level).build() as manager:
        high = await manager.load_plugin(plugin)
        maximum = await manager.load_plugin(plugin, plugin_id="strange", isolation=IsolationLevel.MAXIMUM)
        assert await manager.execute_plugin(high, "thread") == "it ran"
        with pytest.raises(SecurityViolation, match=r"it started a thread, .*`threads: true`.*clone\("):
            await manager.execute_plugin(maximum, "thread")


async def _refused(builder, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        await builder.build()


@live
async def test_wrong_settings_are_refused(plugin: Path, tmp_path: Path) -> None:
    """A file that is not there, a level that nobody knows, or both at once: no manager is made."""
    await _refused(PluginManager.builder().with_policy(tmp_path / "absent.yaml"), "cannot be read")
    await _refused(PluginManager.builder().with_isolation("highest"), "no isolation level")
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: high\n")
    both = PluginManager.builder().with_policy(policy).with_isolation(IsolationLevel.HIGH)
    await _refused(both, "give one of the two")
