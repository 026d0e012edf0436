"""scripts/find-python: it believes no path, only an interpreter that answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "find-python"
THIS_PYTHON = os.path.realpath(sys._base_executable)


@pytest.fixture
def machine(tmp_path: Path):
    """A PATH and a home in which only what the test puts there can be found."""
    path, home = tmp_path / "bin", tmp_path / "home"
    path.mkdir()
    home.mkdir()
    for tool in ("sh", "ls", "sort"):
        (path / tool).symlink_to(f"/bin/{tool}")

    def find(**environment: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(path), "HOME": str(home), **environment}
        return subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False)

    find.path, find.home = path, home
    return find


def script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


SHIM = "echo 'pyenv: python3.13: command not found' >&2\nexit 127"


def test_a_shim_that_fails_is_passed_over(machine):
    """The next candidate is taken when python3.13 exists on PATH and does not run."""
    script(machine.path / "python3.13", SHIM)
    (machine.path / "python3").symlink_to(THIS_PYTHON)

    assert machine().stdout.strip() == THIS_PYTHON


def test_an_older_python_is_passed_over(machine):
    """A Python that runs our question and says that it is too old does not count."""
    script(machine.path / "python3", "exit 1")
    script(machine.path / "python3.14", f'exec {THIS_PYTHON} "$@"')

    assert machine().stdout.strip() == THIS_PYTHON


def test_pyenv_versions_are_tried_newest_first(machine):
    """Versions that pyenv holds are found without its shims, 3.13 before 3.9."""
    versions = machine.home / ".pyenv" / "versions"
    script(versions / "3.9.18/bin/python3", "echo /the/oldest")
    script(versions / "3.13.0/bin/python3", "echo /the/newest")

    assert machine().stdout.strip() == "/the/newest"


def test_uv_is_asked_last_and_must_not_download(machine):
    """The answer of uv is run like any other, and uv is told not to fetch an interpreter."""
    script(machine.path / "uv", f'[ "$UV_PYTHON_DOWNLOADS" = never ] && echo {THIS_PYTHON}')

    assert machine().stdout.strip() == THIS_PYTHON


def test_an_override_that_does_not_run_is_an_error(machine):
    """PYTHON= is believed or refused, never replaced by another interpreter."""
    (machine.path / "python3").symlink_to(THIS_PYTHON)
    done = machine(PYTHON="/nonexistent/python")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("PYTHON=/nonexistent/python does not run")


def test_nothing_found_says_how_to_get_one(machine):
    """Without any candidate there is one sentence with what to do."""
    done = machine()

    assert (done.returncode, done.stdout) == (1, "")
    assert "Frys needs CPython 3.13 or newer" in done.stderr
    assert done.stderr.count("\n") == 1
