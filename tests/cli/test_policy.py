"""`frys policy`: what is shown, checked, explained and compared, and that what is learned is the least."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from command import frys
from native_build import compile_fixture

from frys_runtime.cli.doctor import LAYERS
from frys_runtime.cli.pipeline import PLUGINS
from frys_runtime.cli.trials import open_calls
from frys_runtime.config import IsolationLevel
from frys_runtime.policy import level_policy

PYTHON = """
import os
os.getpgid(0)
def work():
    os.getsid(0)
    if os.getppid() < 0: raise OSError("nobody's child")
    os.umask(os.umask(0))
    return "done"
def idle(): return "idle"
def read(): return open(__file__).read()
def either(): return "refused" if os.getppid() < 0 else "told"
def broken(): raise ValueError("never works")
def fickle(): return os.urandom(8)
"""

ASKING = {
    "id": "asking",
    "name": "Asking",
    "version": "1.2.3",
    "description": "",
    "author": "",
    "license": "MIT",
    "format": "python",
    "entry": "asking.py",
    "capabilities": [],
    "permissions": ["Execute"],
    "optionalPermissions": ["Network"],
    "resourceLimits": {"maxMemory": 33554432, "maxCpuTime": 5000},
}


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "sample.py"
    path.write_text(PYTHON)
    return path


@pytest.fixture
def asking(tmp_path):
    folder = tmp_path / "asking"
    folder.mkdir()
    (folder / "asking.py").write_text("def f(): return 1\n")

    def write(**changed) -> Path:
        (folder / "plugin.json").write_text(json.dumps({**ASKING, **changed}))
        return folder

    return write


def _json(*words, code=0):
    done = frys("policy", *words, "--json")
    assert done.returncode == code, done.stderr.decode()
    return json.loads(done.stdout)


# show


def test_show_names_the_origin_of_every_value(asking, tmp_path):
    """A level's file, the deployment's file, its section and plugin.json are told apart, with lines."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "extends: maximum\nlimits: {log: 2MiB}\nplugins:\n  ask*:\n    limits:\n      tmp: 1MiB\n"
        "    syscalls: {allow: {python: {serve: {getsid: asked for}}}}\n"
    )
    found = {one["key"]: one for one in _json("show", asking(), "--policy", policy)["settings"]}

    assert found["limits.memory"] == {"key": "limits.memory", "value": 32 << 20, "origin": "plugin.json"}
    assert found["limits.cpu_time"]["origin"].startswith("maximum.yaml, line ")
    assert found["limits.log"]["origin"] == f"{policy}, line 2"
    assert found["limits.tmp"]["origin"] == f"{policy}, line 6"
    assert found["syscalls.allow.python.serve.getsid"]["origin"] == f"{policy}, line 7"
    assert "getsid" in found["syscalls.python.serve"]["value"]
    assert "syscalls.wasm.serve" not in found


def test_show_in_80_columns(tmp_path):
    """What holds for all is one table; sections are named."""
    policy = tmp_path / "p.yaml"
    policy.write_text("extends: high\nplugins: {special: {network: true}}\n")
    shown = frys("policy", "show", "--policy", policy).stdout.decode()

    assert "256MiB" in shown
    assert "high.yaml, line" in shown
    assert "Sections of their own: special" in shown
    assert "system calls" in shown
    assert all(len(line) <= 80 for line in shown.splitlines()[1:-1])


# check


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("extends: high\n", 0, "nothing too wide"),
        ("extends: high\nnetwork: true\n", 1, "too wide: "),
        ("extends: high\nnetwrk: true\n", 2, "did you mean network?"),
        ("extends: [", 2, "is not YAML"),
    ],
)
def test_check_has_an_exit_code_for_each_end(tmp_path, text, code, said):
    """Sound, findings, and what cannot be read; with JSON the same."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(text)
    done = frys("policy", "check", policy)

    assert done.returncode == code
    assert said in (done.stdout + done.stderr).decode()
    found = _json("check", policy, code=code)
    assert found["ok"] is (code == 0)
    assert bool(found["findings"]) is (code == 1)
    assert bool(found["error"]) is (code == 2)


# diff


def test_diff_of_levels_and_files(tmp_path):
    """Keys that differ, lists by what only one has, sections by name; exit code 1 when something differs."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits: {memory: 32MiB}\nplugins: {a: {limits: {tmp: 1MiB}}}\n")
    found = {row["key"]: row for row in _json("diff", "maximum", policy, code=1)}

    assert found["limits.memory"] == {"key": "limits.memory", "before": 64 << 20, "after": 32 << 20}
    assert found["a: limits.tmp"]["after"] == 1 << 20
    assert "limits.tmp" not in found
    assert "a: limits.memory" not in found
    assert "openat" in next(
        row["after"]
        for row in _json("diff", "maximum", "high", code=1)
        if row["key"] == "syscalls.wasm.serve"
    )
    assert frys("policy", "diff", "high", "high").stdout == b"They say the same.\n"
    assert frys("policy", "diff", "high", "/nowhere.yaml").returncode == 2


