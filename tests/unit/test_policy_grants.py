"""What a policy grants through the host: HTTP, messages, host functions, settings; and signatures."""

import base64
import json

import pytest
from hypothesis import given, strategies as st

from frys_runtime.config import IsolationLevel, Permission
from frys_runtime.errors import ConfigError, LoadFailed
from frys_runtime.isolation import IsolationManager
from frys_runtime.messages import MAX_CONFIG
from frys_runtime.metadata import Format, Metadata, parse_metadata
from frys_runtime.policy import Policy, level_policy, settings
from frys_runtime.policy_grants import MessageGrant, matches
from frys_runtime.policy_http import NetworkGrant
from frys_runtime.policy_signatures import Signatures, TrustedKey

STANDARD, HIGH, MAXIMUM = map(level_policy, IsolationLevel)
SAME_IDENTITY = (
    "signatures: {identities: {a: {identity: m, issuer: x}, b: {identity: m, issuer: x, ids: [y]}}}"
)
KEYS = [base64.b64encode(bytes([at]) * 32).decode() for at in range(3)]

SAME_NAME = f"signatures: {{keys: {{a: {KEYS[0]}}}, identities: {{a: {{identity: m, issuer: x}}}}}}"


def plugin(plugin_id: str = "p", *permissions: str, **more: object) -> Metadata:
    return Metadata(
        id=plugin_id,
        version="1.0.0",
        format=Format.NATIVE,
        permissions=frozenset(map(Permission, permissions)),
        **more,
    )


# The levels.


def test_levels_grant_little():
    """No level grants HTTP, messages or the host program's functions; only Standard has a store."""
    for level in (STANDARD, HIGH, MAXIMUM):
        assert (level.http, level.messages, level.signatures) == ((), MessageGrant(), Signatures())
        assert level.config == {}
        assert level.may_use("log")
        assert level.may_use("config")
        assert not level.may_use("anything")
    assert [level.may_use("kv") for level in (STANDARD, HIGH, MAXIMUM)] == [True, False, False]
    assert [level.limits.messages for level in (STANDARD, HIGH, MAXIMUM)] == [5000, 1000, 200]
    assert [level.limits.kv >> 20 for level in (STANDARD, HIGH, MAXIMUM)] == [16, 4, 1]


# Messages and host functions.


def test_what_may_be_called_published_received(policy):
    """A call needs a plugin and one of the functions granted for it; events need their type."""
    messages = policy(
        "messages: {call: {store: [get, 'list_*'], 'img-*': ['*']}, publish: [done, 'log.?'],"
        " subscribe: ['*']}"
    ).messages

    assert messages.call == (("store", ("get", "list_*")), ("img-*", ("*",)))
    assert messages.may_call("store", "get")
    assert messages.may_call("store", "list_all")
    assert messages.may_call("img-7", "anything")
    for target, function in (
        ("store", "put"),
        ("store", "got"),
        ("stores", "get"),
        ("img", "x"),
        ("", "get"),
    ):
        assert not messages.may_call(target, function)
    assert messages.may_publish("done")
    assert messages.may_publish("log.a")
    assert not messages.may_publish("log.ab")
    assert not messages.may_publish("log_a.")
    assert messages.may_subscribe("whatever")


def test_nothing_is_granted_by_silence(policy):
    """Without entries nothing may be called, published or received."""
    for messages in (
        MessageGrant(),
        policy("messages: {}").messages,
        policy("messages: {call: {}}").messages,
    ):
        assert not messages.may_call("a", "b")
        assert not messages.may_publish("a")
        assert not messages.may_subscribe("a")


def test_host_functions_are_named(policy):
    """Services and the host program's functions stand in one list, which replaces the level's."""
    granted = policy("host_functions: [kv, 'shop.*']")

    assert granted.host_functions == ("kv", "shop.*")
    assert granted.may_use("kv")
    assert granted.may_use("shop.price")
    assert not granted.may_use("log")
    assert not granted.may_use("shop")


@pytest.mark.parametrize(
    ("pattern", "name", "right"),
    [
        ("a", "a", True),
        ("a", "A", False),
        ("a.b", "axb", False),
        ("a?", "ab", True),
        ("a?", "a", False),
        ("*", "", True),
        ("a*", "a\nb", False),
        ("a*b*c", "a1b2b3c", True),
        ("a*bc*bc", "abcbc", True),
        ("a*bc*bc", "abc", False),
        ("*ab", "aab", True),
        ("*a*", "bab", True),
        ("[a]", "a", False),
        ("a|b", "a", False),
    ],
)
def test_patterns(pattern, name, right):
    """`*` is any text of one line, `?` any character, and all else is itself."""
    assert matches(pattern, name) is right


