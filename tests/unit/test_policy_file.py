"""Policy files of deployments: where a value stands, which section holds for a plugin, who decided what."""

import os
import re
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import given, strategies as st

from frys_runtime.config import IsolationLevel, Permission, SandboxConfig
from frys_runtime.errors import ConfigError, LoadFailed, SandboxError
from frys_runtime.isolation import IsolationManager, compile_filters
from frys_runtime.metadata import Format, Metadata, ResourceLimits
from frys_runtime.policy import (
    KEYS,
    LIMITS,
    Policy,
    level_file,
    level_policy,
    load_policy,
    settings,
)
from frys_runtime.policy_check import Kind, lint
from frys_runtime.policy_file import Document
from frys_runtime.policy_grants import MessageGrant
from frys_runtime.policy_http import NetworkGrant
from frys_runtime.policy_signatures import Signatures
from frys_runtime.policy_syscalls import FORMATS
from frys_runtime.policy_terms import quantity

MIB = 1 << 20
HIGH, MAXIMUM = level_policy(IsolationLevel.HIGH), level_policy(IsolationLevel.MAXIMUM)


def names(rules) -> set[str]:
    return {rule.name for rule in rules}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("extends: high\nlimits:\n    memory: 1\n", "line 3, column 5: limits.memory"),
        ("extends: high\nread:\n- /srv\n-   x\n", "line 4, column 5: read.1"),
        ("extends: high\nplugins: {a: {view: x}}\n", "line 2, column 15: plugins.a.view"),
        ("extends: high\nnetwrk: 1\n", "line 2, column 1: netwrk"),
        ("extends: high\nlimits: {tasks: 1, tasks: 2}\n", "line 2, column 20: limits.tasks"),
        ("extends: high\n? [a]\n: b\n", "line 2, column 3"),
    ],
)
def test_errors_name_line_and_column(written, text, place):
    """The place in an error is where the key, or the item of a list, begins."""
    with pytest.raises(ConfigError) as caught:
        written(text)

    assert f"policy.yaml, {place}" in caught.value.parameter


def test_sections_override_every_key(written):
    """A section says what is different for its plugins; all else is as at the top of the file."""
    file = written(
        "extends: high\n"
        "description: all\n"
        "limits: {memory: 32MiB, tasks: 8}\n"
        "syscalls: {forbid: {native: {serve: {getcpu: x, mremap: all}}}}\n"
        "plugins:\n"
        "  acme-*:\n"
        "    description: acme\n"
        "    limits: {memory: 16MiB, cpu: 0.5 cpu, inodes: 99, tmp: 1MiB}\n"
        "    view: system\n"
        "    after_load: read-only\n"
        "    read: [/srv]\n"
        "    write: [/opt]\n"
        "    network: true\n"
        "    processes: true\n"
        "    threads: false\n"
        "    permissions: [Admin]\n"
        "    require: [seccomp]\n"
        "    on_violation: deny\n"
        "    max_violations: 3\n"
        "    syscalls: {allow: {native: {serve: {getcpu: x}}}}\n"
    )
    all_, acme = file.policy("other"), file.policy("acme-one")

    assert file.sections == ("acme-*",)
    assert all_ == file.policy()
    assert (all_.description, all_.limits.memory, all_.limits.tasks) == ("all", 32 * MIB, 8)
    assert (all_.on_violation, all_.max_violations, all_.permissions) == ("kill", 0, HIGH.permissions)
    limits = acme.limits
    assert (limits.memory, limits.cpu, limits.inodes, limits.tmp, limits.tasks) == (16 * MIB, 0.5, 99, MIB, 8)
    assert (acme.description, acme.view, acme.read, acme.write) == ("acme", "system", ("/srv",), ("/opt",))
    assert (acme.network, acme.processes, acme.threads) == (True, True, False)
    assert (acme.permissions, acme.require) == ({Permission.ADMIN}, {"seccomp"})
    assert (acme.on_violation, acme.max_violations) == ("deny", 3)
    assert "getcpu" in names(acme.syscalls["native"].serve)
    assert "mremap" not in names(acme.syscalls["native"].serve)


