"""HTTP by the host's hand, asked for from inside a real jail."""

import asyncio
from pathlib import Path

import pytest
from support import live
from talk import NOTHING, talkers
from web import HELLO, serve

POLICY = (
    NOTHING
    + """
plugins:
  a:
    network: {{hosts: [127.0.0.1], ports: [{port}], plain: true, private: true, max_response: 4MiB}}
"""
)


@live
async def test_a_granted_host_is_reached(tmp_path: Path) -> None:
    """The plugin gets the answer, large ones too; what is not granted is refused, told and counted."""
    large = bytes(range(256)) * (4 << 12)
    async with serve(HELLO) as site, talkers(tmp_path, POLICY.format(port=site.port)) as talk:
        url = f"http://127.0.0.1:{site.port}/"
        answer = {
            "status": 200,
            "headers": {"content-length": "5", "content-type": "text/plain"},
            "body": b"hello",
        }
        assert await talk.ask("http", {"url": url}) == answer
        site.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(large) + large
        answer = await talk.ask("http", {"url": url})
        assert isinstance(answer, dict)
        assert answer["body"] == large
        before = talk.manager.communicator.stats().refused["a"]
        refusal = await talk.ask("http", {"url": url, "method": "DELETE"})
        assert isinstance(refusal, list)
        assert (refusal[0], "`methods`" in str(refusal[1])) == ("permission", True)
        assert talk.manager.communicator.stats().refused == {"a": before + 1}
        assert len(site.requests) == 2
        usage = talk.manager.resource_usage("a")
        assert usage.http_requests == 3
        assert usage.http_bytes_in > len(large)
        assert usage.http_bytes_out > 0


@live
async def test_a_call_that_ends_ends_its_request(tmp_path: Path) -> None:
    """When nobody waits for the call any more, the connection is closed, and the next call can ask again."""
    reached = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        reached.set()

    async with serve(silent) as site, talkers(tmp_path, POLICY.format(port=site.port)) as talk:
        request = {"url": f"http://127.0.0.1:{site.port}/"}
        call = asyncio.create_task(talk.ask("http", request))
        await reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await site.abandoned()
        site.answer = HELLO
        answer = await talk.ask("http", request)
        assert isinstance(answer, dict)
        assert answer["body"] == b"hello"
