"""Manifests of Extism's: what they become, and every mistake told with its key."""

import base64
import contextlib
import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from frys_runtime import extism_manifest
from frys_runtime.config import Permission
from frys_runtime.errors import ConfigError, InvalidFormat, LoadFailed
from frys_runtime.extism_manifest import parse_manifest
from frys_runtime.loader import PluginLoader
from frys_runtime.metadata import Format, Metadata

WASM = b"\0asm\x01\0\0\0"
OTHER = WASM + b"\x00\x05\x04name"


def parse(document: object, name: str = "m.json") -> extism_manifest.Manifest:
    return parse_manifest(json.dumps(document).encode(), name, "mine")


def wrong(document: object) -> ConfigError:
    """Parse what must not parse."""
    with pytest.raises(ConfigError) as caught:
        parse(document)
    return caught.value


@pytest.fixture
def folder(tmp_path):
    """A folder with two modules and, when called, a manifest."""
    (tmp_path / "plugin.wasm").write_bytes(WASM)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "lib.wasm").write_bytes(OTHER)

    def write(document: object, name: str = "mine.json") -> Path:
        (tmp_path / name).write_text(document if isinstance(document, str) else json.dumps(document))
        return tmp_path / name

    return write


# ---- what it becomes


def test_everything_that_a_manifest_says():
    """Modules, settings, limits and wishes, as a plugin.json would have them."""
    metadata, sources = parse(
        {
            "wasm": [
                {"path": "lib.wasm", "name": "lib", "hash": "AB"},
                {"data": base64.b64encode(WASM).decode()},
            ],
            "memory": {"max_pages": 16, "max_http_response_bytes": 1000, "max_var_bytes": 0},
            "config": {"vowels": "aeiou"},
            "allowed_hosts": ["*.example.com"],
            "allowed_paths": {"ro:/srv/data": "/data"},
            "timeout_ms": 500,
        }
    )

    assert sources == (("lib.wasm", "lib.wasm", b"", "ab"), ("data-1.wasm", "", WASM, ""))
    assert (metadata.id, metadata.format, metadata.entry) == ("mine", Format.WASM, "data-1.wasm")
    assert metadata.permissions == {Permission.NETWORK, Permission.READ}
    assert metadata.resource_limits.max_execution_time == 500
    assert metadata.config == {"vowels": "aeiou"}
    assert metadata.options == {
        "extism": {
            "max_pages": 16,
            "max_http_response_bytes": 1000,
            "max_var_bytes": 0,
            "modules": {"lib": "lib.wasm"},
            "allowed_hosts": ["*.example.com"],
        }
    }


def test_what_it_does_not_say():
    """Nothing is asked for, and no host is allowed, as for Extism."""
    metadata, _ = parse({"wasm": [{"path": "./a.wasm"}]})

    assert metadata.entry == "a.wasm"
    assert not metadata.permissions
    assert metadata.config == {}
    assert metadata.options == {"extism": {"modules": {}, "allowed_hosts": []}}


def test_a_writable_path_asks_for_both():
    """A path without ro: asks for reading and writing."""
    metadata, _ = parse({"wasm": [{"path": "a.wasm"}], "allowed_paths": {"/srv": "/srv"}})

    assert metadata.permissions == {Permission.READ, Permission.WRITE}


@pytest.mark.parametrize(
    ("names", "main", "others"),
    [
        (["x"], 0, []),
        ([None], 0, []),
        (["a", "b"], 1, ["a"]),
        (["a", None], 1, ["a"]),
        (["main", "b"], 0, ["b"]),
        ([None, "b"], 0, ["b"]),
        (["a", "main", "b"], 1, ["a", "b"]),
    ],
)
def test_main_module(names, main, others):
    """It is the one that is called main, or the last; a module without a name is called main."""
    modules = [
        {"path": f"{index}.wasm", **({"name": name} if name else {})} for index, name in enumerate(names)
    ]
    metadata, _ = parse({"wasm": modules})

    assert metadata.entry == f"{main}.wasm"
    assert list(metadata.options["extism"]["modules"]) == others


