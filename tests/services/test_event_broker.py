"""Events: who publishes them, who gets them, and what becomes of those that nobody takes in time."""

import asyncio
from pathlib import Path

import pytest
from support import live
from talk import ALL, talkers

from frys_runtime import PluginMessage


@live
async def test_events_reach_who_subscribed_and_may(tmp_path: Path) -> None:
    """Plugins by their handlers, streams of the host program by a pattern; never the publisher itself."""
    policy = ALL + "plugins: {c: {messages: {subscribe: [tick]}}}"
    async with talkers(tmp_path, policy, "a", "b", "c") as talk:
        communicator = talk.manager.communicator
        every, ticks = communicator.subscribe(), communicator.subscribe("t*")
        assert await communicator.broadcast(PluginMessage.Event("tick", 1)) == 5
        await talk.ask("emit", "done", "yes")
        await talk.ask("emit", "point", {"x": 1, "y": 2})
        assert await talk.seen("b", 3) == [["tick", 1], ["done", "yes"], ["point", {"x": 1, "y": 2}]]
        assert await talk.seen("a", 1) == [["tick", 1]]
        assert await talk.seen("c", 1) == [["tick", 1]]
        assert [(await anext(every)).source for _ in range(3)] == ["", "a", "a"]
        assert await anext(ticks) == PluginMessage.Event("tick", 1)
        stats = communicator.stats()
        assert (stats.published, stats.delivered, stats.dropped, stats.failed) == (3, 9, 0, 0)


@live
async def test_what_a_plugin_will_not_hear_is_told_when_it_is_loaded(tmp_path: Path) -> None:
    """With the reason: no grant, or no function for it."""
    plugin = tmp_path / "deaf"
    plugin.mkdir()
    (plugin / "plugin.json").write_text(
        '{"id": "deaf", "version": "1.0.0", "format": "python", "entry": "d.py", '
        '"events": {"subscribes": ["one", "two", "three"]}}'
    )
    (plugin / "d.py").write_text("def on_one(data):\n    pass\ndef on_two(data):\n    pass\n")
    policy = ALL + "plugins: {deaf: {messages: {subscribe: [one, three]}}}"
    async with talkers(tmp_path, policy) as talk:
        events = talk.manager.events()
        await talk.manager.load_plugin(plugin)
        loaded = [await anext(events) for _ in range(3)][2]
        assert loaded.kind == "loaded"
        assert loaded.data["unheard_events"] == {
            "two": "its policy does not grant messages.subscribe: [two]",
            "three": "it has no function that would handle it",
        }
        assert await talk.manager.communicator.broadcast(PluginMessage.Event("one")) == 1
        assert await talk.manager.communicator.broadcast(PluginMessage.Event("two")) == 0


@live
async def test_an_event_that_is_not_declared_or_of_another_type_is_refused(tmp_path: Path) -> None:
    """At the publisher, before anybody hears of it."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        assert (await talk.ask("emit", "tick", 1))[0] == "missing"  # type: ignore[index]
        assert await talk.ask("emit", "done", 1) == ["invalid", "data must be string, not int"]
        assert talk.manager.communicator.stats().published == 0


@live
@pytest.mark.parametrize(
    ("overflow", "first", "more"),
    [("drop-oldest", "1000", True), ("drop-newest", "0", True), ("disconnect", None, False)],
)
async def test_a_slow_subscriber_loses_what_its_overflow_says(
    tmp_path: Path, overflow: str, first: str | None, more: bool
) -> None:
    """And every lost event is counted."""
    plugin = tmp_path / "slow"
    plugin.mkdir()
    (plugin / "plugin.json").write_text(
        '{"id": "slow", "version": "1.0.0", "format": "python", "entry": "slow.py", '
        f'"events": {{"subscribes": ["n"], "overflow": "{overflow}"}}}}'
    )
    (plugin / "slow.py").write_text(
        "seen = []\ndef on_n(data):\n    seen.append(data)\ndef get():\n    return seen\n"
    )
    async with talkers(tmp_path, ALL) as talk:
        await talk.manager.load_plugin(plugin)
        communicator = talk.manager.communicator
        for number in range(2000):
            await communicator.broadcast(PluginMessage.Event("n", str(number)))
        seen: list[str] = []
        for _ in range(1000):
            seen = await talk.manager.execute_plugin("slow", "get")  # type: ignore[assignment]
            if len(seen) == (1000 if more else 0):
                break
            await asyncio.sleep(0.01)
        assert seen[:1] == ([first] if first else [])
        stats = communicator.stats()
        assert stats.dropped + len(seen) == (2000 if more else 1001)
        delivered = await communicator.broadcast(PluginMessage.Event("n", "last"))
        assert delivered == int(more)


@live
async def test_a_handler_that_fails_is_counted_and_the_next_event_comes(tmp_path: Path) -> None:
    """A broken subscriber harms nobody."""
    plugin = tmp_path / "broken"
    plugin.mkdir()
    (plugin / "plugin.json").write_text(
        '{"id": "broken", "version": "1.0.0", "format": "python", "entry": "b.py", '
        '"events": {"subscribes": ["n"]}}'
    )
    (plugin / "b.py").write_text(
        "seen = []\ndef on_n(data):\n    seen.append(data)\n    1 / data\ndef get():\n    return seen\n"
    )
    async with talkers(tmp_path, ALL) as talk:
        await talk.manager.load_plugin(plugin)
        for number in (1, 0, 2):
            await talk.manager.communicator.broadcast(PluginMessage.Event("n", number))
        for _ in range(200):
            if (
                talk.manager.communicator.stats().failed
                and len(
                    await talk.manager.execute_plugin("broken", "get")  # type: ignore[arg-type]
                )
                == 3
            ):
                break
            await asyncio.sleep(0.01)
        assert await talk.manager.execute_plugin("broken", "get") == [1, 0, 2]
        assert talk.manager.communicator.stats().failed == 1


@live
async def test_streams_end_with_the_manager(tmp_path: Path) -> None:
    """Who still listens gets what is there, and then the end."""
    async with talkers(tmp_path, ALL) as talk:
        stream = talk.manager.communicator.subscribe("tick")
        await talk.manager.communicator.broadcast(PluginMessage.Event("tick", 1))
    assert [event.data async for event in stream] == [1]
