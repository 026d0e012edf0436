"""`frys pack`: a plugin's folder as one file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidFormat
from ..loader import PluginLoader
from ..package import open_package
from ..package_format import SUFFIX
from ..packing import write_package
from .exits import UsageError
from .terminal import print_json, printable, size, stdout


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with plugin.json.")] = Path(),
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default ID-VERSION.frys, here."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Make one file of a plugin's folder: a package, which loads as the folder does.

    The same files give the same bytes on every machine. Names with a dot in front and `__pycache__` are left
    out, and what a file `.frysignore` names: one pattern a line, such as `tests`, `*.c` or `/docs/*.md`.

    Exit codes: 0 made; 2 wrong words, a wrong plugin.json, or the file cannot be written; 5 the folder
    cannot be packed.
    """
    if output is not None and output.suffix != SUFFIX:
        raise UsageError(f"{output}: a package is known by its suffix; call it {output}{SUFFIX}")
    try:
        path = write_package(folder, output)
    except OSError as error:
        where = str(output) if output is not None else "the package"
        raise UsageError(f"{where} cannot be written: {error.strerror}; -o names another place") from None
    package = open_package(path)
    if json:
        print_json(
            {
                "path": path,
                "id": package.metadata.id,
                "version": package.metadata.version,
                "size": package.size,
                "sha256": package.digest,
                "files": [
                    {"path": file.path, "size": file.size, "sha256": file.sha256} for file in package.files
                ],
            }
        )
    else:
        say = f"{path}: {len(package.files)} files, {size(package.size)}\nsha256:{package.digest}"
        stdout().print(printable(say), markup=False, soft_wrap=True)
    try:
        PluginLoader().load(path).close()
    except InvalidFormat as error:  # for another machine, perhaps
        print(printable(f"note: this machine would not load it: {error}"), file=sys.stderr)
