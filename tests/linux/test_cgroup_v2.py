"""Cgroup v2 as containers, systemd and administrators set it up; on a machine of its own, see test_uml.py."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TOP = Path("/sys/fs/cgroup")
NOBODY = 65534

pytestmark = pytest.mark.skipif(
    os.environ.get("FRYS_TEST_CGROUP") != "v2", reason="needs a machine whose cgroups are all its own"
)

PROLOGUE = """
import ctypes, os, signal, subprocess, sys, time
from frys_runtime.linux.cgroup import CgroupError, CgroupLimits, CgroupTree, probe

def run_in(group, code):
    fds = group.procs_fds()
    child = os.fork()
    if child == 0:
        try:
            for fd in fds:
                os.write(fd, b"0")
            exec(code)
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
        os._exit(0)
    for fd in fds:
        os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def mount_own_cgroups(*flags):
    libc = ctypes.CDLL(None, use_errno=True)
    point = b"/sys/fs/cgroup"
    os.unshare(os.CLONE_NEWCGROUP | os.CLONE_NEWNS)
    assert libc.mount(None, b"/", None, 0x44000, None) == 0, ctypes.get_errno()  # MS_PRIVATE | MS_REC
    assert libc.umount2(point, 2) == 0, ctypes.get_errno()  # MNT_DETACH
    assert libc.mount(b"none", point, b"cgroup2", 0, None) == 0, ctypes.get_errno()
    for flag in flags:
        assert libc.mount(None, point, None, flag, None) == 0, ctypes.get_errno()

def show_missing():
    for entry in probe().missing:
        print(",".join(entry.controllers), entry.why, entry.how, sep=" | ")
"""
BECOME_NOBODY = f"os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)\n"


@pytest.fixture
def make_group():
    """Make cgroups at the top, with all controllers; removed with all below them at the end."""
    made = []

    def make(name, controllers="+memory +pids +cpu"):
        (TOP / "cgroup.subtree_control").write_text(controllers)
        directory = TOP / name
        directory.mkdir()
        made.append(directory)
        return directory

    (TOP / "cgroup.subtree_control").write_text("-memory -pids -cpu -io")
    yield make
    for directory in made:
        for path, _, _ in os.walk(directory, topdown=False):
            os.rmdir(path)


@pytest.fixture
def delegated(make_group):
    """A cgroup that belongs to an ordinary user in the way of the kernel's documentation."""
    directory = make_group("delegated")
    for path in (directory, directory / "cgroup.procs", directory / "cgroup.subtree_control"):
        os.chown(path, NOBODY, NOBODY)
    return directory


def run_inside(directory, code, *, nobody=False):
    """Run lines in a process of this cgroup, and return what they print."""
    join = f"import os\nopen('{directory}/cgroup.procs', 'w').write('0')\n"
    program = join + PROLOGUE + (BECOME_NOBODY if nobody else "") + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ordinary_user_with_a_delegated_group(delegated):
    """Without root, in a delegated cgroup, every limit holds and every counter counts."""
    printed = run_inside(
        delegated,
        """
        support = probe()
        assert support.version == "v2" and len(support.controllers) >= 3 and not support.missing, support
        tree = CgroupTree()
        group = tree.create("plugin", CgroupLimits(24 << 20, 6, 0.5))
        assert run_in(group, "block = bytearray(100 << 20)") == -signal.SIGKILL
        assert group.oom_kills() and not group.pids_refused()
        run_in(group, "while True:\\n  if os.fork() == 0: os.closerange(0, 3); time.sleep(60)")
        assert group.pids_refused()
        group.kill()
        group.remove()
        tree.close()
        print(open("/proc/self/cgroup").read())
        """,
        nobody=True,
    )

    refused, own = printed.splitlines()[:2]
    assert refused.startswith("BlockingIOError")
    assert own == "0::/delegated/supervisor"
    assert [path.name for path in delegated.iterdir() if path.is_dir()] == ["supervisor"]


def test_controllers_reach_the_group(delegated):
    """The limit files of a plugin's cgroup say what was asked for, without any swap."""
    printed = run_inside(
        delegated,
        """
        tree = CgroupTree()
        (group,) = tree.create("plugin", CgroupLimits(24 << 20, 6, 0.5)).dirs()
        for name in "memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max":
            print(name, open(f"{group}/{name}").read().strip() if os.path.exists(f"{group}/{name}") else "-")
        tree.close()
        """,
        nobody=True,
    )

    assert printed.splitlines() == [
        "memory.max 25165824",
        "memory.swap.max 0",
        "memory.oom.group 1",
        "pids.max 6",
        "cpu.max 50000 100000",
    ]


