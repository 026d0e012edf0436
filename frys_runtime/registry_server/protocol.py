"""HTTP/1.1 with deadlines: a client that is too slow, or opens too many connections, is cut off.

uvicorn closes idle connections after an answer; it waits for ever for a first request, for the rest of one,
and for a client that does not read what it asked for.
"""

import asyncio
from collections import Counter
from typing import ClassVar, override

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .settings import Settings


class PatientProtocol(H11Protocol):
    """One connection."""

    settings: ClassVar[Settings] = Settings()
    """The limits; set before the server starts."""
    _of: ClassVar[Counter[str]] = Counter()

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._headers_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._address = self.client[0] if self.client else ""
        self._of[self._address] += 1
        if self._of[self._address] > self.settings.max_connections_per_address:
            transport.abort()
            return
        self._wait_for_headers()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._headers_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        self._of[self._address] -= 1
        if not self._of[self._address]:
            del self._of[self._address]
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait_for_headers()
        elif self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _wait_for_headers(self) -> None:
        """Start the clock, unless it runs: one byte now and then does not set it back."""
        if self._headers_timer is None:
            self._headers_timer = self.loop.call_later(self.settings.header_timeout, self._give_up)

    def _give_up(self) -> None:
        self._headers_timer = None
        if self.conn.their_state is h11.IDLE:
            self.transport.abort()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(self.settings.transfer_timeout, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
