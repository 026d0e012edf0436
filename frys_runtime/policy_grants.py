"""What a policy grants beside the limits."""

import msgspec


class NetworkGrant(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin may do over HTTP, by way of its host."""

    hosts: tuple[str, ...]
    """Names in lower case, ``*.example.com`` for all below it, addresses, ``*`` for all."""
    ports: tuple[int, ...] = (443,)
    methods: tuple[str, ...] = ("GET", "HEAD")
    bandwidth: int | None = None
    """Bytes a second, both directions together."""
    private: bool = False
    """Also addresses that are not public: loopback, private, link-local, metadata and so on."""
    plain: bool = False
    """Also ``http://``, without TLS."""
    max_request: int = 1 << 20
    """Bytes of a body."""
    max_response: int = 8 << 20
    """Bytes of a body."""
    timeout: int = 30_000
    """Milliseconds for all of a request."""
