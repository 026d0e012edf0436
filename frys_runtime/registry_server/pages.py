"""Pages for people: a search, and a plugin. HTML without scripts; every word of a plugin is escaped."""

import sqlite3
from collections.abc import Iterable, Mapping
from html import escape as escape_html
from http import HTTPStatus
from importlib.resources import files
from typing import Final
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import catalog, search
from .api import SearchQuery, query_of
from .http import FRESH, NEVER, Refusal, Registry, answer
from .trust import index
from .types import Facets, Index, PluginDetail, SearchResult, Summary, VersionDetail

_HTML: Final = "text/html; charset=utf-8"
_FACET_NAMES: Final = {
    "capability": "Good for",
    "permission": "Asks for",
    "license": "Licence",
    "format": "Format",
}
_SORT_NAMES: Final = {
    "relevance": "best match",
    "downloads": "most downloads",
    "updated": "newest release",
    "name": "name",
}
_PERMISSIONS: Final = {
    "Read": "read files that the policy names",
    "Write": "write files that the policy names",
    "Network": "reach the network, as far as the policy lets it",
    "Execute": "run its own functions",
    "Admin": "act on other plugins",
}
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath fill='%23176b87' d='M2 5l6-3 6 3v6l-6 3-6-3z'/%3E%3C/svg%3E"
)

