"""HTTP through the host: which hosts a policy and the host program name, and what the grants reach."""

import re

import pytest
from hypothesis import given, strategies as st

from frys_runtime.config import IsolationLevel, Permission, SandboxConfig
from frys_runtime.errors import ConfigError, LoadFailed
from frys_runtime.isolation import IsolationManager
from frys_runtime.metadata import Format, Metadata
from frys_runtime.policy import level_policy
from frys_runtime.policy_http import NetworkGrant, host_pattern, is_private, normal_host

HIGH, MAXIMUM = level_policy(IsolationLevel.HIGH), level_policy(IsolationLevel.MAXIMUM)


def plugin(plugin_id: str = "p", *permissions: str) -> Metadata:
    return Metadata(
        id=plugin_id,
        version="1.0.0",
        format=Format.NATIVE,
        permissions=frozenset(map(Permission, permissions)),
    )


def test_a_grant_has_careful_defaults(policy):
    """Who names only hosts gets GET and HEAD by TLS, of public addresses, within bounds."""
    (grant,) = policy("network: {hosts: [API.Example.com]}").http

    assert grant == NetworkGrant(
        hosts=("api.example.com",),
        ports=(443,),
        methods=("GET", "HEAD"),
        bandwidth=None,
        private=False,
        plain=False,
        max_request=1 << 20,
        max_response=8 << 20,
        timeout=30_000,
    )


def test_every_key_of_a_grant_arrives(policy):
    """Each key is read in its own unit; what stands in a list twice counts once."""
    (grant,) = policy(
        "network: {hosts: [a.b, A.B], ports: [80, 8080, 80], methods: [PUT, M-SEARCH], bandwidth: 1.5MiB/s,"
        " private: true, plain: true, max_request: 0, max_response: 1KiB, timeout: 500ms}"
    ).http

    assert (grant.hosts, grant.ports, grant.methods) == (("a.b",), (80, 8080), ("PUT", "M-SEARCH"))
    assert (grant.bandwidth, grant.private, grant.plain) == (3 << 19, True, True)
    assert (grant.max_request, grant.max_response, grant.timeout) == (0, 1024, 500)
    assert policy("network: {hosts: [a.b], bandwidth: none}").http[0].bandwidth is None


def test_the_hosts_network_stays_a_flag(policy):
    """`true` and `false` mean what they meant, and grants of the broker open no network to the plugin."""
    opened, closed, brokered = (policy(f"network: {value}") for value in ("true", "false", "{hosts: [a.b]}"))

    assert [one.network for one in (opened, closed, brokered)] == [True, False, False]
    assert [len(one.http) for one in (opened, closed, brokered)] == [0, 0, 1]
    assert brokered.syscalls == HIGH.syscalls
    assert brokered.require == HIGH.require
    asked_for = [Permission.NETWORK in one.permissions for one in (opened, closed, brokered)]
    assert asked_for == [True, False, True]


def test_grants_open_the_permission_that_asks_for_them(written):
    """A plugin that asks for Network loads with HTTP to one host, and the refusal names both ways."""
    manager = IsolationManager(policy=written("extends: high\nnetwork: [{hosts: [a.b]}]\n").name)

    assert manager.confine(plugin("p", "Network")).policy.http
    with pytest.raises(LoadFailed, match=r"`network: \{hosts: \[\.\.\.\]\}` or `network: true`"):
        IsolationManager().confine(plugin("p", "Network"))


