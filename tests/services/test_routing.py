"""Which plugin may call which, and where the calls go that were authorised before."""

from pathlib import Path

import pytest
from support import live
from talk import ALL, TALKER, talkers

from frys_runtime import routing


@live
async def test_the_policy_says_who_calls_whom(tmp_path: Path) -> None:
    """By plugin and function, with patterns; the rest is refused."""
    policy = """
extends: maximum
plugins:
  a: {messages: {call: {b: [twice, "mo*"]}}}
  b: {messages: {call: {}}}
"""
    async with talkers(tmp_path, policy, "a", "b") as talk:
        assert await talk.ask("call", "b", "twice", [1]) == 2
        assert await talk.ask("call", "b", "move", [{"x": 0, "y": 0}]) == {"x": 1, "y": 0}
        refusal = await talk.ask("call", "b@^7", "twice", [1])
        assert refusal == ["missing", "no plugin 'b@^7' is loaded; 1.2.0 is here"]
        assert (await talk.ask("call", "b", "seen", []))[0] == "permission"  # type: ignore[index]
        assert (await talk.ask("call", "a", "twice", [1], who="b"))[0] == "permission"  # type: ignore[index]
        assert talk.manager.plugin("b").resource_usage().calls == 3


@live
async def test_a_known_route_leads_to_what_is_loaded_now(tmp_path: Path) -> None:
    """A plugin that is gone is called no more, and another in its place is."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        assert await talk.ask("call", "b", "twice", [1]) == 2
        await talk.manager.unload_plugin("b")
        assert await talk.ask("call", "b", "twice", [1]) == ["missing", "no plugin 'b' is loaded"]
        await talk.manager.load_plugin(TALKER, plugin_id="b")
        assert await talk.ask("call", "b", "twice", [1]) == 2
        assert talk.manager.plugin("b").resource_usage().calls == 1


@live
async def test_more_routes_than_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old ones are forgotten, and every call still goes where it should."""
    monkeypatch.setattr(routing, "_ROUTES", 2)
    async with talkers(tmp_path, ALL, "a", "b", "c") as talk:
        for _ in range(2):
            for plugin in ("b", "c", "b@1", "c@1"):
                assert await talk.ask("call", plugin, "twice", [1]) == 2
        assert [talk.manager.plugin(plugin).resource_usage().calls for plugin in "bc"] == [4, 4]
