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
