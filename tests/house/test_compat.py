"""docs/compatibility.md: it has the rows that the tests have, and what becomes of a row is told as it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import compat
import pytest

pytest_plugins = ["pytester"]

SUITE = """
import compat
import pytest

@compat.row("family", "good", "f", version="1.0")
def test_good(): pass

@compat.row("family", "bad", "g", version="2.0", verdict="runs by half")
@pytest.mark.parametrize("wrong", [False, True])
def test_bad(wrong): assert not wrong

@compat.row("family", "told", "h")
def test_told(record_property): record_property("version", "3.0")

@compat.row("family", "absent", "i", version="4.0")
@pytest.mark.skip(reason="no registry")
def test_absent(): pass

@compat.requirement("pip-thing==5.0", "j", "runs alone")
def test_requirement(): pass

@compat.row("family", "broken", "k", version="6.0")
def test_broken(no_such_fixture): pass

def test_other(): assert False
"""


def _in_a_process(code: str) -> str:
    """What a program prints that knows the helpers of the tests."""
    environment = {**os.environ, "PYTHONPATH": str(compat.TESTS)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_the_page_has_the_rows_of_the_tests() -> None:
    """Who adds a test of somebody's package, or takes one away, writes the page again."""
    code = "import compat, json; print(json.dumps(list(compat.run('--collect-only', '-qqq').collected)))"
    rows = json.loads(_in_a_process(code).splitlines()[-1])
    page = [line.strip("| ").split(" | ") for line in compat.DOCUMENT.read_text().splitlines() if "|" in line]

    assert len(rows) > 20
    assert sorted(
        (family, package, called, verdict) for family, package, called, _, verdict in rows
    ) == sorted((family, package, called, verdict) for family, package, _, called, verdict in page[2:])


def test_verdicts_are_the_ends_of_tests(pytester: pytest.Pytester) -> None:
    """Passed, failed in one of two tests, skipped, broken; the version is the one that was installed."""
    pytester.makepyfile(test_suite=SUITE)
    code = (
        "import compat, pathlib\n"
        f"tests = pathlib.Path({str(pytester.path)!r})\n"
        "verdicts = compat.run('-qqq', '-p', 'no:cacheprovider', tests=tests)\n"
        "print('PAGE\\n' + compat.render(verdicts) + str(compat.all_run(verdicts)))"
    )

    page = _in_a_process(code).split("PAGE\n")[1].splitlines()

    assert page[-7:] == [
        "| Python package | pip-thing | 5.0 | j | runs alone |",
        "| family | absent | 4.0 | i | not tried: no registry |",
        "| family | bad | 2.0 | g | does not run |",
        "| family | broken | 6.0 | k | does not run |",
        "| family | good | 1.0 | f | runs |",
        "| family | told | 3.0 | h | runs |",
        "False",
    ]


def test_the_command_says_when_nothing_ran() -> None:
    """The page is not overwritten with an empty one."""
    before = compat.DOCUMENT.read_bytes()
    script = Path(__file__).parents[2] / "scripts" / "compat"
    done = subprocess.run(
        [sys.executable, script, "-k", "no_such_test"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "no test ran" in done.stderr
    assert compat.DOCUMENT.read_bytes() == before
