"""From a path to a verified bundle: every byte read once, into one sealed memory file.

What was checked is what runs: nothing can change a sealed memory file, and nobody reads the path again.
"""

import hashlib
import os
import stat
from collections.abc import Iterable
from typing import NamedTuple, Self

import msgspec

from . import extism_manifest
from .errors import ConfigError, InvalidFormat, LoadFailed
from .folder import (
    MAX_FILES,
    MAX_SIZE,
    PLUGIN_JSON,
    SPECIAL,
    chunks,
    open_below,
    read_plugin_json,
    reason,
    walk,
)
from .formats import SUFFIXES, check_content, detect
from .linux import memory_file
from .metadata import MAX_BYTES as MAX_METADATA_BYTES, Format, Metadata, parse_metadata
from .package import Package, open_package, read_package
from .package_format import MAX_PACKAGE, SUFFIX as PACKAGE_SUFFIX
from .signing import Signed, look_beside


class BundleFile(NamedTuple):
    """One file of a bundle.

    Attributes:
        path: Relative to the plugin's folder, with ``/``.
        offset: Where it begins in the memory file.
        size: Bytes.
    """

    path: str
    offset: int
    size: int


class Candidate(NamedTuple):
    """A plugin that could be loaded from the plugin paths.

    Attributes:
        path: The file or folder.
        metadata: What it says about itself.
    """

    path: str
    metadata: Metadata


