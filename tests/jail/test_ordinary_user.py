"""Frys for users without rights: with user namespaces and without, in containers, and what is refused there.

A small host program runs as such a user, tries friendly and hostile plugins, and says what came of it.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ordinary import ENVIRONMENT, container, plain, without_user_namespaces
from uml import run_in_uml

ROOT = Path(__file__).parents[2]
FRYS = [sys.executable, "-c", "from frys_runtime.cli import main; main()"]

pytestmark = [
    pytest.mark.needs_ordinary_user,
    pytest.mark.needs_userns,
    pytest.mark.needs_bwrap,
    pytest.mark.needs_landlock,
    pytest.mark.needs_seccomp_notify,
    pytest.mark.timeout(300),
]

# Run by the user in question: POLICY for `extends: maximum`, or empty for the level itself.
HOST = '''
import asyncio, json, os, pathlib, sys, tempfile, zlib
from frys_runtime import *

PLUGINS = pathlib.Path(json.loads(sys.argv[1]))
FRIENDLY = {
    "checksum.wasm": ("seal", b"x"),
    "words.js": ("tidy", b"x"),
    "system-zlib": ("compress", b"x"),
    "report.py": ("report", zlib.compress(b"x")),
}
HOSTILE = """
import os, signal
def tried(what):
    try:
        what()
    except Exception as error:
        return type(error).__name__
    return "it worked"
SEEN = {path: tried(lambda: open(path)) for path in ("/etc/passwd", "/proc/self/status", "THEIRS")}
def seen(): return SEEN
def wrote(): return tried(lambda: open(__file__, "a"))
def bomb():
    kept = []
    while True: kept.append(bytes([1]) * (1 << 22))
def spin():
    while True: pass
