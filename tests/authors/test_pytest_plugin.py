"""The pytest plugin for authors, in runs of pytest of its own, on the plugins of examples/."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ordinary import ENVIRONMENT, without_user_namespaces
from support import leftovers

EXAMPLES = Path(__file__).parents[2] / "examples"

pytest_plugins = ["pytester"]
pytestmark = [
    pytest.mark.needs_userns,
    pytest.mark.needs_landlock,
    pytest.mark.needs_cgroup,
    pytest.mark.needs_seccomp_notify,
]

SUITE = """
import asyncio
import json
import os
from pathlib import Path

import pytest

from frys_runtime import ExecutionFailed, PluginNotFound

@pytest.fixture(scope="module", autouse=True)
def note(frys_manager):
    # Which processes there were, for the test that started this run.
    yield
    path = Path(__file__).parent / f"worker-{os.getpid()}.json"
    path.write_text(json.dumps(sorted(pids)))

pids = set()

def test_python(frys_plugin):
    words = frys_plugin("words.py")
    pids.add(words.plugin.pid)
    assert words.id == "words"
    assert "count" in words.functions
    assert words.call("count", "to be") == {"to": 1, "be": 1}
    assert words.resource_usage().calls == 1

def test_an_error(frys_plugin):
    # The same plugin again: the other test has left nothing of it.
    words = frys_plugin(Path(__file__).parent / "words.py")
    pids.add(words.plugin.pid)
    with pytest.raises(ExecutionFailed, match="there is no function 'missing'"):
        words.call("missing")

def test_two_at_once(frys_plugin):
    words, script = frys_plugin("words.py"), frys_plugin("words.js", plugin_id="script")
    pids.update((words.plugin.pid, script.plugin.pid))
    assert script.call("reverse", words.call("longest", "a bcd")) == "dcb"
    words.unload()
    words.unload()
    with pytest.raises(PluginNotFound):
        words.call("longest", "a")

@pytest.fixture(scope="module")
def zlib(frys_manager):
    plugin = frys_manager.load(Path(__file__).parent / "zlib")
    pids.add(plugin.plugin.pid)
    yield plugin
    plugin.unload()

@pytest.mark.parametrize("size", [0, 1000])
def test_a_plugin_for_a_module(zlib, size):
    import zlib as ours
    assert ours.decompress(zlib.call("compress", bytes(size))) == bytes(size)

def test_what_the_plain_face_lacks(frys_manager, frys_plugin):
    async def both():
        return await asyncio.gather(*(words.plugin.call("longest", text) for text in ("a", "b")))
    words = frys_plugin("words.py")
    pids.add(words.plugin.pid)
    assert frys_manager.run(both()) == ["a", "b"]
    assert frys_manager.manager.stats().calls >= 2

def test_async(frys_async_manager):
    async def main():
        async with frys_async_manager as manager:
            plugin = manager.plugin(await manager.load_plugin(Path(__file__).parent / "words.py"))
            pids.add(plugin.pid)
            return await plugin.call("longest", "a bc")
    assert asyncio.run(main()) == "bc"

def test_waiting_for_itself(frys_plugin, frys_manager):
    async def main():
        words.call("longest", "a")
    words = frys_plugin("words.py")
    with pytest.raises(RuntimeError, match="it would wait for the event loop that it is called from"):
        frys_manager.run(main())
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with the examples in it."""
    for name in ("words.py", "words.js"):
        shutil.copy(EXAMPLES / name, pytester.path)
    shutil.copytree(EXAMPLES / "zlib", pytester.path / "zlib")
    return pytester


def _run(suite: pytest.Pytester, *options: str) -> pytest.RunResult:
    return suite.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", *options)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_suite(suite: pytest.Pytester, workers: str) -> None:
    """Every fixture, alone and in parallel; nothing is left of any worker."""
    suite.makepyfile(SUITE)

    _run(suite, "-n", workers).assert_outcomes(passed=8)

    notes = list(suite.path.glob("worker-*.json"))
    assert 1 <= len(notes) <= 2
    for note in notes:
        assert leftovers(int(note.stem.removeprefix("worker-"))) == []
        pids = json.loads(note.read_text())
        assert pids
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


LEVEL = """
def test_level(frys_plugin, frys_manager, frys_async_manager):
    frys_plugin("words.py")
    (plugin,) = frys_manager.manager.list_plugins()
    assert plugin.isolation == "{level}"
    assert frys_async_manager._isolation.file.policy("x").level == "{level}"
