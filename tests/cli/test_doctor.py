"""`frys doctor`: says what is true, with a remedy for what is missing."""

import json

import pytest
from command import frys

from frys_runtime.cli.doctor import LAYERS, is_full
from frys_runtime.cli.machine import Fact, facts
from frys_runtime.cli.trials import QUESTIONS, Trial, open_calls
from frys_runtime.config import IsolationLevel
from frys_runtime.policy import FORMATS, LAYERS as KNOWN_LAYERS, level_policy


@pytest.fixture(scope="module")
def report():
    return frys("doctor", "--json")


def test_every_layer_is_explained():
    """The doctor knows each layer that a policy can require, and no other."""
    assert set(LAYERS) == set(KNOWN_LAYERS)


def test_every_format_is_tried():
    """There is a plugin to try for each format."""
    assert set(QUESTIONS) == set(FORMATS)


def test_exit_code_says_whether_maximum_is_complete(report):
    """0 stands for every layer at level Maximum in all four formats."""
    found = json.loads(report.stdout)
    best = [trial for trial in found["trials"] if trial["level"] == "maximum"]
    full = all(not trial["why"] and set(trial["layers"]) == set(LAYERS) for trial in best)

    assert len(found["trials"]) == len(FORMATS) * len(IsolationLevel)
    assert found["ok"] == full
    assert report.returncode == (0 if full else 1)


def test_what_is_missing_has_a_reason_and_a_remedy(report):
    """No fact of the machine is just a no."""
    for fact in json.loads(report.stdout)["machine"]:
        assert fact["ok"] or (fact["why"] and fact["how"])


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
@pytest.mark.needs_cgroup
@pytest.mark.needs_root
def test_machine_with_everything_is_ready(report):
    """Where the tests find every feature, the doctor does too."""
    assert report.returncode == 0


def test_smaller_level_leaves_fewer_calls():
    """From Standard to Maximum fewer system calls are open, and serving never has more than loading."""
    for name in FORMATS:
        counts = [open_calls(level_policy(level).syscalls[name]) for level in IsolationLevel]
        assert counts == sorted(counts, reverse=True)
        assert all(loading >= serving > 0 for loading, serving in counts)


def test_one_missing_layer_is_not_full():
    """A jail without a layer is not complete, nor is a format that does not run."""

    def trial(layers: set[str], why: str = "") -> Trial:
        return Trial("wasm", IsolationLevel.MAXIMUM, frozenset(layers), 1.0, 2, 1, why)

    assert is_full([trial(set(LAYERS))])
    assert not is_full([trial(set(LAYERS) - {"landlock"})])
    assert not is_full([trial(set(LAYERS), why="no engine")])


def test_a_fact_is_there_unless_there_is_a_reason():
    """A fact without a reason against it holds."""
    assert Fact("x", "y").ok
    assert not Fact("x", "y", "because").ok
    assert [fact.name for fact in facts()][:3] == ["kernel", "user", "user namespaces"]


def test_tables_fit_a_terminal():
    """No line is wider than 80 columns."""
    shown = frys("doctor").stdout.decode()

    assert max(map(len, shown.splitlines())) <= 80
    assert all(layer in shown for layer in LAYERS)


@pytest.mark.needs_root
@pytest.mark.needs_userns
def test_ordinary_user_learns_what_is_missing(tmp_path):
    """In a user namespace as a user without rights, the doctor still runs and explains the cgroups."""
    import shutil
    import subprocess

    from command import FRYS

    if not shutil.which("unshare"):
        pytest.skip("needs unshare(1) of util-linux")
    command = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *FRYS, "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, check=False)
    found = json.loads(done.stdout)

    user = next(fact for fact in found["machine"] if fact["name"] == "user")
    assert user["found"].startswith("1000, an ordinary user")
    assert done.returncode == (0 if found["ok"] else 1)