def spawn(): return os.posix_spawn('/bin/true', ['true'], {})
def kill(): os.kill(os.getppid(), signal.SIGKILL)
def abort(): os.abort()
"""
said = {}

async def attempt(work):
    try:
        return await work
    except PluginError as error:
        return f"{type(error).__name__} {getattr(error, 'resource', '')}".strip() + f": {error}"

async def main(folder):
    policy = folder / "policy.yaml"
    policy.write_text(sys.argv[2])
    hostile = folder / "hostile.py"
    theirs = folder / "theirs"
    theirs.write_text("a secret")
    hostile.write_text(HOSTILE.replace("THEIRS", str(theirs)))
    said["user"] = os.geteuid()
    async with PluginManager(policy=policy) as manager:
        for name, (function, argument) in FRIENDLY.items():
            loaded = await attempt(manager.load_plugin(PLUGINS / name, plugin_id=name))
            said[name] = loaded
            if loaded == name:
                await manager.execute_plugin(name, function, argument)
                said["layers"] = sorted(manager.plugin(name).layers)
        tight = SandboxConfig(max_memory=32 << 20, max_cpu_time=300)
        if await attempt(manager.load_plugin(hostile, plugin_id="hostile", sandbox=tight)) == "hostile":
            for function in ("seen", "wrote", "bomb", "spin", "spawn", "kill", "abort", "seen"):
                said[function] = await attempt(manager.execute_plugin("hostile", function))
        if "wait" in sys.argv:
            said["folder"] = str(folder)
            said["pids"] = [manager.plugin(name).pid for name in FRIENDLY]
            print(json.dumps(said), flush=True)
            await asyncio.sleep(60)
    mine = [path for path in pathlib.Path("/tmp").glob("frys-*-*") if path.stat().st_uid == os.geteuid()]
    said["left"] = [path.name for path in mine if path.name.split("-")[1].isdigit()]
    print(json.dumps(said))

with tempfile.TemporaryDirectory(prefix="tried-") as name:
    asyncio.run(main(pathlib.Path(name)))
'''

NAMESPACES = {
    *("pid_namespace", "network_namespace", "mount_namespace", "private_root"),
    *("user_namespace", "ipc_namespace", "uts_namespace", "cgroup_namespace"),
}
OTHERS = {"capabilities", "no_new_privs", "rlimits", "landlock", "seccomp"}
MAXIMUM = "extends: maximum\n"
WITHOUT = f"extends: maximum\nrequire: [{', '.join(sorted(OTHERS))}]\n"
FRIENDLY = ("checksum.wasm", "words.js", "system-zlib", "report.py")

WITH_NAMESPACES = {"user": plain, "container": container}
NO_NAMESPACES = {
    "user": without_user_namespaces,
    "container": lambda command: container(command, user_namespaces=False),
}


def _command(policy: str, *more: str) -> list[str]:
    plugins = json.dumps(str(ROOT / "frys_runtime" / "cli" / "plugins"))
    return [sys.executable, "-c", HOST, plugins, policy, *more]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, cwd="/", env=_environment()
    )


def _environment() -> dict[str, str]:
    return {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}


def _said(command: list[str]) -> dict:
    done = _run(command)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def _check_hostile(said: dict) -> None:
    assert set(said["seen"].values()) <= {"PermissionError", "FileNotFoundError"}
    assert said["wrote"] == "PermissionError"
    assert said["bomb"].startswith("ResourceLimitExceeded memory")
    assert said["spin"].startswith("ResourceLimitExceeded cpu")
    assert said["spawn"].startswith("SecurityViolation")
    assert said["kill"].startswith("SecurityViolation")
    assert said["abort"].startswith("Crashed")
    assert said["left"] == []


@pytest.mark.parametrize("where", WITH_NAMESPACES)
def test_every_layer_with_user_namespaces(where):
    """An ordinary user gets level Maximum for all four formats; only cgroups are for others to give."""
    said = _said(WITH_NAMESPACES[where](_command(MAXIMUM)))

    assert said["user"] != 0
    assert {name: said[name] for name in FRIENDLY} == {name: name for name in FRIENDLY}
    assert set(said["layers"]) - {"cgroup_memory", "cgroup_tasks"} == NAMESPACES | OTHERS
    _check_hostile(said)


@pytest.mark.parametrize("where", NO_NAMESPACES)
def test_maximum_is_refused_without_user_namespaces(where):
    """What the policy requires and the kernel refuses is named, with the setting to change; none starts."""
    said = _said(NO_NAMESPACES[where](_command(MAXIMUM)))

    for name in FRIENDLY:
        assert said[name].startswith("SandboxError: the policy requires pid_namespace")
        assert all(layer in said[name] for layer in NAMESPACES)
        assert "user.max_user_namespaces" in said[name]
        assert "sysctl -w user.max_user_namespaces=15000" in said[name]
    assert said["left"] == []


@pytest.mark.parametrize("where", NO_NAMESPACES)
def test_other_layers_hold_without_user_namespaces(where):
    """A policy that does without namespaces gets all else, and no more is said; hostile plugins stay in."""
    said = _said(NO_NAMESPACES[where](_command(WITHOUT)))

    assert {name: said[name] for name in FRIENDLY} == {name: name for name in FRIENDLY}
    assert set(said["layers"]) - {"cgroup_memory", "cgroup_tasks"} == OTHERS
    _check_hostile(said)


def test_processes_are_refused_without_pid_namespace():
    """A plugin that may start processes needs a PID namespace, or they could outlive it."""
    policy = f"extends: standard\nrequire: [{', '.join(sorted(OTHERS))}]\n"

    said = _said(without_user_namespaces(_command(policy)))

    assert all("nothing would end them" in said[name] for name in FRIENDLY)


def test_nothing_outlives_a_killed_host_without_namespaces():
    """Without a PID namespace too, the plugins and their files go when the host is killed."""
    host = subprocess.Popen(
        without_user_namespaces(_command(WITHOUT, "wait")),
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env=_environment(),
    )
    with host:
        assert host.stdout is not None
        said = json.loads(host.stdout.readline())
        pids = said["pids"]
        before = _folders(host.pid)
        host.send_signal(signal.SIGKILL)

    shutil.rmtree(said["folder"])
    assert all(pids)
    assert len(before) > 0
    for _ in range(250):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids) and not any(map(Path.exists, before)):
            return
        time.sleep(0.02)
    pytest.fail("a plugin or its folder outlived the host")


def _folders(host: int) -> list[Path]:
    """The folders that the keepers of a host made; they have their numbers in the names."""
    keepers = Path(f"/proc/{host}/task/{host}/children").read_text().split()
    return [path for pid in keepers for path in Path("/tmp").glob(f"frys-{pid}-*")]


def test_doctor_says_what_is_missing():
    """`frys doctor` ends with an honest no, the setting, and no traceback."""
    done = _run(without_user_namespaces([*FRYS, "doctor"]))

    assert done.returncode == 1
    assert "user.max_user_namespaces is 0" in done.stdout
    assert "NOT READY" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [["doctor"], ["demo"]])
def test_missing_proc_is_one_sentence(command):
    """In a container without /proc the command line says so."""
    done = _run(container([*FRYS, *command], proc=False))

    assert done.returncode != 0
    assert "/proc is not mounted" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.needs_root
def test_root_without_the_right_to_mount():
    """Root of a container without CAP_SYS_ADMIN gets every layer by a user namespace, with one user."""
    drop = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]

    said = _said([*drop, *_command(MAXIMUM)])

    assert said["user"] == 0
    assert set(said["layers"]) >= NAMESPACES | OTHERS
    _check_hostile(said)


@pytest.mark.needs_uml
def test_nothing_starts_where_no_layer_holds_files():
    """Without Landlock and without namespaces the jail finds itself open, whatever is required."""
    forbid = "echo 0 >/proc/sys/user/max_user_namespaces"
    drop = 'exec setpriv --bounding-set -sys_admin --inh-caps -sys_admin "$@"'
    policy = "extends: maximum\nrequire: [no_new_privs, rlimits, seccomp]\n"

    done = run_in_uml(
        ["sh", "-c", f"{forbid}; {drop}", "sh", *_command(policy)], cwd=ROOT, timeout=150, memory="1G"
    )

    assert done.returncode == 0, done.stdout
    said = json.loads(done.stdout.splitlines()[-1])
    for name in FRIENDLY:
        assert said[name].startswith("SandboxError")
        assert "/proc/1/status can be opened" in said[name]
    assert said["left"] == []


@pytest.mark.needs_root
def test_the_same_tests_as_an_ordinary_user():
    """Grants and survival are tested once more as an ordinary user, where the other tests run as root."""
    tests = [str(ROOT / "tests" / "jail" / name) for name in ("test_grants.py", "test_survival.py")]
    pytest_quiet = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]

    done = _run(plain([*pytest_quiet, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *tests]))

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
