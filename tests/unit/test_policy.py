"""Policies: the three levels as they are shipped, deployments' files, and what wishes make of them."""

import itertools
import mmap
import re

import pytest
from hypothesis import given, strategies as st

from frys_runtime.config import IsolationLevel, SandboxConfig
from frys_runtime.errors import ConfigError
from frys_runtime.linux.bpf import Condition
from frys_runtime.metadata import ResourceLimits
from frys_runtime.policy import FORMATS, LAYERS, Policy, level_policy, load_policy

MIB = 1 << 20
STANDARD, HIGH, MAXIMUM = map(level_policy, IsolationLevel)


@pytest.fixture
def policy(tmp_path):
    """Write a deployment's file and load it."""

    def load(text: str | bytes) -> Policy:
        path = tmp_path / "policy.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_policy(path).policy()

    return load


def names(rules) -> set[str]:
    return {rule.name for rule in rules}


def test_maximum_is_what_the_design_says():
    """A stranger's code gets 64 MiB, one second of CPU, 30 seconds, one task, and nothing else."""
    limits = MAXIMUM.limits

    assert (limits.memory, limits.cpu_time, limits.execution_time) == (64 * MIB, 1000, 30_000)
    assert (limits.tasks, limits.tmp) == (1, 0)
    assert (MAXIMUM.view, MAXIMUM.after_load, MAXIMUM.read, MAXIMUM.write) == ("engine", "none", (), ())
    assert [MAXIMUM.network, MAXIMUM.processes, MAXIMUM.threads] == [False] * 3
    assert {"landlock", "seccomp", "private_root", "user_namespace"} <= MAXIMUM.require <= set(LAYERS)


def test_levels_are_ordered():
    """Each level is at least as tight as the one below it, in every limit and every grant."""
    optional = {"cpu", "storage_read"}
    for tight, loose in ((MAXIMUM, HIGH), (HIGH, STANDARD)):
        for field in set(tight.limits.__struct_fields__) - optional:
            assert getattr(tight.limits, field) <= getattr(loose.limits, field), field
        assert all(
            getattr(limits, name) is None for limits in (tight.limits, loose.limits) for name in optional
        )
        assert tight.permissions <= loose.permissions
        for grant in ("network", "processes", "threads"):
            assert getattr(tight, grant) <= getattr(loose, grant), grant
        assert tight.require >= loose.require
        assert set(tight.host_functions) <= set(loose.host_functions)


@pytest.mark.parametrize(("name", "most"), [("wasm", 25), ("javascript", 25), ("native", 25), ("python", 35)])
def test_maximum_serves_with_few_system_calls(name, most):
    """After loading, level Maximum leaves at most 25 system calls open, and 35 for Python."""
    assert len(names(MAXIMUM.syscalls[name].serve)) <= most


@pytest.mark.parametrize("name", FORMATS)
def test_maximum_serves_without_the_dangerous(name):
    """While serving at Maximum nothing opens files, makes tasks, sockets or executable memory."""
    lists = MAXIMUM.syscalls[name]
    serve = {rule.name: rule for rule in lists.serve}

    forbidden = {"clone", "fork", "vfork", "execve", "socket", "kill", "ptrace", "unshare", "memfd_create"}
    assert not serve.keys() & (forbidden | {"openat", "open", "prctl", "fcntl", "ioctl"})
    assert not names(lists.load) & forbidden
    for call in ("mmap", "mprotect"):
        assert serve[call].args == (Condition(2, "==", 0, mmap.PROT_EXEC),)


def test_high_opens_files_and_threads():
    """Level High differs from Maximum by what its grants open."""
    serve = names(HIGH.syscalls["wasm"].serve)

    assert {"openat", "read", "clone", "pwrite64"} <= serve
    assert not serve & {"execve", "fork", "socket", "kill"}


def test_processes_open_with_their_grant(policy):
    """A policy that allows processes opens what starting programs needs, and no namespaces."""
    lists = policy("extends: high\nprocesses: true\n").syscalls["python"]
    clone = [rule.args for rule in lists.serve if rule.name == "clone"]

    assert {"execve", "wait4", "close_range"} <= names(lists.serve)
    assert (Condition(0, "==", 0, 0x7E020000),) in clone
    assert all(clone)