def test_processes_of_the_same_group_move_along(delegated):
    """The kernel forbids processes beside controllers, so a worker of the same service moves, too."""
    with subprocess.Popen(["sleep", "60"]) as worker:
        (delegated / "cgroup.procs").write_text(str(worker.pid))

        run_inside(delegated, "CgroupTree().close()", nobody=True)

        assert Path(f"/proc/{worker.pid}/cgroup").read_text() == "0::/delegated/supervisor\n"
        worker.kill()


def test_two_hosts_of_one_service_share_the_place(delegated):
    """A host that starts in the leaf of another one puts its tree beside that one's."""
    printed = run_inside(
        delegated,
        """
        mine = CgroupTree()
        if child := os.fork():
            os.waitpid(child, 0)
            second = CgroupTree()
            print(*mine.dirs(), *second.dirs())
            mine.close()
            second.close()
        else:
            other = CgroupTree()
            print(*other.dirs())
            other.close()
        """,
        nobody=True,
    )

    trees = [Path(directory) for directory in printed.split()]
    assert len(set(trees)) == 3
    assert {tree.parent for tree in trees} == {delegated}


def test_hosts_that_start_at_the_same_moment(delegated):
    """Workers of one service that all make their tree at once do not get in each other's way."""
    printed = run_inside(
        delegated,
        """
        begin, go = os.pipe()
        for _ in range(6):
            if os.fork() == 0:
                os.close(go)
                os.read(begin, 1)
                tree = CgroupTree()
                tree.create("plugin", CgroupLimits(24 << 20, 6, 0.5)).remove()
                tree.close()
                print("done", flush=True)
                os._exit(0)
        os.close(go)
        for _ in range(6):
            os.wait()
        """,
        nobody=True,
    )

    assert printed.split() == ["done"] * 6
    assert [path.name for path in delegated.iterdir() if path.is_dir()] == ["supervisor"]


def test_group_of_somebody_else(make_group):
    """A user who may not write the cgroup is told how to get one."""
    printed = run_inside(make_group("login"), "show_missing()", nobody=True)

    (line,) = printed.splitlines()
    assert line.startswith("memory,pids,cpu | /sys/fs/cgroup/login may not be written by this user | ")
    assert "systemd-run --user --scope -p Delegate=yes" in line


@pytest.mark.parametrize("mark", ["trusted.delegate", "user.delegate"])
def test_service_without_delegation(make_group, mark):
    """A systemd service counts only when systemd marked it as delegated, for root too."""
    unit = make_group("server.service")
    (line,) = run_inside(unit, "show_missing()").splitlines()
    assert "systemd has not delegated server.service" in line
    assert "systemd-run --user --scope -p Delegate=yes" in line

    os.setxattr(unit, mark, b"1")

    assert run_inside(unit, "print(probe().version)") == "v2\n"


def test_login_session(make_group):
    """In a scope, such as root's login session, nothing of systemd is in the way of a tree."""
    printed = run_inside(
        make_group("session-3.scope"), "CgroupTree().close(); print(open('/proc/self/cgroup').read())"
    )

    assert printed.split() == ["0::/session-3.scope/supervisor"]


