"""The JSON API, version 1."""

import sqlite3
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from ..errors import ConfigError
from . import catalog, changes, log, search, tokens, trust
from .http import FRESH, Call, Refusal, answer, in_thread, package, refuse_withdrawn
from .operations import Operation
from .publishing import examine, publish as publish_version, store
from .types import (
    About,
    CreatedToken,
    Deprecate,
    Done,
    Index,
    NewToken,
    Owners,
    PluginDetail,
    Published,
    SearchResult,
    Stats,
    Tokens,
    VersionDetail,
    Who,
    Yank,
)
from .uploads import receive

_MAX_LINES: Final = 1000

type _Value = Annotated[str, Meta(max_length=128)]
type _Values = Annotated[tuple[_Value, ...], Meta(max_length=10)]


class SearchQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of a search; a facet that is there several times must hold each time."""

    q: Annotated[str, Meta(max_length=search.MAX_QUERY)] = ""
    capability: _Values = ()
    permission: _Values = ()
    license: _Values = ()
    format: _Values = ()
    sort: Literal["relevance", "downloads", "updated", "name"] = "relevance"
    limit: Annotated[int, Meta(ge=1, le=search.MAX_LIMIT)] = 20
    cursor: Annotated[str, Meta(max_length=64)] = ""


class LogQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines of the log."""

    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=_MAX_LINES)] = _MAX_LINES


def query_of(asked: SearchQuery) -> search.Query:
    """A search out of its parameters."""
    filters = {kind: getattr(asked, kind) for kind in search.FACETS if getattr(asked, kind)}
    return search.Query(asked.q, filters, asked.sort, asked.limit, asked.cursor)


async def about(call: Call) -> About:
    """Tell what this registry is and where its parts are."""
    url, settings = call.registry.url(call.request), call.registry.settings
    return About(
        title=settings.title,
        api=f"{url}/api/v1",
        tuf_metadata=f"{url}/tuf/metadata/",
        tuf_targets=f"{url}/tuf/targets/",
        oci=f"{url}/v2/",
        max_package=settings.max_package,
        require_signature=settings.require_signature,
    )


async def search_plugins(call: Call) -> SearchResult:
    """Search the plugins, or list them all."""
    try:
        return await call.registry.read(lambda db: search.search(db, query_of(call.query)))
    except ValueError as error:
        raise Refusal(400, str(error)) from None


async def get_plugin(call: Call) -> PluginDetail:
    """Tell everything about a plugin."""
    return await call.registry.read(lambda db: catalog.plugin_detail(db, call.path["id"]))


async def list_versions(call: Call) -> Index:
    """List a plugin's versions, the newest first."""

    def find(db: sqlite3.Connection) -> Index:
        return trust.index(db, catalog.find_plugin(db, call.path["id"])["id"])

    return await call.registry.read(find)


async def get_version(call: Call) -> VersionDetail:
    """Tell everything about a version; "latest" is one, too."""
    return await call.registry.read(
        lambda db: catalog.version_detail(catalog.find_version(db, call.path["id"], call.path["version"]))
    )


async def download(call: Call) -> Response:
    """Download a package; ranges are understood."""
    row = await call.registry.read(lambda db: catalog.find_version(db, call.path["id"], call.path["version"]))
    refuse_withdrawn(row)
    return package(call.request, call.registry, row["sha256"], row["plugin"], row["version"])


async def get_signature(call: Call) -> Response:
    """Download the signature envelope of a package."""
    row = await call.registry.read(lambda db: catalog.find_version(db, call.path["id"], call.path["version"]))
    return _beside(call, row, "signature")


async def get_bundle(call: Call) -> Response:
    """Download the Sigstore bundle of a package."""
    row = await call.registry.read(lambda db: catalog.find_version(db, call.path["id"], call.path["version"]))
    return _beside(call, row, "bundle")


def _beside(call: Call, row: sqlite3.Row, kind: str) -> Response:
    if row[kind] is None:
        raise Refusal(404, f"{row['plugin']} {row['version']} was published without a {kind}")
    return answer(call.request, row[kind], "application/json", cache=FRESH)


async def publish(call: Call) -> Published:
    """Publish a version; what it is called stands in its package."""
    registry, settings, caller = call.registry, call.registry.settings, call.caller
    if not caller.is_admin and not any(scope.startswith("publish:") for scope in caller.scopes):
        raise Refusal(403, f"this token may not publish; it is good for {', '.join(caller.scopes)}")
    upload = await receive(call.request, registry.folder / "incoming", settings)
    try:
        candidate = await in_thread(lambda: examine(upload, settings))

        def work(db: sqlite3.Connection) -> Published:
            published = publish_version(db, registry.trust, settings, caller, candidate)
            store(
                upload, registry.blob(candidate.package.digest)
            )  # last: nothing is left of what was refused
            return published

        return await registry.write(work)
    finally:
        upload.discard()


async def yank(call: Call) -> Done:
    """Say that a version is not to be chosen any more."""
    return await _change(call, changes.yank, call.wish.reason)


async def unyank(call: Call) -> Done:
    """Take a yank back."""
    return await _change(call, changes.yank, None)


async def withdraw(call: Call) -> Done:
    """Take a version away from everybody."""
    return await _change(call, changes.withdraw, call.wish.reason)


async def restore(call: Call) -> Done:
    """Give a withdrawn version back; it stays yanked."""
    return await _change(call, changes.withdraw, None)


