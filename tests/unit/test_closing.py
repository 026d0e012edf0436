"""Waits at a manager's end: each is bounded, and what was given up on is in the log."""

import asyncio
import threading

import pytest

from frys_runtime.closing import made, step


def test_a_step_that_ends_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """It is waited for, and what it raises is raised."""

    async def fails() -> None:
        raise LookupError("on purpose")

    async def live() -> None:
        assert await step("sleep", asyncio.sleep(0.01))
        with pytest.raises(LookupError, match="on purpose"):
            await step("a failure", fails())

    asyncio.run(live())
    assert caplog.text == ""


def test_a_step_that_does_not_end_is_given_up_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """It is cancelled; what it says after that is in the log, too, and nobody's error."""

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            raise LookupError("too late") from None

    async def live() -> None:
        assert not await step("what never ends", stubborn(), 0.01)
        await asyncio.sleep(0.1)

    asyncio.run(live())
    assert "without waiting any longer for what never ends (0.01 s)" in caplog.text
    assert "too late" in caplog.text


def test_who_is_cancelled_takes_the_step_along() -> None:
    """The step is told, and may clear up."""
    cleared: list[str] = []

    async def clears_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleared.append("up")

    async def live() -> None:
        waiting = asyncio.create_task(step("an event", clears_up()))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(live())
    assert cleared == ["up"]


@pytest.mark.parametrize("cancels", [0, 1, 3])
def test_what_a_thread_makes_is_given_back_when_nobody_wants_it(cancels: int) -> None:
    """However often whoever waited was cancelled."""
    given_back: list[str] = []
    go_on = threading.Event()

    def make() -> str:
        assert go_on.wait(20)
        return "it"

    async def live() -> None:
        waiting = asyncio.create_task(made(make, given_back.append))
        for _ in range(cancels):
            await asyncio.sleep(0.01)
            waiting.cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        if not cancels:
            assert await waiting == "it"
            return
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while not given_back:  # noqa: ASYNC110 - the thread tells nobody else
            await asyncio.sleep(0.005)

    asyncio.run(live())
    assert given_back == ["it"] * bool(cancels)
