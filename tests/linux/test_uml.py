"""The second kernel that tests boot, and what runs only there: cgroup v2, other mixtures, a real systemd."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from uml import UmlError, run_in_uml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

pytestmark = [pytest.mark.needs_uml, pytest.mark.timeout(300)]

PROBE = "from frys_runtime.linux.cgroup import *; print(probe())"
TREE = PROBE + "; t = CgroupTree(); print(*t.create('x', CgroupLimits(1 << 24, 8, 0.5)).dirs()); t.close()"


def run_python(code, **options):
    """Run lines inside, and return what they print."""
    done = run_in_uml([sys.executable, "-c", code], cwd=ROOT, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


# Cgroups


@pytest.mark.parametrize(
    ("kind", "version", "files"),
    [
        ("v2", "v2", ["test_cgroup.py", "test_cgroup_v2.py"]),
        ("v1", "v1", ["test_cgroup.py"]),
        ("hybrid", "v1", ["test_cgroup.py"]),
        ("none", "none", ["test_cgroup.py"]),
    ],
)
def test_cgroups_of_every_kind(kind, version, files):
    """The tests of cgroups pass on a kernel with cgroup v2, with v1, with a mixture, and without any."""
    done = run_in_uml(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(HERE / file for file in files)],
        cwd=ROOT,
        cgroup=kind,
        env={"FRYS_TEST_CGROUP": version, "FRYS_TEST_REQUIRE": "root"},
        timeout=200,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_kernel_without_memory_controller():
    """What the kernel's command line took away is named as such, and the rest is usable."""
    printed = run_python(PROBE, kernel_options=["cgroup_disable=memory"])

    assert "version='v2'" in printed
    assert "Missing(controllers=('memory',), why='this kernel does not offer it'" in printed


def test_storage_of_a_disk(tmp_path):
    """The tests of storage pass on a kernel with cgroup v2 and a disk that has a partition."""
    disk = tmp_path.resolve() / "disk"
    entry = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", 2048, (64 << 11) - 2048)  # its only one, of Linux
    disk.write_bytes(bytes(446) + entry + bytes(48) + b"\x55\xaa")
    os.truncate(disk, 64 << 20)

    done = run_in_uml(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", HERE / "test_storage.py"],
        cwd=ROOT,
        env={"FRYS_TEST_DISK": "/dev/ubda1", "FRYS_TEST_REQUIRE": "root"},
        kernel_options=[f"ubda={disk}"],
        timeout=200,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "skipped" not in done.stdout


def test_service_with_delegation():
    """In a service of a real systemd with Delegate=yes every controller is there."""
    support, tree = run_python(TREE, service=["Delegate=yes"]).splitlines()

    assert "version='v2'" in support
    assert "missing=()" in support
    assert tree.startswith("/sys/fs/cgroup/system.slice/command.service/frys-")


def test_service_without_delegation():
    """In a service of a real systemd without Delegate=yes nothing is touched, and the way is shown."""
    printed = run_python(PROBE, service=[])

    assert "version='none'" in printed
    assert "systemd has not delegated command.service" in printed
    assert "Delegate=yes" in printed


@pytest.mark.parametrize("properties", [["-p", "Delegate=yes"], []], ids=["delegated", "plain"])
def test_scope_of_systemd_run(properties):
    """The command that the message recommends works, and so does a scope of the kind of a login session."""
    memory_only = TREE.replace("8, 0.5", "8")
    command = ["systemd-run", "--quiet", "--scope", *properties, sys.executable, "-c", memory_only]

    done = run_in_uml(command, cwd=ROOT, service=[])

    assert "version='v2'" in done.stdout, done.stderr
    assert ".scope/frys-" in done.stdout


# The machine itself


def machines(directory):
    """The pid namespaces of the machines whose files are in a directory: process > namespace."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(directory) in (process / "cmdline").read_bytes():
                found[process.name] = os.stat(process / "ns/pid").st_ino
        except OSError:
            continue  # it ended
    return found


def members(namespace):
    """The processes of a pid namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.stat(process / "ns/pid").st_ino == namespace:
                found.append(process.name)
        except OSError:
            continue
    return found


def eventually(condition):
    """Wait for another process."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_command_runs_in_another_kernel():
    """The status and the output of the command come back; the kernel is another one than here."""
    done = run_in_uml(["sh", "-c", "uname -r; id -u; echo oops >&2; exit 7"])

    release, user, error = done.stdout.split()
    assert release != os.uname().release
    assert (user, error, done.returncode) == ("0", "oops", 7)


def test_arguments_and_environment_arrive_unchanged():
    """Nothing is lost on the way through the shell scripts inside."""
    awkward = ["a b", "$HOME", "'\"`", "", "ä*", "a\nb"]
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['AWKWARD'], os.getcwd()]))"

    done = run_in_uml([sys.executable, "-c", code, *awkward], env={"AWKWARD": "x 'y'\n$z"}, cwd="/usr/bin")

    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == [awkward, "x 'y'\n$z", "/usr/bin"]


def test_this_machine_is_read_only_inside():
    """A command inside cannot write files of this machine, and its /tmp is its own."""
    probe = ROOT / "written-inside"
    with tempfile.NamedTemporaryFile() as ours:
        done = run_in_uml(["sh", "-c", f"touch {probe}; ls {ours.name}; touch /tmp/x /run/x /dev/shm/x"])

    refused, missing = done.stdout.splitlines()
    assert "Read-only file system" in refused
    assert "No such file" in missing
    assert not probe.exists()


def test_slow_command_is_stopped():
    """A command that takes too long is ended, and what it wrote until then is kept."""
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        run_in_uml(["sh", "-c", "echo before; sleep 1000"], timeout=2)

    assert caught.value.output == "before\n"


def test_status_of_a_killed_command():
    """A command that dies by SIGKILL on its own is not taken for a slow one."""
    assert run_in_uml(["sh", "-c", "kill -9 $$"]).returncode == 137


def test_machine_that_breaks_down():
    """When the kernel stops early the error carries what its console said."""
    with pytest.raises(UmlError, match="stopped before the command ended"):
        run_in_uml(["sh", "-c", "echo o >/proc/sysrq-trigger; sleep 60"])


def test_machines_run_side_by_side_and_leave_nothing(tmp_path, monkeypatch):
    """Two at a time do not meet, and after them there is no process, file or mount of theirs."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda word: run_in_uml(["echo", word]).stdout, ["one", "two"]))

    assert results == ["one\n", "two\n"]
    assert list(tmp_path.iterdir()) == []
    assert machines(tmp_path) == {}
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_machine_dies_with_who_started_it(tmp_path):
    """After kill -9 of the process that booted it nothing of the machine runs on."""
    code = "from uml import run_in_uml; run_in_uml(['sh', '-c', 'echo up; sync; sleep 1000'], timeout=1000)"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(HERE.parent)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as starter:
        eventually(lambda: any(file.read_text() == "up\n" for file in tmp_path.glob("uml-*/output")))
        (namespace,) = set(machines(tmp_path).values()) - {os.stat("/proc/self/ns/pid").st_ino}
        assert len(members(namespace)) > 1
        starter.kill()

    eventually(lambda: not members(namespace) and not machines(tmp_path))
