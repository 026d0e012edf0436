"""The commands that talk to running supervisors: serve, ps, top, call, events, trace."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import FRYS, frys
from supervisors import Server, meeting_place
from talk import TALKER


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Two supervisors that run, `a` in one and `b` in the other."""
    with meeting_place() as folder:
        servers = [Server(folder, f"{name}={TALKER}") for name in "ab"]
        for server in servers:
            server.wait_ready()
        yield folder
        for server in servers:
            assert server.stop() == 0


def test_ps_shows_supervisors_and_their_plugins(place: Path) -> None:
    """As a table, and as facts; nothing running is no error."""
    assert frys("call", "--bus", place / "bus", "a", "twice", "int:1").stdout == b"2\n"
    shown = frys("ps", "--bus", place / "bus", columns=120).stdout.decode()
    assert all(word in shown for word in ("process", "python", "maximum", "ready", " a ", " b "))
    facts = json.loads(frys("ps", "--json", "--bus", place / "bus").stdout)
    plugins = {plugin["id"]: plugin for supervisor in facts for plugin in supervisor["plugins"]}
    assert plugins.keys() == {"a", "b"}
    assert plugins["a"]["calls"] >= 1
    assert plugins["a"]["memory"] > 0
    nothing = frys("ps", "--json", "--bus", place / "nobody")
    assert (nothing.returncode, json.loads(nothing.stdout)) == (0, [])
    assert not (place / "nobody").exists()
    assert b"no supervisor runs in" in frys("ps", "--bus", place / "nobody").stderr
    (place / "open").mkdir(mode=0o755)
    refused = frys("ps", "--bus", place / "open")
    assert (refused.returncode, b"others may enter" in refused.stderr) == (2, True)


def test_ps_names_who_does_not_answer() -> None:
    """A supervisor that is stopped, by its process; the others are shown, and the exit code says it."""
    with meeting_place() as folder:
        servers = [Server(folder, f"{name}={TALKER}") for name in "cd"]
        for server in servers:
            server.wait_ready()
        os.kill(servers[0].pid, signal.SIGSTOP)
        try:
            shown = frys("ps", "--json", "--bus", folder / "bus")
            called = frys("call", "--bus", folder / "bus", "c", "twice", "int:1")
        finally:
            os.kill(servers[0].pid, signal.SIGCONT)
        facts = {supervisor["pid"]: supervisor for supervisor in json.loads(shown.stdout)}
        assert (shown.returncode, facts[servers[0].pid]["error"]) == (1, "it does not answer")
        assert [plugin["id"] for plugin in facts[servers[1].pid]["plugins"]] == ["d"]
        assert f"process {servers[0].pid} does not answer".encode() in called.stderr
        for server in servers:
            assert server.stop() == 0


def test_top_shows_the_busiest(place: Path) -> None:
    """Once, when told so."""
    shown = frys("top", "--count", "1", "--bus", place / "bus")
    assert shown.returncode == 0, shown.stderr
    assert b"calls/s" in shown.stdout


def test_call_is_like_run(place: Path) -> None:
    """Arguments, results, errors and exit codes; through a plugin of one supervisor to one of the other."""
    bus = ("--bus", place / "bus")
    point = frys("call", *bus, "b", "move", 'json:{"x": 1, "y": 2}')
    assert json.loads(point.stdout) == {"x": 2, "y": 2}
    assert frys("call", *bus, "a", "ask", "call", 'json:["b", "twice", [21]]').stdout == b"42\n"
    failed = frys("call", *bus, "b", "fail", "oh no")
    assert (failed.returncode, b"b.fail failed: RuntimeError: oh no" in failed.stderr) == (1, True)
    assert frys("call", *bus, "b", "twice").returncode == 2
    assert frys("call", *bus, "--timeout", "200", "b", "sleep", "float:60").returncode == 3
    missing = frys("call", *bus, "z", "twice", "int:1")
    assert (missing.returncode, b"`frys ps`" in missing.stderr) == (5, True)
    assert b"Traceback" not in missing.stderr
    other = frys("call", *bus, "b@^9", "twice", "int:1")
    assert (other.returncode, b"; there is b " in other.stderr) == (5, True)
    assert frys("call", *bus, "b@one", "twice", "int:1").returncode == 2


def test_events_and_trace_show_what_passes(place: Path) -> None:
    """From both supervisors, one line each, until there were as many as asked for."""
    bus = ("--bus", str(place / "bus"))

    def listen(*words: str) -> subprocess.Popen[bytes]:
        command = [*FRYS, *words, "--json", *bus]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    with (
        listen("events", "do*", "--count", "2") as events,
        listen("trace", "--count", "3") as trace,
        listen("events", "--plugins", "--count", "1") as plugins,
    ):
        # Calls until all of them have seen enough: none knows when the others listen.
        while any(listener.poll() is None for listener in (events, trace, plugins)):
            frys("call", "--bus", place / "bus", "a", "ask", "emit", 'json:["done", "yes"]')
            frys("call", "--bus", place / "bus", "b", "ask", "call", 'json:["a", "twice", [1]]')
            frys("call", "--bus", place / "bus", "--timeout", "50", "b", "sleep", "float:60")
        heard = [json.loads(line) for line in events.communicate()[0].splitlines()]
        seen = [json.loads(line) for line in trace.communicate()[0].splitlines()]
        told = [json.loads(line) for line in plugins.communicate()[0].splitlines()]
    assert heard == [{"source": "a", "type": "done", "data": "yes"}] * 2
    assert len(seen) == 3
    assert all({"sender", "receiver", "arguments", "trace_id"} <= record.keys() for record in seen)
    names = {supervisor["name"] for supervisor in json.loads(frys("ps", "--json", *bus).stdout)}
    assert {record["supervisor"] for record in (*seen, *told)} <= names
    assert told[0]["kind"] in ("killed", "timeout", "restarted")


@pytest.mark.parametrize("command", ["events", "trace"])
def test_who_listens_where_nobody_is_is_told(place: Path, command: str) -> None:
    """And waits for those who come."""
    words = [*FRYS, command, "--bus", str(place / "nobody")]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as listener:
        assert listener.stderr is not None
        assert b"answers yet" in listener.stderr.readline()
        listener.send_signal(signal.SIGINT)
    assert listener.returncode == 130


def test_serve_ends_cleanly_and_says_what_is_wrong(place: Path) -> None:
    """On SIGINT too, and while it still loads; a plugin that is none is an error of one sentence."""
    server = Server(place, f"c={TALKER}")
    server.wait_ready()
    assert server.stop(signal.SIGINT) == 0
    process = subprocess.Popen([*FRYS, "serve", "--bus", place / "bus", str(TALKER)], stdout=subprocess.PIPE)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate()
    assert process.returncode in (0, -signal.SIGTERM)  # before it had looked for signals at all
    refused = frys("serve", "--bus", place / "bus", place / "nothing.wasm")
    assert refused.returncode == 5
    assert b"Traceback" not in refused.stderr
    facts = json.loads(frys("ps", "--json", "--bus", place / "bus").stdout)
    assert len(facts) == 2
