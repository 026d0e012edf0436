"""Searching the plugins: words, properties, typing errors, pages.

SQLite's FTS5 finds; what costs time is to rank tens of thousands of hits of a word that everybody uses. So of
a search with more than :data:`RANKED` hits only three sets are ranked: those among the plugins with the most
downloads, those with the words in their id or name, and those released last. docs/adr/0012 has the figures.
"""

import base64
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from math import log1p
from typing import Final, NamedTuple

import msgspec

from .trust import iso
from .types import Facets, FacetValue, SearchResult, Summary

RANKED: Final = 300
"""Hits that are ranked of each set; all of them when there are no more."""
POPULAR: Final = 2000
"""Plugins that count as those with the most downloads."""
MAX_QUERY: Final = 200
"""Characters of a query."""
MAX_LIMIT: Final = 100
"""Plugins on a page."""
README_INDEXED: Final = 8192
"""Characters of a README that can be searched for."""
FACETS: Final = ("capability", "permission", "license", "format")
"""The properties by which a search can be narrowed."""

_MAX_WORDS: Final = 8
_FACET_VALUES: Final = 20
# Of the columns of the table `words`: a word in an id says more than one in a README.
_WEIGHTS: Final = "12.0, 8.0, 4.0, 2.0, 4.0, 1.0, 0.0"
_TITLE_WEIGHTS: Final = "12.0, 8.0, 0.0"
_COLUMNS: Final = "id, name, description, author, capabilities, readme, facets"
_OF_HITS: Final = "place, id, downloads, updated, capabilities, permissions, license, format, deprecated"
_SPELLED: Final = re.compile(r"[^\W_]{4,24}")


class Query(NamedTuple):
    """What is searched for.

    Attributes:
        text: Words; the last one may be the beginning of one.
        filters: Values that a plugin must have, by the name of the facet.
        sort: ``relevance``, ``downloads``, ``updated`` or ``name``.
        limit: Plugins on a page.
        cursor: Where the page begins, out of the answer with the page before.
    """

    text: str = ""
    filters: Mapping[str, Sequence[str]] = {}
    sort: str = "relevance"
    limit: int = 20
    cursor: str = ""


# Filling.


def index_plugin(db: sqlite3.Connection, plugin: str, readme: str) -> None:
    """Make a plugin's newest release findable, at the last place."""
    row = db.execute("SELECT * FROM plugins WHERE id = ?", (plugin,)).fetchone()
    place = (db.execute("SELECT max(place) FROM plugins").fetchone()[0] or 0) + 1
    db.execute(
        "INSERT INTO titles (titles, rowid, id, name, facets)"
        " SELECT 'delete', rowid, id, name, facets FROM words WHERE rowid = ?",
        (row["place"],),
    )
    for table in ("words", "parts"):
        db.execute(f"DELETE FROM {table} WHERE rowid = ?", (row["place"],))  # noqa: S608 - two names
    db.execute("UPDATE plugins SET place = ? WHERE id = ?", (place, plugin))
    values = msgspec.json.decode(row["capabilities"], type=tuple[str, ...])
    db.execute(
        f"INSERT INTO words (rowid, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our columns
        (
            *(place, plugin, row["name"], row["description"], row["author"], _split(" ".join(values))),
            *(readme[:README_INDEXED], " ".join(_facet_words(row))),
        ),
    )
    db.execute(
        "INSERT INTO titles (rowid, id, name, facets) SELECT rowid, id, name, facets"
        " FROM words WHERE rowid = ?",
        (place,),
    )
    db.execute("INSERT INTO parts (rowid, id, name) VALUES (?, ?, ?)", (place, plugin, row["name"]))
    text = " ".join((plugin, row["name"], row["description"], _split(" ".join(values)))).casefold()
    pairs = {(damaged, word) for word in set(_SPELLED.findall(text)) for damaged in _damaged(word)}
    db.executemany("INSERT OR IGNORE INTO spelling VALUES (?, ?)", pairs)


