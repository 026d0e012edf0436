"""Cgroups, on whatever kind this kernel gives; test_uml.py runs this file on the other kinds, too.

``FRYS_TEST_CGROUP`` (v1, v2, none) says what this machine is meant to have: no test is then skipped because
it is missing.
"""

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from frys_runtime.linux.cgroup import (
    Cgroup,
    CgroupError,
    CgroupLimits,
    CgroupTree,
    probe,
)
from frys_runtime.linux.cgroup.places import Hierarchy, cgroup_mounts

MIB = 1 << 20
LIMITS = CgroupLimits(memory=64 * MIB, pids=16)
NOBODY = 65534
VERSION = probe().version
MEANT = os.environ.get("FRYS_TEST_CGROUP")

JOIN = "for fd in map(int, sys.argv[1:]): os.write(fd, b'0'); os.close(fd)\n"
BECOME_NOBODY = f"os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)\n"
READY = "os.write(1, b'ready\\n')\n"
SLEEP = READY + "time.sleep(60)\n"

needs_some = pytest.mark.skipif(
    VERSION == "none" and MEANT in (None, "none"), reason="this machine gives no cgroups"
)
needs_v2 = pytest.mark.skipif(VERSION != "v2" and MEANT != "v2", reason="about cgroup v2")
needs_v1 = pytest.mark.skipif(VERSION != "v1" and MEANT != "v1", reason="about cgroup v1")


@pytest.fixture
def tree():
    """A tree that leaves nothing."""
    tree = CgroupTree()
    yield tree
    tree.close()
    assert not [path for path in tree.dirs() if os.path.exists(path)]


@pytest.fixture
def spawn():
    """Start Python inside a cgroup; everything started is reaped at the end."""
    started = []

    def start(group, code, before="", **options):
        fds = group.procs_fds()
        program = "import os, sys, time\n" + before + JOIN + code
        command = [sys.executable, "-I", "-S", "-c", program, *map(str, fds)]
        process = subprocess.Popen(command, pass_fds=fds, stdout=subprocess.PIPE, text=True, **options)
        for fd in fds:
            os.close(fd)
        started.append(process)
        return process

    yield start
    for process in started:
        with process:  # closes its pipes and waits; what it forked dies with the tree
            process.kill()


def ready(process):
    """Wait until it has joined."""
    assert process.stdout.readline() == "ready\n"
    return process


def file_of(group, *names):
    """The first of these files that exists; they differ between v1 and v2."""
    return next(
        path for directory in group.dirs() for name in names if (path := Path(directory, name)).exists()
    )


def eventually(condition):
    """Wait for something that the kernel does on its own time."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What there is


def test_probe_accounts_for_every_controller():
    """Each of memory, pids and cpu is either usable, or missing with a reason and a way to get it."""
    support = probe()
    missing = [controller for entry in support.missing for controller in entry.controllers]

    assert sorted([*(support.controllers - {"io"}), *missing]) == ["cpu", "memory", "pids"]
    assert (support.version == "none") == (not support.controllers)
    assert all(entry.why and entry.how for entry in support.missing)
    assert MEANT in (None, support.version)


@pytest.mark.skipif(VERSION != "none", reason="there are cgroups here")
def test_tree_without_any_controller():
    """Where there are no cgroups a tree fails, with the reasons in the message."""
    with pytest.raises(CgroupError, match=r"memory, pids, cpu: .+; .+"):
        CgroupTree()


# Limits


@needs_some
def test_process_joins(tree, spawn):
    """A process that writes to the descriptors is in the group of every hierarchy and is counted there."""
    group = tree.create("plugin", LIMITS)
    process = ready(spawn(group, READY + "while True: pass\n"))

    for directory in group.dirs():
        assert Path(directory, "cgroup.procs").read_text().split() == [str(process.pid)]
    eventually(lambda: group.usage().cpu_ns)  # a kernel may count in ticks of 10 ms
    usage = group.usage()
    assert usage.pids == 1
    assert 0 < usage.memory <= usage.memory_peak <= LIMITS.memory


@needs_some
@pytest.mark.needs_root
def test_process_without_rights_joins(tree, spawn):
    """The right to join is in the descriptors: a child that became nobody can still use them."""
    group = tree.create("plugin", LIMITS)

    ready(spawn(group, SLEEP, before=BECOME_NOBODY))

    assert group.usage().pids == 1


@needs_some
def test_memory_bomb_is_killed_and_counted(tree, spawn):
    """Using more memory than allowed ends in SIGKILL, and the group's counter tells why."""
    group = tree.create("plugin", CgroupLimits(memory=32 * MIB, pids=16))
    process = spawn(group, "block = bytearray(200 << 20)\n")

    assert process.wait() == -signal.SIGKILL
    assert group.oom_kills() >= 1
    assert group.pids_refused() == 0
    assert 16 * MIB < group.usage().memory_peak <= 32 * MIB


