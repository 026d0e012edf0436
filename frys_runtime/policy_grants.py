"""What a policy grants through the host: HTTP, messages, host functions; and whose signatures it wants.

No layer of the kernel holds a plugin to these. It has no socket and no other plugin's lane, so it asks the
host, and the host looks here before it does anything.
"""

import base64
import binascii
import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from .policy_file import BANDWIDTH, BYTES, COUNT, TIME, Node, in_units

NAME_LENGTH: Final = 128
PLUGIN_PATTERN: Final = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9._*?-]{0,127}")
"""Ids of plugins, with ``*`` and ``?``."""
KEY_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""How a policy may call a key."""
METHOD: Final = re.compile(r"[A-Z][A-Z0-9-]{0,31}")
"""Methods of RFC 9110 section 9, and of its registry."""

_KEY_BYTES: Final = 32
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


class MessageGrant(msgspec.Struct, frozen=True, kw_only=True):
    """Which plugins may be called, and which events published and received. Names may have ``*`` and ``?``.

    Attributes:
        call: Plugins, each with the functions that may be called.
        publish: Types of events that it may publish.
        subscribe: Types of events that it may receive.
    """

    call: tuple[tuple[str, tuple[str, ...]], ...] = ()
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()

    def may_call(self, target: str, function: str) -> bool:
        """Whether a function of another plugin may be called."""
        for plugin, names in self.call:  # noqa: SIM110 - no generator on the way of every message
            if matches(plugin, target) and one_matches(names, function):
                return True
        return False

    def may_publish(self, event_type: str) -> bool:
        """Whether events of a type may be published."""
        return one_matches(self.publish, event_type)

    def may_subscribe(self, event_type: str) -> bool:
        """Whether events of a type may be received."""
        return one_matches(self.subscribe, event_type)


class TrustedKey(msgspec.Struct, frozen=True):
    """A key that may sign plugins.

    Attributes:
        name: How the policy calls it.
        key: The Ed25519 public key (RFC 8032), 32 bytes, in base64.
        ids: Which plugins it may sign: ids and patterns with ``*`` and ``?``, all by default.
    """

    name: str
    key: bytes
    ids: tuple[str, ...] = ("*",)

    def may_sign(self, plugin_id: str) -> bool:
        """Whether its signatures count for a plugin."""
        return one_matches(self.ids, plugin_id)

    def __str__(self) -> str:
        text = base64.b64encode(self.key).decode()
        return text if self.ids == ("*",) else f"{text} for {', '.join(self.ids)}"


class Identity(msgspec.Struct, frozen=True):
    """A person or a build job that may sign plugins by Sigstore.

    Attributes:
        name: How the policy calls it.
        identity: The subject of its certificate, such as an e-mail address or a workflow's URL.
        issuer: Who has told Sigstore so, such as https://token.actions.githubusercontent.com.
        ids: Which plugins it may sign: ids and patterns with ``*`` and ``?``, all by default.
    """

    name: str
    identity: str
    issuer: str
    ids: tuple[str, ...] = ("*",)

    def may_sign(self, plugin_id: str) -> bool:
        """Whether its signatures count for a plugin."""
        return one_matches(self.ids, plugin_id)

    def __str__(self) -> str:
        text = f"{self.identity} by {self.issuer}"
        return text if self.ids == ("*",) else f"{text} for {', '.join(self.ids)}"


class Signatures(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signatures a plugin must carry.

    Attributes:
        required: Whether it loads only with them.
        keys: Ed25519 public keys in base64 by the name that the policy gives them; with ids, only for those.
        identities: Whom Sigstore has told apart, by name.
        threshold: How many of the keys and identities must have signed.
    """

    required: bool = False
    keys: tuple[TrustedKey, ...] = ()
    identities: tuple[Identity, ...] = ()
    threshold: int = 1

    @property
    def signers(self) -> "tuple[TrustedKey | Identity, ...]":
        """All whose signatures count, for some plugins at least."""
        return (*self.keys, *self.identities)

    def for_plugin(self, plugin_id: str) -> "Signatures":
        """With those alone whose signatures count for a plugin."""
        keys = tuple(key for key in self.keys if key.may_sign(plugin_id))
        identities = tuple(one for one in self.identities if one.may_sign(plugin_id))
        return msgspec.structs.replace(self, keys=keys, identities=identities)


def matches(pattern: str, name: str) -> bool:
    """Whether a name is what a pattern says: ``*`` is any text, ``?`` any one character."""
    return pattern == name or _compiled(pattern).fullmatch(name) is not None


def one_matches(patterns: Iterable[str], name: str) -> bool:
    """Whether a name is what one of several patterns says."""
    for pattern in patterns:  # noqa: SIM110 - no generator on the way of every message
        if matches(pattern, name):
            return True
    return False


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Each part between two * is taken where it is first found, and never again: names may be hostile, and to
    # try all the ways takes time that grows with every *.
    parts = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", pattern)]
    if len(parts) == 1:
        return re.compile(parts[0])
    first, *middle, last = parts
    return re.compile(f"{first}{''.join(f'(?>.*?{part})' for part in middle)}.*{last}")


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


# From a file.


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
    return _unique(node, node.texts(), _host)


def _host(node: Node) -> str:
    try:
        return host_pattern(node.value)
    except ValueError as error:
        node.fail(f"{node.value!r} {error}")


def _ports(node: Node) -> tuple[int, ...]:
    return _unique(node, node.items(), _port)


