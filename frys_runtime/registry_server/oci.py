"""Plugins as OCI artifacts, to be pulled by any client of that protocol; nothing is pushed this way.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md. A plugin is a repository (its id in
lower case), a version a tag (with ``_`` for ``+``, as Helm writes it), the package the only layer, and the
signature envelope and the Sigstore bundle artifacts that refer to it.
"""

import hashlib
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..package import Package
from .http import FOREVER, FRESH, Refusal, Registry, answer, package as package_answer, refuse_withdrawn
from .trust import iso, put_document
from .types import BESIDE

ARTIFACT: Final = "application/vnd.frys.plugin.v1"
LAYER: Final = "application/vnd.frys.package.v1+zip"

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_EMPTY: Final = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
    "size": 2,
    "data": "e30=",
}
_VERSION: Final = {"Docker-Distribution-API-Version": "registry/2.0"}


def write_manifests(
    db: sqlite3.Connection, package: Package, beside: Mapping[str, bytes], now: float
) -> None:
    """Keep the manifests of a version; their bytes stay, because their hashes are what others name."""
    metadata = package.metadata
    layer = {
        "mediaType": LAYER,
        "digest": f"sha256:{package.digest}",
        "size": package.size,
        "annotations": {"org.opencontainers.image.title": package.file_name},
    }
    notes = {
        "org.opencontainers.image.created": iso(now),
        "org.opencontainers.image.title": metadata.name,
        "org.opencontainers.image.version": metadata.version,
        "org.opencontainers.image.description": metadata.description,
        "org.opencontainers.image.licenses": metadata.license,
    }
    data = _manifest(ARTIFACT, [layer], {key: text for key, text in notes.items() if text})
    digest = put_document(db, metadata.id, metadata.version, "manifest", data)
    subject = {"mediaType": _MANIFEST, "digest": f"sha256:{digest}", "size": len(data)}
    for kind, content in beside.items():
        about = BESIDE[kind]
        layer = {
            "mediaType": about.media_type,
            "digest": f"sha256:{put_document(db, metadata.id, metadata.version, kind, content)}",
            "size": len(content),
            "annotations": {"org.opencontainers.image.title": f"{package.file_name}{about.suffix}"},
        }
        created = {"org.opencontainers.image.created": iso(now)}
        signed = _manifest(about.media_type, [layer], created, subject=subject)
        put_document(db, metadata.id, metadata.version, f"{kind}-manifest", signed)


def _manifest(kind: str, layers: list[dict[str, Any]], notes: dict[str, str], **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "artifactType": kind,
        "config": _EMPTY,
        "layers": layers,
        "annotations": notes,
        **more,
    }
    return msgspec.json.encode(document)


def routes() -> list[Route]:
    """The routes below ``/v2/``."""
    methods = ["GET", "HEAD"]
    return [
        Route("/v2/", _base, methods=methods),
        Route("/v2/{name}/manifests/{reference}", _get_manifest, methods=methods),
        Route("/v2/{name}/blobs/{digest}", _get_blob, methods=methods),
        Route("/v2/{name}/tags/list", _list_tags, methods=methods),
        Route("/v2/{name}/referrers/{digest}", _list_referrers, methods=methods),
    ]


def error(refusal: Refusal) -> Response:
    """A refusal as section "Error Codes" of the specification has it."""
    code = {404: "NAME_UNKNOWN", 405: "UNSUPPORTED", 429: "TOOMANYREQUESTS"}.get(refusal.status, "DENIED")
    body = msgspec.json.encode({"errors": [{"code": code, "message": refusal.detail}]})
    return Response(body, refusal.status, {**_VERSION, **refusal.headers}, media_type="application/json")


async def _base(request: Request) -> Response:
    return answer(request, b"{}", "application/json", headers=_VERSION)


