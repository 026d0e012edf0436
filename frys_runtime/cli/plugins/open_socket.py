"""Hostile: opens a way out to the network."""

import _socket


def run() -> None:
    """Connect to an address that is reserved for documentation (RFC 5737)."""
    way_out = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    way_out.connect(("192.0.2.1", 80))