def _port(node: Node) -> int:
    if type(node.value) is not int or not 1 <= node.value <= 65535:
        node.fail(f"{node.value!r} is no port: a whole number from 1 to 65535")
    return node.value


def _methods(node: Node) -> tuple[str, ...]:
    return _unique(node, node.texts(), _method)


def _method(node: Node) -> str:
    if not METHOD.fullmatch(node.value):
        capitals = METHOD.fullmatch(node.value.upper())
        hint = f"write {node.value.upper()}" if capitals else "write capitals, like GET"
        node.fail(f"{node.value!r} is no method of HTTP; {hint}")
    if node.value == "CONNECT":
        node.fail("CONNECT opens a tunnel, into which no broker could look")
    return str(node.value)


def _unique[T](node: Node, items: list[Node], read: Callable[[Node], T]) -> tuple[T, ...]:
    if not items:
        node.fail("must name at least one")
    return tuple(dict.fromkeys(map(read, items)))


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


def read_calls(node: Node) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The functions that may be called, by plugin.

    Raises:
        ConfigError: It is no mapping of plugins to lists of functions.
    """
    for plugin in node.mapping():
        _check_name(node.child(plugin), plugin)
    return tuple((plugin, _unique(names, names.texts(), _name)) for plugin, names in node.mapping().items())


def read_names(node: Node) -> tuple[str, ...]:
    """A list of names and patterns.

    Raises:
        ConfigError: It is another thing.
    """
    return tuple(dict.fromkeys(map(_name, node.texts())))


def _name(node: Node) -> str:
    _check_name(node, node.value)
    return str(node.value)


def _check_name(node: Node, name: str) -> None:
    if not 0 < len(name) <= NAME_LENGTH or not name.isprintable() or " " in name:
        node.fail(
            f"{name[:20]!r} is no name: 1 to {NAME_LENGTH} characters without spaces, * and ? as patterns"
        )


def read_keys(node: Node) -> tuple[TrustedKey, ...]:
    """Public keys by name, each alone or with the plugins that it may sign.

    Raises:
        ConfigError: One is no Ed25519 key, or stands there under two names, of which each would count.
    """
    found: dict[bytes, TrustedKey] = {}
    for name, key_node in node.mapping().items():
        if not KEY_ID.fullmatch(name):
            key_node.fail("is no name of a key: letters, digits, dots, dashes and underscores")
        key = _trusted_key(name, key_node)
        if key.key in found:
            key_node.fail(f"is the same key as {found[key.key].name}; it would count twice")
        found[key.key] = key
    return tuple(found.values())


def _trusted_key(name: str, node: Node) -> TrustedKey:
    if not isinstance(node.value, dict):
        return TrustedKey(name, _key(node))
    parts = node.mapping(("key", "ids"))
    if "key" not in parts:
        node.fail("has no key: a raw Ed25519 public key in base64")
    return TrustedKey(name, _key(parts["key"]), _ids(parts))


def _ids(parts: Mapping[str, Node]) -> tuple[str, ...]:
    return _unique(parts["ids"], parts["ids"].texts(), _plugin_pattern) if "ids" in parts else ("*",)


def read_identities(node: Node) -> tuple[Identity, ...]:
    """Identities of Sigstore by name.

    Raises:
        ConfigError: One is incomplete, or stands there under two names, of which each would count.
    """
    found: dict[tuple[str, str], Identity] = {}
    for name, one in node.mapping().items():
        if not KEY_ID.fullmatch(name):
            one.fail("is no name of an identity: letters, digits, dots, dashes and underscores")
        parts = one.mapping(("identity", "issuer", "ids"))
        for key in ("identity", "issuer"):
            if key not in parts:
                one.fail(f"has no {key}")
        who = parts["identity"].text(), parts["issuer"].text()
        if who in found:
            one.fail(f"is the same identity as {found[who].name}; it would count twice")
        found[who] = Identity(name, *who, _ids(parts))
    return tuple(found.values())


def _plugin_pattern(node: Node) -> str:
    if not PLUGIN_PATTERN.fullmatch(node.value):
        node.fail(f"{node.value!r} is no id of a plugin, and no pattern of one with * and ?")
    return str(node.value)


def _key(node: Node) -> bytes:
    try:
        return read_public_key(node.text())
    except ValueError as error:
        node.fail(str(error))


def read_public_key(text: str) -> bytes:
    """A raw Ed25519 public key in base64, as policies and ``frys keygen`` write it.

    Raises:
        ValueError: It is none.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be a raw Ed25519 public key in base64") from None
    if len(key) != _KEY_BYTES:
        rule = f"a raw Ed25519 public key has {_KEY_BYTES}, which are 44 letters in base64"
        raise ValueError(f"has {len(key)} bytes; {rule}")
    return key


def read_signatures(required: Node, keys: Node, identities: Node, threshold: Node) -> Signatures:
    """Whose signatures are wanted.

    Raises:
        ConfigError: A value is wrong, or more signatures are wanted than there are keys and identities.
    """
    found = Signatures(
        required=required.flag(),
        keys=read_keys(keys),
        identities=read_identities(identities),
        threshold=threshold.amount(COUNT, 1),
    )
    names = [one.name for one in found.signers]
    if found.required and not names:
        required.fail("cannot be true without keys that may have signed: add them under signatures.keys")
    if names and found.threshold > len(names):
        what = "keys and identities" if found.identities else "keys"
        threshold.fail(f"is {found.threshold}, but there are only {len(names)} {what}")
    if twice := {one.name for one in found.keys} & {one.name for one in found.identities}:
        identities.fail(f"have the name {min(twice)}, which a key has, too")
    return found
