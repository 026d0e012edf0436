"""FRYS_TEST_REQUIRE turns a skip into a failure, and only where it says so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NEEDS_GCC = """
import pytest

@pytest.mark.needs_gcc
def test_of_a_feature():
    pass
"""


@pytest.fixture
def run_without_gcc(tmp_path: Path):
    """Run a test that needs gcc with these conftest rules on a PATH that is empty."""
    for name in (
        "conftest.py",
        "features.py",
        "auditing.py",
        "browser.py",
        "oci_tools.py",
        "ordinary.py",
        "uml.py",
    ):
        shutil.copy(TESTS / name, tmp_path)
    (tmp_path / "test_it.py").write_text(NEEDS_GCC)

    def run(require: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": str(tmp_path / "empty"), "FRYS_TEST_REQUIRE": require}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-rA",
            "-p",
            "no:cacheprovider",
            "--strict-markers",
            "test_it.py",
        ]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def test_missing_feature_skips_with_its_reason(run_without_gcc):
    """Where nothing is required, the test is skipped and says why."""
    done = run_without_gcc("")

    assert "1 skipped" in done.stdout
    assert "needs gcc: [Errno 2] No such file or directory: 'gcc'" in done.stdout


@pytest.mark.parametrize("require", ["gcc", "landlock, gcc", "all"])
def test_missing_feature_fails_where_it_is_required(run_without_gcc, require):
    """A required feature that is missing is a failure."""
    done = run_without_gcc(require)

    assert done.returncode == 1
    assert "FRYS_TEST_REQUIRE names gcc, but this machine lacks it" in done.stdout


def test_other_requirements_leave_the_skip(run_without_gcc):
    """Only the named features are required."""
    assert "1 skipped" in run_without_gcc("landlock").stdout


def test_unknown_requirement_is_refused(run_without_gcc):
    """A typing error in FRYS_TEST_REQUIRE must not silently require nothing."""
    done = run_without_gcc("landlok")

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "FRYS_TEST_REQUIRE names landlok; known are all, root" in done.stderr