def test_a_section_may_extend_another_level(written):
    """Then it starts from that level, with what the top of the file says over it."""
    file = written(
        "extends: maximum\n"
        "limits: {memory: 1MiB}\n"
        "syscalls: {forbid: {common: {serve: {getcpu: x}}}}\n"
        "plugins: {own: {extends: standard, limits: {tasks: 3}}}\n"
    )
    own = file.policy("own")

    assert (own.level, own.mode, own.processes) == (IsolationLevel.STANDARD, "deny", True)
    assert (own.limits.memory, own.limits.tasks) == (MIB, 3)
    assert "getcpu" in names(own.syscalls["wasm"].load)
    assert file.policy("x").level is IsolationLevel.MAXIMUM


@pytest.mark.parametrize(
    ("plugin_id", "section"),
    [
        ("acme", "acme"),
        ("acme-1", "acme-*"),
        ("acme-image-1", "acme-image-*"),
        ("acme-image-", "acme-image-*"),
        ("bcme-1", "?cme-*"),
        ("x.acme", ""),
        ("xacme-1", ""),
        ("ACME", ""),
    ],
)
def test_the_most_specific_section_holds(written, plugin_id, section):
    """The id itself first, then the pattern with the most letters; dots are dots; the order is no matter."""
    patterns = ["acme-*", "?cme-*", "acme", "acme-image-*"]
    for order in (patterns, patterns[::-1]):
        file = written("extends: high\nplugins:\n" + "".join(f"  '{one}': {{}}\n" for one in order))
        assert file.section(plugin_id) == section


def test_equally_specific_patterns_are_refused(written):
    """Which of two patterns holds is never chance: a plugin that both match gets no policy."""
    file = written("extends: high\nplugins: {a-*: {network: true}, '*-b': {}}\n")

    assert file.policy("a-x").network
    with pytest.raises(ConfigError, match="'a-b' equally well"):
        file.policy("a-b")


def test_a_call_is_added_for_one_format_and_phase(written):
    """`allow` adds to loading or for good, `common` to every format."""
    file = written(
        "extends: maximum\n"
        "syscalls: {allow: {wasm: {load: {getcpu: x}, serve: {uname: x}}, common: {serve: {times: x}}}}\n"
    )
    wasm, native = file.policy().syscalls["wasm"], file.policy().syscalls["native"]

    assert "getcpu" in names(wasm.load) - names(wasm.serve)
    assert {"uname", "times"} <= names(wasm.serve)
    assert "times" in names(native.serve)
    assert "uname" not in names(native.serve)


def test_a_call_is_taken_for_one_format_and_phase(written):
    """`forbid` takes a call after loading, or altogether, also where a grant opens it."""
    file = written(
        "extends: high\n"
        "syscalls: {forbid: {wasm: {serve: {openat: x}, load: {mremap: x}}, common: {load: {clone3: x}}}}\n"
    )
    wasm, native = file.policy().syscalls["wasm"], file.policy().syscalls["native"]

    assert "openat" in names(wasm.load) - names(wasm.serve)
    assert "mremap" not in names((*wasm.load, *wasm.serve))
    assert "clone3" not in names((*wasm.enosys, *native.enosys))
    assert {"openat", "mremap"} <= names(native.serve)


def test_level_standard_takes_changes_too(written):
    """Where a level lists what is forbidden, `forbid` adds to that list and `allow` takes from it."""
    file = written(
        "extends: standard\n"
        "syscalls:\n"
        "  allow: {native: {serve: {ptrace: a debugger, clone3: x}}}\n"
        "  forbid: {common: {serve: {uname: x, kill: {when: arg1 == 9, why: x}}}}\n"
    )
    native, wasm = file.policy().syscalls["native"], file.policy().syscalls["wasm"]

    assert not {"ptrace", "clone3"} & names((*native.load, *native.enosys))
    assert {"ptrace", "uname", "kill"} <= names(wasm.load)
    assert next(rule for rule in wasm.load if rule.name == "kill").args