def test_hostile_names_cost_no_exponential_time():
    """A pattern with many stars gives an answer for a long name that almost matches."""
    assert not matches("*a" * 60 + "b", "a" * 20_000)
    assert matches("*a" * 60 + "*", "a" * 20_000)


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_patterns_match_as_in_a_shell(pattern, name):
    """The linear matcher agrees with the obvious one."""

    def obvious(at: int, to: int) -> bool:
        if at == len(pattern):
            return to == len(name)
        if pattern[at] == "*":
            return obvious(at + 1, to) or (to < len(name) and obvious(at, to + 1))
        return to < len(name) and pattern[at] in (name[to], "?") and obvious(at + 1, to + 1)

    assert matches(pattern, name) is obvious(0, 0)


# Settings.


def test_settings_are_merged_key_by_key(written):
    """plugin.json's defaults, the top of the file, the section: each later one has the last word on a key."""
    file = written(
        "extends: high\n"
        "config: {a: 1, b: 1, deep: {x: [1, 2.5, null, true, text, !!binary AQI=]}}\n"
        "plugins: {p: {config: {b: 2}}}\n"
    )
    manager = IsolationManager(policy=file.name)
    asked = plugin(config={"a": 0, "b": 0, "c": 0})
    deep = {"x": [1, 2.5, None, True, "text", b"\1\2"]}

    assert file.policy().config == {"a": 1, "b": 1, "deep": deep}
    assert file.policy("p").config == {"a": 1, "b": 2, "deep": deep}
    assert manager.confine(asked).config == {"a": 1, "b": 2, "c": 0, "deep": deep}
    assert manager.confine(asked, plugin_id="other").config["b"] == 1
    assert isinstance(hash(manager.confine(asked)), int)
    found = {one.key: (one.value, one.origin) for one in manager.explain(asked)}
    assert found["config.a"] == (1, f"{file.name}, line 2")
    assert found["config.b"] == (2, f"{file.name}, line 3")
    assert found["config.c"] == (0, "plugin.json")


def test_settings_cannot_be_changed_by_who_reads_them(policy):
    """A policy gives out copies."""
    holder = policy("config: {a: [1]}")
    holder.config["a"].append(2)

    assert holder.config == {"a": [1]}


def test_true_and_one_are_different_settings(policy):
    """Policies that differ only in a value's type are not equal."""
    assert policy("config: {a: true}") != policy("config: {a: 1}") != policy("config: {a: 1.0}")


def test_a_plugin_says_its_defaults():
    """plugin.json has an optional object `config`, within the same bounds."""
    about = {"id": "a", "version": "1.0.0", "format": "wasm", "entry": "a.wasm"}

    def parsed(config: object) -> Metadata:
        return parse_metadata(json.dumps({**about, "config": config}).encode(), "plugin.json")

    assert parsed({"a": {"b": [1]}}).config == {"a": {"b": [1]}}
    assert parse_metadata(json.dumps(about).encode(), "plugin.json").config == {}
    for config, words in (
        ([], "must be of type object"),
        ({"": 1}, "has 0 characters"),
        ({"k" * 129: 1}, "has 129 characters"),
        ({"a": "x" * MAX_CONFIG}, f"{MAX_CONFIG} are allowed"),
        ({"\x1b[2J" * 40: 1}, r"\x1b"),
    ):
        with pytest.raises(ConfigError) as caught:
            parsed(config)
        assert "config" in caught.value.parameter
        assert words in caught.value.reason
        assert caught.value.reason.isprintable()


# Signatures.


def test_signatures_are_read(policy):
    """Keys become their 32 bytes, by name."""
    found = policy(
        f"signatures: {{required: true, keys: {{a: {KEYS[0]}, b: {KEYS[1]}}}, threshold: 2}}"
    ).signatures

    first, second = TrustedKey("a", bytes([0]) * 32), TrustedKey("b", bytes([1]) * 32)
    assert found == Signatures(required=True, keys=(first, second), threshold=2)


def test_keys_for_some_plugins(policy):
    """A key may be for some ids alone, with which it is shown; for other plugins it is not there."""
    limited = f"{{key: {KEYS[1]}, ids: [acme-*, other]}}"
    found = policy(f"signatures: {{keys: {{a: {KEYS[0]}, b: {limited}, c: {{key: {KEYS[2]}}}}}}}")
    names = {
        plugin_id: [key.name for key in found.signatures.for_plugin(plugin_id).keys]
        for plugin_id in ("acme-images", "other", "acme", "others")
    }

    assert names == {
        "acme-images": ["a", "b", "c"],
        "other": ["a", "b", "c"],
        "acme": ["a", "c"],
        "others": ["a", "c"],
    }
    assert settings(found)["signatures.keys"] == {
        "a": KEYS[0],
        "b": f"{KEYS[1]} for acme-*, other",
        "c": KEYS[2],
    }


