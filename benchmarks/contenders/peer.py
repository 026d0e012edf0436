"""The other end of a ping-pong: ``peer.py KIND FD_OR_ADDRESS SIZE`` sends back every SIZE bytes that come."""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import cast


class Pong(asyncio.BufferedProtocol):
    """Reads into one buffer of the message's size and tells when it is full.

    Args:
        size: Bytes of a message.
        complete: Called with the full buffer.
    """

    def __init__(self, size: int, complete: Callable[[memoryview], None]) -> None:
        self._buffer = memoryview(bytearray(size))
        self._filled = 0
        self._complete = complete
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes belong."""
        return self._buffer[self._filled :]

    def buffer_updated(self, count: int) -> None:
        """Count them."""
        self._filled += count
        if self._filled == len(self._buffer):
            self._filled = 0
            self._complete(self._buffer)


def _blocking(end: socket.socket, size: int) -> None:
    end.setblocking(True)
    buffer = memoryview(bytearray(size))
    while True:
        filled = 0
        while filled < size:
            count = end.recv_into(buffer[filled:])
            if not count:
                return
            filled += count
        end.sendall(buffer)


async def _protocol(end: socket.socket, size: int) -> None:
    loop = asyncio.get_running_loop()

    def answer(message: memoryview) -> None:
        if protocol.transport is not None:
            protocol.transport.write(bytes(message))

    protocol = Pong(size, answer)
    await loop.create_unix_connection(lambda: protocol, sock=end)
    await loop.create_future()  # until it is killed


async def _streams(end: socket.socket, size: int) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=end, limit=2 * size)
    while True:
        writer.write(await reader.readexactly(size))


def _zmq(address: str) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.DEALER) as end:
        end.connect(address)
        end.send(b"")  # tells the ROUTER who is here
        while True:
            end.send(end.recv())


def main(kind: str, where: str, size: str) -> None:
    """Answer until the process is killed or the other end is gone."""
    if kind == "zmq":
        _zmq(where)
        return
    end = socket.socket(fileno=int(where))
    end.setblocking(False)
    if kind == "blocking":
        _blocking(end, int(size))
    else:
        asyncio.run((_protocol if kind == "protocol" else _streams)(end, int(size)))


if __name__ == "__main__":
    main(*sys.argv[1:])