def test_later_changes_decide(written):
    """A section's change holds over the file's own."""
    file = written(
        "extends: maximum\n"
        "syscalls: {allow: {native: {serve: {getcpu: x}}}}\n"
        "plugins: {a: {syscalls: {forbid: {native: {load: {getcpu: x}}}}}}\n"
    )

    assert "getcpu" in names(file.policy("b").syscalls["native"].serve)
    assert "getcpu" not in names(file.policy("a").syscalls["native"].serve)


def test_changes_can_be_compiled(written):
    """What a deployment adds and takes becomes filters like any list."""
    file = written(
        "extends: maximum\n"
        "syscalls: {allow: {common: {serve: {kill: {when: [arg1 == 0, arg1 > 64], why: x}}}},"
        " forbid: {common: {serve: {mmap: x}, load: {futex: x}}}}\n"
    )
    for name in FORMATS:
        changed = compile_filters(file.policy().syscalls[name])
        assert all(changed)
        assert changed != compile_filters(MAXIMUM.syscalls[name])


def test_every_value_has_an_origin(written):
    """The file and line that decided a value are known for all of them, over every layer."""
    file = written(
        "extends: high\n"
        "limits:\n"
        "  memory: 32MiB\n"
        "syscalls: {allow: {native: {serve: {getcpu: x}}}}\n"
        "plugins:\n"
        "  a*:\n"
        "    threads: false\n"
        "    limits: {tasks: 1}\n"
    )
    origins = file.origins("abc")
    name = file.name

    assert origins["level"] == f"{name}, line 1"
    assert origins["limits.memory"] == f"{name}, line 3"
    assert origins["syscalls.allow.native.serve.getcpu"] == f"{name}, line 4"
    assert (origins["threads"], origins["limits.tasks"]) == (f"{name}, line 7", f"{name}, line 8")
    assert origins["limits.tmp"].startswith("high.yaml, line ")
    assert origins["limits.stack"].startswith("maximum.yaml, line ")
    assert file.origins("x")["threads"].startswith("high.yaml")
    lists = {f"syscalls.{name}.{phase}" for name in FORMATS for phase in ("load", "serve", "enosys")}
    assert settings(file.policy("abc")).keys() - lists == origins.keys()


def plugin(*permissions: str, optional: tuple[str, ...] = (), **more: object) -> Metadata:
    return Metadata(
        id="p",
        version="1.0.0",
        format=Format.NATIVE,
        permissions=frozenset(map(Permission, permissions)),
        optional_permissions=frozenset(map(Permission, optional)),
        **more,
    )


def test_explain_follows_a_value_to_its_end(written):
    """After the file come the plugin's own limits and the host program, each named where it decided."""
    written("extends: high\nplugins: {p: {limits: {open_files: 9}}}\n")
    manager = IsolationManager(policy=written("extends: high\nplugins: {p: {limits: {tasks: 9}}}\n").name)
    asked = plugin(resource_limits=ResourceLimits(max_memory=MIB, max_cpu_time=10**9))
    wishes = [SandboxConfig(max_open_files=5), SandboxConfig(allow_network=True)]
    found = {one.key: one for one in manager.explain(asked, wishes=wishes)}

    assert (found["limits.memory"].value, found["limits.memory"].origin) == (MIB, "plugin.json")
    assert found["limits.cpu_time"].origin.startswith("high.yaml")
    assert (found["limits.open_files"].value, found["limits.open_files"].origin) == (5, "the host program")
    assert (found["network"].value, found["network"].origin) == (True, "the host program")
    assert found["limits.tasks"].origin == f"{manager.file.name}, line 2"
    assert "socket" in found["syscalls.native.serve"].value
    other = {one.key: one for one in manager.explain(asked, plugin_id="q")}
    assert other["limits.tasks"].value == HIGH.limits.tasks
    assert {one.key for one in manager.explain(asked, "maximum")} >= settings(MAXIMUM).keys()