def test_service_of_a_user_manager(delegated):
    """Below a delegated user manager an unmarked service is the manager's own, a marked one is ours."""
    os.setxattr(delegated, "user.delegate", b"1")
    (delegated / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    unit = delegated / "app.service"
    unit.mkdir()
    for path in (unit, unit / "cgroup.procs", unit / "cgroup.subtree_control"):
        os.chown(path, NOBODY, NOBODY)
    assert "systemd has not delegated app.service" in run_inside(unit, "show_missing()", nobody=True)

    os.setxattr(unit, "user.delegate", b"1")

    assert run_inside(unit, "print(probe().version)", nobody=True) == "v2\n"


def test_service_of_a_systemd_without_marks(delegated):
    """Before systemd 251 a user sees no marks: being allowed to write is delegation."""
    unit = delegated / "app.service"
    (delegated / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    unit.mkdir()
    for path in (unit, unit / "cgroup.procs", unit / "cgroup.subtree_control"):
        os.chown(path, NOBODY, NOBODY)

    assert run_inside(unit, "print(probe().version)", nobody=True) == "v2\n"


def test_controller_that_is_not_handed_down(make_group):
    """What the parent keeps for itself is named; the rest is usable, and limits nothing silently."""
    printed = run_inside(
        make_group("partly", "+memory +pids"),
        """
        print(*sorted(probe().controllers))
        show_missing()
        tree = CgroupTree()
        try:
            tree.create("plugin", CgroupLimits(1 << 20, 6, 0.5))
        except CgroupError as error:
            print(error)
        usage = tree.create("plugin", CgroupLimits(24 << 20, 6)).usage()
        print(usage.pids, usage.cpu_ns)
        tree.close()
        """,
    )

    usable, missing, refused, usage = printed.splitlines()
    assert usable == "memory pids"
    assert missing.startswith("cpu | it is not handed down to /sys/fs/cgroup/partly | ")
    assert refused.startswith("cpu cannot be limited")
    assert usage == "0 0"


def test_only_threaded_controllers(make_group):
    """With pids alone the kernel would let processes stay where they are; the groups must still work."""
    printed = run_inside(
        make_group("few", "+pids"),
        """
        tree = CgroupTree()
        group = tree.create("plugin", CgroupLimits(None, 6))
        run_in(group, "print(open('/proc/self/cgroup').read(), end='', flush=True)")
        usage = group.usage()
        print(usage.memory, usage.memory_peak)
        tree.close()
        """,
    )

    joined, usage = printed.split("\n", 1)
    assert joined.startswith("0::/few/frys-")
    assert usage.split() == ["None", "None"]


def test_threaded_group(make_group):
    """A threaded cgroup cannot hold the memory controller: said before anything is tried."""
    parent = make_group("threads", "+pids +cpu")
    child = parent / "child"
    child.mkdir()
    (child / "cgroup.type").write_text("threaded")

    with subprocess.Popen(["sleep", "60"]) as sleeper:
        (parent / "cgroup.procs").write_text(str(sleeper.pid))
        printed = run_inside(parent, f"open('{child}/cgroup.threads', 'w').write('0')\nshow_missing()")
        sleeper.kill()

    assert "/sys/fs/cgroup/threads/child is a threaded cgroup" in printed


def test_container_with_its_own_namespace(make_group):
    """In a cgroup namespace the top is not the real one: the container's processes move into a leaf."""
    box = make_group("box")
    printed = run_inside(
        box,
        """
        mount_own_cgroups()
        tree = CgroupTree()
        group = tree.create("plugin", CgroupLimits(24 << 20, 6))
        assert run_in(group, "block = bytearray(100 << 20)") == -signal.SIGKILL
        print(*group.dirs(), open("/proc/self/cgroup").read())
        tree.close()
        """,
    )

    directory, own = printed.split()
    assert directory.startswith("/sys/fs/cgroup/frys-")
    assert own == "0::/supervisor"
    assert [path.name for path in box.iterdir() if path.is_dir()] == ["supervisor"]


def test_container_with_read_only_cgroups(make_group):
    """As in Docker by default: the reason and the switches of the container engines are named."""
    printed = run_inside(
        make_group("box"),
        """
        mount_own_cgroups(0x1021)  # MS_BIND | MS_REMOUNT | MS_RDONLY
        show_missing()
        """,
    )

    assert "/sys/fs/cgroup is mounted read-only" in printed
    assert "writable-cgroups=true" in printed


def test_container_that_sees_the_mount_of_outside(make_group):
    """When the mount shows another part of the tree than the own one, nothing is guessed."""
    printed = run_inside(make_group("box"), "os.unshare(os.CLONE_NEWCGROUP)\nshow_missing()")

    assert "the cgroup / of this process is not visible below /sys/fs/cgroup" in printed
    assert "--cgroupns=private" in printed


def test_too_many_groups(make_group):
    """A parent's cap on cgroups is an error that names the cap, and leaves no half-made group."""
    box = make_group("box")
    (box / "cgroup.max.descendants").write_text("3")
    printed = run_inside(
        box,
        """
        tree = CgroupTree()
        tree.create("one", CgroupLimits(24 << 20, 6))
        try:
            tree.create("two", CgroupLimits(24 << 20, 6))
        except CgroupError as error:
            print(error)
        tree.close()
        """,
    )

    assert "cgroup.max.descendants" in printed
    assert [path.name for path in box.iterdir() if path.is_dir()] == ["supervisor"]


def test_host_at_the_real_top():
    """At the real root, as on a machine without service manager, nobody needs to move."""
    printed = run_inside(TOP, "CgroupTree().close(); print(open('/proc/self/cgroup').read())")

    assert printed.split() == ["0::/"]
    assert not (TOP / "supervisor").exists()