def test_identities_are_read(policy):
    """Identities of Sigstore count beside keys, and are shown with who vouches for them."""
    text = "identities: {ci: {identity: me@a.example, issuer: 'https://a.example', ids: [x-*]}}"
    found = policy(f"signatures: {{required: true, threshold: 2, keys: {{a: {KEYS[0]}}}, {text}}}")
    wanted = found.signatures

    assert [one.name for one in wanted.signers] == ["a", "ci"]
    assert [one.name for one in wanted.for_plugin("x-1").signers] == ["a", "ci"]
    assert [one.name for one in wanted.for_plugin("y").signers] == ["a"]
    assert settings(found)["signatures.identities"] == {"ci": "me@a.example by https://a.example for x-*"}


def test_a_section_decides_key_by_key(written):
    """A section may require what the top of the file only describes, and change one grant of several."""
    file = written(
        "extends: high\n"
        f"signatures: {{keys: {{a: {KEYS[0]}}}}}\n"
        "messages: {call: {x: [f]}, publish: [e]}\n"
        "plugins: {p: {signatures: {required: true}, messages: {publish: []}}}\n"
    )

    assert not file.policy().signatures.required
    assert file.policy("p").signatures.required
    assert file.policy("p").signatures.keys == file.policy().signatures.keys
    assert file.policy("p").messages == MessageGrant(call=(("x", ("f",)),))


def test_who_requires_signatures_loads_nothing_unsigned(written):
    """What is no package carries no signatures, so it is refused where they are required."""
    manager = IsolationManager(
        policy=written(
            f"extends: high\nplugins: {{p: {{signatures: {{required: true, keys: {{a: {KEYS[0]}}}}}}}}}\n"
        ).name
    )

    with pytest.raises(LoadFailed, match=r"1 of the keys a, and it has 0: .*only packages") as caught:
        manager.confine(plugin("p", "Admin"), path="./p")
    assert caught.value.path == "./p"
    assert manager.confine(plugin("q")).signatures == "none required"