@pytest.mark.parametrize(
    ("text", "permissions"),
    [
        ("extends: maximum\n", "Execute"),
        ("extends: high\n", "Execute Read Write"),
        ("extends: high\nlimits: {tmp: 0}\n", "Execute Read"),
        ("extends: high\nlimits: {tmp: 0}\nwrite: [/srv]\n", "Execute Read Write"),
        ("extends: maximum\nnetwork: true\n", "Execute Network"),
        ("extends: maximum\nafter_load: read-only\n", "Execute Read"),
        ("extends: high\npermissions: [Execute, Admin]\n", "Execute Admin"),
        ("extends: high\npermissions: []\n", ""),
        ("extends: high\npermissions: []\nplugins: {p: {permissions: granted}}\n", "Execute Read Write"),
    ],
)
def test_what_may_be_asked_for_is_what_is_granted(written, text, permissions):
    """Unless the policy says it outright, the grants decide; a plugin loads that asks for no more."""
    manager = IsolationManager(policy=written(text).name)

    assert manager.file.policy("p").permissions == set(permissions.split())
    assert manager.confine(plugin(*permissions.split())).policy == manager.file.policy("p")


def test_what_is_not_granted_is_refused_in_one_sentence():
    """All that was asked for and is not granted stands in one error, which says how to grant it."""
    manager = IsolationManager()
    with pytest.raises(LoadFailed) as caught:
        manager.confine(plugin("Read", "Execute", "Network", "Admin"), path="./p")

    assert caught.value.path == "./p"
    assert "asks for Admin and Network and Read, which" in caught.value.reason
    assert "`network: true`" in caught.value.reason
    assert "Execute" not in caught.value.reason


def test_optional_permissions_are_no_reason_to_refuse():
    """A plugin that can do without loads without, whether it asks twice or not."""
    manager = IsolationManager()

    assert manager.confine(plugin("Execute", "Read", optional=("Read", "Network"))).policy == MAXIMUM


def test_the_host_programs_grants_count():
    """What the host program grants may be asked for, also where the policy has a list of its own."""
    wish = SandboxConfig(allow_network=True, allowed_paths=("/srv:rw",))
    asked = plugin("Read", "Write", "Network")

    assert IsolationManager().confine(asked, wishes=[wish]).policy.network
    strict = level_policy(IsolationLevel.MAXIMUM).__class__(
        **{**{name: getattr(MAXIMUM, name) for name in MAXIMUM.__struct_fields__}, "asks": frozenset()}
    )
    assert strict.granted(wish).permissions == {Permission.READ, Permission.WRITE, Permission.NETWORK}


def test_the_id_is_that_under_which_it_is_loaded(written):
    """The host program's word about an id goes before the plugin's own claim."""
    manager = IsolationManager(policy=written("extends: high\nplugins: {p: {network: true}}\n").name)

    assert manager.policy(plugin()).network
    assert not manager.policy(plugin(), plugin_id="mine").network


def test_a_quota_that_cannot_be_enforced_is_refused(written):
    """Where no cgroup limits the CPU, a policy that wants it gets no plugin; else the cgroup has it."""
    manager = IsolationManager(policy=written("extends: high\nlimits: {cpu: 0.25 cpu}\n").name)
    if "cpu" in manager.cgroups.controllers:
        assert manager.confine(plugin()).cgroup.cpu == 0.25
    manager.cgroups = manager.cgroups._replace(controllers=frozenset())
    with pytest.raises(SandboxError, match="cpu: none"):
        manager.confine(plugin())
    assert IsolationManager().confine(plugin()).cgroup.cpu is None


