"""Servers that mean harm: each ends in a refusal, with its connection closed, and the broker goes on."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable
from pathlib import Path

import msgspec
import pytest
from support import live
from web import HELLO, Answer, Site, authority, serve

from frys_runtime.http_broker import HttpBroker
from frys_runtime.messages import MessageValue, Refused
from frys_runtime.network.exchange import MAX_HEAD
from frys_runtime.policy_http import NetworkGrant

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LIMIT = 1 << 20


def forever(begin: bytes, again: bytes) -> Answer:
    """Send the same again until the other side has had enough."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            writer.write(again * (4096 // len(again)))
            await writer.drain()

    return answer


def broker(*sites: Site, tls: ssl.SSLContext | None = None, **settings: object) -> HttpBroker:
    wide = NetworkGrant(
        hosts=("*",),
        ports=tuple(site.port for site in sites),
        methods=("GET", "HEAD", "PUT"),
        private=True,
        plain=True,
        max_request=64 << 20,
        max_response=LIMIT,
    )
    return HttpBroker((msgspec.structs.replace(wide, **settings),), tls)


async def ask(broker: HttpBroker, site: Site, **request: MessageValue) -> dict[str, MessageValue]:
    url = f"http://127.0.0.1:{site.port}/"
    return await broker.request({"url": url, **request}, asyncio.get_running_loop().time() + 60)


async def refusal(asked: Awaitable[object]) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        await asked
    return caught.value.reason, caught.value.message


async def swallow(site: Site, size: int) -> int:
    """What a client without bounds takes from a server: as much as ``size``, and it would take more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    taken = 0
    while taken < size and (data := await reader.read(65536)):
        taken += len(data)
    writer.transport.abort()
    return taken


ENDLESS = {
    "headers": (forever(OK, b"X-More: and more\r\n"), "failed", "HTTP"),
    "a header": (forever(OK + b"X-Long: ", b"a"), "failed", "HTTP"),
    "a status line": (forever(b"HTTP/1.1 200 ", b"a"), "failed", "HTTP"),
    "nothing of HTTP": (forever(b"", b"a"), "failed", "HTTP"),
    "answers of status 1xx": (forever(b"", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"), "failed", "1xx"),
    "a body without length": (forever(OK + b"\r\n", b"a"), "limit", "`max_response`"),
    "a body of great length": (
        forever(OK + b"Content-Length: 999999999999\r\n\r\n", b"a"),
        "limit",
        "`max_response`",
    ),
    "chunks": (forever(CHUNKED, b"400\r\n" + b"a" * 1024 + b"\r\n"), "limit", "`max_response`"),
    "a chunk": (forever(CHUNKED + b"ffffffffffff\r\n", b"a"), "limit", "`max_response`"),
    "chunks of one byte": (forever(CHUNKED, b"1\r\na\r\n"), "failed", "chunks that are too small"),
    "the line of a chunk": (forever(CHUNKED + b"1;", b"a"), "failed", "HTTP"),
    "the size of a chunk": (forever(CHUNKED, b"0"), "failed", "HTTP"),
    "trailers": (forever(CHUNKED + b"0\r\n", b"X-More: and more\r\n"), "failed", "HTTP"),
}


@pytest.mark.parametrize("what", ENDLESS)
@live
async def test_what_never_ends_is_ended(what: str) -> None:
    """A client without bounds takes all that it is sent; the broker stops after what is granted."""
    answer, reason, said = ENDLESS[what]
    async with serve(answer) as site, serve(HELLO) as good:
        assert await swallow(site, 4 * LIMIT) >= 4 * LIMIT
        plugin = broker(site, good)
        refused, message = await refusal(ask(plugin, site))
        assert (refused, said in message) == (reason, True), message
        assert plugin.bytes_in <= 2 * LIMIT
        await site.abandoned()
        assert (await ask(plugin, good))["body"] == b"hello"


@live
async def test_others_get_their_turn_between_tiny_chunks() -> None:
    """While a server sends chunks of one byte, the host's loop goes round for everybody else."""
    rounds = 0

    async def somebody_else() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    async with serve(CHUNKED + b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n") as site:
        other = asyncio.create_task(somebody_else())
        assert (await ask(broker(site), site))["body"] == b"a" * 40_000
        other.cancel()
    assert rounds > 40_000 / 32


BROKEN = {
    "no answer": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_10.0\r\n\r\n",
    "another HTTP": b"HTTP/2 200 OK\r\n\r\n",
    "a status of five digits": b"HTTP/1.1 20000 OK\r\nContent-Length: 0\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a header without a colon": OK + b"Content-Length 5\r\n\r\nhello",
    "a header with a zero": OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "a header with a space before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "half a head": OK + b"Content-Le",
    "half a body": OK + b"Content-Length: 10\r\n\r\nhello",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a length below zero": OK + b"Content-Length: -1\r\n\r\n",
    "a length that is none": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "another transfer encoding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "half a chunk": CHUNKED + b"5\r\nhel",
    "no last chunk": CHUNKED + b"5\r\nhello\r\n",
    "a chunk of no size": CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
    "a chunk below zero": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "a chunk beyond counting": CHUNKED + b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than it says": CHUNKED + b"4\r\nhello\r\n0\r\n\r\n",
}


def then_close(what: bytes) -> Answer:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(what)
        writer.write_eof()

    return answer


@pytest.mark.parametrize("what", BROKEN)
@live
async def test_what_is_not_http_fails(what: str) -> None:
    """A plugin never gets half an answer, or one that two readers understand differently."""
    async with serve(then_close(BROKEN[what])) as site:
        plugin = broker(site)
        assert (await refusal(ask(plugin, site)))[0] == "failed"
        await site.abandoned()
        for whole in (HELLO, CHUNKED + b"5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n", OK + b"\r\nhello"):
            site.answer = then_close(whole)
            assert (await ask(plugin, site))["body"] == b"hello"


@live
async def test_what_comes_after_the_answer_is_not_read() -> None:
    """Neither more body than announced nor a second answer, nor an answer to HEAD with a body, gets in."""
    async with serve(HELLO + HELLO) as site:
        plugin = broker(site)
        assert (await ask(plugin, site))["body"] == b"hello"
        assert (await ask(plugin, site, method="HEAD"))["body"] == b""
        await site.abandoned()


@live
async def test_an_answer_may_follow_announcements() -> None:
    """A few answers of status 1xx before the real one are passed over."""
    async with serve(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + HELLO) as site:
        assert (await ask(broker(site), site))["headers"] == {
            "content-length": "5",
            "content-type": "text/plain",
        }


@live
async def test_headers_up_to_the_bound_pass() -> None:
    """A large head is read; the bound on it is a bound, not a trap for honest servers."""
    large = b"a" * (MAX_HEAD - 200)
    async with serve(HELLO.replace(b"\r\n\r\n", b"\r\nX-Large: " + large + b"\r\n\r\n")) as site:
        assert (await ask(broker(site), site))["headers"]["x-large"] == large.decode()


@live
async def test_a_drip_ends_in_time() -> None:
    """A server that sends a byte now and then cannot hold a request longer than its time."""

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in HELLO:
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.01)

    async with serve(drip) as site:
        assert (await ask(broker(site), site))["body"] == b"hello"
        assert (await refusal(ask(broker(site, timeout=300), site)))[0] == "timeout"
        await site.abandoned()


