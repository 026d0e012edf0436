"""What the fuzzers share: counting, a look at the memory, and what a plain value is."""

import resource
import sys
from collections.abc import Callable
from typing import Any

import atheris

_PLAIN = (type(None), bool, int, float, str, bytes)
_SETTLED = 100_000
"""Inputs after which caches are filled and the corpus has grown, so that memory should stay where it is."""


class Counted:
    """Feeds one input after the other to a decoder, and reports how many it refused.

    Args:
        feed: What is fed.
        refusal: The decoder's own error.
    """

    def __init__(self, feed: Callable[[bytes], None], refusal: type[Exception]) -> None:
        self._feed, self._refusal = feed, refusal
        self._runs = self._refused = self._settled = 0

    def __call__(self, data: bytes) -> None:
        self._runs += 1
        if self._runs == _SETTLED:
            self._settled = _resident()
        try:
            self._feed(data)
        except self._refusal:
            self._refused += 1
        if not self._runs % _SETTLED:
            self._report()  # libFuzzer ends the process by itself, and nothing runs after that

    def _report(self) -> None:
        counts = f"runs={self._runs} refused={self._refused}"
        print(f"{counts} settled={self._settled} resident={_resident()}", flush=True)


def fuzz(feed: Callable[[bytes], None], refusal: type[Exception], **options: Any) -> None:
    """Fuzz until libFuzzer has had enough; options are those of ``atheris.Setup``."""
    atheris.Setup(sys.argv, Counted(feed, refusal), **options)
    atheris.Fuzz()


def must_be_plain(value: object) -> None:
    """Fail unless a value is one that may travel."""
    if type(value) is list:
        for item in value:
            must_be_plain(item)
    elif type(value) is dict:
        for key, item in value.items():
            assert type(key) is str, type(key)
            must_be_plain(item)
    else:
        assert type(value) in _PLAIN, type(value)


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
