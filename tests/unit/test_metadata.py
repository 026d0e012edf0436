"""plugin.json: what is accepted, and the one sentence for everything that is not."""

import contextlib
import json

import pytest
from hypothesis import given, strategies as st

from frys_runtime.config import Permission
from frys_runtime.errors import ConfigError
from frys_runtime.metadata import MAX_BYTES, Events, Export, Format, Metadata, parse_metadata
from frys_runtime.policy import FORMATS

FULL = {
    "id": "my-plugin",
    "name": "My Plugin",
    "version": "1.0.0",
    "description": "Counts words.",
    "author": "A. Author",
    "license": "MIT",
    "format": "wasm",
    "entry": "my_plugin.wasm",
    "capabilities": ["DataProcessing", "my own"],
    "permissions": ["Read", "Execute"],
    "resourceLimits": {"maxMemory": 67108864, "maxCpuTime": 1000, "maxExecutionTime": 30000},
    "dependencies": [{"pluginId": "other", "versionRange": "^1.2", "optional": False}],
    "exports": {"process": {"params": ["string"], "returns": "bytes"}},
    "events": {"publishes": {"data_ready": "bytes"}, "subscribes": ["tick"]},
}
GONE = object()


def parse(**changes: object) -> Metadata:
    document = {key: value for key, value in {**FULL, **changes}.items() if value is not GONE}
    return parse_metadata(json.dumps(document).encode(), "plugin.json")


def test_every_key_arrives():
    """A full plugin.json is parsed into the same values, in our spelling."""
    metadata = parse()

    assert (metadata.id, metadata.name, metadata.version) == ("my-plugin", "My Plugin", "1.0.0")
    assert (metadata.format, metadata.entry) == (Format.WASM, "my_plugin.wasm")
    assert metadata.capabilities == ("DataProcessing", "my own")
    assert metadata.permissions == {Permission.READ, Permission.EXECUTE}
    assert metadata.optional_permissions == frozenset()
    assert parse(optionalPermissions=["Network"]).optional_permissions == {Permission.NETWORK}
    limits = metadata.resource_limits
    assert (limits.max_memory, limits.max_cpu_time, limits.max_execution_time) == (67108864, 1000, 30000)
    assert [(one.plugin_id, one.version_range, one.optional) for one in metadata.dependencies] == [
        ("other", "^1.2", False)
    ]
    assert metadata.exports == {"process": Export(params=("string",), returns="bytes")}
    assert metadata.events == Events(publishes={"data_ready": "bytes"}, subscribes=("tick",))


def test_defaults_ask_for_nothing():
    """What is not said is not asked for."""
    metadata = parse_metadata(b'{"id":"a","version":"0.1.0","format":"python","entry":"a.py"}', "plugin.json")

    assert metadata.name == "a"
    assert not metadata.permissions
    assert not metadata.dependencies
    assert metadata.resource_limits.max_memory is None


def test_a_bare_file_is_its_stem():
    """A file without plugin.json has the id of its stem, version 0.0.0 and no permissions."""
    metadata = Metadata.for_file("counter", Format.JAVASCRIPT, "counter.js")

    assert (metadata.id, metadata.version, metadata.format) == ("counter", "0.0.0", Format.JAVASCRIPT)
    assert not metadata.permissions
    with pytest.raises(ConfigError, match="plugin_id="):
        Metadata.for_file("my counter", Format.JAVASCRIPT)


@pytest.mark.parametrize("name", Format)
def test_a_format_has_its_own_section(name):
    """The section that is named like the format becomes the options of its launcher."""
    assert parse(format=name, **{name: {"key": [1, None]}}).options == {"key": [1, None]}


def test_interpreter_may_stand_at_the_top():
    """The interpreter of a Python plugin is an option, wherever it is written."""
    assert parse(format="python", interpreter="main").options == {"interpreter": "main"}
    assert parse(format="python", python={"interpreter": "own"}).options == {"interpreter": "own"}


def test_a_native_plugin_may_name_a_system_library():
    """With native.library there need not be an entry."""
    metadata = parse(format="native", entry=GONE, native={"library": "libz.so.1"})

    assert metadata.entry == ""
    assert metadata.options == {"library": "libz.so.1"}


