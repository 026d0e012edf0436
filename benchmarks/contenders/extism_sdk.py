"""Extism's Python SDK, in this process and without a jail: ``extism_sdk.py FOLDER fresh|cached``.

``cached`` is Extism's default: compiled modules are kept on disk, so a module that was ever loaded on this
machine is not compiled again. ``fresh`` turns that off.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import Absent, Measure, perform

_WARM_CALLS = 5


class Extism:
    """The SDK with the plugins that both can run."""

    def __init__(self, sdk: Any, folder: Path) -> None:
        self._sdk = sdk
        self._module = (folder / "bench.wasm").read_bytes()
        self._plugin = sdk.Plugin((folder / "bench_extism.wasm").read_bytes())

    def load(self, count: int) -> list[float]:
        """Seconds from the module's bytes to the first answer."""
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            plugin = self._sdk.Plugin(self._module)
            plugin.call("answer", b"")
            seconds.append(time.perf_counter() - began)
            del plugin
        return seconds

    def call(self, function: str, size: int, count: int) -> list[float]:
        """Seconds of each call of ``echo`` or ``pass``."""
        data, seconds = bytes(size), []
        for _ in range(_WARM_CALLS):
            answer = self._plugin.call(function, data)
            assert answer == data
        for _ in range(count):
            began = time.perf_counter()
            self._plugin.call(function, data)
            seconds.append(time.perf_counter() - began)
        return seconds


@contextmanager
def start(folder: str, cache: str) -> Iterator[Measure]:
    """Prepare; a request names a method of ``Extism`` and its arguments."""
    with tempfile.TemporaryDirectory(prefix="frys-bench-") as home:
        os.environ["EXTISM_CACHE_CONFIG"] = ""
        if cache == "cached":
            os.environ["XDG_CACHE_HOME"] = home  # not into the cache of the user who measures
            del os.environ["EXTISM_CACHE_CONFIG"]
        try:
            import extism
        except ImportError:
            raise Absent("extism is not installed; the extra `bench` of frys-runtime has it") from None
        sdk = Extism(extism, Path(folder))
        sdk.load(2)

        def measure(method: str, **arguments: Any) -> Any:
            return getattr(sdk, method)(**arguments)

        yield measure


if __name__ == "__main__":
    perform(start)
