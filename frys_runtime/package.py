"""Packages: one plugin as one file, read.

The reader knows each byte of each header before it reads it, and accepts no other; docs/packages.md.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator
from typing import Final

import msgspec

from .errors import InvalidFormat, LoadFailed
from .folder import MAX_SIZE, PLUGIN_JSON, reason
from .metadata import MAX_BYTES as MAX_METADATA_BYTES, Metadata, parse_metadata
from .package_format import (
    MANIFEST,
    MAX_MANIFEST,
    MAX_PACKAGE,
    Directory,
    Listed,
    Manifest,
    Names,
    claimed,
    file_name,
    header,
    header_size,
    manifest_bytes,
)

_CHUNK: Final = 1 << 20


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


class _Odd(Exception):
    """What is not as it has to be, as the end of a sentence."""


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
    directory = Directory()
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


def _read_manifest(stream: _Stream, directory: Directory) -> tuple[Listed, ...]:
    name = MANIFEST.encode()
    head = stream.take(header_size(name))
    crc, size = claimed(head)
    if head != header(name, crc, size):
        raise _Odd(f"it does not begin with a file {MANIFEST} as `frys pack` writes it")
    if size > MAX_MANIFEST:
        raise _Odd(f"its {MANIFEST} has {size} bytes, and at most {MAX_MANIFEST} are read")
    data = stream.take(size)
    if zlib.crc32(data) != crc:
        raise _Odd(f"the CRC-32 of {MANIFEST} is not the one that stands before it")
    directory.add(name, crc, size)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _Odd(f"its {MANIFEST} is wrong: {error}") from None
    _check_listed(manifest.files)
    if manifest_bytes(manifest.files) != data:
        raise _Odd(f"its {MANIFEST} is not written as `frys pack` writes it, byte for byte")
    return manifest.files


def _check_listed(listed: tuple[Listed, ...]) -> None:
    names, before = Names(), ""
    for file in listed:
        if wrong := names.add(file.path):
            raise _Odd(f"the name {file.path!r} {wrong}")
        if file.path < before:
            raise _Odd(f"{file.path!r} stands after {before!r}, and files are in the order of their names")
        before = file.path
    if PLUGIN_JSON not in {file.path for file in listed}:
        raise _Odd(f"it has no {PLUGIN_JSON}")
    if sum(file.size for file in listed) > MAX_SIZE:
        raise _Odd(f"its files have more than {MAX_SIZE >> 20} MiB")


def _read_file(stream: _Stream, directory: Directory, file: Listed) -> bytes:
    """Check one file; its content if that is the ``plugin.json``."""
    path = file.path.encode()
    head = stream.take(header_size(path))
    crc, _ = claimed(head)
    if head != header(path, crc, file.size):
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
