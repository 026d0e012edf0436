"""Packages made by hand, byte for byte, with one thing wrong: independent of the code under test."""

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping

ABOUT = b'{"id": "mine", "version": "1.2.3", "format": "python", "entry": "main.py"}'
FILES = {"main.py": b"def f(x): return x\n", "plugin.json": ABOUT}


def manifest(files: Mapping[str, bytes]) -> bytes:
    """The list of files, as docs/packages.md describes it."""
    listed = [
        {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for path, data in sorted(files.items())
    ]
    return json.dumps({"files": listed, "frys": 1}, ensure_ascii=False, separators=(",", ":")).encode()


def local(name: bytes, data: bytes, /, **other: int | bytes) -> bytes:
    """A local header of a ZIP archive with its name, and an extra field if there is one."""
    extra = other.get("extra", b"")
    fields = {
        "needs": 20,
        "flags": 0x800,
        "method": 0,
        "time": 0,
        "date": 0x21,
        "crc": zlib.crc32(data),
        "packed": len(data),
        "size": len(data),
        "name": len(name),
        "extra": len(extra),
    } | {key: value for key, value in other.items() if key != "extra"}
    return b"PK\3\4" + struct.pack("<5H3I2H", *fields.values()) + name + extra


def central(name: bytes, data: bytes, at: int, /, **other: int | bytes) -> bytes:
    """An entry of the central directory."""
    extra, comment = other.get("extra", b""), other.get("comment", b"")
    fields = {
        "made": 0x314,
        "needs": 20,
        "flags": 0x800,
        "method": 0,
        "time": 0,
        "date": 0x21,
        "crc": zlib.crc32(data),
        "packed": len(data),
        "size": len(data),
        "name": len(name),
        "extra": len(extra),
        "comment": len(comment),
        "disk": 0,
        "internal": 0,
        "mode": 0o100644 << 16,
        "offset": at,
    } | {key: value for key, value in other.items() if key not in ("extra", "comment")}
    return b"PK\1\2" + struct.pack("<6H3I5H2I", *fields.values()) + name + extra + comment


def end(count: int, size: int, offset: int, comment: bytes = b"") -> bytes:
    """The record that ends an archive."""
    return b"PK\5\6" + struct.pack("<4H2IH", 0, 0, count, count, size, offset, len(comment)) + comment


def archive(
    files: Mapping[str, bytes] | None = None,
    *,
    listed: bytes | None = None,
    local_of: Mapping[str, dict] | None = None,
    central_of: Mapping[str, dict] | None = None,
    comment: bytes = b"",
) -> bytes:
    """A package, correct but for what is asked to be different."""
    files = FILES if files is None else files
    first = manifest(files) if listed is None else listed
    body, directory = b"", b""
    for path, data in {".manifest.json": first, **dict(sorted(files.items()))}.items():
        name = path.encode()
        directory += central(name, data, len(body), **(central_of or {}).get(path, {}))
        body += local(name, data, **(local_of or {}).get(path, {})) + data
    return body + directory + end(len(files) + 1, len(directory), len(body), comment)
