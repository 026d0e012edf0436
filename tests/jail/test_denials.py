"""What Landlock refuses a plugin reaches the host, where the kernel tells it."""

import asyncio
from pathlib import Path

import pytest
from auditing import auditing
from support import live

from frys_runtime import PluginManager
from frys_runtime.audit import parse
from frys_runtime.linux import landlock_log

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_seccomp_notify, pytest.mark.needs_audit]

SOURCE = """
import os

def look(path):
    try:
        return os.listdir(path)
    except PermissionError:
        return "refused"
"""


@live
async def test_denials_are_told_and_recorded(tmp_path: Path) -> None:
    """Each is an event that names the plugin and what was refused; it goes on, and nothing is counted."""
    source = tmp_path / "look.py"
    source.write_text(SOURCE)
    log = tmp_path / "audit.jsonl"
    with auditing():
        assert landlock_log.obstacle() == ("", "")
        async with PluginManager(isolation="high", audit=log) as manager:
            first = await manager.load_plugin(source, plugin_id="first")
            second = await manager.load_plugin(source, plugin_id="second")
            events = manager.events()
            assert await manager.execute_plugin(second, "look", "/usr/lib") != "refused"
            for plugin in (first, second, first):
                assert await manager.execute_plugin(plugin, "look", "/") == "refused"
            told = []
            async with asyncio.timeout(60):
                while len(told) < 3:
                    event = await anext(events)
                    told += [event] if event.kind == "violation" else []

            assert [(event.plugin_id, dict(event.data)) for event in told] == [
                (
                    plugin,
                    {
                        "what": "Landlock denied fs.read_dir(/)",
                        "action": "denied by landlock",
                        "total": total,
                    },
                )
                for plugin, total in (("first", 1), ("second", 1), ("first", 2))
            ]
            assert manager.stats().violations == 0

    recorded = [record for line in log.read_bytes().splitlines() if (record := parse(line))]
    assert [one.plugin for one in recorded if one.kind == "violation"] == ["first", "second", "first"]
