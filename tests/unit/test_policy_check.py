"""What is said about policies: findings, differences, and the schema for editors."""

from importlib.resources import files

import jsonschema
import pytest
import yaml

from frys_runtime.config import IsolationLevel
from frys_runtime.policy import KEYS, LIMITS, level_file, level_policy
from frys_runtime.policy_check import Kind, diff, lint
from frys_runtime.policy_schema import schema, schema_text

KEY = "A" * 43 + "="
OTHER_KEY = "B" * 42 + "A="
APART = (
    "extends: high\nsignatures: {required: true, threshold: 2, keys: {"
    f"a: {{key: {KEY}, ids: [x-*]}}, b: {{key: {OTHER_KEY}, ids: [y-*, z]}}}}}}\n"
)


@pytest.fixture(scope="module")
def validator():
    """The schema, which is one itself."""
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


@pytest.mark.parametrize("level", IsolationLevel)
def test_the_shipped_levels_are_without_findings(level):
    """Nothing in what Frys ships is wider than it says, contradictory or useless."""
    assert lint(level_file(level)) == []


@pytest.mark.parametrize(
    ("text", "kind", "key", "words"),
    [
        ("extends: high\nnetwork: true\n", Kind.WIDE, "network", "localhost"),
        ("extends: high\nread: [/etc/]\n", Kind.WIDE, "read", "/etc/ holds much"),
        ("extends: high\nwrite: [/root/.ssh]\n", Kind.WIDE, "write", "secrets"),
        ("extends: high\nread: [/no/such/path]\n", Kind.USELESS, "read", "not there"),
        ("extends: high\nread: [/a/b]\nwrite: [/a/b]\n", Kind.CONTRADICTORY, "read", "writable"),
        ("extends: high\nrequire: [seccomp]\n", Kind.WIDE, "require", "landlock"),
        ("extends: high\non_violation: log\n", Kind.WIDE, "on_violation", "learning"),
        (
            "extends: maximum\npermissions: [Execute, Read]\n",
            Kind.CONTRADICTORY,
            "permissions",
            "accepts Read",
        ),
        ("extends: high\npermissions: [Execute, Read]\n", Kind.CONTRADICTORY, "permissions", "lacks Write"),
        ("extends: high\npermissions: [Admin]\n", Kind.CONTRADICTORY, "permissions", "accepts Admin"),
        ("extends: high\nlimits: {tmp: 1GiB}\n", Kind.CONTRADICTORY, "limits.tmp", "is 1GiB, but counts as"),
        ("extends: high\nlimits: {memory: 900000GiB}\n", Kind.WIDE, "limits.memory", "no limit"),
        (
            "extends: maximum\nlimits: {cpu_time: 1min}\n",
            Kind.CONTRADICTORY,
            "limits.cpu_time",
            "of 30s on 1 ",
        ),
        (
            "extends: maximum\nlimits: {cpu: 0.01 cpu, cpu_time: 2s}\n",
            Kind.CONTRADICTORY,
            "limits.cpu_time",
            "on 0.01",
        ),
        ("extends: maximum\nlimits: {cpu: 2 cpu}\n", Kind.USELESS, "limits.cpu", "1 tasks"),
        (
            "extends: maximum\nlimits: {storage_read: 1MiB/s}\n",
            Kind.USELESS,
            "limits.storage_read",
            "shows it no file",
        ),
        ("extends: high\nlimits: {tasks: 1}\n", Kind.CONTRADICTORY, "threads", "limits.tasks is 1"),
        ("extends: high\nthreads: false\n", Kind.USELESS, "limits.tasks", "never be started"),
        ("extends: high\nnetwork: {hosts: ['*']}\n", Kind.WIDE, "network.0", "every host"),
        ("extends: high\nnetwork: {hosts: ['*.com']}\n", Kind.WIDE, "network.0", "top-level"),
        ("extends: high\nnetwork: [{hosts: [a.b]}, {hosts: ['*']}]\n", Kind.WIDE, "network.1", "every host"),
        (
            "extends: high\nnetwork: {hosts: [a.b, '*.c.d'], private: true}\n",
            Kind.WIDE,
            "network.0",
            "*.c.d:",
        ),
        ("extends: high\nnetwork: {hosts: [a.b, '::1']}\n", Kind.CONTRADICTORY, "network.0", "names ::1,"),
        (
            "extends: high\nnetwork: {hosts: [LocalHost]}\n",
            Kind.CONTRADICTORY,
            "network.0",
            "names localhost",
        ),
        (
            "extends: high\nnetwork: {hosts: [a.b], ports: [80], plain: true}\n",
            Kind.WIDE,
            "network.0",
            "read",
        ),
        (
            "extends: high\nnetwork: {hosts: ['::1'], private: true, plain: true}\n",
            Kind.USELESS,
            "network.0",
            "443, speaks TLS",
        ),
        (
            "extends: maximum\nnetwork: {hosts: [a.b], max_response: 65MiB}\n",
            Kind.CONTRADICTORY,
            "network.0",
            "64MiB of memory",
        ),
        (
            "extends: maximum\nnetwork: {hosts: [a.b], timeout: 31s}\n",
            Kind.CONTRADICTORY,
            "network.0",
            "a call may: 30s",
        ),
        (
            "extends: high\nnetwork: [{hosts: ['*.b.c']}, {hosts: [a.b.c, '*.a.b.c'], methods: [POST]}]\n",
            Kind.USELESS,
            "network.1",
            "never asked",
        ),
        ("extends: high\nmessages: {call: {'**': [f]}}\n", Kind.WIDE, "messages.call", "every plugin"),
        ("extends: high\nmessages: {publish: [a, '*']}\n", Kind.WIDE, "messages.publish", "every event"),
        ("extends: high\nmessages: {subscribe: ['*']}\n", Kind.WIDE, "messages.subscribe", "every event"),
        ("extends: high\nhost_functions: ['*']\n", Kind.WIDE, "host_functions", "also later ones"),
        (
            "extends: standard\nlimits: {kv: 0}\n",
            Kind.CONTRADICTORY,
            "host_functions",
            "limits.kv is 0",
        ),
        ("extends: high\nlimits: {kv: 1KiB}\n", Kind.USELESS, "limits.kv", "no kv"),
        ("extends: high\nhost_functions: []\nconfig: {a: 1}\n", Kind.USELESS, "config.a", "no config"),
        (
            APART,
            Kind.CONTRADICTORY,
            "signatures.threshold",
            "2 of the keys may sign",
        ),
        (
            f"extends: high\nsignatures: {{keys: {{a: {KEY}}}}}\n",
            Kind.USELESS,
            "signatures.keys",
            "not asked",
        ),
        ("extends: high\npermissions: [Network]\n", Kind.CONTRADICTORY, "permissions", "accepts Network"),
        (
            "extends: high\nsyscalls: {allow: {wasm: {serve: {brk: x}}}}\n",
            Kind.USELESS,
            "syscalls.allow.wasm.serve.brk",
            "already",
        ),
        (
            "extends: high\nsyscalls: {forbid: {common: {load: {ptrace: x}}}}\n",
            Kind.USELESS,
            "syscalls.forbid.common.load.ptrace",
            "not allowed anyway",
        ),
        (
            "extends: standard\nsyscalls: {forbid: {native: {serve: {ptrace: x}}}}\n",
            Kind.USELESS,
            "syscalls.forbid.native.serve.ptrace",
            "not allowed anyway",
        ),
        (
            "extends: standard\nsyscalls: {allow: {native: {serve: {read: x}}}}\n",
            Kind.USELESS,
            "syscalls.allow.native.serve.read",
            "already",
        ),
        (
            "extends: high\nsyscalls: {allow: {native: {serve: {bpf: x}}}}\n",
            Kind.WIDE,
            "syscalls.allow.native.serve.bpf",
            "even level standard forbids it: loads programs",
        ),
        (
            "extends: high\nsyscalls: {forbid: {native: {serve: {sendto: x}}}}\n",
            Kind.CONTRADICTORY,
            "syscalls.forbid.native.serve.sendto",
            "talks to the host",
        ),
    ],
)
def test_each_finding(written, text, kind, key, words):
    """What is too wide, contradictory or without effect is said of its key, with its line."""
    file = written(text)
    found = [one for one in lint(file) if (one.kind, one.key) == (kind, key)]

    assert any(words in one.text for one in found), lint(file)
    assert all(one.where.endswith(".yaml") or ", line " in one.where for one in found)