def test_formats_are_the_policies_formats():
    """The two modules that spell the formats, because neither may import the other, agree."""
    assert set(FORMATS) == set(Format)


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"foo": 1}, "foo", "known are"),
        ({"entri": "x"}, "entri", "did you mean entry?"),
        ({"options": {}}, "options", "not a key"),
        ({"id": GONE}, "id", "missing"),
        ({"id": 5}, "id", "string, not integer"),
        ({"id": "a b"}, "id", "letters"),
        ({"id": "../a"}, "id", "letters"),
        ({"id": "a" * 129}, "id", "128"),
        ({"id": ""}, "id", "letters"),
        ({"id": "a\n"}, "id", "letters"),
        ({"version": GONE}, "version", "missing"),
        ({"version": "1.0"}, "version", "semantic version"),
        ({"version": "01.0.0"}, "version", "semantic version"),
        ({"version": "1.0.0\n"}, "version", "semantic version"),
        ({"version": 1.0}, "version", "string, not number"),
        ({"format": GONE}, "format", "missing"),
        ({"format": "wsm"}, "format", "one of wasm, javascript"),
        ({"format": ["wasm"]}, "format", "one of wasm, javascript"),
        ({"entry": GONE}, "entry", "missing"),
        ({"entry": ""}, "entry", "missing"),
        ({"entry": "/etc/passwd"}, "entry", "inside the plugin's folder"),
        ({"entry": "../x.wasm"}, "entry", "inside the plugin's folder"),
        ({"entry": "a//x.wasm"}, "entry", "inside the plugin's folder"),
        ({"entry": "a\\x.wasm"}, "entry", "inside the plugin's folder"),
        ({"entry": "a\u0000"}, "entry", "inside the plugin's folder"),
        ({"format": "native", "entry": GONE}, "entry", "native.library"),
        ({"format": "native", "entry": GONE, "native": {"library": 1}}, "entry", "native.library"),
        ({"name": None}, "name", "not null"),
        ({"name": "x" * 300}, "name", "length <= 256"),
        ({"capabilities": "DataProcessing"}, "capabilities", "array, not string"),
        ({"capabilities": [""]}, "capabilities[0]", "length >= 1"),
        ({"permissions": ["Read", "Fly"]}, "permissions[1]", "Read, Write, Network, Execute, Admin"),
        ({"permissions": [1]}, "permissions[0]", "string, not integer"),
        ({"resourceLimits": []}, "resourceLimits", "object, not array"),
        ({"resourceLimits": {"memory": 1}}, "resourceLimits.memory", "no key that belongs here"),
        ({"resourceLimits": {"maxMemory": "64MiB"}}, "resourceLimits.maxMemory", "not string"),
        ({"resourceLimits": {"maxMemory": 0}}, "resourceLimits.maxMemory", ">= 1"),
        ({"resourceLimits": {"maxMemory": True}}, "resourceLimits.maxMemory", "not boolean"),
        ({"resourceLimits": {"maxCpuTime": 1.5}}, "resourceLimits.maxCpuTime", "not number"),
        ({"version": "1٢.0.0"}, "version", "semantic version"),
        (
            {"dependencies": [{"pluginId": "a", "versionRange": "newest"}]},
            "dependencies[0].versionRange",
            "none of the forms",
        ),
        (
            {"dependencies": [{"pluginId": "a", "versionRange": ">=2 <1"}]},
            "dependencies[0].versionRange",
            "exclude each other",
        ),
        (
            {"exports": {"f": {"params": ["int"], "names": ["a", "b"]}}},
            "exports.f.names",
            "one name for each",
        ),
        ({"exports": {"f": {"params": ["int"], "names": ["a b"]}}}, "exports.f.names[0]", "letters, digits"),
        ({"dependencies": [{"versionRange": "*"}]}, "dependencies[0].pluginId", "missing"),
        ({"dependencies": [{"pluginId": "a b"}]}, "dependencies[0].pluginId", "letters"),
        ({"dependencies": [{"pluginId": "a"}] * 257}, "dependencies", "of length <= 256"),
        ({"dependencies": {"other": "1"}}, "dependencies", "array, not object"),
        ({"exports": []}, "exports", "object, not array"),
        ({"exports": {"f": {"params": "string"}}}, "exports.f.params", "array, not string"),
        ({"exports": {"f": {"parms": []}}}, "exports.f.parms", "no key that belongs here"),
        ({"exports": {"f": 1}}, "exports.f", "object, not integer"),
        ({"exports": {"": {}}}, "exports", "1 to 128 characters"),
        ({"events": {"publishes": {"x": 1}}}, "events.publishes.x", "string, not integer"),
        ({"events": {"publishes": []}}, "events.publishes", "object, not array"),
        ({"events": {"emits": {}}}, "events.emits", "no key that belongs here"),
        ({"events": 1}, "events", "object, not integer"),
        ({"wasm": []}, "wasm", "must be an object"),
        ({"python": {}}, "python", "this one is 'wasm'"),
        ({"interpreter": "own"}, "interpreter", "for Python plugins"),
        ({"format": "python", "interpreter": "mine"}, "interpreter", '"own" or "main"'),
        ({"format": "python", "interpreter": ["own"]}, "interpreter", '"own" or "main"'),
        (
            {"format": "python", "interpreter": "own", "python": {"interpreter": "main"}},
            "interpreter",
            "stand there once",
        ),
    ],
)
def test_a_wrong_value_is_one_clear_sentence(changes, key, words):
    """Each mistake is a ConfigError that names the file and the key, and says what would be right."""
    with pytest.raises(ConfigError) as caught:
        parse(**changes)

    assert caught.value.parameter == f"plugin.json: {key}"
    assert words in caught.value.reason
    assert "`" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"{", "line 1, column 2"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (b"\xff", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"id": NaN}', "NaN"),
        (b'{"id": -Infinity}', "-Infinity"),
        (b'{"id": ' + b"1" * 5000 + b"}", "64 bits"),
        (b'{"wasm": {"a": 18446744073709551616}}', "64 bits"),
        (b'{"wasm": {"a": "\\ud800"}}', "surrogates"),
        (b'{"\\ud800": 1}', "surrogates"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"wasm": ' + b"[" * 70 + b"]" * 70 + b"}", "deeper than 64"),
        (b" " * (MAX_BYTES + 1), "at most 1048576"),
        (b'{"id": "a", "id": "b"}', "stands there twice"),
        (b'{"wasm": {"a": 1, "a": 2}}', "stands there twice"),
    ],
)
def test_what_is_no_json_object_is_refused(data, words):
    """Bytes that are no plain JSON object end in a ConfigError that says why."""
    with pytest.raises(ConfigError, match=r"plugin\.json") as caught:
        parse_metadata(data, "plugin.json")

    assert words in caught.value.reason


