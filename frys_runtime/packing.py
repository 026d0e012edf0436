"""A folder as a package: the same bytes wherever it is packed, whatever its times, owners and modes."""

import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Final

from .durable import replace_file
from .errors import InvalidFormat, LoadFailed
from .folder import MAX_FILES, MAX_SIZE, PLUGIN_JSON, chunks, read_plugin_json, reason, walk
from .metadata import MAX_BYTES as MAX_METADATA_BYTES, Metadata, parse_metadata
from .package_format import (
    MANIFEST,
    SUFFIX,
    Directory,
    Listed,
    Names,
    file_name,
    header,
    manifest_bytes,
)

IGNORE_FILE: Final = ".frysignore"

_MAX_IGNORE: Final = 64 << 10
_PACKABLE: Final = "what can be packed"


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


def _parts(contents: dict[str, bytes]) -> Iterator[bytes]:
    """A package of files, piece by piece."""
    listed = [Listed(path, hashlib.sha256(data).hexdigest(), len(data)) for path, data in contents.items()]
    directory = Directory()
    for path, data in {MANIFEST: manifest_bytes(listed), **contents}.items():
        crc = zlib.crc32(data)
        yield header(path.encode(), crc, len(data))
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


def _read_files(folder: str, fd: int, room: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    names = Names()
    names.add(PLUGIN_JSON)
    for path, file in walk(folder, fd, leave_out=_read_ignore_file(folder, fd)):
        try:
            if wrong := names.add(path):
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
