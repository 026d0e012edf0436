"""A plugin's request is read in one strict way, or refused with the key that is wrong."""

import re

import pytest
from hypothesis import example, given, strategies as st

from frys_runtime.messages import Refused
from frys_runtime.network.request import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL, Request, read_request

HOST = "https://example.com/"


def _url(url: str) -> Request:
    return read_request({"url": url})


def _refusal(request: object) -> str:
    with pytest.raises(Refused) as caught:
        read_request(request)  # type: ignore[arg-type]
    assert caught.value.reason == "invalid"
    return caught.value.message


@pytest.mark.parametrize(
    ("url", "tls", "host", "port", "target"),
    [
        ("https://example.com", True, "example.com", 443, "/"),
        ("HTTPS://EXAMPLE.Com:8443/A?b=c%20d", True, "example.com", 8443, "/A?b=c%20d"),
        ("http://example.com?x", False, "example.com", 80, "/?x"),
        ("https://example.com./a/../b#part", True, "example.com", 443, "/a/../b"),
        ("https://bücher.example/", True, "xn--bcher-kva.example", 443, "/"),
        ("https://faß.example/", True, "xn--fa-hia.example", 443, "/"),
        ("https://ＥＸＡＭＰＬＥ。com/", True, "example.com", 443, "/"),
        ("https://a_b.xn--bcher-kva.example:1/", True, "a_b.xn--bcher-kva.example", 1, "/"),
        ("https://user.example/@:80", True, "user.example", 443, "/@:80"),
    ],
)
def test_a_url_is_read(url: str, tls: bool, host: str, port: int, target: str) -> None:
    """Scheme, host, port and target come out as they are connected to and sent; a fragment stays at home."""
    read = _url(url)
    assert (read.tls, read.host, read.address, read.port, read.target) == (tls, host, None, port, target)


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("１２７.０.０.１", "127.0.0.1"),
        ("①②⑦.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[0:0::0001]", "::1"),
        ("[::FFFF:127.0.0.1]", "127.0.0.1"),
        ("[::ffff:7f00:1]", "127.0.0.1"),
        ("[64:ff9b::10.0.0.1]", "64:ff9b::a00:1"),
    ],
)
def test_an_address_is_what_it_means(host: str, meant: str) -> None:
    """Every spelling of an address is the address, which is also what the Host header says."""
    read = _url(f"http://{host}:81/")
    assert (read.host, str(read.address)) == (meant, meant)
    shown = f"[{meant}]" if ":" in meant else meant
    assert (b"Host", f"{shown}:81".encode()) in read.headers


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "example.com",
            "//example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https:/example.com",
        ),
        *("https:example.com", "https://", "https:///path", "httpſ://example.com/", "javascript:alert(1)"),
        *(
            "https://user@example.com/",
            "https://user:secret@example.com/",
            "https://good.example@bad.example/",
        ),
        *("https://example.com\\@bad.example/", "https://example.com/\r\nX: y", "https://exam\nple.com/"),
        *(
            "https://example.com/ ",
            " https://example.com/",
            "https://example.com/\x00",
            "https://example.com/\x7f",
        ),
        *("https://example.com:0/", "https://example.com:65536/", "https://example.com:/", "https://a:b/"),
        *("https://example.com:١/", "https://example.com:+1/", "https://example.com:443:443/"),
        *("https://exa%6dple.com/", "https://exam ple.com/", "https://-a.example/", "https://a-.example/"),
        *("https://a..example/", "https://.example/", "https://./", f"https://{'a' * 64}.example/"),
        *(
            f"https://{'a.' * 127}example/",
            f"https://{'ü.' * 200}example/",
            "https://a*b.example/",
            "https://a,b/",
        ),
        *(
            "https://[::1/",
            "https://::1/",
            "https://[::1%25lo]/",
            "https://[fe80::1%lo]/",
            "https://[127.0.0.1]/",
        ),
        *(
            "https://[::1]extra/",
            "https://[v1.x]/",
            "https://256.0.0.1/",
            "https://1.2.3.4.5/",
            "https://0x/",
        ),
        *("https://127.0.0.08/", "https://4294967296/", "https://example.0x7g/x y", "https://a.1/"),
        *(
            "https://example.com/ä",
            'https://example.com/"',
            "https://example.com/%",
            "https://example.com/%4",
        ),
        *(
            "https://example.com/%zz",
            "https://example.com/?[",
            "https://example.com/<",
            "https://x\u202e.example/",
        ),
        "https://example.com/" + "a" * MAX_URL,
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    """What two readers could understand differently, or HTTP cannot carry, is no URL here."""
    assert "url" in _refusal({"url": url})


