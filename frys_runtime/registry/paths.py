"""How the TUF targets of a registry are called, and the ETags of its answers."""

import hashlib


def bin_of(plugin: str) -> str:
    """The bin of a plugin: two hexadecimal digits."""
    return hashlib.sha256(plugin.encode()).hexdigest()[:2]


def etag_of(data: bytes) -> str:
    """The ETag of an answer: who has the bytes knows it, without having been told."""
    return f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def package_path(plugin: str, version: str) -> str:
    """The TUF target of a version's package."""
    return f"{bin_of(plugin)}/{plugin}/{plugin}-{version}.frys"


def index_path(plugin: str) -> str:
    """The TUF target that lists a plugin's versions."""
    return f"{bin_of(plugin)}/{plugin}/index.json"
