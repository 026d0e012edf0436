"""What packages ask about themselves, answered from memory: their data files, metadata and entry points.

Loaded when ``importlib.resources`` or ``importlib.metadata`` is used, not before.
"""

import errno
import io
import posixpath
import sys
from importlib.metadata import Distribution, DistributionFinder
from importlib.resources.abc import Traversable, TraversableResources
from typing import IO, Any

from .python_sources import Sources


class File(Traversable):
    """A file or a folder of the plugin, also one that is not there.

    Args:
        sources: Where its content is.
        path: Relative to the plugin's folder; empty for that folder itself.
    """

    def __init__(self, sources: Sources, path: str) -> None:
        self._sources = sources
        self._path = path

    @property
    def name(self) -> str:
        """The last part of its path."""
        return posixpath.basename(self._path)

    @property
    def parent(self) -> "File":
        """The folder that it is in."""
        return File(self._sources, posixpath.dirname(self._path))

    def joinpath(self, *descendants: Any) -> "File":
        """Go down, or up with ``..``, but never out of the plugin."""
        path = posixpath.normpath(posixpath.join("/", self._path, *map(str, descendants)))
        return File(self._sources, path.lstrip("/"))

    __truediv__ = joinpath

    def is_file(self) -> bool:
        """Tell whether it is a file."""
        return self._path in self._sources.files

    def is_dir(self) -> bool:
        """Tell whether it is a folder."""
        return any(path.startswith(self._inside) for path in self._sources.files)

    def exists(self) -> bool:
        """Tell whether it is there at all."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Any:
        """Give what is in the folder."""
        inner = (path[len(self._inside) :] for path in self._sources.files if path.startswith(self._inside))
        return (self.joinpath(name) for name in sorted({path.partition("/")[0] for path in inner}))

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:
        """Open the file to read it; the arguments are those of ``io.TextIOWrapper`` for text.

        Raises:
            OSError: It is no file, or is to be written.
            ValueError: There is no such mode.
        """
        if mode not in {"r", "rt", "rb"}:
            raise OSError(errno.EROFS, "the files of a plugin can only be read", str(self))
        if not self.is_file():
            raise FileNotFoundError(errno.ENOENT, "the plugin has no such file", str(self))
        content = io.BytesIO(self._sources.files[self._path])
        return content if mode == "rb" else io.TextIOWrapper(content, *args, **kwargs)

    def read_bytes(self) -> bytes:
        """Give the content; raises as ``open()``."""
        with self.open("rb") as file:
            content: bytes = file.read()
        return content

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Give the content as text, in UTF-8 by default; raises as ``open()``."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict").replace("\r\n", "\n")

    def __str__(self) -> str:
        return self._sources.root + self._path

    def __repr__(self) -> str:
        return f"<plugin file {self}>"

    @property
    def _inside(self) -> str:
        return f"{self._path}/" if self._path else ""


class Resources(TraversableResources):
    """The data files of one package.

    Args:
        sources: Where they are.
        folder: The package's folder, as its ``__path__`` names it.
    """

    def __init__(self, sources: Sources, folder: str) -> None:
        self._folder = File(sources, folder.removeprefix(sources.root))

    def files(self) -> File:
        """The package's folder."""
        return self._folder


class _Installed(Distribution):
    """A package as pip has installed it."""

    def __init__(self, folder: File) -> None:
        self._folder = folder

    def read_text(self, filename: Any) -> str | None:
        """Give a file of its metadata, if it is there."""
        file = self._folder.joinpath(filename)
        return file.read_text() if file.is_file() else None

    def locate_file(self, path: Any) -> Any:
        """Give one of its files."""
        return self._folder.parent.joinpath(path)


def find_distributions(sources: Sources, context: DistributionFinder.Context) -> list[Distribution]:
    """Find the packages that pip has installed into the plugin's folders, by name or all of them."""
    found: list[Distribution] = []
    for path in sources.files:
        folder, _, last = path.rpartition("/")
        base, name = f"{posixpath.dirname(folder)}/".lstrip("/"), posixpath.basename(folder)
        if last != "METADATA" or not name.endswith(".dist-info") or base not in sources.bases:
            continue
        if context.path is not sys.path and (sources.root + base).rstrip("/") not in context.path:
            continue
        # https://packaging.python.org/en/latest/specifications/binary-distribution-format/: name-version
        if context.name is None or _normal(name.partition("-")[0]) == _normal(context.name):
            found.append(_Installed(File(sources, folder)))
    return found


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
