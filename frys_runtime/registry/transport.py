"""Bytes of strangers: GET and POST over HTTP, or files of a folder, bounded in size and time.

What is fetched here is not believed: TUF metadata or a digest decides that. So this only sees to it that
nobody can fill the memory or the disk, hold up a transfer for ever, or send the client somewhere else.
"""

import asyncio
import os
import ssl
import stat
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import httpx
import msgspec

from .cache import Hold

_CHUNK: Final = 1 << 18
_MAX_PROBLEM: Final = 64 << 10
_MAX_REDIRECTS: Final = 3


type Files = Mapping[str, tuple[str, bytes]]
"""The parts of a form: a file's name and its bytes, by the part's name."""


class TransferError(Exception):
    """Something could not be fetched; the text says why, as the end of a sentence."""


class Unreachable(TransferError):
    """Nobody answers."""


class Answered(TransferError):
    """The server refused.

    Attributes:
        status: The HTTP status.
        detail: Its words, if it had some (untrusted text).
        challenge: How to prove who asks, if that is what it wants.
    """

    def __init__(self, status: int, detail: str = "", challenge: str = "") -> None:
        self.status, self.detail, self.challenge = status, detail, challenge
        super().__init__(f"it answered {status}{f': {detail}' if detail else ''}")


class TooLong(TransferError):
    """More bytes came, or were announced, than there can be."""


class TooSlow(TransferError):
    """The bytes came so slowly that the end was not worth waiting for."""


class Odd(TransferError):
    """What came is no answer to the question."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a transfer may take.

    Attributes:
        connect: Seconds for a connection.
        silence: Seconds without a byte.
        grace: Seconds for a transfer, however small,
        slowest: and a second more for each so many bytes that came.
    """

    connect: float = 10
    silence: float = 20
    grace: float = 30
    slowest: int = 16 << 10


class Start(NamedTuple):
    """What is there already of a file that is fetched, and the ETag of the file of which it is a part."""

    size: int
    etag: str


class Head(NamedTuple):
    """What an answer says before its bytes.

    Attributes:
        start: The place of its first byte in the file.
        etag: The ETag; empty when there is none.
    """

    start: int
    etag: str


_FROM_THE_START: Final = Start(0, "")


