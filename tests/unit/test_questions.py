"""A question has one answer, whoever gives it first, and none after its plugin was told that nobody waits."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from frys_runtime import wire
from frys_runtime.bulk import LEAST, Bulk
from frys_runtime.lane import Lane
from frys_runtime.questions import CANCELLED, Question

from .test_lane import with_lane

ANSWER = b"".join(wire.encode([wire.ANSWER, "yes"]))
REFUSAL = b"".join(wire.encode([wire.REFUSAL, "failed", "no"]))
WAYS: dict[str, tuple[Callable[[Question], None], bytes]] = {
    "answered": (lambda question: question.answer("yes"), ANSWER),
    "refused": (lambda question: question.refuse("failed", "no"), REFUSAL),
    "withdrawn": (Question.withdraw, b"".join(CANCELLED)),
}


def _received(theirs: socket.socket) -> bytes:
    theirs.setblocking(False)
    return theirs.recv(1 << 16)


@pytest.mark.parametrize("first", WAYS)
def test_the_first_answer_is_the_only_one(first: str) -> None:
    """What comes after it goes nowhere, least of all to the next question."""

    @with_lane
    async def ask(lane: Lane, theirs: socket.socket) -> None:
        question = Question(lane, 0.0)
        way, frame = WAYS[first]
        way(question)
        question.answer("yes")
        question.refuse("failed", "no")
        assert _received(theirs) == frame

    ask()


@with_lane
async def test_an_answer_that_cannot_be_sent_leaves_room_for_a_refusal(
    lane: Lane, theirs: socket.socket
) -> None:
    """Who asked is told something in any case."""
    question = Question(lane, 0.0)
    with pytest.raises(TypeError):
        question.answer(object())  # type: ignore[arg-type]
    question.refuse("failed", "no")
    assert _received(theirs) == REFUSAL


@with_lane
async def test_an_answer_that_comes_too_late_touches_no_buffer(lane: Lane, theirs: socket.socket) -> None:
    """The next question's large bytes may lie there by then."""
    lane.add_bulk(Bulk(1 << 20))
    question = Question(lane, 0.0)
    question.withdraw()
    question.answer(bytes(LEAST))
    assert lane.bulk is not None
    assert lane.bulk.bytes_out == 0
    lane.close()
    late = Question(lane, 0.0)
    late.answer(bytes(LEAST))  # its process is gone, and so is the buffer
    await asyncio.sleep(0)
    assert _received(theirs) == b"".join(CANCELLED)
