"""Messages of real plugins, counted and watched."""

from pathlib import Path

import pytest
from support import live
from talk import ALL, talkers

from frys_runtime import ExecutionFailed, PluginMessage, TrafficRecord


@live
async def test_every_message_is_counted_by_who_sends_what_to_whom(tmp_path: Path) -> None:
    """Calls of the host program, of plugins, and of host functions; bytes, errors by kind, times."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:

        @talk.manager.host_function("price", ["string"], "float")
        def price(article: str) -> float:
            return 9.5

        assert await talk.ask("call", "b", "twice", [21]) == 42
        await talk.ask("call", "b", "fail", ["no"])
        await talk.ask("call", "b", "lie", [])
        await talk.ask("call", "b", "twice", ["no number"])
        await talk.ask("call", "b", "ask", ["log", []])
        await talk.ask("call", "nobody", "twice", [1])
        assert await talk.ask("host", "price", ["x" * 1000]) == 9.5
        with pytest.raises(ExecutionFailed):
            await talk.manager.execute_plugin("a", "fail", "no")
        stats = talk.manager.communicator.stats()
        twice = stats.channels["a", "b", "twice"]
        assert (twice.calls, twice.errors, twice.refused) == (1, 0, 1)
        assert sum(twice.latency.counts) == 1
        assert 0 < twice.seconds == pytest.approx(twice.latency.quantile(1), rel=0.25)
        assert 5 < twice.bytes_in < twice.bytes_out < 60
        assert stats.channels["a", "b", "fail"].errors_by_kind == {"ExecutionFailed": 1}
        assert stats.channels["a", "b", "lie"].errors_by_kind == {"TypeError": 1}
        assert stats.channels["", "a", "fail"].errors_by_kind == {"ExecutionFailed": 1}
        assert stats.channels["", "a", "ask"].calls == 7
        asked = stats.channels["a", "", "price"]
        assert (asked.calls, asked.bytes_out, asked.bytes_in) == (1, 1004, 9)
        assert not any(
            "nobody" in channel or (channel[2] == "ask" and channel[0]) for channel in stats.channels
        )
        assert stats.channels["a", "b", "twice"] is not stats.channels["", "a", "ask"]


@live
async def test_events_are_counted_for_each_receiver(tmp_path: Path) -> None:
    """Plugins with the time until it was handled, streams of the host program without."""
    async with talkers(tmp_path, ALL, "a", "b") as talk:
        stream = talk.manager.communicator.subscribe("done")
        traffic = talk.manager.communicator.traffic()
        await talk.ask("emit", "done", "yes")
        await talk.ask("emit", "done", 7)
        records = [record async for record in _until(traffic, 5)]
        assert (await anext(stream)).data == "yes"
        events = talk.manager.communicator.stats().events
        assert events["a", "b", "done"].calls == 1
        assert events["a", "b", "done"].bytes_out > 20
        assert (events["a", "", "done"].calls, events["a", "", "done"].refused) == (1, 1)
        seen = {(one.receiver, one.name, one.arguments, one.error) for one in records if one.kind == "event"}
        assert seen == {
            ("b", "done", ("string(3)",), ""),
            ("", "done", ("string(3)",), ""),
            ("", "done", ("int",), "invalid"),
        }


@live
async def test_traffic_shows_a_line_of_calls_as_one_trace_and_no_contents(tmp_path: Path) -> None:
    """From the innermost call to the host program's, with shapes, sizes and how each ended."""
    async with talkers(tmp_path, ALL, "a", "b", "c") as talk:
        traffic = talk.manager.communicator.traffic()
        assert await talk.manager.execute_plugin("a", "relay", ["b", "c"]) == "end"
        await talk.ask("call", "b", "move", [{"x": 1, "secret": "hunter2"}])
        await talk.ask("call", "b\n\x1b[2J" + "x" * 500, "twice", [1])
        records = [record async for record in _until(traffic, 7)]
        assert [(one.sender, one.receiver, one.name, one.error) for one in records[:4]] == [
            ("b", "c", "relay", ""),
            ("a", "b", "relay", ""),
            ("", "a", "relay", ""),
            ("a", "b", "move", "invalid"),
        ]
        assert len({one.trace_id for one in records[:3]}) == 1
        assert records[0].trace_id != records[3].trace_id
        assert records[0].arguments == ("list(0)",)
        assert records[1].arguments == ("list(1) of string(1)",)
        assert records[0].result == "string(3)"
        assert records[2].seconds > records[1].seconds > records[0].seconds > 0
        assert records[5].error == "permission"
        assert all(record.receiver.isprintable() and len(record.receiver) < 600 for record in records)
        assert "hunter2" not in repr(records)


async def _until(stream, count):  # type: ignore[no-untyped-def]
    for _ in range(count):
        record: TrafficRecord = await anext(stream)
        yield record


@live
async def test_a_dropped_event_is_shown(tmp_path: Path) -> None:
    """With the receiver that was too slow for it."""
    async with talkers(tmp_path, ALL, "a") as talk:
        traffic = talk.manager.communicator.traffic()
        for number in range(1001):
            await talk.manager.communicator.broadcast(PluginMessage.Event("tick", number))
        assert talk.manager.communicator.stats().waiting == {"a": 1000}
        record = await anext(traffic)
        assert (record.kind, record.receiver, record.name, record.error) == ("event", "a", "tick", "dropped")
        assert talk.manager.communicator.stats().events["", "a", "tick"].dropped == 1
