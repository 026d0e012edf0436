"""What wasm-bindgen's modules import, put in the place of its JavaScript.

A module holds values of its host by number in a heap that is kept here, or, since the compilers can, as
externrefs. What only a browser or Node has is imported, too, by code that is rarely reached: such an
import is offered, and a call of it fails with its name.
"""

import re
import struct

from ..failures import LimitReached, PluginRaised
from ..wasm_engine import Engine, HostFunction
from ..wasm_library import FunctionType, Pointer
from ..wasm_memory import Caller
from ..wasm_module import Module
from ..wasm_references import References
from .bindgen_imports import FUNCTIONS, Import
from .bindgen_world import UNDEFINED, World

_ORIGINS = {"__wbindgen_placeholder__", "__wbindgen_externref_xform__", "wbg"}
_GLUE_FILE = re.compile(r"\./[^/]*\.js\Z")
_HASH = re.compile(r"_[0-9a-f]{16}\Z")
_OFFERED = {"i32", "i64", "f32", "f64", "externref", "funcref"}
TABLE_START = "__wbindgen_init_externref_table"
"""The import that sets up the table of references."""

# What a letter of an import's pattern takes: plain number, handle, float, long number.
_KINDS = {"p": ("i32",), "h": ("i32", "externref"), "f": ("f64", "f32"), "l": ("i64",)}


def belongs(origin: str, name: str) -> bool:
    """Whether an import is one that wasm-bindgen writes."""
    if origin in _ORIGINS:
        return True
    return bool(_GLUE_FILE.match(origin)) and name.startswith(("__wbg_", "__wbindgen_"))


def choose(name: str, kind: FunctionType) -> Import | None:
    """Find what does the work of an import, or nothing where only JavaScript can.

    Names carry a hash that changes with every version, and the same function was spelt
    ``__wbindgen_throw``, ``__wbg_wbindgenthrow_<hash>`` and ``__wbg___wbindgen_throw_<hash>``.
    """
    stem = _HASH.sub("", name).removeprefix("__wbg_").removeprefix("__").removeprefix("wbindgen")
    for candidate in FUNCTIONS.get(stem.replace("_", "").lower(), ()):
        reads, gives, _ = candidate
        if _fits(reads, kind[0]) and _fits(gives, kind[1]):
            return candidate
    return None


def _fits(letters: str, kinds: tuple[str, ...]) -> bool:
    return len(letters) == len(kinds) and all(
        kind in _KINDS[letter] for letter, kind in zip(letters, kinds, strict=True)
    )


class Glue:
    """The imports of wasm-bindgen, on behalf of the instance that runs now.

    Attributes:
        world: What that instance holds.
        references: The values behind externrefs.
    """

    def __init__(self, engine: Engine) -> None:
        self.world = World(0)
        self.references = References(engine)
        self._engine = engine

    def begin(self, memory_limit: int) -> None:
        """Have an empty world ready for an instance that is about to start."""
        self.world = World(memory_limit)

    def offer(self, module: Module) -> None:
        """Define every import of the module that is wasm-bindgen's."""
        for (origin, name), kind in module.imports:
            if isinstance(kind, str) or not belongs(origin, name):
                continue
            if _OFFERED.issuperset(kind[0] + kind[1]):
                self._engine.define(origin, name, kind, self._find(origin, name, kind))

    def _find(self, origin: str, name: str, kind: FunctionType) -> HostFunction:
        if name.startswith(TABLE_START) and kind == ((), ()):
            return self._start_table
        chosen = choose(name, kind)
        return self._adapt(chosen, kind) if chosen else _absent(f"{origin}.{name}")

    def _start_table(self, caller: Caller, _slots: Pointer) -> None:
        for table in self.world.tables:
            try:
                self.references.append(caller.context, table, [UNDEFINED, None, True, False])
            except LimitReached:
                continue  # a table of functions
            self.references.put(caller.context, table, 0, UNDEFINED)
            self.world.tables[:] = [table]
            return
        raise PluginRaised("the module exports no table for its references")

    def _adapt(self, chosen: Import, kind: FunctionType) -> HostFunction:
        reads, gives, function = chosen
        readers = tuple(enumerate(zip(reads, kind[0], strict=True)))
        width = kind[1][0] if kind[1] else ""

        def run(caller: Caller, slots: Pointer) -> int | None:
            arguments = [
                self._argument(caller, letter, kind, slots[index].u64) for index, (letter, kind) in readers
            ]
            result = function(self.world, caller, *arguments)
            if gives == "h":
                if width == "externref":
                    return self.references.new(caller.context, result)
                return self.world.put(result)
            if gives == "f":
                return int.from_bytes(struct.pack(_FLOATS[width], result), "little")
            return int(result) & 0xFFFFFFFF if gives else None

        return run

    def _argument(self, caller: Caller, letter: str, kind: str, word: int) -> object:
        if kind == "externref":
            return self.references.value(caller.context, word & 0xFFFFFFFF)
        if kind == "i32":
            return self.world.get(word & 0xFFFFFFFF) if letter == "h" else word & 0xFFFFFFFF
        if kind == "i64":
            return word
        return struct.unpack(_FLOATS[kind], word.to_bytes(8, "little"))[0]


_FLOATS = {"f64": "<d", "f32": "<f4x"}


_WHY = {
    "queuemicrotask": ": it is async, and only the event loop of JavaScript settles promises",
    "promise": ": it is async, and only the event loop of JavaScript settles promises",
    "then": ": it is async, and only the event loop of JavaScript settles promises",
    "closure": ": it makes a function for JavaScript (a closure), which nobody could call here",
    "settimeout": ": it waits for JavaScript's timers",
}


def _absent(name: str) -> HostFunction:
    stem = _HASH.sub("", name.rpartition(".")[2]).replace("_", "").lower()
    why = next((text for word, text in _WHY.items() if word in stem), "")

    def run(_caller: Caller, _slots: Pointer) -> int | None:
        raise PluginRaised(f"the plugin needs {name}, which only a JavaScript host has{why}")

    return run