@needs_some
def test_bomb_in_a_forked_child_is_announced(tree, spawn):
    """Where the kernel kills only the child, a descriptor tells its owner; elsewhere all of them die."""
    group = tree.create("plugin", CgroupLimits(memory=32 * MIB, pids=16))
    event = group.oom_event()
    code = "if os.fork():\n  time.sleep(60)\nelse:\n  block = bytearray(200 << 20)\n"
    process = spawn(group, code)
    on_v1 = file_of(group, "memory.max", "memory.limit_in_bytes").name != "memory.max"

    assert (event is not None) == on_v1
    if event is not None:
        assert select.select([event], [], [], 30)[0] == [event]
        os.close(event)
        eventually(group.oom_kills)  # the kernel tells before it kills
        assert process.poll() is None
        group.kill()
    assert process.wait() == -signal.SIGKILL
    assert group.oom_kills() >= 1


@needs_some
def test_memory_bomb_harms_no_neighbour(tree, spawn):
    """A group next to the one that ran out of memory goes on and counts nothing."""
    neighbour = tree.create("neighbour", LIMITS)
    sleeper = ready(spawn(neighbour, SLEEP))
    bomb = spawn(tree.create("bomb", CgroupLimits(32 * MIB, 16)), "block = bytearray(200 << 20)\n")

    assert bomb.wait() == -signal.SIGKILL
    assert sleeper.poll() is None
    assert neighbour.oom_kills() == 0


@needs_some
def test_fork_beyond_the_limit_is_refused_and_counted(tree, spawn):
    """With pids=8 the eighth child is refused with EAGAIN, and the counter tells."""
    group = tree.create("plugin", CgroupLimits(memory=64 * MIB, pids=8))
    code = """
children = 0
try:
    while os.fork():
        children += 1
    time.sleep(60)
except BlockingIOError:
    os.write(1, b"%d\\n" % children)
"""
    process = spawn(group, code)

    assert process.stdout.readline() == "7\n"
    assert group.pids_refused() >= 1
    group.kill()


@needs_some
def test_cpu_quota_throttles(tree, spawn):
    """A busy loop in a group with a quota is stopped in each period, and its CPU time is counted."""
    group = tree.create("plugin", LIMITS._replace(cpu=0.2))
    ready(spawn(group, READY + "while True: pass\n"))
    stat = file_of(group, "cpu.max", "cpu.cfs_quota_us").with_name("cpu.stat")

    eventually(lambda: int(dict(map(str.split, stat.read_text().splitlines()))["nr_throttled"]) >= 2)

    usage = group.usage()
    assert usage.cpu_ns > 10_000_000
    assert usage.throttled_ns > 0
    assert usage.cpu_user_ns + usage.cpu_system_ns > 0


def test_time_spent_waiting_is_counted(spawn):
    """Two busy processes on one core wait for each other, and a v2 group of a kernel with PSI says so."""
    points = [mount.point for mount in cgroup_mounts() if not mount.controllers]
    base = next((point for point in points if os.access(f"{point}/cpu.pressure", os.R_OK)), None)
    if base is None:
        pytest.skip("no cgroup2 with pressure stall information is mounted here")
    name = f"frys-test-pressure-{os.getpid()}"
    os.mkdir(f"{base}/{name}")
    group = Cgroup([Hierarchy(2, base, frozenset())], name)
    try:
        assert group.usage().memory_stalled_ns == group.usage().io_stalled_ns == 0
        one_core = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        busy = "print('ready', flush=True)\nwhile True: pass\n"
        for process in [spawn(group, busy, before=one_core) for _ in range(2)]:
            ready(process)
        eventually(lambda: group.usage().cpu_stalled_ns > 1_000_000)
    finally:
        group.kill()
        group.remove()