def test_a_bandwidth_that_cannot_be_enforced_is_refused(written):
    """Where nothing limits the use of disks, a policy that wants it gets no plugin; without files it does."""
    text = "extends: high\nview: engine\nlimits: {storage_read: 1MiB/s}\n"
    manager = IsolationManager(policy=written(text).name)
    for controllers in ({"memory", "pids", "cpu"}, set()):
        manager.cgroups = manager.cgroups._replace(controllers=frozenset(controllers))
        with pytest.raises(SandboxError, match=r"cgroup v2's controller io.*storage_read: none"):
            manager.confine(plugin())
    manager.cgroups = manager.cgroups._replace(controllers=frozenset({"io"}))
    assert manager.confine(plugin()).cgroup.storage == ()


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("limits.storage_read", 10 * MIB, "10MiB/s"),
        ("limits.storage_read", None, "none"),
        ("limits.memory", 64 * MIB, "64MiB"),
        ("memory", 1000, "1000B"),
        ("limits.cpu_time", 1500, "1500ms"),
        ("limits.load_time", 60_000, "1min"),
        ("limits.tasks", 5, "5"),
        ("limits.tmp", 0, "0"),
        ("limits.cpu", 0.5, "0.5 cpu"),
        ("limits.cpu", None, "none"),
    ],
)
def test_quantities_are_shown_as_they_are_written(key, value, text):
    """A limit is shown with the largest unit that says it exactly."""
    assert quantity(key, value) == text


@given(st.sampled_from(sorted(LIMITS)), st.integers(1, 1 << 40), st.integers(1, 409_600))
def test_shown_quantities_are_read_back(tmp_path_factory, name, amount, hundredths):
    """What is shown of a limit can be written into a file and means the same."""
    value = hundredths / 100 if name == "cpu" else amount
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(f"extends: standard\nlimits: {{{name}: {quantity(name, value)}}}\n")

    assert getattr(load_policy(path).policy().limits, name) == value


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
words = st.sampled_from(
    [*KEYS, *LIMITS, "plugins", "allow", "forbid", "native", "common", "serve", "load", "brk", "when", "why"]
    + ["a*"] + [name for kind in (NetworkGrant, MessageGrant, Signatures) for name in kind.__struct_fields__]
)  # fmt: skip
values = st.sampled_from(
    [*["1MiB", "5s", "none", "granted", "high", "1MiB/s", "5/s", "AAAA"], "0.5 cpu", True, False, 0, 3, []]
) | st.sampled_from([["/srv"], ["a.example"], [443], ["GET"], ["*"]])  # fmt: skip
trees = st.recursive(
    scalars | values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(words, trees, max_size=6), st.sampled_from(IsolationLevel))
def test_no_tree_raises_anything_else(tmp_path_factory, tree, level):
    """Whatever stands under the known words, the outcome is policies or a ConfigError that names the file."""
    path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    path.write_text(yaml.safe_dump({**tree, "extends": str(level)}, allow_unicode=True))
    try:
        file = load_policy(path)
    except ConfigError as error:
        assert os.fspath(path) in error.parameter  # noqa: PT017
        return
    assert all(isinstance(hash(file.policy_of(section)), int) for section in ("", *file.sections))


@given(st.dictionaries(st.text(min_size=1, max_size=5), trees, max_size=6))
def test_the_reader_reads_what_yaml_says(tree):
    """The strict reader and PyYAML agree on every value of a file that has only text as keys."""
    text = yaml.safe_dump(tree, allow_unicode=True)
    read = Document("x.yaml", text.encode()).top.value

    assert repr(read) == repr(yaml.safe_load(text))


def test_levels_are_files_like_others():
    """A level's file has no sections, and its policy is the level's."""
    for level in IsolationLevel:
        assert level_file(level).sections == ()
        assert level_file(level).policy("anything") is level_policy(level)
        assert isinstance(level_policy(level), Policy)


DOCS = Path(__file__).resolve().parents[2] / "docs" / "policy.md"


def test_the_manual_is_true(written):
    """Each example of docs/policy.md is sound, and each key stands in its tables."""
    text = DOCS.read_text()
    examples = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    assert examples
    for example in examples:
        assert not [one for one in lint(written(example)) if one.kind is Kind.CONTRADICTORY]
    for key in ("network", "messages", "signatures"):
        *_, snippet = re.findall(rf"^    {key}:\n(?:      .*\n)+", text, re.MULTILINE)
        assert written(f"extends: high\n{textwrap.dedent(snippet)}").policy() != HIGH
    for key in (*KEYS, *LIMITS, *NetworkGrant.__struct_fields__, "plugins"):
        assert re.search(rf"^\|.*`{key}`", text, re.MULTILINE), key
