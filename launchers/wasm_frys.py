"""What a module imports from the namespace ``frys``: the host's services, in texts and bytes.

A text or bytes are an address and a size (i32 each) in the memory that the module exports. A question
returns 0 or the number of its refusal; its answer, or the sentence of the refusal, stays here until the next
question, and the module fetches it when it has made room:

    answer(address, room) -> size       copies as much as there is room for; -1 where the answer is none
    refusal(address, room) -> size      the same
    fail(address, size)                 ends the call: the text is its error

What points outside of the memory is a trap; what is inside and makes no sense is a refusal (``invalid``).
include/frys.h and include/frys.rs have these functions as C and Rust like them.
"""

from collections.abc import Callable
from typing import Any

from .failures import BadValue, PluginRaised
from .host import Host
from .host_bytes import MAX_TEXT, OK, TEXTS, WITH_DATA, Questions, refused
from .wasm_engine import Engine
from .wasm_library import Pointer
from .wasm_memory import Caller, Memory

MODULE = "frys"

_NONE = 0xFFFFFFFF  # -1


class FrysImports:
    """The functions of the namespace, on behalf of the plugin of this process."""

    def __init__(self, engine: Engine) -> None:
        self.begin(Host())
        for name, texts in TEXTS.items():
            count = 2 * len(texts) + 2 * (name in WITH_DATA) + (name == "http")
            engine.define(MODULE, name, (("i32",) * count, ("i32",)), self._question(name))
        copied = (("i32", "i32"), ("i32",))
        engine.define(MODULE, "answer", copied, lambda caller, slots: _copy(self._answer, caller, slots))
        engine.define(MODULE, "refusal", copied, lambda caller, slots: _copy(self._refusal, caller, slots))
        engine.define(MODULE, "fail", (("i32", "i32"), ()), _fail)

    def begin(self, host: Host) -> None:
        """Say whom the instance asks that is about to start, and forget what another one was answered."""
        self._questions = Questions(host)
        self._answer: bytes | None = None
        self._refusal = b""

    def _question(self, name: str) -> Callable[[Caller, Pointer], int]:
        texts = TEXTS[name]
        whats = (*texts, "the data") if name in WITH_DATA else texts

        def question(caller: Caller, slots: Pointer) -> int:
            memory = caller.memory()
            # What lies outside of the memory raises here, and is no question.
            most = [MAX_TEXT] * len(texts) + [len(memory)]
            parts = [
                _read(memory, slots[2 * n].u32, slots[2 * n + 1].u32, most[n]) for n in range(len(whats))
            ]
            self._answer, self._refusal = None, b""
            try:
                args: list[Any] = [_text(part, what) for part, what in zip(parts, texts, strict=False)]
                args += [_data(part) for part in parts[len(texts) :]]
                if name == "http" and not parts[-1][0]:
                    args[-1] = None
                answer = getattr(self._questions, name)(*args)
            except Exception as error:
                code, self._refusal = refused(error)
                return code
            if name == "http":
                status, answer = answer
                address = slots[2 * len(whats)].u32
                if address:
                    memory.write(address, status.to_bytes(4, "little"))
            self._answer = answer
            return OK

        return question


def _read(memory: Memory, address: int, size: int, most: int) -> tuple[int, int, bytes]:
    if not address or not size:
        return address, size, b""
    if size > most:  # too long to be copied, but not too long to be checked
        memory.read(address + size - 1, 1)
        return address, size, b""
    return address, size, memory.read(address, size)


def _text(part: tuple[int, int, bytes], what: str) -> str:
    address, size, data = part
    if not address:
        raise BadValue(f"{what} is NULL")
    if size > MAX_TEXT:
        raise BadValue(f"{what} has more than {MAX_TEXT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadValue(f"{what} is not UTF-8") from None


def _data(part: tuple[int, int, bytes]) -> bytes:
    address, size, data = part
    if size and not address:
        raise BadValue(f"{size} bytes at no address (NULL)")
    return data


def _copy(data: bytes | None, caller: Caller, slots: Pointer) -> int:
    address, room = slots[0].u32, slots[1].u32
    if data is None:
        return _NONE
    caller.memory().write(address, data[:room])
    return len(data)


def _fail(caller: Caller, slots: Pointer) -> None:
    address, size = slots[0].u32, slots[1].u32
    data = caller.memory().read(address, min(size, MAX_TEXT))
    raise PluginRaised(data.decode("utf-8", "replace") or "the plugin failed without a word")
