"""The registry as one ASGI application: its routes, and what holds for all of them."""

import asyncio
import contextlib
import logging
import math
import sqlite3
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import api, catalog, files, oci, pages, search
from .guard import Limit
from .http import FRESH, NEVER, Refusal, Registry, answer, problem
from .operations import Gate, openapi, route, too_many
from .types import Health

_log = logging.getLogger("frys.registry")

_TICK: Final = 1
"""Seconds between two looks at what has to be done in the background."""
_POPULAR_EVERY: Final = 3600

_SAFE: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self' data:;"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


class _Meters:
    """What ``/metrics`` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "frys_registry_requests", "Requests", ("part", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "frys_registry_request_seconds",
            "Time until an answer was sent",
            ("part",),
            registry=self.registry,
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
        )
        self.open = Gauge(
            "frys_registry_requests_open", "Requests that are being answered", registry=self.registry
        )
        self.signed = Counter(
            "frys_registry_metadata_renewed",
            "Metadata files signed before they expired",
            registry=self.registry,
        )
        self.expires = Gauge(
            "frys_registry_metadata_expires_seconds", "When a role's metadata expires", ("role",),
            registry=self.registry,
        )  # fmt: skip


def build(registry: Registry) -> ASGIApp:
    """Make the application of a registry."""
    meters = _Meters()
    gate = Gate(registry)

    async def openapi_document(request: Request) -> Response:
        document = openapi(api.OPERATIONS, registry.settings.title)
        return answer(request, msgspec.json.encode(document), "application/json", cache=FRESH)

    async def health(request: Request) -> Response:
        return await _health(request, registry)

    async def metrics(_: Request) -> Response:
        await _measure_expiry(registry, meters)
        text = generate_latest(meters.registry)
        return Response(text, headers={"cache-control": NEVER}, media_type="text/plain; version=0.0.4")

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        work = asyncio.create_task(_work(registry, meters))
        try:
            yield
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            try:
                await _flush(registry)
            except Refusal as error:
                _log.error("the last downloads were not counted: %s", error)

    app = Starlette(
        routes=[
            *(route(operation, gate) for operation in api.OPERATIONS),
            *files.routes(),
            *oci.routes(),
            *pages.routes(),
            Route("/openapi.json", openapi_document),
            Route("/healthz", health),
            Route("/metrics", metrics),
        ],
        exception_handlers={
            Refusal: _refuse,
            HTTPException: _refuse,
            ClientDisconnect: _gone,
            Exception: _fail,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.registry = registry
    return _Outside(app, registry, meters)


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        detail = {
            404: "there is nothing at this address; /openapi.json lists what there is",
            405: "this address does not know that method; /openapi.json lists what there is",
        }.get(error.status_code, error.detail)
        error = Refusal(error.status_code, detail, error.headers)
    assert isinstance(error, Refusal)
    return _told(request.url.path, request.headers.get("accept", ""), error)


def _told(path: str, accept: str, error: Refusal) -> Response:
    """A refusal in the language of whoever asked."""
    if path.startswith("/v2/"):
        return oci.error(error)
    if "text/html" in accept and not path.startswith(("/api/", "/tuf/")):
        return pages.error(error)
    return problem(error.status, error.detail, error.headers)


async def _fail(_: Request, error: Exception) -> Response:
    return problem(500, f"an error of the registry itself ({type(error).__name__}); its log has more")


async def _gone(_: Request, __: Exception) -> Response:
    return problem(400, "the client went away before its request was complete")


async def _health(request: Request, registry: Registry) -> Response:
    """Whether the database answers and the work in the background succeeds."""
    try:
        warnings = await registry.read(catalog.warnings)
        failing = registry.failing
    except sqlite3.Error as error:
        warnings, failing = [], f"the database does not answer: {error}"
    body = Health(
        status="failing" if failing else "ok", warnings=tuple([failing, *warnings] if failing else warnings)
    )
    status = 503 if failing else 200
    return answer(request, msgspec.json.encode(body), "application/json", cache=NEVER, status=status)


async def _measure_expiry(registry: Registry, meters: _Meters) -> None:
    rows = await registry.read(
        lambda db: db.execute(
            "SELECT role, expires FROM tuf WHERE superseded IS NULL"
            " AND role IN ('root', 'targets', 'snapshot', 'timestamp')"
        ).fetchall()
    )
    for row in rows:
        meters.expires.labels(row["role"]).set(row["expires"])


# Work in the background.


async def _work(registry: Registry, meters: _Meters) -> None:
    """Count downloads, sign what would expire, and keep the most downloaded findable."""
    popular = -math.inf
    while True:
        try:
            await _flush(registry)
            meters.signed.inc(await registry.write(registry.trust.renew))
            if time.monotonic() - popular > _POPULAR_EVERY:
                await registry.write(search.refresh_popular)
                popular = time.monotonic()
            registry.failing = ""
        except Exception as error:  # noqa: BLE001 - told by /healthz and tried again, whatever it is
            failing = f"work in the background fails: {error}"
            if failing != registry.failing:
                _log.error("%s", failing)
            registry.failing = failing
        await asyncio.sleep(_TICK)


async def _flush(registry: Registry) -> None:
    """Take the counts of downloads to the database."""
    counted = dict(registry.downloads)
    if not counted:
        return
    day = datetime.now(UTC).date().isoformat()

    def write(db: sqlite3.Connection) -> None:
        for (plugin, version), count in counted.items():
            db.execute(
                "UPDATE versions SET downloads = downloads + ? WHERE plugin = ? AND version = ?",
                (count, plugin, version),
            )
            db.execute("UPDATE plugins SET downloads = downloads + ? WHERE id = ?", (count, plugin))
            db.execute(
                "INSERT INTO downloads VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (day, plugin, version, count),
            )

    await registry.write(write)
    registry.downloads.subtract(counted)
    for key in [key for key, count in registry.downloads.items() if not count]:
        del registry.downloads[key]


# What is around all routes.


class _Outside:
    """Limits, headers and meters for every request; an unforeseen error becomes an answer here."""

    def __init__(self, app: ASGIApp, registry: Registry, meters: _Meters) -> None:
        self._app, self._meters = app, meters
        settings = registry.settings
        self._reads = Limit(settings.reads_per_second, settings.reads_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, complete = time.monotonic(), 0, False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE.items():
                    headers.setdefault(name, value)
            elif not message.get("more_body", False):
                complete = True
            await send(message)

        self._meters.open.inc()
        try:
            await self._serve(scope, receive, send_with_headers)
        except Exception as error:
            _log.exception("an error of the registry itself at %r", scope["path"])
            if status and not complete:
                raise  # the connection ends in the middle, so that nobody takes a half for the whole
            if not status:
                failed = problem(
                    500, f"an error of the registry itself ({type(error).__name__}); its log has more"
                )
                await failed(scope, receive, send_with_headers)
        finally:
            self._meters.open.dec()
            part = _part(scope["path"])
            self._meters.requests.labels(part, _method(scope), str(status)).inc()
            self._meters.seconds.labels(part).observe(time.monotonic() - began)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = scope["client"][0] if scope.get("client") else ""
        if wait := self._reads.take(address):
            accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
            refusal = too_many(wait, "too many requests come from this address")
            await _told(scope["path"], accept, refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _part(path: str) -> str:
    """The part of the registry that a path belongs to: a label must not have as many values as paths."""
    for prefix, name in (("/api/", "api"), ("/tuf/", "tuf"), ("/v2/", "oci"), ("/plugins/", "pages")):
        if path.startswith(prefix):
            return name
    return "pages" if path == "/" else "other"


def _method(scope: Scope) -> str:
    known: tuple[Any, ...] = ("GET", "HEAD", "POST", "PUT", "DELETE")
    return scope["method"] if scope["method"] in known else "other"