@pytest.mark.parametrize(
    "changes", [{"\x1b[31mkey": 1}, {"id": "\x1b[31m"}, {"exports": {"\x1b": 1}}, {"format": "\x1b"}]
)
def test_errors_are_fit_for_a_terminal(changes):
    """An untrusted file's control characters do not reach the terminal by way of an error."""
    with pytest.raises(ConfigError) as caught:
        parse(**changes)

    assert str(caught.value).isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=10), values, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*FULL, "python", "native", "interpreter", "x"]), JSON, max_size=16))
def test_no_json_raises_anything_else(changes):
    """Whatever values stand at the known keys, the outcome is metadata or a ConfigError."""
    with contextlib.suppress(ConfigError):
        assert isinstance(parse(**changes), Metadata)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_raise_anything_else(data):
    """Whatever the bytes, the outcome is metadata or a ConfigError."""
    with pytest.raises(ConfigError):
        parse_metadata(data, "plugin.json")


@given(
    st.sampled_from([b"\x00", b"\xff", b"{", b"}", b'"', b",", b"\\u0000", b"1e999", b"\n"]),
    st.integers(0, 600),
)
def test_damaged_files_raise_nothing_else(damage, at):
    """A file with a few bytes put in anywhere is metadata or a ConfigError."""
    data = json.dumps(FULL).encode()
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_metadata(data[:at] + damage + data[at:], "plugin.json"), Metadata)
