"""Every attempt to get out of the jail, at every level that it applies to; the verdict is the host's."""

import os
from collections.abc import Iterator

import pytest
from escape.attempts import Attempt, Control, Modest, Outside
from escape.host import Host, occurrences
from escape.table import ATTEMPTS

from frys_runtime import IsolationLevel

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_gcc,
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]

RUNS = [
    pytest.param(attempt, level, id=f"{attempt.id}-{level}")
    for attempt in ATTEMPTS
    for level in attempt.verdicts
]
OUTSIDE = [attempt for attempt in ATTEMPTS if isinstance(attempt.control, Control)]
INSIDE = [attempt for attempt in ATTEMPTS if isinstance(attempt.control, Modest)]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One manager and its fork servers for all attempts of this worker; nothing is left of them."""
    with Host(tmp_path_factory.mktemp("escape")) as made:
        yield made


@pytest.mark.parametrize(("attempt", "level"), RUNS)
def test_attempt(attempt: Attempt, level: IsolationLevel, host: Host) -> None:
    """It ends as the table says; the host, the plugins beside it and the next call do not notice."""
    outcome = host.attack(attempt, level)
    verdict = attempt.verdicts[level]

    assert verdict.holds(outcome), f"expected: {verdict.words}; got {outcome}"


@pytest.mark.parametrize("attempt", OUTSIDE, ids=lambda attempt: attempt.id)
def test_control_outside(attempt: Attempt, host: Host) -> None:
    """Without the jail the very same code succeeds, so what stopped it is the jail."""
    control = attempt.control
    assert isinstance(control, Control)
    said = host.control(attempt, attempt.args if control.args is None else control.args)

    assert said == control.says if control.says.isdigit() else said.startswith(control.says), said


@pytest.mark.parametrize("attempt", INSIDE, ids=lambda attempt: attempt.id)
def test_control_inside(attempt: Attempt, host: Host) -> None:
    """With a modest amount the very same function works, so what stopped it is the amount."""
    control = attempt.control
    assert isinstance(control, Modest)
    outcome = host.run(host.inside(attempt, control.args))

    assert (outcome.value, outcome.error) == (control.value, None)


def test_the_secret_can_be_found(host: Host) -> None:
    """The look through a process's memory finds the secret in the host's own."""
    assert occurrences(os.getpid()) > 0


def test_the_table_is_sound() -> None:
    """At least sixty distinct attempts, each with its own name, in all four languages and eight classes."""
    names = [attempt.id for attempt in ATTEMPTS]
    assert len(names) == len(set(names)) >= 60
    assert {attempt.language for attempt in ATTEMPTS} >= {"c", "python", "javascript", "wasm"}
    assert all(attempt.why and attempt.what for attempt in ATTEMPTS)
    assert not any(isinstance(attempt.act, Outside) and attempt.args for attempt in ATTEMPTS)