@pytest.mark.parametrize(
    "text",
    [
        "extends: maximum\n",
        "extends: high\nnetwork: false\nlimits: {memory: 128MiB, cpu: 0.5 cpu}\n",
        "extends: high\nsyscalls: {allow: {native: {serve: {getcpu: a counter}}}}\n",
        "extends: high\nsyscalls: {forbid: {native: {serve: {mremap: x}}, python: {load: {times: x}}}}\n",
        "extends: high\nsyscalls: {allow: {native: {serve: {mmap: maps code}}}}\n",
        "extends: standard\nsyscalls: {forbid: {native: {serve: {clone: no process, uname: x}}}}\n",
        "extends: standard\nsyscalls: {allow: {native: {serve: {clone: x}}}}\n",
        "extends: high\nplugins: {a-*: {}, b-*: {}, a: {}, a-b-*: {}}\n",
        "extends: high\nnetwork: {hosts: [a.example, '*.b.example'], methods: [POST]}\n",
        "extends: high\nnetwork: [{hosts: [a.example]}, {hosts: [a.example], ports: [8443]}]\n",
        "extends: high\nnetwork: {hosts: ['::1'], ports: [80], private: true, plain: true}\n",
        "extends: high\nlimits: {memory: 4MiB}\nnetwork: {hosts: [a.example]}\n",
        "extends: high\nmessages: {call: {'a*': ['*']}, publish: ['a.*'], subscribe: [b]}\n",
        "extends: high\nhost_functions: [kv, config]\nlimits: {kv: 1KiB}\nconfig: {a: 1}\n",
    ],
)
def test_sound_files_are_without_findings(written, text):
    """What changes a level a little and has an effect is no finding."""
    assert lint(written(text)) == []


