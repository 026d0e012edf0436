"""What a package looks like, for whoever writes one and for whoever reads one.

A package is a ZIP archive of which every byte is decided by the files in it: stored, in one order, without
times, comments or choices. docs/packages.md has the format.
"""

import json
import struct
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from .folder import MAX_DEPTH, MAX_FILES, MAX_SIZE, is_left_out
from .metadata import Metadata

SUFFIX: Final = ".frys"
MANIFEST: Final = ".manifest.json"
"""The first file of a package; a dot in front, so that no file of a plugin has its name."""

MAX_PATH: Final = 512
"""Bytes of one path, in UTF-8."""

MAX_MANIFEST: Final = 8 << 20

# APPNOTE.TXT of PKWARE, 4.3.7, 4.3.12 and 4.3.16.
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_NEEDS: Final = 20
_UTF8: Final = 0x0800
_STORED: Final = 0
_MIDNIGHT: Final = 0
_FIRST_DAY: Final = 0x21  # 1980-01-01, the first that ZIP can write
_MADE_BY: Final = 3 << 8 | _NEEDS  # Unix, whose modes stand in the attributes
_MODE: Final = 0o100644 << 16

MAX_PACKAGE: Final = MAX_SIZE + MAX_MANIFEST + (MAX_FILES + 1) * (_LOCAL.size + _CENTRAL.size + 2 * MAX_PATH)
"""Bytes of the longest package."""


def file_name(metadata: Metadata) -> str:
    """How a plugin's package is called: ``id-version.frys``."""
    return f"{metadata.id}-{metadata.version}{SUFFIX}"


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file in the manifest."""

    path: Annotated[str, Meta(min_length=1, max_length=MAX_PATH)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size: Annotated[int, Meta(ge=0, le=MAX_SIZE)]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first file of a package."""

    files: Annotated[tuple[Listed, ...], Meta(min_length=1, max_length=MAX_FILES)]
    frys: Literal[1]


def manifest_bytes(listed: Iterable[Listed]) -> bytes:
    """The manifest of files, in its one spelling."""
    files = [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in listed]
    return json.dumps({"files": files, "frys": 1}, ensure_ascii=False, separators=(",", ":")).encode()


class Names:
    """The names so far: each once, in one spelling, as a file or as a folder."""

    def __init__(self) -> None:
        self._spelled: dict[str, str] = {}

    def add(self, path: str) -> str:
        """Note a file's path; why it cannot be in a package, or not beside the others, or nothing."""
        if wrong := _wrong_name(path):
            return wrong
        at = path.find("/")
        while at >= 0:
            if wrong := self._note(path[: at + 1]):
                return wrong
            at = path.find("/", at + 1)
        if self._spelled.get(_folded(path)) == path:
            return "is there twice"
        return self._note(path)

    def _note(self, name: str) -> str:
        other = self._spelled.setdefault(_folded(name), name)
        if other == name:
            return ""
        if other.rstrip("/") == name.rstrip("/"):
            return "is there as a file and as a folder"
        return f"differs from {other!r} in nothing that every system tells apart"


def _wrong_name(path: str) -> str:
    """Why a file may not be called this in a package; empty when it may."""
    parts = path.split("/")
    if not all(parts) or {".", ".."} & set(parts):
        return "is no path inside the plugin's folder, with / and without . or .."
    if not path.isprintable() or "\\" in path:
        return "has characters that a plugin's files may not have"
    if any(is_left_out(part) for part in parts):
        return "is one that no plugin gets: a name with a dot in front, or __pycache__"
    if unicodedata.normalize("NFC", path) != path:
        return "is not in Unicode's composed form (NFC); rename the file"
    if len(path.encode()) > MAX_PATH:
        return f"has more than {MAX_PATH} bytes"
    return f"is nested deeper than {MAX_DEPTH} folders" if len(parts) - 1 > MAX_DEPTH else ""


def _folded(name: str) -> str:
    """Canonical caseless matching: The Unicode Standard, section 3.13, definition D145."""
    decomposed = unicodedata.normalize("NFD", name.rstrip("/"))
    return unicodedata.normalize("NFD", decomposed.casefold())


# The bytes of a ZIP archive.


def header(path: bytes, crc: int, size: int) -> bytes:
    """What stands before a file."""
    head = _LOCAL.pack(
        b"PK\3\4", _NEEDS, _UTF8, _STORED, _MIDNIGHT, _FIRST_DAY, crc, size, size, len(path), 0
    )
    return head + path


def header_size(path: bytes) -> int:
    """Bytes that stand before a file."""
    return _LOCAL.size + len(path)


def claimed(head: bytes) -> tuple[int, int]:
    """The CRC-32 and the size that a header names, if it is one."""
    crc, size = struct.unpack_from("<II", head, 14)
    return crc, size


class Directory:
    """The central directory, as it has to be for the files so far."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.offset = 0
        """Where the next file's local header begins."""

    def add(self, path: bytes, crc: int, size: int) -> None:
        """A file comes next."""
        self._parts.append(
            _CENTRAL.pack(
                *(b"PK\1\2", _MADE_BY, _NEEDS, _UTF8, _STORED, _MIDNIGHT, _FIRST_DAY, crc, size, size),
                *(len(path), 0, 0, 0, 0, _MODE, self.offset),
            )
            + path
        )
        self.offset += header_size(path) + size

    def finished(self) -> bytes:
        """All of it, and the record that ends the archive."""
        directory, count = b"".join(self._parts), len(self._parts)
        return directory + _END.pack(b"PK\5\6", 0, 0, count, count, len(directory), self.offset, 0)
