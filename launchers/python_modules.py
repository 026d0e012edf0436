"""Which file of a plugin is which module, by the rules of Python's own finder of files."""

import sys

TYPE_CHECKING = False  # importing the module below costs memory in every plugin
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

RESERVED = frozenset(("frys", "frys_runtime"))
"""Modules that are the host's, whatever a plugin brings along."""


def own_base(entry: str, files: "Container[str]") -> str:
    """Find the folder whose modules are top-level: the entry's, or the one above its package."""
    folder = entry.rpartition("/")[0]
    while folder and f"{folder}/__init__.py" in files:
        folder = folder.rpartition("/")[0]
    return f"{folder}/" if folder else ""


def base_of(path: str, bases: "Sequence[str]") -> str | None:
    """Find the base that a path lies in, the innermost when there are several."""
    return max((base for base in bases if path.startswith(base)), key=len, default=None)


def is_package(file: str) -> bool:
    """Tell whether a module is a package by its file; a path that ends in ``/`` is a folder without code."""
    last = file.rpartition("/")[2]
    return not last or last.startswith("__init__.")


def index(
    paths: "Iterable[str]", bases: "Sequence[str]", suffixes: "Sequence[str]", above: str = ""
) -> dict[str, str]:
    """Give each module's file by the module's name; a package without code has a path that ends in ``/``.

    As on Python's own path, an earlier base goes first, and in one folder a package goes before a module.
    A package without code goes last. What is vendored never hides the standard library.

    Args:
        paths: The plugin's files.
        bases: The folders whose modules are top-level; the first is the plugin's own.
        suffixes: What a module's file may end with; an earlier one goes first.
        above: The package that the modules of the first base belong to.
    """
    found: dict[str, tuple[tuple[bool, int, bool, int], str]] = {}
    foreign = sys.stdlib_module_names | RESERVED

    def offer(name: str, rank: tuple[bool, int, bool, int], path: str) -> None:
        if name not in found or rank < found[name][0]:
            found[name] = rank, path

    for path in paths:
        base = base_of(path, bases)
        kind = next((number for number, end in enumerate(suffixes) if path.endswith(end)), -1)
        if base is None or kind < 0:
            continue
        inner = path.removeprefix(base).removesuffix(suffixes[kind])
        number = bases.index(base)
        if "." in inner or (number and inner.partition("/")[0] in foreign):
            continue
        start = f"{above}." if above and not number else ""
        package = inner.rpartition("/")[2] == "__init__"
        module = inner.removesuffix("__init__").rstrip("/") if package else inner
        if module:
            offer(start + module.replace("/", "."), (False, number, not package, kind), path)
        while module := module.rpartition("/")[0]:
            offer(start + module.replace("/", "."), (True, number, False, 0), f"{base}{module}/")
    return {name: path for name, (_, path) in found.items()}