def _split(text: str) -> str:
    """``DataProcessing`` as it is and as two words."""
    return f"{text} {re.sub(r'(?<=[a-z0-9])(?=[A-Z])', ' ', text)}"


def _facet_words(row: sqlite3.Row) -> Iterable[str]:
    for kind, values in _facets_of(row):
        yield from (_facet_word(kind, value) for value in values)


def _facets_of(row: sqlite3.Row) -> Iterable[tuple[str, tuple[str, ...]]]:
    yield "capability", _decoded(row["capabilities"])
    yield "permission", _decoded(row["permissions"])
    yield "license", (row["license"],) if row["license"] else ()
    yield "format", (row["format"],)


@lru_cache(4096)
def _decoded(values: str) -> tuple[str, ...]:
    return msgspec.json.decode(values, type=tuple[str, ...])


def _facet_word(kind: str, value: str) -> str:
    """A property as one word that the index takes as it is: digits, which have no stem."""
    return f"zq{int.from_bytes(sha256(f'{kind}:{value}'.encode()).digest()[:8])}"


def _damaged(word: str) -> set[str]:
    return {word, *(word[:at] + word[at + 1 :] for at in range(len(word)))}


def refresh_popular(db: sqlite3.Connection) -> None:
    """Make the table of the plugins with the most downloads anew."""
    db.execute("INSERT INTO popular (popular) VALUES ('delete-all')")
    db.execute(
        f"INSERT INTO popular (rowid, {_COLUMNS}) SELECT words.rowid, "  # noqa: S608 - our columns
        + ", ".join(f"words.{column.strip()}" for column in _COLUMNS.split(","))
        + " FROM (SELECT place FROM plugins ORDER BY downloads DESC, id LIMIT ?)"
        " JOIN words ON words.rowid = place",
        (POPULAR,),
    )


# Finding.


def search(db: sqlite3.Connection, query: Query) -> SearchResult:
    """A page of the plugins that fit.

    Raises:
        ValueError: The cursor is none.
    """
    found = _find(db, query)
    start = _decode_cursor(query.cursor)
    if found.order is None:
        rows, more = _browse(db, query, start)
    else:
        places = found.order[start : start + query.limit]
        rows = _rows(db, places)
        more = len(found.order) > start + query.limit
    return SearchResult(
        plugins=tuple(map(summary, rows)),
        total=found.total,
        corrected=found.corrected,
        facets=found.facets,
        cursor=_encode_cursor(start + query.limit) if more else "",
    )


def summary(row: sqlite3.Row) -> Summary:
    """A plugin in a list, out of its row of the database."""
    return Summary(
        **{
            name: row[name] for name in ("id", "name", "description", "author", "license", "format", "latest")
        },
        capabilities=_decoded(row["capabilities"]),
        permissions=_decoded(row["permissions"]),
        downloads=row["downloads"],
        deprecated=row["deprecated"] is not None,
        updated=iso(row["updated"]),
    )


class _Found(NamedTuple):
    """Places in their order, or ``None`` for all plugins; and what is said about them."""

    order: list[int] | None
    total: int
    corrected: str
    facets: Facets


def _find(db: sqlite3.Connection, query: Query) -> _Found:
    words = re.findall(r"[^\W_]+", query.text[:MAX_QUERY].casefold())[:_MAX_WORDS]
    narrowed = [_facet_word(kind, value) for kind, values in query.filters.items() for value in values]
    if not words and not narrowed:
        return _Found(None, _count_plugins(db), "", _facets_of_all(db))
    corrected = ""
    whole = _expression(words, narrowed)
    total = _count(db, whole)
    if total < query.limit and words:
        # The beginning of a word costs more to look up than a word: only for those that may be typing yet.
        whole = _expression(words, narrowed, prefix=True)
        total = _count(db, whole)
    if not total and words:
        corrected = " ".join(better := [_corrected(db, word) for word in words])
        whole = _expression(better, narrowed)
        if better == words or not (total := _count(db, whole)):
            return _find_parts(db, words, query)
    hits = _hits(db, whole, total, named=bool(words))
    facets = _count_facets((hit.row for hit in hits), exact=len(hits) == total)
    return _Found(_order(hits, query), total, corrected, facets)


