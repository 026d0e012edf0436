"""The bus's ZeroMQ sockets in the event loop: connections that carry messages and are known to end.

A socket's descriptor (ZMQ_FD of zmq_getsockopt(3)) tells of changes once, whatever they were, and sending
takes such a sign away, too. So after each sign the socket is read until it is empty, and after each send it
is asked.

Who connects is let in by ZAP (https://rfc.zeromq.org/spec/27/), before a message of theirs is read: on
``ipc://`` by the credentials that the kernel vouches for (SO_PEERCRED of unix(7)), on ``tcp://`` by their
CURVE key. Each connection's end comes from the socket's monitor, by the descriptor that it had here.
"""

import asyncio
import logging
import os
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from ..errors import InitializationFailed
from .frames import MAX_BYTES, Bye, encode

logger = logging.getLogger("frys.bus")

GOODBYE: Final = encode(Bye())
HIGH_WATER: Final = 1000
"""Messages that may wait for one connection, in each direction."""
_BURST: Final = 64
"""Messages that are read in a row before the event loop does anything else."""
_MAX_LINKS: Final = 1024
_TRY_AGAIN: Final = 0.25
"""Seconds after which who is to be told of the end of a connection is tried again."""
_LINGER_MS: Final = 200
"""How long the last messages have when all is over."""
_HEARTBEAT_MS, _SILENCE_MS = 5_000, 15_000
"""A peer that hangs as a whole (a stopped process, a machine that is gone) is one that has left."""
_DOMAIN: Final = b"frys"
_LOCAL: Final = re.compile(r"localhost:(\d+):\d+:(\d+)\Z")
_ENDS: Final = (
    zmq.Event.DISCONNECTED
    | zmq.Event.CLOSED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
)


class Credentials(NamedTuple):
    """Who is at the other end of a connection, by what cannot be forged.

    Attributes:
        uid: On one machine: the user, as the kernel says.
        pid: The process, likewise; 0 where it has no number in this process's namespace.
        key: From other machines: the public CURVE key (Z85).
    """

    uid: int | None = None
    pid: int | None = None
    key: str = ""


class Link(Protocol):
    """A connection to one peer.

    Attributes:
        credentials: Who that is; nothing before its first message.
    """

    credentials: Credentials

    @property
    def address(self) -> str:
        """Where it leads, for people."""

    def send(self, data: bytes) -> bool:
        """Send a message; whether there was room for it."""

    def close(self) -> None:
        """End it."""


class User(Protocol):
    """Who reads what comes."""

    def receive(self, link: Link, data: memoryview) -> None:
        """A message came."""

    def malformed(self, link: Link, reason: str) -> None:
        """Something came that is no message."""

    def gone(self, link: Link) -> None:
        """A connection ended; nothing more will come from it."""


class _Channel:
    """One socket in the event loop."""

    def __init__(self, socket: zmq.Socket[bytes], take: Callable[[list[zmq.Frame]], None]) -> None:
        self.socket = socket
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle | None = None
        self._fd = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self.read)
        self._read_soon()

    def _read_soon(self) -> None:
        if self._handle is None and not self.socket.closed:
            self._handle = self._loop.call_soon(self.read)

    def read(self, most: int = _BURST) -> None:
        """Take what is there; what is too much for now, in another turn of the loop."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for _ in range(most):
            if self.socket.closed:
                return
            try:
                message = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                self._take(message)
            except BaseException:
                self._read_soon()  # the descriptor will not tell again of what is there already
                raise
        self._read_soon()

    def send(self, *frames: bytes) -> bool:
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False  # no room, or nobody there any more, which the monitor tells as well
            raise
        finally:
            if int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                self._read_soon()
        return True

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        if self._handle is not None:
            self._handle.cancel()
        self.socket.close()


class _Accepted:
    """A connection that a peer made."""

    def __init__(self, hub: "Hub", route: bytes, frame: zmq.Frame) -> None:
        self.address = str(frame.get("Peer-Address"))
        self.fd = int(frame.get(zmq.SRCFD))
        self.credentials = _local(self.address) or Credentials(key=_user_id(frame))
        self.open = True
        self._hub, self._route = hub, route

    def send(self, data: bytes) -> bool:
        return self.open and self._hub._answer(self._route, data)

    def close(self) -> None:
        """Give it up; libzmq has no way to end one of a ROUTER's connections, so the other end is told."""
        if self.open:
            self.open = False
            self.part()

    def part(self) -> None:
        """Tell the other end, as soon as it has room for a message."""
        if not self._hub._answer(self._route, GOODBYE) and self._hub._accepted.get(self._route) is self:
            asyncio.get_running_loop().call_later(_TRY_AGAIN, self.part)


