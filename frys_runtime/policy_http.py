"""What a policy grants of HTTP: which hosts, ports and methods, and how much.

No layer of the kernel holds a plugin to this. It has no socket, so it asks the host's broker, and that looks
here before it connects.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from .policy_file import BANDWIDTH, BYTES, TIME, Node, in_units

METHOD: Final = re.compile(r"[A-Z][A-Z0-9-]{0,31}")
"""Methods of RFC 9110 section 9, and of its registry."""
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


class NetworkGrant(msgspec.Struct, frozen=True, kw_only=True):
    """HTTP to some hosts, through the host's broker.

    Of several, the first that :meth:`reaches` a request's host and port decides about it, with its methods
    and all else.

    Attributes:
        hosts: Names, ``*.example.com`` for every name below one but not itself, addresses, or ``*`` for all.
        ports: Ports.
        methods: Methods, in capitals.
        bandwidth: Bytes a second, both directions together; ``None`` for no limit.
        private: Whether loopback, private and link-local addresses may be reached, too.
        plain: Whether ``http://`` is allowed, which is without TLS.
        max_request: Bytes of one request's body.
        max_response: Bytes of one answer's body.
        timeout: Milliseconds for one request, from the name's look-up to the answer's last byte.
    """

    hosts: tuple[str, ...]
    ports: tuple[int, ...] = (443,)
    methods: tuple[str, ...] = ("GET", "HEAD")
    bandwidth: int | None = None
    private: bool = False
    plain: bool = False
    max_request: int = 1 << 20
    max_response: int = 8 << 20
    timeout: int = 30_000

    def reaches(self, host: str, port: int) -> bool:
        """Whether this grant decides about a host, as :func:`normal_host` writes it, and a port."""
        return port in self.ports and any(_host_matches(pattern, host) for pattern in self.hosts)

    def __str__(self) -> str:
        methods, hosts = ", ".join(self.methods), ", ".join(self.hosts)
        ports = ", ".join(map(str, self.ports))
        speed = f", {in_units(self.bandwidth, BANDWIDTH)}" if self.bandwidth is not None else ""
        also = ", also without TLS" * self.plain + ", also in private networks" * self.private
        return (
            f"{methods} to {hosts}, port{'s' * (len(self.ports) > 1)} {ports}{also}; "
            f"{in_units(self.max_request, BYTES)} sent, {in_units(self.max_response, BYTES)} received, "
            f"{in_units(self.timeout, TIME)}{speed}"
        )


def _host_matches(pattern: str, host: str) -> bool:
    if pattern == "*":
        return True
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def normal_host(text: str) -> str:
    """A host's one spelling: a name in small letters, or an address in its shortest form without brackets.

    Raises:
        ValueError: It is neither; the message goes on from the text.
    """
    if not text.isascii():
        raise ValueError(_hint_of_a_label(text))
    host = text.lower()
    if host.startswith("[") and host.endswith("]") and ":" in host:
        host = host[1:-1]
    labels = host.split(".")
    if ":" in host or _NUMBER.fullmatch(labels[-1]):
        return _normal_address(host)
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(
            "is no host: a name has letters, digits and dashes between its dots; no scheme, port or path"
        )
    return host


def _normal_address(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # Resolvers read 127.1, 0x7f.1 and 2130706433 as addresses, so they are no names either.
        raise ValueError("is neither a name nor an IPv4 or IPv6 address; a port stands under ports") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError("names an interface, which only this machine knows: leave out % and the rest")
        if address.ipv4_mapped is not None:
            raise ValueError(f"is an IPv4 address in disguise: write {address.ipv4_mapped}")
    return str(address)


def _hint_of_a_label(text: str) -> str:
    try:
        ascii_form = text.encode("idna").decode()
    except UnicodeError:
        return "has letters that no host name can have"
    return f"must be written in ASCII, as the name system has it: {ascii_form}"


def host_pattern(text: str) -> str:
    """A host, ``*``, or ``*.`` and a name, in its one spelling.

    Raises:
        ValueError: It is none of these; the message goes on from the text.
    """
    if text == "*":
        return text
    if not text.startswith("*."):
        return normal_host(text)
    below = normal_host(text[2:])
    if is_address(below):
        raise ValueError("has * before an address, and nothing lies below one")
    return f"*.{below}"


def is_address(host: str) -> bool:
    """Whether a host in its one spelling is an address, not a name."""
    return ":" in host or host.rpartition(".")[2].isdigit()


def is_private(host: str) -> bool:
    """Whether a host, in its one spelling, can only be this machine or one of its own network.

    Names other than localhost (RFC 6761 section 6.3) tell by their addresses, which are not known here.
    """
    if is_address(host):
        return not ipaddress.ip_address(host).is_global
    return host == "localhost" or host.endswith(".localhost")


def wished_grant(text: str, granted: Iterable[NetworkGrant]) -> NetworkGrant:
    """The grant for a host of the host program: ``host``, ``host:port``, or with http:// or https:// before.

    It has what the policy already grants for the same host and port. Who names an address of the own network
    means it.

    Raises:
        ValueError: It is no host; the message goes on from the text.
    """
    match = re.fullmatch(r"(?:(https?)://)?(\[[^\]]*\]|[^:/\[\]]*|[0-9A-Fa-f:.]*)(?::([0-9]{1,5}))?", text)
    if match is None:
        raise ValueError("is not a host, host:port, or one of them after http:// or https://")
    plain, host = match[1] == "http", host_pattern(match[2])
    port = int(match[3]) if match[3] is not None else 80 if plain else 443
    if not 1 <= port <= 65535:
        raise ValueError("has a port outside of 1 to 65535")
    same = (grant for grant in granted if grant.reaches(host, port))
    base = next(same, NetworkGrant(hosts=(host,)))
    return msgspec.structs.replace(
        base,
        hosts=(host,),
        ports=(port,),
        plain=base.plain or plain,
        private=base.private or is_private(host),
    )


def read_network(node: Node) -> tuple[bool, tuple[NetworkGrant, ...]]:
    """Whether the host's network is left in place, and what the broker may be asked for.

    Raises:
        ConfigError: It is neither true, false, a grant nor a list of grants.
    """
    if isinstance(node.value, bool):
        return node.value, ()
    if not node.value or not isinstance(node.value, dict | list):
        node.fail(
            "must be true (the host's whole network), false, or what the host may be asked to fetch: "
            "{hosts: [api.example.com]}, or a list of such"
        )
    return False, tuple(_grant(one) for one in network_nodes(node))


def network_nodes(node: Node) -> list[Node]:
    """Where each grant of ``network`` stands."""
    if isinstance(node.value, bool):
        return []
    return node.items() if isinstance(node.value, list) else [node]


def _grant(node: Node) -> NetworkGrant:
    if isinstance(node.value, bool):
        node.fail("stands among grants for single hosts: the host's whole network is `network: true` alone")
    keys = node.mapping(_GRANT)
    if "hosts" not in keys:
        node.child("hosts").fail("is missing: name the hosts that may be reached")
    return NetworkGrant(**{key: _GRANT[key](found) for key, found in keys.items()})


def _hosts(node: Node) -> tuple[str, ...]:
    return node.each_once(node.texts(), _host)


def _host(node: Node) -> str:
    try:
        return host_pattern(node.value)
    except ValueError as error:
        node.fail(f"{node.value!r} {error}")


def _ports(node: Node) -> tuple[int, ...]:
    return node.each_once(node.items(), _port)


def _port(node: Node) -> int:
    if type(node.value) is not int or not 1 <= node.value <= 65535:
        node.fail(f"{node.value!r} is no port: a whole number from 1 to 65535")
    return node.value


def _methods(node: Node) -> tuple[str, ...]:
    return node.each_once(node.texts(), _method)


def _method(node: Node) -> str:
    if not METHOD.fullmatch(node.value):
        capitals = METHOD.fullmatch(node.value.upper())
        hint = f"write {node.value.upper()}" if capitals else "write capitals, like GET"
        node.fail(f"{node.value!r} is no method of HTTP; {hint}")
    if node.value == "CONNECT":
        node.fail("CONNECT opens a tunnel, into which no broker could look")
    return str(node.value)


_GRANT: Final[dict[str, Callable[[Node], Any]]] = {
    "hosts": _hosts,
    "ports": _ports,
    "methods": _methods,
    "bandwidth": Node.bandwidth,
    "private": Node.flag,
    "plain": Node.flag,
    "max_request": lambda node: node.amount(BYTES, 0),
    "max_response": lambda node: node.amount(BYTES, 0),
    "timeout": lambda node: node.amount(TIME, 1),
}