@needs_some
def test_the_processes_of_a_group_are_named(tree, spawn):
    """All of its processes, without their threads, by the numbers that this process knows them by."""
    group = tree.create("plugin", LIMITS)
    process = ready(
        spawn(group, "import threading\nthreading.Thread(target=lambda: time.sleep(60)).start()\n" + SLEEP)
    )

    assert group.processes() == [process.pid]
    assert group.usage().pids == 2


@needs_some
def test_limits_can_be_raised_and_lowered(tree):
    """Each change arrives in the kernel, also where v1 accepts only one order of the two memory files."""
    group = tree.create("plugin", CgroupLimits(64 * MIB, 16, 1.0))
    memory = file_of(group, "memory.max", "memory.limit_in_bytes")
    pids = file_of(group, "pids.max")
    cpu = file_of(group, "cpu.max", "cpu.cfs_quota_us")
    with_swap = memory.with_name("memory.memsw.limit_in_bytes")

    for size, processes, cores in ((128, 8, 0.5), (32, 9, 0.01), (32, 9, 0.01), (256, 64, 2)):
        group.set_limits(CgroupLimits(size * MIB, processes, cores))
        assert int(memory.read_text()) == size * MIB
        assert not with_swap.exists() or int(with_swap.read_text()) == size * MIB
        assert int(pids.read_text()) == processes
        assert int(cpu.read_text().split()[0]) == cores * 100_000

    group.set_limits(CgroupLimits(None, None, None))
    assert memory.read_text().strip() in ("max", str((1 << 63) - 4096))
    assert pids.read_text() == "max\n"
    assert cpu.read_text().split()[0] in ("max", "-1")


@needs_some
def test_limits_hold_for_a_process_that_joined_before(tree, spawn):
    """A parked child gets its limits after it joined: raised ones let it work, lowered ones bind it."""
    group = tree.create("parked", CgroupLimits(16 * MIB, 16))
    code = READY + "sys.stdin.readline(); block = bytearray(40 << 20)\n" + READY + "sys.stdin.readline()\n"
    process = ready(spawn(group, code + "block = bytearray(200 << 20)\n", stdin=subprocess.PIPE))

    group.set_limits(CgroupLimits(96 * MIB, 16))
    process.stdin.write("go\n")
    process.stdin.flush()
    ready(process)
    process.stdin.write("go\n")
    process.stdin.close()

    assert process.wait() == -signal.SIGKILL
    assert group.oom_kills() >= 1


@needs_v1
def test_v1_limit_below_usage_is_refused(tree, spawn):
    """Version 1 does not take back what is in use: the error says so."""
    group = tree.create("plugin", LIMITS)
    ready(spawn(group, "block = bytearray(32 << 20)\n" + SLEEP))

    with pytest.raises(CgroupError, match="more is in use than the new limit") as caught:
        group.set_limits(CgroupLimits(4 * MIB, 16))
    assert caught.value.errno == errno.EBUSY


@needs_some
@pytest.mark.parametrize(
    "limits",
    [
        CgroupLimits(0, 1),
        CgroupLimits(-1, 1),
        CgroupLimits(1 << 80, 1),
        CgroupLimits(MIB, 0),
        CgroupLimits(MIB, 1, 0.0),
        CgroupLimits(MIB, 1, 0.001),
        CgroupLimits(MIB, 1, float("nan")),
        CgroupLimits(MIB, 1, float("inf")),
    ],
)
def test_senseless_limits(tree, limits):
    """A limit that means nothing is the caller's mistake, and no group is made."""
    with pytest.raises(ValueError, match="makes no sense"):
        tree.create("plugin", limits)
    assert not any(os.path.exists(f"{directory}/plugin") for directory in tree.dirs())


# Names