@pytest.mark.parametrize(
    ("written_as", "host"),
    [
        ("Example.COM", "example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("my_service", "my_service"),
        ("0x.example", "0x.example"),
        ("1.example", "1.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("*", "*"),
        ("*.Example.com", "*.example.com"),
    ],
)
def test_hosts_have_one_spelling(written_as, host):
    """A host is compared as it will be asked for, however it was written."""
    assert host_pattern(written_as) == host


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("", "no host"),
        (".", "no host"),
        ("a..b", "no host"),
        ("example.com.", "no host"),
        ("-a.example", "no host"),
        ("a-.example", "no host"),
        ("a b", "no host"),
        ("a\n", "no host"),
        ("a/b", "no host"),
        ("https://a.b", "neither a name nor"),
        ("a.b:443", "a port stands under ports"),
        ("user@a.b", "no host"),
        ("a.*.b", "no host"),
        ("*a.b", "no host"),
        ("*.*", "no host"),
        ("*.", "no host"),
        ("**", "no host"),
        ("*.192.0.2.1", "nothing lies below"),
        ("*.::1", "nothing lies below"),
        ("a" * 64, "no host"),
        (".".join(["a" * 60] * 5), "no host"),
        ("127.1", "neither a name nor"),
        ("2130706433", "neither a name nor"),
        ("0x7f.0x1", "neither a name nor"),
        ("0X7F000001", "neither a name nor"),
        ("0177.0.0.1", "neither a name nor"),
        ("1.2.3.256", "neither a name nor"),
        ("::ffff:10.0.0.1", "write 10.0.0.1"),
        ("[::FFFF:a00:1]", "write 10.0.0.1"),
        ("fe80::1%eth0", "names an interface"),
        ("[::1", "neither a name nor"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("ｅxample.com", "example.com"),
        ("\ud800", "letters that no host name can have"),
        ("é" * 80, "letters that no host name can have"),
        ("\u0661.example", "ASCII"),
    ],
)  # fmt: skip
def test_what_is_no_host_is_refused(host, words):
    """No text that a resolver or a URL could read as another host gets through."""
    with pytest.raises(ValueError, match=re.escape(words)):
        host_pattern(host)


@given(st.text(max_size=60) | st.text("0123456789abcdefx.:*[]-%", max_size=24))
def test_a_normal_host_stays_as_it_is(text):
    """Whatever the text, it is refused or has one spelling, which is ASCII and is its own."""
    try:
        host = normal_host(text)
    except ValueError:
        return
    assert normal_host(host) == host
    assert host.isascii()
    assert isinstance(is_private(host), bool)


@pytest.mark.parametrize(
    ("hosts", "port", "host", "reached"),
    [
        ("a.example", 443, "a.example", True),
        ("a.example", 80, "a.example", False),
        ("a.example", 443, "b.a.example", False),
        ("a.example", 443, "xa.example", False),
        ("*.example", 443, "a.example", True),
        ("*.example", 443, "a.b.example", True),
        ("*.example", 443, "example", False),
        ("*.example", 443, "xexample", False),
        ("192.0.2.1", 443, "192.0.2.1", True),
        ("192.0.2.1", 443, "192.0.2.11", False),
        ("*", 443, "::1", True),
    ],
)
def test_what_a_grant_reaches(hosts, port, host, reached):
    """A name is itself alone, a pattern every name below one and not that itself; the port counts, too."""
    assert NetworkGrant(hosts=(hosts,)).reaches(host, port) is reached


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("notlocalhost", False),
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("::1", True),
        ("fe80::1", True),
        ("fd00::1", True),
        ("0.0.0.0", True),
        ("1.1.1.1", False),
        ("2606:4700::1111", False),
        ("example.com", False),
    ],
)
def test_what_is_of_the_own_network(host, private):
    """Addresses that are not of the whole internet, and localhost by its name."""
    assert is_private(host) is private


def test_the_host_program_names_hosts():
    """Each form of SandboxConfig.allowed_hosts becomes a grant; who names its own machine means it."""
    wish = SandboxConfig(
        allowed_hosts=(
            "API.example.com",
            "a.example:8443",
            "http://b.example",
            "https://c.example",
            "http://localhost:8080",
            "[::1]:9000",
            "fd00::1",
            "*.example.net",
        )
    )
    found = [(one.hosts[0], one.ports[0], one.plain, one.private) for one in MAXIMUM.granted(wish).http]

    assert found == [
        ("api.example.com", 443, False, False),
        ("a.example", 8443, False, False),
        ("b.example", 80, True, False),
        ("c.example", 443, False, False),
        ("localhost", 8080, True, True),
        ("::1", 9000, False, True),
        ("fd00::1", 443, False, True),
        ("*.example.net", 443, False, False),
    ]
    assert not MAXIMUM.granted(wish).network
    assert Permission.NETWORK in MAXIMUM.granted(wish).permissions
    assert MAXIMUM.granted(wish).syscalls == MAXIMUM.syscalls


def test_the_host_programs_hosts_take_nothing_away(policy):
    """For a host that the policy grants, its methods and limits stay; a pattern never comes before them."""
    base = policy("network: {hosts: ['*.example'], ports: [443, 80], methods: [POST], max_response: 1MiB}")
    single = base.granted(SandboxConfig(allowed_hosts=("http://a.example",))).http
    pattern = base.granted(SandboxConfig(allowed_hosts=("*",))).http

    assert (single[0].hosts, single[0].methods, single[0].plain) == (("a.example",), ("POST",), True)
    assert (single[0].max_response, single[1]) == (1 << 20, base.http[0])
    assert (pattern[0], pattern[1].hosts) == (base.http[0], ("*",))


@pytest.mark.parametrize(
    "host",
    ["", "a b", "ftp://a.b", "a.b/path", "a.b:0", "a.b:65536", "a.b:x", "http://", "[a.b]", "u@a.b", ":80"],
)
def test_what_the_host_program_cannot_grant(host):
    """A host that could never be reached is refused, not ignored."""
    with pytest.raises(ConfigError, match=r"SandboxConfig\.allowed_hosts"):
        MAXIMUM.granted(SandboxConfig(allowed_hosts=(host,)))


