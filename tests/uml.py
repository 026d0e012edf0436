"""Run a command inside another Linux kernel: User-Mode Linux, on this machine's own files.

Some of what the product does depends on the kernel that it runs on: cgroup v2 with all its controllers, a
kernel without Landlock. Debian's package ``user-mode-linux`` is such a kernel as an ordinary program
(Linux 6.1, one CPU, no network, no Landlock). It boots in about two seconds, sees the root of this machine
read-only through hostfs, and has /tmp, /run, /dev/shm, /proc, /sys and the cgroups to itself:

    result = run_in_uml([sys.executable, "-m", "pytest", "tests/linux/test_cgroup.py"], cgroup="v2")

Nothing outlives the call. The machine runs in a pid namespace of its own, so killing its first process
kills all; it dies with the process that called; its memory is an unlinked file; it mounts nothing outside.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

KERNEL = shutil.which("linux.uml")  # None: not installed

type CgroupSetup = Literal["v1", "v2", "hybrid", "none"]

_BOOT_SECONDS = 60  # for booting and powering off on a busy machine; two to four are usual

_MOUNT_CGROUPS: dict[CgroupSetup, str] = {
    "v2": "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    # As Debian 10 had it: cpu and cpuacct in one hierarchy under a name with a comma.
    "v1": """
        mount -t tmpfs cgroup /sys/fs/cgroup
        for names in memory pids cpu,cpuacct; do
            mkdir /sys/fs/cgroup/$names && mount -t cgroup -o $names cgroup /sys/fs/cgroup/$names
        done""",
    # Nobody ships this mixture, but the kernel allows it: memory on v1, the others on v2.
    "hybrid": """
        mount -t tmpfs cgroup /sys/fs/cgroup
        mkdir /sys/fs/cgroup/memory && mount -t cgroup -o memory cgroup /sys/fs/cgroup/memory
        mkdir /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified""",
    "none": "",
}

_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir /dev/pts /dev/shm /run/lock /run/exchange
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ln -s /proc/self/fd /dev/fd
chmod 1777 /tmp /dev/shm
ip link set lo up 2>/dev/null
mount -t hostfs -o {exchange} none /run/exchange
{show_again}
{mount_cgroups}
{start}
"""

_COMMAND = """
cd {cwd}
begin=$(date +%s)
timeout -k 5 {timeout} env -i {environment} {command} </dev/null >/run/exchange/output 2>&1
echo $? $(($(date +%s) - begin)) >/run/exchange/status
sync
echo o >/proc/sysrq-trigger
sleep 60
"""

_RUN_COMMAND = "exec sh /run/exchange/command"

_START_SYSTEMD = """
mkdir -p /run/systemd/system
cp /run/exchange/command.service /run/systemd/system
exec /lib/systemd/systemd --unit=command.service --log-target=console --log-level=warning --show-status=no
"""

_SERVICE = """
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sh /run/exchange/command
{properties}
"""


class UmlError(Exception):
    """The machine did not come as far as running the command to its end; carries what the console said."""


def run_in_uml(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout: int = 60,
    memory: str = "512M",
    cgroup: CgroupSetup = "v2",
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    kernel_options: Sequence[str] = (),
    service: Sequence[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Boot a machine, run one command in it as root, power it off.

    Args:
        argv: The command. Paths are those of this machine, except /tmp, /run and /dev/shm, which are empty.
        timeout: Seconds for the command; booting comes on top.
        memory: Of the machine, in the kernel's notation.
        cgroup: Which cgroup file systems are mounted, below /sys/fs/cgroup.
        env: Added to an otherwise fresh environment (PATH, HOME, LANG; no .pyc files).
        cwd: Where the command starts; by default where the caller is.
        kernel_options: Added to the kernel's command line.
        service: Run the command as a service of a real systemd, with these properties (``Delegate=yes``).

    Returns:
        The exit status, stdout and stderr together in ``stdout``, the kernel's console in ``stderr``.

    Raises:
        subprocess.TimeoutExpired: The command took longer; ``output`` holds what it wrote.
        UmlError: The kernel is missing or broke down.
    """
    if KERNEL is None:
        raise UmlError("linux.uml is not installed: apt-get install user-mode-linux")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment |= env or {}
    # resolve(): hostfs mounts by path, and this path must not lead through a /tmp that is hidden inside.
    with tempfile.TemporaryDirectory(prefix="uml-") as name:
        exchange = Path(name).resolve()
        (exchange / "command").write_text(
            _COMMAND.format(
                cwd=shlex.quote(os.path.abspath(cwd or ".")),
                timeout=timeout,
                environment=shlex.join(f"{key}={value}" for key, value in environment.items()),
                command=shlex.join(map(os.fspath, argv)),
            )
        )
        (exchange / "command.service").write_text(_SERVICE.format(properties="\n".join(service or ())))
        init = exchange / "init"
        init.write_text(
            _INIT.format(
                exchange=shlex.quote(str(exchange)),
                show_again="\n".join(_show_again()),
                mount_cgroups=_MOUNT_CGROUPS[cgroup],
                start=_RUN_COMMAND if service is None else _START_SYSTEMD,
            )
        )
        init.chmod(0o755)
        console = _boot(KERNEL, exchange, [f"mem={memory}", f"init={init}", *kernel_options], timeout)
        output = _text(exchange / "output")
        try:
            status, seconds = map(int, _text(exchange / "status").split())
        except ValueError:
            raise UmlError(f"the machine stopped before the command ended:\n{output}\n{console}") from None
    # timeout(1) ended it by SIGTERM, or by SIGKILL after that; on its own it may end with these numbers, too.
    if status in (124, 137) and seconds >= timeout:
        raise subprocess.TimeoutExpired(list(argv), timeout, output, console)
    return subprocess.CompletedProcess(list(argv), status, output, console)


def _show_again() -> list[str]:
    """Show the repository and the Python, read-only, where they lie below a folder that is hidden inside."""
    needed = {Path(__file__).parents[1], Path(sys.prefix), Path(sys.base_prefix)}
    hidden = [path for path in needed if path.is_relative_to("/tmp") or path.is_relative_to("/run")]
    paths = [shlex.quote(str(path)) for path in sorted(hidden)]
    return [f"mkdir -p {path} && mount -r -t hostfs -o {path} none {path}" for path in paths]


def _boot(kernel: str, exchange: Path, options: list[str], timeout: int) -> str:
    """Run the machine until it is off, and return what its console showed."""
    namespaces = ["--pid"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--pid"]
    command = [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", *namespaces, "--fork", "--kill-child", "--"),
        *(kernel, "rootfstype=hostfs", "rootflags=/", "ro"),
        *("con=null", "con0=null,fd:1", "ssl=null", "quiet", "noreboot"),
        *(f"uml_dir={exchange}", "umid=machine"),
        *options,
    ]
    machine = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(exchange)},  # where its memory lives
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    # communicate() returns when nothing holds the console any more, that is, when all of the machine is gone.
    try:
        return machine.communicate(timeout=timeout + _BOOT_SECONDS)[0]
    except subprocess.TimeoutExpired as error:
        _kill_first_process(machine.pid)
        console = machine.communicate()[0]
        raise UmlError(f"the machine hangs:\n{_text(exchange / 'output')}\n{console}") from error
    except BaseException:  # Ctrl-C, pytest-timeout
        _kill_first_process(machine.pid)
        machine.communicate()
        raise


def _kill_first_process(unshare: int) -> None:
    """Kill the machine in a way that lets unshare(1) reap it; its whole pid namespace goes with it."""
    for child in Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
