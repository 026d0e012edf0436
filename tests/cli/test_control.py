"""The commands that have running supervisors change what they run."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import FRYS, frys
from supervisors import Server, meeting_place
from versioned import MARKS, write

pytestmark = MARKS


@pytest.fixture
def servers() -> Iterator[tuple[Path, list[Server]]]:
    """Two supervisors that run `sample` 1.0.0 from the same folder, and `other`."""
    with meeting_place() as folder:
        sample = write(folder / "sample", "1.0.0")
        found = [Server(folder, f"sample={sample}"), Server(folder, f"sample={sample}", f"other={sample}")]
        for server in found:
            server.wait_ready()
        yield folder, found
        for server in found:
            assert server.stop() == 0


def _facts(*words: str | Path, code: int = 0) -> list[dict[str, Any]]:
    done = frys(*words, "--json")
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


def test_every_supervisor_replaces_its_plugin_or_one_does(servers: tuple[Path, list[Server]]) -> None:
    """From where it was or from elsewhere; a version that fails leaves the old one, and says the step."""
    folder, (one, two) = servers
    bus = ("--bus", folder / "bus")
    write(folder / "sample", "1.1.0")
    done = _facts("reload", *bus, "sample")
    assert {fact["pid"]: fact["answer"]["version"] for fact in done} == {one.pid: "1.1.0", two.pid: "1.1.0"}
    new = write(folder / "new", "1.2.0")
    (only,) = _facts("reload", *bus, "sample", new, "--supervisor", two.name)
    assert (only["name"], only["answer"]["old_version"], only["answer"]["version"]) == (
        *(two.name, "1.1.0", "1.2.0"),
    )
    told = frys("reload", *bus, "sample", new, "--supervisor", str(one.pid)).stdout
    assert f"process {one.pid}: sample 1.1.0 > 1.2.0 in ".encode() in told
    broken = write(folder / "broken", "1.3.0", "def answer(:\n")
    failed = _facts("reload", *bus, "sample", broken, code=5)
    assert [(fact["error"], fact["facts"]["step"]) for fact in failed] == [("ReloadFailed", "start")] * 2
    person = frys("reload", *bus, "sample", broken)
    assert person.returncode == 5
    assert person.stderr.count(b"the version before serves on (start)") == 2
    assert json.loads(frys("call", *bus, "sample", "answer").stdout) == ["1.2.0"] * 8
    assert frys("reload", *bus, "nobody").returncode == 5
    assert frys("reload", *bus, "sample", "--supervisor", "nobody").returncode == 5
    assert frys("reload", *bus, "sample@^^").returncode == 2


def test_a_version_on_trial_is_shown_promoted_or_rolled_back(servers: tuple[Path, list[Server]]) -> None:
    """`frys reload --weight`, `versions`, `promote`, `rollback`, and `pin` among versions side by side."""
    folder, (one, two) = servers
    bus = ("--bus", folder / "bus")
    new = write(folder / "new", "1.1.0")
    mine = (*bus, "--supervisor", one.name)
    (begun,) = _facts("reload", *mine, "sample", new, "--weight", "0.5", "--promote-after", "0")
    assert begun["answer"] == {"version": "1.1.0"}
    for _ in range(4):
        assert frys("call", *bus, "sample", "answer").returncode == 0
    shown = {fact["pid"]: fact["answer"] for fact in _facts("versions", *bus, "sample")}
    assert [(v["version"], v["weight"], v["canary"]) for v in shown[one.pid]] == [
        *(("1.0.0", 0.5, False), ("1.1.0", 0.5, True)),
    ]
    assert [(v["version"], v["weight"], v["canary"]) for v in shown[two.pid]] == [("1.0.0", 1.0, False)]
    assert sum(v["calls"] for versions in shown.values() for v in versions) == 4
    table = frys("versions", *bus, "sample", columns=200).stdout.decode()
    assert all(word in table for word in ("on trial", "50%", "1.1.0", str(two.pid)))
    _facts("promote", *mine, "sample")
    assert frys("promote", *mine, "sample").returncode == 5  # none is on trial any more
    _facts("reload", *mine, "sample", write(folder / "third", "1.2.0"), "--weight", "0.5")
    assert frys("rollback", *mine, "sample").stdout.decode() == f"process {one.pid}: sample rolled back\n"
    (after,) = _facts("versions", *mine, "sample")
    assert [version["version"] for version in after["answer"]] == ["1.1.0"]
    for words in (("--weight", "0.5"), ("--max-error-rate", "0.5"), (str(new), "--weight", "7")):
        assert frys("reload", *bus, "sample", *words).returncode == 2, words
    (loaded,) = _facts("load", *mine, folder / "third", "--id", "sample@1")
    assert loaded["answer"] == {"plugin": "sample@1.2.0"}
    _facts("pin", *mine, "sample", "1.1.0")
    (pinned,) = _facts("versions", *mine, "sample")
    assert {v["version"]: (v["pinned"], v["weight"]) for v in pinned["answer"]} == {
        "1.1.0": (True, 1.0),
        "1.2.0": (False, 0.0),
    }
    # The highest version in the range is found, wherever it is.
    assert json.loads(frys("call", *bus, "sample@^1", "answer").stdout) == ["1.2.0"] * 8
    assert json.loads(frys("call", *bus, "sample@=1.0.0", "answer").stdout) == ["1.0.0"] * 8
    _facts("pin", *mine, "sample", "--none")
    assert frys("pin", *mine, "sample").returncode == 2
    assert frys("pin", *mine, "sample", "9").returncode == 5
    assert frys("load", *mine, folder / "third", "--id", "no id").returncode == 2
    _facts("unload", *mine, "sample@1.2.0")
    assert frys("call", *bus, "sample@1.2.0", "answer").returncode == 5


def test_plugins_are_frozen_ended_and_loaded_from_outside(servers: tuple[Path, list[Server]]) -> None:
    """`frys suspend`, `resume`, `unload` and `load`; what is wrong has the exit code of its error."""
    folder, (one, two) = servers
    bus = ("--bus", folder / "bus")
    _facts("suspend", *bus, "other")
    assert frys("call", *bus, "--timeout", "200", "other", "answer").returncode == 3
    _facts("resume", *bus, "other")
    assert frys("call", *bus, "other", "answer").returncode == 0
    _facts("unload", *bus, "other", "--drain", "1000")
    assert frys("call", *bus, "other", "answer").returncode == 5
    done = _facts("load", *bus, folder / "sample", "--id", "more")
    assert [fact["answer"] for fact in done] == [{"plugin": "more"}] * 2
    assert [fact["error"] for fact in _facts("load", *bus, folder / "sample", "--id", "more", code=2)] == [
        *["AlreadyLoaded"] * 2,
    ]
    nothing = _facts("load", *bus, folder / "nothing.py", code=5)
    assert {fact["pid"] for fact in nothing} == {one.pid, two.pid}


def test_a_supervisor_that_may_not_be_controlled_says_so() -> None:
    """It still shows its versions, and serves."""
    with meeting_place() as folder:
        log = folder / "audit.jsonl"
        server = Server(
            folder,
            f"sample={write(folder / 'sample', '1.0.0')}",
            options=("--no-control", "--audit", str(log)),
        )
        server.wait_ready()
        bus = ("--bus", folder / "bus")
        refused = frys("reload", *bus, "sample")
        assert (refused.returncode, b"lets nobody control it" in refused.stderr) == (1, True)
        assert frys("load", *bus, folder / "sample", "--id", "more").returncode == 1
        assert len(_facts("versions", *bus, "sample")) == 1
        assert frys("call", *bus, "sample", "answer").returncode == 0
        assert server.stop() == 0
        records = [json.loads(line) for line in log.read_text().splitlines()]
        orders = [record["data"] for record in records if record["kind"] == "controlled"]
        assert [(order["operation"], order["outcome"]) for order in orders] == [
            *(("reload", "Refused"), ("load", "Refused")),
        ]


def test_every_order_is_in_the_audit_log() -> None:
    """Who, by the kernel's word, what, and what became of it: done, failed or refused."""
    with meeting_place() as folder:
        sample, log = write(folder / "sample", "1.0.0"), folder / "audit.jsonl"
        server = Server(folder, f"sample={sample}", options=("--audit", str(log)))
        server.wait_ready()
        bus = ("--bus", folder / "bus")
        callers = []
        new = write(folder / "new", "1.1.0")
        for words, code in (
            (("reload", "sample", new, "--force"), 0),
            (("reload", "sample", new, "--weight", "0.5"), 0),
            (("promote", "sample"), 0),
            (("rollback", "sample"), 5),
            (("pin", "sample@^1", "1.1.0"), 0),
            (("suspend", "sample"), 0),
            (("resume", "sample"), 0),
            (("load", folder / "nothing.py"), 5),
            (("load", sample, "--id", "more"), 0),
            (("unload", "more"), 0),
        ):
            command = [*FRYS, words[0], *map(str, (*bus, *words[1:]))]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                assert process.wait(30) == code, words
            callers.append(process.pid)
        assert frys("call", *bus, "sample", "answer").returncode == 0  # no order
        assert server.stop() == 0
        assert frys("audit", "verify", log).returncode == 0
        records = [json.loads(line) for line in log.read_text().splitlines()]
    orders = [record["data"] for record in records if record["kind"] == "controlled"]
    assert [order["pid"] for order in orders] == callers
    assert {(order["uid"], order["by"].partition(" ")[0]) for order in orders} == {(os.geteuid(), "visitor")}
    assert [(order["operation"], order["target"], order["outcome"]) for order in orders] == [
        ("reload", "sample", "done"),
        ("canary", "sample", "done"),
        ("promote", "sample", "done"),
        ("roll_back", "sample", "PluginNotFound"),
        ("pin", "sample@^1", "done"),
        ("suspend", "sample", "done"),
        ("resume", "sample", "done"),
        ("load", "", "LoadFailed"),
        ("load", "more", "done"),
        ("unload", "more", "done"),
    ]
    assert orders[0]["options"] == {"path": str(new), "force": True}
    assert "nothing.py" in orders[7]["reason"]
    assert [record["plugin"] for record in records if record["kind"] == "controlled"][4] == "sample"
