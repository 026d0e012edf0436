"""The demo's Python plugin: unpacks what the other three made of a text, and checks it."""

import hashlib
import zlib


def report(packed: bytes) -> dict[str, str | int | bool]:
    """Undo zlib's compression, compare the checksum behind the text, and say what the text is."""
    sealed = zlib.decompress(packed)
    text, seal = sealed[:-4], int.from_bytes(sealed[-4:], "little")
    lines = text.splitlines()
    return {
        "intact": zlib.crc32(text) == seal,
        "crc32": f"{zlib.crc32(text):08x}",
        "sha256": hashlib.sha256(text).hexdigest(),
        "size": len(text),
        "lines": len(lines),
        "longest": max(map(len, lines), default=0),
    }
