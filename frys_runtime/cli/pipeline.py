"""The demo's honest half: one text goes through a plugin of each format, and the host checks every result."""

import hashlib
import re
import sysconfig
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..manager import PluginManager
from ..plugin import Plugin
from .exits import UsageError

PLUGINS: Final = Path(__file__).parent / "plugins"
"""The demo's plugins; they are part of the wheel."""

MAX_TEXT: Final = 1 << 18
"""Bytes of a text that are used; a slow machine, too, then stays far below the limits of level maximum."""

_LICENCES: Final = ("/usr/share/common-licenses/GPL-3", "/usr/share/licenses/common/GPL-3.0-only/license.txt")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a plugin costs: milliseconds, and bytes that only its process holds."""

    load_ms: float
    call_ms: float
    memory: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one plugin did with the text.

    Attributes:
        plugin: The plugin's file or folder.
        format: Its format.
        launcher_ms: Its very first load, which starts the format's launcher.
        figures: Its second load, its call, and its memory after the call.
        size_in: Bytes that it got.
        size_out: Bytes that it gave.
        said: Its result, for people.
        right: The host computed the same.
    """

    plugin: str
    format: str
    launcher_ms: float
    figures: Figures
    size_in: int
    size_out: int
    said: str
    right: bool


def find_text() -> Path:
    """A real text that is on this machine anyway: a licence, or else Python's own manual."""
    library = Path(sysconfig.get_path("stdlib"))
    candidates = (*map(Path, _LICENCES), library / "LICENSE.txt")
    return next(filter(Path.is_file, candidates), library / "pydoc_data" / "topics.py")


def read_text(path: Path) -> bytes:
    """The beginning of a text, as valid UTF-8.

    Raises:
        UsageError: It cannot be read, or is not text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a text file") from error
    if not data.strip() or b"\0" in data:
        raise UsageError(f"{path} is {'not a text' if data.strip() else 'empty'}; name a text file")
    return data.decode("utf-8", "replace").encode()[:MAX_TEXT]


async def pass_through(manager: PluginManager, text: bytes) -> AsyncIterator[Step]:
    """Load and call one plugin after the other; each gets what the one before has made of the text."""
    tidied = re.sub(rb"[ \t]*(?:\r\n|\r|\n)", b"\n", text)
    words, crc = len(tidied.split()), zlib.crc32(tidied)

    run = await _load(manager, "words.js")
    made = await run.call("tidy", text)
    said = f"{made['words']} words; most often {_often(made['often'])}"
    right = made["text"] == tidied and made["words"] == words
    yield run.step(said, len(text), len(made["text"]), right=right)

    run = await _load(manager, "checksum.wasm")
    sealed = await run.call("seal", made["text"])
    said = f"put its CRC-32 behind it: {int.from_bytes(sealed[-4:], 'little'):08x}"
    yield run.step(said, len(tidied), len(sealed), right=sealed == tidied + crc.to_bytes(4, "little"))

    run = await _load(manager, "system-zlib")
    packed = await run.call("compress", sealed, 9)
    said = f"compressed it to {100 * len(packed) / len(sealed):.0f} %"
    yield run.step(said, len(sealed), len(packed), right=zlib.decompress(packed) == sealed)

    run = await _load(manager, "report.py")
    told = await run.call("report", packed)
    said = f"unpacked it: {told['lines']} lines, checksum {'right' if told['intact'] else 'wrong'}"
    facts = {"intact": True, "crc32": f"{crc:08x}", "sha256": hashlib.sha256(tidied).hexdigest()}
    yield run.step(said, len(packed), told["size"], right=facts.items() <= told.items())


@dataclass(slots=True)
class _Run:
    plugin: Plugin
    name: str
    launcher_ms: float
    call_ms: float = 0.0

    async def call(self, function: str, *args: bytes | int) -> Any:
        began = time.perf_counter()
        value = await self.plugin.call(function, *args)
        self.call_ms = (time.perf_counter() - began) * 1000
        return value

    def step(self, said: str, size_in: int, size_out: int, *, right: bool) -> Step:
        memory = self.plugin.resource_usage().memory_private
        figures = Figures(self.plugin.load_ms, self.call_ms, memory)
        format_name = self.plugin.metadata.format
        return Step(self.name, format_name, self.launcher_ms, figures, size_in, size_out, said, right)


async def _load(manager: PluginManager, name: str) -> _Run:
    """Load a plugin twice: the first time is its launcher's start."""
    plugin_id = await manager.load_plugin(PLUGINS / name)
    launcher_ms = manager.plugin(plugin_id).load_ms
    await manager.unload_plugin(plugin_id)
    return _Run(manager.plugin(await manager.load_plugin(PLUGINS / name)), name, launcher_ms)


def _often(pairs: list[list[Any]]) -> str:
    return ", ".join(f"{word:.20} ({count})" for word, count in pairs) or "none long enough"