def test_toml_is_the_same():
    """A manifest may be TOML."""
    text = '[[wasm]]\npath = "a.wasm"\n[memory]\nmax_pages = 5\n[config]\nkey = "value"\n'
    metadata, _ = parse_manifest(text.encode(), "m.toml", "mine")

    assert metadata.config == {"key": "value"}
    assert metadata.options["extism"]["max_pages"] == 5


# ---- mistakes


@pytest.mark.parametrize(
    ("change", "parameter", "reason"),
    [
        ({"wasm": None}, "m.json: wasm", "must be of type"),
        ({"wasm": []}, "m.json: wasm", "length"),
        ({"other": 1}, "m.json: other", "is no key that belongs here"),
        ({"wasm": [{"path": "a", "extra": 1}]}, "m.json: wasm[0].extra", "is no key"),
        ({"memory": {"pages": 1}}, "m.json: memory.pages", "is no key"),
        ({"memory": {"max_pages": 65537}}, "m.json: memory.max_pages", "<= 65536"),
        ({"config": {"a": 1}}, "m.json: config[...]", "must be of type string"),
        ({"allowed_hosts": "*"}, "m.json: allowed_hosts", "must be of type"),
        ({"timeout_ms": 0}, "m.json: timeout_ms", ">= 1"),
        ({"wasm": [{}]}, "m.json: wasm[0]", "exactly one of path and data"),
        ({"wasm": [{"path": "a", "data": "AA=="}]}, "m.json: wasm[0]", "exactly one of path and data"),
        (
            {"wasm": [{"url": "https://x/a.wasm"}]},
            "m.json: wasm[0].url",
            "is not fetched: download the module",
        ),
        ({"wasm": [{"path": "a", "method": "GET"}]}, "m.json: wasm[0]", "belong to a url"),
        ({"wasm": [{"data": "not base64!"}]}, "m.json: wasm[0].data", "is not base64"),
        ({"wasm": [{"data": {"ptr": 1, "len": 2}}]}, "m.json: wasm[0].data", "must be of type string"),
        ({"wasm": [{"path": "../a.wasm"}]}, "m.json: wasm[0].path", "'../a.wasm'"),
        ({"wasm": [{"path": "/etc/passwd"}]}, "m.json: wasm[0].path", "lies in the folder of its manifest"),
        ({"wasm": [{"path": "a//b"}]}, "m.json: wasm[0].path", "'a//b'"),
        ({"wasm": [{"path": "a\nb"}]}, "m.json: wasm[0].path", "'a\\nb'"),
        ({"wasm": [{"path": ""}]}, "m.json: wasm[0].path", "''"),
        (
            {"wasm": [{"path": "a"}, {"path": "b", "name": "x"}, {"path": "c"}]},
            "m.json: wasm[2].name",
            "'main'",
        ),
    ],
)
def test_mistakes_are_named(change, parameter, reason):
    """The key, and the rule that it breaks."""
    error = wrong({"wasm": [{"path": "a.wasm"}]} | change)

    assert error.parameter == parameter
    assert reason in error.reason


def test_json_that_is_no_manifest():
    """Another JSON file is told apart."""
    assert "no manifest of Extism's" in str(wrong({"id": "mine", "version": "1.0.0"}))


@pytest.mark.parametrize("name", ["m.json", "m.toml"])
@given(data=st.binary(max_size=100))
def test_no_bytes_raise_anything_else(name, data):
    """Whatever the file holds, it is a manifest or a ConfigError."""
    with contextlib.suppress(ConfigError):
        parse_manifest(data, name, "mine")


def test_a_manifest_is_bounded():
    """Neither format is parsed without end."""
    with pytest.raises(ConfigError, match="at most 1048576 are read"):
        parse_manifest(b" " * ((1 << 20) + 1), "m.toml", "mine")
    with pytest.raises(ConfigError, match="is nested too deeply"):
        parse_manifest(b"[" * 200_000, "m.json", "mine")
    with pytest.raises(ConfigError, match="is not TOML"):
        parse_manifest(b"a = " + b"[" * 200_000, "m.toml", "mine")


# ---- loading


