"""Packages of the npm registry, fetched when a test needs them and never kept in the repository."""

import functools
import subprocess
import tarfile
import tempfile
from pathlib import Path


@functools.cache
def package(spec: str) -> dict[str, bytes]:
    """Fetch ``name@version``, and return its files by their path inside the package."""
    with tempfile.TemporaryDirectory(prefix="frys-npm-") as folder:
        subprocess.run(["npm", "pack", "--silent", spec], cwd=folder, capture_output=True, check=True)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as content:
            members = [member for member in content.getmembers() if member.isfile()]
            return {member.name.partition("/")[2]: content.extractfile(member).read() for member in members}