class Session:
    """Fetches for one operation, in one thread that has no event loop; close it, or use it as a context.

    Only :meth:`cancel` may be called from another thread.

    Attributes:
        hold: What the operation uses of caches.
    """

    def __init__(self, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self.hold = Hold()
        self._runner = asyncio.Runner()
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._guard = threading.Lock()
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, and let go of what is used of caches."""
        try:
            self._runner.run(self._close())
            self._runner.close()
        finally:
            self.hold.release()

    async def _close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    def cancel(self) -> None:
        """End what is under way, and begin nothing any more; from any thread."""
        with self._guard:
            self._cancelled = True
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def _run[T](self, work: Coroutine[Any, Any, T]) -> T:
        async def watched() -> T:
            with self._guard:
                self._task = asyncio.current_task()
                if self._cancelled:
                    work.close()
                    raise Unreachable("the operation was cancelled")
            try:
                return await work
            finally:
                with self._guard:
                    self._task = None

        try:
            return self._runner.run(watched())
        except asyncio.CancelledError:
            raise Unreachable("the operation was cancelled") from None

    def get(self, url: str, most: int, headers: Mapping[str, str] | None = None) -> bytes:
        """Fetch something small.

        Args:
            url: ``http://``, ``https://`` or ``file://``.
            most: Bytes of it, at most.
            headers: More headers of the request.

        Raises:
            TransferError: Why not.
        """
        parts: list[bytes] = []
        self.fetch(url, most, parts.append, headers=headers)
        return b"".join(parts)

    def fetch(
        self,
        url: str,
        most: int,
        write: Callable[[bytes], object],
        *,
        start: Start = _FROM_THE_START,
        begin: Callable[[Head], object] = lambda _: None,
        headers: Mapping[str, str] | None = None,
        elsewhere: bool = False,
    ) -> None:
        """Fetch something in pieces.

        Args:
            url: ``http://``, ``https://`` or ``file://``.
            most: Bytes of all of it, at most.
            write: Takes each piece.
            start: What is there already; the server decides whether it goes on from there.
            begin: Is told from where on pieces come.
            headers: More headers of the request.
            elsewhere: Whether the server may send us to another host; by default only to the same one.

        Raises:
            TransferError: Why not.
        """
        if url.startswith("file:"):
            _read_file(url, most, write, begin)
            return
        asked = dict(headers or {})
        if start.size:
            asked |= {"range": f"bytes={start.size}-", "if-range": start.etag}
        self._run(self._fetch(url, most, write, begin, asked, start, elsewhere=elsewhere))

    def call(
        self,
        url: str,
        most: int,
        *,
        method: str = "GET",
        files: Files | None = None,
        body: bytes | None = None,
        token: str = "",
    ) -> bytes:
        """Ask a registry's API; what comes is in memory, and what is sent, a form or JSON, too.

        Raises:
            TransferError: Why not.
        """
        return self._run(self._call(url, most, method, files, body, token))

    async def _call(
        self, url: str, most: int, method: str, files: Files | None, body: bytes | None, token: str
    ) -> bytes:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["content-type"] = "application/json"
        size = sum(len(data) for _, data in files.values()) if files else 0
        parts: list[bytes] = []
        async with _Deadline(self.patience, size) as deadline:
            client = self._client(url)
            async with client.stream(method, url, headers=headers, files=files, content=body) as answer:
                if not answer.is_success:
                    raise await _refusal(answer)
                await _take(answer, most, 0, parts.append, deadline)
        return b"".join(parts)

    async def _fetch(
        self,
        url: str,
        most: int,
        write: Callable[[bytes], object],
        begin: Callable[[Head], object],
        headers: dict[str, str],
        start: Start,
        *,
        elsewhere: bool,
    ) -> None:
        async with _Deadline(self.patience, 0) as deadline:
            for _ in range(_MAX_REDIRECTS + 1):
                async with self._client(url).stream("GET", url, headers=headers) as answer:
                    if answer.has_redirect_location:
                        url = _redirected(url, answer.headers["location"], elsewhere=elsewhere)
                        headers.pop("authorization", None)
                        continue
                    if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                        raise Answered(416)
                    if not answer.is_success:
                        raise await _refusal(answer)
                    at = _start_of(answer, start, asked="range" in headers)
                    begin(Head(at, answer.headers.get("etag", "")))
                    await _take(answer, most, at, write, deadline)
                    return
        raise Odd(f"it sent us on more than {_MAX_REDIRECTS} times")

    def _client(self, url: str) -> httpx.AsyncClient:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._clients:
            patience = self.patience
            self._clients[origin] = httpx.AsyncClient(
                verify=_tls() if parts.scheme == "https" else False,  # http has no TLS to make ready
                timeout=httpx.Timeout(patience.silence, connect=patience.connect),
                follow_redirects=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # none is kept or sent
                headers={"user-agent": "frys", "accept-encoding": "identity"},
            )
        return self._clients[origin]


def _tls() -> ssl.SSLContext:
    """The certificates that the system trusts; SSL_CERT_FILE names others, as OpenSSL has it."""
    return ssl.create_default_context()


class _Deadline:
    """The end of a transfer, which moves on with the bytes that come; errors of HTTP in our words."""

    def __init__(self, patience: Patience, sent: int) -> None:
        self._patience, self._got = patience, sent

    async def __aenter__(self) -> Self:
        self._began = asyncio.get_running_loop().time()
        self._timeout = asyncio.timeout_at(self._end())
        await self._timeout.__aenter__()
        return self

    def _end(self) -> float:
        return self._began + self._patience.grace + self._got / self._patience.slowest

    def moved(self, count: int) -> None:
        """So many bytes more have come."""
        self._got += count
        self._timeout.reschedule(self._end())

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            await self._timeout.__aexit__(type(error) if error else None, error, None)
        except TimeoutError:
            raise TooSlow(f"it sent {self._got} bytes and nothing fast enough to wait for") from None
        if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
            raise TooSlow(f"nothing came for {self._patience.silence:g} s") from None
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            raise Unreachable(f"nobody answers there ({_cause(error)})") from None
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL | httpx.StreamError):
            raise Odd(f"the transfer broke off ({_cause(error)})") from None


def _cause(error: BaseException) -> str:
    return str(error) or type(error).__name__


async def _take(
    answer: httpx.Response, most: int, at: int, write: Callable[[bytes], object], deadline: _Deadline
) -> None:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise Odd("it answered with compressed bytes, which nobody asked for")
    length = answer.headers.get("content-length", "")
    if length.isdecimal() and at + int(length[:20]) > most:
        raise TooLong(f"it announces {at + int(length[:20])} bytes, and there can be {most} at most")
    async for chunk in answer.aiter_raw():
        at += len(chunk)
        if at > most:
            raise TooLong(f"it sends more than the {most} bytes that there can be")
        write(chunk)
        deadline.moved(len(chunk))


def _start_of(answer: httpx.Response, start: Start, *, asked: bool) -> int:
    """From which byte on an answer goes (RFC 9110, section 14.4)."""
    if answer.status_code != httpx.codes.PARTIAL_CONTENT:
        return 0
    said = answer.headers.get("content-range", "")
    if not asked or not said.startswith(f"bytes {start.size}-"):
        raise Odd(f"it sent the part {said[:60]!r} of the file, and not the one that was asked for")
    return start.size


async def _refusal(answer: httpx.Response) -> Answered:
    """What a server says when it refuses, as RFC 9457 has it, in a line that cannot drive a terminal."""
    body = b""
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > _MAX_PROBLEM:
            break
    detail = ""
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        try:
            found = msgspec.json.decode(body)
            detail = str(found.get("detail", "")) if isinstance(found, dict) else ""
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            detail = ""
    detail = detail[:500] if detail.isprintable() else ascii(detail[:500])[1:-1]
    return Answered(answer.status_code, detail, answer.headers.get("www-authenticate", ""))


def _redirected(url: str, location: str, *, elsewhere: bool) -> str:
    """Where a redirect leads, if we go there: never from TLS to none, nor to hosts that nobody named."""
    here = httpx.URL(url)
    try:
        there = here.join(location[:4096])
    except httpx.InvalidURL:
        raise Odd("it sent us to an address that is none") from None
    same = (there.scheme, there.host, there.port) == (here.scheme, here.host, here.port)
    if not same and not (elsewhere and there.scheme == "https"):
        raise Odd(
            f"it sent us on to {there.scheme}://{there.host[:80]}, which nobody named as a registry; "
            "name that address itself, as a registry or a mirror, if it is one"
        )
    return str(there)


def _read_file(
    url: str, most: int, write: Callable[[bytes], object], begin: Callable[[Head], object]
) -> None:
    path = Path(unquote(urlsplit(url).path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise Answered(404, f"there is no file {path}") from None
    except OSError as error:
        raise Unreachable(f"{path} cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Odd(f"{path} is no file")
        if found.st_size > most:
            raise TooLong(f"{path} has {found.st_size} bytes, and there can be {most} at most")
        begin(Head(0, ""))
        at = 0
        while chunk := os.read(fd, _CHUNK):
            at += len(chunk)
            if at > most:
                raise TooLong(f"{path} has more than the {most} bytes that there can be")
            write(chunk)
    except OSError as error:
        raise Unreachable(f"{path} cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)
