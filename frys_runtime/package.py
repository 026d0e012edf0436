"""Packages: one plugin as one file, the same bytes wherever it is packed.

A package is a ZIP archive of which every byte is decided by the files in it: stored, in one order, without
times, comments or choices. So the reader knows each byte of each header before it reads it, and accepts no
other. docs/packages.md has the format.
"""

import hashlib
import json
import os
import stat
import struct
import tempfile
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from .errors import InvalidFormat, LoadFailed
from .folder import (
    MAX_DEPTH,
    MAX_FILES,
    MAX_SIZE,
    PLUGIN_JSON,
    chunks,
    is_left_out,
    read_plugin_json,
    reason,
    walk,
)
from .metadata import MAX_BYTES as MAX_METADATA_BYTES, Metadata, parse_metadata

SUFFIX: Final = ".frys"
MANIFEST: Final = ".manifest.json"
"""The first file of a package; a dot in front, so that no file of a plugin has its name."""

MAX_PATH: Final = 512
"""Bytes of one path, in UTF-8."""

IGNORE_FILE: Final = ".frysignore"

_MAX_MANIFEST: Final = 8 << 20
_MAX_IGNORE: Final = 64 << 10
_CHUNK: Final = 1 << 20

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

MAX_PACKAGE: Final = MAX_SIZE + _MAX_MANIFEST + (MAX_FILES + 1) * (_LOCAL.size + _CENTRAL.size + 2 * MAX_PATH)
"""Bytes of the longest package."""


class PackageFile(msgspec.Struct, frozen=True):
    """One file of a plugin in its package.

    Attributes:
        path: Relative to the plugin's folder, with ``/``.
        size: Bytes.
        sha256: Of its content, in hexadecimal.
        offset: Where its content begins in the package.
    """

    path: str
    size: int
    sha256: str
    offset: int


class Package(msgspec.Struct, frozen=True):
    """What was read from a package, every byte of it checked.

    Attributes:
        metadata: What its ``plugin.json`` says.
        files: All files of the plugin, ``plugin.json`` among them, in the order of their paths.
        digest: The SHA-256 of the whole package, in hexadecimal.
        size: Bytes of the whole package.
    """

    metadata: Metadata
    files: tuple[PackageFile, ...]
    digest: str
    size: int

    @property
    def file_name(self) -> str:
        """How the package is called: ``id-version.frys``."""
        return file_name(self.metadata)