"""


@pytest.mark.parametrize(
    ("options", "configuration", "level"),
    [
        ((), "", "maximum"),
        (("--frys-isolation", "high"), "", "high"),
        ((), "frys_isolation = standard", "standard"),
        (("--frys-isolation", "high"), "frys_isolation = standard", "high"),
        (("--frys-policy", "policies/mine.yaml"), "frys_isolation = standard", "high"),
        ((), "frys_policy = policies/mine.yaml", "high"),
    ],
)
def test_levels_and_policies(
    suite: pytest.Pytester, options: tuple[str, ...], configuration: str, level: str
) -> None:
    """On the command line, else in the configuration file, else Maximum."""
    suite.makepyfile(LEVEL.format(level=level))
    suite.makeini(f"[pytest]\n{configuration}\n")
    (suite.path / "policies").mkdir()
    (suite.path / "policies" / "mine.yaml").write_text("extends: high\n")

    _run(suite, *options).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("options", "configuration", "message"),
    [
        (("--frys-isolation", "most"), "", "*argument --frys-isolation: invalid choice: 'most'*"),
        (
            (),
            "frys_isolation = most",
            "*frys_isolation is 'most'; it must be one of standard,*",
        ),
        (("--frys-policy", "none.yaml"), "", "*there is no policy file */none.yaml for Frys*"),
        (
            ("--frys-policy", "test_it.py", "--frys-isolation", "high"),
            "",
            "*a Frys policy names its isolation level itself; give one of the two*",
        ),
    ],
)
def test_wrong_options(
    suite: pytest.Pytester, options: tuple[str, ...], configuration: str, message: str
) -> None:
    """One sentence, before the first test."""
    suite.makepyfile(test_it="def test(): pass")
    suite.makeini(f"[pytest]\n{configuration}\n")

    done = _run(suite, *options)

    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([message])


TALK = """
import logging
import pytest

def test_talk(frys_plugin, frys_manager, caplog):
    @frys_manager.manager.host_function("price", ["string"], "float")
    def price(article):
        return len(article) / 2

    with caplog.at_level(logging.INFO, "frys.plugin"):
        assert frys_plugin("talk.py").call("total", ["apple", "pear"]) == 4.5
    assert [record.getMessage() for record in caplog.records] == ["talk: asking", "talk: printed"]
"""


def test_what_a_plugin_asks_and_prints(suite: pytest.Pytester) -> None:
    """The test is the host program: it offers functions, and sees the log."""
    suite.makepyfile(
        TALK,
        talk="import frys\n"
        "def total(articles):\n"
        "    frys.log.info('asking')\n"
        "    print('printed')\n"
        "    return sum(frys.host('price', article) for article in articles)\n",
    )
    (suite.path / "policy.yaml").write_text("extends: maximum\nhost_functions: [log, price]\n")

    _run(suite, "--frys-policy", "policy.yaml").assert_outcomes(passed=1)


def test_settings_of_a_suite(suite: pytest.Pytester) -> None:
    """A conftest.py adds settings to those of the command line; a name is looked up in the plugin paths."""
    suite.makeconftest(
        "import pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def frys_settings(frys_settings, pytestconfig):\n"
        "    return {**frys_settings, 'plugin_paths': [pytestconfig.rootpath / 'plugins']}\n"
    )
    (suite.path / "plugins").mkdir()
    shutil.move(suite.path / "words.py", suite.path / "plugins")
    suite.makepyfile(LEVEL.format(level="high").replace("words.py", "words"))

    _run(suite, "--frys-isolation", "high").assert_outcomes(passed=1)


def test_settings_that_are_wrong(suite: pytest.Pytester) -> None:
    """One sentence instead of a traceback."""
    suite.makeconftest(
        "import pytest\n@pytest.fixture(scope='session')\ndef frys_settings(): return {'max_plugins': 0}\n"
    )
    suite.makepyfile("def test_it(frys_plugin): pass")

    done = _run(suite)

    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["max_plugins: must be a whole number of at least 1, not 0"])
    done.stdout.no_fnmatch_line("*testing.py*")


def test_a_failing_test(suite: pytest.Pytester) -> None:
    """It shows the test's own lines and the plugin's, none of the kit's, and is tidied up like another."""
    suite.makepyfile(
        "import os\nfrom pathlib import Path\n"
        "def test_it(frys_plugin):\n"
        "    words = frys_plugin('words.py')\n"
        "    Path('pid').write_text(f'{os.getpid()} {words.plugin.pid}')\n"
        "    words.call('count', 1)\n"
    )

    done = _run(suite)

    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines([">*words.call('count', 1)", "E *ExecutionFailed: words.count failed*"])
    done.stdout.no_fnmatch_line("*frys_runtime/testing.py*")
    host, plugin = map(int, (suite.path / "pid").read_text().split())
    assert leftovers(host) == []
    assert not Path(f"/proc/{plugin}").exists()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that an ordinary user can read."""
    with tempfile.TemporaryDirectory(prefix="frys-authors-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.needs_ordinary_user
@pytest.mark.needs_bwrap
def test_a_machine_that_lacks_a_layer(open_folder: Path) -> None:
    """The test fails with one sentence that names what is missing; it is not skipped."""
    shutil.copy(EXAMPLES / "words.py", open_folder)
    (open_folder / "test_it.py").write_text("def test_it(frys_plugin): frys_plugin('words.py')\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(open_folder)]

    done = subprocess.run(
        without_user_namespaces([*command, str(open_folder)]),
        cwd=open_folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "1 failed" in done.stdout, done.stdout + done.stderr
    assert "user_namespace" in done.stdout
    assert "Traceback" not in done.stdout
    assert "testing.py" not in done.stdout


def test_what_a_run_of_pytest_pays() -> None:
    """The plugin brings in neither the manager nor asyncio until a fixture is asked for."""
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport frys_runtime.testing\n"
        "print(sorted(name for name in set(sys.modules) - before if name.startswith(('frys', 'asyncio'))))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == str(
        ["frys_runtime", "frys_runtime.config", "frys_runtime.errors", "frys_runtime.testing"]
    )
