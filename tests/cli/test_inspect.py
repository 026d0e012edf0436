"""`frys inspect`: what a plugin is, without running any of its code in the host."""

import hashlib
import json

import pytest
from command import frys
from wasm_build import compile_text

from frys_runtime.cli.pipeline import PLUGINS

live = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]


def test_static_facts_need_no_jail():
    """Metadata, files with digests, and limits are told without loading the plugin."""
    facts = json.loads(frys("inspect", "--no-load", "--json", PLUGINS / "words.js").stdout)

    content = (PLUGINS / "words.js").read_bytes()
    assert facts["metadata"]["format"] == "javascript"
    assert facts["files"] == [
        {"path": "words.js", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    ]
    assert facts["level"] == "maximum"
    assert facts["limits"]["memory"] > 0
    assert facts["functions"] == {}
    assert facts["layers"] == []


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=live) for name in ("checksum.wasm", "words.js", "system-zlib", "report.py")],
)
def test_functions_come_from_a_jail(name):
    """Each format's functions are listed after a load in the jail of level Maximum."""
    facts = json.loads(frys("inspect", "--json", PLUGINS / name).stdout)

    assert facts["functions"]
    assert {"seccomp", "private_root", "user_namespace"} <= set(facts["layers"])
    assert facts["error"] is None


def test_claims_of_a_plugin_cannot_drive_a_terminal(tmp_path):
    """A description with escape sequences is shown as escapes."""
    (tmp_path / "plugin.json").write_text(
        '{"id": "evil", "version": "1.0.0", "format": "javascript", "entry": "evil.js",'
        ' "description": "\\u001b[2J gone", "permissions": ["Network", "Read"]}'
    )
    (tmp_path / "evil.js").write_text("export function f() {}")
    done = frys("inspect", "--no-load", tmp_path)

    assert b"\x1b" not in done.stdout
    assert b"\\x1b[2J gone" in done.stdout
    assert b"Network, Read" in done.stdout


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
def test_plugin_that_does_not_load_still_shows_its_static_facts(tmp_path):
    """The files are told, then the error, and the exit code says that it does not load."""
    (tmp_path / "broken.js").write_text("export function (")
    shown = frys("inspect", tmp_path / "broken.js")
    facts = frys("inspect", "--json", tmp_path / "broken.js")

    assert shown.returncode == facts.returncode == 5
    assert b"broken.js" in shown.stdout
    assert shown.stderr.startswith(b"frys: ")
    assert json.loads(facts.stdout)["error"]["kind"] == "InvalidFormat"


def test_what_is_no_plugin_is_exit_code_5(tmp_path):
    """A missing file, a folder without plugin.json and a foreign file are refused in one sentence."""
    (tmp_path / "notes.txt").write_text("nothing")
    for path in (tmp_path / "missing.js", tmp_path, tmp_path / "notes.txt"):
        done = frys("inspect", path)
        assert done.returncode == 5
        assert len(done.stderr.splitlines()) == 2


def test_tables_fit_a_terminal():
    """No line is wider than 80 columns."""
    shown = frys("inspect", "--no-load", PLUGINS / "fork_bomb").stdout.decode()

    assert max(map(len, shown.splitlines())) <= 80


WASM = """(module
  (import "wbg" "__wbindgen_throw" (func (param i32 i32)))
  (import "wbg" "__wbg_fetch_0123456789abcdef" (func (param i32) (result i32)))
  {more}
  (memory (export "memory") 1 4)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"""


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
def test_module_is_taken_apart_in_a_jail(tmp_path):
    """ABI, memory, exports and imports are told, and which import only fails with its name."""
    (tmp_path / "it.wasm").write_bytes(compile_text(WASM.format(more="")))
    facts = json.loads(frys("inspect", "--json", tmp_path / "it.wasm").stdout)

    module = facts["module"]
    assert module["abi"] == "wasm-bindgen"
    assert module["memories"] == {"memory": {"initial": 65536, "maximum": 262144}}
    assert {(item["name"], item["provided"]) for item in module["imports"]} == {
        ("__wbindgen_throw", True),
        ("__wbg_fetch_0123456789abcdef", False),
    }
    assert {"name": "add", "type": "(i32, i32) -> i32", "module": "", "provided": True} in module["exports"]
    assert facts["functions"] == {"add": "wasm (i32, i32) -> i32"}
    assert facts["error"] is None


@pytest.mark.needs_userns
@pytest.mark.needs_landlock
@pytest.mark.needs_seccomp_notify
def test_refused_module_is_taken_apart_all_the_same(tmp_path):
    """What it is made of stands beside the reason why it does not load."""
    (tmp_path / "it.wasm").write_bytes(compile_text(WASM.format(more='(import "env" "print" (func))')))
    shown = frys("inspect", tmp_path / "it.wasm")

    assert b"ABI: wasm-bindgen" in shown.stdout
    assert b"env.print" in shown.stdout
    assert b"imports what Frys does not offer: env.print (() -> ())" in shown.stderr
    assert shown.returncode == 5
