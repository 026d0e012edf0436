"""One engine of the JavaScript launcher: a runtime with one context, and the prelude run in it.

The prelude is the folder of that name: what a plugin finds beside the language itself, written in JavaScript.
It runs once, in the fork server, and its memory is shared by every child.
"""

import os
from typing import Any

from ._quickjs_abi import ffi
from .javascript_api import EVAL_SCRIPT, EXCEPTION, UNDEFINED, JSValue, lib, text_of, to_float
from .javascript_natives import make_natives

PRELUDE = (
    "start",
    "console",
    "encoding",
    "timers",
    "events",
    "clone",
    "random",
    "hosts",
    "url",
    "require",
    "frys",
)
"""The files of the folder, in the order in which they run."""

_INTERNALS = ("byteLength", "fire", "load")
_MAX_STACK = 4 << 20
_MIN_HEAP = 2 << 20
_GC_THRESHOLD = 1 << 20
_WORD = (1 << 64) - 1


def _read_prelude() -> list[tuple[bytes, bytes]]:
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "prelude")
    found = []
    for name in PRELUDE:
        with open(os.path.join(folder, f"{name}.js"), "rb") as file:
            found.append((f"<frys:{name}>".encode(), file.read()))
    return found


class Engine:
    """One runtime with one context, made in the fork server and used up by one child.

    Attributes:
        runtime: JSRuntime, owned.
        context: JSContext, owned.
        global_object: The context's global object, owned.
        byte_length: The built-in getter of a typed array's size, owned.
        fire: The prelude's function that runs the next timer, owned.
        load: The prelude's function that runs a CommonJS file, owned.
        object_class, array_class, uint8_array_class: The engine's numbers for these kinds of objects.
    """

    def __init__(self) -> None:
        # SAFETY: both pointers stay valid until close(), and nothing else frees them.
        self.runtime = lib.JS_NewRuntime()
        self.context = lib.JS_NewContext(self.runtime) if self.runtime else ffi.NULL
        if not self.context:
            raise MemoryError("the JavaScript engine could not allocate a context")
        self.global_object = lib.JS_GetGlobalObject(self.context)
        self.object_class = self._class_of(lib.JS_NewObject(self.context))
        self.array_class = self._class_of(lib.JS_NewArray(self.context))
        self.uint8_array_class = self._class_of(lib.JS_NewUint8ArrayCopy(self.context, b"", 0))
        self._random = self._find_random_state()
        self._internals = self._run_prelude()
        self.byte_length = self._internals["byteLength"]
        self.fire = self._internals["fire"]
        self.load = self._internals["load"]
        lib.JS_RunGC(self.runtime)

    def _class_of(self, sample: JSValue) -> int:
        number = int(lib.JS_GetClassID(sample))
        lib.JS_FreeValue(self.context, sample)
        return number

    def _run_prelude(self) -> dict[str, JSValue]:
        natives, internal = make_natives(self.context), lib.JS_NewObject(self.context)
        argv = ffi.new("JSValue[]", [(natives.u, natives.tag), (internal.u, internal.tag)])
        for name, source in _read_prelude():
            install = lib.JS_Eval(self.context, source, len(source), name, EVAL_SCRIPT)
            # SAFETY: argv holds two values, which are owned here until the last file has run.
            done = lib.JS_Call(self.context, install, (0, UNDEFINED), 2, argv)
            if EXCEPTION in (install.tag, done.tag):
                error = lib.JS_GetException(self.context)
                stack = lib.JS_GetPropertyStr(self.context, error, b"stack")
                why = f"{text_of(self.context, error)} {text_of(self.context, stack)}"
                raise RuntimeError(f"the prelude failed: {why}")
            lib.JS_FreeValue(self.context, install)
            lib.JS_FreeValue(self.context, done)
        found = {name: lib.JS_GetPropertyStr(self.context, internal, name.encode()) for name in _INTERNALS}
        for value in (natives, internal):
            lib.JS_FreeValue(self.context, value)
        return found

    def _find_random_state(self) -> Any:
        """Find where ``Math.random`` keeps its state, by watching it work.

        A context made before the fork would give every child the same numbers, and the API has no way to
        seed it. The generator is xorshift64* and its state one word of the context: of all its words, the
        one that a draw advances exactly by that rule, with exactly that result, is the state.
        """
        # SAFETY: the context is one allocation of at least this size; reading whole words of it is in bounds.
        words = lib.js_malloc_usable_size_rt(self.runtime, self.context) // 8
        memory = ffi.cast("uint64_t *", self.context)
        before: Any = ffi.unpack(memory, words)
        math = lib.JS_GetPropertyStr(self.context, self.global_object, b"Math")
        random = lib.JS_GetPropertyStr(self.context, math, b"random")
        drawn = lib.JS_Call(self.context, random, (0, UNDEFINED), 0, ffi.NULL)
        after: Any = ffi.unpack(memory, words)
        for value in (math, random):
            lib.JS_FreeValue(self.context, value)
        bits = int(to_float(drawn.u) * (1 << 52))
        places = [
            place
            for place in range(words)
            if after[place] == _xorshift(before[place])
            and after[place]
            and (after[place] * 0x2545F4914F6CDD1D & _WORD) >> 12 == bits
        ]
        if len(places) != 1:
            raise ImportError("this build of quickjs-ng hides the state of Math.random, which Frys must seed")
        return memory + places[0]

    def start(self, memory: int, stack: int) -> None:
        """Make the engine this process's own, after the fork: its limits, its stack, its randomness.

        Args:
            memory: Bytes that the whole process may use. The engine gets somewhat less, so that it fails
                with an exception before the kernel kills: the rest is for arguments and results.
            stack: Bytes of C stack that the process has. The engine stops at half of it: what it calls does
                not look at the engine's limit.
        """
        heap = max(memory - max(memory // 8, 4 << 20), _MIN_HEAP)
        lib.JS_SetMemoryLimit(self.runtime, heap)
        lib.JS_SetGCThreshold(self.runtime, min(_GC_THRESHOLD, heap // 2))
        lib.JS_SetMaxStackSize(self.runtime, min(stack // 2, _MAX_STACK))
        lib.JS_UpdateStackTop(self.runtime)
        # SAFETY: the address was found inside the live context; zero is the one state that never advances.
        self._random[0] = int.from_bytes(os.urandom(8)) or 1

    def close(self) -> None:
        """Free everything. The engine aborts the process if a value was leaked, which the tests use."""
        for value in (self.global_object, *self._internals.values()):
            lib.JS_FreeValue(self.context, value)
        lib.JS_FreeContext(self.context)
        lib.JS_FreeRuntime(self.runtime)


def _xorshift(state: int) -> int:
    state ^= state >> 12
    state ^= state << 25 & _WORD
    return state ^ state >> 27
