"""A bare ping-pong between two processes: ``pingpong.py HOST PEER SIZE``, and nothing but the bytes.

HOST is how this side waits: ``blocking``; ``add_reader``, ``protocol`` or ``streams`` on asyncio; a protocol
on ``uvloop``. PEER is how the other process waits: ``blocking``, ``protocol`` or ``streams``. The
socketpair is made as Frys makes its lanes, so both have the same buffers.
"""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frys_runtime.lane import pair

from . import WARM_SECONDS, Measure, event_loop, perform
from .peer import Pong

type Exchange = Callable[[bytes], Awaitable[object]]


@contextmanager
def start(host: str, peer: str, size: str) -> Iterator[Measure]:
    """Prepare; a request gives a count, and the answer is the seconds of each exchange."""
    ours, theirs = pair()
    with theirs:
        command = [sys.executable, str(Path(__file__).with_name("peer.py")), peer, str(theirs.fileno()), size]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
    try:
        if host == "blocking":
            yield _blocking(ours, int(size))
        else:
            with event_loop("uvloop" if host == "uvloop" else "asyncio") as runner:
                exchange = runner.run(_HOSTS[host](ours, int(size)))
                yield lambda count: runner.run(_measure(exchange, int(size), count))
    finally:
        ours.close()
        process.kill()
        process.wait()


def _blocking(ours: socket.socket, size: int) -> Measure:
    ours.setblocking(True)
    data, buffer = bytes(size), memoryview(bytearray(size))

    def exchange() -> None:
        ours.sendall(data)
        filled = 0
        while filled < size:
            filled += ours.recv_into(buffer[filled:])

    def measure(count: int) -> list[float]:
        warm = time.perf_counter() + WARM_SECONDS
        while time.perf_counter() < warm:
            exchange()
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            exchange()
            seconds.append(time.perf_counter() - began)
        return seconds

    return measure


async def _measure(exchange: Exchange, size: int, count: int) -> list[float]:
    data, seconds = bytes(size), []
    warm = time.perf_counter() + WARM_SECONDS
    while time.perf_counter() < warm:
        await exchange(data)
    for _ in range(count):
        began = time.perf_counter()
        await exchange(data)
        seconds.append(time.perf_counter() - began)
    return seconds


async def _protocol(ours: socket.socket, size: int) -> Exchange:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def complete(_: Any) -> None:
        waiter.set_result(None)

    transport, _ = await loop.create_unix_connection(lambda: Pong(size, complete), sock=ours)

    async def exchange(data: bytes) -> None:
        nonlocal waiter
        waiter = loop.create_future()
        transport.write(data)
        await waiter

    return exchange


async def _streams(ours: socket.socket, size: int) -> Exchange:
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=2 * size)

    async def exchange(data: bytes) -> None:
        writer.write(data)
        await reader.readexactly(size)

    return exchange


async def _add_reader(ours: socket.socket, size: int) -> Exchange:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    buffer, filled = memoryview(bytearray(size)), 0

    def readable() -> None:
        nonlocal filled
        filled += ours.recv_into(buffer[filled:])
        if filled == size:
            filled = 0
            waiter.set_result(None)

    loop.add_reader(ours.fileno(), readable)

    async def exchange(data: bytes) -> None:
        nonlocal waiter
        waiter = loop.create_future()
        try:
            sent = ours.send(data)
        except BlockingIOError:
            sent = 0
        if sent < size:
            await loop.sock_sendall(ours, memoryview(data)[sent:])
        await waiter

    return exchange


_HOSTS = {"protocol": _protocol, "streams": _streams, "add_reader": _add_reader, "uvloop": _protocol}


if __name__ == "__main__":
    perform(start)
