"""Which disks hold a path, and how fast a plugin may read from them; where there is one: test_uml.py."""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from frys_runtime import PluginManager, Timeout
from frys_runtime.isolation import IsolationManager
from frys_runtime.linux.cgroup import CgroupError, CgroupLimits, CgroupTree, StorageLimit
from frys_runtime.linux.storage import NoDisk, disks
from frys_runtime.metadata import Format, Metadata

DISK = os.environ.get("FRYS_TEST_DISK", "")
SLOW = 4096  # bytes a second: what is tried below would take minutes
SIZE = 1 << 20

pytestmark = pytest.mark.skipif(not DISK, reason="needs a disk of its own, see test_uml.py")


@pytest.fixture(scope="module")
def folder():
    """An empty file system on the partition."""
    subprocess.run(["/sbin/mkfs.ext4", "-q", DISK], check=True)
    point = Path("/tmp/above/disk")
    point.mkdir(parents=True)
    subprocess.run(["mount", DISK, point], check=True)
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.fixture
def tree():
    """A tree of cgroups, removed at the end with all that runs in it."""
    made = CgroupTree()
    yield made
    made.close()


@pytest.fixture
def whole():
    """The number of the whole disk."""
    return (Path("/sys/class/block", Path(DISK).name).resolve().parent / "dev").read_text().strip()


def reading(disk):
    """Limits of nothing but reading."""
    return CgroupLimits(None, None, storage=(StorageLimit(disk, SLOW),))


def fill(path):
    """Make a file of which nothing is in memory."""
    path.write_bytes(os.urandom(SIZE))
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    return path


def read_in(group, path):
    """Read a file in a process of this group."""
    fds = group.procs_fds()
    if child := os.fork():
        for fd in fds:
            os.close(fd)
        return child
    try:
        for fd in fds:
            os.write(fd, b"0")
        os._exit(path.stat().st_size - len(path.read_bytes()))
    finally:
        os._exit(1)


def is_running(child):
    """Whether it has not ended."""
    return os.waitpid(child, os.WNOHANG) == (0, 0)


def until_it_waits(child):
    """Wait until a process waits for a disk: it sleeps, and no handler can wake it."""
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "D":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_partition_counts_as_its_disk(folder, whole):
    """The kernel limits whole disks, so a path on a partition, or above its mount, names the disk."""
    assert disks([str(folder)]) == disks([str(folder.parent)]) == {whole}
    assert os.stat(folder).st_dev == os.stat(DISK).st_rdev
    assert f"{os.major(os.stat(DISK).st_rdev)}:{os.minor(os.stat(DISK).st_rdev)}" != whole


def test_what_has_no_disk(folder):
    """Memory needs no limit, what is not there neither; a file system without a disk is named."""
    assert disks(["/dev/shm", "/dev/null", "/run/absent"]) == frozenset()
    with pytest.raises(NoDisk, match=r"/usr lies on hostfs, which has no disk of its own"):
        disks([str(folder), "/usr"])


def test_the_kernel_is_told(tree, whole):
    """Limits stand in io.max as asked; what is not asked for any more is lifted."""
    group = tree.create("a", CgroupLimits(None, None, storage=(StorageLimit(whole, 1 << 20),)))
    (told,) = (Path(directory, "io.max") for directory in group.dirs())
    assert told.read_text() == f"{whole} rbps=1048576 wbps=max riops=max wiops=max\n"

    group.set_limits(CgroupLimits(None, None, storage=(StorageLimit(whole, 5),)))
    assert told.read_text() == f"{whole} rbps=5 wbps=max riops=max wiops=max\n"

    group.set_limits(CgroupLimits(None, None))
    assert told.read_text() == ""


def test_what_the_kernel_does_not_limit(tree):
    """Of a partition, or of what is no disk, the error names file and value."""
    partition = os.stat(DISK).st_rdev
    for number in (f"{os.major(partition)}:{os.minor(partition)}", "0:1"):
        with pytest.raises(CgroupError, match=rf"'{number} rbps=1' to .*io\.max"):
            tree.create("a", CgroupLimits(None, None, storage=(StorageLimit(number, 1),)))


def test_a_process_is_held_to_its_pace(folder, tree, whole):
    """While a limited process reads, a free one reads as much and ends; so does the first, set free."""
    other = fill(folder / "other")
    file = fill(folder / "file")
    slow = tree.create("slow", reading(whole))
    held = read_in(slow, file)
    until_it_waits(held)

    assert os.waitpid(read_in(tree.create("fast", CgroupLimits(None, None)), other), 0)[1] == 0
    assert is_running(held)

    slow.set_limits(CgroupLimits(None, None))
    assert os.waitpid(held, 0)[1] == 0


def test_a_process_that_is_held_can_be_ended(folder, tree, whole):
    """A group is killed and removed in the middle of a read that would take minutes."""
    group = tree.create("a", reading(whole))
    held = read_in(group, fill(folder / "file"))
    until_it_waits(held)

    group.kill()

    assert os.waitpid(held, 0)[1] == signal.SIGKILL
    group.remove()


def test_a_policy_limits_the_disks_of_its_paths(folder, whole, tmp_path):
    """Every disk that holds a granted path has the limit; without such a path there is nothing to limit."""
    path = tmp_path / "policy.yaml"
    for grant, wanted in (
        (f"read: [{folder}]", {whole}),
        (f"write: [{folder}]", {whole}),
        ("read: []", set()),
    ):
        path.write_text(f"extends: high\nview: engine\nlimits: {{storage_read: 1MiB/s}}\n{grant}\n")
        plugin = Metadata(id="p", version="1.0.0", format=Format.JAVASCRIPT)
        given = IsolationManager(policy=path).confine(plugin).cgroup.storage
        assert given == tuple(StorageLimit(disk, 1 << 20) for disk in wanted)


def test_a_plugin_is_held_to_its_policy(folder, whole, tmp_path):
    """Its cgroup has the limit, and its deadline ends a read that is held back."""
    source = tmp_path / "reader.py"
    source.write_text(
        "def read(path):\n    with open(path, 'rb') as file:\n        return len(file.read())\n"
    )
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"extends: standard\nview: engine\nread: [{folder}]\nlimits: {{storage_read: {SLOW}B/s}}\n"
    )
    file = fill(folder / "file")
    file.chmod(0o644)

    async def scenario():
        async with PluginManager(policy=policy) as manager:
            plugin = await manager.load_plugin(source)
            place = Path(f"/proc/{manager.plugin(plugin).pid}/cgroup").read_text().strip().rpartition(":")[2]
            told = Path(f"/sys/fs/cgroup{place}/io.max").read_text()
            assert told.startswith(f"{whole} rbps={SLOW} ")
            with pytest.raises(Timeout):
                await manager.execute_plugin(plugin, "read", str(file), timeout_ms=500)

    asyncio.run(scenario())
