"""What the kernel tells of Landlock's denials: records as it writes them, and why there are none."""

import errno
import os
import socket

import pytest

from frys_runtime.linux import landlock_log
from frys_runtime.linux.landlock_log import Denial, Domain, parse

ACCESS, DOMAIN = 1423, 1424
STAMP = "audit(1795693270.512:11): domain=1657d7720 "
NUMBER = 0x1657D7720


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('blockers=fs.read_file path="/etc/passwd" dev="vda" ino=739', "fs.read_file(/etc/passwd)"),
        (
            "blockers=fs.write_file,fs.truncate path=2F746D702FC3B6 dev=vda ino=7",
            "fs.write_file,fs.truncate(/tmp/ö)",
        ),
        ("blockers=fs.read_dir path=2F0A22", 'fs.read_dir(/\n")'),
        ("blockers=fs.read_dir path=2FFF", "fs.read_dir(/\\xff)"),
        ("blockers=net.connect_tcp daddr=127.0.0.1 dest=1", "net.connect_tcp(daddr=127.0.0.1 dest=1)"),
        ('blockers=scope.signal opid=20359 ocomm="python3"', 'scope.signal(opid=20359 ocomm="python3")'),
        ("blockers=fs.change_topology", "fs.change_topology()"),
    ],
)
def test_denials_are_named(text, what):
    """What was refused, and of what; names that could break a line come as hexadecimal numbers."""
    assert parse(ACCESS, STAMP + text) == Denial(NUMBER, what)


def test_a_long_name_is_cut():
    """A plugin's own words are bounded."""
    record = parse(ACCESS, f'{STAMP}blockers=fs.read_file path="/{"x" * 4000}" dev="vda" ino=1')

    assert isinstance(record, Denial)
    assert len(record.what) == 300


def test_domains_tell_their_process():
    """The first denial of a domain is followed by who made it, and its end by a word, too."""
    made = 'status=allocated mode=enforcing pid=20402 uid=0 exe="/usr/bin/python3" comm="python3"'

    assert parse(DOMAIN, STAMP + made) == Domain(NUMBER, 20402)
    assert parse(DOMAIN, STAMP + "status=deallocated denials=5") == Domain(NUMBER, None)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (1300, STAMP + "x"),
        (ACCESS, ""),
        (ACCESS, "audit(1:1): pid=1"),
        (ACCESS, STAMP + "status=x"),
        (ACCESS, STAMP),
    ],
)
def test_other_records_say_nothing(kind, text):
    """What is not understood is passed over."""
    assert parse(kind, text) is None


def test_the_reason_is_named(monkeypatch):
    """Each thing that stands in the way has its own reason and remedy."""

    def refuse(number):
        def open_nothing():
            raise OSError(number, os.strerror(number))

        return open_nothing

    monkeypatch.setattr(landlock_log.landlock, "abi", lambda: 6)
    assert landlock_log.obstacle() == (
        "Landlock's ABI 6 tells nobody",
        "use Linux 6.15 or newer, whose ABI is 7",
    )
    monkeypatch.setattr(landlock_log.landlock, "abi", lambda: 7)
    monkeypatch.setattr(landlock_log, "_INITIAL_PID_NAMESPACE", os.stat("/proc/self/ns/pid").st_ino)
    for number, words in ((errno.EPERM, "CAP_AUDIT_READ"), (errno.EPROTONOSUPPORT, "cannot be had")):
        monkeypatch.setattr(landlock_log, "open_log", refuse(number))
        assert words in landlock_log.obstacle()[0]
    monkeypatch.setattr(landlock_log, "open_log", socket.socket)
    monkeypatch.setattr(landlock_log, "_is_on", lambda: False)
    assert "switched off" in landlock_log.obstacle()[0]
    monkeypatch.setattr(landlock_log, "_is_on", lambda: None)
    assert landlock_log.obstacle() == ("", "")
    monkeypatch.setattr(landlock_log, "_INITIAL_PID_NAMESPACE", 1)
    assert "container" in landlock_log.obstacle()[0]
