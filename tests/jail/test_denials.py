"""What Landlock refuses a plugin reaches the host, where the kernel tells it."""

import asyncio
import json
from pathlib import Path

import pytest
from auditing import auditing
from support import live

from frys_runtime import PluginManager
from frys_runtime.audit_records import parse
from frys_runtime.events import Events
from frys_runtime.linux import landlock_log
from frys_runtime.violations import LANDLOCK, Violations

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
            looks = [(first, "/"), (second, "/"), (first, "/usr")]
            for plugin, path in looks:
                assert await manager.execute_plugin(plugin, "look", path) == "refused"
            told = []
            async with asyncio.timeout(60):
                while len(told) < 3:
                    event = await anext(events)
                    told += [event] if event.kind == "violation" else []

            denied = {"action": LANDLOCK}
            assert [(event.plugin_id, dict(event.data)) for event in told] == [
                (first, {"what": "Landlock denied fs.read_dir(/)", "total": 1, **denied}),
                (second, {"what": "Landlock denied fs.read_dir(/)", "total": 1, **denied}),
                (first, {"what": "Landlock denied fs.read_dir(/usr)", "total": 2, **denied}),
            ]
            assert manager.stats().violations == 0

    recorded = [record for line in log.read_bytes().splitlines() if (record := parse(line))]
    assert [one.plugin for one in recorded if one.kind == "violation"] == ["first", "second", "first"]


@live
async def test_programs_of_a_plugin_are_told_too(tmp_path: Path) -> None:
    """What a program is refused that a plugin at level Standard starts counts as the plugin's."""
    folder = tmp_path / "start"
    folder.mkdir()
    (folder / "start.py").write_text(
        "import subprocess\n\ndef start():\n    return subprocess.call(['ls', '/'])\n"
    )
    facts = {"id": "start", "version": "1.0.0", "format": "python", "entry": "start.py"}
    (folder / "plugin.json").write_text(json.dumps({**facts, "interpreter": "main"}))
    with auditing():
        async with PluginManager(isolation="standard") as manager:
            events = manager.events()
            plugin = await manager.load_plugin(folder)
            assert await manager.execute_plugin(plugin, "start") == 2
            async with asyncio.timeout(60):
                while (event := await anext(events)).kind != "violation":
                    pass
    assert (event.plugin_id, event.data["what"]) == ("start", "Landlock denied fs.read_dir(/)")


@live
async def test_a_flood_is_told_as_a_sum() -> None:
    """The same again is only added up, apart from forbidden calls, which are counted by themselves."""
    events = Events()
    stream = events.subscribe()
    violations = Violations("p", "deny", 0, events)
    for _ in range(3):
        violations.denied("fs.read_dir(/)")
        violations.count("it called ptrace(0x0)", "deny")
    violations.end_call()
    events.close()

    told = [dict(event.data) for event in [event async for event in stream]]
    assert told == [
        {"what": "Landlock denied fs.read_dir(/)", "action": LANDLOCK, "total": 1},
        {"what": "it called ptrace(0x0)", "action": "deny", "total": 1},
        {"what": "the same again", "action": "deny", "again": {"it called ptrace": 2}, "total": 3},
        {
            "what": "the same again",
            "action": LANDLOCK,
            "again": {"Landlock denied fs.read_dir": 2},
            "total": 3,
        },
    ]
