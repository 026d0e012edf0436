"""`frys demo`: everything that it promises, and that its plugins are what they are said to be."""

import fnmatch
import json
import tomllib
from pathlib import Path

import pytest
import wasmtime
from command import frys

from frys_runtime import errors
from frys_runtime.cli.hostile import attacks
from frys_runtime.cli.pipeline import MAX_TEXT, PLUGINS

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]


@pytest.fixture(scope="module")
def report():
    done = frys("demo", "--json")
    return done.returncode, json.loads(done.stdout)


def test_demo_passes(report):
    """Four plugins are right, eight attacks end as expected, and nothing is left."""
    code, found = report

    assert code == 0
    assert found["ok"]
    assert [step["format"] for step in found["plugins"]] == ["javascript", "wasm", "native", "python"]
    assert all(step["right"] for step in found["plugins"])
    assert len(found["attacks"]) == 8
    assert all(attack["stopped"] and attack["others_answer"] for attack in found["attacks"])
    assert found["processes"] > 0
    assert found["left"] == []


def test_each_attack_ends_in_the_error_that_the_table_promises(report):
    """The error that the caller got is the one that is named as expected."""
    for attack in report[1]["attacks"]:
        assert attack["error"] == attack["expected"]
        assert issubclass(getattr(errors, attack["error"]), errors.PluginError)


def test_every_plugin_has_its_figures(report):
    """Load time, call time and private memory of each plugin are there; only root may read the memory."""
    for entry in (*report[1]["plugins"], *report[1]["attacks"]):
        figures = entry["figures"]
        assert figures["load_ms"] > 0
        assert figures["call_ms"] > 0
        assert figures["memory"] is None or figures["memory"] > 0


@pytest.mark.parametrize(
    "content",
    [
        b"one two  three \r\nfour\rfive",
        "p\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148\n".encode(),
        b"\xff\xfe latin \xe9\n",
        b"word\n" * 100_000,
    ],
)
def test_any_text_goes_through(tmp_path, content):
    """Line ends of three kinds, other alphabets, broken UTF-8 and a long text give right results."""
    (tmp_path / "text").write_bytes(content)
    done = frys("demo", "--json", tmp_path / "text")
    found = json.loads(done.stdout)

    assert done.returncode == 0
    assert found["bytes"] <= MAX_TEXT


@pytest.mark.parametrize("content", [b"", b" \n", b"\x7fELF\0\0"])
def test_what_is_no_text_is_refused(tmp_path, content):
    """An empty and a binary file are a usage error, before anything is started."""
    (tmp_path / "file").write_bytes(content)

    assert frys("demo", tmp_path / "file").returncode == 2
    assert frys("demo", tmp_path / "missing").returncode == 2


def test_table_fits_a_terminal_and_ends_with_the_verdict():
    """No line is wider than 80 columns, each attack has its row, and the last line is the verdict."""
    done = frys("demo")
    lines = done.stdout.decode().splitlines()

    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("PASSED: 4 of 4 plugins right, 8 of 8 attacks stopped")
    assert all(any(line.startswith(attack.act) for line in lines) for attack in attacks())
    assert done.stderr == b""


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: attack.act)
def test_an_attack_is_stopped_only_by_its_own_end(attack):
    """Another error than the expected one does not count as stopped."""
    others = [
        errors.ExecutionFailed("p", "run", "it broke"),
        errors.ResourceLimitExceeded("p", "output", 1, 2),
        errors.SecurityViolation("p", "it called ptrace(0x0)"),
        errors.LoadFailed("p", "no"),
        TypeError("no"),
    ]

    assert not any(attack.matches(error) for error in others)


@pytest.mark.parametrize("source", sorted(PLUGINS.glob("*.wat")), ids=lambda path: path.name)
def test_compiled_module_is_its_source(source):
    """Each .wasm that is shipped is what its .wat compiles to."""
    assert source.with_suffix(".wasm").read_bytes() == wasmtime.wat2wasm(source.read_text())


def test_every_plugin_is_package_data():
    """The demo works from an installed wheel: pyproject.toml ships each file of its plugins."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = tools["package-data"]["frys_runtime.cli.plugins"]
    for file in PLUGINS.rglob("*"):
        name = str(file.relative_to(PLUGINS))
        if file.suffix == ".py":
            folder = ".".join(["frys_runtime", *file.parent.relative_to(PLUGINS.parents[1]).parts])
            assert folder in tools["packages"]
        elif file.is_file() and file.suffix != ".pyc":
            assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