# Characters that turn the direction of writing around, with which a name can pass for another one.
_TURNING: Final = dict.fromkeys(
    [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)


def escape(text: str) -> str:
    """A stranger's text, as a part of a page."""
    return escape_html(text.translate(_TURNING))


def routes() -> list[Route]:
    """The routes of the pages."""
    return [
        Route("/", _home),
        Route("/plugins/{id}", _plugin),
        Route("/plugins/{id}/{version}", _plugin),
        Route("/style.css", _style),
    ]


async def _style(request: Request) -> Response:
    css = files(__package__).joinpath("style.css").read_bytes()
    return answer(request, css, "text/css; charset=utf-8", cache="public, max-age=3600")


async def _home(request: Request) -> Response:
    registry = _registry(request)
    asked = _asked(request)
    try:
        found = await registry.read(lambda db: search.search(db, query_of(asked)))
    except ValueError as error:
        raise Refusal(400, str(error)) from None
    what = f"{asked.q} · {registry.settings.title}" if asked.q else registry.settings.title
    body = _search_page(asked, found)
    return _page(request, what, body, registry.settings.title, asked.q)


def _asked(request: Request) -> SearchQuery:
    """What was asked for; a form sends its empty fields too, and an address may have anything in it."""
    given: dict[str, object] = {}
    for name, value in request.query_params.multi_items():
        if not value:
            continue
        if name in search.FACETS:
            given.setdefault(name, [])
            given[name] += [value]  # type: ignore[operator]
        elif name in SearchQuery.__struct_fields__:
            given[name] = value
    try:
        return msgspec.convert(given, SearchQuery, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"a part of the address is wrong: {error}") from None


def _link(asked: SearchQuery, **changed: object) -> str:
    """The address of the same search with something else."""
    parts: list[tuple[str, str]] = []
    for name, value in {**msgspec.structs.asdict(asked), "cursor": "", **changed}.items():
        values = value if isinstance(value, tuple) else (value,)
        default = {"sort": "relevance", "limit": 20}.get(name, "")
        parts += [(name, str(one)) for one in values if one != default]
    return escape(f"/?{urlencode(parts)}" if parts else "/")


def _search_page(asked: SearchQuery, found: SearchResult) -> str:
    number = f"{found.total:,} plugin{'' if found.total == 1 else 's'}"
    heading = f"{number} for “{escape(asked.q)}”" if asked.q else number
    corrected = (
        '<p class="notice">No plugin has these words. '
        f"These are for <strong>{escape(found.corrected)}</strong>.</p>"
        if found.corrected
        else ""
    )
    empty = "" if found.plugins else '<p class="empty">Nothing fits. Try fewer or other words.</p>'
    more = (
        '<nav class="pages" aria-label="Pages">'
        f'<a rel="next" href="{_link(asked, cursor=found.cursor)}">Next page</a></nav>'
        if found.cursor
        else ""
    )
    return f"""<div class="columns">
<aside aria-label="Narrow the search">{_facets(asked, found.facets)}</aside>
<section aria-labelledby="found">
<div class="bar"><h1 id="found">{heading}</h1>{_sorts(asked)}</div>
{corrected}{empty}<ol class="plugins">{"".join(map(_summary, found.plugins))}</ol>{more}
</section></div>"""


def _sorts(asked: SearchQuery) -> str:
    links = "".join(
        f'<li><a href="{_link(asked, sort=sort)}"{_current(sort == asked.sort)}>{name}</a></li>'
        for sort, name in _SORT_NAMES.items()
    )
    return f'<nav class="sorts" aria-label="Order"><ul>{links}</ul></nav>'


def _current(is_so: bool) -> str:
    return ' aria-current="true"' if is_so else ""


def _facets(asked: SearchQuery, facets: Facets) -> str:
    about = "" if facets.exact else '<p class="small">Counted among the best hits.</p>'
    return "".join(_facet(asked, facets, kind) for kind in search.FACETS) + about


def _facet(asked: SearchQuery, facets: Facets, kind: str) -> str:
    chosen: tuple[str, ...] = getattr(asked, kind)
    counted = {one.value: one.count for one in getattr(facets, kind)}
    lines = []
    for value in dict.fromkeys([*chosen, *list(counted)[:8]]):
        if value in chosen:
            rest = tuple(one for one in chosen if one != value)
            lines.append(
                f'<li><a class="chosen" href="{_link(asked, **{kind: rest})}"><span class="hidden">Remove '
                f'</span>{escape(value)} <span aria-hidden="true">×</span></a></li>'
            )
        else:
            lines.append(
                f'<li><a href="{_link(asked, **{kind: (*chosen, value)})}">{escape(value)}</a> '
                f'<span class="count">{counted[value]}</span></li>'
            )
    if not lines:
        return ""
    return (
        f'<h2 id="by-{kind}">{_FACET_NAMES[kind]}</h2><ul aria-labelledby="by-{kind}">{"".join(lines)}</ul>'
    )


def _summary(plugin: Summary) -> str:
    old = '<span class="badge warn">deprecated</span>' if plugin.deprecated else ""
    return f"""<li><article>
<h2><a href="/plugins/{escape(plugin.id)}">{escape(plugin.name)}</a> \
<span class="version">{escape(plugin.latest)}</span>{old}</h2>
<p class="id">{escape(plugin.id)}</p>
<p>{escape(_short(plugin.description))}</p>
<p class="facts"><span class="badge">{escape(plugin.format)}</span>{_badges(plugin.permissions, "asks for ")}\
<span>{plugin.downloads:,} downloads</span><span>released {_day(plugin.updated)}</span></p>
</article></li>"""


def _badges(values: Iterable[str], before: str = "") -> str:
    return "".join(f'<span class="badge asks">{before}{escape(value)}</span>' for value in values)


def _short(text: str) -> str:
    return text if len(text) <= 240 else f"{text[:239]}…"


def _day(when: str) -> str:
    return f'<time datetime="{when}">{when[:10]}</time>'


async def _plugin(request: Request) -> Response:
    registry, path = _registry(request), request.path_params

    def find(db: sqlite3.Connection) -> tuple[PluginDetail, VersionDetail, Index]:
        about = catalog.plugin_detail(db, path["id"])
        row = catalog.find_version(db, about.id, path.get("version", "latest"))
        return about, catalog.version_detail(row), index(db, about.id)

    about, version, versions = await registry.read(find)
    body = _plugin_page(about, version, versions, registry.url(request))
    return _page(
        request, f"{about.name} {version.version} · {registry.settings.title}", body, registry.settings.title
    )


def _plugin_page(about: PluginDetail, version: VersionDetail, versions: Index, url: str) -> str:
    wanted = about.latest if version.yanked and not about.latest.yanked else version
    oci = f"{url.partition('://')[2]}/{about.oci}:{wanted.version.replace('+', '_')}"
    install = f"frys install {about.id}@{wanted.version}"
    return f"""<article class="plugin">
<h1>{escape(about.name)} <span class="version">{escape(version.version)}</span></h1>
<p class="id">{escape(about.id)}</p>
{_notices(about, version)}
<p class="lead">{escape(about.description)}</p>
<div class="columns wide">
<div>
<section aria-labelledby="install"><h2 id="install">Install</h2>
<pre class="line" tabindex="0" aria-label="Command to install"><code>{escape(install)}</code></pre>
<p class="small">As an OCI artifact: <code>oras pull {escape(oci)}</code></p></section>
<section aria-labelledby="permissions"><h2 id="permissions">What it asks for</h2>{_asks(version)}</section>
{_needs(version)}
<section aria-labelledby="readme"><h2 id="readme">README</h2>{_readme(version.readme)}</section>
</div>
<aside aria-label="Facts">{_facts(about, version)}{_versions(about, version, versions)}</aside>
</div></article>"""


def _notices(about: PluginDetail, version: VersionDetail) -> str:
    said = ""
    if version.yanked:
        why = f": {escape(version.yanked_reason)}" if version.yanked_reason else ""
        said += (
            f'<p class="notice bad"><strong>This version was yanked</strong>{why}. Choose another one.</p>'
        )
    if about.deprecated is not None:
        why = f": {escape(about.deprecated.message)}" if about.deprecated.message else ""
        other = escape(about.deprecated.replacement)
        instead = f' Use <a href="/plugins/{other}">{other}</a> instead.' if other else ""
        said += f'<p class="notice"><strong>Deprecated</strong>{why}.{instead}</p>'
    if not said and version.version != about.latest.version:
        latest = escape(about.latest.version)
        link = f'<a href="/plugins/{escape(about.id)}">{latest}</a>'
        said = f'<p class="notice">There is another version: {link}.</p>'
    return said


def _asks(version: VersionDetail) -> str:
    def line(name: str, more: str) -> str:
        return f"<dt>{escape(name)}{more}</dt><dd>{escape(_PERMISSIONS.get(name, ''))}</dd>"

    lines = [line(name, "") for name in version.permissions]
    lines += [line(name, " (can do without)") for name in version.optional_permissions]
    if not lines:
        return "<p>Nothing. It computes, and returns what it computed.</p>"
    grants = '<p class="small">Asking grants nothing; only your policy does.</p>'
    return f'<dl class="asks">{"".join(lines)}</dl>{grants}'


def _needs(version: VersionDetail) -> str:
    if not version.dependencies:
        return ""
    lines = "".join(
        f'<li><a href="/plugins/{escape(need.id)}">{escape(need.id)}</a> <code>{escape(need.range)}</code>'
        f"{' (optional)' if need.optional else ''}</li>"
        for need in version.dependencies
    )
    return f'<section aria-labelledby="needs"><h2 id="needs">Needs</h2><ul>{lines}</ul></section>'


def _readme(text: str) -> str:
    if not text:
        return "<p>It has none.</p>"
    return f'<pre class="readme" tabindex="0" aria-label="README">{escape(text)}</pre>'


def _facts(about: PluginDetail, version: VersionDetail) -> str:
    signed = (
        "".join(f'<code title="{one}">{one[:16]}…</code> ' for one in version.signers) or "yes"
        if version.signature or version.bundle
        else "no"
    )
    facts: Mapping[str, str] = {
        "Format": escape(version.format),
        "Licence": escape(about.license) or "not said",
        "Author": escape(about.author) or "not said",
        "Good for": escape(", ".join(about.capabilities)) or "not said",
        "Published by": escape(version.publisher),
        "Published": _day(version.published),
        "Owners": escape(", ".join(about.owners)),
        "Signed with": signed,
        "Size": f"{version.size:,} bytes; files: {len(version.files)}",
        "Downloads": f"{about.downloads:,}; {version.downloads:,} of this version",
        "SHA-256": f'<code class="hash">{version.sha256}</code>',
    }
    lines = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    return f'<h2>Facts</h2><dl class="facts-list">{lines}</dl>'


def _versions(about: PluginDetail, shown: VersionDetail, versions: Index) -> str:
    lines = "".join(
        f'<li><a href="/plugins/{escape(about.id)}/{escape(one.version)}"'
        f"{_current(one.version == shown.version)}>"
        f"{escape(one.version)}</a> {_day(one.published)}"
        f"{' <span class="badge warn">yanked</span>' if one.yanked else ''}</li>"
        for one in versions.versions[:50]
    )
    return f'<nav aria-labelledby="versions"><h2 id="versions">Versions</h2><ul>{lines}</ul></nav>'


def error(refusal: Refusal) -> Response:
    """A refusal as a page."""
    title = HTTPStatus(refusal.status).phrase
    said = escape(refusal.detail[:1].upper() + refusal.detail[1:])
    body = f'<h1>{escape(title)}</h1><p>{said}.</p><p><a href="/">All plugins</a></p>'
    page, headers = _frame(title, body, "Frys plugins", ""), {"cache-control": NEVER, **refusal.headers}
    return Response(page, refusal.status, headers, media_type=_HTML)


def _page(request: Request, title: str, body: str, registry: str, query: str = "") -> Response:
    return answer(request, _frame(title, body, registry, query), _HTML, cache=FRESH)


def _frame(title: str, body: str, registry: str, query: str) -> bytes:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="/style.css"><link rel="icon" href="{_ICON}"></head><body>
<a class="skip" href="#main">Skip to the content</a>
<header><p class="title"><a href="/">{escape(registry)}</a></p>
<form role="search" action="/"><label for="q">Search plugins</label>
<input id="q" name="q" type="search" value="{escape(query)}" maxlength="{search.MAX_QUERY}" \
autocomplete="off">
<button>Search</button></form></header>
<main id="main" tabindex="-1">{body}</main>
<footer><p>Everything here is by its publishers. Each plugin runs in a jail of its own; what it may do, your \
policy decides. <a href="/api/v1/stats">Numbers</a> · <a href="/api/v1/log">Log</a> · \
<a href="/openapi.json">API</a></p></footer>
</body></html>""".encode()


def _registry(request: Request) -> Registry:
    registry: Registry = request.app.state.registry
    return registry
