"""The broker and real servers on this machine: what is granted is fetched, all else refused with why."""

import asyncio
import gzip
import os
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path

import msgspec
import pytest
from support import live
from web import HELLO, Site, authority, serve

from frys_runtime.http_broker import HttpBroker
from frys_runtime.messages import MessageValue, Refused, check_value
from frys_runtime.policy_http import NetworkGrant

SOON = 60.0
"""Seconds that nothing here takes."""


def grant(*sites: Site, **settings: object) -> NetworkGrant:
    """Everything about these servers; the settings say what is different."""
    wide = NetworkGrant(
        hosts=("127.0.0.1",), ports=tuple(site.port for site in sites) or (443,), private=True, plain=True
    )
    return msgspec.structs.replace(wide, **settings)


async def ask(broker: HttpBroker, url: str, **request: MessageValue) -> dict[str, MessageValue]:
    answer = await broker.request({"url": url, **request}, asyncio.get_running_loop().time() + SOON)
    check_value(answer, "the answer")
    return answer


async def refusal(asked: Coroutine[None, None, object]) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        await asked
    return caught.value.reason, caught.value.message


def url(site: Site, path: str = "/", host: str = "127.0.0.1") -> str:
    return f"http://{host}:{site.port}{path}"


@live
async def test_a_granted_request_is_made() -> None:
    """The request arrives as it was meant, the answer comes back whole, and the bytes are counted."""
    async with serve(HELLO) as site:
        broker = HttpBroker((grant(site, methods=("POST",)),))
        answer = await ask(
            broker,
            url(site, "/a?b"),
            method="POST",
            headers={"X-One": "1"},
            body=b"\x00body",
            timeout_ms=9000,
        )
        head, body = site.requests[0]
        await broker.close()
    assert answer == {
        "status": 200,
        "headers": {"content-length": "5", "content-type": "text/plain"},
        "body": b"hello",
    }
    assert head.split(b"\r\n") == [
        b"POST /a?b HTTP/1.1",
        b"Host: 127.0.0.1:%d" % site.port,
        b"Connection: close",
        b"Content-Length: 5",
        b"Accept-Encoding: identity",
        b"User-Agent: frys",
        b"X-One: 1",
        b"",
        b"",
    ]
    assert body == b"\x00body"
    assert (broker.requests, broker.bytes_out, broker.bytes_in) == (1, len(head) + len(body), len(HELLO))
    assert not broker.refused


@live
async def test_what_is_not_granted_is_refused_with_the_key() -> None:
    """Host, port, method and plain HTTP are refused by name, before anything is connected to."""
    async with serve(HELLO) as site, serve(HELLO) as other:
        broker = HttpBroker((grant(site),))
        cases = [
            ("hosts", ask(broker, url(site, host="127.0.0.2"))),
            ("hosts", ask(broker, url(site, host="localhost"))),
            ("ports", ask(broker, url(other))),
            ("methods", ask(broker, url(site), method="DELETE")),
            ("plain", ask(HttpBroker((grant(site, plain=False),)), url(site))),
            ("private", ask(HttpBroker((grant(site, private=False),)), url(site))),
            ("hosts", ask(HttpBroker(()), url(site))),
        ]
        for key, asked in cases:
            reason, message = await refusal(asked)
            assert (reason, f"`{key}`" in message) == ("permission", True), message
        assert (site.connections, other.connections) == (0, 0)
        assert broker.refused == {"permission": 4}
        assert (await ask(broker, url(site)))["body"] == b"hello"


@live
async def test_the_first_grant_that_reaches_decides() -> None:
    """A later grant neither widens nor narrows an earlier one for the same host and port."""
    async with serve(HELLO) as site, serve(HELLO) as other:
        narrow, wide = grant(site, methods=("HEAD",)), grant(site, other, hosts=("*",))
        broker = HttpBroker((narrow, wide))
        assert (await refusal(ask(broker, url(site))))[0] == "permission"
        assert (await ask(broker, url(other)))["status"] == 200
        assert (await ask(HttpBroker((wide, narrow)), url(site)))["status"] == 200