class _Dialled:
    """A connection that was made from here."""

    def __init__(self, hub: "Hub", socket: zmq.Socket[bytes], address: str, server_key: str) -> None:
        self.address = address
        self.credentials = Credentials(key=server_key)
        self._hub = hub
        self._monitor = _Channel(socket.get_monitor_socket(_ENDS), self._ended)
        self._channel = _Channel(socket, self._take)
        try:
            socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise InitializationFailed("the message bus", f"{address}: {error.strerror}") from None

    def send(self, data: bytes) -> bool:
        return not self._channel.socket.closed and self._channel.send(data)

    def _take(self, message: list[zmq.Frame]) -> None:
        if not any(self.credentials):
            self.credentials = _local(str(message[0].get("Peer-Address"))) or self.credentials
        if len(message) == 1:
            self._hub._user.receive(self, message[0].buffer)
        else:
            self._hub._user.malformed(self, "a message of several frames")

    def _ended(self, _message: list[zmq.Frame]) -> None:
        self._channel.read(HIGH_WATER)  # what came before the end
        if not self._channel.socket.closed:
            self.close()
            self._hub._user.gone(self)

    def close(self) -> None:
        if not self._channel.socket.closed:
            self._channel.socket.disable_monitor()
            self._monitor.close()
            self._channel.close()
            self._hub._dialled.discard(self)