@live
async def test_a_server_that_does_not_read_ends_in_time() -> None:
    """A body that nobody takes cannot hold a request longer than its time; who takes it gets all of it."""
    body = os.urandom(16 << 20)
    stuck, finish = asyncio.Event(), asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        stuck.set()
        await finish.wait()
        writer.transport.abort()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    async with serve(HELLO) as good:
        there = Site(server.sockets[0].getsockname()[1], HELLO)
        plugin = broker(there, good)
        asked = ask(plugin, there, method="PUT", body=body, timeout_ms=500)
        assert (await refusal(asked))[0] == "timeout"
        assert stuck.is_set()
        assert (await ask(plugin, good, method="PUT", body=body))["status"] == 200
        assert good.requests[0][1] == body
    finish.set()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("scheme", ["http", "https"])
@live
async def test_an_answer_before_the_body_is_read(tmp_path: Path, scheme: str) -> None:
    """A server that refuses a body without reading it, and hangs up, is heard."""
    server, client = authority(tmp_path, "127.0.0.1")

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(0.2)
        writer.transport.abort()

    async with serve(refuse, tls=server if scheme == "https" else None) as site:
        site.rash = True
        plugin = broker(site, tls=client)
        asked = {"url": f"{scheme}://127.0.0.1:{site.port}/", "method": "PUT", "body": bytes(32 << 20)}
        got = await plugin.request(asked, asyncio.get_running_loop().time() + 60)
        assert got["status"] == 413
        assert plugin.bytes_out < 32 << 20
        await site.abandoned()


@live
async def test_silence_is_called_so() -> None:
    """A server that hangs up without a word is a failure of its own."""
    async with serve(then_close(b"")) as site:
        reason, message = await refusal(ask(broker(site), site))
    assert (reason, "before it answered" in message) == ("failed", True)


@live
async def test_a_reset_fails() -> None:
    """A connection that is reset in the middle of a body is a failure, with what the kernel said."""

    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 10\r\n\r\nhello")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    async with serve(reset) as site:
        reason, message = await refusal(ask(broker(site), site))
    assert (reason, "reset" in message) == ("failed", True)


@live
async def test_tls_that_never_begins_ends_in_time(tmp_path: Path) -> None:
    """A server that accepts and then says nothing, or hangs up, does not hold a request in its handshake."""
    server, client = authority(tmp_path, "127.0.0.1")
    reached = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()

    async with serve(silent) as site, serve(b"") as short, serve(HELLO, tls=server) as good:
        site.rash = short.rash = True
        short.answer = then_close(b"")
        grants = NetworkGrant(hosts=("127.0.0.1",), ports=(site.port, short.port, good.port), private=True)
        plugin, now = HttpBroker((grants,), tls=client), asyncio.get_running_loop().time
        url = f"https://127.0.0.1:{site.port}/"
        asked = plugin.request({"url": url, "timeout_ms": 300}, now() + 60)
        assert (await refusal(asked))[0] == "timeout"
        assert reached.is_set()
        await site.abandoned()
        asked = plugin.request({"url": f"https://127.0.0.1:{short.port}/"}, now() + 60)
        assert (await refusal(asked))[0] in {"failed", "unavailable"}
        await short.abandoned()
        got = await plugin.request({"url": f"https://127.0.0.1:{good.port}/"}, now() + 60)
        assert got["body"] == b"hello"
