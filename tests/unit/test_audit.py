"""The audit log: nothing is lost, nothing can be taken out unseen, and a full disk is said."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import frys
from hypothesis import given, strategies as st

from frys_runtime.audit import AuditLog
from frys_runtime.audit_records import compose, parse
from frys_runtime.audit_verify import verify
from frys_runtime.errors import ConfigError
from frys_runtime.events import Event, Events, bounded


def _event(number: int, text: str = "") -> Event:
    return Event("violation", f"plugin-{number}", time.time(), {"number": number, "text": text})


def _write(path: Path, count: int, text: str = "", **settings: int) -> None:
    log = AuditLog(path, **settings)
    for number in range(count):
        log.record(_event(number, text))
        if settings:
            log.flush()
    log.close()


def _problems(path: Path) -> list[tuple[int, str]]:
    return [(found.line, found.text) for found in verify(str(path)).problems]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_what_was_recorded_is_read_back_in_order(path: Path) -> None:
    """Every record is there after a close, numbered, chained, in UTC, in a file for its owner alone."""
    _write(path, 100)
    records = [parse(line) for line in path.read_bytes().splitlines()]
    assert all(record is not None for record in records)
    kinds = [record.kind for record in records if record]
    assert kinds == ["opened", *["violation"] * 100, "closed"]
    assert [record.data["number"] for record in records[1:-1] if record] == list(range(100))
    assert all(record.time.endswith("Z") for record in records if record)
    assert path.stat().st_mode & 0o777 == 0o600
    verdict = verify(str(path))
    assert (verdict.problems, verdict.notes) == ([], [])
    assert (verdict.first, verdict.last, verdict.records) == (1, 102, 102)


def test_the_next_run_continues_the_chain(path: Path) -> None:
    """A second run's first record follows from the first run's last."""
    _write(path, 3)
    tip = verify(str(path)).tip
    _write(path, 3)
    verdict = verify(str(path), contains=tip)
    assert (verdict.problems, verdict.records) == ([], 10)


@given(data=st.data())
def test_any_tampering_is_found(data: st.DataObject) -> None:
    """A removed, repeated, moved or altered record is found, and the line is named."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        _write(path, 8)
        lines = path.read_bytes().splitlines(keepends=True)
        at = data.draw(st.integers(0, len(lines) - 2))
        match data.draw(st.sampled_from(["remove", "repeat", "swap", "flip", "shorten", "blank", "insert"])):
            case "remove":
                del lines[at]
            case "repeat":
                lines.insert(at + 1, lines[at])
            case "swap":
                lines[at], lines[at + 1] = lines[at + 1], lines[at]
            case "flip":
                byte = data.draw(st.integers(0, len(lines[at]) - 2))
                mask = data.draw(st.integers(1, 255))
                lines[at] = lines[at][:byte] + bytes([lines[at][byte] ^ mask]) + lines[at][byte + 1 :]
            case "shorten":
                cut = data.draw(st.integers(1, len(lines[at]) - 1))
                lines[at] = lines[at][:-cut]
            case "blank":
                lines[at] = b"\n"
            case "insert":
                lines.insert(at + 1, b'{"seq":5}\n')
        path.write_bytes(b"".join(lines))
        problems = _problems(path)
        assert problems
        assert at <= problems[0][0] <= at + 2


def test_a_record_rewritten_with_a_right_hash_is_found(path: Path) -> None:
    """Who alters a record and computes its hash anew breaks the record that follows."""
    _write(path, 4)
    lines = path.read_bytes().splitlines()
    record = parse(lines[2])
    assert record is not None
    forged = compose(record.seq, 0.0, "violation", "somebody-else", record.data, record.prev)
    path.write_bytes(b"\n".join([*lines[:2], forged[:-1], *lines[3:]]) + b"\n")
    assert _problems(path) == [(4, "record 4 does not follow from the one before it, which was replaced")]


def test_a_cut_end_is_found_with_the_tip(path: Path) -> None:
    """Whoever keeps the hash of the last record finds that the end is gone; without it nobody can."""
    _write(path, 4)
    tip = verify(str(path)).tip
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert _problems(path) == []
    assert [found.line for found in verify(str(path), contains=tip).problems] == [0]


