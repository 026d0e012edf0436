"""The plugin's own files as a WASI program sees them: the folder ``/plugin``, read-only.

They are served out of the verified bytes that the host sent; no system call is made for them, so there is no
path, link or ``..`` that could lead anywhere else. Nothing can be created, changed or removed: such calls
answer "read-only file system".
"""

from collections.abc import Mapping
from typing import NoReturn, override

from .wasm_entry import (
    CREATE,
    DIRECTORY,
    FILESTAT,
    FOLDER_ONLY,
    INVAL,
    ISDIR,
    NOENT,
    NOTCAPABLE,
    NOTDIR,
    READ_FILE,
    READ_FOLDER,
    REGULAR,
    RIGHT_WRITE,
    ROFS,
    SUCCESS,
    TRUNCATE,
    Entry,
    Times,
    WasiError,
)

ROOT = b"/plugin"
_SET, _CURRENT, _END = range(3)
_OFFSET_LIMIT = 1 << 62


class Tree:
    """The plugin's files as folders.

    Attributes:
        folders: Path to the names in it; the root is the empty path.
        files: Path to content.
        numbers: Path to inode number.
    """

    def __init__(self, files: Mapping[str, memoryview]) -> None:
        self.files = files
        self.folders: dict[str, dict[str, None]] = {"": {}}
        for path in sorted(files):
            parts = path.split("/")
            for depth in range(len(parts)):
                folder = "/".join(parts[:depth])
                self.folders.setdefault(folder, {})[parts[depth]] = None
        self.numbers = {path: number for number, path in enumerate([*self.folders, *files], 1)}

    def resolve(self, folder: str, path: bytes) -> tuple[int, str]:
        """Follow a path from a folder on; returns an error number and the path from the root."""
        text = path.decode()
        if text.startswith("/"):
            return NOTCAPABLE, ""
        if not text:
            return NOENT, ""
        at = folder.split("/") if folder else []
        for part in text.split("/"):
            here = "/".join(at)
            if here not in self.folders:
                return (NOTDIR if here in self.files else NOENT), ""
            if part == "..":
                if not at:
                    return NOTCAPABLE, ""
                at.pop()
            elif part not in ("", "."):
                at.append(part)
        found = "/".join(at)
        return (SUCCESS if found in self.numbers else NOENT), found

    def attributes(self, path: str) -> bytes:
        """What ``fd_filestat_get`` stores."""
        kind, size = (DIRECTORY, 0) if path in self.folders else (REGULAR, len(self.files[path]))
        return FILESTAT.pack(1, self.numbers[path], kind, 1, size, 0, 0, 0)


class Folder(Entry):
    """An open folder of the plugin."""

    kind = DIRECTORY
    rights = READ_FOLDER
    inherited = READ_FILE | READ_FOLDER

    def __init__(self, tree: Tree, path: str = "") -> None:
        self._tree, self._path = tree, path

    @override
    def attributes(self) -> bytes:
        return self._tree.attributes(self._path)

    @override
    def entries(self, _anew: bool) -> list[tuple[bytes, int, int]]:
        tree, found = self._tree, []
        for name in (".", "..", *tree.folders[self._path]):
            path = self._path if name in (".", "..") else f"{self._path}/{name}".lstrip("/")
            found.append((name.encode(), tree.numbers[path], DIRECTORY if path in tree.folders else REGULAR))
        return found

    @override
    def open_at(self, path: bytes, _follow: bool, how: int, rights: int, _flags: int) -> Entry:
        error, found = self._tree.resolve(self._path, path)
        if error == NOENT and how & CREATE:
            raise WasiError(ROFS)
        if error:
            raise WasiError(error)
        if how & TRUNCATE:
            raise WasiError(ROFS)
        is_folder = found in self._tree.folders
        if how & FOLDER_ONLY and not is_folder:
            raise WasiError(NOTDIR)
        if rights & RIGHT_WRITE:
            raise WasiError(ISDIR if is_folder else ROFS)
        return Folder(self._tree, found) if is_folder else File(self._tree, found)

    @override
    def attributes_at(self, path: bytes, _follow: bool) -> bytes:
        return self._tree.attributes(self._find(path))

    @override
    def set_times_at(self, _path: bytes, _follow: bool, _times: Times) -> None:
        raise WasiError(ROFS)

    @override
    def link_at(self, path: bytes) -> bytes:
        self._find(path)
        raise WasiError(INVAL)

    @override
    def make_folder_at(self, _path: bytes) -> None:
        raise WasiError(ROFS)

    @override
    def remove_folder_at(self, _path: bytes) -> None:
        raise WasiError(ROFS)

    @override
    def remove_file_at(self, _path: bytes) -> None:
        raise WasiError(ROFS)

    @override
    def rename_at(self, _path: bytes, _folder: Entry, _new_path: bytes) -> None:
        raise WasiError(ROFS)

    @override
    def refuse_link(self) -> NoReturn:
        raise WasiError(ROFS)

    def _find(self, path: bytes) -> str:
        error, found = self._tree.resolve(self._path, path)
        if error:
            raise WasiError(error)
        return found


class File(Entry):
    """An open file of the plugin."""

    kind = REGULAR
    rights = READ_FILE

    def __init__(self, tree: Tree, path: str) -> None:
        self._tree, self._path = tree, path
        self._position = 0

    @override
    def attributes(self) -> bytes:
        return self._tree.attributes(self._path)

    @override
    def read(self, size: int, offset: int | None) -> memoryview:
        start = self._position if offset is None else offset
        part = self._tree.files[self._path][start : start + size]
        if offset is None:
            self._position += len(part)
        return part

    @override
    def seek(self, offset: int, whence: int) -> int:
        if whence not in (_SET, _CURRENT, _END):
            raise WasiError(INVAL)
        position = (0, self._position, len(self._tree.files[self._path]))[whence] + offset
        if not 0 <= position < _OFFSET_LIMIT:
            raise WasiError(INVAL)
        self._position = position
        return position
