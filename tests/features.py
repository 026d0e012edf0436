"""What this machine can do, tried out rather than read off a version number.

Each probe returns None when the feature works and otherwise the reason why not. None of them uses code of
Frys: a bug there must fail a test, not skip it. A probe runs once per process, when the first test asks.
"""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from auditing import is_on
from browser import CHROMIUM
from oci_tools import DOCKER_REGISTRY, SKOPEO
from ordinary import plain
from uml import UmlError, run_in_uml

type Reason = str | None


def _in_child(code: str) -> Reason:
    """Run lines that change their process for good, in a process of their own."""
    prologue = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    command = [sys.executable, "-I", "-S", "-c", prologue + code]
    return _run(command)


def _run(command: list[str]) -> Reason:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return None
    last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
    return f"{command[0]} ended with {done.returncode}: {last}"


def root() -> Reason:
    """The tests run as root."""
    return None if os.geteuid() == 0 else "not root"


def ordinary_user() -> Reason:
    """A process without rights can run this Python and read the checkout, also if root has both at home."""
    code = f"import os; assert os.geteuid() != 0; open({__file__!r}).close()"
    return _run(plain([sys.executable, "-I", "-S", "-c", code]))


def userns() -> Reason:
    """A process can make every kind of namespace that the jail wants, inside a user namespace."""
    return _in_child(
        "os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNS | os.CLONE_NEWPID | os.CLONE_NEWNET"
        " | os.CLONE_NEWIPC | os.CLONE_NEWUTS | os.CLONE_NEWCGROUP)"
    )


def own_network() -> Reason:
    """A process can make a network of its own and give it addresses (ip(8)), in a user namespace."""
    return _run(
        [*("unshare", "--user", "--map-root-user", "--net", "--mount"), "ip", "link", "set", "lo", "up"]
    )


def landlock() -> Reason:
    """The kernel enforces Landlock (landlock_create_ruleset(2) answers with its ABI)."""
    return _in_child("assert libc.syscall(444, None, 0, 1) >= 1, os.strerror(ctypes.get_errno())")


def seccomp_notify() -> Reason:
    """A process can install a filter that reports to a listener (seccomp_unotify(2))."""
    return _in_child(
        "ret_allow = ctypes.create_string_buffer(b'\\x06\\0\\0\\0\\0\\0\\xff\\x7f', 8)\n"
        "class Program(ctypes.Structure):\n"
        "    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]\n"
        "program = Program(1, ctypes.addressof(ret_allow))\n"
        "assert libc.prctl(38, 1, 0, 0, 0) == 0\n"  # PR_SET_NO_NEW_PRIVS
        "listener = libc.syscall(317, 1, 8, ctypes.byref(program))\n"  # SECCOMP_FILTER_FLAG_NEW_LISTENER
        "assert listener >= 0, os.strerror(ctypes.get_errno())"
    )


def cgroup_v1() -> Reason:
    """Groups with the v1 controllers memory and pids can be made."""
    return _makes_group("cgroup", "memory") or _makes_group("cgroup", "pids")


def cgroup_v2() -> Reason:
    """Groups with the v2 controllers memory and pids can be made."""
    return _makes_group("cgroup2", "memory") or _makes_group("cgroup2", "pids")


def cgroup() -> Reason:
    """Either kind of control group can limit memory and processes."""
    v2 = cgroup_v2()
    v1 = v2 and cgroup_v1()
    return v1 and f"v2: {v2}; v1: {v1}"


def _makes_group(kind: str, controller: str) -> Reason:
    """Make and remove a group below our own, where the controller is to be had."""
    own = _own_group(kind, controller)
    if own is None:
        return f"no {kind} mount with the {controller} controller"
    if kind == "cgroup2" and controller not in (own / "cgroup.controllers").read_text().split():
        return f"{own} does not offer the {controller} controller"
    try:
        group = Path(tempfile.mkdtemp(prefix="frys-probe-", dir=own))
    except OSError as error:
        return str(error)
    group.rmdir()
    return None


def _own_group(kind: str, controller: str) -> Path | None:
    """The directory of our own group; see cgroups(7) for the two files."""
    paths = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        top, mountpoint = fields.split()[3:5]
        found, _, options = rest.split()[:3]
        if found == kind and (kind == "cgroup2" or controller in options.split(",")):
            path = paths.get("" if kind == "cgroup2" else controller, "/")
            own = Path(mountpoint, os.path.relpath(path, top))
            return own if own.is_dir() and ".." not in own.parts else Path(mountpoint)
    return None


