"""Modules that follow a convention which this version of Frys cannot run yet.

They would fail anyway, at an unknown import or with wrong numbers; here the reason gets its name.
"""

from ..failures import BadArtifact
from ..wasm_engine import Module

_MAGIC = b"\0asm"
_CORE_MODULE, _COMPONENT = b"\x01\x00\x00\x00", b"\x0d\x00\x01\x00"


def refuse_header(code: memoryview) -> None:
    """Check the first bytes of a file.

    Raises:
        BadArtifact: It is neither a core module of WebAssembly nor a component.
    """
    magic, version = bytes(code[:4]), bytes(code[4:8])
    if not magic:
        raise BadArtifact("the file is empty")
    if magic == _MAGIC and version == _COMPONENT:
        return
    if magic.lstrip().startswith(b"("):
        raise BadArtifact("this is WebAssembly text; compile it to a binary module first (wat2wasm)")
    if magic != _MAGIC[: len(magic)]:
        raise BadArtifact(f"this is no WebAssembly module: it begins with {magic!r}, not with {_MAGIC!r}")
    if len(code) >= 8 and version != _CORE_MODULE:
        raise BadArtifact(f"this is WebAssembly of an unknown version ({version.hex(' ')})")


def is_component(code: memoryview) -> bool:
    """Whether the header is a component's."""
    return bytes(code[:8]) == _MAGIC + _COMPONENT


def refuse(module: Module) -> None:
    """Check the imports and exports of a compiled module.

    Raises:
        BadArtifact: It follows a convention that cannot be run yet.
    """
    kind = _kind(module)
    if kind:
        raise BadArtifact(_not_yet(kind))


def _not_yet(kind: str) -> str:
    return f"this looks like {kind}, which this version of Frys cannot run yet"


def _kind(module: Module) -> str:
    imports = dict(module.imports)
    origins = {origin for origin, _ in imports}
    if origins & {"gojs", "go"}:
        return "a Go program for a JavaScript host"
    if "wasi_unstable" in origins:
        return "a program for WASI preview 0"
    return ""
