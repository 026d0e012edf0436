"""The compiled form of a component: those of its core modules, behind a table of their sizes."""

import struct

from ..wasm_engine import Engine
from ..wasm_module import Module
from .binary import Binary

_SIZE = struct.Struct("<Q")


def compile_modules(engine: Engine, code: Binary) -> list[Module]:
    """Compile all core modules of a component.

    Raises:
        BadArtifact: One of them is wrong.
    """
    return [Module.compile(engine, module) for module in code.modules]


def leave(modules: list[Module], room: memoryview) -> int:
    """Leave compiled modules for another process, if there is room; how many bytes they take."""
    end = _SIZE.size * len(modules)
    for number, module in enumerate(modules):
        size = module.leave(room[end:]) if end < len(room) else 0
        if not size:
            return 0
        _SIZE.pack_into(room, number * _SIZE.size, size)
        end += size
    return end


def revive(engine: Engine, code: Binary, compiled: memoryview) -> list[Module]:
    """Make modules of what ``leave`` left; why it can be trusted stands at ``Module.revive``."""
    count = len(code.modules)
    sizes = [size for (size,) in _SIZE.iter_unpack(compiled[: count * _SIZE.size])]
    found, at = [], count * _SIZE.size
    for size in sizes:
        found.append(Module.revive(engine, compiled[at : at + size]))
        at += size
    return found