# explain


def test_explain_without_loading_says_what_is_asked_and_given(asking):
    """Permissions and limits that are asked for stand beside what is given, and nothing is called proved."""
    found = _json("explain", asking(), "--no-load")

    assert found["asks"]["permissions"]["Execute"] == "granted"
    assert found["asks"]["permissions"]["Network"].startswith("not granted")
    assert found["asks"]["limits"] == {"memory": 32 << 20, "cpu_time": 5000}
    assert found["gets"]["limits"]["memory"] == 32 << 20
    assert found["gets"]["limits"]["cpu_time"] == 1000
    counts = open_calls(level_policy(IsolationLevel.MAXIMUM).syscalls["python"])
    assert found["gets"]["syscalls"] == dict(zip(("load", "serve"), counts, strict=True))
    assert found["refused"] == []
    assert found["layers"]["seccomp"]["inForce"] is None
    assert not found["loaded"]


def test_explain_names_what_would_be_refused(asking):
    """A permission that is not granted, and the sentence of the load."""
    found = _json("explain", asking(permissions=["Read", "Write"]), code=5)

    assert found["refused"] == ["Read", "Write"]
    assert "asks for Read and Write" in found["error"]["message"]
    shown = frys("policy", "explain", asking(permissions=["Read", "Write"]))
    assert b"REFUSED: it is not loaded" in shown.stdout
    assert shown.returncode == 5


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
@pytest.mark.parametrize("name", ["checksum.wasm", "words.js", "system-zlib", "report.py"])
def test_explain_proves_the_layers(name):
    """Each format is really loaded, and every layer that the policy requires reports that it is in force."""
    found = _json("explain", PLUGINS / name)

    assert found["loaded"]
    assert found["layers"].keys() == LAYERS.keys()
    assert all(layer["inForce"] for layer in found["layers"].values() if layer["required"])
    shown = frys("policy", "explain", PLUGINS / name).stdout.decode()
    assert "system calls while loading" in shown
    assert all(len(line) <= 80 for line in shown.splitlines()[1:])


GRANTS = """extends: maximum
network: {hosts: [api.example], methods: [GET, POST]}
messages: {call: {store: [get]}, publish: [done]}
host_functions: [log, "shop.*"]
config: {retries: 3}
plugins: {asking: {config: {retries: 5}, network: false}}
"""


def test_grants_of_the_host_are_shown_and_compared(asking, tmp_path):
    """`show` names who decided each grant, also plugin.json; `diff` shows what only one of two has."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(GRANTS)
    found = {one["key"]: one for one in _json("show", "--policy", policy)["settings"]}

    assert found["network.0"]["value"]["hosts"] == ["api.example"]
    assert found["network.0"]["origin"] == f"{policy}, line 2"
    assert found["messages.call"]["value"] == {"store": ["get"]}
    assert found["signatures.keys"]["value"] == {}
    shown = frys("policy", "show", "--policy", policy).stdout.decode()
    for words in ("GET, POST to", "store: get", "log, shop.*", "200/s"):
        assert words in shown
    asked = {
        one["key"]: one
        for one in _json("show", asking(config={"unit": "m", "retries": 1}), "--policy", policy)["settings"]
    }
    assert "network.0" not in asked
    assert asked["config.unit"] == {"key": "config.unit", "value": "m", "origin": "plugin.json"}
    assert (asked["config.retries"]["value"], asked["config.retries"]["origin"]) == (5, f"{policy}, line 6")
    rows = {row["key"]: row for row in _json("diff", "maximum", policy, code=1)}
    assert rows["network.0"]["after"]["methods"] == ["GET", "POST"]
    assert (rows["host_functions"]["before"], rows["host_functions"]["after"]) == (["config"], ["shop.*"])
    assert rows["asking: config.retries"]["after"] == 5
    assert b"GET, POST to api.example" in frys("policy", "diff", "maximum", policy).stdout


def test_explain_names_who_holds_what_no_layer_does(python, tmp_path):
    """HTTP is held by the host's broker, messages and host functions by the host."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(GRANTS)
    found = _json("explain", python, "--policy", policy, "--no-load")

    assert found["gets"]["http"][0]["hosts"] == ["api.example"]
    assert found["gets"]["messages"] == {"call": {"store": ["get"]}, "publish": ["done"], "subscribe": []}
    assert found["gets"]["hostFunctions"] == ["log", "shop.*"]
    assert found["gets"]["config"] == {"retries": 3}
    assert {name: one["heldBy"] for name, one in found["host"].items()} == {
        "limits": "the host",
        "asks": "the host",
        "http": "the host's broker",
    }
    shown = frys("policy", "explain", python, "--policy", policy, "--no-load").stdout.decode()
    assert "GET, POST to api.example" in shown
    assert "the host's broker" in shown
    assert all(len(line) <= 80 for line in shown.splitlines()[1:])


