"""`frys serve`: how it begins, what it keeps, and how it ends."""

import asyncio
import json
import os
import signal
import socket
import time
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from command import frys
from supervisors import Server, meeting_place, server, until
from support import live
from talk import TALKER
from versioned import MARKS, write

from frys_runtime import PluginError, Unavailable
from frys_runtime.bus.node import Peer
from frys_runtime.bus.visitor import Visitor

pytestmark = MARKS

SLOW = """
import time

def nap(seconds):
    time.sleep(seconds)
    return "slept"
"""


def test_it_says_that_it_is_ready_shows_metrics_and_keeps_an_audit_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line for a program, READY for systemd, figures for Prometheus, records in the log."""
    with meeting_place() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        options = ("--metrics", "0", "--audit", str(folder / "audit.log"), "--plugin-path", str(folder))
        write(folder / "sample", "1.0.0")
        running = Server(folder, "sample", options=options)
        facts = running.wait_ready()
        assert systemd.recv(100) == b"READY=1"
        assert facts["plugins"] == ["sample"]
        assert frys("call", "--bus", folder / "bus", "sample", "answer").returncode == 0
        with urllib.request.urlopen(facts["metrics"], timeout=30) as page:
            figures = page.read().decode()
        assert "frys_calls_total 1.0" in figures
        assert "process_resident_memory_bytes" in figures
        port = facts["metrics"].rpartition(":")[2].partition("/")[0]
        taken = frys("serve", "--bus", folder / "bus", "--metrics", port, folder / "sample")
        assert (taken.returncode, b"Address already in use" in taken.stderr) == (6, True)
        assert running.stop() == 0
        assert systemd.recv(100) == b"STOPPING=1"
        kinds = {json.loads(line).get("kind") for line in (folder / "audit.log").read_text().splitlines()}
        assert "loaded" in kinds


def test_it_restores_what_ran_and_reloads_what_is_saved() -> None:
    """After SIGKILL, too; what is named and remembered is loaded once."""
    with meeting_place() as folder:
        sample, more = write(folder / "sample", "1.0.0"), write(folder / "more", "1.0.0")
        bus, state = ("--bus", folder / "bus"), ("--state", str(folder / "state"), "--restore")
        first = Server(folder, str(sample), options=state)
        first.wait_ready()
        assert frys("load", *bus, more, "--id", "more").returncode == 0
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
        again = Server(folder, str(sample), options=(*state, "--hot-reload"))
        assert sorted(again.wait_ready()["plugins"]) == ["more", "sample"]
        write(sample, "1.1.0")
        end = time.monotonic() + 30
        while json.loads(frys("call", *bus, "sample", "answer").stdout) != ["1.1.0"] * 8:
            assert time.monotonic() < end
        assert again.stop() == 0


@live
async def test_the_first_signal_lets_calls_end_and_the_second_cuts_them() -> None:
    """Over the bus: those under way are answered, new ones go elsewhere or are told to try again."""
    with meeting_place() as folder:
        slow = write(folder / "slow", "1.0.0", SLOW)
        for cut in (False, True):
            async with (
                server(folder, f"slow={slow}", options=("--drain", "60000")) as running,
                Visitor(folder / "bus") as visitor,
            ):
                seconds = 30.0 if cut else 1.0
                call = asyncio.ensure_future(visitor.call("slow", "nap", seconds))
                (peer,) = visitor.supervisors
                while not await _calls(visitor, peer):
                    pass
                os.kill(running.pid, signal.SIGTERM)
                await until(lambda peer=peer: not peer.plugins)
                if not cut:
                    assert await call == "slept"
                    continue
                os.kill(running.pid, signal.SIGTERM)
                with pytest.raises(PluginError) as failed:
                    await call
                assert not isinstance(failed.value, Unavailable)


async def _calls(visitor: Visitor, peer: Peer) -> int:
    facts: Any = await visitor.ask(peer, "status")
    calls: int = facts["plugins"][0]["calls"]
    return calls


def test_words_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    """Before anything runs."""
    for words in ((), ("--restore",), ("--metrics", "high", str(TALKER))):
        refused = frys("serve", "--bus", tmp_path / "bus", *words)
        assert refused.returncode == 2, words
        assert b"Traceback" not in refused.stderr


def test_the_unit_for_systemd_fits_the_command() -> None:
    """Its options exist, it waits longer than a drain, and it leaves Frys what the other unit does."""
    units = Path(__file__).parents[2] / "contrib" / "systemd"
    mine, other = (
        dict(
            line.split("=", 1)
            for line in (units / name).read_text().splitlines()
            if "=" in line and not line.startswith("#")
        )
        for name in ("frys-serve.service", "frys-host.service")
    )
    program, command, *words = mine["ExecStart"].split()
    assert program.endswith("/frys")
    assert command == "serve"
    options = dict(pairwise(words))
    assert int(mine["TimeoutStopSec"]) * 1000 > int(options["--drain"])
    known = frys("serve", "--help", columns=200).stdout.decode()
    assert all(f"{word} " in known for word in words if word.startswith("--"))
    assert mine["Type"] == "notify"
    assert mine["KillMode"] == "mixed"  # SIGTERM is for the supervisor; its plugins are still needed
    differing = {"ExecStart", "User", "Description"}
    assert {key: mine.get(key) for key in other.keys() - differing} == {
        key: value for key, value in other.items() if key not in differing
    }