def uml() -> Reason:
    """A user-mode kernel boots on this machine's file system: a second kernel, with cgroup v2, for tests."""
    try:
        run_in_uml(["true"], timeout=20, memory="96M").check_returncode()
    except (UmlError, subprocess.SubprocessError) as error:
        return str(error).strip().splitlines()[-1]
    return None


def gcc() -> Reason:
    """A C compiler makes shared objects."""
    with tempfile.TemporaryDirectory(prefix="frys-gcc-") as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <stdlib.h>\nint probe(void) { return abs(-1); }\n")
        return _run(["gcc", "-shared", "-fPIC", "-o", f"{folder}/probe.so", str(source)])


def cargo() -> Reason:
    """Cargo makes shared objects, without any package of a registry."""
    with tempfile.TemporaryDirectory(prefix="frys-cargo-") as folder:
        Path(folder, "Cargo.toml").write_text(
            '[package]\nname = "probe"\nedition = "2021"\n[lib]\npath = "probe.rs"\ncrate-type = ["cdylib"]\n'
        )
        Path(folder, "probe.rs").write_text("")
        return _run(["cargo", "build", "--offline", "--quiet", "--manifest-path", f"{folder}/Cargo.toml"])


def rust_wasm() -> Reason:
    """A Rust compiler makes WebAssembly: the first one on PATH, or that of the distribution beside it."""
    tried = [_compiles_to_wasm(folder) for folder in _RUST]
    return None if None in tried else "; ".join(filter(None, tried))


def rust_for_wasm() -> str:
    """PATH as it has to be for that compiler and its cargo to be found first."""
    folder = next(folder for folder in _RUST if _compiles_to_wasm(folder) is None)
    return f"{folder}:{os.environ['PATH']}" if folder else os.environ["PATH"]


_RUST = ("", "/usr/bin")


@functools.cache
def _compiles_to_wasm(folder: str) -> Reason:
    with tempfile.TemporaryDirectory(prefix="frys-rust-") as output:
        source = Path(output, "probe.rs")
        source.write_text("")
        target = ["--target", "wasm32-unknown-unknown", "--crate-type", "cdylib"]
        return _run([os.path.join(folder, "rustc"), *target, "--out-dir", output, str(source)])


def libraries() -> Reason:
    """The shared libraries of SQLite and Expat are there, as plugins of the system's libraries."""
    return _in_child("ctypes.CDLL('libsqlite3.so.0'), ctypes.CDLL('libexpat.so.1')")


def bwrap() -> Reason:
    """Bubblewrap, the reference of the benchmarks, works."""
    return _run(["bwrap", "--ro-bind", "/", "/", "true"])


def audit() -> Reason:
    """The kernel tells this user of Landlock's denials (ABI 7), once auditing is switched on."""
    try:
        is_on()
    except OSError as error:
        return f"no word from the audit subsystem: {error.strerror}"
    return _in_child("assert libc.syscall(444, None, 0, 1) >= 7, 'an older Landlock'")


def npm() -> Reason:
    """The registry of npm gives out packages."""
    with tempfile.TemporaryDirectory(prefix="frys-npm-") as folder:
        return _run(["npm", "pack", "--silent", "--pack-destination", folder, "lz4-wasm-nodejs@0.9.2"])


def pip() -> Reason:
    """A package index answers pip."""
    with tempfile.TemporaryDirectory(prefix="frys-pip-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        return _run([*command, "tomlkit"])


def chromium() -> Reason:
    """Chromium opens a page without a window."""
    with tempfile.TemporaryDirectory(prefix="frys-chromium-", ignore_cleanup_errors=True) as profile:
        return _run([*CHROMIUM, f"--user-data-dir={profile}", "--dump-dom", "about:blank"])


def skopeo() -> Reason:
    """A tool of others for OCI registries is there."""
    return _run([*SKOPEO, "--version"])


def docker_registry() -> Reason:
    """An OCI registry of others (CNCF Distribution) is there."""
    return _run([DOCKER_REGISTRY, "--version"])


def atheris() -> Reason:
    """The coverage-guided fuzzer is installed."""
    return _run([sys.executable, "-c", "import atheris"])


PROBES: dict[str, Callable[[], Reason]] = {
    probe.__name__: functools.cache(probe)
    for probe in (
        root,
        ordinary_user,
        userns,
        own_network,
        landlock,
        seccomp_notify,
        cgroup,
        cgroup_v1,
        cgroup_v2,
        uml,
        gcc,
        libraries,
        cargo,
        rust_wasm,
        bwrap,
        audit,
        npm,
        pip,
        chromium,
        skopeo,
        docker_registry,
        atheris,
    )
}


if __name__ == "__main__":
    for name, probe in PROBES.items():
        print(f"{name:16}", probe() or "yes")