def test_explain_names_missing_signatures(python, tmp_path):
    """A plugin that would be refused for want of signatures is, with the sentence of the load."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"extends: high\nsignatures: {{required: true, keys: {{release: {'A' * 43}=}}}}\n")
    found = _json("explain", python, "--policy", policy, code=5)

    assert not found["loaded"]
    assert "1 of the keys release" in found["error"]["message"]
    assert found["gets"]["signatures"]["required"]


# learn


def _marked(test):
    for name in ("needs_userns", "needs_landlock", "needs_seccomp_notify"):
        test = getattr(pytest.mark, name)(test)
    return test


def _learn(*words, code=0):
    done = frys("policy", "learn", *words)
    assert done.returncode == code, done.stderr.decode()
    return yaml.safe_load(done.stdout) if code == 0 else done.stderr.decode()


def _entries(policy, plugin, kind):
    """Every entry of a learned policy: phase and name."""
    phases = policy["plugins"][plugin]["syscalls"]["allow"][kind]
    return {(phase, name) for phase, calls in phases.items() for name in calls}


def _check_that_none_can_be_spared(policy, plugin, kind, path, folder, *words):
    """The workload passes under the policy, and fails under it without any one entry."""
    assert frys("run", "--policy", _file(folder, policy), path, *words).returncode == 0
    for phase, name in _entries(policy, plugin, kind):
        less = copy.deepcopy(policy)
        del less["plugins"][plugin]["syscalls"]["allow"][kind][phase][name]
        less["plugins"][plugin]["syscalls"]["allow"][kind] = {
            phase: calls
            for phase, calls in less["plugins"][plugin]["syscalls"]["allow"][kind].items()
            if calls
        }
        assert frys("run", "--policy", _file(folder, less), path, *words).returncode in (1, 4, 5), name


def _file(folder, policy):
    path = folder / "learned.yaml"
    path.write_text(yaml.safe_dump(policy))
    return path


@_marked
@pytest.mark.needs_gcc
def test_learned_policy_of_a_native_plugin_is_the_least(tmp_path):
    """Announced calls, one for loading only, one by its argument; those refused in silence; no other."""
    library = compile_fixture("needs", tmp_path)
    policy = _learn(library, "work", "bytes:", "--yes-run-unfiltered")

    assert policy["extends"] == "maximum"
    assert _entries(policy, "needs", "native") == {
        ("load", "personality"),
        ("serve", "umask"),
        ("serve", "prctl"),
        ("serve", "getppid"),
        ("serve", "getrusage"),
    }
    serve = policy["plugins"]["needs"]["syscalls"]["allow"]["native"]["serve"]
    assert serve["prctl"]["when"] == ["arg0 == 0x10"]
    assert "from work of needs 0.0.0" in serve["umask"]
    assert "made 2 times" in serve["umask"]
    assert "without it the workload fails" in serve["getppid"]
    _check_that_none_can_be_spared(policy, "needs", "native", library, tmp_path, "work", "bytes:")


@_marked
@pytest.mark.needs_gcc
def test_a_plugin_that_asks_its_host_is_learned(tmp_path):
    """It is answered while it is watched, as it will be in earnest."""
    include = Path(__file__).parents[2] / "launchers" / "include"
    library = compile_fixture("talker", tmp_path, f"-I{include}")
    done = frys("policy", "learn", library, "config", "bytes:absent", "--yes-run-unfiltered")

    assert done.returncode == 0, done.stderr
    assert b"Level maximum suffices" in done.stderr


@_marked
@pytest.mark.needs_gcc
def test_what_a_plugin_can_do_without_is_not_learned(tmp_path):
    """Calls that are refused in silence, and whose refusal changes nothing, stay refused."""
    library = compile_fixture("needs", tmp_path)
    policy = _learn(library, "try_in_vain", "bytes:", "--yes-run-unfiltered")

    assert _entries(policy, "needs", "native") == {("load", "personality")}


@_marked
def test_learned_policy_of_a_python_plugin_is_the_least(python, tmp_path):
    """The same for Python, written to a file and found sound by `check`."""
    output = tmp_path / "out.yaml"
    done = frys("policy", "learn", python, "work", "--yes-run-unfiltered", "--output", output)
    policy = yaml.safe_load(output.read_text())

    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""
    assert b"That is no jail for hostile code" in done.stderr
    assert b"the plugin passes under this policy" in done.stderr
    assert _entries(policy, "sample", "python") == {
        ("load", "getpgid"),
        ("serve", "getsid"),
        ("serve", "getppid"),
        ("serve", "umask"),
    }
    assert frys("policy", "check", output).returncode == 0
    _check_that_none_can_be_spared(policy, "sample", "python", python, tmp_path, "work")


@_marked
def test_a_result_that_is_another_without_a_call_makes_it_needed(python, tmp_path):
    """A plugin that swallows a refusal gets what it got when it was watched; chance does not count."""
    script = tmp_path / "calls"
    script.write_text("# two calls\neither\nidle\n")
    policy = _learn(python, "--script", script, "--yes-run-unfiltered")
    assert ("serve", "getppid") in _entries(policy, "sample", "python")

    policy = _learn(python, "fickle", "--yes-run-unfiltered")
    assert _entries(policy, "sample", "python") == {("load", "getpgid")}


@_marked
def test_standard_learns_what_to_take_from_its_list(python, tmp_path):
    """At level Standard the list forbids, so what is learned is taken from it."""
    plugin = tmp_path / "key.py"
    plugin.write_text(
        "import ctypes\nlibc = ctypes.CDLL(None)\ndef f(): return libc.syscall(250, 6, 0) != -2\n"
    )
    policy = _learn(plugin, "f", "--isolation", "standard")

    assert _entries(policy, "key", "python") == {("serve", "keyctl")}


@_marked
def test_limits_are_learned_with_a_margin(python):
    """--limits adds memory and times, lower than the level's, and the workload passes under them."""
    found = _json("learn", python, "work", "--yes-run-unfiltered", "--limits")

    assert found["verified"]
    assert 0 < found["limits"]["cpu_time"] < 1000
    assert 0 < found["limits"]["execution_time"] < 30_000
    if found["used"]["memory"]:
        assert found["used"]["memory"] < found["limits"]["memory"] < 64 << 20
    calls = {call["name"]: call for call in found["calls"]}
    assert calls["getsid"]["count"] == 1
    assert calls["getsid"]["functions"] == ["work"]
    assert calls["getppid"]["count"] is None