def test_the_longest_url_passes() -> None:
    """The bound on a URL is the one that is refused beyond."""
    assert _url(HOST + "a" * (MAX_URL - len(HOST))).host == "example.com"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (None, "map"),
        ([], "map"),
        ({}, "url"),
        ({"url": b"https://example.com/"}, "url"),
        ({"url": HOST, "follow": True}, "'follow'"),
        *(({"url": HOST, "method": method}, "method") for method in ("get", "", "GET ", "G\r\n", 1, None)),
        ({"url": HOST, "method": "CONNECT"}, "CONNECT"),
        *(({"url": HOST, "body": body}, "body") for body in ("text", [], 1, False)),
        *(({"url": HOST, "timeout_ms": time}, "timeout_ms") for time in (0, -1, 1.5, True, "1")),
        *(({"url": HOST, "headers": headers}, "headers") for headers in ([], "a: b", {"a": 1}, {"a": ["b"]})),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(request_: object, said: str) -> None:
    """The refusal names the key that is wrong."""
    assert said in _refusal(request_)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Host",
            "connection",
            "Content-Length",
            "TRANSFER-ENCODING",
            "te",
            "Trailer",
            "Upgrade",
            "keep-alive",
        ),
        *(
            "Expect",
            "HTTP2-Settings",
            "Proxy-Authorization",
            "proxy-connection",
            "",
            "a b",
            "a:",
            "a\r\nb",
            "ä",
        ),
        *("a\x00", "x" * 129),
    ],
)
def test_headers_of_the_broker_and_no_headers_are_refused(name: str) -> None:
    """A plugin cannot say where a message ends, whom it is for, or what happens to the connection."""
    assert "headers" in _refusal({"url": HOST, "headers": {name: "1"}})
    assert read_request({"url": HOST, "headers": {"X-Other": "1"}})


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\rb", "a\x00", "a\x7f", "\x0b", "€", "\ud800"])
def test_a_header_cannot_end_early(value: str) -> None:
    """No line end, no control character and nothing beyond one byte gets into a value."""
    assert "headers" in _refusal({"url": HOST, "headers": {"a": value}})


def test_headers_are_bounded() -> None:
    """As many as the bound pass, one more does not; so with their bytes. No name comes twice."""
    most = {f"h{number}": "" for number in range(MAX_HEADERS)}
    assert read_request({"url": HOST, "headers": most})
    assert str(MAX_HEADERS) in _refusal({"url": HOST, "headers": most | {"one-more": ""}})
    assert read_request({"url": HOST, "headers": {"a": "b" * (MAX_HEADER_BYTES - 1)}})
    assert str(MAX_HEADER_BYTES) in _refusal({"url": HOST, "headers": {"a": "b" * MAX_HEADER_BYTES}})
    assert "twice" in _refusal({"url": HOST, "headers": {"Accept": "1", "accept": "2"}})


def test_the_brokers_headers_are_added() -> None:
    """Who it is for and where it ends is always said; what a plugin may choose is its own."""
    plain = dict(read_request({"url": HOST}).headers)
    assert plain == {
        b"Host": b"example.com",
        b"Connection": b"close",
        b"Accept-Encoding": b"identity",
        b"User-Agent": b"frys",
    }
    chosen = {"accept-encoding": "gzip", "USER-AGENT": " ö "}
    own = read_request({"url": HOST, "method": "POST", "body": b"123", "headers": chosen}).headers
    assert own == [
        (b"Host", b"example.com"),
        (b"Connection", b"close"),
        (b"Content-Length", b"3"),
        (b"accept-encoding", b"gzip"),
        (b"USER-AGENT", b"\xf6"),
    ]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_requests = st.fixed_dictionaries(
    {"url": st.text().map("https://".__add__) | st.text() | _values},
    optional={
        "method": st.text(max_size=5) | _values,
        "headers": st.dictionaries(st.text(), st.text() | _values) | _values,
        "body": _values,
        "timeout_ms": _values,
    },
)


@given(_values | _requests)
@example({"url": "https://\u0130.example/"})
@example({"url": "https://xn--/"})
@example({"url": "https://xn--a.example/"})
@example({"url": "https://[\u0661::]/"})
def test_anything_is_a_request_or_refused(value: object) -> None:
    """Whatever a plugin sends, it is read or refused, and what is read has nothing that ends a line."""
    try:
        read = read_request(value)  # type: ignore[arg-type]
    except Refused:
        return
    assert read.host.isascii()
    assert re.fullmatch(r"[!-~]+", read.target)
    assert not any(re.search(rb"[\r\n\x00]", name + text) for name, text in read.headers)