def _expression(words: Sequence[str], narrowed: Sequence[str], *, prefix: bool = False) -> str:
    """An expression of https://www.sqlite.org/fts5.html#full_text_query_syntax; every word is quoted."""
    terms = [f'"{word}"' for word in words]
    if prefix and len(words[-1]) > 1:
        terms[-1] += " *"
    return " AND ".join([*terms, *(f'facets : "{word}"' for word in narrowed)])


def _count(db: sqlite3.Connection, expression: str) -> int:
    found = db.execute("SELECT count(*) FROM words WHERE words MATCH ?", (expression,))
    return int(found.fetchone()[0])


class _Hit(NamedTuple):
    """A plugin that was found, and how well its words fit: the smaller, the better."""

    row: sqlite3.Row
    score: float


def _hits(db: sqlite3.Connection, expression: str, total: int, *, named: bool) -> list[_Hit]:
    scores: dict[int, float] = {}
    if total <= RANKED:
        scores.update(_scored(db, "words", _WEIGHTS, expression))
    else:
        newest = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?"
        scores.update((row[0], 0.0) for row in db.execute(newest, (expression, RANKED)))
        scores.update(_scored(db, "popular", _WEIGHTS, expression, POPULAR))
        if named:
            for place, score in _scored(db, "titles", _TITLE_WEIGHTS, expression, 2 * RANKED):
                scores[place] = scores.get(place, 0.0) + score
    return [_Hit(row, scores[row["place"]]) for row in _rows(db, list(scores), _OF_HITS)]


def _scored(
    db: sqlite3.Connection, table: str, weights: str, expression: str, most: int = RANKED
) -> list[tuple[int, float]]:
    """The best of the newest hits of a table, with their scores."""
    found = db.execute(
        f"SELECT * FROM (SELECT rowid, bm25({table}, {weights}) AS score FROM {table} WHERE {table} MATCH ?"  # noqa: S608
        " ORDER BY rowid DESC LIMIT ?) ORDER BY score LIMIT ?",
        (expression, most, RANKED),
    )
    return [(row[0], row[1]) for row in found]


def _order(hits: Iterable[_Hit], query: Query) -> list[int]:
    named = "".join(re.findall(r"[^\W_]+", query.text.casefold()))

    def relevance(hit: _Hit) -> tuple[float, str]:
        # bm25() is the smaller the better. Downloads break ties of words; an id that was typed comes first.
        row = hit.row
        score = hit.score - 0.3 * log1p(row["downloads"]) + (5 if row["deprecated"] else 0)
        typed = "".join(re.findall(r"[^\W_]+", row["id"].casefold())) == named
        return (score - (1000 if typed and named else 0), row["id"])

    keys = {
        "relevance": relevance,
        "downloads": lambda hit: (-hit.row["downloads"], hit.row["id"]),
        "updated": lambda hit: (-hit.row["updated"], hit.row["id"]),
        "name": lambda hit: (0.0, hit.row["id"]),
    }
    return [hit.row["place"] for hit in sorted(hits, key=keys[query.sort])]


def _find_parts(db: sqlite3.Connection, words: Sequence[str], query: Query) -> _Found:
    """Plugins with the words inside of words of their id or name."""
    if min(map(len, words)) < 3:  # a trigram has three letters
        return _Found([], 0, "", _count_facets([], exact=True))
    found = db.execute(
        "SELECT rowid FROM parts WHERE parts MATCH ? ORDER BY rowid DESC LIMIT ?",
        (" AND ".join(f'"{word}"' for word in words), RANKED),
    ).fetchall()
    wanted = {(kind, value) for kind, values in query.filters.items() for value in values}
    hits = [
        _Hit(row, 0.0)
        for row in _rows(db, [one[0] for one in found], _OF_HITS)
        if wanted <= {(kind, value) for kind, of in _facets_of(row) for value in of}
    ]
    facets = _count_facets((hit.row for hit in hits), exact=len(found) < RANKED)
    return _Found(_order(hits, query), len(hits), "", facets)


