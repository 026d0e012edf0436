"""Which addresses are nobody's own network."""

from ipaddress import ip_address

import pytest

from frys_runtime.network.addresses import Endpoint, is_public

PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"),
    *("192.167.255.255", "192.169.0.0", "198.17.0.1", "198.20.0.1", "223.255.255.255", "169.253.1.1"),
    *("2606:4700::1111", "2a00:1450::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::1"),
]
NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255"),
    *("127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::7f00:1", "::8.8.8.8", "::ffff:10.0.0.1", "::ffff:0.0.0.0", "::ffff:169.254.169.254"),
    *(
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::1",
        "2002:a00:1::",
        "2001::1",
    ),
    *("2001:db8::1", "2001:10::1", "100::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
    *("3fff::1", "5f00::1", "4000::1", "::ffff:0:127.0.0.1", "1::1"),
]


@pytest.mark.parametrize("text", PUBLIC)
def test_the_internet_is_public(text: str) -> None:
    """An address that anybody can be reached at is public, also inside an IPv6 one."""
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_all_else_is_not(text: str) -> None:
    """Loopback, private, shared, link-local, metadata, multicast, reserved: not public, in no disguise."""
    assert not is_public(ip_address(text))


def test_a_zone_does_not_hide_an_address() -> None:
    """What the resolver says with an interface behind it is checked as the address that it is."""
    assert str(Endpoint(10, ("fe80::1%eth0", 80, 0, 2)).address) == "fe80::1"