@needs_some
@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", ".hidden", "a\n", "ä", "x" * 101])
def test_impossible_names(tree, name):
    """A name that could lead elsewhere is the caller's mistake."""
    with pytest.raises(ValueError, match="is no name for a cgroup"):
        tree.create(name, LIMITS)


@needs_some
def test_name_is_taken(tree):
    """A second group of the same name is refused, and the first one stays."""
    first = tree.create("plugin", LIMITS)

    with pytest.raises(CgroupError, match="exists already") as caught:
        tree.create("plugin", LIMITS)

    assert caught.value.errno == errno.EEXIST
    assert first.usage().pids == 0


# The end of a group


@needs_some
def test_kill_reaches_every_descendant(tree, spawn):
    """Children in other sessions and process groups die too, and then the group can be removed."""
    group = tree.create("plugin", LIMITS)
    code = "os.fork(); os.setsid() if os.fork() == 0 else None; os.fork()\n" + SLEEP
    process = spawn(group, code)
    for _ in range(8):
        ready(process)
    assert group.usage().pids == 8

    group.kill()
    assert process.wait() == -signal.SIGKILL
    eventually(lambda: group.usage().pids == 0)

    group.remove()
    assert not any(map(os.path.exists, group.dirs()))


@needs_some
def test_kill_stops_a_fork_bomb(tree, spawn):
    """Processes that fork without end are all killed; what kill() itself refuses is not counted."""
    group = tree.create("plugin", CgroupLimits(64 * MIB, 48, 0.5))
    bomb = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    try: os.fork()
    except OSError: pass
"""
    process = spawn(group, bomb)
    eventually(lambda: group.pids_refused() > 0)

    group.kill()
    counted = group.pids_refused()
    process.wait()
    eventually(lambda: group.usage().pids == 0)

    if VERSION == "v1":
        assert group.pids_refused() == counted
    group.remove()


@needs_some
def test_freezing_stops_everybody_and_thawing_lets_them_go_on(tree, spawn):
    """A process and the one that it forked use no CPU while they are frozen, and afterwards they do."""
    group = tree.create("frozen", LIMITS)
    ready(spawn(group, "os.fork()\n" + READY + "while True: pass\n"))
    eventually(lambda: len(group.processes()) == 2 and (group.cpu_ns() or 0) > 50_000_000)

    group.freeze()
    before = group.cpu_ns()
    time.sleep(0.2)
    assert group.cpu_ns() - before < 10_000_000  # what the kernel books late
    group.thaw()
    eventually(lambda: group.cpu_ns() - before > 50_000_000)


@needs_some
def test_a_frozen_group_can_be_killed(tree, spawn):
    """Nobody has to thaw it first."""
    group = tree.create("frozen", LIMITS)
    process = ready(spawn(group, SLEEP))

    group.freeze()
    group.kill()

    assert process.wait(30) == -signal.SIGKILL
    group.remove()


@needs_some
def test_remove_refuses_a_living_group(tree, spawn):
    """Removing kills nobody: it says that something runs there."""
    group = tree.create("plugin", LIMITS)
    process = ready(spawn(group, SLEEP))

    with pytest.raises(CgroupError, match="processes still run in it; kill it first"):
        group.remove(patience=0)

    assert process.poll() is None


@needs_some
def test_remove_twice(tree):
    """What is gone need not be removed again."""
    group = tree.create("plugin", LIMITS)
    group.remove()
    group.remove()


@needs_some
def test_group_removed_by_somebody_else(tree):
    """Every question to a group that another program removed gets one clear error; ending it gets none."""
    group = tree.create("plugin", LIMITS)
    for directory in group.dirs():
        os.rmdir(directory)

    for question in (
        group.usage,
        group.oom_kills,
        group.pids_refused,
        group.procs_fds,
        lambda: group.set_limits(CgroupLimits(MIB, 1)),
    ):
        with pytest.raises(CgroupError, match="another program removed the cgroup") as caught:
            question()
        assert caught.value.path.startswith(tuple(group.dirs()))
    group.kill()
    group.remove()


@needs_some
def test_tree_removed_by_somebody_else():
    """It is made anew for the next group, unless it was closed; closing one that is gone is no error."""
    tree = CgroupTree()
    for directory in tree.dirs():
        os.rmdir(directory)

    assert tree.create("plugin", LIMITS).processes() == []
    tree.close()
    tree.close()
    with pytest.raises(CgroupError, match="another program removed the cgroup"):
        tree.create("plugin", LIMITS)


# Trees


@needs_some
def test_trees_live_side_by_side(tree, spawn):
    """Two managers of one process do not meet: closing one kills and removes only what is its own."""
    other = CgroupTree()
    mine, its = tree.create("plugin", LIMITS), other.create("plugin", LIMITS)
    survivor, victim = ready(spawn(mine, SLEEP)), ready(spawn(its, SLEEP))

    other.close()

    assert victim.wait() == -signal.SIGKILL
    assert not any(map(os.path.exists, [*its.dirs(), *other.dirs()]))
    assert survivor.poll() is None
    assert mine.usage().pids == 1
    other.close()


@needs_some
def test_many_groups_hold_no_descriptors(tree):
    """Five hundred groups cost directories, not file descriptors."""
    before = len(os.listdir("/proc/self/fd"))

    groups = [tree.create(f"plugin-{number}", LIMITS) for number in range(500)]

    assert sum(group.usage().pids for group in groups) == 0
    assert len(os.listdir("/proc/self/fd")) == before


HOST = """
import os, sys, time
from frys_runtime.linux.cgroup import CgroupLimits, CgroupTree
tree = CgroupTree()
for name in ("one", "two"):
    group = tree.create(name, CgroupLimits(64 << 20, 16))