def file_name(metadata: Metadata) -> str:
    """How a plugin's package is called: ``id-version.frys``."""
    return f"{metadata.id}-{metadata.version}{SUFFIX}"


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[str, Meta(min_length=1, max_length=MAX_PATH)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    size: Annotated[int, Meta(ge=0, le=MAX_SIZE)]


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: Annotated[tuple[_Listed, ...], Meta(min_length=1, max_length=MAX_FILES)]
    frys: Literal[1]


class _Odd(Exception):
    """What is not as it has to be, as the end of a sentence."""


def _manifest_bytes(listed: Iterable[_Listed]) -> bytes:
    files = [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in listed]
    return json.dumps({"files": files, "frys": 1}, ensure_ascii=False, separators=(",", ":")).encode()


# Names.


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


class _Names:
    """The names so far: each once, in one spelling, as a file or as a folder."""

    def __init__(self) -> None:
        self._spelled: dict[str, str] = {}

    def add(self, path: str) -> str:
        """Note a file's path; why it cannot be beside the others, or nothing."""
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


def _folded(name: str) -> str:
    """Canonical caseless matching: The Unicode Standard, section 3.13, definition D145."""
    decomposed = unicodedata.normalize("NFD", name.rstrip("/"))
    return unicodedata.normalize("NFD", decomposed.casefold())


# The bytes of a ZIP archive, for the writer and for the reader.


def _local(path: bytes, crc: int, size: int) -> bytes:
    head = _LOCAL.pack(
        b"PK\3\4", _NEEDS, _UTF8, _STORED, _MIDNIGHT, _FIRST_DAY, crc, size, size, len(path), 0
    )
    return head + path


class _Directory:
    """The central directory, as it has to be for the files so far."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.offset = 0
        """Where the next file's local header begins."""

    def add(self, path: bytes, crc: int, size: int) -> None:
        self._parts.append(
            _CENTRAL.pack(
                *(b"PK\1\2", _MADE_BY, _NEEDS, _UTF8, _STORED, _MIDNIGHT, _FIRST_DAY, crc, size, size),
                *(len(path), 0, 0, 0, 0, _MODE, self.offset),
            )
            + path
        )
        self.offset += _LOCAL.size + len(path) + size

    def finished(self) -> bytes:
        """All of it, and the record that ends the archive."""
        directory, count = b"".join(self._parts), len(self._parts)
        return directory + _END.pack(b"PK\5\6", 0, 0, count, count, len(directory), self.offset, 0)


# Reading.


class _Stream:
    """A package's bytes from the first to the last, each read once."""

    def __init__(self, source: int | bytes) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self.at = 0
        self.size = len(source) if isinstance(source, bytes) else os.fstat(source).st_size

    def take(self, count: int) -> bytes:
        """The next bytes, as many as are wanted."""
        if count > self.size - self.at:
            raise _Odd(f"it ends after {self.size} bytes, where {self.at + count} are needed")
        taken = b"".join(self.chunks(count))
        if len(taken) != count:
            raise _Odd("it became shorter while it was read")
        return taken

    def chunks(self, count: int) -> Iterator[bytes]:
        """The same, piece by piece, and fewer if there are no more."""
        while count > 0:
            most = min(count, _CHUNK)
            if isinstance(self._source, bytes):
                chunk = self._source[self.at : self.at + most]
            else:
                chunk = os.pread(self._source, most, self.at)
            if not chunk:
                return
            self._digest.update(chunk)
            self.at += len(chunk)
            count -= len(chunk)
            yield chunk

    def digest(self) -> str:
        """The SHA-256 of what was read."""
        return self._digest.hexdigest()


def read_package(source: int | bytes, name: str = "the package") -> Package:
    """Read a package and check every byte of it; nothing is unpacked.

    Each byte is read once, so that what is hashed is what is checked, whatever others do to the file. Before
    it is loaded it belongs in a sealed memory file all the same, as :mod:`frys_runtime.loader` does it.

    Args:
        source: A descriptor of a file, whose position does not matter, or the bytes.
        name: How to name it in errors.

    Raises:
        InvalidFormat: It is no package, or not exactly as a package has to be.
        ConfigError: Its ``plugin.json`` is wrong.
        LoadFailed: It cannot be read.
    """
    stream = None
    try:
        stream = _Stream(source)
        return _read(stream, name)
    except _Odd as odd:
        raise InvalidFormat(name, "a Frys package", str(odd)) from None
    except OSError as error:
        raise LoadFailed(name, reason(error)) from None


def open_package(path: str | os.PathLike[str]) -> Package:
    """Read a package's file, as :func:`read_package` does.

    Raises:
        PluginError: As :func:`read_package`.
    """
    name = os.fspath(path)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise LoadFailed(name, reason(error)) from None
    try:
        return read_package(fd, name)
    finally:
        os.close(fd)


def _read(stream: _Stream, name: str) -> Package:
    if stream.size > MAX_PACKAGE:
        raise _Odd(f"it has {stream.size} bytes, and at most {MAX_PACKAGE} are read")
    directory = _Directory()
    listed = _read_manifest(stream, directory)
    files: list[PackageFile] = []
    about = b""
    for file in listed:
        kept = _read_file(stream, directory, file)
        if file.path == PLUGIN_JSON:
            about = kept
        files.append(PackageFile(file.path, file.size, file.sha256, stream.at - file.size))
    end = directory.finished()
    if stream.size != stream.at + len(end):
        raise _Odd(f"it has {stream.size} bytes, and its files make {stream.at + len(end)}")
    if stream.take(len(end)) != end:
        raise _Odd("its directory at the end is not the one of its files")
    metadata = parse_metadata(about, f"{name}: {PLUGIN_JSON}")
    if metadata.entry and metadata.entry not in {file.path for file in listed}:
        raise _Odd(f"its entry {metadata.entry} is not in it")
    return Package(metadata, tuple(files), stream.digest(), stream.size)


def _read_manifest(stream: _Stream, directory: _Directory) -> tuple[_Listed, ...]:
    name = MANIFEST.encode()
    head = stream.take(_LOCAL.size + len(name))
    crc, size = struct.unpack_from("<II", head, 14)
    if head != _local(name, crc, size):
        raise _Odd(f"it does not begin with a file {MANIFEST} as `frys pack` writes it")
    if size > _MAX_MANIFEST:
        raise _Odd(f"its {MANIFEST} has {size} bytes, and at most {_MAX_MANIFEST} are read")
    data = stream.take(size)
    if zlib.crc32(data) != crc:
        raise _Odd(f"the CRC-32 of {MANIFEST} is not the one that stands before it")
    directory.add(name, crc, size)
    try:
        manifest = msgspec.json.decode(data, type=_Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _Odd(f"its {MANIFEST} is wrong: {error}") from None
    _check_listed(manifest.files)
    if _manifest_bytes(manifest.files) != data:
        raise _Odd(f"its {MANIFEST} is not written as `frys pack` writes it, byte for byte")
    return manifest.files


def _check_listed(listed: tuple[_Listed, ...]) -> None:
    names, before = _Names(), ""
    for file in listed:
        if wrong := _wrong_name(file.path) or names.add(file.path):
            raise _Odd(f"the name {file.path!r} {wrong}")
        if file.path < before:
            raise _Odd(f"{file.path!r} stands after {before!r}, and files are in the order of their names")
        before = file.path
    if PLUGIN_JSON not in {file.path for file in listed}:
        raise _Odd(f"it has no {PLUGIN_JSON}")
    if sum(file.size for file in listed) > MAX_SIZE:
        raise _Odd(f"its files have more than {MAX_SIZE >> 20} MiB")


def _read_file(stream: _Stream, directory: _Directory, file: _Listed) -> bytes:
    """Check one file; its content if that is the ``plugin.json``."""
    path = file.path.encode()
    head = stream.take(_LOCAL.size + len(path))
    crc = int.from_bytes(head[14:18], "little")
    if head != _local(path, crc, file.size):
        raise _Odd(f"what stands before {file.path} is not the header of that file")
    if file.size > stream.size - stream.at:
        raise _Odd(f"it ends in the middle of {file.path}")
    digest, checksum, kept = hashlib.sha256(), 0, b""
    if file.path == PLUGIN_JSON and file.size > MAX_METADATA_BYTES:
        raise _Odd(f"its {PLUGIN_JSON} has {file.size} bytes; at most {MAX_METADATA_BYTES} are read")
    for chunk in stream.chunks(file.size):
        digest.update(chunk)
        checksum = zlib.crc32(chunk, checksum)
        if file.path == PLUGIN_JSON:
            kept += chunk
    if digest.hexdigest() != file.sha256:
        raise _Odd(f"{file.path} has the SHA-256 {digest.hexdigest()}, and {MANIFEST} says {file.sha256}")
    if checksum != crc:
        raise _Odd(f"the CRC-32 of {file.path} is not the one that stands before it")
    directory.add(path, crc, file.size)
    return kept


# Writing.


def pack(folder: str | os.PathLike[str]) -> bytes:
    """Make a package of a folder with ``plugin.json``.

    It gets what the loader would read of the folder, without what a file ``.frysignore`` there names. The
    same files give the same bytes: neither times, owners and modes nor the machine have a say.

    Raises:
        InvalidFormat: The folder cannot be packed; the error says what stands in the way.
        ConfigError: Its ``plugin.json`` is wrong.
    """
    _, contents = _gather(os.fspath(folder))
    return b"".join(_parts(contents))


def write_package(folder: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> str:
    """Make a package of a folder, as :func:`pack` does, and write it to a file.

    Args:
        folder: With a ``plugin.json``.
        target: Replaced in one step if it is there; by default ``id-version.frys`` in the working folder.

    Returns:
        The path of the package.

    Raises:
        InvalidFormat, ConfigError: As :func:`pack`.
        OSError: It cannot be written; nothing is left then.
    """
    metadata, contents = _gather(os.fspath(folder))
    path = os.fspath(target) if target is not None else file_name(metadata)
    replace_file(path, _parts(contents))
    return path


def replace_file(path: str, parts: Iterable[bytes], mode: int = 0o644) -> None:
    """Write a file so that its name stands for the old content or for all of the new, even after a crash.

    Raises:
        OSError: It cannot be written; nothing is left then.
    """
    where = os.path.dirname(path) or "."
    fd, temporary = tempfile.mkstemp(dir=where, prefix=f".{os.path.basename(path)[:64]}.")
    try:
        with open(fd, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    below = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(below)
    finally:
        os.close(below)


def _parts(contents: dict[str, bytes]) -> Iterator[bytes]:
    """A package of files, piece by piece."""
    listed = [_Listed(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in contents.items()]
    directory = _Directory()
    for path, data in {MANIFEST: _manifest_bytes(listed), **contents}.items():
        crc = zlib.crc32(data)
        yield _local(path.encode(), crc, len(data))
        yield data
        directory.add(path.encode(), crc, len(data))
    yield directory.finished()


def _gather(folder: str) -> tuple[Metadata, dict[str, bytes]]:
    """What belongs into the package of a folder, in the order in which it stands there."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidFormat(folder, _PACKABLE, reason(error)) from None
    try:
        about = read_plugin_json(folder, fd, MAX_METADATA_BYTES)
        metadata = parse_metadata(about, os.path.join(folder, PLUGIN_JSON))
        contents = {PLUGIN_JSON: about, **_read_files(folder, fd, MAX_SIZE - len(about))}
    except LoadFailed as error:
        raise InvalidFormat(error.path, _PACKABLE, error.reason) from None
    finally:
        os.close(fd)
    if metadata.entry and metadata.entry not in contents:
        why = f"entry names {metadata.entry}, which is not there or left out by {IGNORE_FILE}"
        raise InvalidFormat(folder, _PACKABLE, why)
    # By code points, as UTF-8 sorts by its bytes: not by the locale, nor by how a folder lists them.
    return metadata, dict(sorted(contents.items()))


_PACKABLE: Final = "what can be packed"


def _read_files(folder: str, fd: int, room: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    names = _Names()
    names.add(PLUGIN_JSON)
    for path, file in walk(folder, fd, leave_out=_read_ignore_file(folder, fd)):
        try:
            if wrong := _wrong_name(path) or names.add(path):
                raise LoadFailed(folder, f"the name {path!r} {wrong}")
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise LoadFailed(os.path.join(folder, path), "it is neither a file nor a folder")
            found[path] = b"".join(chunks(file, room + 1))
        except OSError as error:
            raise LoadFailed(os.path.join(folder, path), reason(error)) from None
        finally:
            os.close(file)
        room -= len(found[path])
        if room < 0:
            raise LoadFailed(folder, f"its files have more than {MAX_SIZE >> 20} MiB")
        if len(found) >= MAX_FILES:
            raise LoadFailed(folder, f"it has more than {MAX_FILES} files")
    return found


def _read_ignore_file(folder: str, fd: int) -> Callable[[str], bool]:
    """What tells by its path whether something is left out; packages made in the folder always are."""
    path = os.path.join(folder, IGNORE_FILE)
    try:
        file = os.open(IGNORE_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
    except FileNotFoundError:
        return _is_package
    except OSError as error:
        raise LoadFailed(path, reason(error)) from None
    try:
        text = b"".join(chunks(file, _MAX_IGNORE + 1)).decode()
    except OSError as error:
        raise LoadFailed(path, reason(error)) from None
    except UnicodeDecodeError:
        raise LoadFailed(path, "it is not UTF-8") from None
    finally:
        os.close(file)
    if len(text) > _MAX_IGNORE:
        raise LoadFailed(path, f"it has more than {_MAX_IGNORE >> 10} KiB")
    lines = [line.strip() for line in text.splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    for pattern in patterns:
        if pattern.startswith("!") or "**" in pattern:
            raise LoadFailed(path, f"{pattern!r} is a pattern of Git's that is not known here")
    split = [(pattern.startswith("/"), pattern.strip("/").split("/")) for pattern in patterns]
    return lambda name: _is_package(name) or _is_ignored(name.split("/"), split)


def _is_package(name: str) -> bool:
    return name.endswith((SUFFIX, f"{SUFFIX}.sig", f"{SUFFIX}.sigstore.json"))


def _is_ignored(parts: list[str], patterns: list[tuple[bool, list[str]]]) -> bool:
    """A pattern with a slash holds for a whole path, one without for a name at any depth."""
    for from_top, pattern in patterns:
        if len(pattern) == 1 and not from_top:
            if fnmatchcase(parts[-1], pattern[0]):
                return True
        elif len(pattern) == len(parts) and all(map(fnmatchcase, parts, pattern)):
            return True
    return False
