"""One connection to an address that was checked: bounded in speed, counted, closed without ceremony."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Final

from .addresses import Endpoint

_CHUNK: Final = 1 << 16
_LEAST_BUFFER: Final = 4096


class Pace:
    """So many bytes a second, both directions together; a second's worth may come at once (a token bucket).

    It slows and never drops. What could not be known beforehand is paid afterwards: after a piece that was
    too large, the next one waits.

    Args:
        rate: Bytes a second; None for no limit.

    Attributes:
        step: Bytes that may go at a time.
    """

    def __init__(self, rate: int | None) -> None:
        self.rate = rate
        self.step = _CHUNK if rate is None else min(_CHUNK, rate)
        self._credit = float(rate or 0)
        self._since = 0.0

    async def turn(self) -> None:
        """Wait until the next piece may go."""
        if self.rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._credit = min(self.rate, self._credit + (now - self._since) * self.rate)
        self._since = now
        if self._credit < 0:
            await asyncio.sleep(-self._credit / self.rate)

    def spend(self, count: int) -> None:
        """A piece has gone, or come."""
        self._credit -= count


class Connection:
    """A stream of bytes.

    Attributes:
        bytes_in: Received, without what TLS adds.
        bytes_out: Sent, likewise.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: Pace) -> None:
        self._reader, self._writer, self._pace = reader, writer, pace
        self.bytes_in = self.bytes_out = 0

    async def send(self, data: bytes) -> None:
        """Send all of it; a peer that does not read is waited for."""
        view = memoryview(data)
        for start in range(0, len(data), self._pace.step):
            piece = view[start : start + self._pace.step]
            await self._pace.turn()
            self._writer.write(piece)
            self._pace.spend(len(piece))
            self.bytes_out += len(piece)
            await self._writer.drain()

    async def receive(self) -> bytes:
        """What has come, at most 64 kB; empty at the end."""
        await self._pace.turn()
        data = await self._reader.read(self._pace.step)
        self._pace.spend(len(data))
        self.bytes_in += len(data)
        return data

    def abort(self) -> None:
        """Close at once: a peer that says no goodbye in TLS would hold a polite end for half a minute."""
        self._writer.transport.abort()


async def connect(
    endpoints: Sequence[Endpoint], until: float, pace: Pace, tls: ssl.SSLContext | None, host: str
) -> Connection:
    """Connect to the first endpoint that answers. Nothing is looked up here: a name is only for TLS.

    Args:
        endpoints: To be tried in this order; each gets an equal share of the time that is left.
        until: In the event loop's time; the caller's own clock ends the last attempt.
        pace: Of all that goes through.
        tls: The context, or None for a plain connection.
        host: The name, or the address, that the certificate must have.

    Raises:
        OSError: Nobody answered (the last error), or TLS failed (``ssl.SSLError``).
    """
    last: OSError = OSError("there is no address")
    for tried, endpoint in enumerate(endpoints):
        try:
            opened = await _open(endpoint, until, len(endpoints) - tried, pace.rate)
        except OSError as error:
            last = error
            continue
        reader, writer = await asyncio.open_connection(
            sock=opened, ssl=tls, server_hostname=host if tls else None, limit=pace.step
        )
        return Connection(reader, writer, pace)
    raise last


async def _open(endpoint: Endpoint, until: float, shares: int, rate: int | None) -> socket.socket:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as undo:
        opened = undo.enter_context(socket.socket(endpoint.family, socket.SOCK_STREAM))
        opened.setblocking(False)
        if rate is not None:
            # Else the kernel takes megabytes at full speed before the sender feels that we are slow.
            buffer = max(_LEAST_BUFFER, min(rate, _CHUNK))
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        share = None if shares == 1 else loop.time() + (until - loop.time()) / shares
        async with asyncio.timeout_at(share):
            await loop.sock_connect(opened, endpoint.sockaddr)
        undo.pop_all()
    return opened
