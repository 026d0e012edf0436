"""Installs plugins into new folders again and again, over a cache that others empty; prints what is there.

Run as a program, several at once.
"""

import asyncio
import json
import shutil
import sys
from pathlib import Path

from frys_runtime import PluginMarketplace, PluginRegistry


def main(url, root, cache, folder, rounds, *plugins):
    """Install all of them in each round, with a cache that has no room for anything."""
    found = []
    for _ in range(int(rounds)):
        shutil.rmtree(folder, ignore_errors=True)
        registry = PluginRegistry(url, root=root, cache_dir=cache, cache_limit=0)
        market = PluginMarketplace(registry, Path(folder))
        for plugin in plugins:
            asyncio.run(market.install(plugin))
        findings = [str(one) for one in asyncio.run(market.verify())]
        found.append([sorted(one.plugin for one in market.list()), findings])
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
