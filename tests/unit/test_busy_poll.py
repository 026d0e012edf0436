"""Looking for a frame before sleeping: what is found at once, and when nobody looks."""

import os
import socket
from asyncio import Future
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plugins_side import serve

from frys_runtime import busy_poll, wire
from frys_runtime.isolation import IsolationManager
from frys_runtime.lane import Lane, LaneClosed, pair
from frys_runtime.metadata import Format, Metadata
from frys_runtime.policy import load_policy

from .test_lane import with_lane

_CALL = wire.encode([wire.CALL, 1])
_RESULT = b"".join(wire.encode([wire.RESULT, 1, "value"]))
_ASK = b"".join(wire.encode([wire.ASK, "config", []]))
_LONG = 60.0  # a look that ends by a find, or the test would show it
_MOMENT = 1e-6


@contextmanager
def _another() -> Iterator[tuple[Lane, socket.socket]]:
    ours, theirs = pair()
    lane = Lane(ours, lambda _reason: None)
    try:
        yield lane, theirs
    finally:
        lane.close()
        theirs.close()


def _exchange(lane: Lane) -> Future[list[Any]]:
    answer = lane.exchange(_CALL, 1000)
    lane.look()
    return answer


@with_lane
async def test_what_has_come_is_found_without_a_turn_of_the_loop(lane: Lane, theirs: socket.socket) -> None:
    """The answer is there when the caller is about to await it."""
    lane.busy_poll = _LONG
    theirs.send(_RESULT)
    answer = _exchange(lane)
    assert answer.done()
    assert lane.was_found
    assert await answer == [wire.RESULT, 1, "value"]


@with_lane
async def test_who_is_not_told_to_look_sleeps(lane: Lane, theirs: socket.socket) -> None:
    """As before a plugin is there, or where its policy says so."""
    theirs.send(_RESULT)
    answer = _exchange(lane)
    assert not answer.done()
    assert await answer == [wire.RESULT, 1, "value"]
    assert not lane.was_found


@with_lane
async def test_a_look_in_vain_is_not_repeated_at_once(lane: Lane, theirs: socket.socket) -> None:
    """After the first one frame is waited for asleep, after the second three more."""
    lane.busy_poll = _MOMENT

    async def in_vain() -> None:
        answer = _exchange(lane)
        assert not answer.done()
        theirs.send(_RESULT)
        await answer

    async def is_looked_for() -> bool:
        theirs.send(_RESULT)
        answer = _exchange(lane)
        found = answer.done()
        await answer
        return found

    await in_vain()
    assert [await is_looked_for() for _ in range(2)] == [False, True]
    await in_vain()
    assert [await is_looked_for() for _ in range(2)] == [False, True]
    await in_vain()
    await is_looked_for()  # asleep
    await in_vain()
    assert [await is_looked_for() for _ in range(4)] == [False, False, False, True]


@with_lane
async def test_nobody_looks_while_another_plugin_works(lane: Lane, theirs: socket.socket) -> None:
    """Else calls that were begun together would run one after the other."""
    lane.busy_poll = _LONG
    with _another() as (other, their_end):
        theirs.send(_RESULT)
        busy = _exchange(other)
        answer = _exchange(lane)
        assert not answer.done()
        await answer
        their_end.send(_RESULT)
        await busy
        theirs.send(_RESULT)
        assert _exchange(lane).done()


@with_lane
async def test_a_plugin_that_went_is_not_waited_for(lane: Lane, theirs: socket.socket) -> None:
    """Who looks is told at once, and others are looked for again."""
    lane.busy_poll = _LONG
    with _another() as (other, their_end):
        their_end.close()
        other.busy_poll = _LONG
        with pytest.raises(LaneClosed):
            await _exchange(other)
        theirs.send(_RESULT)
        assert _exchange(lane).done()


@with_lane
async def test_others_have_a_turn(lane: Lane, theirs: socket.socket) -> None:
    """However fast the answers are, the loop goes round now and then."""
    lane.busy_poll = _LONG

    async def found(times: int) -> list[bool]:
        found = []
        for _ in range(times):
            theirs.send(_RESULT)
            answer = _exchange(lane)
            found.append(answer.done())
            await answer
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(busy_poll, "_RUN_SECONDS", 0.0)
        assert await found(6) == [True, False] * 3
        patch.setattr(busy_poll, "_RUN_SECONDS", _LONG)
        assert await found(100) == [True] * 100


