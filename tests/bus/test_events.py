"""Events across several supervisors."""

import asyncio
import os
import signal

import pytest
from supervisors import knows, managers, meeting_place, server, until
from support import live
from talk import ALL, Talk

from frys_runtime import CommunicationError, PluginMessage, trace


async def _seen(talk: Talk, plugin: str, count: int) -> object:
    seen: list[object] = []
    for _ in range(500):
        seen = await talk.manager.execute_plugin(plugin, "seen")  # type: ignore[assignment]
        if len(seen) >= count:
            break
        await asyncio.sleep(0.01)
    return seen


@live
async def test_each_subscriber_of_three_supervisors_gets_an_event_once() -> None:
    """Plugins, a copy of the publisher elsewhere, streams of host programs; never the publisher itself."""
    with meeting_place(ALL + "plugins: {c: {messages: {subscribe: [tick]}}}") as folder:
        async with server(folder, "d") as _, managers(folder, "a", "b", "c", "a") as talks:
            a, b, c, copy = talks
            for talk in talks:
                await knows(talk.manager, "d")
            every = b.manager.communicator.subscribe("d*")
            await until(lambda: a.manager.bus is not None and _wanting(a, "done", "d*") == 4)
            assert await a.ask("emit", "done", "yes") == 4
            assert await a.manager.communicator.broadcast(PluginMessage.Event("tick", 1)) == 5
            for talk, plugin, expected in (
                (a, "a", [["tick", 1]]),
                (copy, "a", [["done", "yes"], ["tick", 1]]),
                (b, "b", [["done", "yes"], ["tick", 1]]),
                (c, "c", [["tick", 1]]),
                (a, "d", [["done", "yes"], ["tick", 1]]),
            ):
                assert await _seen(talk, plugin, len(expected)) == expected, plugin
            assert await anext(every) == PluginMessage.Event("done", "yes", "a")
            # Nothing comes twice: what is published next is what comes next.
            await a.ask("emit", "done", "again")
            assert await _seen(b, "b", 3) == [["done", "yes"], ["tick", 1], ["done", "again"]]
            assert (await anext(every)).data == "again"


@live
async def test_an_event_takes_its_trace_along() -> None:
    """A plugin of another supervisor handles it in the trace in which it was published."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    with meeting_place() as folder:
        async with managers(folder, "a", "b") as (talk, other):
            await until(lambda: _wanting(talk, "done", "tick") == 2)
            there = other.manager.communicator.traffic()
            with trace.accepted(f"00-{trace_id}-00f067aa0ba902b7-01"):
                await talk.ask("emit", "done", "yes")
            await talk.manager.communicator.broadcast(PluginMessage.Event("tick", 1))
            handled, after = await anext(there), await anext(there)
            assert (handled.name, handled.receiver, handled.trace_id) == ("done", "b", trace_id)
            assert (after.name, after.trace_id != trace_id) == ("tick", True)


def _wanting(talk: Talk, *names: str) -> int:
    bus = talk.manager.bus
    assert bus is not None
    return sum(count for other in bus.others for name, count in other.events.items() if name in names)


@live
async def test_a_supervisor_that_does_not_read_loses_events_that_are_counted_and_calls_that_are_told() -> (
    None
):
    """The publisher goes on, with bounded memory; when the other one goes on too, it gets what it can."""
    with meeting_place() as folder:
        async with managers(folder, "a") as (talk,), server(folder, "b") as other:
            await knows(talk.manager, "b")
            bus, communicator = talk.manager.bus, talk.manager.communicator
            assert bus is not None
            os.kill(other.pid, signal.SIGSTOP)
            try:
                event = PluginMessage.Event("tick", "x" * 4096)
                for _ in range(5000):
                    await communicator.broadcast(event)
                assert 0 < bus.others[0].dropped < 5000
                with pytest.raises(CommunicationError, match="too many messages wait") as error:
                    await talk.manager.execute_plugin("b", "twice", 1)
                assert error.value.retryable
            finally:
                os.kill(other.pid, signal.SIGCONT)
            for _ in range(500):
                try:
                    assert await talk.manager.execute_plugin("b", "twice", 1) == 2
                    break
                except CommunicationError:
                    await asyncio.sleep(0.02)
            else:
                raise AssertionError("it never took a call again")


@live
async def test_a_flood_of_calls_is_bounded_and_harms_nobody_else() -> None:
    """More calls than may wait are refused as retryable; all others are answered; a third plugin serves."""
    with meeting_place() as folder:
        async with managers(folder, "a", "b", "c") as (talk, _, third):
            calls = [talk.manager.execute_plugin("b", "twice", number) for number in range(1500)]
            flood = asyncio.gather(*calls, return_exceptions=True)
            assert await third.ask("call", "a", "twice", [4], who="c") == 8
            answers = await flood
            right = [answer for number, answer in enumerate(answers) if answer == 2 * number]
            refused = [answer for answer in answers if isinstance(answer, CommunicationError)]
            assert len(right) + len(refused) == len(answers)
            assert len(right) >= 500
            assert all(error.retryable for error in refused)
            assert refused
