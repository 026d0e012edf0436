"""TUF metadata and targets, by the names under which python-tuf and other clients ask for them."""

import re
import sqlite3
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .http import FOREVER, Refusal, Registry, answer, package, refuse_withdrawn
from .trust import document_path

_TIMESTAMP: Final = "timestamp.json"
_METADATA: Final = re.compile(r"(\d{1,9})\.([a-z0-9-]{1,64})\.json")
_TARGET: Final = re.compile(r"([0-9a-f]{64})\.(.{1,220})")
# The one file without a version in its name: proxies must not keep it.
_NOW: Final = "no-cache"


def routes() -> list[Route]:
    """The routes below ``/tuf/``."""
    return [
        Route("/tuf/metadata/{name}", _get_metadata, methods=["GET", "HEAD"]),
        Route("/tuf/targets/{bin}/{plugin}/{name}", _get_target, methods=["GET", "HEAD"]),
    ]


async def _get_metadata(request: Request) -> Response:
    name = request.path_params["name"]
    match = _METADATA.fullmatch(name)

    def find(db: sqlite3.Connection) -> sqlite3.Row | None:
        if match is None:
            found = db.execute("SELECT data FROM tuf WHERE role = 'timestamp' AND superseded IS NULL")
        else:
            values = (int(match[1]), match[2])
            found = db.execute("SELECT data FROM tuf WHERE version = ? AND role = ?", values)
        row: sqlite3.Row | None = found.fetchone()
        return row

    row = None if match is None and name != _TIMESTAMP else await _registry(request).read(find)
    if row is None:
        raise Refusal(404, f"there is no metadata {name!r}")
    cache = _NOW if match is None else FOREVER
    return answer(request, bytes(row["data"]), "application/json", cache=cache)


async def _get_target(request: Request) -> Response:
    plugin, name = request.path_params["plugin"], request.path_params["name"]
    registry = _registry(request)
    match = _TARGET.fullmatch(name)

    def find(db: sqlite3.Connection) -> bytes | str | None:
        if match is None:
            return None
        for row in db.execute(
            "SELECT version, kind, data FROM documents WHERE plugin = ? AND sha256 = ?"
            " AND kind IN ('index', 'signature', 'bundle')",
            (plugin, match[1]),
        ):
            if document_path(plugin, row["version"], row["kind"]).rpartition("/")[2] == match[2]:
                return bytes(row["data"])
        row = db.execute(
            "SELECT plugin, version, withdrawn FROM versions WHERE plugin = ?1 AND sha256 = ?2"
            " AND ?3 = plugin || '-' || version || '.frys'",
            (plugin, match[1], match[2]),
        ).fetchone()
        if row is None:
            return None
        refuse_withdrawn(row)
        return str(row["version"])

    found = await registry.read(find)
    if found is None or match is None:
        raise Refusal(404, f"there is no target {name!r} of the plugin {plugin!r}")
    if isinstance(found, bytes):
        return answer(request, found, "application/json", cache=FOREVER)
    return package(request, registry, match[1], plugin, found)


def _registry(request: Request) -> Registry:
    registry: Registry = request.app.state.registry
    return registry
