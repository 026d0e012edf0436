"""The rules of supervision without any process: back-off, quarantine, the circuit breaker, waits, states."""

import itertools
import math
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from frys_runtime.breaker import Breaker, Circuit
from frys_runtime.policy_supervision import READERS, Supervision
from frys_runtime.states import TRANSITIONS, PluginState
from frys_runtime.supervision import Fault, FaultKind, Restarts
from frys_runtime.waits import Circle, Instance, Wait, Waits, extend_line, forget_line, served_by

DOCS = Path(__file__).resolve().parents[2] / "docs" / "supervision.md"
CRASH = Fault(FaultKind.CRASH, "it crashed", "f", "d1")


@pytest.fixture(autouse=True)
def _nobody_waits():
    """Lines of calls that a test makes up end with it."""
    yield
    forget_line()


def test_the_first_restart_is_at_once_and_then_pauses_double_up_to_the_most():
    """Without jitter: 0, 100, 200, 400, 500, 500 ms; a call that is served begins the row anew."""
    rules = Supervision(backoff=100, max_backoff=500, max_crashes=0)
    restarts = Restarts(rules, chance=lambda: 1.0)
    pauses = []
    for _ in range(6):
        restarts.failed(1000.0, CRASH)
        pauses.append(round(restarts.not_before - 1000.0, 6))
    assert pauses == [0, 0.1, 0.2, 0.4, 0.5, 0.5]
    restarts.succeeded()
    restarts.failed(2000.0, CRASH)
    assert restarts.not_before == 2000.0


def test_jitter_takes_up_to_half_of_a_pause_away():
    """Chance decides between half of a pause and all of it."""
    rules = Supervision(backoff=100, max_crashes=0)
    for chance, pause in ((0.0, 0.05), (0.5, 0.075), (1.0, 0.1)):
        restarts = Restarts(rules, chance=lambda chance=chance: chance)
        restarts.failed(0.0, CRASH)
        restarts.failed(0.0, CRASH)
        assert restarts.not_before == pytest.approx(pause)


def test_crashes_within_the_window_lead_into_quarantine():
    """Three in ten seconds; those that are older do not count, nor do limits and what came from outside."""
    rules = Supervision(max_crashes=3, crash_window=10_000, quarantine=60_000)
    restarts = Restarts(rules)
    for now in (0.0, 1.0, 10.5):
        restarts.failed(now, CRASH)
    assert restarts.quarantine is None
    restarts.failed(10.6, Fault(FaultKind.OUTSIDE, "killed"))
    restarts.failed(10.6, Fault(FaultKind.OVERRUN, "too much"))
    assert restarts.quarantine is None
    restarts.failed(10.7, CRASH)
    assert restarts.quarantine is not None
    assert restarts.quarantine.until == 70.7
    assert "3 times in a row in 9.7 s, each time in f with the same arguments" in restarts.quarantine.reason
    restarts.forgive()
    restarts.failed(20.0, CRASH)
    restarts.failed(20.1, CRASH)
    restarts.succeeded()
    restarts.failed(20.2, CRASH)
    assert restarts.quarantine is None
    restarts.forgive()
    assert (restarts.quarantine, restarts.not_before) == (None, -math.inf)


def test_quarantine_names_an_input_only_if_it_was_always_the_same():
    """Another one among them, or a crash between calls, and it is not the input's doing."""
    rules = Supervision(max_crashes=2, quarantine=None)
    for other in (Fault(FaultKind.CRASH, "x", "f", "d2"), Fault(FaultKind.CRASH, "x")):
        restarts = Restarts(rules)
        restarts.failed(0.0, CRASH)
        restarts.failed(0.0, other)
        assert restarts.quarantine is not None
        assert (restarts.quarantine.digest, restarts.quarantine.until) == ("", math.inf)


def test_the_circuit_opens_tries_and_closes():
    """Two failures open it; after the pause one call may try; it closes or opens again by how that ends."""
    breaker = Breaker(2, pause=1.0)
    breaker.failed(0.0)
    assert breaker.admit(0.0) == 0
    breaker.succeeded()
    breaker.failed(0.0)
    breaker.failed(0.0)
    assert (breaker.circuit, breaker.admit(0.25)) == (Circuit.OPEN, 0.75)
    assert breaker.admit(1.0) == 0
    assert (breaker.circuit, breaker.admit(1.0)) == (Circuit.HALF_OPEN, 1.0)
    breaker.failed(1.5)
    assert (breaker.circuit, breaker.admit(2.0)) == (Circuit.OPEN, 0.5)
    assert breaker.admit(2.5) == 0
    breaker.given_up(2.6)
    assert breaker.admit(2.6) == 0
    breaker.succeeded()
    assert (breaker.circuit, breaker.failures) == (Circuit.CLOSED, 0)


def test_a_breaker_that_is_off_never_opens():
    """Zero is for never."""
    breaker = Breaker(0, pause=1.0)
    for _ in range(100):
        breaker.failed(0.0)
    assert breaker.admit(0.0) == 0


class Peer:
    """A version with so many instances."""

    def __init__(self, name: str, instances: int = 1) -> None:
        self.plugin_id, self.instances = name, instances
        self.key = ord(name)

    def instance(self, number: int = 1) -> Instance:
        return Instance(self.key, number, self.plugin_id)


def _as(instance: Instance) -> None:
    forget_line()
    extend_line(instance)