@with_lane
async def test_a_question_is_answered_within_the_look(lane: Lane, theirs: socket.socket) -> None:
    """And the look goes on for what the plugin does with the answer."""
    lane.busy_poll = _LONG

    def answer(_question: object) -> None:
        lane.answer(wire.encode([wire.ANSWER, "value"]))
        theirs.send(_RESULT)
        lane.look()

    lane.on_question = answer
    theirs.send(_ASK)
    assert _exchange(lane).done()


@with_lane
async def test_questions_without_end_do_not_hold_the_loop(lane: Lane, theirs: socket.socket) -> None:
    """A hostile plugin asks again and again, faster than anybody can answer."""
    lane.busy_poll = _LONG

    def answer(_question: object) -> None:
        lane.answer(wire.encode([wire.ANSWER, "value"]))
        theirs.send(_ASK)
        lane.look()

    lane.on_question = answer
    theirs.send(_ASK)
    result = _exchange(lane)
    assert not result.done()
    lane.close()
    with pytest.raises(LaneClosed):
        await result


@with_lane
async def test_a_look_that_fails_is_over(lane: Lane, theirs: socket.socket) -> None:
    """Whoever takes the question may end the program; the next frame is looked for all the same."""
    lane.busy_poll = _LONG

    def end(_question: object) -> None:
        raise SystemExit

    lane.on_question = end
    theirs.send(_ASK)
    with pytest.raises(SystemExit):
        _exchange(lane)
    lane.answer(wire.encode([wire.ANSWER, "value"]))
    theirs.send(_RESULT)
    lane.look()
    assert lane.was_found


def test_a_plugin_looks_less_often_the_more_often_it_was_in_vain() -> None:
    """1, 3, 7 ... 1023 frames are waited for asleep; what leaves the look out is no look in vain."""
    patience, left_out = serve.Patience(), []
    for _ in range(12):
        patience.in_vain()
        left_out.append(patience.left_out)
        for left in reversed(range(patience.left_out)):
            patience.in_vain()
            assert patience.left_out == left
    assert left_out == [1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023, 1023]


def test_a_plugin_has_patience_with_answers_of_its_own() -> None:
    """Calls that come late do not keep it from looking for answers, and what is there is always found."""
    ours, theirs = socket.socketpair()
    lane = serve.Lane(theirs.detach(), busy_poll=_MOMENT)
    calls, answers = lane._calls, lane._answers
    for _ in range(2):  # a look, and one that is left out
        lane._look(calls, 0.0)
    lane._look(calls, 0.0)
    assert (calls.misses, calls.left_out, answers.misses) == (3, 3, 0)
    ours.sendall(b"\0\0\0\1\xc0")
    assert lane.receive(answer=True) == b"\xc0"
    ours.sendall(b"\0\0\0\1\xc1")
    assert lane.receive() == b"\xc1"
    assert (calls.misses, calls.left_out, answers.misses) == (1, 3, 0)
    ours.close()
    with pytest.raises(EOFError):
        lane.receive()
    lane.socket.close()


@pytest.mark.skipif(not busy_poll.is_worthwhile(), reason="this process may use one core only")
@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        ("extends: maximum", busy_poll.SECONDS),
        ("extends: high", busy_poll.SECONDS),
        ("extends: standard", busy_poll.SECONDS),
        ("{extends: maximum, busy_poll: false}", 0.0),
        ("{extends: standard, busy_poll: false}", 0.0),
        ("{extends: maximum, syscalls: {forbid: {common: {serve: {sched_yield: never}}}}}", 0.0),
    ],
)
def test_the_policy_decides(policy: str, seconds: float, tmp_path: Path) -> None:
    """Also by what it opens: a launcher that may not yield does not look."""
    metadata = Metadata(id="x", version="1.0.0", format=Format.WASM, entry="x.wasm")
    file = tmp_path / "policy.yaml"
    file.write_text(policy)
    room = IsolationManager(policy=file).confine(metadata)
    assert room.busy_poll == seconds
    serve = room.policy.syscalls["wasm"].serve
    if room.policy.syscalls["wasm"].mode == "allow":
        assert any(rule.name == "sched_yield" for rule in serve) == bool(seconds)


def test_a_quota_is_not_used_up_by_looking(tmp_path: Path) -> None:
    """What waits for its next share must not spend it on nothing."""
    file = tmp_path / "policy.yaml"
    file.write_text("{extends: maximum, limits: {cpu: 0.5 cpu}}")
    limited = load_policy(file).policy("x")
    assert limited.busy_poll
    assert not limited.polls


def test_one_core_is_left_to_the_plugin() -> None:
    """Who looks there keeps the other one from working."""
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        assert not busy_poll.is_worthwhile()
    finally:
        os.sched_setaffinity(0, cores)
