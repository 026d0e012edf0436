"""Which calls are given up when plugins with several instances wait for each other over supervisors."""

import random

from frys_runtime.bus.standstill import Waiting, ends


def _waits(*lines: str) -> list[Waiting]:
    """``x1 > y1 y2 @ b``: x1 waits for any of them, which supervisor b knows more of."""
    found = []
    for number, line in enumerate(lines, 1):
        who, _, rest = line.partition(" > ")
        on, _, at = rest.partition(" @ ")
        came = who.startswith("call")
        found.append(Waiting(who, "" if came else who[:-1].upper(), number, tuple(on.split()), at, came))
    return found


def _ended(*lines: str) -> list[list[str]]:
    """The circles of the calls that end, in whatever order the waits are told."""
    waits = _waits(*lines)
    first = ends(waits)
    for _ in range(5):
        random.shuffle(waits)
        assert {wait.who for wait, _ in ends(waits)} == {wait.who for wait, _ in first}
    return [path for _, path in first]


CIRCLE = (
    "x1 > call1 @ b",
    "x2 > call2 @ b",
    "call1 > y1 y2",
    "call2 > y1 y2",
    "y1 > call3 @ a",
    "y2 > call4 @ a",
    "call3 > x1 x2",
    "call4 > x1 x2",
)


def test_one_call_of_a_circle_ends() -> None:
    """The same one, whoever looks; its path begins and ends with who made it."""
    assert _ended(*CIRCLE) == [["Y", "X", "Y"]]


def test_nobody_is_ended_while_anybody_can_go_on() -> None:
    """An instance that waits for nobody, a call that nobody serves yet, one whose supervisor says nothing."""
    for at in range(len(CIRCLE)):
        assert _ended(*CIRCLE[:at], *CIRCLE[at + 1 :]) == [], CIRCLE[at]
    assert _ended(*CIRCLE[:-1], "call4 > ") == []
    assert _ended() == []


def test_who_waits_behind_a_circle_is_not_ended() -> None:
    """It would free nobody; it goes on when the circle has."""
    assert _ended(*CIRCLE, "z1 > call9 @ a", "call9 > x1 x2") == [["Y", "X", "Y"]]


def test_two_circles_end_by_two_calls() -> None:
    """Each by its own; who waits in both at the same time is in one of them."""
    other = [line.replace("x", "p").replace("y", "q").replace("call", "callb") for line in CIRCLE]
    assert sorted(_ended(*CIRCLE, *other)) == [["Q", "P", "Q"], ["Y", "X", "Y"]]


def test_waits_within_a_supervisor_are_links_of_a_circle() -> None:
    """X calls y elsewhere, which calls z beside it, which calls x: only what has gone elsewhere is ended."""
    assert _ended(
        "x1 > call1 @ b", "call1 > y1", "y1 > z1 z2", "z1 > call2 @ a", "z2 > y1", "call2 > x1"
    ) == [["Z", "X", "Y", "Z"]]