def _corrected(db: sqlite3.Connection, word: str) -> str:
    """The word that was probably meant: one letter away from it, two at most."""
    if not _SPELLED.fullmatch(word) or _count(db, _expression([word], [], prefix=True)):
        return word
    marks = ", ".join("?" * len(damaged := sorted(_damaged(word))))
    rows = db.execute(f"SELECT DISTINCT word FROM spelling WHERE damaged IN ({marks}) LIMIT 50", damaged)  # noqa: S608
    return min((row["word"] for row in rows), key=lambda other: (_distance(word, other), other), default=word)


def _distance(one: str, other: str) -> int:
    """Letters that are wrong, missing, too many, or swapped (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        now = [i]
        for j, against in enumerate(other, 1):
            best = min(last[j] + 1, now[j - 1] + 1, last[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                best = min(best, before[j - 2] + 1)
            now.append(best)
        before, last = last, now
    return last[-1]


# Everything, without words.

_BROWSED: Final = {
    "relevance": "downloads DESC, id",
    "downloads": "downloads DESC, id",
    "updated": "updated DESC, id",
    "name": "id",
}


def _browse(db: sqlite3.Connection, query: Query, start: int) -> tuple[list[sqlite3.Row], bool]:
    rows = db.execute(
        f"SELECT * FROM plugins ORDER BY {_BROWSED[query.sort]} LIMIT ? OFFSET ?",  # noqa: S608 - from our table
        (query.limit + 1, start),
    ).fetchall()
    return rows[: query.limit], len(rows) > query.limit


def _rows(db: sqlite3.Connection, places: Sequence[int], columns: str = "*") -> list[sqlite3.Row]:
    marks = ", ".join("?" * len(places))
    rows = db.execute(f"SELECT {columns} FROM plugins WHERE place IN ({marks})", list(places))  # noqa: S608 - ours
    at = {row["place"]: row for row in rows}
    return [at[place] for place in places if place in at]  # those that are popular may have moved


def _count_plugins(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM plugins").fetchone()[0])


def _facets_of_all(db: sqlite3.Connection) -> Facets:
    """The facets of those with the most downloads stand for all; counting 100,000 takes a second."""
    rows = db.execute("SELECT * FROM plugins ORDER BY downloads DESC, id LIMIT ?", (RANKED,)).fetchall()
    return _count_facets(rows, exact=len(rows) < RANKED)


def _count_facets(rows: Iterable[sqlite3.Row], *, exact: bool) -> Facets:
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in FACETS}
    alike = Counter((row["capabilities"], row["permissions"], row["license"], row["format"]) for row in rows)
    for (capabilities, permissions, spdx, kind), number in alike.items():
        for values, of in (
            (_decoded(capabilities), "capability"),
            (_decoded(permissions), "permission"),
            ((spdx,) if spdx else (), "license"),
            ((kind,), "format"),
        ):
            for value in values:
                counts[of][value] += number
    return Facets(**{kind: _most(count) for kind, count in counts.items()}, exact=exact)


def _most(count: Counter[str]) -> tuple[FacetValue, ...]:
    ordered = sorted(count.items(), key=lambda item: (-item[1], item[0]))[:_FACET_VALUES]
    return tuple(FacetValue(value=value, count=number) for value, number in ordered)


def _encode_cursor(start: int) -> str:
    return base64.urlsafe_b64encode(f"v1:{start}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        version, _, start = (
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        )
        if version == "v1" and 0 <= int(start) <= 1_000_000_000:
            return int(start)
    except ValueError:
        pass
    raise ValueError("the cursor is none of this registry's; begin again without one")
