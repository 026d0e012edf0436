"""The host's end of a lane, with a socket at the other end that says what a plugin might."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import wraps

import pytest

from frys_runtime import wire
from frys_runtime.lane import Lane, LaneClosed, pair

_LIMIT = 1000


def _frame(sequence: int) -> bytes:
    return b"".join(wire.encode([wire.RESULT, sequence, "value"]))


def with_lane(test: Callable[[Lane, socket.socket], Awaitable[None]]) -> Callable[[], None]:
    """Give a test a lane, and the socket at its other end."""

    @wraps(test)
    def run() -> None:
        async def work() -> None:
            ours, theirs = pair()
            lane = Lane(ours, lambda _reason: None)
            try:
                await test(lane, theirs)
            finally:
                lane.close()
                theirs.close()

        asyncio.run(work())

    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look for the fixtures of that one
    return run


@with_lane
async def test_a_task_that_waits_for_an_answer_can_be_cancelled(lane: Lane, theirs: socket.socket) -> None:
    """And an answer that comes in the same turn of the loop is nobody's."""

    async def ask() -> object:
        return await lane.expect(_LIMIT)

    task = asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    theirs.send(_frame(1))
    task.cancel()
    lane._readable()
    with pytest.raises(asyncio.CancelledError):
        await task


@with_lane
async def test_several_may_wait_for_an_answer(lane: Lane, theirs: socket.socket) -> None:
    """Whoever is not a task of its own, like asyncio.wait, is told in the loop's next turn."""
    answer = lane.expect(_LIMIT)
    waiting = asyncio.ensure_future(asyncio.wait({answer}))
    shielded = asyncio.ensure_future(asyncio.wait_for(asyncio.shield(answer), 30))
    await asyncio.sleep(0)
    theirs.send(_frame(1))
    done, _ = await waiting
    assert done == {answer}
    assert await shielded == [wire.RESULT, 1, "value"]


@with_lane
async def test_a_lane_that_ends_tells_who_waits(lane: Lane, theirs: socket.socket) -> None:
    """The task gets the reason."""
    answer = lane.expect(_LIMIT)
    theirs.close()
    with pytest.raises(LaneClosed, match="closed"):
        await answer


@with_lane
async def test_a_plain_lane_drops_descriptors(lane: Lane, theirs: socket.socket) -> None:
    """Where the filter forbids to send them nobody looks, and what comes all the same is not kept."""
    lane.is_plain = True
    answer = lane.expect(_LIMIT)
    read, write = socket.socketpair()
    socket.send_fds(theirs, [_frame(1)], [write.fileno()])
    write.close()
    assert await answer == [wire.RESULT, 1, "value"]
    read.settimeout(30)
    assert read.recv(1) == b"", "the descriptor lives on in the host"
    read.close()
