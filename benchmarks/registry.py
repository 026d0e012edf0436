"""A registry with 100,000 plugins: searching, publishing, and what a client needs to trust it."""

import asyncio
import contextlib
import itertools
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .figures import Benchmark, Row, Series, judge, row
from .scale import Scale
from .stage import ROOT, Stage

_SYLLABLES = [first + second for first in "bcdfghjklmnpqrstvwxz" for second in "aeiou"]
_CAPABILITIES = ["DataProcessing", "NetworkCommunication", "FileSystemAccess", "DatabaseAccess", "Any"]
_SEARCHES = 200
_PUBLISHES = 30
_CLIENTS = 200
_OF_ONE_PUBLISHER = 10
_FRYS = [sys.executable, "-c", "from frys_runtime.cli import main; main()"]


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Fill one, search it, publish to it and to an empty one, and let many clients in at once."""
    how = (
        f"{scale.plugins:,} plugins of {scale.plugins // _OF_ONE_PUBLISHER:,} publishers, 80 words each, "
        f"as often as in a language (Zipf); {_SEARCHES} searches of one to three words, some misspelt, "
        "some with a filter. The reference is FTS5's own ranking of all hits by bm25, in the same database."
    )
    try:
        rows = asyncio.run(_measure(stage.folder, scale))
    except ModuleNotFoundError as error:
        why = f'{error.name} is missing: pip install "frys-runtime[registry-server]" httpx'
        rows = [Row(what="a search", unit="ms", goal="p99 <= 20 ms", verdict="not run", note=why)]
    return Benchmark(name="registry", title=f"A registry with {scale.plugins:,} plugins", how=how, rows=rows)


async def _measure(folder: Path, scale: Scale) -> list[Row]:
    import httpx

    vocabulary = _Vocabulary()
    full, empty = make_registry(folder / "full"), make_registry(folder / "empty")
    filled = _fill(full, vocabulary, scale.plugins)
    ours, of_it, theirs = _search(full, vocabulary, scale.rounds)
    rows = [
        _against(row("a search", "ms", ours, scale=1e3, reference=("bm25 of all hits", theirs)), 20),
        row("CPU time of it", "ms", of_it, scale=1e3),
        row("bm25 of all hits", "ms", theirs, scale=1e3),
    ]
    with serving(full) as (url, token), serving(empty) as (other, other_token):
        async with httpx.AsyncClient(base_url=url) as client, httpx.AsyncClient(base_url=other) as alone:
            over_http = Series(rounds=[await _search_by_http(client, vocabulary)])
            rows.append(_against(row("a search, over HTTP", "ms", over_http, scale=1e3), 20))
            small = Series(rounds=[await _publish(alone, other_token, folder / "a")])
            large = Series(rounds=[await _publish(client, token, folder / "b")])
            rows.append(row("a publish", "ms", large, scale=1e3, reference=("empty registry", small)))
            rows.append(row("a publish to an empty registry", "ms", small, scale=1e3))
        errors, seconds, answers = await _crowd(url, vocabulary)
        what = f"errors of {_CLIENTS} clients at once"
        rows.append(
            Row(what=what, unit="", p50=errors, samples=answers, goal="none", verdict=judge(errors, 0))
        )
        rows.append(Row(what="their requests", unit="/s", p50=answers / seconds, samples=answers))
        rows += _trust(url, folder / "client")
    rows.append(Row(what="filling it", unit="/s", p50=scale.plugins / filled, samples=scale.plugins))
    return rows


def _against(found: Row, limit: float) -> Row:
    """The same line, judged by its 99th percentile."""
    from dataclasses import replace

    return replace(found, goal=f"p99 <= {limit:.0f} ms", limit=limit, verdict=judge(found.p99, limit))


class _Vocabulary:
    """Made-up words, the few often and the many seldom."""

    def __init__(self) -> None:
        self.random = random.Random(1)
        self._words = [
            "".join(self.random.choices(_SYLLABLES, k=self.random.randint(2, 4))) for _ in range(20000)
        ]
        self._weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(20000)))

    def words(self, count: int) -> list[str]:
        return self.random.choices(self._words, cum_weights=self._weights, k=count)

    def query(self) -> tuple[str, dict[str, list[str]]]:
        words = self.words(self.random.choice([1, 1, 2, 2, 3]))
        if self.random.random() < 0.15:
            words[-1] = words[-1][:-1]
        narrowed = {"capability": [self.random.choice(_CAPABILITIES)]} if self.random.random() < 0.2 else {}
        return " ".join(words), narrowed


def make_registry(folder: Path) -> Path:
    """Make a registry with generous limits."""
    subprocess.run([*_FRYS, "registry", "init", folder], check=True, capture_output=True)
    settings = folder / "registry.json"
    limits = {"readsPerSecond": 1e6, "readsBurst": 1000000, "writesBurst": 100000}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | limits))
    return folder


def _fill(folder: Path, vocabulary: _Vocabulary, count: int) -> float:
    """Put plugins in as publishing does, but for their bytes; the metadata is signed once, at the end."""
    from frys_runtime.metadata import parse_metadata
    from frys_runtime.package import Package
    from frys_runtime.registry_server import database, publishing, search, tokens, trust
    from frys_runtime.registry_server.keys import Keyring
    from frys_runtime.registry_server.settings import read_settings

    settings, db = read_settings(folder), database.connect(folder)
    signer = trust.Trust(Keyring(folder), settings)
    began = time.perf_counter()
    db.execute("PRAGMA cache_size = -400000")
    for numbers in itertools.batched(range(count), 2000, strict=False):
        with database.transaction(db):
            for number in numbers:
                words = vocabulary.words(80)
                plugin = f"{words[0]}-{words[1]}-{number}"
                about = _about(plugin, words, vocabulary.random)
                owner = f"publisher-{number // _OF_ONE_PUBLISHER}"
                caller = tokens.Caller("", tokens.find_or_add_publisher(db, owner), owner, ("admin",))
                package = Package(parse_metadata(about, "plugin.json"), (), f"{number:064x}", 1000)
                candidate = publishing.Candidate(package, about, " ".join(words[20:]), {}, ())
                publishing.add_version(db, signer, settings, caller, candidate)
                downloads = int(vocabulary.random.paretovariate(0.5)) % 10**7
                db.execute("UPDATE plugins SET downloads = ? WHERE id = ?", (downloads, plugin))
    with database.transaction(db):
        signer.write_everything(db)
        search.refresh_popular(db)
    db.close()
    return time.perf_counter() - began


def _about(plugin: str, words: list[str], chance: random.Random) -> bytes:
    return json.dumps({
        "id": plugin, "version": "1.0.0", "format": chance.choice(["wasm", "python"]), "entry": "main",
        "name": " ".join(words[2:5]), "description": " ".join(words[5:20]), "license": "MIT",
        "capabilities": chance.sample(_CAPABILITIES, 2),
        "permissions": chance.sample(["Read", "Write", "Network"], 1),
    }).encode()  # fmt: skip


def _search(folder: Path, vocabulary: _Vocabulary, rounds: int) -> tuple[Series, Series, Series]:
    from frys_runtime.registry_server import database, search

    db = database.connect(folder, read_only=True)
    ours, of_it, theirs = Series(), Series(), Series()
    for _ in range(rounds):
        asked = [vocabulary.query() for _ in range(_SEARCHES)]
        used = time.thread_time()
        ours.rounds.append([])
        of_it.rounds.append([])
        for one in asked:
            ours.rounds[-1].append(_timed(lambda one=one: search.search(db, search.Query(*one))))
            used, before = time.thread_time(), used
            of_it.rounds[-1].append(used - before)
        theirs.rounds.append([_timed(lambda q=q: _bare(db, q[0])) for q in asked[::10]])
    db.close()
    return ours, of_it, theirs


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _bare(db: sqlite3.Connection, text: str) -> None:
    expression = " ".join(f'"{word}"' for word in text.split())
    db.execute("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT 20", (expression,)).fetchall()


async def _search_by_http(client: Any, vocabulary: _Vocabulary) -> list[float]:
    taken = []
    for _ in range(_SEARCHES):
        text, narrowed = vocabulary.query()
        began = time.perf_counter()
        answer = await client.get("/api/v1/search", params={"q": text, **narrowed})
        taken.append(time.perf_counter() - began)
        assert answer.status_code == 200, answer.text
    return taken


async def _publish(client: Any, token: str, folder: Path) -> list[float]:
    from frys_runtime.packing import pack

    taken = []
    for number in range(_PUBLISHES):
        source = folder / str(number)
        source.mkdir(parents=True)
        about = {"id": f"bench-{number}", "version": "1.0.0", "format": "python", "entry": "main.py"}
        (source / "plugin.json").write_text(json.dumps(about))
        (source / "main.py").write_text("pass\n")
        data = pack(source)
        began = time.perf_counter()
        headers = {"authorization": f"Bearer {token}"}
        answer = await client.post("/api/v1/plugins", files={"package": data}, headers=headers, timeout=60)
        taken.append(time.perf_counter() - began)
        assert answer.status_code == 201, answer.text
    return taken


async def _crowd(url: str, vocabulary: _Vocabulary) -> tuple[int, float, int]:
    """Many clients with a connection each, who search and download; errors, seconds, requests."""
    import httpx

    async def visit(client: httpx.AsyncClient, number: int) -> int:
        wrong = 0
        for path in (
            f"/api/v1/search?q={vocabulary.query()[0]}",
            f"/api/v1/plugins/bench-{number % _PUBLISHES}",
            f"/api/v1/plugins/bench-{number % _PUBLISHES}/versions/1.0.0/download",
            "/tuf/metadata/timestamp.json",
            "/",
        ):
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(path)).status_code == 200:
                    continue
            wrong += 1
        return wrong

    limits = httpx.Limits(max_connections=_CLIENTS, max_keepalive_connections=_CLIENTS)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
        began = time.perf_counter()
        wrong = sum(await asyncio.gather(*(visit(client, number) for number in range(_CLIENTS))))
        return wrong, time.perf_counter() - began, _CLIENTS * 5


def _trust(url: str, folder: Path) -> list[Row]:
    """What python-tuf's client takes to trust a plugin's newest version, at first and later."""
    import httpx
    from tuf.ngclient import Updater

    from frys_runtime.registry.paths import index_path

    root = httpx.get(f"{url}/tuf/metadata/1.root.json").content

    def look() -> None:
        targets = folder / "targets"
        targets.mkdir(parents=True, exist_ok=True)
        updater = Updater(
            str(folder), f"{url}/tuf/metadata/", str(targets), f"{url}/tuf/targets/", bootstrap=root
        )
        assert updater.get_targetinfo(index_path("bench-1")) is not None

    first = Series(rounds=[[_timed(look)]])
    again = Series(rounds=[[_timed(look) for _ in range(20)]])
    size = (folder / "snapshot.json").stat().st_size if (folder / "snapshot.json").exists() else 0
    return [
        row("a client's first look, all metadata", "ms", first, scale=1e3),
        row("its next look, nothing new", "ms", again, scale=1e3),
        Row(what="the snapshot", unit="MiB", p50=size / (1 << 20), samples=1),
    ]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[str, str]]:
    """Serve a registry until the end of the block: its address, and an administrator's token."""
    words = ["registry", "token", "create", folder, "--publisher", "bench", "--scope", "admin"]
    token = subprocess.run([*_FRYS, *words], check=True, capture_output=True, text=True).stdout.strip()
    process = subprocess.Popen(
        [*_FRYS, "registry", "serve", folder, "--port", "0", "--json"], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"].rstrip("/"), token
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