@pytest.mark.parametrize("cut", [1, 2, 30, 150])
def test_a_crash_in_mid_write_is_told_and_the_chain_goes_on(path: Path, cut: int) -> None:
    """Half a record at the end is no problem of the chain; the next run says what it found there."""
    _write(path, 4)
    path.write_bytes(path.read_bytes()[:-cut])
    before = verify(str(path))
    assert before.problems == []
    assert len(before.notes) == (cut > 1)
    _write(path, 2)
    after = verify(str(path))
    assert after.problems == []
    assert len(after.notes) == (cut > 1)


def test_a_second_crash_while_saying_the_first(path: Path) -> None:
    """Halves of two runs one after the other are told as well."""
    _write(path, 4)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] + b'\n{"seq":6,"time"')
    _write(path, 1)
    assert verify(str(path)).problems == []
    assert len(verify(str(path)).notes) == 1


def test_a_crash_in_the_first_record(path: Path) -> None:
    """Before the first whole record there is no chain, so a new one begins."""
    path.write_bytes(b'{"seq":1,"time":"20')
    path.chmod(0o600)
    _write(path, 1)
    assert verify(str(path)).problems == []


def test_a_kill_loses_nothing_that_was_flushed(path: Path) -> None:
    """Records that flush() reported are there after SIGKILL."""
    code = (
        "import os, sys, time; from frys_runtime.audit import AuditLog\n"
        "from frys_runtime.events import Event\n"
        "log = AuditLog(sys.argv[1])\n"
        "for n in range(50): log.record(Event('limit', 'p', time.time(), {'n': n}))\n"
        "assert log.flush(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert verify(str(path)).records == 51
    _write(path, 1)
    assert verify(str(path)).problems == []


def test_a_program_that_forgets_to_close_loses_nothing(path: Path) -> None:
    """What waits is written when the interpreter ends."""
    code = (
        "import sys, time; from frys_runtime.audit import AuditLog; from frys_runtime.events import Event\n"
        "log = AuditLog(sys.argv[1])\n"
        "for n in range(500): log.record(Event('limit', 'p', time.time(), {'n': n}))"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert verify(str(path)).records == 502


def test_an_altered_end_is_not_continued(path: Path) -> None:
    """A whole line that is no record is no crash, so no run puts its records behind it."""
    _write(path, 2)
    path.write_bytes(path.read_bytes()[:-5] + b'x"}\n')
    with pytest.raises(ConfigError, match="altered"):
        AuditLog(path)


@pytest.mark.parametrize("keep", [2, 3, 5])
def test_rotation_keeps_the_chain_and_a_number_of_files(path: Path, keep: int) -> None:
    """Full files get numbers, the oldest goes, and the chain runs through those that are left."""
    _write(path, 60, max_bytes=1500, keep=keep)
    verdict = verify(str(path))
    assert verdict.problems == []
    assert len(verdict.files) == keep
    assert verdict.first > 1
    _write(path, 60, max_bytes=1500, keep=keep)
    assert verify(str(path)).problems == []


def test_a_missing_file_is_found(path: Path) -> None:
    """A rotated file that was deleted is named, be it the oldest or one in the middle."""
    _write(path, 60, max_bytes=1500, keep=5)
    middle, oldest = path.with_name("audit.jsonl.2"), path.with_name("audit.jsonl.4")
    content = middle.read_bytes()
    middle.unlink()
    assert "missing" in _problems(path)[0][1]
    middle.write_bytes(content)
    assert _problems(path) == []
    oldest.unlink()
    assert "has to be there" in _problems(path)[0][1]


def test_a_crash_between_the_steps_of_a_rotation(path: Path) -> None:
    """Two names of the current file, left by a crash, become one again."""
    _write(path, 5)
    os.link(path, f"{path}.1")
    _write(path, 60, max_bytes=1500, keep=3)
    assert verify(str(path)).problems == []


def test_a_second_writer_is_refused(path: Path) -> None:
    """Two logs on one file would break the chain, so the second gets an error that says what to do."""
    log = AuditLog(path, max_bytes=300)
    for number in range(20):
        log.record(_event(number))
        assert log.flush()
        with pytest.raises(ConfigError, match="each needs a file of its own"):
            AuditLog(path)
    log.close()
    AuditLog(path).close()


def test_files_that_cannot_be_a_log_are_refused(path: Path, tmp_path: Path) -> None:
    """A link, a directory, a file of another kind, and one that everybody may write are not touched."""
    other = tmp_path / "other"
    other.write_text("precious\n")
    other.chmod(0o600)
    path.symlink_to(other)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    loose = tmp_path / "loose"
    loose.touch()
    loose.chmod(0o666)
    for wrong in (path, tmp_path, other, fifo, loose, tmp_path / "nowhere" / "log"):
        with pytest.raises(ConfigError):
            AuditLog(wrong)
    assert other.read_text() == "precious\n"


@contextmanager
def _small_files(size: int) -> Iterator[None]:
    """Writes beyond ``size`` fail with EFBIG, as they would with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_nothing_is_lost_when_there_is_room_again(path: Path) -> None:
    """The failure is reported once; records wait, the half line is completed, and a gap record tells it."""
    said: list[str] = []
    log = AuditLog(path)
    log.on_failure = said.append
    with _small_files(1000):
        for number in range(10):
            log.record(_event(number))
        assert not log.flush()
        assert not log.flush()
        assert len(said) == 1
        assert "cannot be written: File too large" in said[0]
        assert log.failure == said[0]
        assert path.stat().st_size == 1000
    assert log.flush()
    assert log.failure is None
    log.close()
    verdict = verify(str(path))
    assert verdict.problems == []
    records = [parse(line) for line in path.read_bytes().splitlines()]
    assert [record.data["number"] for record in records[1:11] if record] == list(range(10))
    assert ["cannot be written" in note.text for note in verdict.notes] == [True]


def test_records_beyond_the_room_are_counted(path: Path) -> None:
    """While the disk is full only so many records wait; a gap record names how many were lost."""
    log = AuditLog(path, room=5)
    assert log.flush()
    with _small_files(path.stat().st_size):
        log.record(_event(0))
        assert not log.flush()
        for number in range(20):
            log.record(_event(number))
        assert log.lost == 15
    assert log.flush()
    log.close()
    assert any("records lost: 15" in note.text for note in verify(str(path)).notes)


def test_a_log_that_is_closed_on_a_full_disk_says_what_was_lost(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing does not hang, and the program's own log has the count."""
    log = AuditLog(path)
    assert log.flush()
    with _small_files(path.stat().st_size):
        for number in range(7):
            log.record(_event(number))
        log.close()
    assert log.lost >= 7
    assert "records were lost" in caplog.text
    assert verify(str(path)).problems == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_file_system(tmp_path: Path) -> None:
    """On a tmpfs of 64 KiB: a failure, then room, then every record."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "frys-test", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this root may not mount")
    try:
        log = AuditLog(folder / "log")
        for number in range(300):
            log.record(_event(number, "x" * 300))
        assert not log.flush()
        assert "No space left" in (log.failure or "")
        subprocess.run(["mount", "-o", "remount,size=2m", folder], check=True)
        assert log.flush()
        log.close()
        verdict = verify(str(folder / "log"))
        assert (verdict.problems, verdict.records) == ([], 303)
    finally:
        subprocess.run(["umount", folder], check=True)


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=HOSTILE, name=st.text(st.characters(exclude_categories=())))
def test_anything_hostile_becomes_one_ascii_line(value: object, name: str) -> None:
    """Surrogates, line ends, infinities and depth: a record is one line of JSON that is read back."""
    line = compose(1, 0.0, "violation", bounded(name), bounded({"value": value}), "0" * 64)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert parse(line[:-1]) is not None


def test_a_huge_record_is_cut() -> None:
    """A plugin's megabytes do not become the log's."""
    data = bounded({str(key): ["\0" * 100_000] * 1000 for key in range(1000)})
    line = compose(1, 0.0, "violation", "p", data, "0" * 64)
    assert len(line) < 1 << 16
    assert parse(line[:-1]) is not None


def test_what_is_recorded_directly_is_bounded_too(path: Path) -> None:
    """A program's own events may hold anything; the writing thread survives it."""
    log = AuditLog(path)
    log.record(
        Event("limit", "p", time.time(), {"what": object(), "more": {1: {2, 3}}, "long": "x" * 10_000})
    )
    assert log.flush()
    log.close()
    record = parse(path.read_bytes().splitlines()[1])
    assert record is not None
    assert record.data["more"] == {"1": [2, 3]}
    assert len(record.data["long"]) < 2100


def test_verify_command_tells_the_line(path: Path) -> None:
    """The command exits with 0 for a whole log, 1 for an altered one, 2 for what is none."""
    _write(path, 4)
    done = frys("audit", "verify", path, "--json")
    assert done.returncode == 0
    facts = json.loads(done.stdout)
    assert facts["logs"][0]["records"] == 6
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    done = frys("audit", "verify", path)
    assert done.returncode == 1
    assert f"{path}, line 3: record 3 is missing" in done.stdout.decode().replace("\n", " ")
    assert frys("audit", "verify", path.with_name("nothing")).returncode == 2


def test_show_command_escapes_what_plugins_said(path: Path) -> None:
    """Escape sequences in a plugin's text do not reach the terminal; filters choose records."""
    _write(path, 3, "\x1b[2Jhello\u202e")
    done = frys("audit", "show", path, "--kind", "violation", "--plugin", "plugin-1", columns=200)
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout
    assert b"plugin-1" in done.stdout
    assert b"plugin-2" not in done.stdout
    shown = json.loads(frys("audit", "show", path, "--json").stdout)
    assert len(shown) == 5


# Events.


def test_every_listener_gets_every_event() -> None:
    """Streams and sinks get the same events, in order; a stream ends when its source is closed."""

    async def scenario() -> None:
        events, sunk = Events(), []
        events.add_sink(sunk.append)
        streams = [events.subscribe(), events.subscribe()]
        for number in range(5):
            events.publish("loaded", "p", number=number)
        events.close()
        for stream in streams:
            assert [event.data["number"] async for event in stream] == [0, 1, 2, 3, 4]
            assert stream.dropped == 0
        assert len(sunk) == 5

    asyncio.run(scenario())


def test_a_slow_listener_loses_the_oldest_and_sees_it() -> None:
    """A full queue drops from its front and counts; other listeners lose nothing."""

    async def scenario() -> None:
        events = Events()
        slow, fast = events.subscribe(size=3), events.subscribe()
        for number in range(10):
            events.publish("limit", "p", number=number)
        events.close()
        assert [event.data["number"] async for event in slow] == [7, 8, 9]
        assert (slow.dropped, fast.dropped) == (7, 0)

    asyncio.run(scenario())


def test_a_forgotten_stream_costs_nothing() -> None:
    """Who drops a stream is no listener any more."""

    async def scenario() -> None:
        events = Events()
        stream = events.subscribe()
        assert len(events._streams) == 1
        del stream
        assert len(events._streams) == 0

    asyncio.run(scenario())


def test_a_waiting_reader_is_woken() -> None:
    """A reader that waits gets the next event, and the end."""

    async def scenario() -> None:
        events = Events()
        stream = events.subscribe()
        reader = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        events.publish("crashed", "p")
        assert (await reader).kind == "crashed"
        reader = asyncio.create_task(anext(stream, None))
        await asyncio.sleep(0)
        events.close()
        assert await reader is None

    asyncio.run(scenario())


def test_data_of_an_event_cannot_be_changed() -> None:
    """One listener cannot alter what the next one sees."""

    async def scenario() -> None:
        events = Events()
        stream = events.subscribe()
        events.publish("crashed", "p", reason="x" * 5000)
        event = await anext(stream)
        assert len(event.data["reason"]) < 2100
        with pytest.raises(TypeError):
            event.data["reason"] = ""  # type: ignore[index]

    asyncio.run(scenario())
