"""Packages of the index for tests: installed by pip as a plugin's author would, once for all workers."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest


def install(requirement: str, factory: pytest.TempPathFactory) -> Path:
    """Install a requirement with what it needs into a folder of its own, unless another test has."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # what all workers of one run share
    folder = base / f"pip-{requirement}"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", partial]
            subprocess.run([*command, requirement], check=True, capture_output=True, stdin=subprocess.DEVNULL)
            partial.rename(folder)
    return folder