def test_sections_are_checked_for_what_they_change(written):
    """A finding of the whole file is not repeated for each section; one of a section names it."""
    file = written("extends: high\nnetwork: true\nplugins:\n  a: {}\n  b: {limits: {tasks: 1}}\n")

    assert [(one.key, one.where) for one in lint(file)] == [
        ("network", f"{file.name}, line 2"),
        ("plugins.b.threads", lint(level_file(IsolationLevel.HIGH)) or lint(file)[1].where),
    ]


@pytest.mark.parametrize(
    ("one", "two", "meet"),
    [
        ("a-*", "*-b", True),
        ("a-*", "b-*", False),
        ("a?", "?b", True),
        ("a?", "b?", False),
        ("a*b", "a?b", True),
        ("*ab", "a*b", True),
        ("*a", "*b", False),
        ("?a*", "*b", True),
    ],
)
def test_patterns_that_meet_are_found(written, one, two, meet):
    """Two equally specific patterns are reported when one plugin could match both."""
    found = lint(written(f"extends: high\nplugins: {{'{one}': {{}}, '{two}': {{}}}}\n"))

    assert [finding.kind for finding in found] == [Kind.CONTRADICTORY] * meet


def test_a_pattern_for_everything_is_useless(written):
    """What is for every plugin belongs to the top of the file."""
    (found,) = lint(written("extends: high\nplugins: {'*': {}}\n"))

    assert (found.kind, found.key) == (Kind.USELESS, "plugins.*")


def test_diff_names_what_differs(written):
    """Each key that differs, with both values; of lists, what only one has."""
    one = level_policy(IsolationLevel.MAXIMUM)
    two = written(
        "extends: maximum\nlimits: {memory: 1MiB}\nrequire: [seccomp]\n"
        "syscalls: {allow: {wasm: {serve: {getcpu: x}}}, forbid: {wasm: {serve: {brk: x}}}}\n"
    ).policy()
    found = {difference.key: difference[1:] for difference in diff(one, two)}

    assert diff(one, one) == []
    assert found["limits.memory"] == (64 << 20, 1 << 20)
    assert "landlock" in found["require"][0]
    assert found["require"][1] == []
    assert found["syscalls.wasm.serve"] == (["brk"], ["getcpu"])
    assert found["syscalls.allow.wasm.serve.getcpu"] == (None, "x")
    assert "syscalls.native.serve" not in found


def test_the_schema_is_the_codes():
    """policies/policy.schema.json is what the code says; docs/policy.md has the command that writes it."""
    assert files("frys_runtime.policies").joinpath("policy.schema.json").read_text() == schema_text()