print(*tree.dirs(), flush=True)
if sys.argv[1:] == ["occupied"]:
    if os.fork() == 0:
        os.closerange(0, 3)
        for fd in group.procs_fds():
            os.write(fd, b"0")
        time.sleep(60)
time.sleep(60)
"""


@contextlib.contextmanager
def another_host(*arguments):
    """A host process with a tree of two groups: the process and the tree's directories."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


@needs_some
def test_sweep_removes_what_a_killed_host_left(tree):
    """After kill -9 of a host its empty cgroups are found and removed by the next."""
    with another_host() as (host, directories):
        assert not {*tree.sweep()} & {*directories}  # it lives
        host.kill()
        host.wait()
        tree.sweep()  # or that of a test that runs beside this one

    assert not any(map(os.path.exists, directories))
    assert all(map(os.path.exists, tree.dirs()))


@needs_some
def test_sweep_kills_nobody(tree):
    """A dead host's tree in which something runs stays until that has ended."""
    with another_host("occupied") as (host, directories):
        occupied = Path(directories[0], "two", "cgroup.procs")
        eventually(occupied.read_text)
        orphan = int(occupied.read_text())
        host.kill()
        host.wait()

        tree.sweep()
        assert int(occupied.read_text()) == orphan
        os.kill(orphan, signal.SIGKILL)
        eventually(lambda: not occupied.exists() or not occupied.read_text())
        tree.sweep()

    assert not any(map(os.path.exists, directories))


@needs_some
def test_sweep_leaves_strangers_alone(tree):
    """Directories that only look alike, or belong to another pid namespace, are not touched."""
    base = Path(tree.dirs()[0]).parent
    strangers = [base / "frys-test-1", base / f"frys-{(1 << 32) - 7}-2147483647-1-1"]
    for stranger in strangers:
        stranger.mkdir()
    try:
        assert not {*tree.sweep()} & {*map(str, strangers)}
        assert all(stranger.exists() for stranger in strangers)
    finally:
        for stranger in strangers:
            stranger.rmdir()


# Without rights


@pytest.mark.needs_root
def test_ordinary_user_is_told_the_way():
    """A user without delegation gets none of the controllers, a reason, and a way that works."""
    code = "import os\nfrom frys_runtime.linux.cgroup import *\n" + BECOME_NOBODY
    done = subprocess.run(
        [sys.executable, "-c", code + "print(probe(), flush=True); CgroupTree()"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.startswith("Support(version='none'")
    if VERSION != "none":
        assert "CgroupError: no cgroup controller can be used" in done.stderr
        assert "Delegate=yes" in done.stderr