def _plugin(db: sqlite3.Connection, name: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute("SELECT * FROM plugins WHERE lower = ?", (name,)).fetchone()
    if row is None:
        raise Refusal(404, f"there is no plugin {name!r} here")
    return row


async def _get_manifest(request: Request) -> Response:
    reference = request.path_params["reference"]

    def find(db: sqlite3.Connection) -> bytes:
        plugin = _plugin(db, request.path_params["name"])
        if reference.startswith("sha256:"):
            where, value = "sha256 = ? AND kind GLOB '*manifest'", reference[7:]
        else:
            where = "version = ? AND kind = 'manifest'"
            value = plugin["latest"] if reference == "latest" else reference.replace("_", "+")
        row = db.execute(
            f"SELECT data FROM documents WHERE plugin = ? AND {where}",  # noqa: S608 - one of the two above
            (plugin["id"], value),
        ).fetchone()
        if row is None:
            raise Refusal(404, f"{plugin['id']} has no manifest {reference!r}")
        return bytes(row["data"])

    data = await _registry(request).read(find)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    cache = FOREVER if reference == digest else FRESH
    return answer(
        request, data, _MANIFEST, cache=cache, headers={**_VERSION, "Docker-Content-Digest": digest}
    )


async def _get_blob(request: Request) -> Response:
    digest = request.path_params["digest"]
    registry = _registry(request)

    def find(db: sqlite3.Connection) -> tuple[str, str] | bytes:
        plugin = _plugin(db, request.path_params["name"])["id"]
        if digest == _EMPTY["digest"]:
            return b"{}"
        bare = digest.removeprefix("sha256:")
        row = db.execute(
            "SELECT plugin, version, withdrawn FROM versions WHERE plugin = ? AND sha256 = ?", (plugin, bare)
        ).fetchone()
        if row is not None:
            refuse_withdrawn(row)
            return plugin, row["version"]
        row = db.execute(
            "SELECT data FROM documents WHERE plugin = ? AND sha256 = ? AND kind IN ('signature', 'bundle')",
            (plugin, bare),
        ).fetchone()
        if row is None:
            raise Refusal(404, f"{plugin} has no blob {digest!r}")
        return bytes(row["data"])

    found = await registry.read(find)
    headers = {**_VERSION, "Docker-Content-Digest": digest}
    if isinstance(found, bytes):
        return answer(request, found, "application/octet-stream", cache=FOREVER, headers=headers)
    return package_answer(request, registry, digest.removeprefix("sha256:"), *found, headers)


async def _list_tags(request: Request) -> Response:
    name = request.path_params["name"]

    def find(db: sqlite3.Connection) -> list[str]:
        plugin = _plugin(db, name)["id"]
        rows = db.execute("SELECT version FROM versions WHERE plugin = ? AND yanked IS NULL", (plugin,))
        return [row["version"] for row in rows]

    versions = await _registry(request).read(find)
    tags = sorted(version.replace("+", "_") for version in versions)
    last = request.query_params.get("last", "")
    most = request.query_params.get("n", "")
    tags = [tag for tag in tags if tag > last]
    headers = dict(_VERSION)
    if most.isdecimal() and int(most[:9]) < len(tags):
        tags = tags[: int(most[:9])]
        end = f"&last={tags[-1]}" if tags else ""
        headers["Link"] = f'</v2/{name}/tags/list?n={most[:9]}{end}>; rel="next"'
    body = msgspec.json.encode({"name": name, "tags": tags})
    return answer(request, body, "application/json", headers=headers)


async def _list_referrers(request: Request) -> Response:
    subject = request.path_params["digest"]
    wanted = request.query_params.get("artifactType")

    def find(db: sqlite3.Connection) -> list[sqlite3.Row]:
        plugin = _plugin(db, request.path_params["name"])["id"]
        return db.execute(
            "SELECT referrer.kind, referrer.sha256, length(referrer.data) AS size FROM documents AS referrer"
            " JOIN documents AS subject USING (plugin, version)"
            " WHERE plugin = ? AND subject.sha256 = ? AND subject.kind = 'manifest'"
            " AND referrer.kind IN ('signature-manifest', 'bundle-manifest')",
            (plugin, subject.removeprefix("sha256:")),
        ).fetchall()

    listed = []
    for row in await _registry(request).read(find):
        kind = BESIDE[row["kind"].removesuffix("-manifest")].media_type
        digest = f"sha256:{row['sha256']}"
        if wanted in (None, kind):
            one = {"mediaType": _MANIFEST, "digest": digest, "size": row["size"], "artifactType": kind}
            listed.append(one)
    body = msgspec.json.encode({"schemaVersion": 2, "mediaType": _INDEX, "manifests": listed})
    headers = dict(_VERSION)
    if "artifactType" in request.query_params:
        headers["OCI-Filters-Applied"] = "artifactType"
    return answer(request, body, _INDEX, headers=headers)


def _registry(request: Request) -> Registry:
    registry: Registry = request.app.state.registry
    return registry
