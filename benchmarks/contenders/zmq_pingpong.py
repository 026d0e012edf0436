"""A bare pyzmq ping-pong over ipc, ROUTER here, DEALER there: ``zmq_pingpong.py blocking|asyncio SIZE``."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq
import zmq.asyncio

from . import WARM_SECONDS, Measure, perform


@contextmanager
def start(host: str, size: str) -> Iterator[Measure]:
    """Prepare; a request gives a count, and the answer is the seconds of each exchange."""
    with tempfile.TemporaryDirectory(prefix="frys-bench-") as folder:
        address = f"ipc://{folder}/bus"
        with _blocking(address, int(size)) if host == "blocking" else _asyncio(address, int(size)) as measure:
            yield measure


@contextmanager
def _peer(address: str) -> Iterator[None]:
    script = str(Path(__file__).with_name("peer.py"))
    process = subprocess.Popen([sys.executable, script, "zmq", address, "0"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _blocking(address: str, size: int) -> Iterator[Measure]:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as end:
        end.bind(address)
        with _peer(address):
            identity, _ = end.recv_multipart()
            message = [identity, bytes(size)]

            def measure(count: int) -> list[float]:
                seconds: list[float] = []
                warm = time.perf_counter() + WARM_SECONDS
                while len(seconds) < count:
                    began = time.perf_counter()
                    end.send_multipart(message)
                    end.recv_multipart()
                    if began > warm:
                        seconds.append(time.perf_counter() - began)
                return seconds

            yield measure


@contextmanager
def _asyncio(address: str, size: int) -> Iterator[Measure]:
    with asyncio.Runner() as runner, zmq.asyncio.Context() as context, context.socket(zmq.ROUTER) as end:
        end.bind(address)
        with _peer(address):

            async def greet() -> bytes:
                identity: bytes = (await end.recv_multipart())[0]
                return identity

            message = [runner.run(greet()), bytes(size)]

            async def measure(count: int) -> list[float]:
                seconds: list[float] = []
                warm = time.perf_counter() + WARM_SECONDS
                while len(seconds) < count:
                    began = time.perf_counter()
                    await end.send_multipart(message)
                    await end.recv_multipart()
                    if began > warm:
                        seconds.append(time.perf_counter() - began)
                return seconds

            yield lambda count: runner.run(measure(count))


if __name__ == "__main__":
    perform(start)