def test_a_grant_reads_as_a_sentence():
    """What people are shown of a grant has every part of it."""
    grant = NetworkGrant(hosts=("a.b", "*.c"), ports=(80, 443), bandwidth=1 << 20, plain=True, private=True)

    assert str(grant) == (
        "GET, HEAD to a.b, *.c, ports 80, 443, also without TLS, also in private networks; "
        "1MiB sent, 8MiB received, 30s, 1MiB/s"
    )


def test_the_host_programs_grants_have_their_origin(written):
    """A host that the host program grants is shown as its word."""
    manager = IsolationManager(policy=written("extends: high\nnetwork: {hosts: [a.b]}\n").name)
    wishes = [SandboxConfig(allowed_hosts=("c.d",))]
    found = {one.key: (one.value, one.origin) for one in manager.explain(plugin(), wishes=wishes)}

    assert found["network.0"] == (NetworkGrant(hosts=("c.d",)), "the host program")
    assert found["network.1"][0] == NetworkGrant(hosts=("a.b",))
    assert manager.confine(plugin("p", "Network"), wishes=wishes).policy.http[0].hosts == ("c.d",)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("network: 1", "2, column 1: network", "must be true"),
        ("network: none", "2, column 1: network", "{hosts: [api.example.com]}"),
        ("network:", "2, column 1: network", "must be true"),
        ("network: {}", "2, column 1: network", "must be true"),
        ("network: []", "2, column 1: network", "must be true"),
        ("network: {ports: [443]}", "2, column 1: network.hosts", "is missing"),
        ("network: {host: [a.b]}", "2, column 11: network.host", "did you mean hosts?"),
        ("network:\n  - {hosts: [a.b]}\n  - true", "4, column 5: network.1", "`network: true` alone"),
        ("network:\n  - {hosts: [a.b]}\n  - a.c", "4, column 5: network.1", "mapping"),
        ("network: {hosts: a.b}", "2, column 11: network.hosts", "list"),
        ("network: {hosts: []}", "2, column 11: network.hosts", "at least one"),
        ("network: {hosts: [a.b, 5]}", "2, column 11: network.hosts", "texts"),
        ("network: {hosts: [a.b, 'http://x']}", "2, column 24: network.hosts.1", "neither a name nor"),
        ("network: {hosts: [bücher.example]}", "2, column 19: network.hosts.0", "xn--bcher-kva.example"),
        ("network: {hosts: [a.b], ports: 443}", "network.ports", "list"),
        ("network: {hosts: [a.b], ports: []}", "network.ports", "at least one"),
        ("network: {hosts: [a.b], ports: [0]}", "network.ports.0", "1 to 65535"),
        ("network: {hosts: [a.b], ports: [65536]}", "network.ports.0", "1 to 65535"),
        ("network: {hosts: [a.b], ports: [true]}", "network.ports.0", "1 to 65535"),
        ("network: {hosts: [a.b], ports: ['443']}", "network.ports.0", "1 to 65535"),
        ("network: {hosts: [a.b], ports: [443.0]}", "network.ports.0", "1 to 65535"),
        ("network: {hosts: [a.b], methods: [get]}", "network.methods.0", "write GET"),
        ("network: {hosts: [a.b], methods: ['GET /']}", "network.methods.0", "write capitals"),
        ("network: {hosts: [a.b], methods: [\"GET\\r\\nX: y\"]}", "network.methods.0", "no method"),
        ("network: {hosts: [a.b], methods: ['*']}", "network.methods.0", "no method"),
        ("network: {hosts: [a.b], methods: [CONNECT]}", "network.methods.0", "tunnel"),
        ("network: {hosts: [a.b], methods: []}", "network.methods", "at least one"),
        ("network: {hosts: [a.b], bandwidth: 1MiB}", "network.bandwidth", "MiB/s"),
        ("network: {hosts: [a.b], bandwidth: 0}", "network.bandwidth", "at least 1"),
        ("network: {hosts: [a.b], bandwidth: 5/s}", "network.bandwidth", "B/s, KiB/s"),
        ("network: {hosts: [a.b], private: maybe}", "network.private", "true or false"),
        ("network: {hosts: [a.b], plain: 1}", "network.plain", "true or false"),
        ("network: {hosts: [a.b], max_request: 5}", "network.max_request", "KiB"),
        ("network: {hosts: [a.b], max_response: none}", "network.max_response", "KiB"),
        ("network: {hosts: [a.b], timeout: 0}", "network.timeout", "at least 1"),
        ("network: {hosts: [a.b], timeout: 1MiB}", "network.timeout", "ms, s, min, h"),
        ("plugins: {a: {network: {hosts: ['a..b']}}}", "plugins.a.network.hosts.0", "no host"),
    ],
)  # fmt: skip
def test_a_wrong_grant_of_http_is_one_clear_sentence(policy, text, place, words):
    """Each mistake is a ConfigError that names file, line, column and key, and says what would be right."""
    with pytest.raises(ConfigError) as caught:
        policy(text)

    assert "policy.yaml, line " in caught.value.parameter
    assert caught.value.parameter.endswith(place)
    assert words in caught.value.reason
