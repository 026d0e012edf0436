"""What handlers share: refusals, answers with ETags, packages with ranges, and the parts of the registry."""

import asyncio
import errno
import os
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from ..registry.paths import etag_of
from .database import Database
from .keys import Keyring
from .settings import Settings, blob_path
from .tokens import Caller
from .trust import Trust
from .types import Problem

FRESH: Final = "public, max-age=30"
"""Cache-Control of what changes when somebody publishes."""
FOREVER: Final = "public, max-age=31536000, immutable"
"""Cache-Control of what has its hash in its address."""
NEVER: Final = "no-store"


class Refusal(Exception):
    """A request that is not done, and the answer to it.

    Attributes:
        status: The HTTP status.
        detail: What happened, why, and what to do.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.status, self.detail, self.headers = status, detail, headers or {}
        super().__init__(detail)


class Registry:
    """The running registry, as handlers see it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.database = Database(folder)
        self.trust = Trust(Keyring(folder), settings)
        self.downloads: Counter[tuple[str, str]] = Counter()
        """Downloads that are not in the database yet, by plugin and version."""
        self.failing = ""
        """Why the work in the background fails; empty when it does not."""

    async def read[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read from the database."""
        return await self.database.read(work)

    async def write[T](self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Change the database.

        Raises:
            Refusal: The disk is full, or another process holds the database; nothing was changed.
        """
        try:
            return await self.database.write(work)
        except (sqlite3.Error, OSError) as error:
            if is_full(error):
                raise full() from None
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY:
                busy = "the registry is being changed by its administrator, and nothing was done; try again"
                raise Refusal(503, busy, {"retry-after": "30"}) from None
            raise

    def blob(self, digest: str) -> Path:
        """Where a package lies."""
        return blob_path(self.folder, digest)

    def url(self, request: Request) -> str:
        """How the registry is reached, without a slash at the end."""
        return (self.settings.url or str(request.base_url)).rstrip("/")


class Call:
    """One request to the API.

    Attributes:
        request: The request.
        registry: The registry.
        path: What stands in the path's braces.
        query: The parameters, as the operation's type has them.
        wish: The body, as the operation's type has it.
    """

    def __init__(
        self, request: Request, registry: Registry, query: Any, wish: Any, caller: Caller | None
    ) -> None:
        self.request, self.registry, self.query, self.wish = request, registry, query, wish
        self.path: Mapping[str, str] = request.path_params
        self._caller = caller

    @property
    def caller(self) -> Caller:
        """Whose token was sent; only for operations that ask for one."""
        assert self._caller is not None
        return self._caller


type Handler = Callable[[Call], Awaitable[msgspec.Struct | Response]]


def is_full(error: sqlite3.Error | OSError) -> bool:
    """Whether the disk has no room left."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return error.sqlite_errorcode in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_SHMSIZE,  # the index of the write-ahead log could not grow
    )


def full() -> Refusal:
    """The answer when the disk is full."""
    return Refusal(
        507, "the registry's disk is full, and nothing was changed; its administrator has to make room"
    )


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as RFC 9457 has it."""
    body = Problem(type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail)
    return Response(
        msgspec.json.encode(body),
        status,
        {"cache-control": NEVER, **(headers or {})},
        media_type="application/problem+json",
    )


def not_modified(request: Request, etag: str, cache: str) -> Response | None:
    """The answer to a client that has it already (RFC 9110, section 13.1.2)."""
    known = request.headers.get("if-none-match")
    if known is None or request.method not in ("GET", "HEAD"):
        return None
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    if tags & {etag, "*"}:
        return Response(status_code=304, headers={"etag": etag, "cache-control": cache})
    return None


def answer(
    request: Request,
    data: bytes,
    media_type: str,
    *,
    cache: str = FRESH,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Bytes as an answer, with an ETag."""
    etag = etag_of(data)
    if status == HTTPStatus.OK and (same := not_modified(request, etag, cache)):
        return same
    return Response(
        data, status, {"etag": etag, "cache-control": cache, **(headers or {})}, media_type=media_type
    )


def package(
    request: Request,
    registry: Registry,
    digest: str,
    plugin: str,
    version: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A package as an answer; ranges are understood, so that a broken download can go on."""
    etag = f'"{digest}"'
    if same := not_modified(request, etag, FOREVER):
        return same
    path = registry.blob(digest)
    try:
        found = os.stat(path)
    except OSError:
        raise Refusal(
            500, f"the package of {plugin} {version} is not on the registry's disk; restore it from a backup"
        ) from None
    begins = request.headers.get("range", "bytes=0-").replace(" ", "").startswith("bytes=0-")
    if request.method == "GET" and begins:
        registry.downloads[plugin, version] += 1
    return FileResponse(
        path,
        headers={"etag": etag, "cache-control": FOREVER, "x-checksum-sha256": digest, **(headers or {})},
        media_type="application/vnd.frys.package",
        stat_result=found,
        filename=f"{plugin}-{version}.frys",
    )


def refuse_withdrawn(row: sqlite3.Row) -> None:
    """Refuse to give out a version that was withdrawn.

    Raises:
        Refusal: It was.
    """
    if row["withdrawn"] is not None:
        why = f": {row['withdrawn']}" if row["withdrawn"] else ""
        raise Refusal(
            410,
            f"{row['plugin']} {row['version']} was withdrawn by the registry{why}; choose another version",
        )


async def in_thread[T](work: Callable[[], T]) -> T:
    """Do what blocks without holding up others.

    Raises:
        Refusal: The disk is full.
    """
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        if is_full(error):
            raise full() from None
        raise
