"""wasi:cli, wasi:clocks and wasi:random, on behalf of one program."""

import os
import time
from collections.abc import Callable
from typing import NoReturn

from ..failures import LimitReached
from ..wasm_program import STDERR, STDOUT, Exit, Program
from .interface import Interface
from .io import InputStream, OutputStream, Pollable

_SECOND = 10**9
_DATETIME = "record {seconds: u64, nanoseconds: u32}"

type Now = Callable[[], Program]


def interfaces(now: Now, memory_limit: int) -> dict[str, Interface]:
    """What is offered to a program.

    Args:
        now: The program that runs.
        memory_limit: Bytes that a list of random bytes can have at most.
    """

    def random(size: int) -> bytes:
        if size > memory_limit:
            raise LimitReached("memory", f"the component asks for {size} random bytes")
        return os.urandom(size)

    def random_number() -> int:
        return int.from_bytes(os.urandom(8), "little")

    random_bytes = "func(len: u64) -> list<u8>", random
    random_u64 = "func() -> u64", random_number
    return {
        "wasi:cli/environment": Interface(
            {
                "get-environment": (
                    "func() -> list<tuple<string, string>>",
                    lambda: [_variable(one) for one in now().environment()],
                ),
                "get-arguments": (
                    "func() -> list<string>",
                    lambda: [one.decode() for one in now().arguments],
                ),
                "initial-cwd": ("func() -> option<string>", lambda: None),
            }
        ),
        "wasi:cli/exit": Interface(
            {
                "exit": (
                    "func(status: result<_, _>)",
                    lambda status: _exit(now(), int("err" in status)),
                ),
                "exit-with-code": ("func(status-code: u8)", lambda code: _exit(now(), code)),
            }
        ),
        "wasi:cli/stdin": Interface(
            {
                "get-stdin": (
                    "func() -> own<input-stream>",
                    lambda: InputStream(lambda size: _read(now(), size)),
                )
            }
        ),
        "wasi:cli/stdout": Interface({"get-stdout": ("func() -> own<output-stream>", _writer(now, STDOUT))}),
        "wasi:cli/stderr": Interface({"get-stderr": ("func() -> own<output-stream>", _writer(now, STDERR))}),
        "wasi:cli/terminal-input": Interface({}, {"terminal-input": None}),
        "wasi:cli/terminal-output": Interface({}, {"terminal-output": None}),
        **{
            f"wasi:cli/terminal-{name}": Interface(
                {f"get-terminal-{name}": (f"func() -> option<own<{kind}>>", lambda: None)}
            )
            for name, kind in (
                ("stdin", "terminal-input"),
                ("stdout", "terminal-output"),
                ("stderr", "terminal-output"),
            )
        },
        "wasi:clocks/monotonic-clock": Interface(
            {
                "now": ("func() -> u64", time.monotonic_ns),
                "resolution": ("func() -> u64", lambda: 1),
                "subscribe-instant": ("func(when: u64) -> own<pollable>", _alarm),
                "subscribe-duration": (
                    "func(when: u64) -> own<pollable>",
                    lambda duration: _alarm(time.monotonic_ns() + duration),
                ),
            }
        ),
        "wasi:clocks/wall-clock": Interface(
            {
                "now": (f"func() -> {_DATETIME}", lambda: datetime(time.time_ns())),
                "resolution": (f"func() -> {_DATETIME}", lambda: datetime(1)),
            }
        ),
        "wasi:random/random": Interface({"get-random-bytes": random_bytes, "get-random-u64": random_u64}),
        "wasi:random/insecure": Interface(
            {"get-insecure-random-bytes": random_bytes, "get-insecure-random-u64": random_u64}
        ),
        "wasi:random/insecure-seed": Interface(
            {
                "insecure-seed": (
                    "func() -> tuple<u64, u64>",
                    lambda: [random_number(), random_number()],
                )
            }
        ),
    }


def datetime(moment: int) -> dict[str, int]:
    """A moment in nanoseconds since 1970 as a record."""
    seconds, nanoseconds = divmod(moment, _SECOND)
    return {"seconds": seconds, "nanoseconds": nanoseconds}


def _variable(text: bytes) -> list[str]:
    name, _, value = text.decode().partition("=")
    return [name, value]


def _read(program: Program, size: int) -> bytes:
    part, program.stdin = program.stdin[:size], program.stdin[size:]
    return bytes(part)


def _writer(now: Now, fd: int) -> Callable[[], OutputStream]:
    return lambda: OutputStream(lambda data: now().write(fd, data))


def _alarm(when: int) -> Pollable:
    return Pollable(lambda: max(when - time.monotonic_ns(), 0))


def _exit(program: Program, code: int) -> NoReturn:
    raise Exit(code, program.stderr_tail.decode("utf-8", "replace"))
