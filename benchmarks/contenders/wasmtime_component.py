"""wasmtime's own component API by its Python package, in this process and without a jail: ``FOLDER``."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import Measure, perform


@contextmanager
def start(folder: str) -> Iterator[Measure]:
    """Prepare; a request says how many bytes are echoed, and how often."""
    import wasmtime
    from wasmtime import component

    store = wasmtime.Store()
    code = component.Component(store.engine, (Path(folder) / "bench_component.wasm").read_bytes())
    instance = component.Linker(store.engine).instantiate(store, code)
    echo = instance.get_func(store, "echo")
    assert echo is not None

    def call(size: int, count: int) -> list[float]:
        data, seconds = bytes(size), []
        for number in range(count + 1):
            began = time.perf_counter()
            answer: Any = echo(store, data)
            echo.post_return(store)
            if number:  # the first one warms up
                seconds.append(time.perf_counter() - began)
            assert bytes(answer) == data
        return seconds

    yield call


if __name__ == "__main__":
    perform(start)
