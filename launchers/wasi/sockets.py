"""wasi:sockets: there for the libraries that ask, and refused. A plugin process has no network of its own."""

from .interface import Interface

_ERROR_CODE = (
    "enum {unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout, "
    "concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit, "
    "address-not-bindable, address-in-use, remote-unreachable, connection-refused, connection-reset, "
    "connection-aborted, datagram-too-large, name-unresolvable, temporary-resolver-failure, "
    "permanent-resolver-failure}"
)
_FAMILY = "enum {ipv4, ipv6}"
_LOOKUP = "network: borrow<network>, name: string"
_DENIED = {"err": "access-denied"}


class _Network:
    """The network that is not there."""


def _denied(*_arguments: object) -> dict[str, str]:
    return _DENIED


def _create(kind: str) -> dict[str, Interface]:
    name = f"create-{kind}-socket"
    result = f"result<own<{kind}-socket>, {_ERROR_CODE}>"
    return {
        f"wasi:sockets/{kind}-create-socket": Interface(
            {name: (f"func(address-family: {_FAMILY}) -> {result}", _denied)}
        )
    }


INTERFACES = {
    "wasi:sockets/network": Interface(
        {
            "network-error-code": (
                f"func(err: borrow<error>) -> option<{_ERROR_CODE}>",
                lambda _error: None,
            )
        },
        {"network": None},
    ),
    "wasi:sockets/instance-network": Interface(
        {"instance-network": ("func() -> own<network>", _Network)},
    ),
    "wasi:sockets/ip-name-lookup": Interface(
        {
            "resolve-addresses": (
                f"func({_LOOKUP}) -> result<own<resolve-address-stream>, {_ERROR_CODE}>",
                _denied,
            )
        },
        {"resolve-address-stream": None},
        ("resolve-address-stream",),
    ),
    "wasi:sockets/tcp": Interface({}, {"tcp-socket": None}, ("tcp-socket",)),
    "wasi:sockets/udp": Interface(
        {},
        dict.fromkeys(("udp-socket", "incoming-datagram-stream", "outgoing-datagram-stream")),
        ("udp-socket", "incoming-datagram-stream", "outgoing-datagram-stream"),
    ),
    **_create("tcp"),
    **_create("udp"),
}