# Wrong files.


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("messages: [a]", "2, column 1: messages", "mapping"),
        ("messages: {calls: {}}", "messages.calls", "did you mean call?"),
        ("messages: {call: [a]}", "messages.call", "mapping"),
        ("messages: {call: {a: f}}", "messages.call.a", "list"),
        ("messages: {call: {a: []}}", "messages.call.a", "at least one"),
        ("messages: {call: {'a b': [f]}}", "2, column 19: messages.call.a b", "no name"),
        ("messages: {call: {a: ['']}}", "messages.call.a.0", "no name"),
        ("messages: {publish: a}", "messages.publish", "list"),
        ("messages: {publish: [a, 1]}", "messages.publish", "texts"),
        ("messages: {subscribe: [\"a\\e[2J\"]}", "messages.subscribe.0", "no name"),
        (f"messages: {{subscribe: [{'a' * 129}]}}", "messages.subscribe.0", "1 to 128"),
        ("host_functions: log", "host_functions", "list"),
        ("host_functions: [log, 'a b']", "2, column 23: host_functions.1", "no name"),
        ("config: [1]", "config", "mapping"),
        ("config: {'': 1}", "2, column 10: config.", "has 0 characters"),
        ("config:\n  when: 2026-01-01", "3, column 3: config.when", "type date"),
        ("config: {a: 99999999999999999999}", "config.a", "64 bits"),
        (f"config: {{b: 1, a: {'x' * MAX_CONFIG}}}", "2, column 16: config.a", f"{MAX_CONFIG} are allowed"),
        (f"config: {{b: {'x' * 40_000}, a: {'x' * 40_000}}}", "config.a", "80011 bytes"),
        ("config: &a {b: *a}", ".b.b.b", "nested too deeply"),
        ("signatures: true", "signatures", "mapping"),
        ("signatures: {require: true}", "signatures.require", "did you mean required?"),
        ("signatures: {required: 1}", "signatures.required", "true or false"),
        ("signatures: {required: true}", "2, column 14: signatures.required", "without keys"),
        ("signatures: {keys: []}", "signatures.keys", "mapping"),
        ("signatures: {keys: {a: 5}}", "signatures.keys.a", "text"),
        ("signatures: {keys: {a: '!'}}", "signatures.keys.a", "base64"),
        ("signatures: {keys: {a: schlüssel}}", "signatures.keys.a", "base64"),
        ("signatures: {keys: {a: AAAA}}", "signatures.keys.a", "has 3 bytes"),
        (f"signatures: {{keys: {{a b: {KEYS[0]}}}}}", "signatures.keys.a b", "no name of a key"),
        (f"signatures: {{keys: {{a: {KEYS[0]}, b: {KEYS[0]}}}}}", "signatures.keys.b", "same key as a"),
        (f"signatures: {{keys: {{a: {{key: {KEYS[0]}, id: [x]}}}}}}", "keys.a.id", "did you mean ids?"),
        ("signatures: {keys: {a: {ids: [x]}}}", "signatures.keys.a", "has no key"),
        ("signatures: {keys: {a: {key: 5}}}", "signatures.keys.a.key", "text"),
        (f"signatures: {{keys: {{a: {{key: {KEYS[0]}, ids: []}}}}}}", "keys.a.ids", "at least one"),
        (f"signatures: {{keys: {{a: {{key: {KEYS[0]}, ids: x}}}}}}", "keys.a.ids", "list of texts"),
        (f"signatures: {{keys: {{a: {{key: {KEYS[0]}, ids: [a b]}}}}}}", "signatures.keys.a.ids.0", "no id"),
        ("signatures: {identities: [a]}", "signatures.identities", "mapping"),
        ("signatures: {identities: {a: me}}", "signatures.identities.a", "mapping"),
        ("signatures: {identities: {a: {identity: me}}}", "signatures.identities.a", "no issuer"),
        ("signatures: {identities: {a: {identity: 5, issuer: x}}}", "identities.a.identity", "text"),
        ("signatures: {identities: {a b: {identity: m, issuer: x}}}", "identities.a b", "no name"),
        ("signatures: {identities: {a: {identity: m, issuer: x, id: [y]}}}", "identities.a.id", "mean ids?"),
        (SAME_IDENTITY, "identities.b", "same identity as a"),
        (SAME_NAME, "signatures.identities", "the name a, which a key has"),
        ("signatures: {threshold: 0}", "signatures.threshold", "at least 1"),
        (f"signatures: {{keys: {{a: {KEYS[0]}}}, threshold: 2}}", "signatures.threshold", "only 1 keys"),
        ("limits: {messages: 5}", "limits.messages", "one of the units /s"),
        ("limits: {messages: 0/s}", "limits.messages", "at least 1"),
        ("limits: {messages: 0.5/s}", "limits.messages", "at least 1"),
        ("limits: {messages: 5/min}", "limits.messages", "/s"),
        ("limits: {kv: 5}", "limits.kv", "KiB"),
        ("plugins: {a: {signatures: {required: true}}}", "plugins.a.signatures.required", "without keys"),
    ],
)  # fmt: skip
def test_a_wrong_grant_is_one_clear_sentence(policy, text, place, words):
    """Each mistake is a ConfigError that names file, line, column and key, and says what would be right."""
    with pytest.raises(ConfigError) as caught:
        policy(text)

    assert "policy.yaml, line " in caught.value.parameter
    assert caught.value.parameter.endswith(place)
    assert words in caught.value.reason


def test_every_value_has_its_place(written):
    """What is granted is shown with the file and line that decided it, each grant of a list with its own."""
    file = written(
        "extends: high\n"
        "network:\n"
        "  - {hosts: [a.b]}\n"
        "  - {hosts: [c.d]}\n"
        "messages:\n"
        "  publish: [x]\n"
        "plugins: {p: {network: false, host_functions: []}}\n"
    )
    name, said = file.name, settings(file.policy())

    assert file.origins()["network.1"] == f"{name}, line 4"
    assert file.origins()["messages.publish"] == f"{name}, line 6"
    assert file.origins()["messages.call"].startswith("maximum.yaml, line ")
    assert file.origins()["signatures.keys"].startswith("maximum.yaml, line ")
    assert file.origins("p")["host_functions"] == f"{name}, line 7"
    assert (said["network"], said["network.0"]) == (False, NetworkGrant(hosts=("a.b",)))
    assert "network.0" not in settings(file.policy("p"))
    assert "network.0" not in file.origins("p")
    for section in ("", "p"):
        lists = {key for key in settings(file.policy(section)) if key.startswith("syscalls.")}
        assert settings(file.policy(section)).keys() - lists == file.origins(section).keys()


def test_policies_with_grants_are_values(policy):
    """Equal policies hash alike, whatever they grant."""
    text = "network: {hosts: [a.b]}\nmessages: {call: {a: [f]}}\nconfig: {a: {b: [1]}}"

    assert policy(text) == policy(text)
    assert hash(policy(text)) == hash(policy(text))
    assert isinstance(policy(text), Policy)
