"""What every command has in common."""

import ast
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from command import FRYS, frys

import frys_runtime
from frys_runtime import cli
from frys_runtime.cli import app
from frys_runtime.cli.pipeline import PLUGINS


def test_version_is_told_without_importing_typer():
    """Asking for the version costs no more than starting Python."""
    code = (
        "import sys; sys.argv = ['frys', '--version']; from frys_runtime.cli import main; main();"
        "print(sorted({'typer', 'rich', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == f"frys {frys_runtime.__version__}\n[]\n"


@pytest.mark.parametrize("command", app.COMMANDS)
def test_every_command_has_help(command):
    """Each command of the list explains itself."""
    done = frys(command, "--help")

    assert done.returncode == 0
    assert f"Usage: frys {command}".encode() in done.stdout


def test_help_lists_every_command():
    """`frys` alone, and its help, name all commands."""
    for words in ((), ("--help",)):
        shown = frys(*words).stdout.decode()
        assert all(f"│ {command} " in shown for command in app.COMMANDS)


def test_help_names_every_benchmark():
    """`frys bench --only` takes names with commas between, and its help has all of them."""
    refused = frys("bench", "--only", "call,nope")
    told, _, names = refused.stderr.decode().strip().partition("; choose from ")

    assert refused.returncode == 2
    assert told == "frys: there is no benchmark 'nope'"
    assert f" {names};" in frys("bench", "--help", columns=500).stdout.decode()


def test_wrong_words_are_a_usage_error():
    """An unknown command, an unknown option and a missing argument exit with 2."""
    for words in (("rum",), ("run", "--nope"), ("run",)):
        done = frys(*words)
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr


def test_error_is_a_sentence_and_a_hint():
    """What goes wrong is told on stderr without a traceback, and nothing lands on stdout."""
    done = frys("run", "/nowhere/plugin.js", "f")

    assert done.returncode == 5
    assert done.stdout == b""
    said, hint = done.stderr.decode().splitlines()
    assert said.startswith("frys: /nowhere/plugin.js could not be loaded: ")
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(("words", "environment"), [(("--debug",), {}), ((), {"FRYS_DEBUG": "1"})])
def test_debug_shows_the_traceback(words, environment):
    """Whoever wants the traceback gets it, and the sentence after it."""
    done = frys(*words, "run", "/nowhere/plugin.js", "f", **environment)

    assert done.returncode == 5
    assert done.stderr.startswith(b"Traceback")
    assert b"\nfrys: /nowhere/plugin.js" in done.stderr


def test_reader_that_goes_away_is_no_error():
    """`frys ... | head -1` ends quietly."""
    process = subprocess.Popen([*FRYS, "inspect", "--no-load", PLUGINS / "words.js"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    process.stdout.close()
    _, errors = process.communicate()

    assert errors == b""


def test_terminal_gets_colour_and_a_pipe_does_not():
    """Escape sequences go to terminals only, and not there when NO_COLOR is set."""
    words = ["inspect", "--no-load", str(PLUGINS / "words.js")]

    assert b"\x1b[" not in frys(*words).stdout
    assert b"\x1b[" in _on_terminal(words, {"TERM": "xterm"})
    assert b"\x1b[3" not in _on_terminal(["run", "/nowhere.js", "f"], {"TERM": "xterm", "NO_COLOR": "1"})


def _on_terminal(words: list[str], environment: dict[str, str]) -> bytes:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*FRYS, *words], stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **environment}
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    process.wait()
    return shown


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # the terminal's end: nobody has its other side open
        return b""


def test_locale_without_unicode_is_no_error():
    """Where a locale knows ASCII only, tables become ASCII, and other characters escapes."""
    done = frys("inspect", "--no-load", PLUGINS / "words.js", PYTHONIOENCODING="ascii")

    assert done.returncode == 0
    assert done.stdout.isascii()


def test_no_command_imports_a_command():
    """The modules of two commands do not need each other; a command loads only its own."""
    for name in app.COMMANDS:
        tree = ast.parse((Path(cli.__file__).parent / f"{name}.py").read_text())
        imported = {
            node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1
        }
        assert not imported & set(app.COMMANDS)


def test_json_is_ascii():
    """Facts for programs hold nothing that could drive a terminal."""
    done = frys("inspect", "--no-load", "--json", PLUGINS / "words.js")

    assert json.loads(done.stdout)["metadata"]["id"] == "words"
    assert done.stdout.isascii()
