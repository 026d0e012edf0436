"""Compile the C fixtures: no binary is kept in the repository."""

import functools
import subprocess
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "native"


def compile_fixture(name: str, directory: Path, *flags: str) -> Path:
    """Compile a C file of fixtures/native into a shared object.

    Args:
        name: The file without its suffix, such as ``text`` or ``hostile/hostile``.
        directory: Where the result goes, as ``<last part of the name>.so``.
        flags: For the linker.

    Returns:
        The shared object.
    """
    library = directory / f"{Path(name).name}.so"
    compile_source(FIXTURES / f"{name}.c", library, *flags)
    return library


def compile_source(source: Path, library: Path, *flags: str) -> None:
    """Compile a C file into a shared object."""
    command = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", library, source]
    subprocess.run([*command, *flags], check=True)


# Where this run of the tests keeps what it compiles once; jail/conftest.py sets it.
folder = Path()


@functools.cache
def library(name: str) -> Path:
    """The C file as a shared object, compiled once in a run."""
    return compile_fixture(name, folder)
