"""Which address a host means, and whether it is a public one."""

import asyncio
import ipaddress
import re
import socket
import threading
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, NamedTuple

from ..messages import Refused

type Address = IPv4Address | IPv6Address

_LONGEST_NAME: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

# What ``is_global`` of the standard library still lets through.
_NOT_PUBLIC_EITHER: Final = (
    IPv4Network("168.63.129.16/32"),  # Azure's metadata and DNS, on every virtual machine there
    IPv4Network("192.88.99.0/24"),  # relays of 6to4, deprecated (RFC 7526)
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052


class Endpoint(NamedTuple):
    """An address to connect to, as the resolver gave it."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def address(self) -> Address:
        """What is checked; a zone (``%eth0``) says where it is, not what."""
        return meant(ipaddress.ip_address(self.sockaddr[0].partition("%")[0]))


def read_host(text: str) -> tuple[str, Address | None]:
    """The host of a URL, as grants name it, and its address if it is one.

    Whoever connects by name reads ``2130706433``, ``0x7f.1`` and ``017700000001`` as addresses
    (inet_aton(3)), and so does this.

    Args:
        text: What stands between ``//`` and the port, IPv6 addresses in brackets.

    Raises:
        ValueError: It is neither a name nor an address.
        Refused: A name that is not ASCII, without the package for it.
    """
    if text.startswith("["):
        if "%" in text:
            raise ValueError("an address with a zone")
        address = meant(IPv6Address(text[1:-1]))
        return str(address), address
    if len(text) > _LONGEST_NAME:
        raise ValueError(f"a name longer than {_LONGEST_NAME} characters")
    name = (text if text.isascii() else _to_ascii(text)).lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("not a host name")
    if _NUMBER.fullmatch(labels[-1]) is None:
        return name, None
    try:
        address = IPv4Address(socket.inet_aton(name))
    except OSError:
        raise ValueError("it ends in a number and is no address") from None
    return str(address), address


def _to_ascii(name: str) -> str:
    """IDNA 2008 as browsers do it (UTS 46). The standard library's codec is that of 2003."""
    try:
        import idna
    except ModuleNotFoundError:
        raise Refused(
            "unavailable",
            "a host name that is not ASCII needs the package idna; the administrator has to install "
            "frys-runtime[http], or the plugin writes the name as xn--...",
        ) from None
    return idna.encode(name, uts46=True, std3_rules=True).decode("ascii")


def meant(address: Address) -> Address:
    """The IPv4 address for an IPv4-mapped one, which the kernel connects to by IPv4."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_public(address: Address) -> bool:
    """Whether it is an address of the public internet, which is nobody's own network.

    Not public: this machine, private and shared networks, link-local (where clouds keep metadata), multicast,
    documentation, what is reserved, and every IPv6 address that carries an IPv4 one of these (mapped, NAT64,
    6to4). The registries are IANA's special-purpose ones (RFC 6890), as the standard library knows them.
    """
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not _listed(address)
    inside = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    inside = inside or address.ipv4_mapped or address.sixtofour
    if inside is not None:
        return is_public(inside)
    return address in _GLOBAL_UNICAST and address.is_global and not _listed(address)


def _listed(address: Address) -> bool:
    return any(address in network for network in _NOT_PUBLIC_EITHER)


def is_own(there: Endpoint) -> bool:
    """Whether this machine would talk to itself there, behind its own firewall. No packet is sent."""
    try:
        with socket.socket(there.family, socket.SOCK_DGRAM) as probe:
            probe.connect(there.sockaddr)
            ours = probe.getsockname()[0]
    except OSError:
        return False  # no way there, which connecting will say
    return meant(ipaddress.ip_address(ours.partition("%")[0])) == there.address


def endpoint(address: Address, port: int) -> Endpoint:
    """Where an address that needs no resolver is connected to."""
    if isinstance(address, IPv4Address):
        return Endpoint(socket.AF_INET, (str(address), port))
    return Endpoint(socket.AF_INET6, (str(address), port, 0, 0))


class Resolver:
    """Looks names up, one at a time, each in a thread that ends with it.

    The C library cannot be told to stop waiting for a name server. A plugin whose names answer slowly, and
    that gives up early, would fill a pool of threads that others need; here its next name waits for its last.
    """

    def __init__(self) -> None:
        self._latest: asyncio.Future[list[Endpoint] | OSError] | None = None

    async def look_up(self, name: str, port: int) -> list[Endpoint]:
        """The addresses of a name, in the order in which they are to be tried (getaddrinfo(3)).

        Raises:
            OSError: It has none, or no name server answered.
        """
        while self._latest is not None and not self._latest.done():
            await asyncio.wait((self._latest,))
        self._latest = _in_thread(name, port)
        found = await asyncio.shield(self._latest)
        if isinstance(found, OSError):
            raise found
        return found


def _in_thread(name: str, port: int) -> "asyncio.Future[list[Endpoint] | OSError]":
    # A daemon of its own, not the loop's executor: that one is awaited when the host ends.
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Endpoint] | OSError] = loop.create_future()

    def look_up() -> None:
        found: list[Endpoint] | OSError
        try:
            answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            found = [Endpoint(family, sockaddr) for family, *_, sockaddr in answers]
        except OSError as error:
            found = error
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(future.set_result, found)

    threading.Thread(target=look_up, name="frys-resolver", daemon=True).start()
    return future