@live
async def test_an_address_in_disguise_is_the_address() -> None:
    """Odd spellings of 127.0.0.1 are refused where the address is not granted, and reach it where it is."""
    spellings = ("2130706433", "0x7f.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "127.1", "１２７.0.0.1")
    async with serve(HELLO) as site:
        public, private = HttpBroker((grant(site, hosts=("*",), private=False),)), HttpBroker((grant(site),))
        for spelling in spellings:
            reason, message = await refusal(ask(public, url(site, host=spelling)))
            assert (reason, "`private`" in message) == ("permission", True)
            assert site.connections == 0
        for spelling in spellings:
            assert (await ask(private, url(site, host=spelling)))["body"] == b"hello"


@live
async def test_a_name_of_this_machine_is_refused_unless_private() -> None:
    """A name that resolves to loopback is treated as the address that it has."""
    async with serve(HELLO) as site:
        there = url(site, host="localhost")
        broker = HttpBroker((grant(site, hosts=("localhost",), private=False),))
        reason, message = await refusal(ask(broker, there))
        assert reason == "permission"
        assert "127.0.0.1" not in message
        assert site.connections == 0
        broker = HttpBroker((grant(site, hosts=("localhost",)),))
        assert (await ask(broker, there))["body"] == b"hello"


@live
async def test_a_redirect_is_an_answer() -> None:
    """Where a server points is not gone to: the plugin gets the status and the place, and may ask."""
    async with serve(HELLO) as secret:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {url(secret)}\r\nContent-Length: 0\r\n\r\n".encode()
        async with serve(moved) as site:
            broker = HttpBroker((grant(site),))
            answer = await ask(broker, url(site))
            assert answer["status"] == 302
            assert answer["headers"] == {"location": url(secret), "content-length": "0"}
            assert secret.connections == 0
            assert (await refusal(ask(broker, url(secret))))[0] == "permission"


@live
async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the host's own programs use sees nothing of a plugin's requests."""
    async with serve(HELLO) as proxy, serve(HELLO) as site:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, url(proxy))
        monkeypatch.delenv("no_proxy", raising=False)
        code = f"import urllib.request; urllib.request.urlopen({url(site)!r}).read()"
        used = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        assert await used.wait() == 0
        assert (proxy.connections, site.connections) == (1, 0)
        await ask(HttpBroker((grant(site),)), url(site))
        assert (proxy.connections, site.connections) == (1, 1)


@live
async def test_no_cookie_and_no_connection_is_kept() -> None:
    """Each request has a connection of its own, closed after it, and nothing of the last one in it."""
    answer = HELLO.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\n\r\n")
    async with serve(answer) as site:
        broker = HttpBroker((grant(site),))
        for _ in range(2):
            assert (await ask(broker, url(site)))["headers"]["set-cookie"] == ["a=1; Path=/", "b=2"]
            await site.abandoned()
        assert site.connections == 2
        assert all(b"ookie" not in head for head, _ in site.requests)
        await ask(broker, url(site), headers={"Cookie": "a=1"})
        assert b"Cookie: a=1" in site.requests[2][0]


@live
async def test_repeated_headers_are_one_list() -> None:
    """Values of one name are joined in order, in lower case; bytes beyond ASCII come as Latin-1."""
    answer = b"HTTP/1.1 204 Fine\r\nVary: a\r\nX-\xc3: b\r\n\r\n".replace(b"X-\xc3", b"VARY").replace(
        b"b", b"\xfc"
    )
    async with serve(answer) as site:
        got = await ask(HttpBroker((grant(site),)), url(site))
    assert got == {"status": 204, "headers": {"vary": "a, ü"}, "body": b""}


@live
async def test_bodies_are_bounded() -> None:
    """A body of the size that is granted passes in both directions; one byte more does not."""
    async with serve(HELLO) as site:
        for size, passes in ((5, True), (4, False)):
            broker = HttpBroker((grant(site, max_response=size),))
            asked = ask(broker, url(site))
            assert (
                (await asked)["body"] == b"hello" if passes else "`max_response`" in (await refusal(asked))[1]
            )
        broker = HttpBroker((grant(site, max_request=4, methods=("PUT",)),))
        assert (await ask(broker, url(site), method="PUT", body=b"1234"))["status"] == 200
        before = site.connections
        reason, message = await refusal(ask(broker, url(site), method="PUT", body=b"12345"))
        assert (reason, "`max_request`" in message, site.connections) == ("limit", True, before)


@live
async def test_nothing_is_decompressed() -> None:
    """A small body that would become a large one is handed on as it came; compression is not asked for."""
    bomb = gzip.compress(bytes(10_000_000))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with serve(head + bomb) as site:
        broker = HttpBroker((grant(site, max_response=len(bomb)),))
        assert (await ask(broker, url(site)))["body"] == bomb
        await ask(broker, url(site), headers={"accept-encoding": "gzip"})
    assert b"Accept-Encoding: identity" in site.requests[0][0]
    assert b"identity" not in site.requests[1][0]


@live
async def test_a_slow_grant_slows_and_loses_nothing() -> None:
    """With a bandwidth the same bytes come, in both directions, and the broker waits as long as they take."""
    body = os.urandom(30_000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serve(answer + body) as site:
        loop = asyncio.get_running_loop()
        broker = HttpBroker((grant(site, methods=("PUT",), bandwidth=30_000),))
        begin = loop.time()
        got = await ask(broker, url(site), method="PUT", body=body)
        took = loop.time() - begin
        assert got["body"] == body
        assert site.requests[0][1] == body
        # The rate is the promise, not the machine's speed: a second's worth is free, the second one is not.
        assert took > 0.9
        reason, _ = await refusal(ask(broker, url(site), method="PUT", body=body, timeout_ms=300))
        assert reason == "timeout"
        quick = HttpBroker((grant(site, methods=("PUT",)),))
        assert (await ask(quick, url(site), method="PUT", body=body, timeout_ms=5000))["body"] == body


@live
async def test_time_is_bounded_by_grant_request_and_call() -> None:
    """The shortest of the three ends a request that is not answered, and its connection with it."""

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        return

    async with serve(HELLO) as site:
        now = asyncio.get_running_loop().time
        usual, short = HttpBroker((grant(site),)), HttpBroker((grant(site, timeout=200),))
        await ask(usual, url(site))  # what is imported at the first request is there
        site.answer = silent
        for seconds, broker, deadline, timeout in (
            (0.2, short, SOON, None),
            (0.2, short, SOON, 100_000),
            (0.3, usual, SOON, 300),
            (0.4, usual, 0.4, None),
            (0, usual, -1, None),
        ):
            asked = broker.request({"url": url(site), "timeout_ms": timeout}, now() + deadline)
            reason, message = await refusal(asked)
            assert (reason, f"within {seconds} s" in message) == ("timeout", True), message
            await site.abandoned()
        assert len(site.requests) > 1
        site.answer = HELLO
        assert (await ask(usual, url(site)))["status"] == 200


@live
async def test_one_request_at_a_time() -> None:
    """While one is under way a second is refused; cancelling the first closes its connection."""
    reached = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.set()

    async with serve(silent) as site:
        broker = HttpBroker((grant(site),))
        first = asyncio.create_task(ask(broker, url(site)))
        await reached.wait()
        assert (await refusal(ask(broker, url(site))))[0] == "limit"
        assert site.connections == 1
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await site.abandoned()
        site.answer = HELLO
        assert (await ask(broker, url(site)))["body"] == b"hello"


@live
async def test_a_closed_broker_ends_and_refuses() -> None:
    """Closing ends the request under way, waits for it, and nothing is connected to afterwards."""
    reached = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.set()

    async with serve(silent) as site:
        broker = HttpBroker((grant(site),))
        first = asyncio.create_task(refusal(ask(broker, url(site))))
        await reached.wait()
        await asyncio.wait_for(broker.close(), SOON / 4)
        assert (await first)[0] == "unavailable"
        await site.abandoned()
        assert (await refusal(ask(broker, url(site))))[0] == "unavailable"
        await broker.close()
        assert site.connections == 1


@live
async def test_nobody_there() -> None:
    """A port where nothing listens is unavailable."""
    async with serve(HELLO) as site:
        pass
    broker = HttpBroker((grant(site, hosts=("*",)),))
    reason, message = await refusal(ask(broker, url(site)))
    assert (reason, "refused" in message) == ("unavailable", True)
    assert broker.refused == {"unavailable": 1}


@live
async def test_certificates_are_checked(tmp_path: Path) -> None:
    """TLS holds by name and by address; another name, an unknown authority and plain HTTP fail."""
    server, client = authority(tmp_path, "localhost", "127.0.0.1")
    (tmp_path / "other").mkdir()
    other_server, other_client = authority(tmp_path / "other", "localhost")
    async with (
        serve(HELLO, tls=server) as site,
        serve(HELLO, tls=other_server) as other,
        serve(HELLO) as plain,
    ):
        plain.rash = True
        wide = grant(site, other, plain, hosts=("*",), plain=False)
        trusting, usual = HttpBroker((wide,), tls=client), HttpBroker((wide,))
        for host in ("localhost", "127.0.0.1"):
            assert (await ask(trusting, f"https://{host}:{site.port}/"))["body"] == b"hello"
        for broker, host, port, said in (
            (HttpBroker((wide,), tls=other_client), "127.0.0.1", other.port, "mismatch"),
            (trusting, "localhost", other.port, "not accepted"),
            (usual, "localhost", site.port, "not accepted"),
            (trusting, "localhost", plain.port, "TLS"),
        ):
            reason, message = await refusal(ask(broker, f"https://{host}:{port}/"))
            assert (reason, said in message) == ("failed", True), message
        assert len(site.requests) == 2
        assert other.requests == plain.requests == []


@live
async def test_the_server_sees_the_name(tmp_path: Path) -> None:
    """The certificate is asked for by the name of the URL, though the connection goes to an address."""
    server, client = authority(tmp_path, "localhost")
    names: list[str | None] = []
    server.sni_callback = lambda _connection, name, _context: names.append(name)
    async with serve(HELLO, tls=server) as site:
        broker = HttpBroker((grant(site, hosts=("localhost",)),), tls=client)
        await ask(broker, f"https://LOCALHOST:{site.port}/")
    assert names == ["localhost"]
    assert f"Host: localhost:{site.port}".encode() in site.requests[0][0]


def test_without_the_extra_the_refusal_names_it() -> None:
    """Where h11 or idna is not installed, the plugin's request is refused with what to install."""
    code = """
import asyncio, sys
sys.modules["h11"] = sys.modules["idna"] = None  # as if they were not there
from frys_runtime.http_broker import HttpBroker
from frys_runtime.messages import Refused
from frys_runtime.policy_http import NetworkGrant

async def main():
    broker = HttpBroker((NetworkGrant(hosts=("*",), plain=True, private=True),))
    for host in ("localhost", "bücher.example"):
        try:
            await broker.request({"url": f"https://{host}/"}, asyncio.get_running_loop().time() + 9)
        except Refused as refusal:
            print(refusal.reason, "frys-runtime[http]" in refusal.message)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["unavailable True"] * 2
