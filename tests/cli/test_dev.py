"""`frys dev`, as a process of its own, beside somebody who saves files and waits for what it prints."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from command import FRYS, frys
from support import leftovers
from versioned import write

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_landlock, pytest.mark.needs_seccomp_notify]
PLUGIN_JSON = '{"id": "sample", "version": "1.0.0", "format": "python", "entry": "main.py"}'


def source(text: str) -> str:
    """A plugin whose answer is this text."""
    return f"def say():\n    return {text!r}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plugin to be developed."""
    made = tmp_path / "sample"
    made.mkdir()
    (made / "plugin.json").write_text(PLUGIN_JSON)
    (made / "main.py").write_text(source("first answer"))
    return made


class Session:
    """A running `frys dev`, and what it has printed."""

    def __init__(self, words: list[str], output: Path, temporary: Path) -> None:
        self._output = output
        self.temporary = temporary
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [*FRYS, "dev", *words],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
            )

    @property
    def shown(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until it has printed a text so often; pytest's own timeout is the end of patience."""
        while self.shown.count(text) < times:
            assert self.process.poll() is None, self.shown
            time.sleep(0.02)

    def end(self, number: int = signal.SIGINT) -> int:
        """End it as its person would; nothing may be left of it."""
        children = self.process.pid
        self.process.send_signal(number)
        code = self.process.wait()
        assert leftovers(children) == []
        assert list(self.temporary.iterdir()) == []
        return code


type Start = Callable[..., Session]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start sessions, which end with the test."""
    sessions: list[Session] = []
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def begin(*words: str | Path) -> Session:
        output = tmp_path / f"output-{len(sessions)}"
        sessions.append(Session([str(word) for word in words], output, temporary))
        return sessions[-1]

    yield begin
    for session in sessions:
        session.process.kill()
        session.process.wait()


def test_a_save_is_a_round(folder: Path, start: Start) -> None:
    """The function is called at once, and again with the new code after a save; Ctrl-C ends it all."""
    session = start(folder, "say")
    session.wait_for("say took")
    assert "\nfirst answer\n" in session.shown

    (folder / "main.py").write_text(source("second answer"))
    session.wait_for("say took", 2)

    assert "saved: main.py" in session.shown
    assert "\nsecond answer\n" in session.shown
    assert session.end() == 0
    assert session.shown.endswith("\nended; nothing of it is left\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_as_well(folder: Path, start: Start, number: int) -> None:
    """A closed terminal and a kill leave no more behind than Ctrl-C."""
    session = start(folder, "say")
    session.wait_for("say took")

    assert session.end(number) == 0


def test_a_burst_of_saves_is_one_round(folder: Path, start: Start) -> None:
    """Fifty saves of several files, all there when it looks again: one load of the last."""
    session = start(folder, "say")
    session.wait_for("say took")

    session.process.send_signal(signal.SIGSTOP)  # so that no pause of this test can part the burst
    for number in range(50):
        (folder / "main.py").write_text(source(f"answer {number}"))
        (folder / f"other_{number % 4}.py").write_text(f"x = {number}\n")
    session.process.send_signal(signal.SIGCONT)
    session.wait_for("answer 49")
    (folder / "main.py").write_text(source("the last answer"))
    session.wait_for("the last answer")

    assert session.shown.count("loaded sample") == 3
    assert session.shown.count("saved: ") == 2
    assert "saved: main.py, other_0.py, other_1.py and 2 more" in session.shown
    session.end()


def test_editors_save_in_their_own_ways(folder: Path, start: Start) -> None:
    """A new file that takes the old one's name, and an empty file that is filled afterwards."""
    session = start(folder, "say")
    session.wait_for("say took")

    (folder / ".main.py.swp").write_text(source("by another name"))
    (folder / ".main.py.swp").replace(folder / "main.py")
    session.wait_for("by another name")
    with (folder / "main.py").open("w") as file:
        file.flush()
        file.write(source("in two steps"))
    session.wait_for("in two steps")

    session.end()


def test_a_version_that_was_saved_while_it_was_read_is_dropped(folder: Path, start: Start) -> None:
    """Nobody calls half of one version and half of another; the next round has all of the last."""
    (folder / "main.py").write_text("import time\nprint('loading')\ntime.sleep(4)\n" + source("half of each"))
    session = start(folder, "say")
    session.wait_for("sample: loading")

    (folder / "main.py").write_text(source("all of the last"))
    session.wait_for("all of the last\n")

    assert "it was saved while it was read; once more\n" in session.shown
    assert "half of each" not in session.shown
    session.end()


def test_a_version_that_cannot_be_loaded_leaves_the_old_one(folder: Path, start: Start) -> None:
    """A syntax error and a wrong plugin.json are told in a sentence; the next good save is loaded."""
    session = start(folder, "say")
    session.wait_for("say took")

    (folder / "main.py").write_text("def broken(:\n")
    session.wait_for("stays loaded")
    assert "main.py, line 1: invalid syntax" in session.shown
    (folder / "main.py").write_text(source("good again"))
    session.wait_for("good again")
    (folder / "plugin.json").write_text("{")
    session.wait_for("stays loaded", 2)
    assert "plugin.json is not JSON" in session.shown.replace(": ", " ")
    (folder / "plugin.json").write_text(PLUGIN_JSON.replace("1.0.0", "1.1.0"))
    session.wait_for("loaded sample 1.1.0")

    assert "Traceback" not in session.shown
    session.end()


def test_a_first_version_that_cannot_be_loaded_is_waited_for(folder: Path, start: Start) -> None:
    """Whoever starts with a mistake can mend it."""
    (folder / "main.py").write_text("def broken(:\n")
    session = start(folder, "say")
    session.wait_for("invalid syntax")

    (folder / "main.py").write_text(source("mended"))
    session.wait_for("mended")

    assert "stays loaded" not in session.shown
    session.end()


def test_failures_and_what_is_printed_are_shown(folder: Path, start: Start) -> None:
    """The plugin's own traceback, and its output, which cannot drive the terminal."""
    (folder / "main.py").write_text("def say():\n    print('said \\x1b[31m')\n    return 1 / 0\n")
    session = start(folder, "say")
    session.wait_for("say failed after")

    session.wait_for("sample: said \\x1b[31m")
    assert "ZeroDivisionError: division by zero" in session.shown
    assert "\x1b" not in session.shown
    session.end()


def test_arguments_are_those_of_run(folder: Path, start: Start, tmp_path: Path) -> None:
    """Prefixes give types, and a file is read anew for each call."""
    (folder / "main.py").write_text("def say(data, number):\n    return [data.decode(), number + 1]\n")
    (tmp_path / "input").write_text("one")
    session = start(folder, "say", f"@{tmp_path}/input", "int:41")
    session.wait_for('"one",\n  42')

    (tmp_path / "input").write_text("two")
    with (folder / "main.py").open("a") as file:
        file.write("# saved\n")
    session.wait_for('"two",\n  42')

    (tmp_path / "input").unlink()
    with (folder / "main.py").open("a") as file:
        file.write("# and again\n")
    session.wait_for("input cannot be read")
    session.end()


def test_without_a_function_they_are_listed(folder: Path, start: Start) -> None:
    """Name and signature of each."""
    session = start(folder)
    session.wait_for("  say  say()\n")

    session.end()


def test_what_a_plugin_stores_outlives_a_reload(folder: Path, start: Start) -> None:
    """Old and new version have one store, which ends with the session."""
    count = (
        "import frys\n"
        "def say():\n"
        "    frys.kv['n'] = frys.kv.get('n', 0) + 1\n"
        "    return f'count {frys.kv[\"n\"]}'\n"
    )
    (folder / "main.py").write_text(count)
    session = start(folder, "say", "--isolation", "standard")
    session.wait_for("count 1\n")

    for number in (2, 3):
        (folder / "main.py").write_text(f"{count}# {number}\n")
        session.wait_for(f"count {number}\n")
    session.end()


def test_a_policy_knows_every_version_by_its_id(folder: Path, start: Start, tmp_path: Path) -> None:
    """The section for the plugin's id holds for the new version as for the old one."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("extends: maximum\nplugins:\n  sample:\n    config: {word: granted}\n")
    (folder / "main.py").write_text("import frys\ndef say(): return 'a ' + frys.config('word')\n")
    session = start("--policy", policy, folder, "say")
    session.wait_for("a granted\n")

    (folder / "main.py").write_text("import frys\ndef say(): return 'b ' + frys.config('word')\n")
    session.wait_for("b granted\n")
    session.end()


def test_a_link_to_the_folder_and_files_in_it(folder: Path, start: Start, tmp_path: Path) -> None:
    """The folder may be named by a link, and its modules may lie in folders of their own."""
    (tmp_path / "link").symlink_to(folder)
    (folder / "words").mkdir()
    (folder / "words" / "__init__.py").write_text("word = 'inner one'\n")
    (folder / "main.py").write_text("from words import word\ndef say(): return word\n")
    session = start(tmp_path / "link", "say")
    session.wait_for("inner one\n")

    (folder / "words" / "__init__.py").write_text("word = 'inner two'\n")
    session.wait_for("inner two\n")
    assert "saved: words/__init__.py" in session.shown
    session.end()


# ---- builds


@pytest.fixture
def built(folder: Path) -> Path:
    """A folder whose entry is made by a Makefile."""
    (folder / "main.py").rename(folder / "main.in")
    (folder / "Makefile").write_text("build: main.py\nmain.py: main.in\n\t@echo making it\n\tcp $< $@\n")
    return folder


def test_a_build_is_told_and_run(built: Path, start: Start) -> None:
    """Which command it is, and where it was found, stands there before it runs; a save runs it again."""
    session = start(built, "say")
    session.wait_for("say took")
    told, loaded = session.shown.index("build: make build (from the Makefile"), session.shown.index("loaded")
    assert told < session.shown.index("built in") < loaded
    assert "first answer" in session.shown

    (built / "main.in").write_text(source("built again"))
    session.wait_for("built again\n")

    assert "saved: main.in" in session.shown
    assert "saved: main.py" not in session.shown
    session.end()


def test_a_build_that_fails_leaves_the_old_version(built: Path, start: Start) -> None:
    """What the build printed is shown, and the version before stays."""
    session = start(
        built, "say", "--build", "grep -q answer main.in && echo 'all \x1b[31m wrong' && cp main.in main.py"
    )
    session.wait_for("say took")
    assert "all" not in session.shown.split("loaded")[1]

    (built / "main.in").write_text(source("no such word"))
    session.wait_for("the build failed: it ended with status 1")
    session.wait_for("stays loaded")
    assert session.shown.count("loaded sample") == 1

    (built / "main.in").write_text(source("the answer"))
    session.wait_for("the answer\n")
    session.end()


def test_a_build_shows_what_it_said_when_it_fails(built: Path, start: Start) -> None:
    """Only the end of a long output, made harmless; a program that is not there is a sentence."""
    session = start(built, "say", "--build", "seq 100000; printf 'all \\033[31mwrong\\n' >&2; kill -9 $$")
    session.wait_for("the build failed: it was ended by signal 9")

    assert "all \\x1b[31mwrong\n" in session.shown
    assert "\n100000\n" in session.shown
    assert "\n50000\n" not in session.shown
    session.end()


def test_nothing_is_built_on_request(built: Path, start: Start) -> None:
    """--no-build loads what is there."""
    (built / "main.py").write_text(source("by hand"))
    session = start(built, "say", "--no-build")
    session.wait_for("by hand\n")

    assert "build" not in session.shown.split(" is watched")[1]
    assert (built / "main.py").read_text() == source("by hand")
    session.end()


def test_a_save_during_a_build_is_built_too(built: Path, start: Start, tmp_path: Path) -> None:
    """The build has read the file already when it is saved once more; that makes another round."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    session = start(built, "say", "--build", f"cp main.in main.py; cat {gate}")

    with gate.open("w"):  # opens when the build has got there
        (built / "main.in").write_text(source("saved meanwhile"))
    session.wait_for("built in")
    with gate.open("w"):
        pass
    session.wait_for("saved meanwhile\n")

    session.end()


def test_what_a_build_writes_does_not_start_another(built: Path, start: Start) -> None:
    """Files that differ after every build, whether they were there before or not."""
    (built / "old-stamp").write_text("")
    build = "date +%N > old-stamp; date +%N > new-stamp; cp main.in main.py"
    session = start(built, "say", "--build", build)
    session.wait_for("say took")
    rounds = 1
    for number in range(3):
        (built / "main.in").write_text(source(f"answer {number}"))
        session.wait_for(f"answer {number}\n")
        rounds += 1

    # The old file is taken for somebody's at first.
    assert session.shown.count("built in") <= rounds + 1
    session.end()


def _runs(pid: int) -> bool:
    """Whether a process is there, and not only waits for its parent to notice its end."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_end_of_the_session_ends_a_build(built: Path, start: Start, tmp_path: Path) -> None:
    """With everything that it has started, in the background too."""
    pids = tmp_path / "pids"
    session = start(
        built, "say", "--build", f"sleep 1000 & echo $! $$ > {pids}.part; mv {pids}.part {pids}; wait"
    )
    while not pids.exists():
        time.sleep(0.02)

    assert session.end() == 0
    assert not [pid for pid in pids.read_text().split() if _runs(int(pid))]


def test_a_build_that_leaves_something_running_ends(built: Path, start: Start, tmp_path: Path) -> None:
    """What a build leaves in the background neither holds it up nor lives on."""
    pid = tmp_path / "pid"
    session = start(built, "say", "--build", f"sleep 1000 & echo $! > {pid}; cp main.in main.py")
    session.wait_for("first answer\n")

    assert not _runs(int(pid.read_text()))
    session.end()


@pytest.mark.needs_gcc
def test_what_frys_new_made_is_developed(tmp_path: Path, start: Start) -> None:
    """The C template: another dash in the code is another result."""
    assert frys("new", "c", "fast", "--dir", tmp_path).returncode == 0
    session = start(tmp_path / "fast", "slug", "Hello, World!")
    session.wait_for("hello-world\n")

    code = tmp_path / "fast" / "plugin.c"
    code.write_text(code.read_text().replace(": '-'", ": '+'").replace('"separator"', '"other"'))
    session.wait_for("hello+world\n")
    session.end()


# ---- words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/nowhere"], "/nowhere is no folder with a plugin.json; `frys new` makes one"),
        (["{}", "--build", "x", "--no-build"], "--build and --no-build contradict each other"),
        (["{}", "say", "int:x"], "int:x"),
        (["{}", "say", "-"], "- could be read only once"),
        (["--policy", "/nowhere.yaml", "{}"], "/nowhere.yaml"),
    ],
)
def test_wrong_words_are_a_usage_error(words: list[str], said: str, folder: Path) -> None:
    """Told in a sentence, and nothing is built or loaded."""
    done = frys("dev", *(word.format(folder) for word in words))

    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert b"loaded" not in done.stdout


def test_without_the_package_that_watches(folder: Path) -> None:
    """A sentence says what to install."""
    code = "import sys; sys.modules['watchfiles'] = None; from frys_runtime.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "dev", folder, "say"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "pip install frys-runtime[watch]" in done.stderr
    assert "loaded" not in done.stdout


def test_what_it_depends_on_is_found_beside_its_folder(folder: Path, tmp_path: Path, start: Start) -> None:
    """It is loaded first, and stays through the rounds."""
    exports = {"word": {"params": [], "returns": "string"}}
    write(tmp_path / "words", "1.1.0", "def word():\n    return 'found'\n", id="words", exports=exports)
    (tmp_path / "policy.yaml").write_text("extends: maximum\nmessages: {call: {words: [word]}}\n")
    about = PLUGIN_JSON.replace("}", ', "dependencies": [{"pluginId": "words", "versionRange": "^1"}]}')
    (folder / "plugin.json").write_text(about)
    code = "import frys\n\ndef say():\n    return frys.call('words', 'word') + ' {}'\n"
    (folder / "main.py").write_text(code.format("once"))
    session = start("--policy", tmp_path / "policy.yaml", folder, "say")
    session.wait_for("\nfound once\n")
    (folder / "main.py").write_text(code.format("twice"))
    session.wait_for("\nfound twice\n")
    assert session.end() == 0
