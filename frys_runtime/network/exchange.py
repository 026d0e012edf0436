"""One HTTP/1.1 exchange (RFC 9112) with a server that is as untrusted as the plugin that asked."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

import h11

from ..messages import MessageValue, Refused
from .connection import Connection
from .request import Request

MAX_HEAD: Final = 65536
"""Bytes of a status line with its headers, of one chunk's line, of the trailers."""
_MAX_INFORMATIONAL: Final = 8
_MAX_FRAMING: Final = 1 << 18
"""Bytes beside the body for heads and the lines of chunks; an eighth of the body's may come on top.

Each chunk costs the host ten microseconds, however small it is.
"""
_EVENTS_AT_A_TIME: Final = 32
"""Others get their turn in between."""


async def exchange(connection: Connection, request: Request, limit: int) -> dict[str, MessageValue]:
    """Send the request, and read the response, whatever its status.

    Args:
        connection: Fresh; good for nothing afterwards.
        request: What to send.
        limit: Bytes that the response's body may have, as it comes: nothing is decompressed.

    Raises:
        Refused: ``limit`` if the response is larger, ``failed`` if it is not HTTP or ends early.
        OSError: The connection broke.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    head = http.send(h11.Request(method=request.method, target=request.target, headers=request.headers))
    assert head is not None
    if request.body:
        http.send(h11.Data(data=request.body))  # of a known length it goes as it is
    http.send(h11.EndOfMessage())
    # At the same time: a server may refuse a body before it has read it, and hang up.
    sending = asyncio.create_task(_send(connection, head, request.body))
    try:
        return await _receive(connection, http, limit)
    except h11.RemoteProtocolError as error:
        raise Refused("failed", f"{request.host} does not answer in HTTP: {str(error)[:200]}") from None
    finally:
        sending.cancel()
        await asyncio.wait((sending,))


async def _send(connection: Connection, *parts: bytes) -> None:
    with contextlib.suppress(OSError):  # who receives is told, after what had come
        for part in parts:
            await connection.send(part)


async def _receive(connection: Connection, http: h11.Connection, limit: int) -> dict[str, MessageValue]:
    response: h11.Response | None = None
    pieces: list[bytes] = []
    size = informational = events = 0
    while True:
        event = http.next_event()
        events += 1
        if event is h11.NEED_DATA:
            data = await connection.receive()
            if not data and response is None:
                raise Refused("failed", "the server closed the connection before it answered")
            http.receive_data(data)
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if size > limit:
                raise Refused(
                    "limit", f"the response has more than the {limit} bytes that `max_response` grants"
                )
            pieces.append(event.data)
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.InformationalResponse):
            informational += 1
            if informational > _MAX_INFORMATIONAL:
                raise Refused(
                    "failed", f"the server sent more than {_MAX_INFORMATIONAL} answers of status 1xx"
                )
        elif isinstance(event, h11.EndOfMessage):
            assert response is not None
            return {
                "status": response.status_code,
                "headers": _headers(response.headers),
                "body": b"".join(pieces),
            }
        if connection.bytes_in > size + size // 8 + _MAX_FRAMING:
            raise Refused("failed", "the server sent too many headers, or chunks that are too small")
        if events % _EVENTS_AT_A_TIME == 0:
            await asyncio.sleep(0)


def _headers(received: Iterable[tuple[bytes, bytes]]) -> MessageValue:
    """By name in lower case; repeated ones are one list (RFC 9110, section 5.3), but cookies cannot be."""
    values: dict[str, list[MessageValue]] = {}
    for name, value in received:
        values.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return {
        name: several if name == "set-cookie" else ", ".join(map(str, several))
        for name, several in values.items()
    }
