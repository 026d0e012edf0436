"""What this machine gives for a jail: tried out where that is possible, with the reason and the remedy."""

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from ..errors import SandboxError
from ..linux import cgroup, landlock, landlock_log, namespaces
from ..linux.bpf import syscall_number

_ENGINES: Final = {"wasm": "wasmtime", "javascript": "quickjs-ng", "native": "cffi"}

# Every namespace that the fork server or the jail makes, as the user that the jail has outside.
_NAMESPACES: Final = """
import os, sys
if os.geteuid() == 0:
    sys.path.insert(0, sys.argv[1])
    from frys_runtime.linux import libc
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    libc.prctl(libc.PR_SET_DUMPABLE, 1)
uid, gid = os.getuid(), os.getgid()
os.unshare(os.CLONE_NEWUSER)
for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(line)
os.unshare(os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWNET | os.CLONE_NEWIPC | os.CLONE_NEWUTS
           | os.CLONE_NEWCGROUP)
"""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a jail needs of a machine.

    Attributes:
        name: What it is called.
        found: What was found.
        why: The reason why it is not there; empty if it is.
        how: The way to get it; empty if it is there.
    """

    name: str
    found: str
    why: str = ""
    how: str = ""

    @property
    def ok(self) -> bool:
        """It is there."""
        return not self.why


def facts() -> list[Fact]:
    """Everything about this machine that decides which layers a jail can have."""
    jail = [_kernel(), _user(), _user_namespaces(), _landlock(), _notification(), _libseccomp(), *_cgroups()]
    return [*jail, _denials()]


def engines() -> dict[str, str]:
    """The version of each format's engine; Python's own for Python."""
    versions = {name: f"{package} {_version(package)}" for name, package in _ENGINES.items()}
    return {**versions, "python": f"{platform.python_implementation()} {platform.python_version()}"}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"is not installed (pip install {package})"


def _kernel() -> Fact:
    found = f"Linux {platform.release()}, {platform.machine()}"
    numbers = [int(part) for part in re.findall(r"\d+", platform.release())[:2]]
    if numbers < [5, 9]:
        return Fact("kernel", found, "close_range(2) came with Linux 5.9", "boot a newer kernel")
    return Fact("kernel", found)


def _user() -> Fact:
    if os.geteuid() == 0:
        return Fact("user", "root; each plugin gets a user id of its own that owns nothing")
    return Fact("user", f"{os.geteuid()}, an ordinary user; plugins run as this user in a user namespace")


def _user_namespaces() -> Fact:
    command = [sys.executable, "-I", "-S", "-c", _NAMESPACES, str(Path(__file__).parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode == 0:
        return Fact("user namespaces", "an ordinary user may make them")
    last = (done.stderr.strip() or "it was killed").splitlines()[-1]
    return Fact("user namespaces", "an ordinary user may not make them", *namespaces.obstacle(last))


def _landlock() -> Fact:
    version = landlock.abi()
    if version:
        return Fact("Landlock", f"ABI {version}")
    return Fact(
        "Landlock",
        "none",
        "the kernel was built or booted without it",
        "use Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and boot with landlock in front of lsm=",
    )


def _denials() -> Fact:
    """No layer, so that a machine is complete without it."""
    why, how = landlock_log.obstacle()
    found = (
        f"not visible here, because {why}; to see them, {how}"
        if why
        else "reported, by the kernel's audit log"
    )
    return Fact("Landlock denials", found)


def _notification() -> Fact:
    name = "seccomp notification"
    actions = namespaces.sysctl("kernel.seccomp.actions_avail").split()
    if "user_notif" in actions:
        return Fact(name, "forbidden system calls are announced to the host")
    why = "the kernel cannot announce forbidden system calls" if actions else "the kernel has no seccomp"
    return Fact(name, "none", why, "use Linux 5.0 or newer with CONFIG_SECCOMP_FILTER")


def _libseccomp() -> Fact:
    try:
        syscall_number("read")
    except SandboxError as error:
        return Fact("libseccomp", "none", str(error), "apt install libseccomp2, dnf install libseccomp")
    import pyseccomp  # found above; the name of its version is its API level

    return Fact("libseccomp", f"API level {pyseccomp.get_api()}")


def _cgroups() -> list[Fact]:
    support = cgroup.probe()
    given = ", ".join(sorted(support.controllers))
    found = [Fact("cgroups", f"{support.version}: {given}")] if given else []
    return found + [
        Fact(f"cgroup {', '.join(missing.controllers)}", "none", missing.why, missing.how)
        for missing in support.missing
    ]
