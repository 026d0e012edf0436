"""Plugins of every format that call each other, and a host program that asks, gives up and breaks things."""

import asyncio
import itertools
import json
import os
import random
import signal
import string
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import wasmtime
from chaos.ledger import Ledger
from native_build import compile_source

from frys_runtime import (
    CommunicationError,
    Crashed,
    EventStream,
    MessageValue,
    PluginError,
    PluginManager,
    PluginNotFound,
    ReloadFailed,
    Timeout,
)

_INCLUDE: Final = Path(__file__).parents[2] / "launchers" / "include"

_PYTHON: Final = """
import frys

def echo(value):
    return value

number = text = data = echo

def talk(steps):
    answers = []
    for target, function, *args in steps:
        try:
            ask = frys.call if target else lambda _, name, *args: frys.host(name, *args)
            answers.append([1, ask(target, function, *args)])
        except frys.Refused as refusal:
            answers.append([0, refusal.reason, refusal.message])
    return answers

def through(path, value):
    return frys.call(path[0], "through", path[1:], value) if path else value
"""
_JAVASCRIPT: Final = """
export const echo = (value) => value, number = echo, text = echo, data = echo;
export const talk = async (steps) => {
  const answers = [];
  for (const [target, name, ...args] of steps)
    try {
      answers.push([1, await (target ? frys.call(target, name, ...args) : frys.host(name, ...args))]);
    } catch (error) {
      if (!(error instanceof FrysError)) throw error;
      answers.push([0, error.reason, error.message]);
    }
  return answers;
};
export const through = (path, value) =>
  path.length ? frys.call(path[0], "through", path.slice(1), value) : value;
"""
# `pass` asks the plugin `own` for the same data; where that is refused it returns one byte, the code.
_NATIVE: Final = """
#define FRYS_INIT
#include "frys.h"
#include <stdlib.h>
#include <string.h>

void frys_free(uint8_t *data, size_t size) { (void)size; free(data); }

int32_t data(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    *out = malloc(in_len + 1);
    memcpy(*out, in, in_len);
    *out_len = in_len;
    return 0;
}

int32_t pass(const uint8_t *in, size_t in_len, uint8_t **out, size_t *out_len)
{
    struct frys_bytes answer;
    uint8_t code = (uint8_t)frys_host()->call("own", "data", in, in_len, &answer);
    return code ? data(&code, 1, out, out_len) : data((void *)answer.data, answer.size, out, out_len);
}
"""
_WASM: Final = """
(module
  (import "frys" "call" (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "frys" "answer" (func $answer (param i32 i32) (result i32)))
  (memory (export "memory") 32)
  (data (i32.const 16) "owndata")
  (global $next (mut i32) (i32.const 1024))
  (func (export "frys_alloc") (param $size i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get $size))))
  (func (export "frys_free") (param i32 i32) (global.set $next (i32.const 1024)))
  (func $pair (param $at i32) (param $size i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $size))))
  (func (export "data") (param $in i32) (param $size i32) (result i64)
    (call $pair (local.get $in) (local.get $size)))
  (func (export "pass") (param $in i32) (param $size i32) (result i64)
    (local $code i32)
    (local.set $code (call $call (i32.const 16) (i32.const 3) (i32.const 19) (i32.const 4)
      (local.get $in) (local.get $size)))
    (if (local.get $code) (then
      (i32.store8 (i32.const 8) (local.get $code))
      (return (call $pair (i32.const 8) (i32.const 1)))))
    (call $pair (i32.const 1048576) (call $answer (i32.const 1048576) (i32.const 524288)))))
"""
_TALKS: Final = {
    "echo": {"params": ["any"], "returns": "any"},
    "number": {"params": ["int"], "returns": "int", "idempotent": True},
    "text": {"params": ["string"], "returns": "string"},
    "data": {"params": ["bytes"], "returns": "bytes"},
    "through": {"params": ["list<string>", "any"], "returns": "any"},
}
_BYTES: Final = {name: {"params": ["bytes"], "returns": "bytes"} for name in ("data", "pass")}
_TALKERS: Final = ("own", "two", "main", "guest", "script")
_CALLEES: Final = (*_TALKERS, *["leaf"] * 5)
"""Whoever calls nobody is called without a look at who waits for whom, which is a way of its own."""
_KINDS: Final[dict[str, dict[str, Any]]] = {
    "own": {"format": "python", "entry": "p.py", "instances": 3},
    "two": {"format": "python", "entry": "p.py", "instances": 2},
    "main": {"format": "python", "entry": "p.py", "interpreter": "main"},
    "guest": {"format": "python", "entry": "p.py"},
    "leaf": {"format": "python", "entry": "p.py", "instances": 3},
    "script": {"format": "javascript", "entry": "p.mjs", "instances": 2},
    "wasm": {"format": "wasm", "entry": "p.wasm", "exports": _BYTES},
    "native": {"format": "native", "entry": "p.so", "exports": _BYTES},
}
POLICY: Final = """
extends: maximum
host_functions: [log, config, kv, echo, stubborn]
limits: {messages: 100000/s, execution_time: 4s}
messages: {call: {"*": ["*"]}}
supervision:
  {instances: 3, max_queue: 500, backoff: 1ms, max_backoff: 50ms, max_crashes: 0, max_failures: 0}
"""
_REASONS: Final = frozenset({"failed", "unavailable", "missing", "cycle", "timeout", "cancelled"})
"""Why a call of a plugin may be refused here; anything else is a mistake."""
_SLOW: Final = 60.0
_CALLERS: Final = 10


