"""Installing a plugin of 2 MB from a registry on this machine, beside a plain download of the same file."""

import asyncio
import json
import os
import time
from dataclasses import replace
from pathlib import Path

from .figures import Benchmark, Row, Series, judge, row
from .registry import make_registry, serving
from .scale import Scale
from .stage import Stage

_SIZE = 2_000_000
_PLUGIN = "bench-install"
_LIMIT = 150.0


def run(stage: Stage, scale: Scale) -> Benchmark:
    """Install into an empty folder with a cold cache, with known metadata, and from the cache alone."""
    how = (
        f"A package of {_SIZE / 1e6:g} MB of random bytes, from `frys registry serve` on this machine. Each "
        "install goes into an empty folder: TUF metadata and package are fetched and verified, the package "
        "is copied, read again to its last byte, taken to the disk and locked. First look: nothing is known "
        "but the root. The reference is httpx, which gets the same file from there and verifies nothing."
    )
    try:
        rows = asyncio.run(_measure(stage.folder, scale))
    except ModuleNotFoundError as error:
        why = f'{error.name} is missing: pip install "frys-runtime[registry-server,market]"'
        rows = [Row(what="an install", unit="ms", goal=f"<= {_LIMIT:.0f} ms", verdict="not run", note=why)]
    return Benchmark(name="install", title="Installing a plugin of 2 MB", how=how, rows=rows)


async def _measure(folder: Path, scale: Scale) -> list[Row]:
    import httpx

    from frys_runtime import PluginMarketplace, PluginRegistry

    plain, first, known, cached = Series(), Series(), Series(), Series()
    with serving(make_registry(folder / "r")) as (url, token):
        root = folder / "root.json"
        async with httpx.AsyncClient() as client:
            root.write_bytes((await client.get(f"{url}/tuf/metadata/1.root.json")).content)
        publisher = PluginRegistry(url, token=token)
        digest = (await publisher.publish_plugin(_source(folder / "source"))).sha256

        async def install(name: str, cache: Path) -> float:
            market = PluginMarketplace(PluginRegistry(url, root=root, cache_dir=cache), folder / name)
            began = time.perf_counter()
            await market.install(_PLUGIN)
            return time.perf_counter() - began

        for number in range(scale.rounds + 1):
            cache = folder / f"cache-{number}"
            turn = {
                "first": await install(f"first-{number}", cache),
                "cached": await install(f"cached-{number}", cache),
            }
            for path in (cache / "packages").rglob("*.frys"):
                path.unlink()
            turn["known"] = await install(f"known-{number}", cache)
            turn["plain"] = await _download(
                f"{url}/api/v1/plugins/{_PLUGIN}/versions/latest/download", digest
            )
            if number:  # the first turn imports modules
                for series, name in (
                    (first, "first"),
                    (cached, "cached"),
                    (known, "known"),
                    (plain, "plain"),
                ):
                    series.rounds.append([turn[name]])
    reference = ("a plain download", plain)
    return [
        _against(row("an install, first look", "ms", first, scale=1e3, reference=reference)),
        _against(row("an install, metadata known", "ms", known, scale=1e3, reference=reference)),
        row("an install, package in the cache", "ms", cached, scale=1e3, reference=reference),
        row("a plain download", "ms", plain, scale=1e3),
    ]


def _against(found: Row) -> Row:
    assert found.p50 is not None
    verdict = judge(found.p50, _LIMIT)
    return replace(found, goal=f"p50 <= {_LIMIT:.0f} ms", limit=_LIMIT, verdict=verdict)


async def _download(url: str, digest: str) -> float:
    import httpx

    began = time.perf_counter()
    async with httpx.AsyncClient(verify=False) as client:
        answer = await client.get(url)
    taken = time.perf_counter() - began
    assert answer.headers["x-checksum-sha256"] == digest
    return taken


def _source(folder: Path) -> Path:
    folder.mkdir()
    about = {"id": _PLUGIN, "version": "1.0.0", "format": "python", "entry": "main.py"}
    (folder / "plugin.json").write_text(json.dumps(about))
    (folder / "main.py").write_text("def nothing():\n    pass\n")
    (folder / "data.bin").write_bytes(os.urandom(_SIZE))
    return folder
