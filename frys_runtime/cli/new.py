"""`frys new`: a folder with a plugin that works, to begin with."""

import re
import shutil
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import typer

from ..metadata import ID_RULE, is_id
from .exits import UsageError
from .terminal import print_json, printable, stdout

TEMPLATES: Final = Path(__file__).resolve().parents[1] / "templates"
"""A folder for each language; a file's name ends in .in, and names and texts have placeholders like @id@."""

HEADERS: Final = {
    "c": {"frys.h": "frys.h"},
    "go-native": {"frys.h": "frys.h"},
    "rust": {"frys.rs": "src/frys.rs"},
    "rust-native": {"frys.rs": "src/frys.rs"},
}
"""Files of Frys itself that a plugin is compiled with, and where its folder gets a copy."""

_SUFFIX: Final = ".in"


def languages() -> list[str]:
    """Those that there are templates for."""
    return sorted(path.name for path in TEMPLATES.iterdir())


def command(
    language: Annotated[str, typer.Argument(metavar="LANG", help=f"One of {', '.join(languages())}.")],
    name: Annotated[str, typer.Argument(help="The plugin's id, and the name of its folder.")],
    *,
    parent: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where to make the folder; by default here.")
    ] = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Make a folder with a plugin: code, plugin.json, a test, a README, a Makefile where it is compiled.

    Nothing that exists is overwritten.

    Exit codes: 0 made, 2 wrong words, or the folder cannot be made.
    """
    folder = parent / name
    files = make(language, name, folder)
    if json:
        print_json({"id": name, "language": language, "path": str(folder), "files": files})
        return
    console = stdout()
    console.print(f"{printable(str(folder))}: a plugin in {language}", markup=False, soft_wrap=True)
    for file in files:
        console.print(f"  {file}", markup=False, soft_wrap=True)
    console.print("\nNext, in that folder:")
    if "Makefile" in files:
        console.print("  make build")
    console.print('  frys dev . slug "Hello, World!"\n  python3 -m pytest', markup=False)


def make(language: str, name: str, folder: Path) -> list[str]:
    """Fill a new folder with a language's template.

    Args:
        language: One of :func:`languages`.
        name: The plugin's id.
        folder: To be made; its parent exists.

    Returns:
        The files, relative to the folder.

    Raises:
        UsageError: There is no such language, the name cannot be an id, or the folder cannot be made.
    """
    known = languages()
    if language not in known:
        close = get_close_matches(language, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise UsageError(f"there is no template for {language!r}; {hint}")
    if not is_id(name):
        raise UsageError(f"{name!r} cannot be a plugin's id: it {ID_RULE}")
    try:
        folder.mkdir()
    except FileExistsError:
        raise UsageError(
            f"{folder} exists already, and nothing is overwritten; take another name, or --dir"
        ) from None
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}; --dir names another place") from None
    words = {"@id@": name, "@module@": re.sub(r"\W", "_", name, flags=re.ASCII).lower()}
    try:
        files = [
            _write(file, TEMPLATES / language, folder, words)
            for file in (TEMPLATES / language).rglob(f"*{_SUFFIX}")
        ]
        headers = HEADERS.get(language, {})
        for header, path in headers.items():
            shipped = resources.files("frys_runtime.launchers").joinpath("include", header)
            (folder / path).write_bytes(shipped.read_bytes())
        return sorted([*files, *headers.values()])
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(f"{folder} cannot be written: {error.strerror}; --dir names another place") from None


def _write(file: Path, template: Path, folder: Path, words: dict[str, str]) -> str:
    path, text = str(file.relative_to(template)).removesuffix(_SUFFIX), file.read_text(encoding="utf-8")
    for placeholder, word in words.items():
        path, text = path.replace(placeholder, word), text.replace(placeholder, word)
    target = folder / path
    target.parent.mkdir(exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return path