def test_standard_forbids_a_list():
    """Level Standard allows what is not listed."""
    lists = STANDARD.syscalls["python"]

    assert lists.mode == "deny"
    assert {"ptrace", "mount", "bpf", "keyctl"} <= names(lists.load)
    assert "clone3" in names(lists.enosys)


@pytest.mark.parametrize("level", IsolationLevel)
def test_every_entry_says_why(level):
    """No system call stands in a list without a reason."""
    for lists in level_policy(level).syscalls.values():
        for rule in (*lists.load, *lists.serve, *lists.enosys):
            assert len(rule.why) >= 5, rule


def test_a_deployment_says_only_what_differs(policy):
    """A file extends a level; the keys that it has replace or add, all others stay."""
    loaded = policy(
        "extends: maximum\n"
        "limits: {memory: 1.5GiB, execution_time: 500ms, cpu_time: 2min, tasks: 3, tmp: 0, log: 4 KiB}\n"
        "after_load: read-only\n"
        "read: [/srv/data]\n"
        "syscalls:\n"
        "  allow:\n"
        "    wasm:\n"
        "      serve:\n"
        "        getcpu: a test\n"
        "        kill: {when: arg1 == 0 and arg0 >= 2, why: a test}\n"
    )

    assert loaded.level is IsolationLevel.MAXIMUM
    limits = loaded.limits
    assert (limits.memory, limits.execution_time, limits.cpu_time) == (1536 * MIB, 500, 120_000)
    assert (limits.tasks, limits.tmp, limits.log, limits.output) == (3, 0, 4096, MAXIMUM.limits.output)
    assert loaded.read == ("/srv/data",)
    added = names(loaded.syscalls["wasm"].serve) - names(MAXIMUM.syscalls["wasm"].serve)
    assert {"getcpu", "kill", "openat"} <= added
    assert "getcpu" not in names(loaded.syscalls["native"].serve)
    (kill,) = (rule for rule in loaded.syscalls["wasm"].serve if rule.name == "kill")
    assert kill.args == (Condition(1, "==", 0), Condition(0, ">=", 2))


def test_alternatives_become_rules(policy):
    """A list of conditions means any of them; constants of the kernel have their names."""
    loaded = policy(
        "extends: maximum\n"
        "syscalls:\n  allow:\n    common:\n      serve:\n"
        "        socket: {when: [arg0 == AF_UNIX, arg0 == AF_INET6], why: x}\n"
    )

    rules = [rule for rule in loaded.syscalls["native"].serve if rule.name == "socket"]
    assert [rule.args for rule in rules] == [(Condition(0, "==", 1),), (Condition(0, "==", 10),)]