class Hub:
    """Every connection of one participant.

    Args:
        user: Who reads.
        secret_key: The own CURVE key (Z85), for other machines.
        allow: Public keys (Z85) of those who may connect from other machines.
    """

    def __init__(self, user: User, secret_key: bytes | None = None, allow: tuple[str, ...] = ()) -> None:
        self._user = user
        self._secret = secret_key
        self._allow = frozenset(z85.decode(key.encode()) for key in allow)
        self._users = frozenset((0, os.geteuid()))
        self._context = zmq.Context(io_threads=1)
        self._router: _Channel | None = None
        self._monitor: _Channel | None = None
        self._zap: _Channel | None = None
        self._accepted: dict[bytes, _Accepted] = {}
        self._past: deque[bytes] = deque(maxlen=_MAX_LINKS)
        self._dialled: set[_Dialled] = set()
        self.refused = 0

    def listen(self, address: str, *, tcp: str | None = None) -> None:
        """Let others connect.

        Args:
            address: ``ipc://PATH``.
            tcp: For those of other machines.

        Raises:
            InitializationFailed: An address cannot be had.
        """
        zap = self._socket(zmq.REP)
        zap.bind("inproc://zeromq.zap.01")
        self._zap = _Channel(zap, self._admit)
        router = self._socket(zmq.ROUTER)
        router.set(zmq.ZAP_DOMAIN, _DOMAIN)
        router.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        router.set(zmq.ROUTER_MANDATORY, 1)
        self._monitor = _Channel(router.get_monitor_socket(zmq.Event.DISCONNECTED), self._disconnected)
        self._router = _Channel(router, self._take)
        try:
            router.bind(address)
            if tcp is not None:
                self._use_keys(router)
                router.set(zmq.CURVE_SERVER, 1)  # holds for what is bound from here on
                router.bind(tcp)
        except zmq.ZMQError as error:
            reason = f"{tcp or address}: {error.strerror}"
            raise InitializationFailed("the message bus", reason) from None

    def dial(self, address: str, server_key: str | None = None) -> Link:
        """Connect; who is not there is gone a moment later.

        Args:
            address: ``ipc://PATH`` or ``tcp://HOST:PORT``.
            server_key: Whose public key (Z85) must be there; needed for ``tcp://``.
        """
        socket = self._socket(zmq.DEALER)
        socket.set(zmq.RECONNECT_IVL, -1)
        if server_key is not None:
            self._use_keys(socket)
            socket.set(zmq.CURVE_SERVERKEY, server_key.encode())
        link = _Dialled(self, socket, address, server_key or "")
        self._dialled.add(link)
        return link

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, _LINGER_MS),
            (zmq.SNDHWM, HIGH_WATER),
            (zmq.RCVHWM, HIGH_WATER),
            (zmq.MAXMSGSIZE, MAX_BYTES),
            (zmq.HEARTBEAT_IVL, _HEARTBEAT_MS),
            (zmq.HEARTBEAT_TIMEOUT, _SILENCE_MS),
        ):
            socket.set(option, value)
        return socket

    def _use_keys(self, socket: zmq.Socket[bytes]) -> None:
        assert self._secret is not None  # BusConfig has seen to it
        socket.set(zmq.CURVE_SECRETKEY, self._secret)
        socket.set(zmq.CURVE_PUBLICKEY, zmq.curve_public(self._secret))

    def _admit(self, request: list[zmq.Frame]) -> None:
        """Answer libzmq's question whether a connection may be used."""
        assert self._zap is not None
        version, number, _domain, origin, _identity, mechanism, *credentials = (
            frame.bytes for frame in request
        )
        address, user = origin.decode(errors="replace"), b""
        local = _local(address)
        if mechanism == b"CURVE":
            known = credentials[0] in self._allow
            user = z85.encode(credentials[0])
        else:
            known = mechanism == b"NULL" and local is not None and local.uid in self._users
        if not known:
            self.refused += 1
            who = f"user {local.uid}, process {local.pid}" if local else address
            logger.warning("the message bus refused a connection of %s", who)
        status = (b"200", b"OK") if known else (b"400", b"not let in")
        self._zap.send(version, number, *status, user, b"")

    def _take(self, message: list[zmq.Frame]) -> None:
        route = message[0].bytes
        link = self._accepted.get(route)
        if link is None:
            if route in self._past:
                return
            link = self._accept(route, message[-1])
        if not link.open:
            link.part()  # it would wait for an answer
        elif len(message) == 2:
            self._user.receive(link, message[1].buffer)
        else:
            self._user.malformed(link, "a message of several frames")

    def _accept(self, route: bytes, frame: zmq.Frame) -> _Accepted:
        assert self._monitor is not None
        # Descriptors are used again: what is told of the last connection that had this one comes first.
        self._monitor.read(HIGH_WATER)
        link = _Accepted(self, route, frame)
        self._accepted[route] = link
        if len(self._accepted) > _MAX_LINKS:
            oldest = next(link for link in self._accepted.values() if link.open)
            self._user.malformed(oldest, f"a connection too many: there are {_MAX_LINKS}")
            oldest.close()
            self._user.gone(oldest)
        return link

    def _disconnected(self, message: list[zmq.Frame]) -> None:
        fd = parse_monitor_message([frame.bytes for frame in message])["value"]
        for route, link in self._accepted.items():
            if link.fd == fd:
                link.fd = -1
                asyncio.get_running_loop().call_soon(self._read_and_end, route)

    def _read_and_end(self, route: bytes) -> None:
        if self._router is not None:
            self._router.read(HIGH_WATER)  # what came before the end
        link = self._accepted.pop(route, None)
        self._past.append(route)
        if link is not None and link.open:
            link.open = False
            self._user.gone(link)

    def _answer(self, route: bytes, data: bytes) -> bool:
        return self._router is not None and self._router.send(route, data)

    async def close(self) -> None:
        """End every connection; what was sent last has a moment to arrive."""
        self._close_sockets()
        await asyncio.to_thread(self._context.term)

    def abort(self) -> None:
        """End every connection at once."""
        self._close_sockets()
        self._context.destroy(linger=0)

    def _close_sockets(self) -> None:
        for link in tuple(self._dialled):
            link.close()
        if self._router is not None:
            self._router.socket.disable_monitor()
        for channel in (self._monitor, self._router, self._zap):
            if channel is not None:
                channel.close()
        self._router = None
        self._accepted.clear()


def _local(address: str) -> Credentials | None:
    """What libzmq tells of a peer on ``ipc://``, from SO_PEERCRED."""
    found = _LOCAL.match(address)
    return Credentials(int(found[1]), int(found[2])) if found else None


def _user_id(frame: zmq.Frame) -> str:
    """What was told to libzmq of whoever sent a message, when it was let in."""
    return str(frame.get("User-Id"))


def key_pair() -> tuple[str, str]:
    """A fresh public and secret key for :class:`frys_runtime.bus.config.BusConfig`."""
    pair: tuple[Any, Any] = zmq.curve_keypair()
    return pair[0].decode(), pair[1].decode()
