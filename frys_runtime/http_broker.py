"""HTTP on a plugin's behalf: what its policy grants, to addresses that were checked, one at a time."""

import asyncio
import functools
import os
import socket
import ssl
from collections import Counter
from typing import Final

from .messages import MessageValue, Refused
from .network.addresses import Endpoint, Resolver, endpoint, is_own, is_public
from .network.connection import Connection, Pace, connect
from .network.request import Request, read_request
from .policy_http import NetworkGrant

_MAX_ADDRESSES: Final = 4
"""Of one name that are tried."""


class HttpBroker:
    """Makes HTTP requests for one plugin.

    No redirect is followed, no cookie kept, no proxy of the environment used, no connection used twice, and
    nothing decompressed: a response is handed on as it came.

    Args:
        grants: The first that reaches a request's host and port decides about it.
        tls: What to trust, in place of the system's certificate authorities.

    Attributes:
        requests: How many were asked for, the refused ones too.
        bytes_in: Received from servers, heads included, without what TLS adds.
        bytes_out: Sent to them, likewise.
        refused: How many, by reason.
    """

    def __init__(self, grants: tuple[NetworkGrant, ...], tls: ssl.SSLContext | None = None) -> None:
        self.requests = self.bytes_in = self.bytes_out = 0
        self.refused: Counter[str] = Counter()
        self._grants = [(grant, Pace(grant.bandwidth)) for grant in grants]
        self._tls = tls
        self._resolver = Resolver()
        self._one = asyncio.Lock()
        self._clock: asyncio.Timeout | None = None
        self._closed = False

    async def request(self, request: MessageValue, deadline: float) -> dict[str, MessageValue]:
        """Make one request.

        Args:
            request: From the plugin: ``{"url": str}`` with, optionally, ``method``, ``headers`` (str to str),
                ``body`` (bytes) and ``timeout_ms``.
            deadline: In the event loop's time, whatever the grant and the request say.

        Returns:
            ``status``, ``headers`` (names in lower case, ``set-cookie`` as a list) and ``body``.

        Raises:
            Refused: ``permission``: no grant allows it. ``invalid``: it is no request. ``limit``: a body is
                too large, or the last request is still under way. ``unavailable``: the name has no address,
                nobody answers there, or a package is missing. ``failed``: TLS, HTTP or the connection broke.
                ``timeout``: it took too long.
        """
        self.requests += 1
        try:
            return await self._admit(request, deadline)
        except Refused as refusal:
            self.refused[refusal.reason] += 1
            raise

    async def close(self) -> None:
        """End the request under way as ``unavailable``, and every later one."""
        self._closed = True
        if self._clock is not None and not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time())
        async with self._one:
            pass

    async def _admit(self, value: MessageValue, deadline: float) -> dict[str, MessageValue]:
        if self._closed:
            raise _closed()
        if self._one.locked():
            raise Refused("limit", "the plugin's last request is still under way; one is made at a time")
        request = read_request(value)
        grant, pace = self._granted(request)
        if len(request.body) > grant.max_request:
            raise Refused(
                "limit", f"the body has more than the {grant.max_request} bytes that `max_request` grants"
            )
        seconds = grant.timeout / 1000
        if request.timeout is not None:
            seconds = min(seconds, request.timeout)
        begin = asyncio.get_running_loop().time()
        until = min(deadline, begin + seconds)
        async with self._one:
            try:
                async with asyncio.timeout_at(until) as self._clock:
                    return await self._make(request, grant, pace, until)
            except TimeoutError:
                if self._closed:
                    raise _closed() from None
                waited = max(until - begin, 0)
                raise Refused("timeout", f"{request.host} did not answer within {waited:.3g} s") from None
            finally:
                self._clock = None

    def _granted(self, request: Request) -> tuple[NetworkGrant, Pace]:
        """The grant that decides.

        Raises:
            Refused: There is none, with the key that would have to say something else.
        """
        host, port, method = request.host, request.port, request.method
        for grant, pace in self._grants:
            if not grant.reaches(host, port):
                continue
            if method not in grant.methods:
                raise _ungranted(f"{method} to {host}:{port}", "methods")
            if not request.tls and not grant.plain:
                raise _ungranted(f"http:// to {host}:{port}, without TLS,", "plain")
            return grant, pace
        if any(grant.reaches(host, other) for grant, _ in self._grants for other in grant.ports):
            raise _ungranted(f"port {port} of {host}", "ports")
        raise _ungranted(host, "hosts")

    async def _make(
        self, request: Request, grant: NetworkGrant, pace: Pace, until: float
    ) -> dict[str, MessageValue]:
        try:
            from .network.exchange import exchange
        except ModuleNotFoundError:
            raise Refused(
                "unavailable",
                "HTTP for plugins needs the package h11; the administrator has to install frys-runtime[http]",
            ) from None
        connection = await self._connect(request, grant, pace, until)
        try:
            return await exchange(connection, request, grant.max_response)
        except OSError as error:
            raise Refused("failed", f"the connection to {request.host} broke: {_text(error)}") from None
        finally:
            connection.abort()
            self.bytes_in += connection.bytes_in
            self.bytes_out += connection.bytes_out

    async def _connect(self, request: Request, grant: NetworkGrant, pace: Pace, until: float) -> Connection:
        endpoints = await self._endpoints(request)
        if not grant.private:
            endpoints = [found for found in endpoints if is_public(found.address) and not is_own(found)]
        if not endpoints:
            # Not which: a plugin shall not learn the addresses of a network that it may not enter.
            raise _ungranted(f"{request.host}, which has no public address,", "private")
        if request.tls and self._tls is None:
            self._tls = await asyncio.to_thread(_system_tls)
        tls = self._tls if request.tls else None
        try:
            return await connect(endpoints[:_MAX_ADDRESSES], until, pace, tls, request.host)
        except ssl.SSLCertVerificationError as error:
            raise Refused(
                "failed", f"the certificate of {request.host} is not accepted: {error.verify_message}"
            ) from None
        except ssl.SSLError as error:
            raise Refused("failed", f"TLS with {request.host} failed: {_text(error)}") from None
        except OSError as error:
            raise Refused("unavailable", f"{request.host}:{request.port}: {_text(error)}") from None

    async def _endpoints(self, request: Request) -> list[Endpoint]:
        if request.address is not None:
            return [endpoint(request.address, request.port)]
        try:
            return await self._resolver.look_up(request.host, request.port)
        except OSError as error:
            raise Refused("unavailable", f"{request.host} has no address: {_text(error)}") from None


def _ungranted(what: str, key: str) -> Refused:
    return Refused(
        "permission",
        f"{what} is not granted; the plugin's policy would have to say so in `{key}` of `network`",
    )


def _closed() -> Refused:
    return Refused("unavailable", "the plugin is being unloaded")


def _text(error: OSError) -> str:
    if isinstance(error, ssl.SSLError | socket.gaierror) or error.errno is None:
        return error.strerror or str(error) or type(error).__name__
    return os.strerror(error.errno)  # asyncio's own text has the address in it


@functools.cache
def _system_tls() -> ssl.SSLContext:
    """One for all brokers: reading the system's certificate authorities takes tens of milliseconds."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