def test_network_takes_its_namespace_along(policy):
    """Who is on the host's network is in no namespace of its own, so none is required."""
    loaded = policy("extends: high\nnetwork: true\n")

    assert "network_namespace" not in loaded.require
    assert {"socket", "connect"} <= names(loaded.syscalls["python"].serve)


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{this}: &{this} [{', '.join([f'*{last}'] * 8)}]\n" for last, this in itertools.pairwise("abcdef")
)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("limits: {}\n", "extends", "must name the level"),
        ("extends: low\n", "line 1: extends", "standard, high, maximum"),
        ("extends: [high]\n", "line 1: extends", "standard, high, maximum"),
        ("extends: high\nlimit: {}\n", "line 2: limit", "did you mean limits?"),
        ("extends: high\nplugins: []\n", "line 2: plugins", "mapping"),
        ("extends: high\nlimits: 5\n", "line 2: limits", "mapping"),
        ("extends: high\nlimits:\n  memroy: 1MiB\n", "line 3: limits.memroy", "did you mean memory?"),
        ("extends: high\nlimits:\n  memory: 64MB\n", "line 3: limits.memory", "KiB, MiB, GiB"),
        ("extends: high\nlimits:\n  memory: 64\n", "line 3: limits.memory", "KiB, MiB, GiB"),
        ("extends: high\nlimits:\n  memory: 0\n", "line 3: limits.memory", "at least 1"),
        ("extends: high\nlimits:\n  memory: -1MiB\n", "line 3: limits.memory", "KiB, MiB, GiB"),
        ("extends: high\nlimits:\n  memory: 0.0001B\n", "line 3: limits.memory", "at least 1"),
        ("extends: high\nlimits:\n  memory: 999999999999999GiB\n", "line 3: limits.memory", "at least 1"),
        ("extends: high\nlimits:\n  cpu_time: 30MiB\n", "line 3: limits.cpu_time", "ms, s, min, h"),
        ("extends: high\nlimits:\n  cpu_time: 1:30\n", "line 3: limits.cpu_time", "ms, s, min, h"),
        ("extends: high\nlimits:\n  cpu_time: yes\n", "line 3: limits.cpu_time", "ms, s, min, h"),
        ("extends: high\nlimits:\n  tasks: 1.5\n", "line 3: limits.tasks", "whole number"),
        ("extends: high\nlimits:\n  tasks: 5s\n", "line 3: limits.tasks", "whole number"),
        ("extends: high\nlimits:\n  tasks:\n", "line 3: limits.tasks", "whole number"),
        ("extends: high\nview: all\n", "line 2: view", "engine, minimal, system"),
        ("extends: high\nview: [all]\n", "line 2: view", "engine, minimal, system"),
        ("extends: high\nafter_load: yes\n", "line 2: after_load", "none, read-only"),
        ("extends: high\nnetwork: 1\n", "line 2: network", "must be true"),
        ("extends: high\ndescription: 5\n", "line 2: description", "text"),
        ("extends: high\nread: /srv\n", "line 2: read", "list"),
        ("extends: high\nread: [srv]\n", "line 2: read.0", "absolute"),
        ("extends: high\nread: [/]\n", "line 2: read", "absolute"),
        ("extends: high\nread: [/srv/../etc]\n", "line 2: read", "absolute"),
        ("extends: high\nread: [//proc]\n", "line 2: read.0", "absolute"),
        ("extends: high\nwrite: [/proc/self]\n", "line 2: write", "cannot be granted"),
        ("extends: maximum\nread: [/srv]\n", "line 2: read", "after_load"),
        ("extends: high\nrequire: [selinux]\n", "line 2: require", "known are"),
        ("extends: standard\nthreads: false\n", "line 2: threads", "extend high"),
        ("extends: standard\nprocesses: false\n", "line 2: processes", "extend high"),
        ("extends: high\nsyscalls: []\n", "line 2: syscalls", "mapping"),
        ("extends: high\nsyscalls:\n  mode: deny\n", "line 3: syscalls.mode", "known are allow, forbid"),
        ("extends: high\nsyscalls: {allow: 5}\n", "line 2: syscalls.allow", "mapping"),
        ("extends: high\nsyscalls: {allow: {wsm: {}}}\n", "line 2: syscalls.allow.wsm", "did you mean wasm?"),
        ("extends: high\nsyscalls: {allow: {files: {}}}\n", "line 2: syscalls.allow.files", "known are"),
        (
            "extends: high\nsyscalls: {allow: {wasm: {sreve: {}}}}\n",
            "allow.wasm.sreve",
            "did you mean serve?",
        ),
        ("extends: high\nsyscalls: {allow: {wasm: {load: [fork]}}}\n", "allow.wasm.load", "mapping"),
        ("extends: high\nsyscalls: {allow: {wasm: {load: {frok: x}}}}\n", "load.frok", "no system call"),
        ("extends: high\nsyscalls: {allow: {wasm: {load: {fork: }}}}\n", "load.fork", "text"),
        ("extends: high\nsyscalls: {forbid: {wasm: {load: {brk: }}}}\n", "load.brk", "text"),
        (
            "extends: high\nsyscalls: {forbid: {wasm: {load: {brk: {when: arg0 == 1, why: x}}}}}\n",
            "brk",
            "only the",
        ),
        (
            "extends: standard\nsyscalls: {allow: {wasm: {serve: {bpf: {when: arg0 == 1, why: x}}}}}\n",
            "bpf",
            "only",
        ),
        (
            "extends: standard\nsyscalls: {forbid: {wasm: {load: {brk: x}}}}\n",
            "forbid.wasm.load",
            "write serve",
        ),
        ("extends: high\nlimits: {cpu: 0.5}\n", "line 2: limits.cpu", "like '0.5 cpu', or none"),
        ("extends: high\nlimits: {cpu: 0.001 cpu}\n", "line 2: limits.cpu", "at least 0.01"),
        ("extends: high\nlimits: {cpu: 500ms}\n", "line 2: limits.cpu", "processors"),
        ("extends: high\nlimits: {cpu: null}\n", "line 2: limits.cpu", "processors"),
        ("extends: high\nlimits: {inodes: 0}\n", "line 2: limits.inodes", "at least 1"),
        ("extends: high\nlimits: {inodes: 1KiB}\n", "line 2: limits.inodes", "whole number"),
        (
            "extends: high\npermissions: [Fly]\n",
            "line 2: permissions.0",
            "Read, Write, Network, Execute, Admin",
        ),
        ("extends: high\npermissions: Read\n", "line 2: permissions", "list"),
        ("extends: high\non_violation: ignore\n", "line 2: on_violation", "kill, deny, log"),
        ("extends: high\nmax_violations: 5 times\n", "line 2: max_violations", "whole number"),
        ("extends: high\nmax_violations: -1\n", "line 2: max_violations", "whole number"),
        ("extends: high\nplugins: {a b: {}}\n", "line 2: plugins.a b", "no pattern"),
        ("extends: high\nplugins: {'[ab]*': {}}\n", "plugins.[ab]*", "no pattern"),
        ("extends: high\nplugins: {a: }\n", "plugins.a", "mapping"),
        ("extends: high\nplugins: {a: {plugins: {}}}\n", "plugins.a.plugins", "known are"),
        (
            "extends: high\nplugins:\n  a:\n    limits: {memory: 1}\n",
            "line 4: plugins.a.limits.memory",
            "KiB",
        ),
        ("extends: high\nplugins: {a: {extends: low}}\n", "plugins.a.extends", "standard, high, maximum"),
        ("extends: maximum\nplugins: {a: {read: [/srv]}}\n", "plugins.a.read", "after_load"),
        (
            "extends: high\nplugins: {a: {extends: standard, threads: false}}\n",
            "plugins.a.threads",
            "extend high",
        ),
        ("extends: high\nplugins: {a: {network: {}}}\n", "plugins.a.network", "must be true"),
        ("extends: high\nextends: maximum\n", "line 2: extends", "twice"),
        ("extends: high\nlimits: {tmp: 0, tmp: 1MiB}\n", "limits.tmp", "twice"),
        ("extends: high\n? [a]\n: b\n", "line 2", "key"),
        ("extends: high\n\tview: engine\n", "line 2, column 1", "not YAML"),
        ("extends: high\nread: !!python/object:os.system [x]\n", "line 2: read", ""),
        ("extends: high\nview: !!python/name:os.system x\n", "line 2: view", "cannot read"),
        ("extends: high\nview: 2026-99-99\n", "line 2: view", "cannot read"),
        ("extends: *high\n", "line 1", "not YAML"),
        ("extends: high\nread: &a [*a]\n", "read", ""),
        (BOMB, "policy.yaml", "too many values"),
        ("[" * 3000, "policy.yaml", ""),
        ("", "policy.yaml", "mapping"),
        ("- a\n", "policy.yaml", "mapping"),
        (b"\xff", "policy.yaml", "UTF-8"),
        ("a: b\n---\nc: d\n", "line 2", "not YAML"),
        ("#" * (1 << 19), "policy.yaml", "longer"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_clear_sentence(policy, text, where, words):
    """Each mistake is a ConfigError that names file, line and key, and says what would be right."""
    with pytest.raises(ConfigError) as caught:
        policy(text)

    parameter = caught.value.parameter
    assert "policy.yaml" in parameter
    assert where in parameter or where in re.sub(r", column \d+", "", parameter)
    assert words in caught.value.reason


@pytest.mark.parametrize(
    ("rule", "where", "words"),
    [
        ("{when: arg0 == 1}", "why", "missing"),
        ("{why: x}", "when", "missing"),
        ("{why: x, when: arg0 == 1, if: y}", "if", "known are when, why"),
        ("{why: 5, when: arg0 == 1}", "why", "text"),
        ("{why: x, when: []}", "when", "at least one"),
        ("{why: x, when: 5}", "when", "text"),
        ("{why: x, when: [5]}", "when", "list"),
        ("{why: x, when: arg6 == 1}", "when", "is not a condition like"),
        ("{why: x, when: arg0 = 1}", "when", "is not a condition like"),
        ("{why: x, when: arg0 == 1 or arg1 == 2}", "when", "is not a condition like"),
        ("{why: x, when: arg0 == NO_SUCH}", "when", "constant"),
        ("{why: x, when: arg0 == path}", "when", "constant"),
        ("{why: x, when: arg0 == 4294967296}", "when", "32 bits"),
        ("{why: x, when: arg0 == 0x}", "when", "constant"),
        ("{why: x, when: arg0 == 99999999999}", "when", "constant"),
    ],
)
def test_a_wrong_condition_is_one_clear_sentence(policy, rule, where, words):
    """A rule that could not be compiled as it was meant is refused, with its key."""
    with pytest.raises(ConfigError) as caught:
        policy(f"extends: high\nsyscalls: {{allow: {{wasm: {{load: {{fork: {rule}}}}}}}}}\n")

    assert caught.value.parameter.endswith(f": syscalls.allow.wasm.load.fork.{where}")
    assert words in caught.value.reason


def test_a_missing_file_is_an_error(tmp_path):
    """A policy that is not there is never replaced by another."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_policy(tmp_path / "none.yaml")


@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from("{}[]:,-&*!|>'\"#\n abcextends: high\n"), max_size=60).map("".join)
)
def test_no_text_raises_anything_else(tmp_path_factory, text):
    """Whatever the file holds, the outcome is a policy or a ConfigError."""
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load_policy(path).policy(), Policy)
    except ConfigError as error:
        assert str(path) in error.parameter  # noqa: PT017


def test_a_plugin_can_only_ask_for_less():
    """The limits of plugin.json hold where they are lower than the policy's."""
    asked = ResourceLimits(max_memory=MIB, max_cpu_time=10**9)
    limits = HIGH.tightened(asked).limits

    assert (limits.memory, limits.cpu_time) == (MIB, HIGH.limits.cpu_time)
    assert HIGH.tightened(ResourceLimits()) is HIGH


def test_the_host_programs_limits_tighten():
    """The limits of SandboxConfig hold where they are lower, each in its own unit."""
    wish = SandboxConfig(
        max_memory=MIB,
        max_cpu_time=5,
        max_execution_time=7,
        max_processes=1000,
        max_open_files=8,
        max_file_size=9,
        max_output=10,
    )
    limits = HIGH.granted(wish).limits

    assert (limits.memory, limits.cpu_time, limits.execution_time) == (MIB, 5, 7)
    assert (limits.tasks, limits.open_files, limits.file_size, limits.output) == (16, 8, 9, 10)


def test_grants_open_what_they_name():
    """A grant of the host program shows the files and opens the system calls that it needs, no others."""
    plain = names(MAXIMUM.syscalls["native"].serve)
    paths = MAXIMUM.granted(SandboxConfig(allowed_paths=("/srv/in", "/srv/out:rw")))
    system = MAXIMUM.granted(SandboxConfig(allow_fs=True))
    network = MAXIMUM.granted(SandboxConfig(allow_network=True))

    assert (paths.read, paths.write, paths.after_load) == (("/srv/in",), ("/srv/out",), "read-only")
    assert (paths.view, system.view, system.after_load) == ("engine", "system", "read-only")
    assert {"openat", "pwrite64"} <= names(paths.syscalls["native"].serve) - plain
    assert "pwrite64" not in names(system.syscalls["native"].serve)
    assert network.network
    assert "network_namespace" not in network.require
    assert "socket" in names(network.syscalls["native"].serve)
    assert MAXIMUM.granted(SandboxConfig()) == MAXIMUM


@pytest.mark.parametrize("path", ["srv", "/", "/srv/../etc", "/proc", "/sys/kernel:rw", "/plugin/x", ""])
def test_paths_that_cannot_be_granted(path):
    """A path that the jail could not show is refused, not ignored."""
    with pytest.raises(ConfigError, match=r"SandboxConfig\.allowed_paths"):
        MAXIMUM.granted(SandboxConfig(allowed_paths=(path,)))


def test_policies_are_values():
    """Equal policies are equal and hash alike, so that plans can be shared."""
    one, two = (HIGH.granted(SandboxConfig(max_memory=MIB)) for _ in range(2))

    assert one == two
    assert hash(one) == hash(two)
    assert one != HIGH


@pytest.mark.parametrize("level", IsolationLevel)
def test_files_are_written_for_people(level):
    """The shipped files are commented and have one unit-carrying value per limit."""
    from importlib.resources import files

    text = files("frys_runtime.policies").joinpath(f"{level}.yaml").read_text()

    assert text.startswith("# ")
    assert re.search(r"^  memory: \d+(MiB|GiB)\b", text, re.MULTILINE)
