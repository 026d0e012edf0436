"""The folder in which supervisors meet."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisors import meeting_place

from frys_runtime import ConfigError, InitializationFailed
from frys_runtime.bus.config import default_folder
from frys_runtime.bus.rendezvous import Rendezvous


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place that is not there yet."""
    with meeting_place() as base:
        yield base / "bus"


def test_who_registers_is_found_once_it_is_shown_and_until_it_leaves(folder: Path) -> None:
    """By others, under a name of its own."""
    place = Rendezvous(str(folder))
    assert (folder.stat().st_mode & 0o777, place.others()) == (0o700, [])
    one, two = place.register(), place.register()
    assert place.others() == []
    one.show({"pid": 1})
    two.show({"pid": 2})
    assert sorted(entry.name for entry in Rendezvous(str(folder)).others()) == sorted((one.name, two.name))
    one.close()
    assert [entry.name for entry in place.others()] == [two.name]
    two.close()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "facts", [b"", b"{", b"[]", b"[" * 2000 + b"]" * 2000, b'{"pid": Infinity}', b'{"pid": "1"}', b"\xff"]
)
def test_what_stands_in_a_file_is_only_for_people(folder: Path, facts: bytes) -> None:
    """One that makes no sense costs no more than the number of its process."""
    place = Rendezvous(str(folder))
    one = place.register().show({})
    (folder / f"{one.name}.json").write_bytes(facts)
    assert [(entry.name, entry.pid) for entry in place.others()] == [(one.name, 0)]
    one.close()


def test_what_dead_supervisors_left_is_swept(folder: Path) -> None:
    """One that ended without a word, one that did so while it started; nobody else."""
    place = Rendezvous(str(folder))
    alive = place.register().show({})
    code = (
        "import os, sys; from frys_runtime.bus.rendezvous import Rendezvous\n"
        "place = Rendezvous(sys.argv[1]); one, two = place.register(), place.register(); one.show({})\n"
        "[open(f'{sys.argv[1]}/{r.name}.sock', 'w').close() for r in (one, two)]\n"
        "print(one.name, two.name, flush=True); sys.stdin.read(); os._exit(0)"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, folder], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        one, two = process.stdout.readline().decode().split()
        assert {entry.name for entry in place.others()} == {alive.name, one}
        assert (folder / f"{two}.new").exists()
    assert [entry.name for entry in place.others()] == [alive.name]
    assert sorted(path.name for path in folder.iterdir()) == [f"{alive.name}.json"]
    alive.close()


def test_a_file_that_somebody_looks_at_is_not_taken_for_a_live_one_for_long(folder: Path) -> None:
    """Two who sweep at once: whoever holds the lock, holds it only for a moment, and shared."""
    place = Rendezvous(str(folder))
    (folder / "00.json").touch()
    looking = os.open(folder / "00.json", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert place.others() == []
    os.close(looking)


def test_a_folder_that_is_not_ours_alone_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open to others, somebody else's, no folder, a link, too long a path, one that cannot be made."""
    folder.mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="others may enter"):
        Rendezvous(str(folder))
    folder.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(ConfigError, match="belongs to user"):
        Rendezvous(str(folder))
    monkeypatch.undo()
    folder.rmdir()
    folder.touch()
    with pytest.raises(ConfigError, match="is no folder"):
        Rendezvous(str(folder))
    folder.unlink()
    folder.symlink_to("/tmp")
    with pytest.raises(ConfigError, match="is no folder"):
        Rendezvous(str(folder))
    folder.unlink()
    with pytest.raises(ConfigError, match="too long by"):
        Rendezvous(str(folder / ("x" * 90)))
    with pytest.raises(InitializationFailed, match="name another folder"):
        Rendezvous("/proc/frys")


def test_where_supervisors_meet_when_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has a place of its own, others their runtime directory; without one they must name a folder."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_folder() == "/run/frys"
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/4711")
    assert default_folder() == "/run/user/4711/frys"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(ConfigError, match="name a folder"):
        default_folder()


def test_who_opens_no_bus_loads_no_zeromq() -> None:
    """It costs memory and threads, and most programs need none."""
    code = (
        "import asyncio, sys; from frys_runtime import BusConfig, PluginManager\n"
        "async def main():\n    async with PluginManager():\n        assert 'zmq' not in sys.modules\n"
        "asyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