def test_a_circle_is_found_however_long_it_is():
    """Itself; over another; over two others; each with one instance."""
    a, b, c = map(Peer, "abc")
    waits = Waits()
    _as(a.instance())
    with pytest.raises(Circle, match="a > a"), waits.waiting(a):
        pass
    with waits.waiting(b):
        served_by(b.instance())
        _as(b.instance())
        with pytest.raises(Circle, match="b > a > b"), waits.waiting(a):
            pass
        with waits.waiting(c):
            _as(c.instance())
            with pytest.raises(Circle, match="c > a > b > c"), waits.waiting(a):
                pass
            with pytest.raises(Circle), waits.waiting(b):
                pass


def test_with_a_second_instance_there_is_no_circle_until_both_wait():
    """A call back to the caller's plugin is served by its other instance; a third one would wait for ever."""
    a, b = Peer("a", 2), Peer("b", 3)
    waits = Waits()
    _as(a.instance(1))
    with waits.waiting(b):
        served_by(b.instance(1))
        _as(b.instance(1))
        with waits.waiting(a):
            served_by(a.instance(2))
            _as(a.instance(2))
            with waits.waiting(b):
                served_by(b.instance(2))
                _as(b.instance(2))
                with pytest.raises(Circle), waits.waiting(a):
                    pass


def test_who_waits_for_a_busy_instance_that_will_end_is_not_refused():
    """Both instances of a wait for b, but b works for somebody else, who will end."""
    a, b, c = Peer("a", 2), Peer("b"), Peer("c")
    waits = Waits()
    _as(a.instance(1))
    with waits.waiting(b):
        _as(a.instance(2))
        with waits.waiting(b):
            _as(c.instance())
            with waits.waiting(a):  # a waits for b, b is free to end: no circle
                pass
            _as(b.instance())
            with pytest.raises(Circle), waits.waiting(a):
                pass
    assert not waits._waits
    assert not waits._waiting


def test_the_states_of_the_manual_are_those_of_the_code():
    """docs/supervision.md has a row for each state, with the states that may follow."""
    section = DOCS.read_text().partition("## States")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z]+)` \| [^|]* \|([^|]*)\|$", section, re.MULTILINE))
    assert rows.keys() == set(map(str, PluginState))
    for state, text in rows.items():
        assert set(re.findall(r"`([a-z]+)`", text)) == set(map(str, TRANSITIONS[PluginState(state)])), state


def test_every_state_can_be_reached_and_left():
    """From loading to unloaded, over any of them."""
    reached = {PluginState.LOADING}
    for _ in PluginState:
        reached |= set(itertools.chain.from_iterable(TRANSITIONS[state] for state in reached))
    assert reached == set(PluginState)
    for state in set(PluginState) - {PluginState.UNLOADED}:
        assert PluginState.UNLOADED in TRANSITIONS[state]


def test_the_manual_has_every_key_of_the_policy():
    """With its default at level Maximum."""
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| `([^`|]+)`", DOCS.read_text(), re.MULTILINE))
    assert rows.keys() >= READERS.keys()


def test_the_host_program_waits_for_nobody_that_waits_for_it():
    """A call of its own is in no line, so it can be in no circle."""
    waits = Waits()
    forget_line()
    with waits.waiting(Peer("a")), waits.waiting(Peer("a")):
        assert not waits._waits


@given(st.integers(0, 2**32 - 1))
def test_waits_never_refuse_what_could_end_and_never_let_a_knot_be(seed):
    """Any order of calls, serves and ends: somebody can always go on, and a refused call could never have."""
    chance = random.Random(seed)
    peers = [Peer(name, chance.randint(1, 2)) for name in "abc"]
    waits, open_waits = Waits(), []
    for _ in range(12):
        busy = {wait.server for _, wait, _ in open_waits if wait.server}
        waiting = {who for who, _, _ in open_waits}
        callers = [one for peer in peers for one in map(peer.instance, range(1, peer.instances + 1))]
        who, target = (
            chance.choice([one for one in callers if one not in waiting] or [None]),
            chance.choice(peers),
        )
        if who is None:
            break
        _as(who)
        entered = waits.waiting(target)
        before = [(one, wait) for one, wait, _ in open_waits]
        try:
            entered.__enter__()
        except Circle:
            assert _is_knot([*before, (who, Wait(waits, target))], who)
            continue
        wait = waits._waits[who][-1]
        free = [one for one in map(target.instance, range(1, target.instances + 1)) if one not in busy]
        free = [one for one in free if one not in waiting | {who}]
        if free and chance.random() < 0.8:
            wait.server = free[0]
        open_waits.append((who, wait, entered))
        assert not _is_knot([(one, wait) for one, wait, _ in open_waits], who)
    while open_waits:
        forget_line()
        open_waits.pop()[2].__exit__(None, None, None)
    assert not waits._waits


def _is_knot(pairs, who):
    """Whether an instance never goes on: computed the plain way, by letting everybody go who can."""
    waiting = dict(pairs)
    gone = True
    while gone:
        gone = [one for one, wait in waiting.items() if _ends(wait, waiting)]
        for one in gone:
            del waiting[one]
    return who in waiting


def _ends(wait, waiting):
    if wait.server is not None:
        return wait.server not in waiting
    numbers = range(1, wait.target.instances + 1)
    return any(wait.target.instance(number) not in waiting for number in numbers)
