"""The plugin that calls others; it times each call with its own clock."""

import time

import frys


def call(target: str, data: bytes, count: int, pause: float) -> list[float]:
    seconds = []
    for _ in range(count):
        if pause:
            time.sleep(pause)
        began = time.perf_counter()
        frys.call(target, "echo", data)
        seconds.append(time.perf_counter() - began)
    return seconds


def ask(count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        frys.config("key")
        seconds.append(time.perf_counter() - began)
    return seconds


def flood(target: str, data: bytes, seconds: float) -> int:
    """Call without a pause, and with nothing to do in between."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        frys.call(target, "echo", data)
        count += 1
    return count