def test_the_schema_describes_every_key():
    """Each key and each limit has a description, for an editor to show."""
    keys = schema()["properties"]

    assert list(keys) == [*KEYS, "plugins"]
    assert list(schema()["$defs"]["limits"]["properties"]) == list(LIMITS)
    assert all(len(shape["description"]) > 3 for shape in keys.values())
    assert all(len(one["description"]) > 3 for one in schema()["$defs"]["limits"]["properties"].values())


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("extends: high\n", True),
        ("{}\n", False),
        ("extends: low\n", False),
        ("extends: high\nlimits: {memory: 1.5 GiB, cpu: 0.5 cpu, cpu_time: 500ms, tasks: 3, tmp: 0}\n", True),
        ("extends: high\nlimits: {cpu: none}\n", True),
        ("extends: high\nlimits: {memory: 64MB}\n", False),
        ("extends: high\nlimits: {cpu: 0.5}\n", False),
        ("extends: high\nlimits: {tasks: 0}\n", False),
        ("extends: high\nlimits: {tsks: 1}\n", False),
        ("extends: high\nnetwork: {hosts: []}\n", False),
        ("extends: high\nnetwork: {}\n", False),
        ("extends: high\nnetwork: []\n", False),
        ("extends: high\nnetwork: [true]\n", False),
        ("extends: high\nnetwork: {hosts: [a.b], ports: [0]}\n", False),
        ("extends: high\nnetwork: {hosts: [a.b], methods: [get]}\n", False),
        ("extends: high\nnetwork: {hosts: [a.b], methods: [CONNECT]}\n", False),
        ("extends: high\nnetwork: {hosts: [a.b], bandwidth: 1MiB}\n", False),
        ("extends: high\nnetwork: {hosts: [a.b], timeout: 0}\n", False),
        (
            "extends: high\nnetwork: [{hosts: ['*.b'], ports: [80], methods: [M-SEARCH], timeout: 5s}]\n",
            True,
        ),
        (
            "extends: high\nnetwork: {hosts: [a.b], bandwidth: 1 KiB/s, private: true, max_request: 0}\n",
            True,
        ),
        ("extends: high\nnetwork: {hosts: [a.b], bandwidth: none}\n", True),
        ("extends: high\nmessages: {call: {'a*': [f, '*']}, publish: [a], subscribe: []}\n", True),
        ("extends: high\nmessages: {call: {a: []}}\n", False),
        ("extends: high\nmessages: {call: [a]}\n", False),
        ("extends: high\nmessages: {publish: [a b]}\n", False),
        ("extends: high\nhost_functions: [kv, 'shop.*']\n", True),
        ("extends: high\nhost_functions: ['']\n", False),
        ("extends: high\nconfig: {a: [1, {b: null}]}\n", True),
        ("extends: high\nconfig: [1]\n", False),
        ("extends: high\nconfig: {'': 1}\n", False),
        (f"extends: high\nsignatures: {{required: true, keys: {{a: {KEY}}}, threshold: 1}}\n", True),
        (f"extends: high\nsignatures: {{keys: {{a: {{key: {KEY}, ids: ['x-*', y]}}}}}}\n", True),
        (f"extends: high\nsignatures: {{keys: {{a: {{key: {KEY}}}}}}}\n", True),
        (f"extends: high\nsignatures: {{keys: {{a: {{key: {KEY}, ids: []}}}}}}\n", False),
        ("extends: high\nsignatures: {keys: {a: {ids: [x]}}}\n", False),
        ("extends: high\nsignatures: {identities: {a: {identity: m, issuer: x, ids: [y]}}}\n", True),
        ("extends: high\nsignatures: {identities: {a: {identity: m}}}\n", False),
        ("extends: high\nsignatures: {keys: {a: AAAA}}\n", False),
        ("extends: high\nsignatures: {threshold: 0}\n", False),
        ("extends: high\nlimits: {messages: 10/s, kv: 0}\n", True),
        ("extends: high\nlimits: {messages: 10}\n", False),
        ("extends: high\nmessages: {}\n", True),
        ("extends: high\npermissions: [Read]\n", True),
        ("extends: high\npermissions: granted\n", True),
        ("extends: high\npermissions: [Fly]\n", False),
        (
            "extends: high\nsyscalls: {allow: {wasm: {serve: {brk: x, kill: {when: arg1 == 0, why: x}}}}}\n",
            True,
        ),
        ("extends: high\nsyscalls: {allow: {wasm: {serve: {brk: }}}}\n", False),
        ("extends: high\nsyscalls: {allow: {wasm: {srve: {}}}}\n", False),
        ("extends: high\nsyscalls: {serve: {}}\n", False),
        (
            "extends: high\nplugins: {'a-*': {extends: standard, on_violation: deny, max_violations: 3}}\n",
            True,
        ),
        ("extends: high\nplugins: {'a b': {}}\n", False),
        ("extends: high\nplugins: {a: {plugins: {}}}\n", False),
    ],
)
def test_schema_and_reader_agree(written, validator, text, right):
    """An editor accepts and marks the same files as the reader, where the two can be compared."""
    assert validator.is_valid(yaml.safe_load(text)) is right
    if right:
        written(text)
