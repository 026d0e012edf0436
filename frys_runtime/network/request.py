"""What a plugin asks for over HTTP, read strictly before anything is decided.

One reading for all: what is checked against the grants is what is connected to and what is sent. Nothing that
two readers could understand differently (credentials, backslashes, line ends, raw bytes) gets through.
"""

import re
from typing import Final, NamedTuple

from ..messages import MessageValue, Refused
from ..policy_http import METHOD
from .addresses import Address, read_host

MAX_URL: Final = 8192
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 16384
"""Of all names and values together."""

_KEYS: Final = frozenset(("method", "url", "headers", "body", "timeout_ms"))
_URL: Final = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.ASCII | re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\]")
_TARGET: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*")  # RFC 3986, section 3.3
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")  # RFC 9110, section 5.6.2
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5.5

_BROKERS_OWN: Final = frozenset(
    (
        *("connection", "content-length", "expect", "host", "http2-settings", "keep-alive"),
        *("te", "trailer", "transfer-encoding", "upgrade"),
    )
)
"""What says where a message ends, who it is for and what becomes of the connection."""
_WITH_BODY: Final = frozenset(("PATCH", "POST", "PUT"))


class Request(NamedTuple):
    """A request that can be sent as it is, if it may be sent at all."""

    method: str
    tls: bool
    host: str
    """Lower-case ASCII; an address in its usual form."""
    address: Address | None
    """Of a host that is an address."""
    port: int
    target: str
    """Path and query."""
    headers: list[tuple[bytes, bytes]]
    """All of them, the broker's own too."""
    body: bytes
    timeout: float | None
    """Seconds, if the plugin named any."""


def read_request(value: MessageValue) -> Request:
    """Read what a plugin passed to ``http``.

    Raises:
        Refused: ``invalid``, with the key that is wrong and why; ``unavailable`` if a package is missing.
    """
    if not isinstance(value, dict):
        raise _invalid("the request must be a map with the key url")
    if unknown := value.keys() - _KEYS:
        known = ", ".join(sorted(_KEYS))
        raise _invalid(f"a request has no key {min(unknown)[:40]!r}; it may have {known}")
    method = value.get("method", "GET")
    if not isinstance(method, str) or not METHOD.fullmatch(method):
        raise _invalid("method must be the name of a method in capitals, such as GET")
    if method == "CONNECT":
        raise _invalid("method: CONNECT opens a tunnel, which a plugin cannot have")
    body = _body(value.get("body"))
    tls, host, address, port, target = _url(value.get("url"))
    headers = _headers(value.get("headers"))
    own = [("Host", _authority(host, port, tls)), ("Connection", "close")]
    if body or method in _WITH_BODY:
        own.append(("Content-Length", str(len(body))))
    names = {name.lower() for name, _ in headers}
    # Nothing is decompressed here, so nothing that is compressed is asked for.
    defaults = (("Accept-Encoding", "identity"), ("User-Agent", "frys"))
    own += [(name, default) for name, default in defaults if name.lower() not in names]
    sent = [(name.encode(), text.encode("latin-1")) for name, text in own + headers]
    timeout = _timeout(value.get("timeout_ms"))
    return Request(method, tls, host, address, port, target, sent, body, timeout)


def _invalid(message: str) -> Refused:
    return Refused("invalid", message)


def _body(value: MessageValue) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, bytes):
        raise _invalid(f"body must be bytes or nothing, not {type(value).__name__}")
    return value


def _timeout(value: MessageValue) -> float | None:
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise _invalid("timeout_ms must be a whole number of milliseconds, at least 1")
    return value / 1000


def _url(value: MessageValue) -> tuple[bool, str, Address | None, int, str]:
    if not isinstance(value, str):
        raise _invalid("url is missing, or not a str")
    if len(value) > MAX_URL:
        raise _invalid(f"url has more than {MAX_URL} characters")
    if found := _FORBIDDEN.search(value):
        raise _invalid(f"url has {found[0]!r} at position {found.start()}, which must be percent-encoded")
    parts = _URL.fullmatch(value)
    if parts is None:
        raise _invalid("url must begin with https:// or http://")
    scheme, authority, rest = parts.groups()
    if "@" in authority:
        raise _invalid("url: credentials before the host are not accepted; send a header")
    if "%" in authority:
        raise _invalid("url: the host must be written plainly, without percent signs")
    tls = scheme.lower() == "https"
    host, address, port = _host_and_port(authority, 443 if tls else 80)
    good = _TARGET.match(rest)
    end = good.end() if good else 0
    if end < len(rest):
        raise _invalid(f"url: {rest[end]!r} in the path or the query must be percent-encoded")
    return tls, host, address, port, rest if rest.startswith("/") else f"/{rest}"


def _host_and_port(authority: str, default: int) -> tuple[str, Address | None, int]:
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _invalid(f"url: {authority[:80]!r} is no host with or without a port")
    port = default if parts[2] is None else int(parts[2])
    if not 1 <= port <= 65535:
        raise _invalid(f"url: there is no port {port}")
    try:
        host, address = read_host(parts[1])
    except ValueError as error:
        raise _invalid(f"url: {parts[1][:80]!r} is no host: {error}") from None
    return host, address, port


def _authority(host: str, port: int, tls: bool) -> str:
    if ":" in host:
        host = f"[{host}]"
    return host if port == (443 if tls else 80) else f"{host}:{port}"


def _headers(value: MessageValue) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise _invalid("headers must be a map of str to str")
    if len(value) > MAX_HEADERS:
        raise _invalid(f"headers: more than {MAX_HEADERS}")
    if len({name.lower() for name in value}) < len(value):
        raise _invalid("headers: the same name twice")
    headers = [_header(name, text) for name, text in value.items()]
    if sum(len(name) + len(text) for name, text in headers) > MAX_HEADER_BYTES:
        raise _invalid(f"headers: more than {MAX_HEADER_BYTES} bytes")
    return headers


def _header(name: str, text: MessageValue) -> tuple[str, str]:
    shown = repr(name[:40])
    if not _NAME.fullmatch(name):
        raise _invalid(f"headers: {shown} is no name of a header")
    if name.lower() in _BROKERS_OWN or name.lower().startswith("proxy-"):
        raise _invalid(f"headers: {shown} is written by the host, not by a plugin")
    if not isinstance(text, str):
        raise _invalid(f"headers: {shown} must be a str")
    if not _VALUE.fullmatch(text):
        raise _invalid(f"headers: {shown} has a line end or another character that HTTP does not carry")
    return name, text.strip(" \t")