async def _change(call: Call, change: Callable[..., bool], reason: str | None) -> Done:
    path, trusted = call.path, call.registry.trust
    return Done(
        changed=await call.registry.write(
            lambda db: change(db, trusted, call.caller, path["id"], path["version"], reason)
        )
    )


async def deprecate(call: Call) -> Done:
    """Put a notice on a plugin that it is not kept up any more."""
    return await _deprecate(call, call.wish)


async def undeprecate(call: Call) -> Done:
    """Take the notice away."""
    return await _deprecate(call, None)


async def _deprecate(call: Call, notice: Deprecate | None) -> Done:
    trusted = call.registry.trust
    return Done(
        changed=await call.registry.write(
            lambda db: changes.deprecate(db, trusted, call.caller, call.path["id"], notice)
        )
    )


async def list_owners(call: Call) -> Owners:
    """List who may publish versions of a plugin."""
    detail = await call.registry.read(lambda db: catalog.plugin_detail(db, call.path["id"]))
    return Owners(owners=detail.owners)


async def add_owner(call: Call) -> Done:
    """Let another publisher publish versions of a plugin."""
    path = call.path
    return Done(
        changed=await call.registry.write(
            lambda db: changes.add_owner(db, call.caller, path["id"], path["publisher"])
        )
    )


async def remove_owner(call: Call) -> Done:
    """Let a publisher not publish versions of a plugin any more."""
    path, trusted = call.path, call.registry.trust
    return Done(
        changed=await call.registry.write(
            lambda db: changes.remove_owner(db, trusted, call.caller, path["id"], path["publisher"])
        )
    )


async def whoami(call: Call) -> Who:
    """Tell whose token this is, and what it is good for."""
    return Who(publisher=call.caller.publisher, scopes=call.caller.scopes)


async def create_token(call: Call) -> CreatedToken:
    """Make a token; it is shown this once."""
    wish: NewToken = call.wish
    if not call.caller.is_admin:
        raise Refusal(403, "only a token with the scope admin makes tokens")
    try:
        return CreatedToken(
            token=await call.registry.write(
                lambda db: tokens.create(db, wish.publisher, wish.scopes, days=wish.days, label=wish.label)
            )
        )
    except ConfigError as error:
        raise Refusal(422, str(error)) from None


async def list_tokens(call: Call) -> Tokens:
    """List one's own tokens; an administrator's lists all."""
    whose = None if call.caller.is_admin else call.caller.number
    rows = await call.registry.read(lambda db: tokens.all_tokens(db, whose))
    return Tokens(tokens=tuple(map(catalog.token_of, rows)))


async def revoke_token(call: Call) -> Done:
    """Make a token good for nothing."""
    whose = None if call.caller.is_admin else call.caller.number
    if not await call.registry.write(lambda db: tokens.revoke(db, call.path["token"], whose)):
        raise Refusal(404, "there is no such token of this publisher; name the id, not the token itself")
    return Done(changed=True)


async def get_stats(call: Call) -> Stats:
    """Tell the numbers of the whole registry."""
    return await call.registry.read(catalog.stats)


async def get_log(call: Call) -> Response:
    """Read the log of all changes, one record a line, each chained to the one before."""
    lines = await call.registry.read(lambda db: log.read(db, call.query.after, call.query.limit))
    return answer(call.request, lines, "application/x-ndjson")


_VERSION: Final = "/plugins/{id}/versions/{version}"
_OWNER: Final = "/plugins/{id}/owners/{publisher}"

OPERATIONS: Final = (
    Operation("GET", "/", about, About),
    Operation("GET", "/search", search_plugins, SearchResult, query=SearchQuery),
    Operation("POST", "/plugins", publish, Published, scope="publish:ID", status=201, form=True),
    Operation("GET", "/plugins/{id}", get_plugin, PluginDetail),
    Operation("GET", "/plugins/{id}/versions", list_versions, Index),
    Operation("GET", _VERSION, get_version, VersionDetail),
    Operation("GET", f"{_VERSION}/download", download, "application/vnd.frys.package"),
    Operation("GET", f"{_VERSION}/signature", get_signature, "application/json"),
    Operation("GET", f"{_VERSION}/bundle", get_bundle, "application/json"),
    Operation("PUT", f"{_VERSION}/yank", yank, Done, wish=Yank, scope="yank:ID"),
    Operation("DELETE", f"{_VERSION}/yank", unyank, Done, scope="yank:ID"),
    Operation("PUT", f"{_VERSION}/withdrawal", withdraw, Done, wish=Yank, scope="admin"),
    Operation("DELETE", f"{_VERSION}/withdrawal", restore, Done, scope="admin"),
    Operation("PUT", "/plugins/{id}/deprecation", deprecate, Done, wish=Deprecate, scope="yank:ID"),
    Operation("DELETE", "/plugins/{id}/deprecation", undeprecate, Done, scope="yank:ID"),
    Operation("GET", "/plugins/{id}/owners", list_owners, Owners),
    Operation("PUT", _OWNER, add_owner, Done, scope="owners:ID"),
    Operation("DELETE", _OWNER, remove_owner, Done, scope="owners:ID"),
    Operation("GET", "/whoami", whoami, Who, scope="anything"),
    Operation("POST", "/tokens", create_token, CreatedToken, wish=NewToken, scope="admin", status=201),
    Operation("GET", "/tokens", list_tokens, Tokens, scope="anything"),
    Operation("DELETE", "/tokens/{token}", revoke_token, Done, scope="anything"),
    Operation("GET", "/stats", get_stats, Stats),
    Operation("GET", "/log", get_log, "application/x-ndjson", query=LogQuery),
)