class Bundle:
    """A plugin's verified bytes; close it, or use it as a context manager.

    Attributes:
        metadata: What the plugin says about itself.
        path: The plugin as the caller named it.
        fd: The sealed memory file with all files in it, a package as a whole; owned by the bundle.
        files: Where each file lies in it.
        digests: The SHA-256 of each file, in hexadecimal, by path.
        size: Bytes of the memory file, as far as files lie in it.
        signed: The package that lies in the memory file, if one does, with what was found beside it.
    """

    def __init__(
        self,
        metadata: Metadata,
        path: str,
        fd: int,
        files: tuple[BundleFile, ...],
        digests: dict[str, str],
        signed: Signed | None = None,
    ) -> None:
        self.metadata, self.path, self.fd, self.files, self.digests = metadata, path, fd, files, digests
        self.size = max((file.offset + file.size for file in files), default=0)
        self.signed = signed

    @property
    def package(self) -> Package | None:
        """What was read from the package that lies in the memory file, if one does."""
        return self.signed.package if self.signed is not None else None

    def read(self, path: str) -> bytes:
        """The content of one file.

        Raises:
            KeyError: The bundle has no such file.
        """
        for file in self.files:
            if file.path == path:
                return os.pread(self.fd, file.size, file.offset)
        raise KeyError(path)

    def close(self) -> None:
        """Give the memory back; processes that have it mapped keep it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PluginLoader:
    """Finds plugins and reads them.

    Args:
        paths: Folders in which a bare name such as ``my-plugin`` is looked up, in this order.
    """

    def __init__(self, paths: Iterable[str | os.PathLike[str]] = ()) -> None:
        self._paths = [os.fspath(path) for path in paths]

    def add_plugin_path(self, path: str | os.PathLike[str]) -> None:
        """Look up bare names in one more folder."""
        self._paths.append(os.fspath(path))

    def locate(self, path: str | os.PathLike[str]) -> str:
        """The absolute path of a plugin, whatever folder the program is in later.

        Raises:
            LoadFailed: A bare name is nowhere, or in several places.
        """
        return os.path.abspath(self._find(os.fspath(path)))

    def has(self, name: str) -> bool:
        """Whether a name means something here, be it ambiguous."""
        suffixes = ("", *SUFFIXES, PACKAGE_SUFFIX)
        spellings = [os.path.join(folder, name + suffix) for folder in self._paths for suffix in suffixes]
        return any(map(os.path.lexists, (name, *spellings)))

    def candidates(self, plugin_id: str) -> list[Candidate]:
        """What the plugin paths hold of a plugin: under its name, its name and ``@`` and anything, or packed.

        What cannot be read or is wrong is left out; naming it in :meth:`load` says why.
        """
        found: list[Candidate] = []
        for folder in self._paths:
            for entry in sorted(_entries(folder)):
                stem, suffix = os.path.splitext(entry)
                bare = stem == plugin_id and suffix in SUFFIXES
                packed = suffix == PACKAGE_SUFFIX and entry.startswith(f"{plugin_id}-")
                if not bare and not packed and entry != plugin_id and not entry.startswith(f"{plugin_id}@"):
                    continue
                path = os.path.join(folder, entry)
                try:
                    metadata = _metadata_of(path)
                except (LoadFailed, ConfigError, InvalidFormat):
                    continue
                if metadata.id == plugin_id:
                    found.append(Candidate(path, metadata))
        return found

    def load(
        self,
        path: str | os.PathLike[str],
        metadata: Metadata | None = None,
        *,
        plugin_id: str | None = None,
    ) -> Bundle:
        """Read and verify a plugin. This reads files; call it in a thread from asyncio code.

        Args:
            path: A file, a folder with ``plugin.json``, a package (``.frys``), a manifest of Extism's
                (``.json``, ``.toml``), or a bare name.
            metadata: To use instead of what the plugin says; its ``entry`` may be empty for a file.
            plugin_id: An id for a file whose name cannot be one.

        Raises:
            LoadFailed: It cannot be read, or is larger than a plugin may be.
            ConfigError: Its ``plugin.json`` is wrong.
            InvalidFormat: The entry file is not of the format, or a package is not as it has to be.
        """
        name = os.fspath(path)
        found = self._find(name)
        try:
            fd = os.open(found, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise LoadFailed(name, reason(error)) from None
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                return _load_folder(name, fd, metadata)
            if not stat.S_ISREG(mode):
                raise LoadFailed(name, SPECIAL)
            if found.endswith(PACKAGE_SUFFIX):
                return _load_package(name, found, fd, metadata)
            if found.endswith(extism_manifest.SUFFIXES):
                return _load_manifest(name, found, fd, metadata, plugin_id)
            return _load_file(name, os.path.basename(found), fd, metadata, plugin_id)
        except OSError as error:
            raise LoadFailed(name, reason(error)) from None
        finally:
            os.close(fd)

    def _find(self, name: str) -> str:
        if not name or "\0" in name:
            raise LoadFailed(repr(name), "that is no path")
        if os.path.lexists(name) or "/" in name:
            return name
        for folder in self._paths:
            spellings = [os.path.join(folder, name + suffix) for suffix in ("", *SUFFIXES, PACKAGE_SUFFIX)]
            there = [spelling for spelling in spellings if os.path.lexists(spelling)]
            if len(there) > 1:
                raise LoadFailed(name, f"the name is ambiguous; name one of {', '.join(there)}")
            if there:
                return there[0]
        looked = f"; looked in {', '.join(self._paths)}" if self._paths else ""
        raise LoadFailed(name, f"there is no such file or folder{looked}")


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # a plugin path need not exist


def _metadata_of(path: str) -> Metadata:
    """What a plugin says about itself, without its files."""
    if path.endswith(PACKAGE_SUFFIX):
        return open_package(path).metadata
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise LoadFailed(path, reason(error)) from None
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return parse_metadata(
                read_plugin_json(path, fd, MAX_METADATA_BYTES), os.path.join(path, PLUGIN_JSON)
            )
        stem, suffix = os.path.splitext(os.path.basename(path))
        return Metadata.for_file(stem, detect(path, suffix, fd))
    finally:
        os.close(fd)


def _load_file(name: str, base: str, fd: int, metadata: Metadata | None, plugin_id: str | None) -> Bundle:
    if metadata is None:
        stem, suffix = os.path.splitext(base)
        kind = detect(name, suffix, fd)
        metadata = Metadata.for_file(stem if plugin_id is None else plugin_id, kind)
    with _Collector(name, folder=False) as collector:
        collector.add(base, fd)
        return collector.seal(msgspec.structs.replace(metadata, entry=base))


def _load_package(name: str, found: str, fd: int, metadata: Metadata | None) -> Bundle:
    with _Collector(name, folder=True) as collector:
        package = collector.add_package(fd, found)
        return collector.seal(package.metadata if metadata is None else metadata)


def _load_manifest(
    name: str, found: str, fd: int, metadata: Metadata | None, plugin_id: str | None
) -> Bundle:
    try:
        data = b"".join(chunks(fd, extism_manifest.MAX_MANIFEST + 1))
    except OSError as error:
        raise LoadFailed(name, reason(error)) from None
    stem = os.path.splitext(os.path.basename(found))[0]
    manifest = extism_manifest.parse_manifest(data, name, stem if plugin_id is None else plugin_id)
    said = manifest.metadata
    if metadata is not None:
        said = msgspec.structs.replace(metadata, entry=said.entry, options=said.options)
    folder = os.open(os.path.dirname(found) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _Collector(name, folder=False) as collector:
            for source in manifest.sources:
                _collect(name, folder, collector, source)
            return collector.seal(said)
    finally:
        os.close(folder)


def _collect(name: str, folder: int, collector: "_Collector", source: extism_manifest.Source) -> None:
    """Read one module of a manifest, and hold it against its hash."""
    if not source.path:
        collector.add_bytes(source.file, source.data)
    elif source.file not in collector.digests:
        fd = open_below(name, folder, source.path)
        try:
            collector.add(source.file, fd)
        finally:
            os.close(fd)
    collector.check_module(source.file)
    digest = collector.digests[source.file]
    if source.sha256 and source.sha256 != digest:
        raise LoadFailed(
            name, f"{source.file} has the SHA-256 {digest}, and the manifest says {source.sha256[:64]}"
        )


def _load_folder(name: str, fd: int, metadata: Metadata | None) -> Bundle:
    if metadata is None:
        file = os.path.join(name, PLUGIN_JSON)
        metadata = parse_metadata(read_plugin_json(name, fd, MAX_METADATA_BYTES), file)
    with _Collector(name, folder=True) as collector:
        for path, content in walk(name, fd):
            try:
                collector.add(path, content)
            finally:
                os.close(content)
        return collector.seal(metadata)


class _Collector:
    """Copies files into a memory file, with their digests, and seals it.

    Attributes:
        digests: The SHA-256 of what was added, in hexadecimal, by path.
    """

    def __init__(self, name: str, *, folder: bool) -> None:
        self._name = name
        self._folder = folder
        self._fd = memory_file.create("frys-plugin")
        self._files: list[BundleFile] = []
        self.digests: dict[str, str] = {}
        self._end = 0
        self._signed: Signed | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _where(self, path: str) -> str:
        return os.path.join(self._name, path) if self._folder else self._name

    def add(self, path: str, fd: int) -> None:
        """Read one file from an open descriptor, once."""
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise LoadFailed(self._where(path), SPECIAL)
        try:
            self._take(path, chunks(fd, MAX_SIZE - self._end + 1))
        except OSError as error:
            raise LoadFailed(self._where(path), reason(error)) from None

    def add_bytes(self, path: str, data: bytes) -> None:
        """Add a file that stood in another one."""
        self._take(path, (data,))

    def add_package(self, fd: int, path: str) -> Package:
        """Copy a package, once, and read the copy when nobody can change it any more.

        Args:
            fd: The package.
            path: Its file, beside which its signatures lie.
        """
        try:
            for chunk in chunks(fd, MAX_PACKAGE + 1):
                memory_file.write(self._fd, chunk)
        except OSError as error:
            raise LoadFailed(self._name, reason(error)) from None
        memory_file.seal(self._fd)
        package = read_package(self._fd, self._name)
        self._signed = look_beside(package, path)
        own = [file for file in package.files if file.path != PLUGIN_JSON]
        self._files = [BundleFile(file.path, file.offset, file.size) for file in own]
        self.digests = {file.path: file.sha256 for file in own}
        return package

    def _take(self, path: str, chunks: Iterable[bytes]) -> None:
        if len(self._files) >= MAX_FILES:
            raise LoadFailed(self._name, f"it has more than {MAX_FILES} files")
        start, digest = self._end, hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
            self._end += memory_file.write(self._fd, chunk)
        if self._end > MAX_SIZE:
            raise LoadFailed(self._name, f"it has more than {MAX_SIZE >> 20} MiB")
        self._files.append(BundleFile(path, start, self._end - start))
        self.digests[path] = digest.hexdigest()

    def seal(self, metadata: Metadata) -> Bundle:
        """Hand over the memory file, unchangeable from here on, once the entry is what it should be."""
        if self._signed is None:
            memory_file.seal(self._fd)
        if metadata.entry:
            self._check_entry(metadata)
        bundle = Bundle(metadata, self._name, self._fd, tuple(self._files), self.digests, self._signed)
        self._fd = -1
        return bundle

    def _check_entry(self, metadata: Metadata) -> None:
        file = next((file for file in self._files if file.path == metadata.entry), None)
        if file is None:
            there = ", ".join(file.path for file in self._files[:10]) or "nothing"
            place = "folder" if self._signed is None else "package"
            raise ConfigError(
                f"{self._where('plugin.json')}: entry",
                f"names {metadata.entry}, which is not there; the {place} holds {there}",
            )
        self._check(file, metadata.format)

    def check_module(self, path: str) -> None:
        """Refuse what was added if it is no WebAssembly: a manifest gets at no other file of its folder."""
        self._check(next(file for file in self._files if file.path == path), Format.WASM)

    def _check(self, file: BundleFile, kind: Format) -> None:
        check_content(kind, self._where(file.path), self._fd, file.offset, file.size)