@_marked
@pytest.mark.parametrize("level", IsolationLevel)
def test_level_that_suffices_is_said(level, tmp_path):
    """Nothing is added where nothing is missing."""
    plugin = tmp_path / "easy.py"
    plugin.write_text("def f(): return 1\n")

    assert _learn(plugin, "f", "-i", level, "--yes-run-unfiltered") == {"extends": level}


@_marked
@pytest.mark.parametrize(
    ("name", "words"), [("checksum.wasm", ["seal", "frys"]), ("words.js", ["tidy", "bytes:frys"])]
)
def test_other_formats_learn_the_same_way(name, words):
    """WASM and JavaScript are watched, too, and need nothing more than level Maximum."""
    found = _json("learn", PLUGINS / name, *words, "--yes-run-unfiltered")

    assert found["verified"]
    assert found["calls"] == []


@_marked
@pytest.mark.parametrize(
    ("function", "said"), [("read", "Permission denied"), ("broken", "never works"), ("nope", "nope")]
)
def test_workload_that_no_system_call_helps_is_told(python, function, said):
    """What Landlock or the plugin itself refuses is no matter of system calls: exit code 1, and why."""
    told = _learn(python, function, "--yes-run-unfiltered", code=1)

    assert "the workload fails although every forbidden system call is let through" in told
    assert said in told
    assert "Traceback" not in told.split("untrusted")[0]


@_marked
def test_file_that_cannot_be_written_is_told(python):
    """A wrong --output is exit code 2."""
    words = ["idle", "--isolation", "high", "--output", "/nowhere/at/all.yaml"]

    assert "cannot be written" in _learn(python, *words, code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["work"], "--yes-run-unfiltered"),
        ([], "name a function"),
        (["work", "--script", "/nowhere"], "name a function"),
        (["--script", "/nowhere"], "cannot be read"),
        (["work", "int:x", "--isolation", "high"], "int:x"),
    ],
)
def test_wrong_words_of_learn(python, words, said):
    """Level Maximum without the word for it, no workload, two, a wrong argument: exit code 2."""
    assert said in _learn(python, *words, code=2)