def test_modules_are_read_beside_the_manifest(folder):
    """The bundle holds the modules and nothing else of the folder."""
    path = folder({"wasm": [{"path": "lib/lib.wasm", "name": "lib"}, {"path": "plugin.wasm"}]})

    with PluginLoader().load(path) as bundle:
        assert (bundle.metadata.id, bundle.metadata.entry, bundle.path) == ("mine", "plugin.wasm", str(path))
        assert {file.path: bundle.read(file.path) for file in bundle.files} == {
            "lib/lib.wasm": OTHER,
            "plugin.wasm": WASM,
        }


def test_modules_in_the_manifest(folder):
    """Base64 is decoded into a file of the bundle."""
    with PluginLoader().load(folder({"wasm": [{"data": base64.b64encode(OTHER).decode()}]})) as bundle:
        assert bundle.read(bundle.metadata.entry) == OTHER


def test_one_file_may_be_two_modules(folder):
    """A module that is listed twice is read once."""
    path = folder({"wasm": [{"path": "plugin.wasm", "name": "a"}, {"path": "plugin.wasm"}]})
    with PluginLoader().load(path) as bundle:
        assert len(bundle.files) == 1


def test_hash_holds_for_the_bytes_that_are_loaded(folder):
    """A wrong hash is refused with both; the right one is accepted in any case."""
    digest = hashlib.sha256(WASM).hexdigest()
    with PluginLoader().load(folder({"wasm": [{"path": "plugin.wasm", "hash": digest.upper()}]})) as bundle:
        assert bundle.digests["plugin.wasm"] == digest
    for module in ({"path": "lib/lib.wasm"}, {"data": base64.b64encode(OTHER).decode()}):
        with pytest.raises(LoadFailed, match=f"and the manifest says {digest}"):
            PluginLoader().load(folder({"wasm": [{**module, "hash": digest}]}))


@pytest.mark.parametrize("name", ["secret.wasm", "far/secret.wasm"])
def test_links_are_not_followed(folder, tmp_path, name):
    """A manifest cannot reach a file outside of its folder by a link, whichever part of the path it is."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "secret.wasm").write_bytes(WASM)
    if "/" in name:
        os.symlink(outside, tmp_path / "far")
    else:
        os.symlink(outside / "secret.wasm", tmp_path / name)
    assert (tmp_path / name).read_bytes() == WASM

    with pytest.raises(LoadFailed):
        PluginLoader().load(folder({"wasm": [{"path": name}]}))


def test_only_modules_are_read(folder, tmp_path):
    """A manifest cannot hand the plugin another file of its folder as if that were a module."""
    (tmp_path / "secret.txt").write_text("a password")
    path = folder({"wasm": [{"path": "secret.txt", "name": "lib"}, {"path": "plugin.wasm"}]})

    with pytest.raises(InvalidFormat, match="begins with"):
        PluginLoader().load(path)


def test_missing_module_is_named(folder):
    """The file that is not there is told with its path."""
    with pytest.raises(LoadFailed, match="there is no such file"):
        PluginLoader().load(folder({"wasm": [{"path": "nothing.wasm"}]}))


def test_metadata_of_the_host_program_goes_before(folder):
    """Who vouches for metadata gets the manifest's modules under it."""
    told = Metadata(id="told", version="2.0.0", format=Format.WASM)
    with PluginLoader().load(
        folder({"wasm": [{"path": "plugin.wasm"}], "config": {"a": "b"}}), told
    ) as bundle:
        assert (bundle.metadata.id, bundle.metadata.version) == ("told", "2.0.0")
        assert bundle.metadata.entry == "plugin.wasm"
        assert bundle.metadata.config == {}


def test_nothing_is_left_open(folder):
    """A failed load gives every descriptor back."""
    before = len(os.listdir("/proc/self/fd"))
    for module in ({"path": "lib/nothing.wasm"}, {"path": "lib"}, {"path": "plugin.wasm", "hash": "00"}):
        with pytest.raises(LoadFailed):
            PluginLoader().load(folder({"wasm": [module]}))

    assert len(os.listdir("/proc/self/fd")) == before