def write_plugins(top: Path) -> None:
    """Write every plugin into a folder of its own."""
    code = {
        "p.py": _PYTHON.encode(),
        "p.mjs": _JAVASCRIPT.encode(),
        "p.wasm": bytes(wasmtime.wat2wasm(_WASM)),
    }
    for kind, about in _KINDS.items():
        folder = top / kind
        folder.mkdir()
        metadata = {"id": kind, "version": "1.0.0", "exports": _TALKS} | about
        (folder / "plugin.json").write_text(json.dumps(metadata))
        if about["entry"] in code:
            (folder / about["entry"]).write_bytes(code[about["entry"]])
        else:
            (top / "p.c").write_text(_NATIVE)
            compile_source(top / "p.c", folder / about["entry"], f"-I{_INCLUDE}")


class Chatter:
    """The host program.

    Args:
        manager: The manager.
        rng: Decides who says what, and what breaks.
        ledger: Is told what must never be.
        folder: Where the plugins are.
    """

    def __init__(self, manager: PluginManager, rng: random.Random, ledger: Ledger, folder: Path) -> None:
        self._manager, self._rng, self._ledger, self._folder = manager, rng, ledger, folder
        self._numbers = itertools.count(1)
        self._ends_at = 0.0
        self.made = self.host_calls = 0
        manager.host_function("echo")(self._echo)
        manager.host_function("stubborn")(self._stubborn)

    async def load(self) -> None:
        """Load every plugin."""
        for kind in _KINDS:
            await self._manager.load_plugin(self._folder / kind)

    async def chat(self, seconds: float) -> None:
        """Have them talk, and break what can be broken, for so long; then wait until all is quiet."""
        self._ends_at = asyncio.get_running_loop().time() + seconds
        works: list[tuple[Callable[[], Coroutine[Any, Any, None]], float]] = [(self._ask, 0.0)] * _CALLERS
        works += [(self._give_up, 0.005)] * 3
        works += [(self._listen, 0.2), (self._kill, 0.4), (self._reload, 0.7), (self._leave, 1.5)]
        works += [(self._canary, 4.0), (self._pause, 3.0)]
        following = asyncio.create_task(self._follow(self._manager.events()))
        await asyncio.gather(*(self._again(work, pace) for work, pace in works))
        following.cancel()
        for kind in _KINDS:
            await self._well(kind)

    async def _again(self, work: Callable[[], Coroutine[Any, Any, None]], pace: float) -> None:
        while asyncio.get_running_loop().time() < self._ends_at:
            await asyncio.sleep(self._rng.expovariate(1 / pace) if pace else 0)
            await work()

    async def _well(self, kind: str) -> None:
        """Wait until a plugin serves again."""
        async with asyncio.timeout(_SLOW):
            while True:
                try:
                    await self._call(kind, "data", b"well")
                except (PluginError, PluginNotFound) as error:
                    self._ledger.note(f"{kind} is not well yet: {error}")
                    await asyncio.sleep(0.05)
                else:
                    return

    async def _follow(self, events: EventStream) -> None:
        """Whoever is told something that he did not ask for takes it for nonsense, and ends."""
        async for event in events:
            self._ledger.counts[f"event {event.kind}"] += 1
            reason = str(event.data.get("reason", ""))
            if event.kind == "violation" or (event.kind == "crashed" and "SIGKILL" not in reason):
                self._ledger.fail(f"{event.plugin_id}: {event.kind}: {dict(event.data)}")

    # What it lets plugins call.

    async def _echo(self, value: MessageValue) -> MessageValue:
        self.host_calls += 1
        if self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.choice((0, 0.001, 0.02)))
        return value

    async def _stubborn(self, value: MessageValue) -> MessageValue:
        """Gives its answer also when nobody wants it any more."""
        self.host_calls += 1
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return f"too late: {value}"
        return value

    # Calls.

    async def _call(self, kind: str, function: str, *args: MessageValue) -> Any:
        self.made += 1
        try:
            return await self._manager.execute_plugin(kind, function, *args, timeout_ms=3000)
        except PluginNotFound:
            self.made -= 1
            raise

    def _step(self) -> list[Any]:
        """A call that a plugin is to make: its target, the function, and a value that no other call has."""
        number = next(self._numbers)
        size = self._rng.choice((0, 1, 20, 31, 32, 300, 9_000, 70_000, 200_000))
        match self._rng.randrange(8):
            case 0:
                return [self._rng.choice(_CALLEES), "text", f"{number} {'ü' * size}"]
            case 1:
                return [self._rng.choice(("leaf", *_KINDS)), "data", b"%d " % number + bytes(size)]
            case 2:
                value = [
                    number,
                    {"a": [None, True, -number, 0.5], "b": self._words(size // 10)},
                    bytes(9_000),
                ]
                return [self._rng.choice(_CALLEES), "echo", value]
            case 3:
                path = self._rng.choices(_TALKERS, k=self._rng.randrange(3))
                return [self._rng.choice(_TALKERS), "through", path, number]
            case 4:
                return ["", self._rng.choice(("echo", "echo", "stubborn")), number]
            case 5:
                return [self._rng.choice(("wasm", "native")), "pass", b"%d " % number + bytes(size)]
        return [self._rng.choice(_CALLEES), "number", number]

    def _words(self, size: int) -> str:
        return "".join(self._rng.choices(string.ascii_letters, k=size))

    async def _ask(self) -> None:
        """Have a plugin make calls, and look at each answer."""
        kind = self._rng.choice(_TALKERS)
        steps = [self._step() for _ in range(self._rng.randrange(1, 12))]
        try:
            answers = await self._call(kind, "talk", steps)
        except (Crashed, CommunicationError, Timeout, PluginNotFound) as error:
            self._ledger.counts[type(error).__name__] += 1
            return
        if len(answers) != len(steps):
            self._ledger.fail(f"{kind}: {len(answers)} answers to {len(steps)} questions")
        for step, (is_answer, value, *more) in zip(steps, answers, strict=False):
            self._look(kind, step, is_answer, value, more)

    def _look(self, kind: str, step: list[Any], is_answer: bool, value: Any, more: list[Any]) -> None:
        target, function, *args = step
        if not is_answer:
            self._ledger.counts[f"refused: {value}"] += 1
            if value not in _REASONS:
                self._ledger.fail(f"{kind} > {target}.{function}: {value}: {more}")
        elif function == "pass" and len(value) == 1:
            self._ledger.counts["refused in pass"] += 1
        elif value != args[-1]:
            self._ledger.fail(f"{kind} > {target}.{function} of {str(args[-1])[:60]}: {str(value)[:60]}")
        else:
            self._ledger.counts[f"answered {function}"] += 1

    async def _give_up(self) -> None:
        task = asyncio.create_task(self._ask())
        await asyncio.sleep(self._rng.choice((0, 0.0005, 0.002, 0.01, 0.05)))
        task.cancel()
        await asyncio.wait((task,))
        self._ledger.counts["given up"] += 1
        if not task.cancelled() and (error := task.exception()):
            self._ledger.fail(f"given up: {error!r}")

    # What is broken.

    async def _listen(self) -> None:
        stream = self._manager.communicator.traffic(size=100)
        await asyncio.sleep(self._rng.choice((0.001, 0.01, 0.05)))
        del stream
        self._ledger.counts["listened"] += 1

    async def _kill(self) -> None:
        try:
            pids = self._manager.plugin(self._rng.choice(list(_KINDS))).pids
        except PluginNotFound:
            return
        with suppress(IndexError, ProcessLookupError):
            os.kill(self._rng.choice(pids), signal.SIGKILL)
            self._ledger.counts["killed"] += 1

    async def _reload(self) -> None:
        kind = self._rng.choice(list(_KINDS))
        await self._bounded(
            "reloaded", self._manager.reload_plugin(kind, drain_ms=self._rng.choice((0, 500)))
        )

    async def _leave(self) -> None:
        kind = self._rng.choice(("guest", "two", "wasm"))
        await self._bounded(
            "unloaded", self._manager.unload_plugin(kind, drain_ms=self._rng.choice((0, 200)))
        )
        await asyncio.sleep(self._rng.uniform(0, 0.2))
        await self._bounded("loaded", self._manager.load_plugin(self._folder / kind))

    async def _canary(self) -> None:
        kind = self._rng.choice(_TALKERS)
        rules = {"weight": 0.5, "promote_after": 20, "min_calls": 10, "max_error_rate": 1.0}
        await self._bounded("canary", self._manager.canary(kind, self._folder / kind, **rules))

    async def _pause(self) -> None:
        try:
            plugin = self._manager.plugin(self._rng.choice(list(_KINDS)))
        except PluginNotFound:
            return
        await self._bounded("suspended", plugin.suspend())
        await asyncio.sleep(self._rng.uniform(0, 0.1))
        await self._bounded("resumed", plugin.resume())

    async def _bounded(self, what: str, work: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(_SLOW):
                await work
        except TimeoutError:
            self._ledger.fail(f"{what}: it never ended")
        except (PluginError, ReloadFailed) as error:
            self._ledger.counts[f"not {what}"] += 1
            self._ledger.note(f"not {what}: {str(error)[:160]}")
        else:
            self._ledger.counts[what] += 1
