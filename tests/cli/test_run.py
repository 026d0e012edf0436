"""`frys run`: arguments in, results out, and an exit code for each end."""

import json

import pytest
from command import frys
from versioned import write

from frys_runtime.cli.pipeline import PLUGINS

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]

PLUGIN = """
import os, time
def echo(value=None): return value
def say():
    print("said \\x1b[31m")
    return "done"
def fail(): raise ValueError("no \\x1b[31m good")
def twice(number: int) -> int: return 2 * number
def spin():
    while True: pass
def wait(): time.sleep(60)
def leave(): os._exit(3)
def fork(): os.kill(1, 9)
def mixed(): return {"data": b"\\x00", "number": 1.5, "text": "\\u010d"}
"""

HELPER = "def twice(number):\n    return 2 * number\n"
TWICE = {"twice": {"params": ["int"], "returns": "int"}}
APP = 'import frys\n\ndef four():\n    return frys.call("helper", "twice", 2)\n'


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugin") / "sample.py"
    path.write_text(PLUGIN)
    return path


@pytest.mark.parametrize(
    ("words", "stdin", "printed"),
    [
        (["text"], b"", b"text\n"),
        (["bytes:\\0"], b"", b"\\0"),
        (["-"], b"\0\xff", b"\0\xff"),
        (["int:7"], b"", b"7\n"),
        (["float:0.5"], b"", b"0.5\n"),
        (["json:[1, null]"], b"", b"[\n  1,\n  null\n]\n"),
        ([], b"", b"null\n"),
    ],
)
def test_value_goes_in_and_comes_out(plugin, words, stdin, printed):
    """Each kind of argument arrives, and each kind of result is printed in its way."""
    done = frys("run", plugin, "echo", *words, stdin=stdin)

    assert (done.returncode, done.stdout, done.stderr) == (0, printed, b"")


def test_bytes_within_a_result_are_base64(plugin):
    """A result that JSON cannot say marks its bytes."""
    done = frys("run", plugin, "mixed")

    assert json.loads(done.stdout) == {"data": {"base64": "AA=="}, "number": 1.5, "text": "č"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["fail"], 1, "ValueError: no \\x1b[31m good"),
        (["nope"], 1, "nope"),
        (["leave"], 1, "status 3"),
        (["twice"], 2, "twice"),
        (["twice", "int:x"], 2, "int:x"),
        (["--policy", "/nowhere.yaml", "echo"], 2, "/nowhere.yaml"),
        (["--memory", "many", "echo"], 2, "64M"),
        (["spin"], 3, "cpu"),
        (["wait", "--timeout", "200"], 3, "200 ms"),
        (["fork"], 4, "it called kill("),
    ],
)
def test_each_end_has_its_exit_code(plugin, words, code, said):
    """A program can tell by the code what happened, and a person reads it in one sentence with a hint."""
    done = frys("run", plugin, *words)
    errors = done.stderr.decode()

    assert done.returncode == code
    assert said in errors
    assert "hint: " in errors or code == 2
    assert "\x1b" not in errors
    assert "Traceback" not in errors.split("untrusted")[0]
    assert done.stdout == b""


@pytest.mark.parametrize("content", [b"", b"def broken(:", b"import nothing_of_that_name"])
def test_plugin_that_cannot_be_loaded_is_exit_code_5(tmp_path, content):
    """Empty, with a syntax error, with an import that fails: not loaded."""
    (tmp_path / "bad.py").write_bytes(content)

    assert frys("run", tmp_path / "bad.py", "f").returncode == 5


def test_print_of_a_plugin_goes_to_stderr(plugin):
    """What a plugin prints is not its result, and cannot drive the terminal."""
    done = frys("run", plugin, "say")

    assert done.stdout == b"done\n"
    assert done.stderr == b"sample: said \\x1b[31m\n"


def test_stats_are_told_on_stderr(plugin):
    """--stats prints times and memory beside the result."""
    done = frys("run", "--stats", plugin, "echo", "text")

    assert done.stdout == b"text\n"
    assert done.stderr.startswith(b"load ")


def test_policy_file_decides(plugin, tmp_path):
    """A policy's limit is the one that holds."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nlimits:\n  cpu_time: 100ms\n")
    done = frys("run", "--policy", policy, plugin, "spin")

    assert done.returncode == 3
    assert b"100 ms" in done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("checksum.wasm", ["seal", "frys"]),
        ("words.js", ["tidy", "bytes:frys"]),
        ("system-zlib", ["compress", "bytes:frys"]),
    ],
)
def test_every_format_runs(name, words):
    """The other three formats are called the same way."""
    assert frys("run", PLUGINS / name, *words).returncode == 0


@pytest.mark.parametrize(
    ("content", "metadata", "said", "hint"),
    [
        ("x = 1", {"permissions": ["Network"]}, "it asks for Network", "`frys policy explain PLUGIN`"),
        ("def broken(:", {}, "invalid syntax", "docs/writing-plugins.md"),
        ("while True: pass", {}, "`limits.load_time`", "--policy"),
    ],
)
def test_the_hint_is_about_the_error(tmp_path, content, metadata, said, hint):
    """Who is refused by a policy is not told what files a plugin may be; nor who takes too long to load."""
    (tmp_path / "main.py").write_text(content)
    facts = {"id": "it", "version": "1.0.0", "format": "python", "entry": "main.py", **metadata}
    (tmp_path / "plugin.json").write_text(json.dumps(facts))
    (tmp_path / "policy.yaml").write_text("extends: maximum\nlimits: {load_time: 300ms}\n")

    done = frys("run", "--policy", tmp_path / "policy.yaml", tmp_path, "f")

    sentence, hinted = done.stderr.decode().split("hint: ")
    assert said in sentence
    assert hint in hinted
    assert ".wasm" not in hinted


def test_what_it_depends_on_is_found_beside_it_or_where_it_is_said(tmp_path):
    """In the folder in which the plugin lies, or below --plugin-path; else the missing one is named."""
    helper = write(tmp_path / "shelf" / "helper", "1.2.0", HELPER, id="helper", exports=TWICE)
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nmessages: {call: {helper: [twice]}}\n")
    needs = {"dependencies": [{"pluginId": "helper", "versionRange": "^1"}]}
    app = write(tmp_path / "app", "1.0.0", APP, id="app", **needs)
    words = ("run", "--policy", policy)
    missing = frys(*words, app, "four")
    assert (missing.returncode, b"helper" in missing.stderr) == (5, True)
    named = frys(*words, "--plugin-path", helper.parent, app, "four")
    assert (named.returncode, named.stdout) == (0, b"4\n"), named.stderr
    paths = ("--plugin-path", helper.parent, "--plugin-path", tmp_path)
    by_name = frys(*words, *paths, "app", "four", cwd=helper)
    assert (by_name.returncode, by_name.stdout) == (0, b"4\n"), by_name.stderr
    app.rename(helper.parent / "app")
    beside = frys(*words, "app", "four", cwd=helper.parent)
    assert (beside.returncode, beside.stdout) == (0, b"4\n"), beside.stderr
