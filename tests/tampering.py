"""A proxy between a client and a registry that changes, cuts off, slows down and invents answers, as told."""

import asyncio
import contextlib
import dataclasses
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

_KEPT = ("content-type", "content-range", "etag", "location", "www-authenticate", "docker-content-digest")


class Asked(NamedTuple):
    """What a client asked for: its headers have small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """An answer, and how it is sent.

    Attributes:
        status: The HTTP status.
        headers: Without those about its length.
        body: Its bytes.
        length: What it says about its length; ``None`` is the truth, ``-1`` is nothing (it ends with the
            connection).
        cut: After how many bytes of its body the connection ends; ``None`` is after all.
        pause: Seconds before each byte.
        endless: Whether its body comes again and again.
        raw: Instead of status and headers, these bytes.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    cut: int | None = None
    pause: float = 0
    endless: bool = False
    raw: bytes | None = None

    def head(self) -> bytes:
        """Its bytes before the body."""
        length = len(self.body) if self.length is None else self.length
        said = {**self.headers, **({"content-length": str(length)} if length >= 0 else {})}
        lines = [f"HTTP/1.1 {self.status} Told", *(f"{name}: {value}" for name, value in said.items())]
        if not self.is_whole:
            lines.append("connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @property
    def is_whole(self) -> bool:
        """Whether another answer can follow on the same connection."""
        return self.length is None and self.cut is None and not self.endless and self.raw is None


type Lie = Callable[[Reply, Asked], Reply]


def lie(**changes: Any) -> Lie:
    """An answer with some of its parts replaced; one with another body is there."""
    if "body" in changes:
        changes.setdefault("status", 200)
    return lambda reply, _asked: dataclasses.replace(reply, **changes)


def headers(**more: str) -> Lie:
    """An answer with more headers."""
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return lambda reply, _asked: dataclasses.replace(reply, headers={**reply.headers, **named})


def edited(change: Callable[[Any], object]) -> Lie:
    """An answer whose JSON is changed in place, or is what ``change`` returns."""

    def told(reply: Reply, _asked: Asked) -> Reply:
        document = json.loads(reply.body)
        result = change(document)
        return dataclasses.replace(reply, body=_json(document if result is None else result))

    return told


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def moved(location: str) -> Lie:
    """A redirect instead of an answer."""
    return lie(status=302, headers={"location": location}, body=b"")


class Proxy:
    """A proxy that is honest until it is told otherwise.

    Attributes:
        url: Where it listens.
        asked: The paths that it was asked for.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream, self.url = upstream, ""
        self.asked: list[str] = []
        self._lies: list[tuple[re.Pattern[str], Lie]] = []
        self._taped: dict[str, Reply] = {}

    def tell(self, pattern: str, what: Lie) -> None:
        """From now on, lie about each path that the pattern is found in; the last that was told counts."""
        self._lies.insert(0, (re.compile(pattern), what))

    def honest(self) -> None:
        """Stop lying."""
        self._lies.clear()

    def forget(self) -> None:
        """Forget what was asked and answered."""
        self.asked.clear()
        self._taped.clear()

    def replay(self, pattern: str = "", *, tape: dict[str, Reply]) -> None:
        """Answer with what was answered when it was on tape, where that is there."""
        self.tell(pattern, lambda reply, asked: tape.get(asked.path, reply))

    @property
    def tape(self) -> dict[str, Reply]:
        """The last honest answer for each path."""
        return dict(self._taped)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            async with httpx.AsyncClient(base_url=self.upstream, timeout=30) as client:
                while await self._exchange(client, reader, writer):
                    pass
        writer.close()

    async def _exchange(
        self, client: httpx.AsyncClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        asked = await _read(reader)
        self.asked.append(asked.path)
        passed = {name: value for name, value in asked.headers.items() if name not in ("host", "connection")}
        got = await client.request(asked.method, asked.path, headers=passed, content=asked.body)
        kept = {name: got.headers[name] for name in _KEPT if name in got.headers}
        reply = Reply(got.status_code, kept, got.content)
        if got.is_success:
            self._taped[asked.path] = reply
        for pattern, what in self._lies:
            if pattern.search(asked.path):
                reply = what(reply, asked)
                break
        await _send(reply, writer)
        return reply.is_whole


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    body = await reader.readexactly(int(named.pop("content-length", 0)))
    return Asked(method, path, named, body)


async def _send(reply: Reply, writer: asyncio.StreamWriter) -> None:
    writer.write(reply.head() if reply.raw is None else reply.raw)
    body = reply.body[: reply.cut]
    if reply.pause:
        for byte in body:
            await asyncio.sleep(reply.pause)
            writer.write(bytes([byte]))
            await writer.drain()
    else:
        writer.write(body)
    await writer.drain()
    while reply.endless:
        writer.write((body or b" ") * (1 + (1 << 16) // max(len(body), 1)))
        await writer.drain()


@contextlib.contextmanager
def tampering(upstream: str) -> Iterator[Proxy]:
    """A proxy that runs in a thread of its own until the end of the block."""
    proxy, ready, stop = Proxy(upstream), threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        server = await asyncio.start_server(proxy.answer, "127.0.0.1", 0)
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        loops.append(asyncio.get_running_loop())
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield proxy
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(30)
